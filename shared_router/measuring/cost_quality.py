"""Quality against cost: one curve for any number of candidates, and the area under it.

A line of decisions costs between all-reference and all-cheapest. What can be had at a cost is its
non-decreasing convex hull: between two settings, a coin decides which of them serves a call.
Source: RouterBench (Hu et al., 2024), which names the area under it AIQ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.deciding.walk import Walk, one_sign
from shared_router.measuring.bootstrap import interval, resampled_weights
from shared_router.measuring.metrics import DROPS, nested_figures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from shared_router.deciding.rule import Rule

SAVED = (0.2, 0.4, 0.6, 0.8)
"""Shares of the reference's cost saved at which quality is reported."""
SHOWN = 11
"""Points of the reported curve."""

SINGLE_MODELS = "single_models"
"""The hull of the candidates themselves: the best mixture that looks at no query."""


@dataclass(frozen=True)
class Prices:
    """What calls cost."""

    per_query: NDArray[np.float64]
    """Cost of every candidate on every query, shape (n, k), the reference last."""
    unit: str
    """`usd`, or `relative`: 0 for the cheapest candidate, 1 for the reference."""


def prices_of(
    costs_usd: NDArray[np.float64] | None, savings: NDArray[np.float64], n: int
) -> Prices | None:
    """Find what evaluation may call a cost.

    Args:
        costs_usd: Per query and candidate, shape (n, k), or mean per candidate, shape (k,).
        savings: Saving per candidate, shape (k,).
        n: Number of queries.

    Returns:
        Dollars where they are known and not all 0; else relative costs where there are three or
        more candidates; else `None`, as the cost advantage of two says all.
    """
    if costs_usd is not None and costs_usd.max() > 0:
        whole = np.broadcast_to(costs_usd, (n, costs_usd.shape[-1]))
        return Prices(np.asarray(whole, dtype=np.float64), "usd")
    if len(savings) > 2:
        return Prices(np.tile(1.0 - savings, (n, 1)), "relative")
    return None


@dataclass(frozen=True)
class CostQuality:
    """A non-decreasing convex hull of (cost, quality)."""

    cost: NDArray[np.float64]
    """Rising, shape (m,)."""
    quality: NDArray[np.float64]
    """Rising, shape (m,)."""

    @classmethod
    def of(cls, cost: NDArray[np.float64], quality: NDArray[np.float64]) -> CostQuality:
        """Take the hull of points in any order, shapes (p,)."""
        order = np.lexsort((-quality, cost))
        x, y = cost[order], quality[order]
        better = np.concatenate([[True], y[1:] > np.maximum.accumulate(y)[:-1]])
        x, y = x[better], y[better]
        while True:
            under = _under_neighbours(x, y)
            if not under.any():
                return cls(x, y)
            x, y = x[~under], y[~under]

    def at(self, cost: float) -> float | None:
        """Quality that can be had at a cost; `None` below the cheapest point."""
        if cost < self.cost[0] - 1e-12 * max(abs(cost), 1e-12):
            return None
        return float(np.interp(cost, self.cost, self.quality))

    def cost_of(self, quality: float) -> float | None:
        """Least cost at which a quality can be had; `None` where it cannot."""
        if quality > self.quality[-1] + 1e-12:
            return None
        return float(np.interp(quality, self.quality, self.cost))

    def aiq(self, low: float, high: float) -> float | None:
        """Compute the mean quality over a range of costs.

        Below its cheapest point the curve has nothing to offer and counts 0; above its dearest
        it stays flat.

        Args:
            low: Least cost of the range.
            high: Greatest cost of the range.

        Returns:
            The area under the curve over the range, divided by its width; `None` for a range
            without width.

        Source: RouterBench (Hu et al., 2024), section 3.3.
        """
        if not high > low:
            return None
        inside = self.cost[(self.cost > low) & (self.cost < high)]
        start = max(low, float(self.cost[0]))
        if start >= high:
            return 0.0
        x = np.concatenate([[start], inside[inside > start], [high]])
        y = np.interp(x, self.cost, self.quality)
        return float(np.trapezoid(y, x) / (high - low))


