"""Scores and curves by task: each query once without a label, and once under each of its own."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shared_router.asking.task_labels import labels_of
from shared_router.deciding.by_task import TaskCurves
from shared_router.deciding.curve import calibration_curve
from shared_router.measuring.task_figures import Keyed
from shared_router.serving.scorer import GraphScorer, telling
from shared_router.support.progress import counter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from shared_router.deciding.by_task import ByTask
    from shared_router.deciding.rule import Rule
    from shared_router.retrieval import RetrievalFacts
    from shared_router.router.state import RouterState
    from shared_router.support.progress import Progress

    Facts = Sequence[RetrievalFacts | None] | None


@dataclass(frozen=True)
class LabelScores:
    """The queries of one label."""

    rows: NDArray[np.intp]
    """Their positions among all queries, shape (m,)."""
    scores: NDArray[np.floating]
    """Their scores under the label, shape (m, k - 1)."""


@dataclass(frozen=True)
class TaskScores:
    """Scores of n queries, without and with labels."""

    plain: NDArray[np.floating]
    """Without labels, shape (n, k - 1)."""
    labels: Mapping[str, LabelScores]
    """By task and suite; empty where tasks are off or none is named."""
    tasks: Sequence[str | None] = ()
    """The task of each query, given or told."""
    by: ByTask = "given"
    """Which of the two."""

    def keyed(self, curves: TaskCurves) -> Keyed:
        """Score every query as a call with its task would be."""
        keys = [curves.find(task)[0] for task in self.tasks]
        scores = self.plain.copy()
        for label in set(keys) - {None}:
            own = self.labels[str(label)]
            mine = np.array([keys[row] == label for row in own.rows])
            scores[own.rows[mine]] = own.scores[mine]
        return Keyed(self.plain, scores, keys, self.tasks)


def score_by_task(
    router: RouterState,
    texts: Sequence[str],
    given: Sequence[str | None],
    by: ByTask,
    progress: Progress | None = None,
    retrieval: Facts = None,
) -> TaskScores:
    """Score queries, reading from one pass of the encoder what every label makes of each.

    Args:
        router: The router.
        texts: The queries.
        given: Their labels in the data.
        by: `given` scores under the labels; `predicted` groups by the task that each text tells,
            which changes no score; `off` does neither.
        progress: Told of long work.
        retrieval: What was retrieved for each, where known.

    Raises:
        ConfigurationError: If tasks are to be predicted and the router tells none.
    """
    if by == "predicted":
        scorer = telling(router.scorer, router.name)
        plain, told = scorer.score_and_tell(
            texts, counter(progress, "score", len(texts)), retrieval
        )
        names = [labels_of(task) for task in told]
        same = [[row for _ in own] for row, own in zip(plain, names, strict=True)]
        return TaskScores(plain, _grouped(same, names), told, by)
    names = [labels_of(task) if by == "given" else () for task in given]
    found = _under(router, texts, names, progress, retrieval)
    plain = np.array([rows[0] for rows in found], dtype=np.float32)
    return TaskScores(plain, _grouped([rows[1:] for rows in found], names), given, by)


def _under(
    router: RouterState,
    texts: Sequence[str],
    names: Sequence[Sequence[str]],
    progress: Progress | None,
    retrieval: Facts,
) -> list[NDArray[np.float32]]:
    """Score each text without a label, then under each of its own: shape (1 + labels, k - 1)."""
    scorer = router.scorer
    if isinstance(scorer, GraphScorer):
        under = [(None, *own) for own in names]
        told = counter(progress, "score", len(texts))
        found = scorer.run(["score"], texts, told, under, retrieval)
        return [_rows(scores, len(own)) for (scores,), own in zip(found, under, strict=True)]
    plain = router.score(texts, retrieval=retrieval)
    if not getattr(scorer, "takes_tasks", False):
        return [_rows(row[None, :], 1 + len(own)) for row, own in zip(plain, names, strict=True)]
    labelled = [
        router.score([text] * len(own), own, [facts] * len(own))
        for text, own, facts in zip(texts, names, retrieval or [None] * len(texts), strict=True)
    ]
    return [np.vstack([row, under]) for row, under in zip(plain, labelled, strict=True)]


def _rows(scores: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """Repeat the one row of a scorer to which labels are nothing."""
    return np.repeat(scores, n, axis=0) if len(scores) < n else scores


def _grouped(
    under: Sequence[Iterable[NDArray[np.float32]]], names: Iterable[Sequence[str]]
) -> dict[str, LabelScores]:
    """Turn the labels of each query into the queries of each label."""
    rows: dict[str, list[int]] = defaultdict(list)
    scores: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
    for at, (own, found) in enumerate(zip(names, under, strict=True)):
        for label, score in zip(own, found, strict=True):
            rows[label].append(at)
            scores[label].append(score)
    return {label: LabelScores(np.array(rows[label]), np.array(scores[label])) for label in rows}


def task_curves(
    rule: Rule, seen: TaskScores, quality: NDArray[np.float64], by: ByTask, least: int
) -> TaskCurves | None:
    """Walk the line within each label that has enough queries.

    Args:
        rule: The rule.
        seen: The scores.
        quality: Mean quality, shape (n, k).
        by: What keys the calibration.
        least: Fewest queries of a curve.

    Returns:
        The curves; `None` where no label is known.
    """
    if not seen.labels:
        return None
    enough = {label: own for label, own in seen.labels.items() if len(own.rows) >= least}
    return TaskCurves(
        curves={
            label: calibration_curve(rule, own.scores, quality[own.rows])
            for label, own in sorted(enough.items())
        },
        too_few={
            label: len(own.rows)
            for label, own in sorted(seen.labels.items())
            if label not in enough
        },
        least=least,
        by=by,
    )
