"""How wide the band of second looks is, and whether they pay: by the training queries out of fold.

The width is that of the least dollars at equal quality, among those that look at no more than a
share of the queries wherever the threshold stands. Whether it pays is a paired bootstrap against no
looks at all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from shared_router.deciding.looks import follow
from shared_router.measuring.bootstrap import resampled_weights
from shared_router.measuring.second_look import cost_at_equal_quality

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from shared_router.deciding.looks import Band
    from shared_router.serving.second_look import Pairs

SHARES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Shares of queries that are tried, those below `look_share` beside it."""
THRESHOLDS = 120
"""Points of a line."""
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
    for share, width in _widths(pairs.scores, look_share):
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


def _widths(scores: NDArray[np.float64], look_share: float) -> Iterator[tuple[float, float]]:
    """List widths that look at no more than each share, wherever the threshold stands."""
    shares = [share for share in SHARES if share < look_share]
    for share in [*shares, look_share]:
        widths = [_width(np.sort(column), share) for column in scores.T]
        if (width := min(widths)) > 0:
            yield share, width


def _width(ordered: NDArray[np.float64], share: float) -> float:
    """Find the greatest width whose band, wherever it lies, holds no more than a share of them."""
    count = int(share * len(ordered))
    if count >= len(ordered):
        return float(ordered[-1] - ordered[0])
    if count < 1:
        return 0.0
    return float((ordered[count:] - ordered[: len(ordered) - count]).min()) / 2


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
