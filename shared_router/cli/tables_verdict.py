"""What `evaluate` prints first: the verdict, the ladder of limits, and what needs no router."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from shared_router.cli.tables import UNDEFINED, number, percent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from shared_router.measuring.evaluation import RoutingReport
    from shared_router.measuring.verdict import Verdict

UNITS = {
    "usd": "$ per 1,000 calls",
    "relative": "cost, of the reference's",
    "calls": "calls of the reference",
}


def show_verdict(console: Console, report: RoutingReport) -> None:
    """Print the verdict, and below it what each limit gives and what needs no router."""
    verdict = report.verdict
    if verdict is None or report.static_mix is None or report.single_models is None:
        return
    console.print(verdict.sentence)
    if report.ladder:
        console.print(_ladder_table(report, verdict))
    console.print(_beside_table(report, verdict))


def _seen(report: RoutingReport, verdict: Verdict) -> str:
    """Say on which queries the figures are measured."""
    if verdict.n:
        return f"measured on these {verdict.n:,} queries"
    return f"measured on the {report.n:,} queries of the calibration"


def _ladder_table(report: RoutingReport, verdict: Verdict) -> Table:
    """Lay out what each limit gives, promised and estimated."""
    title = (
        f"Calls kept from {verdict.reference} at each limit, promised at confidence "
        f"{verdict.confidence:g} and estimated, {_seen(report, verdict)}"
    )
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    dollars = report.ladder[0]["promised_usd_per_1000"] is not None
    table.add_column("limit", justify="right", no_wrap=True)
    for way in ("promised", "estimated"):
        table.add_column(f"{way} share", justify="right")
        table.add_column("drop", justify="right")
        if dollars:
            table.add_column("$ per 1,000", justify="right")
    for rung in report.ladder:
        relative = rung["dial"] == "max_quality_drop"
        cells = [f"{100 * rung['limit']:g} %" if relative else f"{rung['limit']:.3g}"]
        for way in ("promised", "estimated"):
            drop = rung[f"{way}_drop"]
            cells += [percent(rung[f"{way}_share"]), _drop(drop, verdict.relative)]
            cells += [f"{rung[f'{way}_usd_per_1000']:.2f}"] if dollars else []
        table.add_row(*cells)
    return table


def _drop(value: float | None, relative: bool) -> str:
    return percent(value) if relative else number(value)


def _beside_table(report: RoutingReport, verdict: Verdict) -> Table:
    """Lay out the router beside models alone and a coin of the same cost."""
    mix, singles = report.static_mix or {}, report.single_models or {}
    at = f"{verdict.dial}={verdict.value:g}"
    table = Table(title=f"What needs no router, {_seen(report, verdict)}", box=SIMPLE_HEAD)
    table.title_justify = "left"
    table.add_column("", no_wrap=True)
    for heading in ("quality", "95 % of resamples", UNITS[mix["unit"]]):
        table.add_column(heading, justify="right")
    times = 1000 if mix["unit"] == "usd" else 1
    spans = mix["intervals"]
    router = (mix["router_quality"], spans["router_quality"], mix["cost"])
    table.add_row(f"router, {at}", *_cells(*router, times))
    table.add_row(
        f"coin of the same cost: {_shares(mix)}",
        *_cells(mix["quality"], spans["quality"], mix["cost"], times),
    )
    table.add_row("  router's lead", f"{mix['router_lead']:+.3f}", _lead(spans["router_lead"]), "")
    for name, title in (
        ("best", "best model alone"),
        ("cheapest_within_limit", "cheapest alone within the limit"),
    ):
        own = singles[name]
        if own is not None:
            table.add_row(
                f"{title}: {own['name']}", *_cells(own["quality"], None, own["cost"], times)
            )
    return table


def _cells(quality: float, span: Any, cost: float, times: float) -> tuple[str, str, str]:
    return number(quality), "" if span is None else _between(span), f"{times * cost:.3g}"


def _between(span: tuple[float, float] | None) -> str:
    return UNDEFINED if span is None else f"[{span[0]:.3f}, {span[1]:.3f}]"


def _lead(span: tuple[float, float] | None) -> str:
    return UNDEFINED if span is None else f"[{span[0]:+.3f}, {span[1]:+.3f}]"


def _shares(mix: Mapping[str, Any]) -> str:
    return ", ".join(f"{share:.0%} {name}" for name, share in mix["shares"].items())
