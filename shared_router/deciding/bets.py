"""Bounds on the mean loss of any bounded quality, by a mixture of bets.

Whoever bets against "the mean loss is at least d", a little on each query, gets rich only where it
is less: reaching a fortune of 1 / error has at most that probability. A mixture over how much is
put in each time needs no tuning. Valid for any bounded quality, and weaker than the exact test.

Source: Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting (JRSS B,
2024), section 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shared_router.deciding.paired_test import LIMITS, from_here_on

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

STAKES = np.geomspace(0.01, 0.98, 14)
"""What is put in each time, as a part of what could be lost."""
TYPICAL_SPREAD, TIMES = 0.3, 2.5
"""Standard deviation of a loss for which stakes are best, and how many times away one has still
half of the weight in the mixture."""


@dataclass(frozen=True)
class Losses:
    """What the settings of a walk lose: each routes what those before it do, and more."""

    losses: NDArray[np.float64]
    """Loss of each query where it is routed, shape (n,), each in [-1, 1]."""
    unit: NDArray[np.float64]
    """What a limit is a part of, per query, shape (n,), each at least 0: 1, or the reference's
    quality."""
    weights: NDArray[np.float64]
    """What each query counts, shape (n,)."""
    first: NDArray[np.intp]
    """The first setting that routes each query, shape (n,)."""
    settings: int
    """How many settings there are, m; a query that none routes has m as its first."""


def upper_means(found: Losses, errors: Sequence[float]) -> NDArray[np.float64]:
    """Bound the mean loss at each setting from above, as a part of the mean unit.

    Args:
        found: The losses.
        errors: Probabilities that a bound does not hold.

    Returns:
        Shape (m, errors): the least of `LIMITS` from which on all are rejected; infinite where
        none is.
    """
    by_setting = np.argsort(found.first, kind="stable")
    share = found.weights[by_setting] / found.weights.max()
    ends = np.searchsorted(found.first[by_setting], np.arange(found.settings), side="right")
    lost, unit = found.losses[by_setting] * share, found.unit[by_setting] * share
    grown = np.stack([_grown(lost, limit * unit, ends) for limit in LIMITS], axis=1)
    mixtures = [_mixture(len(lost), error) for error in errors]
    bounds = [
        from_here_on(_mixed(grown, mixture) >= -math.log(error))
        for mixture, error in zip(mixtures, errors, strict=True)
    ]
    return np.stack(bounds, axis=1)


def log_fortune(excess: NDArray[np.float64], error: float) -> float:
    """Compute the logarithm of what bets against "the mean is at least 0" make of 1.

    Args:
        excess: What each query lost beyond a limit, shape (n,), each at most 1.
        error: The error whose inverse the fortune is to reach.
    """
    grown = np.log1p(-STAKES * excess[:, None]).sum(axis=0)
    return float(_mixed(grown, _mixture(len(excess), error)))


def _grown(
    lost: NDArray[np.float64], expected: NDArray[np.float64], ends: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Compute the logarithm of each stake's fortune at each setting, shape (m, stakes)."""
    idle = np.log1p(STAKES * expected[:, None])
    routed = np.log1p(STAKES * (expected - lost)[:, None])
    changed = np.vstack([np.zeros((1, len(STAKES))), np.cumsum(routed - idle, axis=0)])
    fortunes: NDArray[np.float64] = idle.sum(axis=0) + changed[ends]
    return fortunes


def _mixture(n: int, error: float) -> NDArray[np.float64]:
    """Weigh the stakes: those that are best for typical losses most.

    Of all stakes, `sqrt(2 log(1 / error) / n)` over the losses' standard deviation needs the
    least evidence.
    """
    best = min(1.0, math.sqrt(-2 * math.log(error) / n) / TYPICAL_SPREAD)
    weights = 1 / (1 + (np.log(STAKES / best) / math.log(TIMES)) ** 2)
    normed: NDArray[np.float64] = weights / weights.sum()
    return normed


def _mixed(grown: NDArray[np.float64], mixture: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the logarithm of the mixture's fortune, over the last axis."""
    most = grown.max(axis=-1)
    mixed: NDArray[np.float64] = most + np.log(np.exp(grown - most[..., None]) @ mixture)
    return mixed
