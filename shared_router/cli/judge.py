"""The command `hybrid-llm judge`: parse and call only."""

# No `from __future__ import annotations` here: typer reads the annotations at run time.
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared_router.cli.collect import (
    Concurrency,
    Dollars,
    Prices,
    Retries,
    Rubric,
    Timeout,
    check_prices,
    judge_spec,
    named,
    tell_next,
    two_numbers,
)
from shared_router.cli.console import collecting, print_json, say
from shared_router.cli.options import Force, OldRunner, RayAddress, Runner, Workers
from shared_router.errors import ConfigurationError

if TYPE_CHECKING:
    from shared_router.bulk.judge import JudgeReport


def judge(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="JSON lines with responses.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The data file to write.")],
    judge: Annotated[
        str,
        typer.Option(
            help="exact, normalised, choice, numeric, code, rouge-l, bleu, chrf, bartscore, "
            "similarity, bartscore=MODEL, similarity=MODEL, or llm=SPEC."
        ),
    ],
    answers: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Right answers: CSV or JSON lines, id or query."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Compare with this model's first response instead."),
    ] = None,
    clip: Annotated[
        str | None,
        typer.Option(metavar="LOW,HIGH", help="Cut off the scores of a metric without bounds."),
    ] = None,
    rubric: Rubric = None,
    price: Prices = None,
    concurrency: Concurrency = 8,
    timeout: Timeout = 120.0,
    retries: Retries = 4,
    max_usd: Dollars = None,
    runner: Runner = "local",
    workers: Workers = None,
    ray_address: RayAddress = None,
    engine: OldRunner = None,
    force: Force = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Judge the recorded responses of DATA by any metric, and write OUT with the new qualities.

    With a judge llm=SPEC it resumes where it stopped.
    """
    from functools import partial

    from shared_router.bulk.judge import judge_file
    from shared_router.bulk.runners import check_runner, runner_named
    from shared_router.collecting.right_answers import reference_texts
    from shared_router.data.targets import check_not_read
    from shared_router.support.extras import Needs

    prices = {name: two_numbers(told) for name, told in named(price or [], "--price").items()}
    check_prices(prices, ["judge"])
    sys.path.insert(0, "")  # module:attribute may stand in the working folder
    if rubric is not None:
        check_not_read(out, [rubric])
    make = judge_spec(judge, rubric, prices.get("judge"), low_and_high(clip) if clip else None)
    chosen = engine or runner
    at_work = runner_named(chosen, workers, ray_address)
    needs = Needs()
    for check in (make.check, make, partial(check_runner, chosen)):
        with needs:
            check()
    needs.check()
    with collecting("judging", "verdicts") as progress:
        report = judge_file(
            data,
            out,
            make,
            texts=reference_texts(answers, against),
            runner=at_work,
            concurrency=concurrency,
            timeout_s=timeout,
            retries=retries,
            max_usd=max_usd,
            force=force,
            progress=progress,
        )
    tell(report, as_json=as_json)


def low_and_high(told: str) -> tuple[float, float]:
    """Read `LOW,HIGH`.

    Raises:
        ConfigurationError: If these are not two numbers.
    """
    try:
        low, high = (float(part) for part in told.split(","))
    except ValueError:
        raise ConfigurationError(
            f"--clip is LOW,HIGH in the metric's units, as in --clip=-5,0; got {told!r}."
        ) from None
    return low, high


def tell(report: "JudgeReport", *, as_json: bool) -> None:
    """Print what was done.

    Raises:
        typer.Exit: With code 1 where the run stopped early, or nothing could be judged.
    """
    import dataclasses

    if as_json:
        shown = dataclasses.asdict(report) | {"responses_per_second": report.responses_per_second}
        print_json({k: str(v) if isinstance(v, Path) else v for k, v in shown.items()})
    if report.failures:
        say(f"warning: {report.failed} could not be judged: {report.failures} lists them.")
    if report.stopped:
        say(f"error: stopped: {report.stopped}. The same command goes on from here.")
        raise typer.Exit(1)
    if report.out is None:
        say("error: no response could be judged; nothing is written.")
        raise typer.Exit(1)
    if not as_json:
        cost = f", ${report.spent_usd:.4f}" if report.spent_usd else ""
        typer.echo(
            f"Judged {report.responses} responses to {report.records} queries by {report.judge}, "
            f"{report.responses_per_second:.1f}/s{cost}"
        )
        for name, quality in report.quality.items():
            typer.echo(f"  {quality:.4f}  {name}")
        typer.echo(f"Saved in {report.out}")
        tell_next(Path(report.out), report.quality)
