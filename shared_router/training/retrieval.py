"""Facts of retrieval as a signal: whether a router learns from them, and what fills a gap.

A fact that a call does not bring is taken at its mean over the training data, so that it moves the
score by next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shared_router.errors import DataError
from shared_router.retrieval import RETRIEVAL_NAMES
from shared_router.serving.features import feature_matrix, retrieval_columns
from shared_router.support.user_warnings import warn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from shared_router.data.dataset import RoutingDataset
    from shared_router.retrieval import RetrievalFacts


class MissingFactsWarning(UserWarning):
    """A router that sees facts of retrieval is measured on queries without them."""


def learned_means(data: RoutingDataset) -> tuple[float, ...]:
    """Decide whether a router learns from facts of retrieval: where every query has them.

    Args:
        data: The training queries.

    Returns:
        The mean of each of `RETRIEVAL_NAMES` over those that know it (0 where none does); empty
        where no query has facts.

    Raises:
        DataError: If some queries have facts and others have not.
    """
    known = [facts for facts in data.retrieval if facts is not None]
    if not known:
        return ()
    if len(known) < len(data):
        raise DataError(
            f"{data.name}: {len(known)} of {len(data)} queries have facts of retrieval, the others "
            "none, and a router sees them in all or in none: complete them, keep one kind with "
            "data.where(...), or leave them out with Router.fit(..., retrieval=False) or "
            "--no-retrieval."
        )
    columns = retrieval_columns(known)
    counts = (~np.isnan(columns)).sum(axis=0)
    means = np.nansum(columns, axis=0) / np.maximum(counts, 1)
    return tuple(map(float, means))


def retrieval_for(
    data: RoutingDataset, means: Sequence[float]
) -> list[RetrievalFacts | None] | None:
    """Return the facts that a router scores a data set's queries with; `None` where it sees none.

    Args:
        data: The queries.
        means: The router's means; empty where it sees no facts.

    Warns:
        MissingFactsWarning: If it sees facts and some queries have none.
    """
    if not means:
        return None
    lacking = sum(facts is None for facts in data.retrieval)
    if lacking:
        warn(
            f"{data.name}: {lacking} of {len(data)} queries have no facts of retrieval, which this "
            "router sees: they are scored at the means of its training data.",
            MissingFactsWarning,
        )
    return data.retrieval


def data_features(data: RoutingDataset, means: Sequence[float]) -> NDArray[np.float32]:
    """Compute the features of a data set's queries as a router with these means sees them."""
    return feature_matrix(data.queries, retrieval_for(data, means), means)


def named(means: Sequence[float]) -> dict[str, float]:
    """Name the means, for the card."""
    return dict(zip(RETRIEVAL_NAMES, means, strict=True))
