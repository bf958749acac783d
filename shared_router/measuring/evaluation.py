"""Evaluation: a router's figures beside the baselines', with intervals, as one report."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.deciding.curve import calibration_curve
from shared_router.deciding.walk import Walk, one_sign
from shared_router.errors import ConfigurationError
from shared_router.measuring.baselines import baseline_lines
from shared_router.measuring.bootstrap import (
    RESAMPLES,
    interval,
    paired_difference,
    resampled_figures,
)
from shared_router.measuring.cost_quality import CostLine, cost_quality, prices_of
from shared_router.measuring.metrics import (
    UNDEFINED_DROP,
    UNDEFINED_PGR,
    nested_figures,
    trade_off,
)
from shared_router.measuring.plot import draw

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from shared_router.deciding.curve import CalibrationCurve
    from shared_router.deciding.rule import Rule
    from shared_router.measuring.picture import Picture
    from shared_router.measuring.verdict import Verdict
    from shared_router.options import Dial

HALVINGS = 50
"""Repetitions of calibrating on one half and measuring on the other."""


@dataclass(frozen=True)
class OutcomeTable:
    """What evaluation needs to know of a set of queries."""

    queries: Sequence[str]
    """The texts, for the length baseline."""
    quality: NDArray[np.float64]
    """Mean quality, shape (n, k), the reference last."""
    costs_usd: NDArray[np.float64] | None = None
    """Mean cost of a call per candidate, shape (k,); `None` where unknown."""
    query_costs_usd: NDArray[np.float64] | None = None
    """Cost per query and candidate, shape (n, k), where the data tell each."""
    names: Sequence[str] = ()
    """The candidates' names; their positions where not given."""

    def __len__(self) -> int:
        return len(self.queries)


