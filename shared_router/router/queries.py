"""The queries that a router is measured on: which of a data set, and what is known of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shared_router.errors import DataError, ScoringError
from shared_router.serving.scorer import GraphScorer
from shared_router.training.retrieval import retrieval_for

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared_router.data.dataset import RoutingDataset
    from shared_router.retrieval import RetrievalFacts
    from shared_router.router.state import RouterState


def unseen(router: RouterState, data: RoutingDataset, purpose: str) -> RoutingDataset:
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


def fresh(router: RouterState, data: RoutingDataset) -> RoutingDataset:
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


def known_retrieval(
    router: RouterState, data: RoutingDataset
) -> list[RetrievalFacts | None] | None:
    """Return the facts of retrieval that a router scores these queries with."""
    scorer = router.scorer
    return (
        retrieval_for(data, scorer.retrieval_means)
        if isinstance(scorer, GraphScorer)
        else data.retrieval
    )


def finite(scores: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """Check the scores of a scorer that is not ours."""
    if not np.isfinite(scores).all():
        bad = int((~np.isfinite(scores)).any(axis=1).sum())
        raise ScoringError(f"{name}: the scorer gave no finite score to {bad} of {len(scores)}.")
    return scores
