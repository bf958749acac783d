"""What was measured on one data set, as markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.benchmarks.second_look.fits import WITHOUT

if TYPE_CHECKING:
    from tests.benchmarks.second_look.lines import Figures


@dataclass(frozen=True)
class Training:
    """What the fits decided on their own training queries."""

    least: float
    """Of the widths that they chose."""
    middle: float
    most: float
    auto: int
    """How many of them look under `auto`."""
    fits: int


@dataclass(frozen=True)
class Found:
    """What was measured on one data set."""

    name: str
    models: tuple[str, str]
    n: int
    mean_cost_usd: tuple[float, float]
    costs: str
    """`recorded`, or the prices they are reckoned from."""
    figures: dict[str, Figures]
    """By line, the query alone first."""
    training: dict[float, Training]
    """By greatest share looked at."""
    development: str


def table(found: Found) -> str:
    """Format one data set's figures."""
    small, reference = found.models
    drops = list(found.figures[WITHOUT].saved)
    heads = ["", "area", f"less {WITHOUT}", *(f"saved at {drop:.0%}" for drop in drops)]
    heads.append(f"looked at, thrown away at {drops[0]:.0%}")
    usual, dear = found.mean_cost_usd
    lines = [
        f"### {found.name}, {small} / {reference}, {found.n:,} queries",
        "",
        f"Dollars: {found.costs}; a call costs {usual:.3g} / {dear:.3g} USD on average.",
        "",
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(heads),
        *(f"| {name} | {_row(own, name == WITHOUT)} |" for name, own in found.figures.items()),
    ]
    return "\n".join([*lines, "", _training(found), "", _standing(found), ""])


def _row(own: Figures, first: bool) -> str:
    drop = next(iter(own.saved))
    lead = "" if first else f"{own.aiq_lead_mean:+.4f}{_span(own.aiq_lead, '+.4f')}"
    saved = (
        f"{share:.3f}" + ("" if first else f" (lead{_span(own.saved_lead[at], '+.3f')})")
        for at, share in own.saved.items()
    )
    seen = f"{own.looked[drop]:.2f}, {own.thrown_away[drop]:.2f}"
    return " | ".join([f"{own.aiq:.4f}{_span(own.aiq_interval, '.4f')}", lead, *saved, seen])


def _training(found: Found) -> str:
    told = (
        f"with looks at {share:.0%} at most `auto` looks in {own.auto} of {own.fits} fits, and "
        f"widths are {own.least:.3g} to {own.most:.3g}, the middle one {own.middle:.3g}"
        for share, own in found.training.items()
    )
    return f"By training alone: {'; '.join(told)}."


def _span(interval: tuple[float, float] | None, form: str) -> str:
    return f" [{interval[0]:{form}}, {interval[1]:{form}}]" if interval else ""


def _standing(found: Found) -> str:
    if found.development:
        return f"**Development figures**: {found.development} were chosen on these queries."
    return "No constant is recorded as chosen on these queries (docs/figures.md)."
