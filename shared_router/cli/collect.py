"""The command `hybrid-llm collect`: parse and call only."""

# No `from __future__ import annotations` here: typer reads the annotations at run time.
import shlex
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared_router.cli.console import TEST_SPLIT, collecting, print_json, say
from shared_router.cli.options import Force
from shared_router.errors import ConfigurationError

if TYPE_CHECKING:
    from shared_router.collecting.collect import CollectReport
    from shared_router.collecting.judges import JudgeSpec

LIMITS, SAMPLING = "Limits", "Sampling"
Queries = Annotated[
    Path, typer.Argument(metavar="QUERIES", help="Text (one a line), CSV or JSON lines.")
]
Models = Annotated[
    list[str],
    typer.Option(
        metavar="NAME=SPEC",
        help="A model to ask, the large one last: provider:model, module:attribute or URL#model.",
    ),
]
Out = Annotated[Path, typer.Option(metavar="DATA", help="The data file to write.")]
JudgeName = Annotated[
    str | None,
    typer.Option(
        help="exact, normalised, choice, numeric, code, rouge-l, bleu, chrf, bartscore, "
        "similarity, or llm=SPEC. Without one the answers are kept for a later start.",
        show_default=False,
    ),
]
Rubric = Annotated[
    Path | None, typer.Option(metavar="FILE", help="What a judge llm=SPEC looks at.")
]
Prices = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=IN,OUT",
        help="Dollars per million tokens read and written; `judge` is a name too.",
    ),
]
OneModel = Annotated[
    bool,
    typer.Option(
        "--one-model",
        help="Ask one --model alone, to measure it. A router chooses between two or more, asked "
        "the same queries.",
    ),
]
SplitName = Annotated[
    str | None,
    typer.Option(
        "--split",
        metavar="NAME",
        help="Put all queries into this split, such as `test`. By default each goes where its "
        "column `split` says, or to `train` or `validation`, four to one, by its words.",
        show_default=False,
    ),
]
Concurrency = Annotated[int, typer.Option(help="Calls in flight.", rich_help_panel=LIMITS)]
Rate = Annotated[
    float | None, typer.Option(help="Calls started per model.", rich_help_panel=LIMITS)
]
Timeout = Annotated[
    float, typer.Option(help="Seconds one attempt may take.", rich_help_panel=LIMITS)
]
Retries = Annotated[int, typer.Option(help="Further attempts of a call.", rich_help_panel=LIMITS)]
Temperature = Annotated[
    float | None,
    typer.Option(
        help="Temperature to ask every model with; each model's own default where not given.",
        rich_help_panel=SAMPLING,
        show_default=False,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        help="Ask for repeatable samples: sample i with this seed + i. Some providers refuse it.",
        rich_help_panel=SAMPLING,
        show_default=False,
    ),
]
Logprobs = Annotated[
    bool | None,
    typer.Option(
        "--logprobs/--no-logprobs",
        help="Ask for the log-probabilities of the answers' tokens, which a second look at an "
        "answer learns from. By default models are asked that take the parameter, and those that "
        "refuse it again without.",
        rich_help_panel=SAMPLING,
        show_default=False,
    ),
]
Dollars = Annotated[
    float | None,
    typer.Option(help="Stop once so many dollars are spent.", rich_help_panel=LIMITS),
]


def collect(
    queries: Queries,
    model: Models,
    out: Out,
    one_model: OneModel = False,
    split: SplitName = None,
    samples: Annotated[int, typer.Option(help="Responses per query and model.")] = 10,
    judge: JudgeName = None,
    rubric: Rubric = None,
    price: Prices = None,
    temperature: Temperature = None,
    seed: Seed = None,
    logprobs: Logprobs = None,
    concurrency: Concurrency = 8,
    requests_per_minute: Rate = None,
    timeout: Timeout = 120.0,
    retries: Retries = 4,
    max_usd: Dollars = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try again what failed for good.")
    ] = False,
    force: Force = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Ask every model every query, judge the answers, and write DATA. Resumes where it stopped."""
    import asyncio

    from shared_router.collecting import collect as library
    from shared_router.collecting.sources import read_queries
    from shared_router.collecting.specs import ask_model
    from shared_router.data.answers import AUTO, Sampling
    from shared_router.data.targets import check_not_read
    from shared_router.support.extras import Needs

    asks = AUTO if logprobs is None else logprobs
    sampling = Sampling(temperature=temperature, seed=seed, logprobs=asks)
    specs = named(model, "--model")
    prices = {name: two_numbers(told) for name, told in named(price or [], "--price").items()}
    check_prices(prices, [*specs, "judge"])
    check_not_read(out, [queries, *([rubric] if rubric else [])])
    asked = read_queries(queries)
    sys.path.insert(0, "")  # module:attribute may stand in the working folder
    models, scoring, needs = {}, None, Needs()
    for name, spec in specs.items():
        with needs:
            models[name] = ask_model(spec, prices.get(name), sampling)
    if judge:
        make = judge_spec(judge, rubric, prices.get("judge"))
        with needs:
            scoring = make()
            make.check()
    needs.check()
    check_number(specs, one_model=one_model)
    with collecting() as progress:
        report = asyncio.run(
            library.collect(
                asked,
                models,
                out,
                samples,
                scoring,
                concurrency=concurrency,
                requests_per_minute=requests_per_minute,
                timeout_s=timeout,
                retries=retries,
                max_usd=max_usd,
                retry_failed=retry_failed,
                specs=specs,
                sampling=sampling,
                force=force,
                split=split,
                progress=progress,
            )
        )
    if logprobs:
        warn_without_logprobs(report)
    splits = {split or each.split for each in asked}
    tell(report, list(specs), splits, judged=scoring is not None, as_json=as_json)


def named(pairs: list[str], option: str) -> dict[str, str]:
    """Read `NAME=VALUE` options.

    Raises:
        ConfigurationError: If one has another form, or a name stands twice.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if not name or not value or name in found:
            raise ConfigurationError(f"{option} is NAME=VALUE, each name once; got {name!r}.")
        found[name] = value
    return found


