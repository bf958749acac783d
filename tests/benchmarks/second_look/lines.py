"""Lines of decisions between two models that may look at the cheaper one's answer first.

A query stands under two thresholds. As one threshold falls, it goes from the reference alone to
the cheaper model, whose answer is scored (*look*), and from there to that answer given (*accept*).
Between the two both models are paid. A router that reads the query alone has the two at one place;
a cascade looks at every query from the start.

Nothing here calls the library's own walk along such a line: what it measures is measured twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shared_router.measuring.bootstrap import interval, resampled_weights
from shared_router.measuring.cost_quality import CostQuality

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

RESAMPLES = 500


@dataclass(frozen=True)
class Pair:
    """A cheaper model and its reference on the same queries."""

    quality: Floats
    """Shape (n, 2), the reference last."""
    cost_usd: Floats
    """What a call of each costs on each query, shape (n, 2)."""


@dataclass(frozen=True)
class Setting:
    """One threshold."""

    cost_usd: float
    """Mean cost of a query, every call counted."""
    looked: float
    """Share of queries whose answer is scored before it is given."""
    thrown_away: float
    """Share of queries that wait for an answer that is not given."""


class LookLine:
    """One line, sorted once; each resample only re-weighs the queries.

    Args:
        pair: The models.
        look: Threshold at and below which the cheaper model is asked, shape (n,).
        accept: Threshold at and below which its answer is given, shape (n,), at most `look`.
        blind: Threshold at and below which it is given unseen, shape (n,), at most `accept`.
    """

    def __init__(self, pair: Pair, look: Floats, accept: Floats, blind: Floats) -> None:
        if (accept > look).any() or (blind > accept).any():
            raise ValueError("an answer is asked for, then accepted: blind <= accept <= look.")
        small, reference = pair.cost_usd.T
        nothing, one = np.zeros(len(look)), np.ones(len(look))
        at = np.concatenate([look, accept, blind])
        order = np.argsort(-at, kind="stable")
        self._query = np.tile(np.arange(len(look)), 3)[order]
        falling = at[order]
        self._starts = np.flatnonzero(np.concatenate([[True], falling[1:] != falling[:-1]]))
        gap = pair.quality[:, 0] - pair.quality[:, 1]
        self._changes = {
            "cost": np.concatenate([small, -reference, nothing])[order],
            "quality": np.concatenate([nothing, gap, nothing])[order],
            "thrown": np.concatenate([one, -one, nothing])[order],
            "looked": np.concatenate([one, nothing, -one])[order],
        }
        self._from = {"cost": reference, "quality": pair.quality[:, 1]}

    @classmethod
    def unseen(cls, pair: Pair, at: Floats) -> LookLine:
        """Make the line that reads the query alone."""
        return cls(pair, at, at, at)

    @classmethod
    def cascade(cls, pair: Pair, signal: Floats) -> LookLine:
        """Make the line that looks at every answer, and gives those of a high signal."""
        every = np.full(len(signal), np.inf)
        return cls(pair, every, signal, -every)

    def along(self, what: str, weights: Floats) -> Floats:
        """Sum one thing at every setting, from the reference alone, shape (m + 1,)."""
        changes = np.add.reduceat(weights[self._query] * self._changes[what], self._starts)
        start = weights @ self._from[what] if what in self._from else 0.0
        found: Floats = (start + np.concatenate([[0.0], np.cumsum(changes)])) / weights.sum()
        return found

    def hull(self, weights: Floats) -> CostQuality:
        """Measure what can be had at every cost."""
        return CostQuality.of(self.along("cost", weights), self.along("quality", weights))

    def cheapest(self, least_quality: float, weights: Floats) -> Setting:
        """Find the cheapest threshold, without a coin, that keeps a quality in hindsight."""
        cost = self.along("cost", weights)
        enough = self.along("quality", weights) >= least_quality - 1e-12
        at = int(np.argmin(np.where(enough, cost, np.inf)))
        looked, thrown = (self.along(what, weights)[at] for what in ("looked", "thrown"))
        return Setting(float(cost[at]), float(looked), float(thrown))


@dataclass(frozen=True)
class Figures:
    """One line, averaged over the seeds."""

    aiq: float
    """Mean quality over the costs from the cheaper model's to the reference's."""
    saved: dict[float, float]
    """By drop in quality: share of the reference's dollars saved, in hindsight."""
    looked: dict[float, float]
    """By drop: share of queries whose answer is scored, at the cheapest setting that keeps it."""
    thrown_away: dict[float, float]
    """By drop: share of queries that wait for an answer that is not given, there."""
    aiq_interval: tuple[float, float] | None
    aiq_lead: tuple[float, float] | None
    """Paired interval of its area less that of the first line."""
    aiq_lead_mean: float
    saved_lead: dict[float, tuple[float, float] | None]
    """By drop: paired interval of what it saves less what the first line saves."""


def measure(
    lines: Mapping[str, Sequence[LookLine]],
    pair: Pair,
    drops: Sequence[float],
    resamples: int = RESAMPLES,
) -> dict[str, Figures]:
    """Measure lines on the same resamples of the queries; leads are over the first.

    Args:
        lines: By name, one line per seed.
        pair: The models.
        drops: Relative drops in quality.
        resamples: Bootstrap resamples behind the intervals.
    """
    once = np.ones(len(pair.quality))
    whole = {name: _figures(each, pair, drops, once) for name, each in lines.items()}
    drawn: dict[str, list[Floats]] = {name: [] for name in lines}
    for weights in resampled_weights(len(once), resamples):
        for name, each in lines.items():
            drawn[name].append(_figures(each, pair, drops, weights))
    first = next(iter(lines))
    base = np.array(drawn[first])
    return {
        name: _reported(
            lines[name], pair, drops, whole[name], whole[first], np.array(drawn[name]), base
        )
        for name in lines
    }


def _figures(
    lines: Sequence[LookLine], pair: Pair, drops: Sequence[float], weights: Floats
) -> Floats:
    """Compute the area and what is saved at each drop, means over the seeds."""
    share = weights / weights.sum()
    (low, high), best = share @ pair.cost_usd, float(share @ pair.quality[:, 1])
    found = []
    for line in lines:
        hull = line.hull(weights)
        costs = [hull.cost_of(best - drop * abs(best)) for drop in drops]
        saved = [0.0 if cost is None else 1 - cost / high for cost in costs]
        found.append([hull.aiq(low, high) or 0.0, *saved])
    return np.mean(found, axis=0)


def _reported(
    lines: Sequence[LookLine],
    pair: Pair,
    drops: Sequence[float],
    whole: Floats,
    first: Floats,
    drawn: Floats,
    base: Floats,
) -> Figures:
    once, best = np.ones(len(pair.quality)), float(pair.quality[:, 1].mean())
    at = {d: [each.cheapest(best - d * abs(best), once) for each in lines] for d in drops}
    leads = [interval(list(column)) for column in (drawn - base).T]
    return Figures(
        aiq=float(whole[0]),
        saved=dict(zip(drops, map(float, whole[1:]), strict=True)),
        looked={d: float(np.mean([each.looked for each in found])) for d, found in at.items()},
        thrown_away={
            d: float(np.mean([each.thrown_away for each in found])) for d, found in at.items()
        },
        aiq_interval=interval(list(drawn[:, 0])),
        aiq_lead=leads[0],
        aiq_lead_mean=float(whole[0] - first[0]),
        saved_lead=dict(zip(drops, leads[1:], strict=True)),
    )
