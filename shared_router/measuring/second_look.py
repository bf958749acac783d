"""What second looks buy and cost, on recorded answers: each query followed as its call would be.

Beside the line with looks stands the one without, on the same queries and resamples; every call is
counted, those whose answers are thrown away too.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.deciding.looks import follow
from shared_router.measuring.bootstrap import RESAMPLES, interval, resampled_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared_router.deciding.looks import Band
    from shared_router.measuring.bootstrap import Interval

DROPS = (0.01, 0.02, 0.05)
"""Relative drops at which both lines are compared in hindsight."""
POINTS = 200
"""Thresholds of a line."""
LEVELS = 20
LOWEST = 1 / 4
"""Levels of quality at which dollars are compared: from the reference's, so far of the way down to
the cheapest candidate's."""


@dataclass(frozen=True, kw_only=True)
class AtSetting:
    """Figures of one line at its setting of a dial."""

    quality: float
    quality_drop: float | None
    """Relative to all-reference; `None` where that has no meaning."""
    cost_advantage: float
    """Share of the queries that the reference does not answer."""
    cost_saved: float
    """Share of the reference's dollars."""
    looked: float
    """Share of the queries whose answer was looked at."""
    thrown_away: float
    """Share of the queries that waited for an answer that was not given."""
    guarantee: str = "none"
    """What holds of the setting."""
    guarantee_reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class SecondLookReport:
    """Second looks on n queries, beside no looks."""

    n: int
    unit: str
    """`usd`, or `saving` where costs are unknown: then the reference's is 1, the cheapest's 0."""
    saved_at_equal_quality: float
    """Dollars saved by looks at equal quality, as a share of the reference's."""
    saved_at_equal_quality_interval: Interval | None
    cost_saved_at_drop: dict[str, dict[str, float]]
    """In hindsight, by relative drop: `with` looks and `without`."""
    with_looks: AtSetting
    without: AtSetting
    cost_saved_gain: float
    """At the dial: share of the reference's dollars that looks save more."""
    cost_saved_gain_interval: Interval | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Recorded:
    """Queries with scores, answers and outcomes."""

    scores: NDArray[np.float64]
    """Before the call, shape (n, k - 1)."""
    answers: NDArray[np.float64]
    """Of each candidate's recorded answer, shape (n, k - 1)."""
    quality: NDArray[np.float64]
    """Of these answers, and of the reference, shape (n, k)."""
    costs: NDArray[np.float64]
    """Of a call, shape (k,) or (n, k)."""


