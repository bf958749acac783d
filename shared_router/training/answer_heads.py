"""Heads that score an answer beside its query, fitted in closed form as those of queries are.

They are weighed on answers to queries that they have not seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shared_router.training.cross_validation import FOLDS, folds_of, weigh
from shared_router.training.heads import RIDGES, Batch, KernelHead
from shared_router.training.linear import LinearHead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

NUMBERS_LANDMARKS = 400
"""Most landmarks of the kernel on the numbers alone."""
NUMBERS_RIDGES = (0.1, 0.3, 1.0, 3.0, 10.0)
NUMBERS_CUT = 4.0
"""Spreads at which an outlier is cut."""
LINEAR_RIDGES = (3.0, 10.0, 30.0)
JITTER = 1e-3
HALF = np.float32(np.sqrt(0.5))
"""Weight of each of two embeddings of unit length that are joined to one of unit length."""


@dataclass(frozen=True)
class AnswerBatch:
    """Answers of one candidate, row by row."""

    queries: NDArray[np.float32]
    """Embeddings of the queries, unit length, shape (n, d)."""
    answers: NDArray[np.float32]
    """Embeddings of the answers, shape (n, d)."""
    numbers: NDArray[np.float32]
    """As `answer_numbers` gives them, shape (n, m)."""
    before: NDArray[np.float32]
    """The candidate's score of each query, by heads that had not seen it, shape (n,)."""
    targets: NDArray[np.float64]
    """Quality of the answer less the reference's, shape (n,)."""

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: NDArray[np.intp]) -> AnswerBatch:
        """Keep these rows."""
        return AnswerBatch(
            self.queries[rows],
            self.answers[rows],
            self.numbers[rows],
            self.before[rows],
            self.targets[rows],
        )

    @property
    def embeddings(self) -> NDArray[np.float32]:
        """Query and answer side by side, unit length, shape (n, 2 d)."""
        return np.hstack([self.queries, self.answers]) * HALF

    @property
    def features(self) -> NDArray[np.float32]:
        """The numbers, the likeness of answer and query, and the score before, (n, m + 2)."""
        likeness = (self.queries * self.answers).sum(axis=1, keepdims=True)
        return np.hstack([self.numbers, likeness, self.before[:, None]]).astype(np.float32)

    def as_batch(self) -> Batch:
        """Return it as heads of queries take it."""
        nothing = (None,) * len(self)
        return Batch(self.embeddings, self.features, self.targets[:, None], nothing)


@dataclass(frozen=True)
class NumbersHead:
    """Kernel ridge regression on the features alone (RBF, Nystrom landmarks)."""

    mean: NDArray[np.float32]
    """Shape (f,)."""
    scale: NDArray[np.float32]
    """Shape (f,); 0 where a feature never varies."""
    landmarks: NDArray[np.float32]
    """Standardised, shape (l, f)."""
    weights: NDArray[np.float64]
    """Shape (l, 1)."""
    offset: NDArray[np.float64]
    """Shape (1,)."""
    gamma: float
    """Width: `exp(-gamma / 2 * squared distance)`."""

    @classmethod
    def fit(cls, batch: AnswerBatch, ridges: Sequence[float], seed: int) -> list[NumbersHead]:
        """Fit one head per ridge penalty; they share everything but the last solve."""
        features, targets = batch.features, batch.targets[:, None]
        spread, mean = features.std(axis=0), features.mean(axis=0)
        scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 1e-6)
        rows = standardised(features, mean, scale)
        gamma = 2.0 / max(1, int((scale > 0).sum()))
        chosen = np.random.default_rng(seed).permutation(len(batch))[:NUMBERS_LANDMARKS]
        landmarks, offset = rows[chosen], targets.mean(axis=0)
        gram, inner = rbf(rows, landmarks, gamma), rbf(landmarks, landmarks, gamma)
        square, right = gram.T @ gram, gram.T @ (targets - offset)
        jitter = JITTER * np.eye(len(landmarks))
        return [
            cls(
                mean,
                scale,
                landmarks,
                np.linalg.solve(square + ridge * inner + jitter, right),
                offset,
                gamma,
            )
            for ridge in ridges
        ]

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Predict labels, shape (n, 1)."""
        rows = standardised(features, self.mean, self.scale)
        return np.asarray(rbf(rows, self.landmarks, self.gamma) @ self.weights + self.offset)


def standardised(
    features: NDArray[np.float32], mean: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Centre and scale features, outliers cut."""
    cut = np.clip((features - mean) * scale, -NUMBERS_CUT, NUMBERS_CUT)
    return np.asarray(cut, dtype=np.float32)


