"""What `fit`, `calibrate` and `evaluate` print of second looks at answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from shared_router.cli.tables import UNDEFINED, percent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from shared_router.router.state import RouterState


def looks_of_fit(router: RouterState) -> str:
    """Say what fitting found of second looks."""
    facts = router.facts.get("training", {}).get("second_look", {})
    looks = router.second_look
    if looks is None:
        return f"No second look at answers: {facts.get('why_not', 'not fitted')}."
    if looks.width <= 0:
        return "No second look at answers: at no width do they save dollars at equal quality."
    low, high = map(percent, facts["saved_interval"])
    paid = "which pays" if looks.pays else "which does not surely pay, so that auto leaves it out"
    return (
        f"Second look: answers of at most {percent(facts['share'])} of the queries are looked at; "
        f"at equal quality this saves {percent(facts['saved'])} of the reference's dollars more "
        f"[{low}, {high}] on the training queries, {paid}."
    )


def looks_of_calibration(router: RouterState) -> str:
    """Say which lines were tested."""
    facts = router.facts.get("calibration", {}).get("second_look")
    if facts is None:
        return ""
    if "why_not" in facts:
        return f"The line without second looks alone: {facts['why_not']}."
    if facts.get("both_lines_tested"):
        return "Both lines, with second looks and without, are tested, each at half of the error."
    return "The line with second looks is tested, at the whole error."


def show_looks(console: Console, found: Mapping[str, Any] | None) -> None:
    """Print what second looks buy and cost on the evaluated queries."""
    if found is None:
        return
    if "why_not" in found:
        console.print(f"Second looks are not measured: {found['why_not']}.")
        return
    console.print(f"With second looks: {found['sentence']}")
    console.print(_table(found))
    gain = _with_interval(found, "cost_saved_gain")
    equal = _with_interval(found, "saved_at_equal_quality")
    served = "auto looks" if found["pays"] else "auto does not look: it did not pay in training"
    console.print(
        f"Second looks save {gain} of the reference's dollars more at the dial, {equal} at equal "
        f"quality; {served}. All other figures are of the line without."
    )


def _table(found: Mapping[str, Any]) -> Table:
    title = f"Second looks on {found['n']:,} queries with recorded responses"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("")
    for name in ("drop", "kept from the reference", "saved", "looked at", "thrown away", "holds"):
        table.add_column(name, justify="right")
    for name, key in (("with second looks", "with_looks"), ("without", "without")):
        own = found[key]
        drop = own["quality_drop"]
        claim = ": ".join(filter(None, (own["guarantee"], own["guarantee_reason"])))
        table.add_row(
            name,
            UNDEFINED if drop is None else percent(drop),
            *(percent(own[each]) for each in ("cost_advantage", "cost_saved", "looked")),
            percent(own["thrown_away"]),
            claim,
        )
    return table


def _with_interval(found: Mapping[str, Any], name: str) -> str:
    bounds = found[f"{name}_interval"]
    told = percent(found[name])
    return told if bounds is None else f"{told} [{', '.join(map(percent, bounds))}]"