def check_number(specs: dict[str, str], *, one_model: bool) -> None:
    """Check that there are models to choose between, or one that is meant to be alone.

    Raises:
        ConfigurationError: If not.
    """
    if one_model != (len(specs) == 1):
        listed = ", ".join(specs)
        raise ConfigurationError(
            f"--one-model is for one --model alone; got {len(specs)}: {listed}. Leave it out."
            if one_model
            else "A router chooses between two or more models, asked the same queries: give "
            f"another --model NAME=SPEC beside {listed}, the large one last; or --one-model, to "
            "measure this one alone."
        )


def two_numbers(told: str) -> tuple[float, float]:
    """Read `IN,OUT`.

    Raises:
        ConfigurationError: If these are not two numbers of at least 0.
    """
    try:
        first, second = (float(part) for part in told.split(","))
    except ValueError:
        first = second = -1.0
    if not (0 <= first < float("inf") and 0 <= second < float("inf")):
        raise ConfigurationError(
            f"--price is NAME=IN,OUT in dollars per million tokens, as in small=0.15,0.6; got "
            f"{told!r}."
        )
    return first, second


def check_prices(prices: dict[str, tuple[float, float]], names: list[str]) -> None:
    """Check that prices are of models asked.

    Raises:
        ConfigurationError: If one is not.
    """
    for name in prices:
        if name not in names:
            raise ConfigurationError(
                f"--price {name}=...: no model of that name; there are {', '.join(names)}."
            )


def judge_spec(
    told: str,
    rubric: Path | None,
    price: tuple[float, float] | None,
    clip: tuple[float, float] | None = None,
) -> "JudgeSpec":
    """Read what the options say of the judge.

    Raises:
        ConfigurationError: If the rubric cannot be read.
    """
    from shared_router.collecting.judges import JudgeSpec

    try:
        text = rubric.read_text(encoding="utf-8") if rubric else None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"--rubric {rubric}: cannot be read ({error}).") from error
    return JudgeSpec(told, rubric=text, price=price, clip=clip)


def tell(
    report: "CollectReport",
    names: list[str],
    splits: Collection[str],
    *,
    judged: bool,
    as_json: bool,
) -> None:
    """Print what was done.

    Raises:
        typer.Exit: With code 1 where the run stopped early, or a model gave no answer.
    """
    import dataclasses

    if as_json:
        shown = dataclasses.asdict(report)
        print_json({k: str(v) if isinstance(v, Path) else v for k, v in shown.items()})
    warn_of(report)
    problem = problem_of(report, judged=judged)
    saved = report.out is not None and not as_json
    if saved:
        cost = f", ${report.spent_usd:.4f}" if report.spent_usd else ""
        typer.echo(f"Saved {report.records} queries in {report.out}{cost}")
    if saved or not (judged or report.stopped or as_json):
        tell_models(report)
    if problem:
        say(f"error: {problem}")
        raise typer.Exit(1)
    if not judged:
        say("No judge: the answers are kept in the journal. Start again with --judge.")
    elif report.out is not None and saved and len(names) > 1:
        tell_next(report.out, names, splits)


def tell_next(out: Path, names: Collection[str], splits: Collection[str] = ()) -> None:
    """Say what to do with a data file.

    Args:
        out: The file.
        names: Its models.
        splits: Its splits, where they are known.
    """
    data = shlex.quote(str(out))
    if set(splits) == {TEST_SPLIT}:
        typer.echo(f"Next: hybrid-llm evaluate ROUTER {data} --split {TEST_SPLIT}")
        return
    listed = shlex.quote(",".join(names))
    typer.echo(f"Next: hybrid-llm fit {data} --candidates {listed} --out my-router")


def warn_of(report: "CollectReport") -> None:
    """Say what a user should look at, though there is a data file."""
    if report.failed:
        say(f"warning: {report.failed} calls failed for good: {report.failures} lists them.")
    if report.unvaried:
        say(
            f"warning: all samples of a query were the same, on every query, for "
            f"{', '.join(report.unvaried)}: one tells as much. A higher --temperature may vary "
            "them, where the provider heeds it."
        )


def warn_without_logprobs(report: "CollectReport") -> None:
    """Say which models told no log-probabilities, though they were asked for."""
    silent = [n for n, each in report.models.items() if each.answered and not each.with_logprobs]
    if silent:
        say(
            f"warning: {', '.join(silent)} told no log-probabilities; an answer without them can "
            "be looked at by its text alone."
        )


def problem_of(report: "CollectReport", *, judged: bool) -> str | None:
    """Say why no router can be fitted on what was collected, if none can."""
    if report.stopped:
        return f"stopped: {report.stopped}. The same command goes on from here."
    if judged and report.out is None:
        return "no answer could be had and judged; nothing is written."
    lacking = report.lacking(judged=judged)
    if not lacking:
        return None
    of_use = " that could be judged" if judged else ""
    return (
        f"{', '.join(lacking)} gave no answer{of_use}, and a router needs answers of each model. "
        "--retry-failed tries again what failed."
    )


def tell_models(report: "CollectReport") -> None:
    """Print how each model did: its mean quality, where judged, and its calls."""
    for name, tally in report.models.items():
        quality = "     -" if tally.quality is None else f"{tally.quality:.4f}"
        failed = f", {tally.failed} failed" if tally.failed else ""
        typer.echo(f"  {quality}  {name}, {tally.answered} answered{failed}")
