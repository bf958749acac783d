"""Ridge regression on the embedding and the features: plain, and steady on other questions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shared_router.training.heads import Standardiser

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class LinearHead:
    """A weighted sum of the embedding and the scaled features."""

    standardiser: Standardiser
    weights: NDArray[np.float64]
    """Shape (d + f, k - 1)."""
    offset: NDArray[np.float64]
    """Shape (k - 1,)."""

    @classmethod
    def fit(
        cls,
        embeddings: NDArray[np.float32],
        features: NDArray[np.float32],
        targets: NDArray[np.float64],
        *,
        ridge: float,
        weights: NDArray[np.float64] | None = None,
    ) -> LinearHead:
        """Fit by weighted least squares with a penalty.

        Args:
            embeddings: Unit length, shape (n, d).
            features: Raw query features, shape (n, f).
            targets: Labels, shape (n, k - 1).
            ridge: Penalty of the squared weights, beside the weighted sum of squared errors.
            weights: How much each row counts, shape (n,); alike by default.
        """
        standardiser = Standardiser.fit(features)
        joined = standardiser.join(embeddings, features).astype(np.float64)
        counted = np.ones(len(targets)) if weights is None else weights
        centre = np.average(joined, axis=0, weights=counted)
        mean = np.asarray(np.average(targets, axis=0, weights=counted), dtype=np.float64)
        centred = joined - centre
        square = (centred * counted[:, None]).T @ centred + ridge * np.eye(joined.shape[1])
        right = (centred * counted[:, None]).T @ (targets - mean)
        solved: NDArray[np.float64] = np.linalg.solve(square, right).astype(np.float64)
        return cls(standardiser, solved, np.asarray(mean - centre @ solved))

    def predict(
        self, embeddings: NDArray[np.float32], features: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Predict labels, shape (n, k - 1)."""
        joined = self.standardiser.join(embeddings, features)
        predicted: NDArray[np.float64] = joined @ self.weights + self.offset
        return predicted
