"""What needs no router: each model alone, and a mix that looks at no query, at the same cost."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.deciding.walk import one_sign
from shared_router.measuring.bootstrap import RESAMPLES, interval, resampled_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from shared_router.measuring.cost_quality import Prices
    from shared_router.options import Dial

CALLS = "calls"
"""Unit of cost where no costs are known and there are two candidates: calls of the reference."""
NEAR = 1e-9
"""Rounding of a drop that is compared with a limit."""


def per_call(prices: Prices | None, n: int) -> tuple[NDArray[np.float64], str]:
    """Return what each candidate costs on each query, shape (n, k), and the unit.

    Args:
        prices: As evaluation knows them; `None` for two candidates without costs.
        n: Number of queries.
    """
    if prices is None:
        return np.tile([0.0, 1.0], (n, 1)), CALLS
    return prices.per_query, prices.unit


def best_mix(
    cost: NDArray[np.float64], quality: NDArray[np.float64], budget: float
) -> NDArray[np.float64]:
    """Find the shares of the candidates that give the best expected quality within a mean cost.

    Args:
        cost: Mean cost of a call, shape (k,).
        quality: Mean quality, shape (k,).
        budget: What a call may cost; below the cheapest candidate, that is taken alone.

    Returns:
        Shares, shape (k,); at most two of them are not 0.
    """
    shares = np.zeros(len(cost))
    shares[int(np.lexsort((-quality, cost))[0])] = 1.0
    best = float(shares @ quality)
    for low, high in product(np.flatnonzero(cost <= budget), range(len(cost))):
        part = 1.0
        if cost[high] > budget:
            part = float((budget - cost[low]) / (cost[high] - cost[low]))
        found = (1 - part) * quality[low] + part * quality[high]
        if found > best + NEAR:
            best, shares = float(found), np.zeros(len(cost))
            shares[low] += 1 - part
            shares[high] += part
    return shares


def static_mix(
    names: Sequence[str],
    quality: NDArray[np.float64],
    choice: NDArray[np.intp],
    cost: NDArray[np.float64],
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Compare a router with the best coin of the same cost, on the same queries.

    Args:
        names: The candidates, the reference last.
        quality: Mean quality, shape (n, k).
        choice: The candidate that the router sends each query to, shape (n,).
        cost: Cost of every candidate on every query, shape (n, k).
        resamples: Bootstrap resamples behind the intervals.

    Returns:
        The router's mean cost and quality, the mix's shares and expected quality, and the router's
        lead over it, with 95 % intervals, paired over queries.
    """
    rows = np.arange(len(choice))
    routed, paid = quality[rows, choice], float(cost[rows, choice].mean())
    shares = best_mix(cost.mean(axis=0), quality.mean(axis=0), paid)
    mixed = quality @ shares
    drawn = list(resampled_weights(len(choice), resamples))
    return {
        "cost": paid,
        "router_quality": float(routed.mean()),
        "shares": {
            name: float(share) for name, share in zip(names, shares, strict=True) if share > 0
        },
        "quality": float(mixed.mean()),
        "router_lead": float((routed - mixed).mean()),
        "intervals": {
            name: interval([float(weights @ values / weights.sum()) for weights in drawn])
            for name, values in (
                ("router_quality", routed),
                ("quality", mixed),
                ("router_lead", routed - mixed),
            )
        },
    }


def single_models(
    names: Sequence[str],
    quality: NDArray[np.float64],
    cost: NDArray[np.float64],
    dial: Dial | None,
) -> dict[str, Any]:
    """Find the best candidate alone, and the cheapest that keeps the limit alone.

    Args:
        names: The candidates, the reference last.
        quality: Mean quality, shape (n, k).
        cost: Cost of every candidate on every query, shape (n, k).
        dial: The dial, whose limit is kept.

    Returns:
        `best` and `cheapest_within_limit`, each with its name, mean cost, quality and relative
        drop; the second is `None` where the dial limits no quality.
    """
    means, costs = quality.mean(axis=0), cost.mean(axis=0)
    lost, scale = means[-1] - means, abs(float(means[-1]))
    relative = scale > 0 and one_sign((float(quality.min()), float(quality.max())))

    def about(at: int) -> dict[str, Any]:
        return {
            "name": names[at],
            "cost": float(costs[at]),
            "quality": float(means[at]),
            "quality_drop": float(lost[at] / scale) if relative else None,
        }

    best = int(np.lexsort((costs, -means))[0])
    limit = _allowed(dial, scale if relative else None)
    if limit is None:
        return {"best": about(best), "cheapest_within_limit": None}
    within = np.flatnonzero(lost <= limit + NEAR)
    cheapest = int(within[np.lexsort((-means[within], costs[within]))[0]])
    return {"best": about(best), "cheapest_within_limit": about(cheapest)}


def _allowed(dial: Dial | None, scale: float | None) -> float | None:
    """Return the absolute drop that a dial allows; `None` where it limits none."""
    if dial is None:
        return None
    if dial.name == "max_quality_drop_absolute":
        return dial.value
    if dial.name != "max_quality_drop" or scale is None:
        return None
    return dial.value * scale