@dataclass(frozen=True)
class _Along:
    """Quality and cost of each query at one or more thresholds, shapes (t, n)."""

    quality: NDArray[np.float64]
    cost: NDArray[np.float64]

    def means(
        self, weights: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        total = weights.sum()
        return self.quality @ weights / total, self.cost @ weights / total


def measure_looks(
    found: Recorded,
    band: Band,
    settings: tuple[float, float],
    claims: tuple[tuple[str, str | None], tuple[str, str | None]],
    unit: str,
    resamples: int = RESAMPLES,
) -> SecondLookReport:
    """Measure what looks buy and cost.

    Args:
        found: The queries.
        band: The band.
        settings: Thresholds of a dial, with looks and without.
        claims: What holds of both settings.
        unit: Of the costs.
        resamples: Bootstrap resamples behind the intervals.
    """
    plain = replace(band, width=0.0)
    thresholds = _thresholds(found)
    lines = [_along(found, each, thresholds) for each in (band, plain)]
    at = [_along(found, *each) for each in zip((band, plain), settings, strict=True)]
    even, draws = np.ones(len(found.scores)), list(resampled_weights(len(found.scores), resamples))

    def gain(weights: NDArray[np.float64]) -> float:
        with_looks, without = (float(each.means(weights)[1][0]) for each in at)
        return (without - with_looks) / _reference_cost(found, weights)

    def at_equal_quality(weights: NDArray[np.float64]) -> float:
        with_looks, without = (_dollars(found, each, weights) for each in lines)
        return (without - with_looks) / _reference_cost(found, weights)

    figures = [
        _at_setting(found, own, threshold, claim)
        for own, threshold, claim in zip((band, plain), settings, claims, strict=True)
    ]
    return SecondLookReport(
        n=len(found.scores),
        unit=unit,
        saved_at_equal_quality=at_equal_quality(even),
        saved_at_equal_quality_interval=interval([at_equal_quality(w) for w in draws]),
        cost_saved_at_drop={
            f"{drop:g}": {
                name: _saved_at_drop(found, line, drop)
                for name, line in zip(("with", "without"), lines, strict=True)
            }
            for drop in DROPS
        },
        with_looks=figures[0],
        without=figures[1],
        cost_saved_gain=gain(even),
        cost_saved_gain_interval=interval([gain(w) for w in draws]),
    )


def _thresholds(found: Recorded) -> NDArray[np.float64]:
    known = np.concatenate([found.scores.ravel(), found.answers[np.isfinite(found.answers)]])
    inner = np.unique(np.quantile(known, np.linspace(0, 1, POINTS)))[::-1]
    return np.concatenate([[np.inf], inner, [-np.inf]])


def _along(found: Recorded, band: Band, thresholds: NDArray[np.float64] | float) -> _Along:
    rows = np.arange(len(found.scores))
    every = [follow(band, found.scores, found.answers, at) for at in np.atleast_1d(thresholds)]
    return _Along(
        np.array([found.quality[rows, each.choice] for each in every]),
        np.array([each.costs(found.costs) for each in every]),
    )


def _reference_cost(found: Recorded, weights: NDArray[np.float64]) -> float:
    each = np.broadcast_to(found.costs, found.quality.shape)[:, -1]
    return float(weights @ each / weights.sum())


def _dollars(found: Recorded, line: _Along, weights: NDArray[np.float64]) -> float:
    """Return the mean cost at equal quality."""
    small, large = (float(weights @ found.quality[:, at] / weights.sum()) for at in (0, -1))
    return cost_at_equal_quality(*line.means(weights), small, large)


def cost_at_equal_quality(
    quality: NDArray[np.float64], cost: NDArray[np.float64], small: float, large: float
) -> float:
    """Return the mean over levels of quality of the least cost that reaches each.

    Args:
        quality: Along a line, shape (t,).
        cost: Likewise.
        small: Quality of the cheapest candidate alone.
        large: Quality of the reference alone, which the line reaches.
    """
    levels = np.linspace(large, min(large, large - LOWEST * (large - small)), LEVELS)
    enough = quality[None, :] >= levels[:, None] - 1e-12
    return float(np.where(enough, cost[None, :], np.inf).min(axis=1).mean())


def _saved_at_drop(found: Recorded, line: _Along, drop: float) -> float:
    even = np.ones(len(found.scores))
    quality, cost = line.means(even)
    kept = float(found.quality[:, -1].mean())
    enough = quality >= kept - drop * abs(kept) - 1e-12
    return 1 - float(cost[enough].min()) / _reference_cost(found, even)


def _at_setting(
    found: Recorded, band: Band, threshold: float, claim: tuple[str, str | None]
) -> AtSetting:
    followed = follow(band, found.scores, found.answers, threshold)
    rows, kept = np.arange(len(found.scores)), float(found.quality[:, -1].mean())
    quality = float(found.quality[rows, followed.choice].mean())
    paid = float(followed.costs(found.costs).mean())
    reference = found.quality.shape[1] - 1
    return AtSetting(
        quality=quality,
        quality_drop=(kept - quality) / kept if kept > 0 and found.quality.min() >= 0 else None,
        cost_advantage=float((followed.choice != reference).mean()),
        cost_saved=1 - paid / _reference_cost(found, np.ones(len(rows))),
        looked=float(followed.looked.mean()),
        thrown_away=float(followed.thrown_away.mean()),
        guarantee=claim[0],
        guarantee_reason=claim[1],
    )
