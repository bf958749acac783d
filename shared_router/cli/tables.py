"""What people see of a router on the command line: tables and sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from shared_router.deciding.curve import resolve_dial
from shared_router.deciding.pooling import estimate_at
from shared_router.engine.promised import promised_share
from shared_router.options import USUAL_CONFIDENCE, Dial

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Console

    from shared_router.measuring.evaluation import RoutingReport
    from shared_router.options import DialName
    from shared_router.router.state import RouterState

UNDEFINED = "-"
DROP_STEPS = (0.0, 0.01, 0.02, 0.05, 0.1)
ADVANTAGE_STEPS = (0.2, 0.4, 0.6, 0.8)


def number(value: float | None) -> str:
    """Format a figure; a dash where it is undefined."""
    return UNDEFINED if value is None else f"{value:.3f}"


def percent(value: float | None) -> str:
    """Format a fraction as a percentage; a dash where it is undefined."""
    return UNDEFINED if value is None else f"{100 * value:.1f} %"


def between(bounds: Sequence[float] | None) -> str:
    """Format an interval of figures; a dash where it is undefined."""
    return UNDEFINED if bounds is None else f"[{bounds[0]:.2f}, {bounds[1]:.2f}]"


def percent_between(bounds: Sequence[float] | None) -> str:
    """Format an interval of fractions as percentages; a dash where it is undefined."""
    return UNDEFINED if bounds is None else f"[{100 * bounds[0]:.1f}, {100 * bounds[1]:.1f}] %"


def dial_steps(router: RouterState) -> list[dict[str, Any]]:
    """Resolve a ladder of dials on a calibrated router.

    Returns:
        Per dial its name, value and the threshold of its estimate, with the cost advantage and mean
        quality there, the drop with its interval at confidence 0.9, and the share of calls kept
        from the reference within what is promised at that: 0 where nothing is.
    """
    curve = router.estimate
    if curve is None:
        return []
    name: DialName = "max_quality_drop" if curve.one_sign else "cost_advantage"
    steps = []
    for value in DROP_STEPS if curve.one_sign else ADVANTAGE_STEPS:
        threshold = resolve_dial(Dial(name, value), curve)
        found = estimate_at(router.rule, curve, Dial(name, value))
        at = curve.thresholds.tolist().index(threshold)
        steps.append(
            {
                "name": name,
                "value": value,
                "threshold": threshold,
                "cost_advantage": float(curve.cost_advantage[at]),
                "quality": float(curve.quality[at]),
                "drop": found and found.drop,
                "drop_interval": found and list(found.interval),
                "promised": promised_share(router, Dial(name, value), USUAL_CONFIDENCE),
            }
        )
    return steps


def calibration_facts(router: RouterState) -> dict[str, Any]:
    """Return what a calibration found, for programs."""
    return {
        "calibration": router.facts["calibration"],
        "default_dial": {"name": router.dial.name, "value": router.dial.value},
        "dials": dial_steps(router),
        "tasks": task_facts(router),
    }


def task_facts(router: RouterState) -> dict[str, Any] | None:
    """Return what a calibration found within each task; `None` where it tells none apart."""
    tasks = router.task_curves
    if tasks is None:
        return None
    found = {
        label: {
            "n": own.n,
            "threshold": own.resolve(router.dial),
            "cost_advantage": own.cost_advantage_at(router.dial),
            "reference_quality": own.reference_quality,
        }
        for label, own in tasks.curves.items()
    }
    return {
        "by": tasks.by,
        "least": tasks.least,
        "calibrated": found,
        "too_few": dict(tasks.too_few),
    }


def show_fit(console: Console, router: RouterState) -> None:
    """Print what a router was trained on, and of what parts it is made."""
    facts = router.facts["training"]
    console.print(f"Fitted {router.name!r} on {facts['n']} queries of {facts['data']}")
    console.print(f"  labels    {router.labels}", f"({_meaning(router)})")
    tuned = facts.get("finetuning")
    console.print(f"  encoder   {facts['encoder']}, {'fine-tuned' if tuned else 'frozen'}")
    weights = ", ".join(f"{name} {weight:.2f}" for name, weight in facts["parts"].items())
    console.print(f"  parts     {weights} (weights, by cross-validation)")
    if "int8" in facts:
        console.print(f"  serving   {int8_line(facts['int8'])}")
    if tuned:
        console.print(_curve_table(tuned))
    console.print(_quality_table("Quality in the training data", facts["mean_quality"]))


def int8_line(facts: Mapping[str, Any]) -> str:
    """Say whether a router serves in int8, and why."""
    if facts["spearman"] is None:
        return f"float32 (too few queries to compare int8 on: {facts['n']})"
    kept = "int8" if facts["kept"] else "float32"
    return f"{kept} (rank correlation of int8 with float32 {facts['spearman']:.4f})"


def _curve_table(facts: Mapping[str, Any]) -> Table:
    title = f"Fine-tuning: {facts['train_n']} queries learned from, {facts['dev_n']} measured on"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for heading in ("epoch", "train loss", "dev loss", "dev error", ""):
        table.add_column(heading, justify="right")
    for point in facts["curve"]:
        losses = (number(point[key]) for key in ("train_loss", "dev_loss", "dev_error"))
        kept = "kept" if point["step"] == facts["best_step"] else ""
        table.add_row(f"{point['epoch']:.2f}", *losses, kept)
    return table


def _meaning(router: RouterState) -> str:
    reference = router.candidates[-1]
    if router.labels == "gap":
        return f"expected quality less that of {reference}"
    return f"probability of being as good as {reference}"


def _quality_table(title: str, quality: Mapping[str, float]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("candidate")
    table.add_column("mean quality", justify="right")
    *others, reference = quality
    for name in others:
        table.add_row(name, number(quality[name]))
    table.add_row(f"{reference} (reference)", number(quality[reference]))
    return table


def show_calibration(console: Console, router: RouterState) -> None:
    """Print what the dials of a calibrated router mean."""
    dial = router.dial
    console.print(f"Calibrated {router.name!r} on {router.curve.n if router.curve else 0} queries")
    console.print(f"  default dial  {dial.name}={dial.value:g}")
    title = f"Dials: what is promised at confidence {USUAL_CONFIDENCE}, and what is estimated"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("dial")
    for heading in ("promised share", "estimated share", "estimated drop", "threshold"):
        table.add_column(heading, justify="right")
    for step in dial_steps(router):
        limit = step["name"] != "cost_advantage"
        table.add_row(
            f"{step['name']}={step['value']:g}",
            percent(step["promised"]) if limit else UNDEFINED,
            percent(step["cost_advantage"]),
            _estimated(step),
            number(step["threshold"]),
        )
    console.print(table)
    console.print(
        "Share: of calls kept from the reference. Promised: tested, the mean drop over the calls "
        "that say `promised` is within the limit. Estimated: measured on "
        f"{router.estimate.n if router.estimate else 0} labels, those of the training among them, "
        f"with its interval at {USUAL_CONFIDENCE}; no promise."
    )
    why = router.facts["calibration"].get("no_promise")
    if why:
        console.print(f"Nothing can be promised: {why}.")
    _show_tasks(console, router)


def _estimated(step: Mapping[str, Any]) -> str:
    """Show a drop with its interval."""
    if step["drop"] is None:
        return UNDEFINED
    low, high = (f"{100 * end:.1f}" for end in step["drop_interval"])
    return f"{100 * step['drop']:.1f} % [{low}, {high}]"


def _show_tasks(console: Console, router: RouterState) -> None:
    """Print within which tasks the default dial holds, and within which it does not."""
    facts = task_facts(router)
    if facts is None:
        console.print("No tasks told apart: a dial holds over all queries together.")
        return
    title = f"Within each task, at {router.dial.name}={router.dial.value:g}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("task")
    for heading in ("queries", "threshold", "cost advantage"):
        table.add_column(heading, justify="right")
    for label, own in facts["calibrated"].items():
        share = percent(own["cost_advantage"])
        table.add_row(label, str(own["n"]), number(own["threshold"]), share)
    if facts["calibrated"]:
        console.print(table)
    few = ", ".join(f"{label} ({n})" for label, n in facts["too_few"].items())
    if few:
        console.print(
            f"Fewer than {facts['least']} queries, so that their suite or all tasks together "
            f"serve: {few}."
        )


def show_report(console: Console, report: RoutingReport) -> None:
    """Print an evaluation: quality per candidate, the router beside its baselines, the dial."""
    console.print(_quality_table(f"{report.n} queries, split {report.split}", report.quality))
    console.print(_figures_table(report))
    console.print(
        "APGR: share of the quality gap recovered, over all shares of calls; random is 0.5. CPT: "
        "share of calls the reference needs to recover so much of the gap. Cost advantage: share "
        "of calls kept from the reference. Length: short queries to the small model. Intervals: "
        "95 %, paired bootstrap over queries."
    )
    for name, reason in report.router.get("reasons", {}).items():
        console.print(f"{name}: undefined, {reason}.")
    if report.dial is not None:
        console.print(dial_line(report.dial))


def _figures_table(report: RoutingReport) -> Table:
    lines = {"router": report.router} | report.baselines
    table = Table(title="Router and baselines", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("figure", no_wrap=True)
    for name in lines:
        table.add_column(name.split("_")[-1], justify="right")
    columns = [dict(_figure_rows(figures)) for figures in lines.values()]
    for name in columns[0]:
        table.add_row(name, *(column[name] for column in columns))
    return table


def _figure_rows(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "APGR", number(figures["apgr"])
    yield "  interval", between(figures["intervals"]["apgr"])
    lead = figures.get("router_lead_apgr")
    yield "  router's lead", "" if "router_lead_apgr" not in figures else between(lead)
    yield "CPT 50 %", percent(figures["cpt50"])
    yield "CPT 80 %", percent(figures["cpt80"])
    for drop, value in figures["cost_advantage_at_drop"].items():
        yield f"advantage at {100 * float(drop):g} % drop", percent(value)
    for advantage, value in figures["quality_drop_at_cost_advantage"].items():
        yield f"drop at {100 * float(advantage):g} % advantage", percent(value)


def dial_line(dial: Mapping[str, Any]) -> str:
    """Say in one line what one dial gives."""
    bounds = dial["intervals"]
    share = percent_between(bounds["cost_advantage"])
    shown = [
        f"quality {number(dial['quality'])} {between(bounds['quality'])}",
        f"cost advantage {percent(dial['cost_advantage'])} {share}",
        *(
            f"{name.replace('_', ' ')} {percent(dial[name])}"
            for name in ("quality_drop", "cost_saved")
            if dial[name] is not None
        ),
    ]
    return f"At {dial['name']}={dial['value']:g} ({dial['method']}): {', '.join(shown)}."
