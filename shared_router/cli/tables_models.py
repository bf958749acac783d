"""What people see of many models on the command line: costs, tasks and transfer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from shared_router.cli.tables import UNDEFINED, between, number, percent, percent_between

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from shared_router.measuring.evaluation import RoutingReport
    from shared_router.measuring.transfer import TransferReport


def show_cost_quality(console: Console, report: RoutingReport) -> None:
    """Print quality against cost, where an evaluation has it."""
    found = report.cost_quality
    if found is None:
        return
    unit = "USD a call" if found["unit"] == "usd" else "cost, 0 the cheapest and 1 the reference"
    console.print(_single_table(found, unit))
    console.print(_line_table(found))
    console.print(_curve_table(found, unit))
    low, high = found["range"]
    console.print(
        f"AIQ: mean quality over costs from {low:.3g} to {high:.3g}, under the non-decreasing "
        "convex hull; below a curve's least cost it counts 0. Single models: the hull of the "
        "candidates, the best mixture that looks at no query. Intervals: 95 %, paired bootstrap."
    )


def _cost(value: float) -> str:
    return f"{value:.3g}"


def _single_table(found: Mapping[str, Any], unit: str) -> Table:
    table = Table(title="Each candidate alone", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("candidate")
    for heading in (unit, "quality", "AIQ"):
        table.add_column(heading, justify="right")
    for name, own in found["candidates"].items():
        table.add_row(name, _cost(own["cost"]), number(own["quality"]), number(own["aiq"]))
    return table


def _line_table(found: Mapping[str, Any]) -> Table:
    lines = {"router": found["router"]} | found["baselines"]
    table = Table(title="Quality against cost", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("figure", no_wrap=True)
    for name in lines:
        table.add_column(name.split("_")[-1] if name != "single_models" else "singles")
    own = list(lines.values())
    table.add_row("AIQ", *(number(line["aiq"]) for line in own))
    table.add_row("  interval", *(between(line["intervals"]["aiq"]) for line in own))
    table.add_row("  router's lead", "", *(_lead(line["router_lead_aiq"]) for line in own[1:]))
    for share in own[0]["quality_at_cost_saved"]:
        row = (number(line["quality_at_cost_saved"][share]) for line in own)
        table.add_row(f"quality, {float(share):.0%} of cost saved", *row)
    for drop in own[0]["cost_saved_at_drop"]:
        row = (percent(line["cost_saved_at_drop"][drop]) for line in own)
        table.add_row(f"saved at {float(drop):.0%} drop", *row)
    return table


def _lead(bounds: tuple[float, float] | None) -> str:
    return UNDEFINED if bounds is None else f"[{bounds[0]:+.3f}, {bounds[1]:+.3f}]"


def _curve_table(found: Mapping[str, Any], unit: str) -> Table:
    table = Table(title="The router's curve", title_justify="left", box=SIMPLE_HEAD)
    for heading in (unit, "quality", "cost advantage"):
        table.add_column(heading, justify="right")
    for point in found["curve"]:
        share = percent(point["cost_advantage"])
        table.add_row(_cost(point["cost"]), number(point["quality"]), share)
    return table


def show_by_task(console: Console, report: RoutingReport) -> None:
    """Print a dial within each task, where an evaluation has it."""
    found = report.dial and report.dial.get("tasks")
    if not found:
        return
    title = f"{report.dial['name']}={report.dial['value']:g} within each task"  # type: ignore[index]
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("task")
    for heading in ("drop, one threshold", "drop, by task", "advantage, one", "advantage, by task"):
        table.add_column(heading, justify="right")
    one, own = found["one_threshold"], found["by_task"]
    for task in ("all", *own["tasks"]):
        here, there = (way if task == "all" else way["tasks"][task] for way in (one, own))
        drops = (_drop(way) for way in (here, there))
        table.add_row(task, *drops, *(percent(way["cost_advantage"]) for way in (here, there)))
    console.print(table)


def _drop(way: Mapping[str, Any]) -> str:
    return f"{percent(way['quality_drop'])} {percent_between(way['intervals']['quality_drop'])}"


def show_transfer(console: Console, report: TransferReport) -> None:
    """Print whether a router can serve other models."""
    console.print(
        f"{report.router!r}, fitted for {', '.join(report.router_candidates)}, on "
        f"{', '.join(report.candidates)}: {report.n} queries"
    )
    console.print(f"  gap correlation    {_correlation(report.gap_correlation, report.shared)}")
    console.print(f"  score correlation  {_correlation(report.score_correlation, report.n)}")
    spans = report.gain["intervals"]
    for name in spans:
        console.print(f"  gain, {name:<12s} {report.gain[name]:+.4f} {_lead(spans[name])}")
    dial = f"{report.dial['name']}={report.dial['value']:g}"
    console.print(f"  stored setting     {_setting(report.at_dial)} (dial {dial})")
    if report.recalibrated is not None:
        console.print(f"  recalibrated       {_setting(report.recalibrated)}")
    console.print(f"{report.recommendation.upper()}: {report.why}.")
    console.print(f"Rule: {report.rule}.")


def _correlation(found: Mapping[str, Any] | None, n: int) -> str:
    if found is None:
        return f"not measured ({n} shared queries)"
    spans = found["intervals"]
    return ", ".join(
        f"{name} {found[name]:.2f} {between(spans[name])}" for name in ("pearson", "spearman")
    )


def _setting(figures: Mapping[str, Any]) -> str:
    spans = figures["intervals"]
    return (
        f"drop {percent(figures['quality_drop'])} {percent_between(spans['quality_drop'])}, "
        f"cost advantage {percent(figures['cost_advantage'])} "
        f"{percent_between(spans['cost_advantage'])}"
    )
