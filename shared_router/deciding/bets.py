"""Bounds on the mean of any bounded quality, by a mixture of bets.

Whoever bets against "the mean loss is at least d", a little on each query, gets rich only where it
is less: reaching a fortune of 1 / error has at most that probability. A mixture over how much is
put in each time needs no tuning. Valid for any bounded quality, and weaker than the exact test.

Source: Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting (JRSS B,
2024), section 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shared_router.deciding.paired_test import from_here_on

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

STAKES = np.geomspace(0.01, 0.98, 14)
"""Shares of the greatest stake that leaves something where a bet is lost."""
FINENESS = 2000
"""Parts of the range that losses are rounded up to: never in favour of a promise."""
LIMITS = 400
"""Limits among which an upper bound is looked for."""
AT_ONCE = 40
"""Limits in one product of matrices."""


def upper_means(
    losses: NDArray[np.floating],
    kept: NDArray[np.bool_],
    bound: float,
    errors: Sequence[float],
    *,
    weights: NDArray[np.floating] | None = None,
    also: Sequence[float] = (),
) -> NDArray[np.float64]:
    """Bound the weighted mean of losses from above, for each of several settings.

    Args:
        losses: Loss of each query where it is routed, shape (n,), each in [-bound, bound].
        kept: Whether each setting leaves a query where it is, at a loss of 0, shape (m, n).
        bound: The greatest loss there can be.
        errors: Probabilities that a bound does not hold.
        weights: What each query counts, shape (n,); 1 where not given.
        also: Limits that are asked for.

    Returns:
        Shape (m, errors): the least limit from which on all are rejected; infinite where none is.
    """
    counted = np.ones(len(losses)) if weights is None else np.asarray(weights, dtype=np.float64)
    rounded = np.ceil(np.asarray(losses, dtype=np.float64) / bound * FINENESS - 1e-9) / FINENESS
    kinds, place = _kinds(rounded, counted)
    stayed = _counts(place, kept, len(kinds))
    routed = _counts(place, np.ones((1, len(place)), dtype=bool), len(kinds)) - stayed
    heaviest = float(counted.max())
    given = np.asarray([limit / bound for limit in also if 0 < limit < bound], dtype=np.float64)
    limits = np.unique(np.append(np.geomspace(1 / (FINENESS * 10), 0.999, LIMITS), given))
    both = np.hstack([routed, stayed])
    parts = np.array_split(limits, max(1, len(limits) // AT_ONCE))
    fortunes = np.hstack([_fortunes(part, kinds, both, heaviest) for part in parts])
    found = [from_here_on(fortunes >= -np.log(error), limits) for error in errors]
    return np.stack(found, axis=1) * bound


def least_mean(
    values: NDArray[np.floating], error: float, weights: NDArray[np.floating] | None = None
) -> float:
    """Bound the weighted mean of values in [0, 1] from below.

    Args:
        values: Shape (n,).
        error: Probability that the bound does not hold.
        weights: What each counts, shape (n,); 1 where not given.
    """
    nothing = np.zeros((1, len(values)), dtype=bool)
    fine = [float(part) for part in np.linspace(0, 1, FINENESS + 1)]
    worst = upper_means(1 - np.asarray(values), nothing, 1.0, [error], weights=weights, also=fine)
    return max(0.0, 1 - float(worst[0, 0]))


def _kinds(
    losses: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Gather queries of one loss and weight; shape (u, 2), and which each query is of."""
    kinds, place = np.unique(np.stack([losses, weights], axis=1), axis=0, return_inverse=True)
    return kinds, place.ravel()


def _counts(place: NDArray[np.intp], among: NDArray[np.bool_], kinds: int) -> NDArray[np.float64]:
    """Count the queries of each kind in each row, shape (m, u)."""
    rows = [np.bincount(place[row], minlength=kinds) for row in among]
    return np.stack(rows).astype(np.float64)


def _fortunes(
    limits: NDArray[np.float64],
    kinds: NDArray[np.float64],
    routed_and_stayed: NDArray[np.float64],
    heaviest: float,
) -> NDArray[np.float64]:
    """Compute the logarithm of what each setting's bets have come to, shape (m, limits)."""
    stakes = STAKES[None, None, :] / (heaviest * (1 - limits[None, :, None]))
    losses, weights = kinds[:, 0, None, None], kinds[:, 1, None, None]
    won = np.log1p(stakes * weights * (limits[None, :, None] - losses))
    idle = np.log1p(stakes * weights * limits[None, :, None])
    outcomes = np.concatenate([won, idle]).reshape(2 * len(kinds), -1)
    each = (routed_and_stayed @ outcomes).reshape(-1, len(limits), len(STAKES))
    most = each.max(axis=2)
    mixed: NDArray[np.float64] = most + np.log(np.exp(each - most[:, :, None]).mean(axis=2))
    return mixed
