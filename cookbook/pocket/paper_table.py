"""The paper's table, in Markdown, of routers measured on the pocket pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from shared_router import RoutingReport

ADVANTAGES = ("0.1", "0.2", "0.4")
PAGE = "https://github.com/hybrid-llm/hybrid-llm/blob/main/cookbook/pocket/README.md"
_INTRODUCTION = """\
# The paper's experiment on the pocket pair

Both models of [cookbook/pocket]({page}) were asked {known:,} questions,
{samples} answers each at temperature {heat:g}. Routers learned from the `train` part of them (four
fifths) and were calibrated on the rest: on a frozen MiniLM, or on one fine-tuned beside it where
the name says so. Everything below is measured on {fresh:,} fresh questions, asked in the same way.
Reproduce:

    python -m cookbook.pocket.pipeline --write docs/pocket.md

Quality drop in percent of the large model's quality, with 95 % bootstrap intervals over
questions."""
_READING = """
## Beside the paper

- The paper's three label kinds lie close together on its pair with a small gap, and so they do here
  on all questions: where both models often do as well, `prob` labels are spread already, and no
  relaxation spreads them further (t* = 0, so `trans` is `prob`).
- Its gains from `trans` come from the pair with a large gap, whose `prob` labels are nearly all 0.
  That is difficulty 3 alone: with partial credit t* is far above 0, `det` and `prob` are no better
  than chance, and `trans` is, by about as much as in the paper (13.8 / 13.1 / 10.3 at 40 % there).
  `gap` does better than all three: the expected gap needs no relaxation.
- Quality drops at 10 and 20 % are nearer 0 than the paper's for its medium and large gaps: this
  small model is sure of half of all questions by its syllabus, and a text tells which these are.
- No drop is negative, as one is in the paper: this large model is right almost always, so that the
  small one has nothing to win.
- The paper's routers are fine-tuned. Here a frozen encoder is told apart from a fine-tuned one: the
  latter sees digits and word lengths that decide here, and adds about four points of cost
  advantage at 1 % drop.
- Calibrated for 1 % on some 1,600 questions, every router stayed within it on the fresh ones. In
  the paper four of nine broke it, after calibration on 500; nothing here promises it either.
"""
"""Of the figures in the repository; it is to be read again when they change."""
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
    lines = [
        _INTRODUCTION.format(page=PAGE, known=known, fresh=fresh, samples=samples, heat=temperature)
    ]
    for title, routers in found.items():
        lines += ["", *_section(title, routers)]
    return "\n".join(lines) + "\n" + _READING


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
