"""What a router is measured on: its calibration, and its report, on queries it has not seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.data.costs import given_costs
from shared_router.deciding.curve import CalibrationCurve, calibration_curve, resolve_dial
from shared_router.deciding.tasks import BY_TASK
from shared_router.deciding.walk import one_sign
from shared_router.errors import ConfigurationError, DataError, ScoringError
from shared_router.measuring.evaluation import Outcomes, RoutingReport, compare, figures_at_dial
from shared_router.measuring.task_figures import figures_by_task
from shared_router.options import Dial
from shared_router.router.task_scores import score_by_task, task_curves
from shared_router.serving.scorer import GraphScorer
from shared_router.training.fit import counter
from shared_router.training.neighbours import neighbour_mean
from shared_router.training.retrieval_facts import facts_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from shared_router.data.dataset import RoutingDataset
    from shared_router.deciding.tasks import ByTask, TaskCurves
    from shared_router.retrieval import RetrievalFacts
    from shared_router.router.router import Router
    from shared_router.training.fit import Progress

LEAST_CALIBRATION = 2
"""Fewest queries a calibration can be made of."""
DEFAULT_DROP = 0.01
"""The paper's operating point: at most 1 % quality drop."""


@dataclass(frozen=True)
class Calibrated:
    """What a calibration found."""

    curve: CalibrationCurve
    """Over all queries, scored without labels."""
    tasks: TaskCurves | None
    """Over the queries of each task with enough of them; `None` where none is named, or asked."""
    data: RoutingDataset
    """The queries."""


def calibrate(
    router: Router,
    data: RoutingDataset,
    by_task: ByTask,
    least_per_task: int,
    progress: Progress | None,
) -> Calibrated:
    """Measure a router's line; see `Router.calibrate`."""
    if by_task not in BY_TASK:
        raise ConfigurationError(f"by_task is one of {', '.join(BY_TASK)}; got {by_task!r}.")
    if least_per_task < LEAST_CALIBRATION:
        raise ConfigurationError(
            f"least_per_task is at least {LEAST_CALIBRATION} queries; got {least_per_task}."
        )
    complete = _unseen(router, data, "calibrate") if data.records else data
    if len(complete) < LEAST_CALIBRATION:
        raise DataError(
            f"{data.name}: {len(complete)} queries; a calibration needs at least "
            f"{LEAST_CALIBRATION}, and a few hundred to be worth much."
        )
    known = [record.task for record in complete]
    facts = known_facts(router, complete)
    seen = score_by_task(router, complete.queries, known, by_task, progress, facts)
    _finite(seen.plain, complete.name)
    quality = complete.quality(router.candidates)
    curve = calibration_curve(router.rule, seen.plain, quality)
    curves = task_curves(router.rule, seen, quality, by_task, least_per_task)
    return Calibrated(curve, curves, complete)


def calibration_facts(found: Calibrated) -> dict[str, Any]:
    """Return what the card says of a calibration."""
    tasks = found.tasks
    facts = {"data": found.data.name, "n": found.curve.n, "splits": dict(found.data.splits)}
    if tasks is None:
        return facts
    return facts | {
        "tasks": {
            "by": tasks.by,
            "least": tasks.least,
            "calibrated": {label: curve.n for label, curve in tasks.curves.items()},
            "too_few": dict(tasks.too_few),
        }
    }


def with_costs_of(
    router: Router, data: RoutingDataset, costs_usd: Mapping[str, float] | None
) -> Router:
    """Take given costs, or those of the data where the router knows none."""
    if costs_usd is not None:
        return replace(router, costs_usd=given_costs(router.candidates, costs_usd))
    if (router.costs_usd is None or None in router.costs_usd) and data.records:
        measured = tuple(data.mean_costs_usd(router.candidates))
        return router if None in measured else replace(router, costs_usd=measured)
    return router


def with_costs(router: Router, costs_usd: tuple[float, ...]) -> Router:
    """Weigh the candidates by other costs; see `Router.with_costs`."""
    priced = replace(router, costs_usd=costs_usd)
    curve, tasks = router.curve, router.task_curves
    if curve is None or np.array_equal(priced.rule.savings, router.rule.savings):
        return priced
    walked = tasks and replace(
        tasks, curves={name: own.under(priced.rule) for name, own in tasks.curves.items()}
    )
    return replace(priced, curve=curve.under(priced.rule), task_curves=walked)


def default_dial(curve: CalibrationCurve) -> Dial:
    """Choose the stored default: the paper's drop, or half the calls where it has no meaning."""
    if one_sign(curve.quality_range) and curve.reference_quality != 0:
        return Dial("max_quality_drop", DEFAULT_DROP)
    return Dial("cost_advantage", 0.5)


