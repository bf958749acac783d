"""Nearest neighbours by cosine: a component of a router, and the baseline it must beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEIGHBOURS = 100
"""Neighbours averaged, as in the field's baseline."""
_ROWS_AT_ONCE = 1024


def neighbour_mean(
    embeddings: NDArray[np.float32],
    known: NDArray[np.float32],
    targets: NDArray[np.float64],
    k: int = NEIGHBOURS,
) -> NDArray[np.float64]:
    """Average the targets of the k nearest known queries.

    Args:
        embeddings: Unit length, shape (n, d).
        known: Unit length, shape (m, d).
        targets: Shape (m, c).
        k: Neighbours; all m where there are fewer.

    Returns:
        Shape (n, c).
    """
    k = min(k, len(known))
    out = np.empty((len(embeddings), targets.shape[1]))
    for start in range(0, len(embeddings), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        similarity = embeddings[rows] @ known.T
        nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        out[rows] = targets[nearest].mean(axis=1)
    return out
