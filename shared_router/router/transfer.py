"""A router measured on other models; see `Router.transfer_report`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shared_router.deciding.curve import resolve_dial
from shared_router.errors import CandidateError, DataError
from shared_router.measuring.evaluation import OutcomeTable
from shared_router.measuring.transfer import LEAST_TRANSFER, Transfer, transfer_report
from shared_router.router.queries import known_retrieval
from shared_router.serving.features import feature_matrix
from shared_router.serving.scorer import GraphScorer
from shared_router.support.names import check_candidate_names
from shared_router.support.progress import counter
from shared_router.training.heads import Batch, KernelHead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from shared_router.data.dataset import RoutingDataset
    from shared_router.measuring.transfer import TransferReport
    from shared_router.options import Dial
    from shared_router.router.state import RouterState
    from shared_router.support.progress import Progress

FOLDS = 5
RIDGE = 10.0
"""Penalty of the heads, without words, that stand for a router trained anew."""


def report(
    router: RouterState,
    data: RoutingDataset,
    candidates: Sequence[str] | None,
    dial: Dial,
    resamples: int,
    progress: Progress | None,
) -> TransferReport:
    """Measure a router on other models; see `Router.transfer_report`."""
    names = _new_names(router, data, candidates)
    threshold = resolve_dial(dial, router.estimate)
    complete = data.candidates(names)
    unseen = complete.where(lambda record: record.id not in router.fitted_ids)
    if len(unseen) < LEAST_TRANSFER:
        raise DataError(
            f"{data.name}: {len(unseen)} queries with outcomes of {', '.join(names)} that the "
            f"router was not fitted on; a transfer report needs at least {LEAST_TRANSFER}, and a "
            "few hundred to be worth much."
        )
    scores, embeddings = _scored(router, unseen, progress)
    outcomes = OutcomeTable(unseen.queries, unseen.quality(names), names=names)
    transfer = Transfer(
        scores=scores,
        outcomes=outcomes,
        shared=_shared_gaps(router, complete, names),
        refitted=None
        if embeddings is None
        else refitted(unseen.queries, embeddings, _gaps(unseen, names), _features(router, unseen)),
        rule=router.rule,
    )
    about = (router.name, router.candidates, tuple(names))
    return transfer_report(transfer, dial, threshold, about, resamples)


def _new_names(
    router: RouterState, data: RoutingDataset, candidates: Sequence[str] | None
) -> Sequence[str]:
    names = data.models if candidates is None else candidates
    check_candidate_names(names)
    if len(names) != len(router.candidates):
        raise CandidateError(
            f"Router {router.name!r} chooses between {len(router.candidates)} candidates; got "
            f"{len(names)} ({', '.join(names)}): name as many with candidates=, the reference last."
        )
    return names


def _scored(
    router: RouterState, data: RoutingDataset, progress: Progress | None
) -> tuple[NDArray[np.float64], NDArray[np.float32] | None]:
    if not isinstance(router.scorer, GraphScorer):
        scores = router.score(data.queries, retrieval=data.retrieval)
        return scores.astype(np.float64), None
    told = counter(progress, "score", len(data))
    facts = known_retrieval(router, data)
    scores, embeddings = router.scorer.score_and_embed(data.queries, told, facts)
    return scores.astype(np.float64), embeddings


def _features(router: RouterState, data: RoutingDataset) -> NDArray[np.float32]:
    """Compute the features as the router sees them, facts of retrieval included if it sees any."""
    means = router.scorer.retrieval_means if isinstance(router.scorer, GraphScorer) else ()
    return feature_matrix(data.queries, data.retrieval, means)


def _shared_gaps(
    router: RouterState, data: RoutingDataset, names: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gaps of both on the queries that have outcomes of both."""
    own = router.candidates
    both = data.where(lambda record: all(name in record.outcomes for name in own))
    return _gaps(both, own), _gaps(both, names)


def _gaps(data: RoutingDataset, names: Sequence[str]) -> NDArray[np.float64]:
    quality = data.quality(names)
    return np.asarray(quality[:, :-1] - quality[:, -1:])


def refitted(
    queries: Sequence[str],
    embeddings: NDArray[np.float32],
    gaps: NDArray[np.float64],
    features: NDArray[np.float32] | None = None,
) -> NDArray[np.float64]:
    """Score every query by a kernel head fitted on the other folds' outcomes.

    Args:
        queries: Their texts; rows of one query stay in one fold.
        embeddings: Unit length, shape (n, d).
        gaps: Shape (n, k - 1).
        features: Shape (n, f); those of the texts where `None`.

    Returns:
        Shape (n, k - 1).
    """
    features = feature_matrix(queries) if features is None else features
    batch = Batch(embeddings, features, gaps, (None,) * len(gaps))
    _, group = np.unique(np.array(queries), return_inverse=True)
    folds = np.random.default_rng(0).permutation(group.max() + 1)[group] % FOLDS
    scores = np.empty_like(gaps)
    for fold in range(FOLDS):
        outside = np.flatnonzero(folds == fold)
        if not len(outside) or len(outside) == len(gaps):
            scores[outside] = 0.0
            continue
        (head,) = KernelHead.fit(batch.take(np.flatnonzero(folds != fold)), (RIDGE,), seed=0)
        rows = batch.take(outside)
        scores[outside] = head.predict(rows.embeddings, rows.features)
    return scores
