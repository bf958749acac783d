"""The exact paired test of a quality drop: is right or wrong lost more often than the limit allows?

With right-or-wrong quality a query's loss `D = q_reference - q_routed` is 1 (lost), 0 or -1
(gained). Testing `E[D] >= d` against less is non-inferiority of matched pairs: the score statistic
is Tango's (Stat. Med. 1998), its critical value is exact over the nuisance share of gains (Lloyd
and Moldovan, Stat. Med. 2008).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

MOST_EXPECTED = 60.0
"""Expected losses `n d` up to which critical values are enumerated; above, they are normal."""
NORMAL_MARGIN = 0.07
"""Taken from the normal quantile above that: enumeration finds the exact value at most this low."""
ENUMERATED_GAINS = 60.0
"""Expected gains up to which shares of gains are enumerated; at more, sums are normal."""
MANY_GAINS_MARGIN = 0.01
"""Taken from the normal quantile for those."""
MOST_ERROR = 0.2
"""Greatest error for which those margins were measured."""
SHARES = 50
"""Shares of gains that are enumerated, beside none."""
SPREADS = 6.0
"""Standard deviations of each count that are enumerated; what lies outside counts as rejected."""
TABLED = 120
"""Limits of which a table enumerates the critical values."""
FINENESS = 1.004
"""Ratio of neighbouring limits above those."""


def score_statistic(
    lost: NDArray[np.number], gained: NDArray[np.number], n: int, drop: NDArray[np.number] | float
) -> NDArray[np.float64]:
    """Compute the score statistic of `E[D] >= drop`; the lower, the surer the drop is less.

    Args:
        lost: Queries whose quality was lost.
        gained: Queries whose quality was gained.
        n: All queries.
        drop: The limit, in (0, 1).

    Returns:
        `z`, of the common shape of the arguments.

    Source: Tango, Stat. Med. 17 (1998), equations 3 and 4.
    """
    b, c = np.asarray(lost, dtype=np.float64), np.asarray(gained, dtype=np.float64)
    linear = (2 * n - b + c) * drop - (b + c)
    root = np.sqrt(linear * linear + 8 * n * c * drop * (1 - drop))
    share = (root - linear) / (4 * n)
    z: NDArray[np.float64] = (b - c - n * drop) / np.sqrt(n * (2 * share + drop * (1 - drop)))
    return z


def critical_values(n: int, drop: float, errors: Sequence[float]) -> NDArray[np.float64]:
    """Find the values below which the score statistic rejects, by enumeration.

    Args:
        n: Number of queries.
        drop: The limit, in (0, 1).
        errors: Probabilities of rejecting in error, each in (0, 0.5).

    Returns:
        One value per error: rejecting where `z` is less has at most that probability, whatever the
        share of gains.

    Source: Lloyd and Moldovan, Stat. Med. 27 (2008): the exact unconditional test.
    """
    asked = np.asarray(errors, dtype=np.float64)
    found = normal_quantiles(asked) - MANY_GAINS_MARGIN
    for z, reached in _distributions(n, drop):
        # The least value at which more than the error would be rejected: below it, all is well.
        at = np.searchsorted(reached, asked, side="right")
        found = np.minimum(found, np.append(z, np.inf)[at])
    return found


def _distributions(
    n: int, drop: float
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Give, for each share of gains, the values of the statistic and the probability up to each."""
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    most = min((1 - drop) / 2, ENUMERATED_GAINS / n)
    for gains in (0.0, *np.geomspace(min(0.02 / n, most), most, SHARES)):
        losses = gains + drop
        lost, gained = np.meshgrid(_likely(n, losses), _likely(n, gains), indexing="ij")
        fits = lost + gained <= n
        b, c = lost[fits], gained[fits]
        same = n - b - c
        chance: NDArray[np.float64] = logs[n] - logs[b] - logs[c] - logs[same]
        for count, share in ((b, losses), (c, gains), (same, 1 - losses - gains)):
            chance = chance + _power(count, share)
        p = np.exp(chance)
        z = score_statistic(b, c, n, drop)
        order = np.argsort(z, kind="stable")
        z, reached = z[order], np.cumsum(p[order]) + max(0.0, 1 - float(p.sum()))
        ends = np.append(np.diff(z) > 1e-9, True)  # equal values are rejected together
        yield z[ends], reached[ends]


