"""Calibrating the line with second looks: on the very answers that were recorded and judged."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from shared_router.data.draws import common_settings, drawn, have_answers, logprobs_of
from shared_router.deciding.looks import effective_scores, looks_curve
from shared_router.router.promising import Promising, promises_of
from shared_router.router.task_scores import LabelScores, TaskScores, task_curves
from shared_router.serving.answers import Answered, GraphAnswerScorer
from shared_router.serving.probes import probe_answers
from shared_router.serving.second_look import LooksLine, SecondLook
from shared_router.support.progress import counter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared_router.data.dataset import RoutingDataset
    from shared_router.deciding.by_task import ByTask
    from shared_router.router.state import RouterState
    from shared_router.support.progress import Progress

NO_SCORER = "the router has no scorer of answers"
NO_PAY = "looks did not pay on the training queries"
NO_ANSWERS = "the data have no `response` of some cheaper candidate"
NOT_SERVED = "told that it does not serve"


def why_no_line(router: RouterState, data: RoutingDataset, second_look: bool | None) -> str | None:
    """Say why no line with looks is calibrated; `None` where one is.

    Args:
        router: The router.
        data: The calibration queries.
        second_look: What the user said of which line serves.
    """
    looks = router.second_look
    if looks is None or looks.width <= 0:
        return NO_SCORER
    if second_look is False:
        return NOT_SERVED
    if not looks.pays and second_look is None:
        return NO_PAY
    return None if have_answers(data, router.candidates[:-1]) else NO_ANSWERS


@dataclass(frozen=True)
class Looked:
    """Queries with one answer of each cheaper candidate, as scored."""

    data: RoutingDataset
    """With the very answers that were scored."""
    answers: NDArray[np.float64]
    """Their scores, shape (n, k - 1); minus infinite where a call would not score it."""


def look_at(
    router: RouterState, looks: SecondLook, data: RoutingDataset, progress: Progress | None = None
) -> Looked:
    """Score one recorded answer of each candidate, as calls would.

    Args:
        router: The router.
        looks: Its second looks.
        data: Queries with responses of all candidates but the reference.
        progress: Told of long work.
    """
    names = router.candidates[:-1]
    kept = drawn(data, names)
    told = counter(progress, "answers", len(kept) * len(names))
    columns = [_column(looks, kept, name, at, told) for at, name in enumerate(names)]
    return Looked(kept, np.stack(columns, axis=1))


def _column(
    looks: SecondLook, data: RoutingDataset, name: str, at: int, progress: object
) -> NDArray[np.float64]:
    scorer = looks.scorer
    found = np.full(len(data), -math.inf)
    given = {row: _answered(data, row, name) for row in range(len(data))}
    kept = {
        row: one
        for row, one in given.items()
        if one.answer.strip() and (one.logprobs or not scorer.needs_logprobs)
    }
    if isinstance(scorer, GraphAnswerScorer):
        scores = scorer.score(list(kept.values()), progress)  # type: ignore[arg-type]
    else:
        scores = scorer.score(list(kept.values()))
    if kept:
        found[list(kept)] = np.asarray(scores, dtype=np.float64).reshape(len(kept), -1)[:, at]
    return found


def _answered(data: RoutingDataset, row: int, name: str) -> Answered:
    record = data.records[row]
    outcome = record.outcomes[name]
    text = (outcome.response or ("",))[0]
    return Answered(record.query, text, logprobs_of(outcome), record.retrieval)


@dataclass(frozen=True)
class CalibratedLooks:
    """What calibrating the line with looks found."""

    second_look: SecondLook
    promising: Promising


def calibrate_looks(
    router: RouterState,
    data: RoutingDataset,
    seen: TaskScores,
    by_task: ByTask,
    least_per_task: int,
    quality_bounds: tuple[float, float] | None,
    look: int,
    error_share: float,
    progress: Progress | None,
) -> CalibratedLooks:
    """Calibrate the line with looks.

    Args:
        router: The router, its costs known; it has second looks.
        data: The calibration queries, with responses.
        seen: Their scores before the call.
        by_task: What keys the calibration.
        least_per_task: Fewest queries of a task's own curve.
        quality_bounds: Least and greatest quality there can be, where stated.
        look: The how manieth look at growing labels it is.
        error_share: Share of the error that this line has.
        progress: Told of long work.
    """
    looks = router.second_look
    if looks is None:
        raise ValueError(NO_SCORER)
    found = look_at(router, looks, data, progress)
    band, quality = looks.band(router.rule), found.data.quality(router.candidates)
    curve = looks_curve(router.rule, band, seen.plain, found.answers, quality)
    tasks, promising = None, Promising(None, "more than two models: the estimate alone")
    if len(router.candidates) == 2:
        own = _effective(looks, router, seen, found.answers)
        tasks = task_curves(router.rule, own, quality, by_task, least_per_task)
        serving = replace(
            router,
            out_of_fold=looks.out_of_fold(router.rule),
            promises=looks.line.promises if looks.line else None,
        )
        promising = promises_of(
            serving, found.data, own, quality_bounds, look, error_share, of_answers=True
        )
    line = LooksLine(curve=curve, task_curves=tasks, promises=promising.promises)
    scored = found.answers[np.isfinite(found.answers).all(axis=1)]
    calibrated = replace(
        looks,
        line=line,
        settings=common_settings(found.data, router.candidates[:-1]),
        probes=probe_answers(looks.scorer, scored) if len(scored) else None,
    )
    return CalibratedLooks(calibrated, promising)


def _effective(
    looks: SecondLook, router: RouterState, seen: TaskScores, answers: NDArray[np.float64]
) -> TaskScores:
    """Put effective scores in the place of those before the call, under every label."""
    band = looks.band(router.rule)
    labels = {
        label: LabelScores(own.rows, effective_scores(band, own.scores, answers[own.rows]))
        for label, own in seen.labels.items()
    }
    return replace(seen, plain=effective_scores(band, seen.plain, answers), labels=labels)
