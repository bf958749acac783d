"""The command line `hybrid-llm`: parse and call only.

Heavy modules are imported inside the commands, so that `--help` is quick.
"""

# No `from __future__ import annotations` here: typer reads the annotations at run time.
import os
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from shared_router.cli.collect import collect
from shared_router.cli.console import (
    Commands,
    print_json,
    read_data,
    read_router,
    say,
    say_dial,
    stdout_console,
    working,
)
from shared_router.cli.judge import judge
from shared_router.cli.models import add_candidate, check_task, costs_from, names_from, transfer
from shared_router.cli.options import (
    Advantage,
    AsJson,
    Bounds,
    ConfidenceGiven,
    Cost,
    Data,
    Drop,
    DropAbsolute,
    Folder,
    Force,
    LookShare,
    OldTrainMemory,
    SecondLookServes,
    Split,
    Task,
    Threshold,
    bounds_given,
    checks_given,
    confidence_given,
    given_dials,
)
from shared_router.cli.score import score
from shared_router.options import LOOK_SHARE

if TYPE_CHECKING:
    from shared_router.measuring.escalation import EscalationReport
    from shared_router.measuring.evaluation import RoutingReport
    from shared_router.router.router import Router
    from shared_router.training.finetuning.settings import FineTuning

app = typer.Typer(
    cls=Commands,
    name="hybrid-llm",
    help="Train, calibrate, measure and try routers between a small and a large model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

LabelName = Literal["gap", "det", "prob", "trans"]
ByTaskName = Literal["given", "predicted", "off"]


app.command()(collect)
app.command()(add_candidate)
app.command()(transfer)
app.command()(judge)


def main() -> None:
    """Run the command line."""
    app()


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"hybrid-llm {version('hybrid-llm')}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[
        bool,
        typer.Option("--debug", envvar="HYBRID_LLM_DEBUG", help="Show tracebacks of errors."),
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Take the options that come before a command; `Commands` reads `debug`."""


@app.command()
def fit(
    data: Data,
    candidates: Annotated[
        str, typer.Option(metavar="A,...,REFERENCE", help="Model names, the large model last.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to save the router.")],
    labels: Annotated[LabelName, typer.Option(help="What the router predicts.")] = "gap",
    encoder: Annotated[
        str, typer.Option(metavar="NAME_OR_PATH", help="`minilm`, a hub name or a folder.")
    ] = "minilm",
    split: Split = None,
    task: Task = None,
    name: Annotated[str | None, typer.Option(help="The router's name.")] = None,
    cost: Cost = None,
    seed: Annotated[int, typer.Option(help="Seed of folds, landmarks and fine-tuning.")] = 0,
    finetune: Annotated[
        bool,
        typer.Option("--finetune", help="Fine-tune the encoder; run again after an interruption."),
    ] = False,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Most epochs of fine-tuning.", show_default=False)
    ] = None,
    checkpoints: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep its checkpoints there, not in the cache."),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8/--no-int8", help="Serve in int8 where ranking survives.")
    ] = True,
    train_memory: Annotated[
        bool,
        typer.Option("--train-memory/--no-train-memory", help="Keep train embeddings and gaps."),
    ] = True,
    retrieval: Annotated[
        bool,
        typer.Option(
            "--retrieval/--no-retrieval", help="See facts of retrieval, where DATA have them."
        ),
    ] = True,
    words: Annotated[
        bool, typer.Option("--words/--no-words", help="Keep a table of hashed words, if it helps.")
    ] = True,
    look_share: LookShare = LOOK_SHARE,
    reference: OldTrainMemory = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Train a router on the `train` split of DATA, and save it."""
    from shared_router.cli.tables import show_fit
    from shared_router.cli.tables_looks import looks_of_fit
    from shared_router.router.folder import check_new_target
    from shared_router.router.router import Router
    from shared_router.router.write import save
    from shared_router.training.finetuning.tune import is_main_process

    check = partial(check_new_target, out, force=force)
    check()  # before minutes of work, and once more after
    names = names_from(candidates)
    tuning = _finetuning(finetune, epochs=epochs, checkpoints=checkpoints and str(checkpoints))
    chosen = read_data(data, split, task, usual="train", learns=True)
    with working("fitting") as progress:
        router = Router.fit(
            chosen,
            names,
            labels,
            encoder,
            name=name,
            costs_usd=costs_from(cost),
            finetune=tuning,
            int8=int8,
            train_memory=train_memory if reference is None else reference,
            retrieval=retrieval,
            words=words,
            look_share=look_share,
            seed=seed,
            progress=progress,
        )
    if not is_main_process():
        return  # under torchrun the first alone saves and speaks
    save(router, out, check)
    if as_json:
        print_json(_about(router, out) | {"training": router.facts["training"]})
        return
    show_fit(stdout_console(), router)
    stdout_console().print(looks_of_fit(router))
    _saved(out, f"hybrid-llm calibrate {shlex.join([str(out), *map(str, data)])}")


@app.command()
def calibrate(
    router_folder: Folder,
    data: Data,
    out: Annotated[
        Path | None, typer.Option(metavar="OTHER", help="Save there instead of into DIR.")
    ] = None,
    split: Split = None,
    task: Task = None,
    by_task: Annotated[
        ByTaskName, typer.Option(help="Whether dials hold within each task, and who names it.")
    ] = "given",
    least_per_task: Annotated[
        int, typer.Option(help="Fewest queries to calibrate a task by itself.")
    ] = 100,
    cost: Cost = None,
    candidates: Annotated[
        str | None,
        typer.Option(metavar="A,...,REFERENCE", help="Calibrate for these other models."),
    ] = None,
    quality_bounds: Bounds = None,
    second_look: SecondLookServes = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Measure what the dials mean on the `validation` split of DATA, and save that in DIR."""
    from shared_router.cli.tables import calibration_facts, show_calibration
    from shared_router.cli.tables_looks import looks_of_calibration
    from shared_router.router.folder import (
        check_new_target,
        check_same,
        check_target,
        manifest_of,
    )
    from shared_router.router.read import BUNDLED
    from shared_router.router.write import save

    bounds = bounds_given(quality_bounds)
    if router_folder == BUNDLED and out is None:
        raise typer.BadParameter("The bundled router stays as it is: name a folder in --out.")
    read = manifest_of(Path(router_folder))
    router = read_router(router_folder)
    target = out or Path(router_folder)
    in_place = candidates is None and os.path.realpath(target) == os.path.realpath(router_folder)
    if in_place or out is None:
        check_target(target)
        check = partial(check_same, target, read, force=force)
    else:
        check = partial(check_new_target, out, [Path(router_folder)], force=force)
        check()
    if candidates is not None:
        if out is None:
            raise typer.BadParameter("--candidates makes another router: name its folder in --out.")
        router = router.for_candidates(names_from(candidates))
    chosen = read_data(data, split, task, usual="validation", learns=True)
    if in_place and router.curve is not None:
        say(f"Replacing the calibration on {router.curve.n} queries that {target} holds.")
    with working("calibrating") as progress:
        router = router.calibrate(
            chosen,
            by_task=by_task,
            least_per_task=least_per_task,
            costs_usd=costs_from(cost),
            quality_bounds=bounds,
            second_look=second_look,
            progress=progress,
        )
    save(router, target, check)
    if as_json:
        print_json(_about(router, target) | calibration_facts(router))
        return
    show_calibration(stdout_console(), router)
    if told := looks_of_calibration(router):
        stdout_console().print(told)
    _saved(target, f"hybrid-llm route {shlex.quote(str(target))} 'your query'")


@app.command()
def evaluate(
    router_folder: Folder,
    data: Data,
    threshold: Threshold = None,
    max_quality_drop: Drop = None,
    max_quality_drop_absolute: DropAbsolute = None,
    cost_advantage: Advantage = None,
    confidence: ConfidenceGiven = None,
    split: Split = None,
    task: Task = None,
    skip_seen: Annotated[
        bool,
        typer.Option(
            "--skip-seen",
            help="Leave out queries fitted on; and calibrated on, where others remain.",
        ),
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the report there, a .png or an .svg."),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Print baselines, costs and tasks too.")
    ] = False,
    escalate: Annotated[
        str | None,
        typer.Option(
            metavar="CHECKS",
            help="Measure what checks on recorded responses buy and cost: empty, refused, "
            "tool_text, agreement, or module:function; several with commas between.",
        ),
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Judge a router on the `validation` split of DATA, and measure it beside its baselines.

    The first sentence says what was asked, and whether queries that nobody fitted or calibrated
    on show it.
    """
    dials = given_dials(
        threshold=threshold,
        max_quality_drop=max_quality_drop,
        max_quality_drop_absolute=max_quality_drop_absolute,
        cost_advantage=cost_advantage,
    )
    sure, checks = confidence_given(confidence), checks_given(escalate)
    if plot is not None:
        _check_plot(plot, data, force=force)
    router = read_router(router_folder, **dials)
    chosen = read_data(data, split, task, usual="validation")
    with working("evaluating") as progress:
        report = router.evaluate(chosen, skip_seen=skip_seen, progress=progress, **sure, **dials)
        how = {"skip_seen": skip_seen, **sure, **dials}
        found = router.evaluate_escalation(chosen, checks, **how) if checks else None
    if skip_seen:
        say(f"Left out {report.left_out} queries that the router has seen; {report.n} remain.")
    if plot is not None:
        report.plot(plot)
        say(f"Drawn in {plot}.")
    if as_json:
        print_json(report.to_dict() | ({"escalation": found.to_dict()} if found else {}))
        return
    _show_evaluation(report, full=full)
    if found is not None:
        _show_escalation(found)


def _check_plot(plot: Path, data: list[Path], *, force: bool) -> None:
    """Check that a picture can be drawn and written, before any work."""
    from shared_router.data.targets import check_output
    from shared_router.measuring.plot import check_plotting, check_suffix

    check_suffix(plot)
    check_output(plot, data, force=force)
    check_plotting()


def _show_escalation(report: "EscalationReport") -> None:
    from shared_router.cli.tables_escalation import show_escalation

    show_escalation(stdout_console(), report)


def _show_evaluation(report: "RoutingReport", *, full: bool) -> None:
    from shared_router.cli.tables import show_report
    from shared_router.cli.tables_looks import show_looks
    from shared_router.cli.tables_models import show_by_task, show_cost_quality
    from shared_router.cli.tables_verdict import show_verdict

    console = stdout_console()
    show_verdict(console, report)
    show_looks(console, report.second_look)
    if not full:
        console.print("Baselines, costs and tasks: --full. All of it for programs: --json.")
        return
    show_report(console, report)
    show_cost_quality(console, report)
    show_by_task(console, report)


@app.command()
def route(
    router_folder: Folder,
    query: Annotated[str, typer.Argument(help="What the user asks.")],
    threshold: Threshold = None,
    max_quality_drop: Drop = None,
    max_quality_drop_absolute: DropAbsolute = None,
    cost_advantage: Advantage = None,
    confidence: ConfidenceGiven = None,
    route: Annotated[
        str | None, typer.Option(metavar="NAME", help="Force a candidate; `small`, `large`.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="The query's task label.")] = None,
) -> None:
    """Decide one query, calling no model, and print the decision as JSON."""
    dials = given_dials(
        threshold=threshold,
        max_quality_drop=max_quality_drop,
        max_quality_drop_absolute=max_quality_drop_absolute,
        cost_advantage=cost_advantage,
    )
    sure = confidence_given(confidence)
    router = read_router(router_folder, **dials)
    check_task(router, task)
    if route is None:
        say_dial(router, dials, **sure)
    decision = router.decide(query, route=route, task=task, **sure, **dials)
    print_json(decision.model_dump())


app.command()(score)


def _finetuning(asked: bool, **settings: Any) -> "FineTuning | bool":
    """Take the settings that were given; any of them without `--finetune` is a mistake."""
    from shared_router.errors import ConfigurationError
    from shared_router.training.finetuning.settings import FineTuning

    given = {name: value for name, value in settings.items() if value is not None}
    if given and not asked:
        raise ConfigurationError(f"--{min(given)} belongs to --finetune; give both or neither.")
    return FineTuning(**given) if asked else False


def _about(router: "Router", saved_in: Path) -> dict[str, Any]:
    return {
        "saved_in": str(saved_in),
        "name": router.name,
        "version": router.version,
        "candidates": router.candidates,
        "labels": router.labels,
    }


def _saved(folder: Path, following: str) -> None:
    typer.echo(f"Saved in {folder}")
    typer.echo(f"Next: {following}")
