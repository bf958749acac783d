"""What a router is measured on: its calibration, and its report, on queries it has not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shared_router.deciding.curve import CalibrationCurve, calibration_curve, resolve_dial
from shared_router.deciding.walk import one_sign
from shared_router.errors import DataError, ScoringError
from shared_router.measuring.evaluation import Outcomes, RoutingReport, compare, figures_at_dial
from shared_router.options import Dial
from shared_router.scoring.fitting import counter
from shared_router.scoring.neighbours import neighbour_mean
from shared_router.scoring.serving import GraphScorer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared_router.data.dataset import RoutingDataset
    from shared_router.router import Router
    from shared_router.scoring.fitting import Progress

LEAST_CALIBRATION = 2
"""Fewest queries a calibration can be made of."""
DEFAULT_DROP = 0.01
"""The paper's operating point: at most 1 % quality drop."""


def calibrate(
    router: Router, data: RoutingDataset, progress: Progress | None
) -> tuple[CalibrationCurve, RoutingDataset]:
    """Measure a router's line; see `Router.calibrate`.

    Returns:
        The curve, and the records it was measured on.
    """
    complete = _unseen(router, data, "calibrate") if data.records else data
    if len(complete) < LEAST_CALIBRATION:
        raise DataError(
            f"{data.name}: {len(complete)} queries; a calibration needs at least "
            f"{LEAST_CALIBRATION}, and a few hundred to be worth much."
        )
    scores = _scores(router, complete, progress)
    return calibration_curve(router.rule, scores, complete.quality(router.candidates)), complete


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
) -> RoutingReport:
    """Measure a router beside its baselines; see `Router.evaluate`."""
    if not data.records:
        raise DataError(f"{data.name}: empty; there is nothing to evaluate on.")
    complete = _unseen(router, data, "evaluate")
    if dial is not None:
        resolve_dial(dial, router.curve)  # says that a quality dial needs a calibration
    curve = None if router.calibrated_ids.intersection(complete.ids) else router.curve
    scores, gaps = _scores_and_gaps(router, complete, progress)
    outcomes = Outcomes(complete.queries, complete.quality(router.candidates), _costs(router))
    figures, baselines = compare(router.rule, scores, outcomes, gaps, resamples)
    means = outcomes.quality.mean(axis=0)
    return RoutingReport(
        n=len(complete),
        split=", ".join(sorted(complete.splits)),
        candidates=router.candidates,
        quality=dict(zip(router.candidates, map(float, means), strict=True)),
        router=figures,
        baselines=baselines,
        dial=figures_at_dial(dial, curve, router.rule, scores, outcomes) if dial else None,
    )


def _unseen(router: Router, data: RoutingDataset, purpose: str) -> RoutingDataset:
    """Keep complete records, and refuse those the router was fitted on."""
    complete = data.candidates(router.candidates)
    seen = router.fitted_ids.intersection(complete.ids)
    if seen:
        raise DataError(
            f"{data.name}: {len(seen)} of {len(complete)} queries were fitted on (id "
            f"{min(seen)!r}): {purpose} on others, such as data.split('validation')."
        )
    return complete


def _costs(router: Router) -> NDArray[np.float64] | None:
    if router.costs_usd is None or any(cost is None for cost in router.costs_usd):
        return None
    return np.array(router.costs_usd, dtype=np.float64)


def _scores(router: Router, data: RoutingDataset, progress: Progress | None) -> NDArray[np.float32]:
    if not isinstance(router.scorer, GraphScorer):
        return _finite(router.score(data.queries), data.name)
    return router.scorer.score(data.queries, counter(progress, "score", len(data)))


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
        data.queries, counter(progress, "score", len(data))
    )
    known = router.reference.embeddings.astype(np.float32)
    return scores, neighbour_mean(embeddings, known, router.reference.gaps.astype(np.float64))