def evaluate(
    router: Router,
    data: RoutingDataset,
    dial: Dial | None,
    resamples: int,
    progress: Progress | None,
    skip_seen: bool = False,
) -> RoutingReport:
    """Measure a router beside its baselines; see `Router.evaluate`."""
    if not data.records:
        raise DataError(f"{data.name}: empty; there is nothing to evaluate on.")
    given = data.candidates(router.candidates)
    complete = _fresh(router, given) if skip_seen else _unseen(router, given, "evaluate")
    if dial is not None:
        resolve_dial(dial, router.curve)  # says that a quality dial needs a calibration
    curve = None if router.calibrated_ids.intersection(complete.ids) else router.curve
    scores, gaps = _scores_and_gaps(router, complete, progress)
    outcomes = Outcomes(
        complete.queries,
        complete.quality(router.candidates),
        _costs(router),
        complete.costs_usd(router.candidates),
        router.candidates,
    )
    figures, baselines, costs = compare(router.rule, scores, outcomes, gaps, resamples)
    means = outcomes.quality.mean(axis=0)
    return RoutingReport(
        n=len(complete),
        split=", ".join(sorted(complete.splits)),
        candidates=router.candidates,
        quality=dict(zip(router.candidates, map(float, means), strict=True)),
        router=figures,
        baselines=baselines,
        dial=_at_dial(router, dial, curve, scores, complete, outcomes, resamples) if dial else None,
        cost_quality=costs,
        left_out=len(given) - len(complete),
    )


def _at_dial(
    router: Router,
    dial: Dial,
    curve: CalibrationCurve | None,
    scores: NDArray[np.float32],
    data: RoutingDataset,
    outcomes: Outcomes,
    resamples: int,
) -> dict[str, Any]:
    """Measure one dial, within each task too where the router is calibrated by task."""
    found = figures_at_dial(dial, curve, router.rule, scores, outcomes)
    curves = router.task_curves
    if curves is None or dial.name == "threshold":
        return found
    known = [record.task for record in data]
    seen = score_by_task(router, data.queries, known, curves.by, None, data.retrieval)
    keyed = seen.keyed(curves)
    return found | {
        "tasks": figures_by_task(
            dial, router.rule, keyed, outcomes, curve, curves.curves, resamples
        )
    }


def _fresh(router: Router, data: RoutingDataset) -> RoutingDataset:
    """Leave out what the router was fitted on, and calibrated on where others remain.

    Raises:
        DataError: If it was fitted on all of them.
    """
    unfitted = data.where(lambda record: record.id not in router.fitted_ids)
    if not unfitted.records:
        raise DataError(
            f"{data.name}: all {len(data)} queries were fitted on, and none is left to evaluate "
            "on: give other queries, such as a file of fresh ones by `hybrid-llm collect --split "
            "test`."
        )
    fresh = unfitted.where(lambda record: record.id not in router.calibrated_ids)
    return fresh if fresh.records else unfitted


def _unseen(router: Router, data: RoutingDataset, purpose: str) -> RoutingDataset:
    """Keep complete records, and refuse those the router was fitted on."""
    complete = data.candidates(router.candidates)
    seen = router.fitted_ids.intersection(complete.ids)
    if seen:
        leave = ", or leave them out with skip_seen=True (--skip-seen)"
        raise DataError(
            f"{data.name}: {len(seen)} of {len(complete)} queries were fitted on (id "
            f"{min(seen)!r}): {purpose} on others, such as data.split('validation')"
            f"{leave if purpose == 'evaluate' else ''}."
        )
    return complete


def _costs(router: Router) -> NDArray[np.float64] | None:
    if router.costs_usd is None or any(cost is None for cost in router.costs_usd):
        return None
    return np.array(router.costs_usd, dtype=np.float64)


def known_facts(router: Router, data: RoutingDataset) -> list[RetrievalFacts | None] | None:
    """Return the facts of retrieval that a router scores these queries with."""
    scorer = router.scorer
    return facts_for(data, scorer.fact_means) if isinstance(scorer, GraphScorer) else data.retrieval


def _scores(router: Router, data: RoutingDataset, progress: Progress | None) -> NDArray[np.float32]:
    facts = known_facts(router, data)
    if not isinstance(router.scorer, GraphScorer):
        return _finite(router.score(data.queries, retrieval=facts), data.name)
    told = counter(progress, "score", len(data))
    return router.scorer.score(data.queries, told, retrieval=facts)


def _finite(scores: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """Check the scores of a scorer that is not ours."""
    if not np.isfinite(scores).all():
        bad = int((~np.isfinite(scores)).any(axis=1).sum())
        raise ScoringError(f"{name}: the scorer gave no finite score to {bad} of {len(scores)}.")
    return scores


def _scores_and_gaps(
    router: Router, data: RoutingDataset, progress: Progress | None
) -> tuple[NDArray[np.float32], NDArray[np.float64] | None]:
    """Score, and find the mean gap of each query's nearest train queries."""
    if router.reference is None or not isinstance(router.scorer, GraphScorer):
        return _scores(router, data, progress), None
    scores, embeddings = router.scorer.score_and_embed(
        data.queries, counter(progress, "score", len(data)), known_facts(router, data)
    )
    if np.isnan(router.reference.gaps).any():  # of other models, so that they say nothing here
        return scores, None
    known = router.reference.embeddings.astype(np.float32)
    return scores, neighbour_mean(embeddings, known, router.reference.gaps.astype(np.float64))