def _under_neighbours(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Find points on or under the chord of their neighbours: none of them is on the hull."""
    under = np.zeros(len(x), dtype=bool)
    if len(x) > 2:
        rise, run = np.diff(y), np.diff(x)
        under[1:-1] = rise[:-1] * run[1:] <= rise[1:] * run[:-1]
    return under


class CostLine:
    """A line of decisions, measured in quality and in cost on any resample of its queries.

    Args:
        rule: The rule.
        scores: Shape (n, k - 1).
        quality: Mean quality, shape (n, k).
        cost: Shape (n, k).
    """

    def __init__(
        self,
        rule: Rule,
        scores: NDArray[np.floating],
        quality: NDArray[np.float64],
        cost: NDArray[np.float64],
    ) -> None:
        self._quality = Walk(rule, scores, quality)
        self._cost = Walk(rule, scores, cost)

    def points(
        self, weights: NDArray[np.float64] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Measure every setting: cost, quality and cost advantage, each of shape (m + 1,)."""
        shares, quality = self._quality.line(weights)
        return self._cost.line(weights)[1], quality, shares

    def hull(self, weights: NDArray[np.float64] | None = None) -> CostQuality:
        """Measure what can be had at every cost."""
        cost, quality, _ = self.points(weights)
        return CostQuality.of(cost, quality)


@dataclass(frozen=True)
class Range:
    """The common range of costs, and the reference that drops and savings are told against."""

    low: float
    """Mean cost of the cheapest candidate."""
    high: float
    """Mean cost of the reference."""
    quality: float
    """Mean quality of the reference."""
    relative: bool
    """Whether a relative drop has a meaning."""


def figures_of(hull: CostQuality, within: Range) -> dict[str, float | None]:
    """Compute the figures of one curve, flat: the keys of a nested one are joined by `@`."""
    found = {"aiq": hull.aiq(within.low, within.high)}
    for share in SAVED:
        found[f"quality_at_cost_saved@{share:g}"] = hull.at(within.high * (1 - share))
    for drop in DROPS:
        least = hull.cost_of(within.quality - drop * abs(within.quality))
        saved = None if least is None or not within.relative else 1 - least / within.high
        found[f"cost_saved_at_drop@{drop:g}"] = saved
    return found


def hulls_of(
    lines: Mapping[str, CostLine],
    quality: NDArray[np.float64],
    cost: NDArray[np.float64],
    weights: NDArray[np.float64] | None = None,
) -> tuple[dict[str, CostQuality], Range]:
    """Measure every line, and the candidates themselves, on one resample.

    Returns:
        The hulls by name, `single_models` among them, and the range of costs.
    """
    share = np.full(len(quality), 1 / len(quality)) if weights is None else weights / weights.sum()
    means, costs = share @ quality, share @ cost
    hulls = {name: line.hull(weights) for name, line in lines.items()}
    hulls[SINGLE_MODELS] = CostQuality.of(costs, means)
    relative = one_sign((float(quality.min()), float(quality.max()))) and bool(means[-1] != 0)
    return hulls, Range(float(costs.min()), float(costs[-1]), float(means[-1]), relative)


def cost_quality(
    lines: Mapping[str, CostLine],
    candidates: Sequence[str],
    quality: NDArray[np.float64],
    prices: Prices,
    resamples: int,
) -> dict[str, Any]:
    """Compare lines by cost and quality, on the same resamples of the queries.

    Args:
        lines: The router's under `router`, and baselines.
        candidates: Names, the reference last.
        quality: Mean quality, shape (n, k).
        prices: What calls cost.
        resamples: Bootstrap resamples behind the intervals.

    Returns:
        The unit and range of costs; every candidate with its own cost, quality and AIQ; per line
        its figures, their intervals and the paired interval of the router's lead in AIQ; and
        points of the router's curve.
    """
    hulls, within = hulls_of(lines, quality, prices.per_query)
    samples: dict[str, list[dict[str, float | None]]] = {name: [] for name in hulls}
    for weights in resampled_weights(len(quality), resamples):
        drawn, span = hulls_of(lines, quality, prices.per_query, weights)
        for name, hull in drawn.items():
            samples[name].append(figures_of(hull, span))
    found = {name: _reported(hull, within, samples[name]) for name, hull in hulls.items()}
    for name, own in found.items():
        if name != "router":
            own["router_lead_aiq"] = _lead(samples["router"], samples[name])
    means, costs = quality.mean(axis=0), prices.per_query.mean(axis=0)
    return {
        "unit": prices.unit,
        "range": [within.low, within.high],
        "candidates": {
            name: _single(float(c), float(q), within)
            for name, c, q in zip(candidates, costs, means, strict=True)
        },
        "router": found.pop("router"),
        "baselines": found,
        "curve": _curve(lines["router"]),
    }


def _single(cost: float, quality: float, within: Range) -> dict[str, float | None]:
    alone = CostQuality(np.array([cost]), np.array([quality]))
    return {"cost": cost, "quality": quality, "aiq": alone.aiq(within.low, within.high)}


def _reported(
    hull: CostQuality, within: Range, samples: Sequence[Mapping[str, float | None]]
) -> dict[str, Any]:
    figures = figures_of(hull, within)
    intervals = {name: interval([sample[name] for sample in samples]) for name in figures}
    return nested_figures(figures) | {"intervals": nested_figures(intervals)}


def _lead(
    router: Sequence[Mapping[str, float | None]], other: Sequence[Mapping[str, float | None]]
) -> tuple[float, float] | None:
    leads = [
        None if a["aiq"] is None or b["aiq"] is None else a["aiq"] - b["aiq"]
        for a, b in zip(router, other, strict=True)
    ]
    return interval(leads)


def _curve(line: CostLine) -> list[dict[str, float]]:
    """Pick settings of the line evenly by cost, from all-reference to all-cheapest."""
    cost, quality, shares = line.points()
    wanted = np.linspace(cost[0], cost[-1], SHOWN)
    at = sorted({int(np.argmin(np.abs(cost - each))) for each in wanted})
    return [
        {"cost": float(cost[i]), "quality": float(quality[i]), "cost_advantage": float(shares[i])}
        for i in at
    ]
