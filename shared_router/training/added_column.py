"""One candidate more: a new column of scores, fitted on its own outcomes alone.

The encoder and every other column stay as they are: the graph's `embedding` is what the new head
learns from, and its nodes are appended to the graph.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from shared_router.data.labels import make_labels
from shared_router.serving.session import GraphSession
from shared_router.training.cross_validation import train_head
from shared_router.training.export import append_column
from shared_router.training.heads import Batch
from shared_router.training.retrieval import data_features
from shared_router.training.term_head import term_matrix

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared_router.data.dataset import RoutingDataset
    from shared_router.data.labels import LabelKind
    from shared_router.serving.scorer import GraphScorer


@dataclass(frozen=True)
class Column:
    """A scorer with one column more, and the facts of its training."""

    scorer: GraphScorer
    facts: dict[str, Any]


def add_column(
    scorer: GraphScorer,
    data: RoutingDataset,
    name: str,
    reference: str,
    labels: LabelKind,
    position: int,
    *,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Column:
    """Fit one candidate's column on frozen embeddings, and append it to the graph.

    Neighbours are no part of it: few outcomes make poor neighbours, and the graph would have to
    carry their embeddings. Words are one where the router reads them already.

    Args:
        scorer: The scorer of the other candidates.
        data: Queries with outcomes of the new candidate and of the reference.
        name: The new candidate.
        reference: The reference.
        labels: The kind of label of the other columns.
        position: Where the new column stands.
        seed: Seed of folds and landmarks.
        progress: Told of the number of queries just embedded.

    Returns:
        The new scorer and the facts.

    Raises:
        LabelError: If nothing can be learned from the labels.
        MissingExtraError: If `onnx` or `scipy` is not installed.
    """
    made = make_labels(data, [name, reference], labels)
    _, embeddings = scorer.score_and_embed(data.queries, progress)
    tasks = tuple(record.task for record in data)
    features = data_features(data, scorer.retrieval_means)
    words = term_matrix(data.queries) if scorer.reads_terms else None
    batch = Batch(embeddings, features, made.values, tasks, words)
    head = train_head(batch, data.queries, probability=labels != "gap", neighbours=False, seed=seed)
    graph = append_column(scorer.session.bytes, head, scorer.tasks.labels, position)
    facts = {
        "candidate": name,
        "data": data.name,
        "n": len(data),
        "mean_quality": float(data.quality([name]).mean()),
        "parts": head.weights,
        "t": list(made.t) if made.t else None,
        "seed": seed,
    }
    return Column(replace(scorer, session=GraphSession(graph)), facts)
