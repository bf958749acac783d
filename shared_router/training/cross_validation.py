"""Training: which heads help, and how much, by cross-validation inside `train`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.errors import MissingExtraError
from shared_router.training.heads import RIDGES, Batch, KernelHead, NeighbourHead, TaskHead
from shared_router.training.linear import LinearHead
from shared_router.training.task_signal import fit_signal, tasks_to_tell
from shared_router.training.term_head import TERM_RIDGES, TermHead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from shared_router.training.task_signal import TaskSignal

FOLDS = 5
LEAST_ROWS = 20
"""Fewer training queries than this are not cross-validated: the kernel stands alone."""
SURE_GAIN = 2.0
"""Standard errors by which the words must lower the squared error to be a part."""
LEAST_SLOPE = 1e-3
"""A link always rises, so that ranking is kept."""
LINK_RIDGE = 1e-6

Head = KernelHead | NeighbourHead | TaskHead | LinearHead | TermHead


@dataclass(frozen=True)
class TrainedHead:
    """A weighted sum of heads, and the link that makes it a score."""

    parts: dict[str, Head]
    """Heads that cross-validation kept, by name: `kernel`, `neighbours`, `task`, `terms`; a
    `linear` head is none of them: who wants one makes it."""
    weights: dict[str, float]
    """Their weights, greater than 0."""
    offset: NDArray[np.float64]
    """Mean label, shape (k - 1,)."""
    link: tuple[NDArray[np.float64], NDArray[np.float64]] | None
    """Slope and intercept of a logistic link, each of shape (k - 1,), for label kinds that are
    probabilities; `None` for `gap`."""
    ridge: float
    """The chosen penalty of the kernel head."""
    signal: TaskSignal | None = None
    """What a given task label adds; `None` where the data tell no tasks apart."""
    out_of_fold: NDArray[np.float64] | None = None
    """Scores of the training queries by heads that had not seen them, shape (n, k - 1); `None`
    where they were too few for that."""

    def predict(
        self,
        embeddings: NDArray[np.float32],
        features: NDArray[np.float32],
        tasks: Sequence[str | None] | None = None,
        terms: Any = None,
    ) -> NDArray[np.float64]:
        """Compute scores, shape (n, k - 1); the ONNX graph computes the same.

        Args:
            embeddings: Shape (n, d).
            features: Shape (n, f).
            tasks: Given labels, where there are any.
            terms: As `term_matrix` gives them; needed where they are a part.
        """
        raw = self.offset + sum(
            self.weights[name] * (_predict(part, embeddings, features, terms) - self.offset)
            for name, part in self.parts.items()
        )
        if self.link is not None:
            slope, intercept = self.link
            raw = slope * raw + intercept
        if tasks is not None and self.signal is not None:
            raw = raw + self.signal.offset_of(tasks)
        return np.asarray(raw if self.link is None else 1 / (1 + np.exp(-raw)))


def train_head(
    batch: Batch,
    groups: Sequence[str],
    *,
    probability: bool,
    neighbours: bool = True,
    seed: int = 0,
) -> TrainedHead:
    """Fit all heads, and weigh them by how they predict queries they have not seen.

    Out-of-fold predictions of every head are combined by non-negative least squares; a head of
    weight 0 is dropped, and the words too where what they bring may be chance. Paper-label scores
    get a logistic link fitted by cross-entropy on the same predictions.

    Args:
        batch: Training material.
        groups: One key per row; rows of one key stay in one fold (the query's text).
        probability: Whether the labels are probabilities.
        neighbours: Whether nearest neighbours may be a part.
        seed: Seed of folds and landmarks.

    Returns:
        The head, fitted on all rows.
    """
    recipe = _Recipe(tasks_to_tell(batch.tasks), neighbours, seed)
    folds = folds_of(groups, seed)
    tasks: tuple[str, ...] = ()  # predictions of seen queries tell no offsets
    if len(batch) < LEAST_ROWS or len(set(folds)) < FOLDS:
        ridges, weights = {"kernel": RIDGES[-1]}, {"kernel": 1.0}
        parts = recipe.fit(batch, ridges)
        mixed = _predict_rows(parts["kernel"], batch)
        unseen = None
    else:
        found = mixture(_out_of_fold(batch, folds, recipe), batch.targets)
        ridges, weights, mixed = found.ridges, found.weights, found.predicted
        parts, tasks = recipe.fit(batch, ridges), recipe.tasks
        unseen = mixed
    link = _logistic_link(mixed, batch.targets) if probability else None
    return TrainedHead(
        {name: parts[name] for name in weights},
        weights,
        batch.targets.mean(axis=0),
        link,
        ridges["kernel"],
        fit_signal(batch, tasks, mixed, link),
        None if unseen is None else _linked(unseen, link),
    )


def _linked(
    raw: NDArray[np.float64], link: tuple[NDArray[np.float64], NDArray[np.float64]] | None
) -> NDArray[np.float64]:
    """Make scores of what the heads predict together."""
    if link is None:
        return raw
    slope, intercept = link
    return np.asarray(1 / (1 + np.exp(-(slope * raw + intercept))))


@dataclass(frozen=True)
class _Recipe:
    """Which heads to fit."""

    tasks: tuple[str, ...]
    neighbours: bool
    seed: int

    def fit(self, batch: Batch, ridges: dict[str, float]) -> dict[str, Head]:
        """Fit every head, with the chosen penalties; words where they have one."""
        parts: dict[str, Head] = {"kernel": self._kernels(batch, (ridges["kernel"],))[0]}
        if "terms" in ridges:
            parts["terms"] = _terms(batch, (ridges["terms"],))[0]
        return parts | self._others(batch)

    def fit_each(self, batch: Batch) -> dict[str, Head]:
        """Fit every head; those that have a penalty with each, as `name@penalty`."""
        kernels = zip(RIDGES, self._kernels(batch, RIDGES), strict=True)
        parts: dict[str, Head] = {f"kernel@{ridge}": head for ridge, head in kernels}
        if batch.terms is not None:
            words = zip(TERM_RIDGES, _terms(batch, TERM_RIDGES), strict=True)
            parts |= {f"terms@{ridge}": head for ridge, head in words}
        return parts | self._others(batch)

    def _kernels(self, batch: Batch, ridges: Sequence[float]) -> list[KernelHead]:
        return KernelHead.fit(batch, ridges, self.seed)

    def _others(self, batch: Batch) -> dict[str, Head]:
        parts: dict[str, Head] = {}
        if self.neighbours:
            parts["neighbours"] = NeighbourHead.fit(batch)
        if self.tasks:
            parts["task"] = TaskHead.fit(batch, self.tasks)
        return parts


def _terms(batch: Batch, ridges: Sequence[float]) -> list[TermHead]:
    return TermHead.fit(batch.terms, batch.targets, ridges)


def _predict(
    part: Head, embeddings: NDArray[np.float32], features: NDArray[np.float32], terms: Any
) -> NDArray[np.float64]:
    if isinstance(part, TermHead):
        if terms is None:
            raise ValueError("This head reads words: pass terms=term_matrix(texts).")
        return part.predict(terms)
    return part.predict(embeddings, features)


def _predict_rows(part: Head, batch: Batch) -> NDArray[np.float64]:
    return _predict(part, batch.embeddings, batch.features, batch.terms)


def folds_of(groups: Sequence[str], seed: int) -> NDArray[np.intp]:
    """Deal distinct groups to folds in a random order."""
    number = {group: i for i, group in enumerate(sorted(set(groups)))}
    fold_of_group = np.random.default_rng(seed).permutation(len(number)) % FOLDS
    folds: NDArray[np.intp] = fold_of_group[[number[group] for group in groups]]
    return folds


def _out_of_fold(
    batch: Batch, folds: NDArray[np.intp], recipe: _Recipe
) -> dict[str, NDArray[np.float64]]:
    """Predict every row with heads that have not seen its fold."""
    unseen: dict[str, NDArray[np.float64]] = {}
    for fold in range(FOLDS):
        outside = np.flatnonzero(folds == fold)
        parts = recipe.fit_each(batch.take(np.flatnonzero(folds != fold)))
        rows = batch.take(outside)
        for name, part in parts.items():
            column = unseen.setdefault(name, np.empty_like(batch.targets))
            column[outside] = _predict_rows(part, rows)
    return unseen


@dataclass(frozen=True)
class Mixture:
    """Heads weighed on predictions of queries they have not seen."""

    weights: dict[str, float]
    predicted: NDArray[np.float64]
    """Shape (n, k - 1)."""
    ridges: dict[str, float]
    """The chosen penalty of each head that has one."""

    def errors(self, targets: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean squared error of each query, shape (n,)."""
        return np.asarray(((self.predicted - targets) ** 2).mean(axis=1))


def mixture(unseen: dict[str, NDArray[np.float64]], targets: NDArray[np.float64]) -> Mixture:
    """Choose penalties and weights; words are a part only where they surely lower the error.

    The kernel's penalty is that of its own least error, the words' that of the mixture's: they are
    there to add to the rest.
    """
    kernels = {ridge: unseen[f"kernel@{ridge}"] for ridge in RIDGES}
    ridge = min(kernels, key=lambda r: float(((kernels[r] - targets) ** 2).mean()))
    others = {name: column for name, column in unseen.items() if "@" not in name}
    plain = _mixed({"kernel": kernels[ridge]} | others, targets, {"kernel": ridge})
    worded = [
        _mixed(
            {"kernel": kernels[ridge]} | others | {"terms": unseen[f"terms@{own}"]},
            targets,
            {"kernel": ridge, "terms": own},
        )
        for own in TERM_RIDGES
        if f"terms@{own}" in unseen
    ]
    best = min(worded, key=lambda one: one.errors(targets).mean(), default=plain)
    gain = plain.errors(targets) - best.errors(targets)
    return best if gain.mean() > SURE_GAIN * gain.std() / np.sqrt(len(gain)) else plain


def _mixed(
    unseen: dict[str, NDArray[np.float64]],
    targets: NDArray[np.float64],
    ridges: dict[str, float],
) -> Mixture:
    weights, predicted = weigh(unseen, targets)
    return Mixture(weights, predicted, ridges)


def weigh(
    unseen: dict[str, NDArray[np.float64]], targets: NDArray[np.float64]
) -> tuple[dict[str, float], NDArray[np.float64]]:
    """Weigh heads by non-negative least squares around the mean label."""
    offset = targets.mean(axis=0)
    columns = np.stack([(column - offset).ravel() for column in unseen.values()], axis=1)
    solved = _non_negative(columns, (targets - offset).ravel())
    weights = {name: float(w) for name, w in zip(unseen, solved, strict=True) if w > 1e-6}
    if not weights:  # nothing predicts: keep one head, so that ranking is defined
        weights = {"kernel": 1.0}
    mixed = offset + sum(w * (unseen[name] - offset) for name, w in weights.items())
    return weights, np.asarray(mixed)


def _non_negative(columns: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    solution, _ = _scipy_optimize().nnls(columns, target)
    return np.asarray(solution)


def _logistic_link(
    raw: NDArray[np.float64], targets: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit `sigmoid(slope * raw + intercept)` to soft labels by cross-entropy, column by column."""
    fitted = [_fit_link(column, label) for column, label in zip(raw.T, targets.T, strict=True)]
    slopes, intercepts = np.array(fitted).T
    return slopes, intercepts


def _fit_link(column: NDArray[np.float64], label: NDArray[np.float64]) -> tuple[float, float]:
    """Minimise the binary cross-entropy of one column, with a whisper of ridge on the slope."""

    def loss(at: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logit = at[0] * column + at[1]
        error = 1 / (1 + np.exp(-logit)) - label
        value = np.mean(np.logaddexp(0, logit) - label * logit) + LINK_RIDGE * at[0] ** 2
        slope = np.mean(error * column) + 2 * LINK_RIDGE * at[0]
        return float(value), np.array([slope, np.mean(error)])

    bounds = [(LEAST_SLOPE, None), (None, None)]
    found = _scipy_optimize().minimize(loss, np.array([1.0, 0.0]), jac=True, bounds=bounds)
    return float(found.x[0]), float(found.x[1])


def _scipy_optimize() -> Any:
    try:
        from scipy import optimize
    except ImportError as error:
        raise MissingExtraError("Training needs scipy: pip install 'hybrid-llm[train]'.") from error
    return optimize
