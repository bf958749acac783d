"""Commands for more models and other models: `add-candidate` and `transfer`."""

# No `from __future__ import annotations` here: typer reads the annotations at run time.
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared_router.cli.console import print_json, read_data, say, stdout_console, working
from shared_router.cli.options import (
    Advantage,
    AsJson,
    Data,
    Drop,
    DropAbsolute,
    Folder,
    Force,
    Split,
    Task,
    Threshold,
    given_dials,
)
from shared_router.errors import CandidateError, ConfigurationError

if TYPE_CHECKING:
    from shared_router.router.router import Router


def names_from(listed: str) -> list[str]:
    """Read names separated by commas."""
    return [part.strip() for part in listed.split(",") if part.strip()]


def costs_from(given: list[str] | None) -> dict[str, float] | None:
    """Read `NAME=USD` options.

    Raises:
        CandidateError: If one is not of that form.
    """
    if not given:
        return None
    costs: dict[str, float] = {}
    for each in given:
        name, sign, number = each.rpartition("=")
        try:
            costs[name] = float(number)
        except ValueError:
            sign = ""
        if not sign or not name:
            raise CandidateError(f"--cost is NAME=USD, such as small=0.0004; got {each!r}.")
    return costs


def check_task(router: "Router", task: str | None) -> None:
    """Refuse a label the router has never met: typed by hand, it is a slip.

    Raises:
        ConfigurationError: If it is neither of the training nor of the calibration.
    """
    from shared_router.asking.task_labels import answers_to

    if task is None:
        return
    known = known_tasks(router)
    if any(answers_to(label, task) for label in known):
        return
    listed = ", ".join(map(repr, known[:12])) + (f" and {len(known) - 12} more" * (len(known) > 12))
    raise ConfigurationError(
        f"--task: router {router.name!r} knows no task {task!r}; it knows "
        f"{listed or 'none, as its data name no tasks'}."
    )


def known_tasks(router: "Router") -> list[str]:
    """List the labels of a router's training and calibration."""
    labels: set[str] = set()
    if not router.tiers:  # such a one counts its sources there
        labels |= set(router.facts.get("training", {}).get("tasks", {}))
    if router.task_curves is not None:
        labels |= {*router.task_curves.curves, *router.task_curves.too_few}
    return sorted(labels)


def add_candidate(
    router_folder: Folder,
    data: Data,
    candidate: Annotated[str, typer.Option(metavar="NAME", help="The model to add.")],
    out: Annotated[Path, typer.Option(metavar="OTHER", help="Where to save the router.")],
    before: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The candidate it stands before; the reference."),
    ] = None,
    cost_usd: Annotated[
        float | None, typer.Option(help="Mean cost of one of its calls, where DATA has none.")
    ] = None,
    split: Split = None,
    task: Task = None,
    seed: Annotated[int, typer.Option(help="Seed of folds and landmarks.")] = 0,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Add a model to a router, from its outcomes on the `train` split of DATA."""
    from shared_router.router.folder import check_new_target
    from shared_router.router.router import Router
    from shared_router.router.write import save

    check = partial(check_new_target, out, [Path(router_folder)], force=force)
    check()  # before the work, and once more after
    router = Router.from_pretrained(router_folder)
    chosen = read_data(data, split, task, usual="train", learns=True)
    with working("adding") as progress:
        router = router.add_candidate(
            candidate, chosen, before=before, cost_usd=cost_usd, seed=seed, progress=progress
        )
    save(router, out, check)
    added: dict[str, Any] = router.facts["training"]["added"][-1]
    if as_json:
        print_json({"saved_in": str(out), "candidates": router.candidates, "added": added})
        return
    typer.echo(f"Added {candidate!r} from {added['n']} queries of {added['data']}")
    typer.echo(f"Candidates now: {', '.join(router.candidates)} (reference last)")
    typer.echo(f"Saved in {out}")
    typer.echo(f"Next: hybrid-llm calibrate {shlex.join([str(out), *map(str, data)])}")


def transfer(
    router_folder: Folder,
    data: Data,
    candidates: Annotated[
        str | None,
        typer.Option(metavar="A,...,REFERENCE", help="The new models; all of DATA's by default."),
    ] = None,
    threshold: Threshold = None,
    max_quality_drop: Drop = None,
    max_quality_drop_absolute: DropAbsolute = None,
    cost_advantage: Advantage = None,
    split: Split = None,
    task: Task = None,
    as_json: AsJson = False,
) -> None:
    """Tell whether a router can serve other models: reuse, recalibrate or retrain."""
    from shared_router.cli.tables_models import show_transfer
    from shared_router.options import dial_from
    from shared_router.router.router import Router

    given = given_dials(
        threshold=threshold,
        max_quality_drop=max_quality_drop,
        max_quality_drop_absolute=max_quality_drop_absolute,
        cost_advantage=cost_advantage,
    )
    dial_from(given)
    router = Router.from_pretrained(router_folder)
    if not given:
        say(f"No dial given: using the router's own, {router.dial.name}={router.dial.value:g}.")
    chosen = read_data(data, split, task, usual="validation")
    names = names_from(candidates) if candidates is not None else None
    with working("measuring") as progress:
        report = router.transfer_report(chosen, names, progress=progress, **given)
    if as_json:
        print_json(report.to_dict())
    else:
        show_transfer(stdout_console(), report)