@dataclass(frozen=True, kw_only=True)
class RoutingReport:
    """Figures of one router on one set of queries.

    Shares and drops are fractions. Intervals are central 95 % bootstrap intervals over queries;
    differences are paired.
    """

    n: int
    """Number of queries."""
    split: str
    """The split they came from."""
    candidates: tuple[str, ...]
    """Names, the reference last."""
    quality: dict[str, float]
    """Mean quality per candidate, in the metric's units."""
    router: dict[str, Any]
    """Figures of the router."""
    baselines: dict[str, dict[str, Any]]
    """Figures of each baseline, with the paired interval of the router's lead in APGR."""
    dial: dict[str, Any] | None = None
    """Figures at one dial, where one was asked."""
    cost_quality: dict[str, Any] | None = None
    """Quality against cost: AIQ and the curve, beside every candidate alone and the baselines;
    `None` where two candidates have no known costs, so that the cost advantage says all."""
    verdict: Verdict | None = None
    """What was asked, and whether queries that nobody fitted or calibrated on show it."""
    ladder: tuple[dict[str, Any], ...] = ()
    """By limit: the share of calls kept from the reference that is promised, that is estimated,
    and dollars per 1,000 calls; empty where no limit can be resolved."""
    single_models: dict[str, Any] | None = None
    """The best candidate alone, and the cheapest that keeps the limit alone."""
    static_mix: dict[str, Any] | None = None
    """The best coin that costs what the router costs, and the router's lead over it."""
    picture: Picture | None = field(default=None, repr=False)
    """What `plot` draws."""
    second_look: dict[str, Any] | None = None
    """What second looks buy and cost beside none, or why that was not measured; `None` of a router
    that looks at no answers. All other figures are of the line without looks."""
    left_out: int = 0
    """Queries left out because the router had seen them, where that was asked."""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON-ready values."""
        found = {
            "n": self.n,
            "split": self.split,
            "candidates": list(self.candidates),
            "quality": self.quality,
            "router": self.router,
            "baselines": self.baselines,
        }
        more = {
            "verdict": self.verdict and self.verdict.to_dict(),
            "ladder": list(self.ladder) or None,
            "single_models": self.single_models,
            "static_mix": self.static_mix,
            "picture": self.picture and self.picture.to_dict(),
            "dial": self.dial,
            "cost_quality": self.cost_quality,
            "second_look": self.second_look,
            "left_out": self.left_out or None,
        }
        return found | {name: value for name, value in more.items() if value is not None}

    def plot(self, path: str | os.PathLike[str] | None = None, *, dark: bool = False) -> Figure:
        """Draw what is kept from the reference, what it costs in quality, and the limit.

        Args:
            path: Where it is written, as PNG or SVG; nowhere where `None`.
            dark: Whether it is for a dark page.

        Returns:
            The figure, of matplotlib; pyplot knows nothing of it.

        Raises:
            ConfigurationError: If the name ends in something else than `.png` or `.svg`, or the
                report was made by hand, without a picture.
            MissingExtraError: If matplotlib is not installed; the extra `plot` brings it.
        """
        if self.picture is None or self.verdict is None:
            raise ConfigurationError("This report holds no picture: Router.evaluate makes one.")
        return draw(self.picture, self.verdict, path, dark=dark)


def figures_with_intervals(
    walk: Walk, resamples: Sequence[Mapping[str, float | None]]
) -> dict[str, Any]:
    """Return the figures of one line, their intervals, and why any is undefined."""
    line = trade_off(walk)
    figures = line.figures()
    intervals = {name: interval([sample[name] for sample in resamples]) for name in figures}
    found = nested_figures(figures) | {"intervals": nested_figures(intervals)}
    reasons: dict[str, str] = {}
    if not line.has_pgr:
        reasons |= dict.fromkeys(("apgr", "cpt50", "cpt80"), UNDEFINED_PGR)
    if not line.has_drop:
        names = ("cost_advantage_at_drop", "quality_drop_at_cost_advantage")
        reasons |= dict.fromkeys(names, UNDEFINED_DROP)
    return found | ({"reasons": reasons} if reasons else {})


def compare(
    rule: Rule,
    scores: NDArray[np.floating],
    outcomes: OutcomeTable,
    neighbour_gaps: NDArray[np.float64] | None,
    resamples: int = RESAMPLES,
) -> tuple[dict[str, Any], dict[str, dict[str, Any]], dict[str, Any] | None]:
    """Measure a router and every baseline on the same queries and resamples.

    Returns:
        The router's figures, each baseline's, and quality against cost where that says more.
    """
    lines = {"router": (rule, np.asarray(scores, dtype=np.float64))}
    lines |= baseline_lines(outcomes.queries, outcomes.quality, rule.savings, neighbour_gaps)
    walks = {name: Walk(*line, outcomes.quality) for name, line in lines.items()}
    samples = resampled_figures(walks, len(outcomes), resamples)
    figures = {name: figures_with_intervals(walk, samples[name]) for name, walk in walks.items()}
    for name, found in figures.items():
        if name != "router":
            lead = paired_difference(samples["router"], samples[name], "apgr")
            found["router_lead_apgr"] = lead
    return figures.pop("router"), figures, _against_cost(lines, outcomes, rule, resamples)


def _against_cost(
    lines: Mapping[str, tuple[Rule, NDArray[np.float64]]],
    outcomes: OutcomeTable,
    rule: Rule,
    resamples: int,
) -> dict[str, Any] | None:
    known = outcomes.costs_usd if outcomes.query_costs_usd is None else outcomes.query_costs_usd
    prices = prices_of(known, rule.savings, len(outcomes))
    if prices is None:
        return None
    priced = {
        name: CostLine(*line, outcomes.quality, prices.per_query) for name, line in lines.items()
    }
    names = outcomes.names or [str(i) for i in range(outcomes.quality.shape[1])]
    return cost_quality(priced, names, outcomes.quality, prices, resamples)


def figures_at_threshold(
    rule: Rule, scores: NDArray[np.floating], outcomes: OutcomeTable, threshold: float
) -> dict[str, float | None]:
    """Measure one threshold: quality, cost advantage, quality drops and dollars saved."""
    choice = rule.choose(scores, threshold)
    reference = outcomes.quality.shape[1] - 1
    quality = float(np.take_along_axis(outcomes.quality, choice[:, None], axis=1).mean())
    kept = float(outcomes.quality[:, reference].mean())
    span = (float(outcomes.quality.min()), float(outcomes.quality.max()))
    relative = kept != 0 and one_sign(span)
    saved = _saved(outcomes, choice)
    return {
        "quality": quality,
        "cost_advantage": float((choice != reference).mean()),
        "quality_drop": (kept - quality) / abs(kept) if relative else None,
        "quality_drop_absolute": kept - quality,
        "cost_saved": saved,
    }


def _saved(outcomes: OutcomeTable, choice: NDArray[np.intp]) -> float | None:
    """Share of the reference's dollars saved by a choice."""
    if outcomes.query_costs_usd is not None:
        paid = np.take_along_axis(outcomes.query_costs_usd, choice[:, None], axis=1).mean()
        whole = outcomes.query_costs_usd[:, -1].mean()
    elif outcomes.costs_usd is not None:
        paid, whole = outcomes.costs_usd[choice].mean(), outcomes.costs_usd[-1]
    else:
        return None
    return float(1 - paid / whole) if whole > 0 else None


