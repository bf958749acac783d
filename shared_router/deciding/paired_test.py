"""The exact paired test of a quality drop: is right or wrong lost more often than the limit allows?

With right-or-wrong quality a query's loss `D = q_reference - q_routed` is 1 (lost), 0 or -1
(gained). Testing `E[D] >= d` against less is non-inferiority of matched pairs: the score statistic
is Tango's (Stat. Med. 1998), its critical value is exact over the nuisance share of gains (Lloyd
and Moldovan, Stat. Med. 2008).

A relative limit, `E[D] >= d E[q_reference]`, needs no bound of the reference's mean. Queries that
the reference gets wrong and that gain nothing say nothing about it. Given how many are left, each
of those is lost, gained or neither, and the limit reads `P(lost) - (1 - d) P(gained) >= d`: the
same test, in which a gain weighs a little less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

MOST_EXPECTED, FEW_QUERIES = 60.0, 400
"""Critical values are enumerated up to so many expected losses `n d`, and for so few queries."""
NORMAL_MARGIN = 0.07
"""Others are the normal quantile less this: enumeration finds the exact value at most so low."""
MOST_ERROR = 0.2
"""Greatest error for which the margins were measured."""
ENUMERATED_GAINS = 650.0
"""Expected gains up to which shares of gains are enumerated; at more, sums are normal."""
MANY_GAINS_MARGIN = 0.03
"""Taken from the normal quantile for those."""
FEW_GAINS = 60.0
"""Expected gains up to which they are enumerated close together, all over the same counts."""
CLOSE, APART = 0.15, 1.35
"""Steps of the root of the expected gains, up to there and above."""
BETWEEN = 1.015
"""How many times the error can be reached at a share between those."""
SPREADS, OUTSIDE = 6.0, 1e-7
"""Standard deviations of each count that are enumerated, and the chance of what lies outside."""
LIMITS = np.array(
    [0.0005, 0.001, 0.002, 0.0025, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.0125, 0.015, 0.02, 0.025,
     0.03, 0.04, 0.05, 0.06, 0.075, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4]
)  # fmt: skip
"""Limits that are tested; of others, the next lower one is."""
STEP_OF_COUNTS = 1.02
"""Ratio of the numbers of queries that a relative limit is tested on."""


def score_statistic(
    lost: NDArray[np.number],
    gained: NDArray[np.number],
    n: NDArray[np.number] | int,
    drop: NDArray[np.number] | float,
    gain: NDArray[np.number] | float = 1.0,
) -> NDArray[np.float64]:
    """Compute the score statistic of `P(lost) - gain P(gained) >= drop`; the lower, the surer not.

    Args:
        lost: Queries whose quality was lost.
        gained: Queries whose quality was gained.
        n: All queries.
        drop: The limit, in (0, 1).
        gain: What a gain weighs against a loss, in (0, 1].

    Returns:
        `z`, of the common shape of the arguments.

    Source: Tango, Stat. Med. 17 (1998), equations 3 and 4, there for `gain = 1`.
    """
    b, c = np.asarray(lost, dtype=np.float64), np.asarray(gained, dtype=np.float64)
    twice = n * gain * (1 + gain)
    linear = (n - b) * (1 + gain) * drop - (b + c) * gain * (1 - drop)
    share = (np.sqrt(linear * linear + 4 * twice * c * drop * (1 - drop)) - linear) / (2 * twice)
    spread = np.sqrt(n * (gain * (1 + gain) * share + drop * (1 - drop)))
    z: NDArray[np.float64] = (b - gain * c - n * drop) / spread
    return z


def critical_values(
    n: int, drop: float, errors: Sequence[float], gain: float = 1.0, *, above: bool = False
) -> NDArray[np.float64]:
    """Find the values below which the score statistic rejects, by enumeration.

    Args:
        n: Number of queries.
        drop: The limit, in (0, 1).
        errors: Probabilities of rejecting in error, each in (0, 0.5).
        gain: What a gain weighs against a loss, in (0, 1].
        above: Whether "at most this drop" is tested instead: then the values above which it is
            rejected.

    Returns:
        One value per error: rejecting where `z` is less (greater) has at most that probability,
        whatever the share of gains.

    Source: Lloyd and Moldovan, Stat. Med. 27 (2008): the exact unconditional test.
    """
    asked = np.asarray(errors, dtype=np.float64) / BETWEEN
    many = n * (1 - drop) / (1 + gain) > ENUMERATED_GAINS
    found = normal_quantiles(asked) - MANY_GAINS_MARGIN * many
    greatest, way = float(found.max()), -1 if above else 1
    for z, reached in _distributions(n, drop, gain, greatest, way):
        # The least value at which more than the error would be rejected: below it, all is well.
        at = np.searchsorted(reached, asked, side="right")
        found = np.minimum(found, np.append(z, np.inf)[at])
    return way * found


def _distributions(
    n: int, drop: float, gain: float, greatest: float, way: int
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Give, for each share of gains, the least values of the statistic and the chance up to each.

    Values above the greatest that is asked for are left out. With `way` -1 the statistic is turned
    round.
    """
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    for shares in _shares(n, (1 - drop) / (1 + gain)):
        lost = _likely(n, drop + gain * shares[0], drop + gain * shares[-1])
        b, c = np.meshgrid(lost, _likely(n, shares[0], shares[-1]), indexing="ij")
        fits = (b + c <= n) & (way * (b - gain * c - n * drop) < 0)  # the statistic is negative
        z = way * score_statistic(b[fits], c[fits], n, drop, gain)
        order = np.argsort(z)[: np.count_nonzero(z <= greatest)]
        z, b, c = z[order], b[fits][order], c[fits][order]
        starts, ends = _alike(z)
        ways: NDArray[np.float64] = logs[n] - logs[b] - logs[c] - logs[n - b - c]
        for gains in shares:
            losses = drop + gain * gains
            chance = ways + _power(b, losses) + _power(c, gains)
            reached = np.cumsum(np.exp(chance + _power(n - b - c, 1 - losses - gains)))
            yield z[starts], reached[ends] + OUTSIDE