def rbf(left: NDArray[np.float32], right: NDArray[np.float32], gamma: float) -> NDArray[np.float64]:
    """Compute a Gaussian kernel, shape (n, l)."""
    one, other = left.astype(np.float64), right.astype(np.float64)
    squared = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None, :]
    return np.asarray(np.exp(-gamma / 2 * (squared - 2 * one @ other.T)))


@dataclass(frozen=True)
class BeforeHead:
    """The score before the call, as it is."""


AnswerHead = KernelHead | LinearHead | NumbersHead | BeforeHead


@dataclass(frozen=True)
class TrainedAnswers:
    """A weighted sum of heads for the answers of one candidate."""

    parts: dict[str, AnswerHead]
    """Those that cross-validation kept: `words`, `linear`, `numbers`, `before`."""
    weights: dict[str, float]
    """Their weights, greater than 0."""
    offset: float
    """Mean label."""
    out_of_fold: NDArray[np.float64]
    """Scores of the training answers by heads that had not seen their queries, shape (n,)."""

    def predict(self, batch: AnswerBatch) -> NDArray[np.float64]:
        """Compute scores, shape (n,); the ONNX graph computes the same."""
        moved = (
            self.weights[name] * (_predict(part, batch) - self.offset)
            for name, part in self.parts.items()
        )
        return np.asarray(self.offset + sum(moved))


def train_answers(batch: AnswerBatch, groups: Sequence[str], seed: int) -> TrainedAnswers:
    """Fit all heads, and weigh them by how they predict answers to queries they have not seen.

    Args:
        batch: The answers.
        groups: One key per row; rows of one key stay in one fold (the query's text).
        seed: Seed of folds and landmarks.
    """
    folds = folds_of(groups, seed)
    unseen: dict[str, NDArray[np.float64]] = {}
    for fold in range(FOLDS):
        outside = np.flatnonzero(folds == fold)
        rows = batch.take(outside)
        for name, part in _fit_each(batch.take(np.flatnonzero(folds != fold)), seed).items():
            unseen.setdefault(name, np.empty(len(batch)))[outside] = _predict(part, rows)
    best = _best_of_each(unseen, batch.targets)
    columns = {name.partition("@")[0]: unseen[name][:, None] for name in best}
    weights, mixed = weigh(columns, batch.targets[:, None])
    parts = {name.partition("@")[0]: part for name, part in _fit_each(batch, seed, best).items()}
    return TrainedAnswers(
        {name: parts[name] for name in weights},
        weights,
        float(batch.targets.mean()),
        mixed[:, 0],
    )


def _fit_each(
    batch: AnswerBatch, seed: int, only: Sequence[str] | None = None
) -> dict[str, AnswerHead]:
    """Fit every head with each of its penalties, as `name@penalty`; or those named alone."""
    wanted = [_penalty(name) for name in only] if only is not None else None
    words = [r for r in RIDGES if wanted is None or ("words", r) in wanted]
    numbers = [r for r in NUMBERS_RIDGES if wanted is None or ("numbers", r) in wanted]
    linear = [r for r in LINEAR_RIDGES if wanted is None or ("linear", r) in wanted]
    plain = batch.as_batch()
    found: dict[str, AnswerHead] = {"before": BeforeHead()}
    for ridge, kernel in zip(words, KernelHead.fit(plain, words, seed), strict=True):
        found[f"words@{ridge}"] = kernel
    for ridge, own in zip(numbers, NumbersHead.fit(batch, numbers, seed), strict=True):
        found[f"numbers@{ridge}"] = own
    for ridge in linear:
        found[f"linear@{ridge}"] = LinearHead.fit(
            plain.embeddings, plain.features, plain.targets, ridge=ridge
        )
    return found


def _penalty(name: str) -> tuple[str, float]:
    head, _, ridge = name.partition("@")
    return head, float(ridge or 0)


def _best_of_each(
    unseen: dict[str, NDArray[np.float64]], targets: NDArray[np.float64]
) -> list[str]:
    """Keep, of each head, the penalty of the least error."""
    best: dict[str, str] = {}
    errors = {name: float(((column - targets) ** 2).mean()) for name, column in unseen.items()}
    for name in sorted(errors, key=lambda name: errors[name]):
        best.setdefault(name.partition("@")[0], name)
    return list(best.values())


def _predict(part: AnswerHead, batch: AnswerBatch) -> NDArray[np.float64]:
    if isinstance(part, BeforeHead):
        return batch.before.astype(np.float64)
    if isinstance(part, NumbersHead):
        return part.predict(batch.features)[:, 0]
    return part.predict(batch.embeddings, batch.features)[:, 0]
