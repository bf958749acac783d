"""Baselines that every figure is shown beside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shared_router.deciding.rule import Rule
from shared_router.deciding.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

BASELINES = ("random", "query_length", "nearest_neighbours", "oracle")


def baseline_lines(
    queries: Sequence[str],
    quality: NDArray[np.float64],
    savings: NDArray[np.float64],
    neighbour_gaps: NDArray[np.float64] | None = None,
) -> dict[str, tuple[Rule, NDArray[np.float64]]]:
    """Build the rule and the scores of each baseline.

    Args:
        queries: The query texts.
        quality: Shape (n, k), the reference last.
        savings: Saving per candidate, shape (k,).
        neighbour_gaps: Mean gap of the nearest train queries, shape (n, k - 1); `None` where the
            router keeps no reference.

    Returns:
        `random` (all queries tied, ties averaged), `query_length` (short to small, never
        fitted), `nearest_neighbours` where there is a train memory, and `oracle` (the true gaps).
    """
    gap = Rule("gap", savings)
    cheapest_first = Rule("probability", savings)
    columns = quality.shape[1] - 1
    length = -np.array([[float(len(query))] * columns for query in queries])
    lines = {
        "random": (cheapest_first, np.zeros((len(queries), columns))),
        "query_length": (cheapest_first, length),
    }
    if neighbour_gaps is not None:
        lines["nearest_neighbours"] = (gap, neighbour_gaps)
    lines["oracle"] = (gap, quality[:, :-1] - quality[:, -1:])
    return lines


def baseline_walks(
    queries: Sequence[str],
    quality: NDArray[np.float64],
    savings: NDArray[np.float64],
    neighbour_gaps: NDArray[np.float64] | None = None,
) -> dict[str, Walk]:
    """Build the line of each baseline, over the qualities; see `baseline_lines`."""
    lines = baseline_lines(queries, quality, savings, neighbour_gaps)
    return {name: Walk(rule, scores, quality) for name, (rule, scores) in lines.items()}
