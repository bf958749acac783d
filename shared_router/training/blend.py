"""How much a fine-tuned encoder and heads on the frozen one have to say: one weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared_router.training.cross_validation import TrainedHead

PRIOR_WEIGHT = 0.5
PRIOR_ROWS = 500.0
"""Queries of a dev fold that weigh as much as the prior belief in equal weights."""


@dataclass(frozen=True)
class Blend:
    """A fine-tuned encoder's graph beside heads on the frozen encoder."""

    graph: bytes
    """The fine-tuned encoder, as `Tuned.graph`."""
    weight: float
    """Weight of its prediction, in [0, 1]; the heads have the rest."""
    head: TrainedHead
    """Heads on the frozen encoder."""
    dev_predictions: NDArray[np.float64] | None = None
    """What both predict together of the dev fold, which neither has seen, shape (dev, k - 1)."""


def blend_weight(
    tuned: NDArray[np.float64], frozen: NDArray[np.float64], targets: NDArray[np.float64]
) -> float:
    """Weigh two predictions of unseen labels by least squares, drawn towards equal weights.

    Args:
        tuned: Predictions of the fine-tuned encoder, shape (n, k - 1).
        frozen: Predictions of the heads, fitted without these rows, shape (n, k - 1).
        targets: The labels, shape (n, k - 1).

    Returns:
        The weight of `tuned`, in [0, 1].
    """
    difference = tuned - frozen
    spread = float((difference**2).mean())
    if spread == 0:
        return PRIOR_WEIGHT
    found = float((difference * (targets - frozen)).mean()) / spread
    rows = len(targets)
    weight = (rows * found + PRIOR_ROWS * PRIOR_WEIGHT) / (rows + PRIOR_ROWS)
    return float(np.clip(weight, 0.0, 1.0))
