"""What `evaluate --escalate` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

from shared_router.cli.tables import UNDEFINED, percent

if TYPE_CHECKING:
    from rich.console import Console

    from shared_router.measuring.escalation import EscalationReport, Figure

_SAID = {
    "reference": "the reference alone",
    "without": "without escalation",
    "with": "with escalation",
    "random": "as many at random",
    "coin": "a coin of the same cost",
}


def show_escalation(console: Console, report: EscalationReport) -> None:
    """Print what escalation buys and costs."""
    console.print(_table(report))
    console.print(
        f"Escalated: {_share(report.escalated)} of the questions sent to a cheaper model; of those "
        f"the dearer answer was better in {_share(report.precision)}. "
        f"Gain in quality: {_number(report.gain)}; over as many at random: "
        f"{_number(report.over_random)}; over a coin of the same cost: {_number(report.over_coin)}."
    )


def _table(report: EscalationReport) -> Table:
    checks = ", ".join(report.checks)
    title = f"Escalation by {checks}, on {report.n:,} queries with recorded responses"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("")
    table.add_column("quality", justify="right")
    dollars = report.unit == "usd"
    table.add_column("$ per 1,000" if dollars else "calls a question", justify="right")
    for way, figure in report.quality.items():
        table.add_row(_SAID[way], _number(figure), _cost(report.cost[way], dollars=dollars))
    return table


def _cost(figure: Figure, *, dollars: bool) -> str:
    return _number(figure, 1000, "#.3g") if dollars else _number(figure)


def _number(figure: Figure, scale: float = 1.0, form: str = ".3f") -> str:
    if figure.value is None:
        return UNDEFINED
    told = f"{figure.value * scale:{form}}"
    if figure.interval is None:
        return told
    low, high = (f"{edge * scale:{form}}" for edge in figure.interval)
    return f"{told} [{low}, {high}]"


def _share(figure: Figure) -> str:
    if figure.value is None:
        return UNDEFINED
    told = percent(figure.value)
    if figure.interval is None:
        return told
    low, high = map(percent, figure.interval)
    return f"{told} [{low}, {high}]"
