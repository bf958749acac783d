"""How wide the band of second looks is, and whether they pay: by the training queries out of fold.

The width is that of the least dollars at equal quality, among those that look at no more than a
share of the queries wherever the threshold stands. Whether it pays is a paired bootstrap against no
looks at all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from shared_router.deciding.looks import follow
from shared_router.measuring.bootstrap import resampled_weights
from shared_router.measuring.second_look import cost_at_equal_quality

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from shared_router.deciding.looks import Band
    from shared_router.serving.second_look import Pairs

SHARES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Shares of queries that are tried, those below `look_share` beside it."""
THRESHOLDS = 120
"""Points of a line."""
PLACES = 1000
"""Thresholds at which the share that is looked at is measured, of several models."""
RESAMPLES = 400
SURE = 0.025
"""Share of resamples in which looks may cost more, for looks that pay."""


@dataclass(frozen=True)
class Width:
    """A width, and what it brings on the training queries."""

    width: float
    share: float
    """Greatest share of queries that are looked at, wherever the threshold stands."""
    saved: float
    """Dollars saved at equal quality, as a share of the reference's, against no looks."""
    interval: tuple[float, float]
    """Of that share, 95 %."""

    @property
    def pays(self) -> bool:
        """Whether looks surely cost less at equal quality."""
        return self.width > 0 and self.interval[0] > 0


def choose_width(pairs: Pairs, band: Band, costs: NDArray[np.float64], look_share: float) -> Width:
    """Choose the width of a band.

    Args:
        pairs: Training queries with both their scores, out of fold.
        band: The band but for its width.
        costs: Mean cost of a call, shape (k,).
        look_share: Greatest share of queries that may be looked at, in (0, 1].
    """
    thresholds = _thresholds(pairs, band)
    plain = _Line(pairs, replace(band, width=0.0), costs, thresholds)
    even = np.ones(len(pairs.scores))
    best, least = Width(0.0, 0.0, 0.0, (0.0, 0.0)), plain.dollars(even)
    found = plain
    for share, width in _widths(pairs.scores, band.savings, look_share):
        line = _Line(pairs, replace(band, width=width), costs, thresholds)
        dollars = line.dollars(even)
        if dollars < least:
            best, least, found = Width(width, share, 0.0, (0.0, 0.0)), dollars, line
    if found is plain:
        return best
    saved = plain.dollars(even) - least
    draws = resampled_weights(len(even), RESAMPLES)
    gains = [plain.dollars(weights) - found.dollars(weights) for weights in draws]
    low, high = np.quantile(gains, [SURE, 1 - SURE])
    return replace(best, saved=float(saved), interval=(float(low), float(high)))


def _widths(
    scores: NDArray[np.float64], savings: Sequence[float], look_share: float
) -> Iterator[tuple[float, float]]:
    """List widths that look at no more than each share, wherever the threshold stands."""
    shares = [*(share for share in SHARES if share < look_share), look_share]
    counts = [int(share * len(scores)) for share in shares]
    widths = _of_pair(scores[:, 0], counts)
    if scores.shape[1] > 1:
        widths = _of_many(scores, np.asarray(savings, dtype=np.float64), counts)
    yield from ((share, w) for share, w in zip(shares, widths, strict=True) if w > 0)


def _of_pair(scores: NDArray[np.float64], counts: Sequence[int]) -> list[float]:
    """Find the greatest width whose band, wherever it lies, holds no more than so many of them."""
    ordered, n = np.sort(scores), len(scores)
    return [
        float(ordered[-1] - ordered[0])
        if count >= n
        else float((ordered[count:] - ordered[: n - count]).min()) / 2
        for count in counts
    ]


def _of_many(
    scores: NDArray[np.float64], savings: NDArray[np.float64], counts: Sequence[int]
) -> list[float]:
    """Find the same of several models: a query is looked at where its best two lie so near."""
    n, least = len(scores), np.full(len(counts), float(np.ptp(scores, axis=0).max()))
    some = np.array([0 < count < n for count in counts])
    wanted = np.array(counts)[some]
    for threshold in _crossings(scores, savings):
        values = np.hstack([scores - threshold * savings[:-1], np.zeros((n, 1))])
        second, best = np.partition(values, -2, axis=1)[:, -2:].T
        least[some] = np.minimum(least[some], np.partition(best - second, wanted)[wanted])
    return [0.0 if count < 1 else float(width) for count, width in zip(counts, least, strict=True)]


def _crossings(scores: NDArray[np.float64], savings: NDArray[np.float64]) -> NDArray[np.float64]:
    """Choose thresholds at which two candidates are worth the same, of some query."""
    both = np.hstack([scores, np.zeros((len(scores), 1))])
    found = [
        (both[:, one] - both[:, other]) / (savings[one] - savings[other])
        for one, other in combinations(range(both.shape[1]), 2)
        if savings[one] != savings[other]
    ]
    return np.unique(np.quantile(np.concatenate(found), np.linspace(0, 1, PLACES)))


def _thresholds(pairs: Pairs, band: Band) -> NDArray[np.float64]:
    both = np.concatenate([pairs.scores.ravel(), pairs.answers.ravel() / band.after])
    inner = np.unique(np.quantile(both, np.linspace(0, 1, THRESHOLDS)))[::-1]
    return np.concatenate([[np.inf], inner, [-np.inf]])


class _Line:
    """Quality and cost of each query along a line."""

    def __init__(
        self,
        pairs: Pairs,
        band: Band,
        costs: NDArray[np.float64],
        thresholds: NDArray[np.float64],
    ) -> None:
        rows = np.arange(len(pairs.scores))
        followed = [follow(band, pairs.scores, pairs.answers, at) for at in thresholds]
        chosen = [pairs.outcomes[rows, each.choice] for each in followed]
        self._quality = np.array(chosen)
        self._cost = np.array([each.costs(costs / costs[-1]) for each in followed])
        self._ends = pairs.outcomes[:, [0, -1]]

    def dollars(self, weights: NDArray[np.float64]) -> float:
        """Return the mean cost at equal quality, as a share of the reference's.

        Args:
            weights: How often each query counts, shape (n,).
        """
        total = weights.sum()
        quality, cost = self._quality @ weights / total, self._cost @ weights / total
        small, large = weights @ self._ends / total
        return cost_at_equal_quality(quality, cost, float(small), float(large))
