"""Measuring a router beside its baselines, on queries it has not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.data.draws import have_answers
from shared_router.deciding.curve import resolve_dial
from shared_router.deciding.looks import follow
from shared_router.errors import DataError
from shared_router.measuring.escalation import measure_escalation
from shared_router.measuring.evaluation import OutcomeTable, RoutingReport, compare, figures_at_dial
from shared_router.measuring.second_look import Recorded, measure_looks
from shared_router.measuring.task_figures import figures_by_task
from shared_router.options import Asked
from shared_router.router.judged import judged, judged_choice
from shared_router.router.looking import NO_ANSWERS, NO_PAY, look_at
from shared_router.router.queries import finite, fresh, known_retrieval, unseen
from shared_router.router.task_scores import score_by_task
from shared_router.serving.scorer import GraphScorer
from shared_router.support.progress import counter
from shared_router.training.neighbours import neighbour_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from shared_router.data.dataset import RoutingDataset
    from shared_router.deciding.curve import CalibrationCurve
    from shared_router.deciding.settings import Dialling
    from shared_router.measuring.escalation import EscalationReport
    from shared_router.options import Confidence, Dial
    from shared_router.router.state import RouterState
    from shared_router.support.progress import Progress


def evaluate(
    router: RouterState,
    data: RoutingDataset,
    dial: Dial | None,
    confidence: Confidence,
    resamples: int,
    progress: Progress | None,
    skip_seen: bool = False,
) -> RoutingReport:
    """Measure a router beside its baselines; see `Router.evaluate`."""
    if not data.records:
        raise DataError(f"{data.name}: empty; there is nothing to evaluate on.")
    given = data.candidates(router.candidates)
    complete = fresh(router, given) if skip_seen else unseen(router, given, "evaluate")
    if dial is not None:
        resolve_dial(dial, router.estimate)  # says that a quality dial needs a calibration
    curve = None if router.calibrated_ids.intersection(complete.ids) else router.curve
    scores, gaps = _scores_and_gaps(router, complete, progress)
    outcomes = OutcomeTable(
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
        dial=_at_dial(router, dial, confidence, curve, scores, complete, outcomes, resamples)
        if dial
        else None,
        cost_quality=costs,
        left_out=len(given) - len(complete),
        second_look=_looks(router, complete, scores, dial, confidence, resamples, progress),
        **judged(router, complete, scores, outcomes, dial, confidence, resamples),
    )


def _looks(
    router: RouterState,
    data: RoutingDataset,
    scores: NDArray[np.float32],
    dial: Dial | None,
    confidence: Confidence,
    resamples: int,
    progress: Progress | None,
) -> dict[str, Any] | None:
    """Measure second looks beside none, or say why that cannot be; `None` of a router without."""
    looks, rules = router.second_look, router.look_rules()
    if looks is None:
        return None
    if rules is None:
        return {"why_not": NO_PAY}
    if not have_answers(data, router.candidates[:-1]):
        return {"why_not": NO_ANSWERS}
    asked = Asked(dial or router.dial, dial is not None, confidence)
    lines = [each for each in (rules.dialling, router.dialling()) if _resolves(each, asked.dial)]
    if len(lines) < 2:
        return {"why_not": "the line with looks is not calibrated"}
    settings = [line.resolve(asked) for line in lines]
    seen = look_at(router, looks, data, progress)
    costs, unit = _call_costs(router, data)
    found = Recorded(
        np.asarray(scores, dtype=np.float64),
        seen.answers,
        seen.data.quality(router.candidates),
        costs,
    )
    thresholds = settings[0].threshold, settings[1].threshold
    claims = [(each.claim.guarantee, each.claim.reason) for each in settings]
    report = measure_looks(found, rules.band, thresholds, (claims[0], claims[1]), unit, resamples)
    choice = follow(rules.band, found.scores, found.answers, thresholds[0]).choice
    outcomes = OutcomeTable(seen.data.queries, found.quality, names=router.candidates)
    verdict = judged_choice(
        router, seen.data, choice, outcomes, dial, confidence, settings[0].claim.guarantee
    )
    about = {"pays": looks.pays, "width": looks.width, "sentence": verdict.sentence}
    return about | {"verdict": verdict.to_dict()} | report.to_dict()


def _resolves(line: Dialling, dial: Dial) -> bool:
    return line.curve is not None or dial.name == "threshold"


def _call_costs(router: RouterState, data: RoutingDataset) -> tuple[NDArray[np.float64], str]:
    """Return what each call costs, and in which unit."""
    recorded, means = data.costs_usd(router.candidates), _costs(router)
    if recorded is not None:
        return recorded, "usd"
    return (1 - router.rule.savings, "saving") if means is None else (means, "usd")


def escalation(
    router: RouterState,
    data: RoutingDataset,
    checks: Sequence[Any],
    dial: Dial | None,
    confidence: Confidence,
    resamples: int,
    skip_seen: bool = False,
) -> EscalationReport:
    """Measure what checks on answers buy and cost; see `Router.evaluate_escalation`."""
    given = data.candidates(router.candidates)
    complete = fresh(router, given) if skip_seen else unseen(router, given, "evaluate")
    choice = np.zeros(len(complete), dtype=np.intp)
    if dial is not None:
        setting = router.setting_of(dial, confidence)
        choice = router.rule.choose(_scores(router, complete, None), setting.threshold)
    names, usual = router.candidates, router.costs_usd
    return measure_escalation(complete, names, choice, checks, resamples, usual)


def _at_dial(
    router: RouterState,
    dial: Dial,
    confidence: Confidence,
    curve: CalibrationCurve | None,
    scores: NDArray[np.float32],
    data: RoutingDataset,
    outcomes: OutcomeTable,
    resamples: int,
) -> dict[str, Any]:
    """Measure one dial, within each task too where the router is calibrated by task."""
    setting = router.setting_of(dial, confidence)
    found = figures_at_dial(dial, curve, router.rule, scores, outcomes, setting.threshold)
    if curve is not None:  # where these queries calibrated, it is the estimate that is halved
        claim = setting.claim
        found |= {"guarantee": claim.guarantee, "guarantee_reason": claim.reason}
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


def _costs(router: RouterState) -> NDArray[np.float64] | None:
    if router.costs_usd is None or any(cost is None for cost in router.costs_usd):
        return None
    return np.array(router.costs_usd, dtype=np.float64)


def _scores(
    router: RouterState, data: RoutingDataset, progress: Progress | None
) -> NDArray[np.float32]:
    facts = known_retrieval(router, data)
    if not isinstance(router.scorer, GraphScorer):
        return finite(router.score(data.queries, retrieval=facts), data.name)
    told = counter(progress, "score", len(data))
    return router.scorer.score(data.queries, told, retrieval=facts)


def _scores_and_gaps(
    router: RouterState, data: RoutingDataset, progress: Progress | None
) -> tuple[NDArray[np.float32], NDArray[np.float64] | None]:
    """Score, and find the mean gap of each query's nearest train queries."""
    if router.train_memory is None or not isinstance(router.scorer, GraphScorer):
        return _scores(router, data, progress), None
    scores, embeddings = router.scorer.score_and_embed(
        data.queries, counter(progress, "score", len(data)), known_retrieval(router, data)
    )
    if np.isnan(router.train_memory.gaps).any():  # of other models, so that they say nothing here
        return scores, None
    known = router.train_memory.embeddings.astype(np.float32)
    return scores, neighbour_mean(embeddings, known, router.train_memory.gaps.astype(np.float64))
