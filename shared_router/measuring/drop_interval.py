"""Both ends of a quality drop: the promise's own test, inverted upwards and downwards.

A promise asks whether a drop is less than a limit. Asked of every limit, the same test bounds the
drop from above. Of the two models with their roles changed, it bounds it from below: what one of
them loses the other gains. Either end may lie on either side of 0, as a routed model may be the
better one.

Limits lie on a grid that no outcome has a say in. An end is the limit from which on all are
rejected, so that it lies on the wrong side of the truth with at most the error of one test.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from shared_router.deciding.bets import log_fortune
from shared_router.deciding.evidence import absolute_range, counted
from shared_router.deciding.paired_test import (
    FEW_QUERIES,
    MOST_EXPECTED,
    CriticalValues,
    critical_values,
    normal_quantiles,
    score_statistic,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared_router.deciding.evidence import Evidence

Ends = tuple[float, float]
"""Lower and upper end."""
LEAST_STEP, STEP = 0.1, 0.08
"""Steps of the grid in queries lost: at least so many, and so many roots of what is lost."""
NEAREST_ZERO = 1e-9
"""The limit in place of 0, where the statistic has no value."""
DEEPEST, WHOLE_WALK = 0.6, 100
"""How far from the normal quantile a critical value can lie at most, with more queries than so
many; with fewer, every limit is tested."""
UPPER_MARGIN, OF_SQUARE = 0.06, 0.02
"""Beyond what is enumerated, a critical value of the other tail is the normal quantile and so much,
with so much of its square: enumeration finds it at most so high."""


def drop_interval(
    evidence: Evidence, error: float, *, relative: bool, limit: float | None = None
) -> Ends:
    """Bound a quality drop from both sides.

    Args:
        evidence: Losses of the routed queries; those that stay at the reference lost 0.
        error: Probability that one end does not hold; together at most twice that.
        relative: Whether the drop is told relative to the reference's mean.
        limit: A limit that is compared with the interval, tested to the digit.

    Returns:
        Lower and upper end, a fraction or in the metric's units; an end may be infinite.
    """
    if evidence.method == "bets" or (relative and evidence.bounds[0] != 0):
        return _bet_ends(evidence, error, relative, limit)
    losses, counts, span = evidence.losses, evidence.counts, 1.0 if relative else evidence.span
    n = evidence.n
    if relative:  # a gain is a query that the reference gets wrong
        n = counted(int(((evidence.reference == 1) | (losses == -1)).sum()), counts)
    lost, gained = (int((losses == sign).sum()) for sign in (1.0, -1.0))
    ends = []
    for against, for_it, also in ((gained, lost, -1), (lost, gained, 1)):
        b, c = counted(against, counts, up=True), counted(for_it, counts)
        asked = None if limit is None else also * limit / span
        ends.append(most_lost(b, c, n, error, relative=relative, also=asked))
    low, high = ends
    return span * as_drop(-low, relative=relative), span * as_drop(high, relative=relative)


def as_drop(place: float, *, relative: bool) -> float:
    """Turn a place on the grid, from -1 to 1, into a drop.

    A relative drop below 0 is told by what the reference loses against the router.
    """
    if not relative or place >= 0:
        return place
    return place / (1 + place) if place > -1 else -math.inf


def grid(n: int, also: float | None = None) -> NDArray[np.float64]:
    """List places from -1 to 1 at which limits are tested, rising; the ends are none.

    Args:
        n: Number of queries.
        also: A limit that is asked for.
    """
    places = [0.0]
    while places[-1] < n:
        places.append(places[-1] + max(LEAST_STEP, STEP * math.sqrt(places[-1])))
    above = np.array([place for place in places[1:] if place <= n - LEAST_STEP / 2]) / n
    both = np.concatenate([-above[::-1], [0.0], above])
    asked = [] if also is None or not -1 < also < 1 else [also]
    return np.unique(np.append(both, asked))


def most_lost(
    lost: int, gained: int, n: int, error: float, *, relative: bool, also: float | None = None
) -> float:
    """Bound the drop of right-or-wrong quality from above, by the exact paired test.

    Args:
        lost: Queries whose quality was lost.
        gained: Queries whose quality was gained.
        n: Queries that are tested: all, or those that say something about a relative drop.
        error: Probability that the bound does not hold.
        relative: Whether the drop is told relative to the reference's mean.
        also: A limit that is asked for.

    Returns:
        The place on the grid from which on all are rejected; 1 where none is.
    """
    if n == 0:
        return 1.0
    limits = grid(n, also)
    z = _statistics(lost, gained, n, limits, relative)
    sure = np.zeros(len(limits), dtype=bool)
    quantile = float(normal_quantiles(np.array([error]))[0])
    if n > WHOLE_WALK:
        sure = np.logical_and.accumulate((z < quantile - DEEPEST)[::-1])[::-1]
    critical, found = CriticalValues((error,)), 1.0
    for at in range(len(limits) - 1, -1, -1):
        place = float(limits[at])
        if not (sure[at] or (z[at] < quantile and z[at] < _critical(n, place, relative, critical))):
            break
        found = place
    return found


def _statistics(
    lost: int, gained: int, n: int, places: NDArray[np.float64], relative: bool
) -> NDArray[np.float64]:
    """Compute the statistic at each place; below 0 that of the two models turned round."""
    size = np.maximum(np.abs(places), NEAREST_ZERO)
    gain = 1 - size if relative else np.ones(len(size))
    b, c = (np.full(len(size), float(count)) for count in (lost, gained))
    above = score_statistic(b, c, n, size, gain)
    return np.where(places >= 0, above, -score_statistic(c, b, n, size, gain))


def _critical(n: int, place: float, relative: bool, critical: CriticalValues) -> float:
    """Find the value below which the statistic at a place rejects."""
    drop = max(abs(place), NEAREST_ZERO)
    gain = 1 - drop if relative else 1.0
    if place >= 0:
        return float(critical.at(n, drop, gain)[0])
    if n * drop > MOST_EXPECTED and n > FEW_QUERIES:
        quantile = float(normal_quantiles(np.array(critical.errors))[0])
        return quantile - UPPER_MARGIN - OF_SQUARE * quantile**2
    return -float(critical_values(n, drop, critical.errors, gain, above=True)[0])


def _bet_ends(evidence: Evidence, error: float, relative: bool, limit: float | None) -> Ends:
    """Bound a drop of graded quality, by bets for and against each limit."""
    least, most = absolute_range(evidence.bounds)
    unit, span = np.ones(len(evidence.losses)), evidence.span
    greatest = 1.0
    if relative:
        unit = (least + (most - least) * evidence.reference) / span
        greatest, span = most / span, 1.0
    share = evidence.weights / evidence.weights.max()
    losses, unit = evidence.losses * share, unit * share
    ends = []
    for way in (-1, 1):
        found = way * math.inf if relative else float(way)
        also = None if limit is None else way * limit / span
        for place in grid(len(losses), also)[::-1]:
            drop = way * as_drop(float(way * place), relative=relative)
            room = 1 + max(0.0, -drop) * greatest  # what a query can lose beyond the limit
            if log_fortune((way * losses - drop * unit) / room, error) < -math.log(error):
                break
            found = way * drop
        ends.append(span * found)
    low, high = ends
    return (low, min(1.0, high)) if relative and evidence.bounds[0] >= 0 else (low, high)


def share_interval(count: int, n: int, error: float) -> Ends:
    """Bound a share of n queries from both sides, each end at an error.

    Source: Clopper and Pearson, Biometrika 26 (1934).
    """
    return _least_share(count, n, error), 1 - _least_share(n - count, n, error)


def _least_share(count: int, n: int, error: float) -> float:
    """Find the share at which so many or more have the chance of the error."""
    if count == 0:
        return 0.0
    ks = np.arange(count, n + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    ways = logs[n] - logs[ks] - logs[n - ks]
    low, high = 0.0, 1.0
    for _ in range(50):
        share = (low + high) / 2
        chance = np.exp(ways + ks * math.log(share) + (n - ks) * math.log1p(-share)).sum()
        low, high = (low, share) if chance > error else (share, high)
    return low