def _alike(z: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Find the first and the last of values that rounding alone parts: rejected together."""
    apart = np.flatnonzero(np.diff(z) > 1e-9)
    return np.append(0, apart + 1)[: len(z)], np.append(apart, len(z) - 1)[: len(z)]


def _shares(n: int, most: float) -> Iterator[tuple[float, ...]]:
    """Give shares of gains, rising: few gains together, more one by one.

    They lie as close as their counts differ: evenly in the angle whose sine is the root of a share.
    """
    root = math.sqrt(n * most)
    angles = np.linspace(0, math.pi / 2, math.ceil(math.pi / 2 * root / CLOSE) + 1)
    shares = most * np.sin(angles) ** 2
    few = shares * n <= FEW_GAINS
    yield tuple(shares[few])
    many = shares[~few & (shares * n <= ENUMERATED_GAINS)]
    for share in many[:: -round(APART / CLOSE)][::-1]:
        yield (float(share),)


def _likely(n: int, least: float, most: float) -> NDArray[np.intp]:
    """List the counts that binomials of these shares take with more than a trace of chance."""
    low = n * least - SPREADS * math.sqrt(n * least * (1 - least)) - 3
    high = n * most + SPREADS * math.sqrt(n * most * (1 - most)) + 8
    return np.arange(max(0, int(low)), min(n, int(high)) + 1)


def _power(count: NDArray[np.intp], share: float) -> NDArray[np.float64]:
    """Compute the logarithm of `share ** count`, where `0 ** 0` is 1."""
    if share <= 1e-15:
        return np.where(count == 0, 0.0, -np.inf)
    return count.astype(np.float64) * math.log(share)


def normal_quantiles(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the normal quantile of each probability."""
    return np.array([NormalDist().inv_cdf(float(error)) for error in errors])


@dataclass(frozen=True)
class CriticalValues:
    """Critical values of some errors, found as they are asked for, and kept."""

    errors: tuple[float, ...]
    """Probabilities of rejecting in error, each above 0 and at most 0.2."""
    _kept: dict[tuple[int, float, float], NDArray[np.float64]] = field(
        default_factory=dict, repr=False
    )

    def at(self, n: int, drop: float, gain: float = 1.0) -> NDArray[np.float64]:
        """Find them for a number of queries, a limit and what a gain weighs; shape (errors,)."""
        if n * drop > MOST_EXPECTED and n > FEW_QUERIES:
            return normal_quantiles(np.asarray(self.errors)) - NORMAL_MARGIN
        if (n, drop, gain) not in self._kept:
            self._kept[n, drop, gain] = critical_values(n, drop, self.errors, gain)
        return self._kept[n, drop, gain]


@dataclass(frozen=True)
class Pairs:
    """What the settings of a walk lost and gained, of the queries that say something about it."""

    lost: NDArray[np.float64]
    """Queries whose quality each setting lost, shape (m,)."""
    gained: NDArray[np.float64]
    """Queries whose quality each gained, shape (m,)."""
    n: NDArray[np.intp]
    """Queries that each is tested on, shape (m,)."""
    relative: bool
    """Whether a limit is a part of the reference's quality."""

    def gain(self, drop: float) -> float:
        """Return what a gain weighs under a limit."""
        return 1 - drop if self.relative else 1.0


def absolute_pairs(
    losses: NDArray[np.floating], routed: NDArray[np.bool_], counts: float = 1.0
) -> Pairs:
    """Count losses and gains among all queries.

    Args:
        losses: Loss of each query where it is routed: 1, 0 or -1, shape (n,).
        routed: Whether each setting routes it, shape (m, n).
        counts: What each counts; losses are rounded up, gains down.
    """
    lost, gained = ((routed & (losses == sign)).sum(axis=1) for sign in (1, -1))
    everything = np.full(len(routed), int(_down(len(losses) * counts)))
    return Pairs(_up(lost * counts), _down(gained * counts), everything, relative=False)


def _up(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.ceil(counts - 1e-9)


def _down(counts: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return np.floor(counts + 1e-9)


def relative_pairs(
    losses: NDArray[np.floating],
    right: NDArray[np.bool_],
    routed: NDArray[np.bool_],
    counts: float = 1.0,
) -> Pairs:
    """Count losses and gains among the queries that the reference gets right or that gain.

    Critical values are found for few numbers of queries: the first so many are taken.

    Args:
        losses: Loss of each query where it is routed: 1, 0 or -1, shape (n,), in an order that has
            nothing to do with them.
        right: Whether the reference gets it right, shape (n,).
        routed: Whether each setting routes it, shape (m, n).
        counts: What each counts; losses are rounded up, gains down.
    """
    gained = routed & (losses == -1)
    telling = right | gained
    so_far = np.cumsum(telling, axis=1)
    n = _few_counts(_down(so_far[:, -1] * counts).astype(np.intp))
    taken = _down((so_far - telling) * counts) < n[:, None]  # as many as make n, or a part more
    lost = routed & (losses == 1) & taken
    b, c = (each.sum(axis=1) * counts for each in (lost, gained & taken))
    return Pairs(_up(b), _down(c), n, relative=True)


def _few_counts(counts: NDArray[np.intp]) -> NDArray[np.intp]:
    """Round counts down to powers of a ratio."""
    powers = np.arange(math.ceil(math.log(int(counts.max(initial=1)) + 1, STEP_OF_COUNTS)) + 1)
    ladder = np.unique(np.append(0, np.floor(STEP_OF_COUNTS**powers)).astype(np.intp))
    found: NDArray[np.intp] = ladder[np.searchsorted(ladder, counts, side="right") - 1]
    return found


def upper_drops(pairs: Pairs, critical: CriticalValues) -> NDArray[np.float64]:
    """Bound the drop at each setting of a walk from above.

    Args:
        pairs: What the settings lost and gained, in the order of the walk.
        critical: Critical values.

    Returns:
        Shape (m, errors): the least of `LIMITS` from which on every walk passes the setting;
        infinite where the greatest does not.
    """
    walks = [_walk(pairs, float(limit), critical) for limit in LIMITS]
    return np.stack([from_here_on(each) for each in np.stack(walks, axis=2).swapaxes(0, 1)], axis=1)


def _walk(pairs: Pairs, drop: float, critical: CriticalValues) -> NDArray[np.bool_]:
    """Test setting after setting up to the first that fails, per error; shape (m, errors)."""
    gain = pairs.gain(drop)
    passed = np.zeros((len(pairs.n), len(critical.errors)), dtype=bool)
    starts = np.flatnonzero(np.diff(pairs.n, prepend=-1))
    alive = np.ones(len(critical.errors), dtype=bool)
    greatest = float(normal_quantiles(np.asarray(critical.errors)).max())  # of critical values
    for start, stop in zip(starts, [*starts[1:], len(pairs.n)], strict=True):
        n, part = int(pairs.n[start]), slice(start, stop)
        if n * drop < 1 or not alive.any():
            break
        z = score_statistic(pairs.lost[part], pairs.gained[part], n, drop, gain)
        if z[0] >= greatest:
            break
        below = z[:, None] < critical.at(n, drop, gain)
        passed[part] = np.logical_and.accumulate(below, axis=0) & alive
        alive = passed[stop - 1]
    return passed


def from_here_on(rejected: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Find, per row, the limit from which on all are rejected; infinite where the last is not."""
    kept = np.hstack([~rejected[:, ::-1], np.ones((len(rejected), 1), dtype=bool)])
    found: NDArray[np.float64] = np.append(LIMITS, np.inf)[len(LIMITS) - kept.argmax(axis=1)]
    return found
