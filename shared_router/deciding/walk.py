"""Walking a rule's line over queries with known outcomes, from all-reference to all-cheapest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared_router.deciding.rule import Rule

LAST_BITS = 1e-9
"""Thresholds closer than this share of the greatest score are one: rounding alone parts them."""


class Walk:
    """Scores sorted once; each bootstrap resample only re-weighs the queries.

    Args:
        rule: The rule.
        scores: Shape (n, k - 1).
        quality: Mean quality, shape (n, k), the reference last.
    """

    def __init__(
        self, rule: Rule, scores: NDArray[np.floating], quality: NDArray[np.float64]
    ) -> None:
        at, query, source, target = rule.events(scores)
        order = np.argsort(-at, kind="stable")
        falling = at[order]
        apart = falling[:-1] - falling[1:] > LAST_BITS * float(np.abs(scores).max(initial=0.0))
        self._starts = np.flatnonzero(np.concatenate([[True], apart]))
        self._query = query[order]
        self._change = (quality[query, target] - quality[query, source])[order]
        self._left = (source == quality.shape[1] - 1).astype(np.float64)[order]
        self._reference = quality[:, -1]
        self.thresholds: NDArray[np.float64] = _midway(falling, self._starts)
        """Between the changes of choice: infinite, then midway, then minus infinite, (m + 1,)."""
        self.quality_range = (float(quality.min()), float(quality.max()))
        """Least and greatest quality of any candidate on any query."""
        self.n = len(scores)
        """Number of queries."""

    def line(
        self, weights: NDArray[np.float64] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Measure the line, each query counted `weights` times (once where not given).

        Returns:
            Cost advantage and mean quality, each of shape (m + 1,); point 0 is all-reference.
        """
        weights = np.ones(self.n) if weights is None else weights
        total = weights.sum()
        of_event = weights[self._query]
        start = float(weights @ self._reference / total)
        shares = self._summed(of_event * self._left) / total
        return shares, start + self._summed(of_event * self._change) / total

    def _summed(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([[0.0], np.cumsum(np.add.reduceat(values, self._starts))])


def _midway(falling: NDArray[np.float64], starts: NDArray[np.intp]) -> NDArray[np.float64]:
    """Place thresholds midway between neighbouring changes, so that last bits never matter."""
    nexts = starts[1:]
    return np.concatenate([[np.inf], (falling[nexts - 1] + falling[nexts]) / 2, [-np.inf]])


def one_sign(quality_range: tuple[float, float]) -> bool:
    """Tell whether all qualities have one sign, so that a relative drop has a meaning."""
    low, high = quality_range
    return low >= 0 or high <= 0
