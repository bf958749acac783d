"""Trained heads on frozen embeddings: kernel ridge, nearest neighbours, and a task prior.

Each is fitted in closed form, predicts the label in its own units, and has an ONNX form in
`export`; so does `terms.TermHead`, which reads the words. What each contributes to a router is
decided by cross-validation in `training`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.training.neighbours import neighbour_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

FEATURE_SCALE = 0.1
"""Weight of a standardised feature beside an embedding of unit length."""
KERNEL_GAMMA = 2.0
"""Width of the kernel: `exp(-gamma / 2 * squared distance)`."""
LANDMARKS = 1000
"""Most landmarks of the kernel's Nystrom approximation."""
RIDGES = (1.0, 3.0, 10.0, 30.0)
"""Ridge penalties that cross-validation chooses from."""
TASK_RIDGE = 3.0
TASK_TEMPERATURE = 0.1
TASK_PRIOR = 10.0
"""Queries at which a task's own mean weighs as much as the mean over all tasks."""


@dataclass(frozen=True)
class Batch:
    """Training material, row by row."""

    embeddings: NDArray[np.float32]
    """Unit length, shape (n, d)."""
    features: NDArray[np.float32]
    """Raw query features, shape (n, f)."""
    targets: NDArray[np.float64]
    """Labels, shape (n, k - 1)."""
    tasks: tuple[str | None, ...]
    """Task label per row."""
    terms: Any = None
    """The words, as `terms.term_matrix` gives them; `None` where they are no part."""

    def take(self, rows: NDArray[np.intp]) -> Batch:
        """Keep these rows."""
        return Batch(
            self.embeddings[rows],
            self.features[rows],
            self.targets[rows],
            tuple(self.tasks[row] for row in rows),
            None if self.terms is None else self.terms[rows],
        )

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Standardiser:
    """Centres and scales features so that they weigh little beside the embedding."""

    mean: NDArray[np.float32]
    """Shape (f,)."""
    scale: NDArray[np.float32]
    """Shape (f,); 0 where a feature never varies."""

    @classmethod
    def fit(cls, features: NDArray[np.float32]) -> Standardiser:
        """Measure mean and spread."""
        spread = features.std(axis=0)
        scale = np.divide(FEATURE_SCALE, spread, out=np.zeros_like(spread), where=spread > 1e-6)
        return cls(features.mean(axis=0), scale)

    def join(
        self, embeddings: NDArray[np.float32], features: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Join embeddings and scaled features, shape (n, d + f); outliers cut at five spreads."""
        limit = 5 * FEATURE_SCALE
        scaled = np.clip((features - self.mean) * self.scale, -limit, limit)
        return np.hstack([embeddings, scaled]).astype(np.float32)


@dataclass(frozen=True)
class KernelHead:
    """Kernel ridge regression on the embedding and the features (RBF, Nystrom landmarks)."""

    standardiser: Standardiser
    landmarks: NDArray[np.float32]
    """Shape (m, d + f)."""
    weights: NDArray[np.float64]
    """Shape (m, k - 1)."""
    offset: NDArray[np.float64]
    """Shape (k - 1,)."""

    @classmethod
    def fit(cls, batch: Batch, ridges: Sequence[float], seed: int) -> list[KernelHead]:
        """Fit one head per ridge penalty; they share everything but the last solve."""
        standardiser = Standardiser.fit(batch.features)
        joined = standardiser.join(batch.embeddings, batch.features)
        rows = np.random.default_rng(seed).permutation(len(batch))[:LANDMARKS]
        landmarks = joined[rows]
        gram = _kernel(joined, landmarks)
        inner = _kernel(landmarks, landmarks).astype(np.float64)
        offset = batch.targets.mean(axis=0)
        square = (gram.T @ gram).astype(np.float64)
        right = gram.T.astype(np.float64) @ (batch.targets - offset)
        jitter = 1e-3 * np.eye(len(landmarks))
        return [
            cls(
                standardiser,
                landmarks,
                np.linalg.solve(square + ridge * inner + jitter, right),
                offset,
            )
            for ridge in ridges
        ]

    def predict(
        self, embeddings: NDArray[np.float32], features: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Predict labels, shape (n, k - 1)."""
        joined = self.standardiser.join(embeddings, features)
        return _kernel(joined, self.landmarks) @ self.weights + self.offset


@dataclass(frozen=True)
class NeighbourHead:
    """Mean label of the nearest train queries by cosine."""

    embeddings: NDArray[np.float32]
    """Embeddings of the training queries, unit length, shape (n, d)."""
    targets: NDArray[np.float64]
    """Their labels, shape (n, k - 1)."""

    @classmethod
    def fit(cls, batch: Batch) -> NeighbourHead:
        """Remember the batch."""
        return cls(batch.embeddings, batch.targets)

    def predict(
        self, embeddings: NDArray[np.float32], features: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Predict labels, shape (n, k - 1)."""
        del features
        return neighbour_mean(embeddings, self.embeddings, self.targets)


@dataclass(frozen=True)
class TaskHead:
    """Expected label under the predicted task: softmax over tasks times each task's mean.

    It predicts the task from the query, so no label is needed at serving time.
    """

    weights: NDArray[np.float64]
    """Shape (d, tasks), already divided by the temperature."""
    offset: NDArray[np.float64]
    """Shape (tasks,)."""
    means: NDArray[np.float64]
    """Mean label per task, shrunk towards the overall mean, shape (tasks, k - 1)."""

    @classmethod
    def fit(cls, batch: Batch, names: Sequence[str]) -> TaskHead:
        """Fit ridge regression on task indicators.

        Args:
            batch: Training material.
            names: Task labels to tell apart, at least two.
        """
        tasks = np.array([task or "" for task in batch.tasks])
        hot = (tasks[:, None] == np.array(names)[None, :]).astype(np.float64)
        centre, share = batch.embeddings.mean(axis=0), hot.mean(axis=0)
        centred = (batch.embeddings - centre).astype(np.float64)
        square = centred.T @ centred + TASK_RIDGE * np.eye(centred.shape[1])
        weights = np.linalg.solve(square, centred.T @ (hot - share)) / TASK_TEMPERATURE
        total = batch.targets.mean(axis=0)
        count = hot.sum(axis=0)[:, None]
        means = (hot.T @ batch.targets + TASK_PRIOR * total) / (count + TASK_PRIOR)
        return cls(weights, share / TASK_TEMPERATURE - centre @ weights, means)

    def predict(
        self, embeddings: NDArray[np.float32], features: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Predict labels, shape (n, k - 1)."""
        del features
        logits = embeddings @ self.weights + self.offset
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        expected: NDArray[np.float64] = shares @ self.means / shares.sum(axis=1, keepdims=True)
        return expected


def _kernel(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    squared = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None, :]
    similarity: NDArray[np.float32] = np.exp(-KERNEL_GAMMA / 2 * (squared - 2 * left @ right.T))
    return similarity