def _likely(n: int, share: float) -> NDArray[np.intp]:
    """List the counts that a binomial of this share takes with more than a trace of chance."""
    if share <= 0:
        return np.zeros(1, dtype=np.intp)
    mean, spread = n * share, math.sqrt(n * share * (1 - share))
    low = max(0, int(mean - SPREADS * spread - 3))
    return np.arange(low, min(n, int(mean + SPREADS * spread + 8)) + 1)


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
    """Critical values of one number of queries, at limits fine enough to look for a bound among.

    Between two limits none is taken: who rejects the lower one has rejected all above it.
    """

    n: int
    """Number of queries."""
    limits: NDArray[np.float64]
    """Limits, rising, shape (t,)."""
    values: NDArray[np.float64]
    """Their critical values, shape (t, e)."""

    @classmethod
    def of(
        cls, n: int, errors: Sequence[float], also: Sequence[float] = (), tabled: int = TABLED
    ) -> CriticalValues:
        """Find them.

        Args:
            n: Number of queries.
            errors: Probabilities of rejecting in error, each above 0 and at most 0.2.
            also: Further limits, which are asked for.
            tabled: How many limits to enumerate; fewer are quicker, and a little weaker.
        """
        most = min(MOST_EXPECTED, 0.95 * n) / n
        wanted = np.asarray([limit for limit in also if 0 < limit < 1], dtype=np.float64)
        few = np.concatenate([np.geomspace(1 / n, most, tabled), wanted[wanted <= most]])
        above = most * FINENESS ** np.arange(1, math.ceil(math.log(1 / most, FINENESS)))
        many = np.concatenate([above[above < 1], wanted[wanted > most]])
        if 0.95 * n < MOST_EXPECTED:
            many = many[:0]  # so few queries promise nothing there
        exact = [critical_values(n, float(limit), errors) for limit in few]
        normal = normal_quantiles(np.asarray(errors)) - NORMAL_MARGIN
        limits = np.concatenate([few, many])
        values = np.concatenate([exact, np.tile(normal, (len(many), 1))])
        order = np.argsort(limits)
        return cls(n, limits[order], values[order])


def upper_drops(
    lost: NDArray[np.floating], gained: NDArray[np.floating], critical: CriticalValues
) -> NDArray[np.float64]:
    """Bound `E[D]` from above: the least limit from which on every one is rejected.

    Args:
        lost: Queries whose quality each setting lost, shape (m,).
        gained: Queries whose quality each gained, shape (m,).
        critical: Critical values of the number of queries.

    Returns:
        Shape (m, errors); infinite where the greatest limit is not rejected.
    """
    limits, values = critical.limits, critical.values
    z = score_statistic(lost[:, None], gained[:, None], critical.n, limits[None, :])
    found = [from_here_on(z < values[:, error], limits) for error in range(values.shape[1])]
    return np.stack(found, axis=1)


def from_here_on(rejected: NDArray[np.bool_], limits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Find, per row, the limit from which on all are rejected; infinite where the last is not."""
    kept = ~rejected[:, ::-1]
    last = np.where(kept.any(axis=1), kept.argmax(axis=1), rejected.shape[1])
    found: NDArray[np.float64] = np.append(limits, np.inf)[rejected.shape[1] - last]
    return found


def least_share(right: int, n: int, error: float) -> float:
    """Bound a share from below, given how many of n were right.

    Source: Clopper and Pearson, Biometrika 26 (1934).
    """
    if right == 0:
        return 0.0
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    counts = np.arange(right, n + 1)
    ways = logs[n] - logs[counts] - logs[n - counts]
    low, high = 0.0, right / n
    for _ in range(50):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        chance = ways + _power(counts, middle) + _power(n - counts, 1 - middle)
        low, high = (middle, high) if np.exp(chance).sum() <= error else (low, middle)
    return low
