"""The paper's table, in Markdown, of routers measured on the pocket pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from shared_router import RoutingReport

ADVANTAGES = ("0.1", "0.2", "0.4")
_INTRODUCTION = """\
# The paper's experiment on the pocket pair

Both models of [cookbook/pocket](../cookbook/pocket/README.md) were asked {known:,} questions,
{samples} answers each at temperature {heat:g}. Routers learned from the `train` part of them (four
fifths) and were calibrated on the rest: on a frozen MiniLM, or on one fine-tuned beside it where
the name says so. Everything below is measured on {fresh:,} fresh questions, asked in the same way.
Reproduce:

    python -m cookbook.pocket.pipeline --write docs/pocket.md

Quality drop in percent of the large model's quality, with 95 % bootstrap intervals over
questions."""
_HEADINGS = ("10 %", "20 %", "40 %", "cost advantage at 1 % drop", "APGR")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One router on fresh questions."""

    labels: str
    """`det`, `prob`, `trans` or `gap`."""
    t: float | None
    """The relaxation `t*`, for `trans`."""
    notes: tuple[str, ...]
    """What fitting warned of."""
    report: RoutingReport
    """Measured at a dial of at most 1 % drop, calibrated on other questions."""


def render(
    found: Mapping[str, Sequence[Measured]],
    known: int,
    fresh: int,
    samples: int,
    temperature: float,
) -> str:
    """Write the page."""
    lines = [_INTRODUCTION.format(known=known, fresh=fresh, samples=samples, heat=temperature)]
    for title, routers in found.items():
        lines += ["", *_section(title, routers)]
    return "\n".join(lines) + "\n"


def _section(title: str, routers: Sequence[Measured]) -> Iterator[str]:
    report = routers[0].report
    small, large = report.quality.values()
    yield f"## {title}"
    yield ""
    yield f"{report.n:,} questions. Mean quality: small {small:.3f}, large {large:.3f}."
    yield ""
    yield "Quality drop at a cost advantage of 10, 20 and 40 %:"
    yield ""
    yield f"| router | {' | '.join(_HEADINGS)} |"
    yield "|---|--:|--:|--:|--:|--:|"
    for router in routers:
        t = "" if router.t is None else f" (t* = {router.t:.3g})"
        yield _row(f"`{router.labels}`{t}", router.report.router)
    best = max(routers, key=lambda router: router.report.router["apgr"])
    for name, figures in best.report.baselines.items():
        yield _row(name.replace("_", " "), figures)
    yield ""
    yield "Calibrated for a drop of at most 1 %, then measured on the fresh questions:"
    yield ""
    yield "| router | drop | cost advantage | compute saved |"
    yield "|---|--:|--:|--:|"
    for router in routers:
        yield _dial_row(router)
    notes = dict.fromkeys(note for router in routers for note in router.notes)
    for note in notes:
        yield ""
        yield f"Note: {note}"


def _row(name: str, figures: Mapping[str, Any]) -> str:
    drops, intervals = figures["quality_drop_at_cost_advantage"], figures["intervals"]
    cells = [
        _percent(drops[share], intervals["quality_drop_at_cost_advantage"][share])
        for share in ADVANTAGES
    ]
    kept = _percent(
        figures["cost_advantage_at_drop"]["0.01"], intervals["cost_advantage_at_drop"]["0.01"]
    )
    return f"| {name} | {' | '.join(cells)} | {kept} | {figures['apgr']:.3f} |"


def _dial_row(router: Measured) -> str:
    dial = router.report.dial or {}
    cells = [
        _percent(dial[name], dial["intervals"][name])
        for name in ("quality_drop", "cost_advantage", "cost_saved")
    ]
    return f"| `{router.labels}` | {' | '.join(cells)} |"


def _percent(value: float, bounds: Sequence[float] | None) -> str:
    shown = f"{100 * value:.1f}"
    return shown if bounds is None else f"{shown} [{100 * bounds[0]:.1f}, {100 * bounds[1]:.1f}]"
