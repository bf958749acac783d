"""The command `hybrid-llm score`: parse and call only."""

# No `from __future__ import annotations` here: typer reads the annotations at run time.
import os
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared_router.cli.console import collecting, print_json, read_router, say, say_dial
from shared_router.cli.options import (
    Advantage,
    AsJson,
    ConfidenceGiven,
    Drop,
    DropAbsolute,
    Folder,
    Force,
    OldRunner,
    RayAddress,
    Runner,
    Threshold,
    Workers,
    confidence_given,
    given_dials,
)

if TYPE_CHECKING:
    from shared_router.bulk.score import ScoreReport


def score(
    router_folder: Folder,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN", help="Text (one a line), CSV or JSON lines; or an OUT, to decide anew."
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="JSON lines, in the order of IN.")],
    threshold: Threshold = None,
    max_quality_drop: Drop = None,
    max_quality_drop_absolute: DropAbsolute = None,
    cost_advantage: Advantage = None,
    confidence: ConfidenceGiven = None,
    text: Annotated[bool, typer.Option("--text", help="Write the text of each query too.")] = False,
    runner: Runner = "local",
    workers: Workers = None,
    ray_address: RayAddress = None,
    engine: OldRunner = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Score every query of IN, and say which candidate a dial chooses for it."""
    from shared_router.bulk.runners import check_runner, runner_named
    from shared_router.bulk.score import score_file
    from shared_router.options import dial_from

    dials = given_dials(
        threshold=threshold,
        max_quality_drop=max_quality_drop,
        max_quality_drop_absolute=max_quality_drop_absolute,
        cost_advantage=cost_advantage,
    )
    sure = confidence_given(confidence)
    chosen = engine or runner
    check_runner(chosen)
    at_work = runner_named(chosen, workers, ray_address)
    router = read_router(router_folder, **dials)
    say_dial(router, dials, **sure)
    with collecting("scoring") as progress:
        report = score_file(
            router,
            source,
            out,
            dial=dial_from(dials),
            **sure,
            runner=at_work,
            keep_text=text,
            force=force,
            progress=progress,
        )
    with redirect_stdout(sys.stderr) if _is_stdout(out) else nullcontext():
        _tell_scored(report, as_json=as_json)


def _is_stdout(out: Path) -> bool:
    try:
        return os.path.samestat(out.stat(), os.fstat(1))
    except OSError:
        return False


def _tell_scored(report: "ScoreReport", *, as_json: bool) -> None:
    import dataclasses

    if report.failed:
        say(f"warning: {report.failed} queries could not be scored and go to the reference.")
    if as_json:
        shown = dataclasses.asdict(report) | {"queries_per_second": report.queries_per_second}
        print_json(shown | {"out": str(report.out)})
        return
    doing = "Scored" if report.scored else "Decided anew"
    typer.echo(f"{doing} {report.queries} queries, {report.queries_per_second:.1f}/s")
    for name, n in report.chosen.items():
        typer.echo(f"  {100 * n / report.queries:5.1f} %  {name}")
    claims = ", ".join(f"{n} {name}" for name, n in report.guarantees.items())
    typer.echo(f"What holds of the decisions: {claims}")
    if report.within:
        n, tasks = sum(report.within.values()), len(report.within)
        typer.echo(f"Within their own task or suite ({tasks} of them): {n}")
    typer.echo(f"Saved in {report.out}")
