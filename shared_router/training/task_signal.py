"""Tasks as a signal: what a given label adds to a score, and the task a text tells by itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from shared_router.asking.task_labels import answers_to, count_labels
from shared_router.serving.task_names import TaskNames
from shared_router.training.heads import TASK_PRIOR, TaskHead

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from shared_router.training.heads import Batch

NEWTON_STEPS = 20
LEAST_TASK_ROWS = 10
"""Tasks with fewer training queries are not told apart."""


@dataclass(frozen=True)
class TaskSignal:
    """What the training data say of tasks."""

    names: TaskNames
    offsets: NDArray[np.float64]
    """What a given label adds, shape (labels, k - 1), to an expected gap or to the logit of a
    probability: what heads that had not seen the query missed, shrunk towards 0."""
    teller: TaskHead | None = field(default=None, repr=False)
    """Tells the task by the embedding; `None` where the graph has one already."""

    def offset_of(self, tasks: Sequence[str | None]) -> NDArray[np.float64]:
        """Return each task's offset, shape (n, k - 1); 0 for an unknown one."""
        rows = [self.names.row(task) for task in tasks]
        return np.asarray(np.array(rows, dtype=np.float64) @ self.offsets)

    def under(self, labels: tuple[str, ...]) -> TaskSignal:
        """Lay the offsets out for the labels of another signal; 0 for one unknown here."""
        known = dict(zip(self.names.labels, self.offsets, strict=True))
        nothing = np.zeros(self.offsets.shape[1])
        offsets = np.array([known.get(label, nothing) for label in labels])
        return TaskSignal(TaskNames(labels), offsets)


def no_signal(labels: tuple[str, ...], columns: int) -> TaskSignal:
    """Make a signal to which every label is nothing."""
    return TaskSignal(TaskNames(labels), np.zeros((len(labels), columns)))


def tasks_to_tell(tasks: Iterable[str | None]) -> tuple[str, ...]:
    """List the tasks with enough queries, where there are at least two."""
    counts = Counter(task for task in tasks if task)
    told = tuple(sorted(task for task, n in counts.items() if n >= LEAST_TASK_ROWS))
    return told if len(told) > 1 else ()


def fit_signal(
    batch: Batch,
    told: Sequence[str],
    unseen: NDArray[np.float64],
    link: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
) -> TaskSignal | None:
    """Measure what labels add to predictions of unseen queries.

    Args:
        batch: Training material.
        told: Tasks with enough queries.
        unseen: Predictions by heads that had not seen the query, shape (n, k - 1).
        link: Slope and intercept of a logistic link, for probabilities.

    Returns:
        The signal; `None` where fewer than two tasks are told apart.
    """
    if not told:
        return None
    counts = count_labels(batch.tasks)
    labels = tuple(sorted(label for label, n in counts.items() if n >= LEAST_TASK_ROWS))
    rows = [[answers_to(task, label) for task in batch.tasks] for label in labels]
    members = np.array(rows, dtype=np.float64)
    if link is None:
        missed = members @ (batch.targets - unseen)
        offsets = missed / (members.sum(axis=1, keepdims=True) + TASK_PRIOR)
    else:
        slope, intercept = link
        offsets = _logit_offsets(members, slope * unseen + intercept, batch.targets)
    return TaskSignal(TaskNames(labels, tuple(told)), offsets, TaskHead.fit(batch, told))


def _logit_offsets(
    members: NDArray[np.float64], logits: NDArray[np.float64], targets: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Fit what each label adds to the logits, by cross-entropy with a ridge.

    The ridge weighs as much as `TASK_PRIOR` queries of an even chance do. Newton's steps from 0:
    the loss is convex and each offset is a single number.
    """
    ridge = TASK_PRIOR / 4
    offsets = np.zeros((len(members), targets.shape[1]))
    for row, inside in enumerate(members.astype(bool)):
        own, wanted = logits[inside], targets[inside]
        for _ in range(NEWTON_STEPS):
            chance = 1 / (1 + np.exp(-(own + offsets[row])))
            slope = (chance - wanted).sum(axis=0) + ridge * offsets[row]
            bend = (chance * (1 - chance)).sum(axis=0) + ridge
            offsets[row] -= np.clip(slope / bend, -1, 1)
    return offsets
