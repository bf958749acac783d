"""The head of the bundled router: ridge regression that has to hold for other questions.

Rich heads (kernels, neighbours) rank the questions they were fitted on better and those of other
sources no better. Three choices are made for questions of other sources; all were made on the
leave-one-source-out figures that the card reports:

- the frontier model's quality is shrunk towards its mean, since it is known for few sources, and
  differs there by how the source was marked more than by the question;
- a source counts by the square root of its size;
- longer questions are harder, beyond what the fit says: a prior that helps where it was measured.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from shared_router.serving.features import FEATURE_NAMES
from shared_router.training.cross_validation import TrainedHead
from shared_router.training.linear import LinearHead

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cookbook.bundled.pool import Pool

RIDGE = 30.0
IMPUTING_RIDGE = 10.0
FRONTIER_WEIGHT = 0.6
"""What is kept of the frontier model's deviation from its mean."""
LENGTH_PRIOR = 1.0
"""Spread of the length's part beside that of what was fitted."""
LENGTH = FEATURE_NAMES.index("log_characters")


def fit_head(pool: Pool) -> TrainedHead:
    """Fit the head on every row of a pool.

    Returns:
        A head whose scores are expected gaps, small tier less frontier.
    """
    gaps = pool.small - _frontier(pool)
    weights = _weights(pool)
    fitted = LinearHead.fit(
        pool.embeddings, pool.features, gaps[:, None], ridge=RIDGE * weights.mean(), weights=weights
    )
    mean = np.average(gaps, weights=weights)
    ranked = _in_units_of(gaps, weights, _with_prior(fitted, pool), pool, mean)
    return TrainedHead({"linear": ranked}, {"linear": 1.0}, np.array([mean]), None, RIDGE)


def _frontier(pool: Pool) -> NDArray[np.float64]:
    """Return the frontier's quality, imputed where unknown, shrunk towards its mean."""
    known = pool.take(pool.known)
    guess = LinearHead.fit(
        known.embeddings, known.features, known.frontier[:, None], ridge=IMPUTING_RIDGE
    ).predict(pool.embeddings, pool.features)[:, 0]
    quality = np.where(pool.known, pool.frontier, np.clip(guess, 0.0, 1.0))
    mean: float = quality.mean()
    return mean + FRONTIER_WEIGHT * (quality - mean)


def _weights(pool: Pool) -> NDArray[np.float64]:
    names, sizes = np.unique(pool.sources, return_counts=True)
    return np.asarray(sizes[np.searchsorted(names, pool.sources)] ** -0.5)


def _with_prior(head: LinearHead, pool: Pool) -> LinearHead:
    """Let length count further: a weight on its feature, whose spread in the pool is known."""
    spread = head.predict(pool.embeddings, pool.features).std()
    scaled = head.standardiser.join(pool.embeddings, pool.features)
    column = pool.embeddings.shape[1] + LENGTH
    weights = head.weights.copy()
    weights[column] -= LENGTH_PRIOR * spread / scaled[:, column].std()
    return replace(head, weights=weights)


def _in_units_of(
    gaps: NDArray[np.float64],
    weights: NDArray[np.float64],
    head: LinearHead,
    pool: Pool,
    mean: float,
) -> LinearHead:
    """Stretch a head so that its scores are expected gaps again; its ranking stays."""
    raw = head.predict(pool.embeddings, pool.features)[:, 0]
    centre = np.average(raw, weights=weights)
    slope = np.average((raw - centre) * (gaps - mean), weights=weights) / np.average(
        (raw - centre) ** 2, weights=weights
    )
    slope = max(float(slope), 1e-3)
    return replace(head, weights=slope * head.weights, offset=slope * (head.offset - centre) + mean)
