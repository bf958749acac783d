"""What the picture of a report says: its title, and the words beside its points."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared_router.measuring.picture import Point
    from shared_router.measuring.verdict import Verdict

LONGEST_NAME = 28
"""Letters of a model's name that are shown."""


def title_of(verdict: Verdict) -> str:
    """Say the message of a verdict in a line."""
    reference, share = short(verdict.reference), verdict.cost_advantage
    if share is None:
        return f"{verdict.dial}={verdict.value:g}: no fresh queries to judge it by"
    limit = f"{100 * verdict.value:.4g} %" if verdict.relative else f"{verdict.value:.4g}"
    if verdict.always_reference:
        why = f"A {limit} drop is not promised: all" if verdict.limits_quality else "All"
        return f"{why} calls go to {reference}"
    kept = f"Keeps {percent(share)} of calls from {reference}"
    if verdict.state is None:
        lost = f" at a drop of {verdict.shown_drop}" if verdict.drop is not None else ""
        return f"{kept}{lost}: nothing promised"
    sure = f"at confidence {verdict.confidence:g}"
    if verdict.state == "held":
        return f"{kept} within a {limit} drop: held {sure}"
    return f"{kept}; a {limit} drop: {verdict.state} {sure}"


def subtitle_of(verdict: Verdict) -> str:
    """Say what the message rests on."""
    if not verdict.n:
        return "all queries here were fitted or calibrated on"
    parts = [f"{verdict.n:,} queries that nobody fitted or calibrated on"]
    if verdict.drop is not None and not verdict.always_reference:
        parts.append(f"drop {verdict.shown_drop}")
    if verdict.cost_saved is not None and not verdict.always_reference:
        parts.append(f"{percent(verdict.cost_saved)} of the cost saved")
    return ", ".join(parts)


def percent(share: float) -> str:
    """Format a share as a percentage of two digits or more."""
    value = 100 * share
    return f"{value:.0f} %" if abs(value) >= 9.95 or value == 0 else f"{value:.1f} %"


def dollars(usd: float) -> str:
    """Format dollars: cents, or two digits of less than a dime."""
    return f"${usd:,.2f}" if usd >= 0.1 or usd == 0 else f"${usd:.2g}"


def short(name: str) -> str:
    """Cut a long name."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def words_of(point: Point, *, relative: bool) -> str:
    """Say what a point did, in one or two lines."""
    done = []
    if point.kind != "candidate":
        done.append(f"{percent(point.cost_advantage)} kept")
    if point.cost_advantage > 0:
        done.append(f"{percent(point.drop) if relative else f'{point.drop:.3f}'} drop")
    if point.usd_per_1000 is not None:
        done.append(dollars(point.usd_per_1000))
    return "\n".join([short(point.name), *([", ".join(done)] if done else [])])
