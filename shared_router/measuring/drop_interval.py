"""Both ends of a quality drop: the promise's own test, inverted upwards and downwards.

A promise asks whether a drop is less than a limit. Asked of every limit, the same test bounds the
drop from above; asked of the loss turned round, from below. Either end may lie on either side of
0, as a routed model may be the better one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from shared_router.deciding.bets import least_mean, upper_means
from shared_router.deciding.evidence import absolute_range
from shared_router.deciding.paired_test import (
    critical_values,
    critical_values_above,
    least_share,
    normal_quantiles,
    score_statistic,
)
from shared_router.deciding.promise import OF_REFERENCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from shared_router.deciding.evidence import Evidence

Ends = tuple[float, float]
"""Lower and upper end."""
DEEPEST = 0.5
"""How far below the normal quantile a critical value is looked for first."""
LIMITS = 9
"""Limits among which an end is looked for there, and as many beyond."""
NEAREST_ZERO = 1e-9
"""The limit in place of 0, where the statistic has no value."""
LAST_BITS = 1e-8
"""How far below its critical value a statistic counts as less: ties are not."""
STEPS = 300
"""Limits among which an end of graded quality is looked for near the mean."""
FAR = 10.0
"""Standard errors from the mean within which they lie."""


def drop_interval(
    evidence: Evidence, error: float, *, relative: bool, limit: float | None = None
) -> Ends:
    """Bound a quality drop from both sides.

    Args:
        evidence: Losses of the routed queries; those that stay at the reference lost 0.
        error: Probability that one end does not hold; together at most twice that.
        relative: Whether the drop is told relative to the reference's mean. Its bounds then count
            in, so that the interval is a little wide.
        limit: A limit that is compared with the interval, tested to the digit.

    Returns:
        Lower and upper end, a fraction or in the metric's units.
    """
    if not relative:
        also = [] if limit is None else [limit / evidence.span]
        low, high = _ends(evidence, error, also)
        return low * evidence.span, high * evidence.span
    least, most = reference_interval(evidence, error * OF_REFERENCE)
    also = [] if limit is None else [limit * each / evidence.span for each in (least, most)]
    low, high = _ends(evidence, error * (1 - OF_REFERENCE), also)
    ends = (
        _divided(low * evidence.span, most if low > 0 else least),
        _divided(high * evidence.span, least if high > 0 else most),
    )
    return (ends[0], min(1.0, ends[1])) if evidence.bounds[0] >= 0 else ends


def _divided(drop: float, by: float) -> float:
    if by > 0:
        return drop / by
    return math.copysign(math.inf, drop) if drop else 0.0


def reference_interval(evidence: Evidence, error: float) -> Ends:
    """Bound the reference's absolute mean quality from both sides, in the metric's units."""
    least, most = absolute_range(evidence.bounds)
    values = evidence.reference
    if evidence.method == "paired":
        right, n = int(values.sum()), len(values)
        low, high = least_share(right, n, error), 1 - least_share(n - right, n, error)
    else:
        low = least_mean(values, error, evidence.weights)
        high = 1 - least_mean(1 - values, error, evidence.weights)
    return least + (most - least) * low, least + (most - least) * high


def share_interval(count: int, n: int, error: float) -> Ends:
    """Bound a share of n queries from both sides, each end at an error.

    Source: Clopper and Pearson, Biometrika 26 (1934).
    """
    return least_share(count, n, error), 1 - least_share(n - count, n, error)


def _ends(evidence: Evidence, error: float, also: Sequence[float]) -> Ends:
    """Bound the mean loss, in parts of the range."""
    turned = [-limit for limit in also]
    if evidence.method == "bets":
        losses, weights = evidence.losses, evidence.weights
        return -_most_bet(-losses, weights, error, turned), _most_bet(losses, weights, error, also)
    n = len(evidence.losses)
    lost, gained = (int((evidence.losses == sign).sum()) for sign in (1.0, -1.0))
    return -most_lost(gained, lost, n, error, turned), most_lost(lost, gained, n, error, also)


def most_lost(lost: int, gained: int, n: int, error: float, also: Sequence[float] = ()) -> float:
    """Bound the mean loss of right-or-wrong quality from above, by the exact paired test.

    Args:
        lost: Queries whose quality was lost.
        gained: Queries whose quality was gained.
        n: All queries.
        error: Probability that the bound does not hold.
        also: Limits that are asked for.

    Returns:
        The least limit in (-1, 1) from which on all are rejected; 1 where none is.
    """
    quantile = float(normal_quantiles(np.array([error]))[0])
    near, deep = (_limit_at(lost, gained, n, z) for z in (quantile, quantile - DEEPEST))
    looked = [*np.linspace(near, deep, LIMITS), *np.linspace(deep, 1.0, LIMITS)[1:-1]]
    looked = sorted({*looked, *(limit for limit in also if near < limit < 1)})
    found = 1.0
    for limit in reversed(looked):
        if not _less(lost, gained, n, error, float(limit)):
            break
        found = float(limit)
    return found


def _limit_at(lost: int, gained: int, n: int, z: float) -> float:
    """Find the limit at which the statistic, which falls with the limit, has a value."""
    low, high = -1.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _statistic(lost, gained, n, middle) > z else (low, middle)
    return high


def _statistic(lost: int, gained: int, n: int, limit: float) -> float:
    if limit < 0:
        return -_statistic(gained, lost, n, -limit)
    drop = np.array([min(max(limit, NEAREST_ZERO), 1 - NEAREST_ZERO)])
    return float(score_statistic(np.array([lost * 1.0]), np.array([gained * 1.0]), n, drop)[0])


def _less(lost: int, gained: int, n: int, error: float, limit: float) -> bool:
    """Tell whether the mean loss is shown to be less than a limit."""
    drop = min(max(abs(limit), NEAREST_ZERO), 1 - NEAREST_ZERO)
    if limit < 0:
        critical = -float(critical_values_above(n, drop, [error])[0])
    else:
        critical = float(critical_values(n, drop, [error])[0])
    return _statistic(lost, gained, n, limit) < critical - LAST_BITS


def _most_bet(
    losses: NDArray[np.float64], weights: NDArray[np.float64], error: float, also: Sequence[float]
) -> float:
    """Bound the weighted mean of losses in [-1, 1] from above, by bets.

    Betting on a loss is betting on its place in the range, so that limits below 0 are limits too.
    """
    mean = float(np.average(losses, weights=weights))
    spread = math.sqrt(float(np.average((losses - mean) ** 2, weights=weights)) / len(losses))
    near = np.linspace(mean, min(1.0, mean + FAR * spread + FAR / len(losses)), STEPS)
    asked = (1 + np.append(near, np.asarray(also, dtype=np.float64))) / 2
    nothing = np.zeros((1, len(losses)), dtype=bool)
    found = upper_means((1 + losses) / 2, nothing, 1.0, [error], weights=weights, also=list(asked))
    return min(1.0, 2 * float(found[0, 0]) - 1)
