"""Bootstrap intervals, paired: every line is measured on the same resamples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shared_router.measuring.metrics import trade_off

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from shared_router.deciding.walk import Walk

RESAMPLES = 500
LEVEL = 0.95

Interval = tuple[float, float]


def interval(values: Sequence[float | None]) -> Interval | None:
    """Return the central 95 % interval of resampled figures; `None` where any is undefined."""
    if not values or any(value is None for value in values):
        return None
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(np.array(values, dtype=np.float64), [tail, 1 - tail])
    return float(low), float(high)


def resampled_weights(
    n: int, resamples: int = RESAMPLES, seed: int = 0
) -> Iterator[NDArray[np.float64]]:
    """Draw how often each of n queries stands in each resample, shape (n,)."""
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        yield rng.multinomial(n, np.full(n, 1 / n)).astype(np.float64)


def resampled_figures(
    walks: Mapping[str, Walk], n: int, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, list[dict[str, float | None]]]:
    """Measure every line on the same resamples of the queries.

    Args:
        walks: Lines over the same n queries.
        n: Number of queries.
        resamples: Number of resamples.
        seed: Seed of the resampling.

    Returns:
        Per line, one set of figures per resample.
    """
    found: dict[str, list[dict[str, float | None]]] = {name: [] for name in walks}
    for weights in resampled_weights(n, resamples, seed):
        for name, walk in walks.items():
            found[name].append(trade_off(walk, weights).figures())
    return found


def paired_difference(
    first: Sequence[Mapping[str, float | None]],
    second: Sequence[Mapping[str, float | None]],
    figure: str,
) -> Interval | None:
    """Return the interval of `first - second` of one figure over shared resamples."""
    pairs = [(a[figure], b[figure]) for a, b in zip(first, second, strict=True)]
    if any(a is None or b is None for a, b in pairs):
        return None
    return interval([a - b for a, b in pairs])  # type: ignore[operator]