def figures_at_dial(
    dial: Dial,
    curve: CalibrationCurve | None,
    rule: Rule,
    scores: NDArray[np.floating],
    outcomes: OutcomeTable,
    at: float | None = None,
) -> dict[str, Any]:
    """Measure one dial.

    Args:
        dial: The dial.
        curve: A calibration on *other* queries; `None` calibrates on one half of these and
            measures on the other, repeated.
        rule: The router's rule.
        scores: Shape (n, k - 1).
        outcomes: The queries' outcomes.
        at: The threshold that the dial stands for, where other queries calibrated; that of the
            curve where not given.

    Returns:
        Name, value, method, threshold, figures and their intervals.
    """
    about = {"name": dial.name, "value": dial.value}
    if dial.name == "threshold" or curve is not None:
        threshold = dial.value if curve is None else curve.resolve(dial) if at is None else at
        samples = _resampled(rule, scores, outcomes, threshold)
        figures = figures_at_threshold(rule, scores, outcomes, threshold)
        how = "the threshold itself" if dial.name == "threshold" else "calibrated on other queries"
        return about | {"method": how, "threshold": threshold} | figures | _intervals(samples)
    samples = _halved(dial, rule, scores, outcomes)
    means = {name: _mean([sample[name] for sample in samples]) for name in samples[0]}
    how = f"calibrated on one half, measured on the other, {HALVINGS} times"
    return about | {"method": how} | means | _intervals(samples)


def _halved(
    dial: Dial, rule: Rule, scores: NDArray[np.floating], outcomes: OutcomeTable
) -> list[dict[str, float | None]]:
    rng = np.random.default_rng(0)
    samples = []
    for _ in range(HALVINGS):
        mixed = rng.permutation(len(outcomes))
        first, second = np.array_split(mixed, 2)
        curve = calibration_curve(rule, scores[first], outcomes.quality[first])
        threshold = curve.resolve(dial)
        measured = figures_at_threshold(rule, scores[second], rows_of(outcomes, second), threshold)
        samples.append(measured)
    return samples


def _resampled(
    rule: Rule, scores: NDArray[np.floating], outcomes: OutcomeTable, threshold: float
) -> list[dict[str, float | None]]:
    rng = np.random.default_rng(0)
    n = len(outcomes)
    draws = (rng.integers(0, n, n) for _ in range(RESAMPLES))
    return [
        figures_at_threshold(rule, scores[rows], rows_of(outcomes, rows), threshold)
        for rows in draws
    ]


def rows_of(outcomes: OutcomeTable, rows: NDArray[np.intp]) -> OutcomeTable:
    """Keep some queries."""
    texts = [outcomes.queries[row] for row in rows]
    per_query = outcomes.query_costs_usd
    return replace(
        outcomes,
        queries=texts,
        quality=outcomes.quality[rows],
        query_costs_usd=None if per_query is None else per_query[rows],
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def _intervals(samples: Sequence[Mapping[str, float | None]]) -> dict[str, Any]:
    return {"intervals": {name: interval([s[name] for s in samples]) for name in samples[0]}}
