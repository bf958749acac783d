"""From queries with outcomes to a scorer: label, embed, train, export."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.data.labels import make_labels
from shared_router.scoring.embedding import embed
from shared_router.scoring.encoder import load_encoder
from shared_router.scoring.export import export_router_graph
from shared_router.scoring.features import FEATURE_NAMES, feature_matrix
from shared_router.scoring.heads import Batch
from shared_router.scoring.serving import GraphScorer, GraphSession, Tokens
from shared_router.scoring.training import train_head

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from shared_router.data.dataset import RoutingDataset
    from shared_router.data.labels import LabelKind, Labels
    from shared_router.scoring.encoder import ExportedEncoder
    from shared_router.scoring.training import TrainedHead

    Progress = Callable[[str, int, int], None]
    """Called with a stage's name, what is done of it, and its total."""


@dataclass(frozen=True)
class Reference:
    """What a router remembers of its training: for neighbours and for comparison."""

    embeddings: NDArray[np.float16]
    """Unit length, shape (n, d)."""
    gaps: NDArray[np.float32]
    """Mean quality less the reference's, shape (n, k - 1)."""

    def as_input(self) -> NDArray[np.float32]:
        """Lay the embeddings out as the graph takes them, float32 (d, n)."""
        return np.ascontiguousarray(self.embeddings.T, dtype=np.float32)


@dataclass(frozen=True)
class Fitted:
    """The outcome of training."""

    scorer: GraphScorer
    reference: Reference | None
    facts: dict[str, Any]
    """Measured facts, for the model card."""


def fit_scorer(
    data: RoutingDataset,
    candidates: Sequence[str],
    labels: LabelKind,
    encoder: str,
    *,
    reference: bool = True,
    seed: int = 0,
    cache: bool = True,
    progress: Progress | None = None,
) -> Fitted:
    """Train and export a scorer.

    Args:
        data: Records in which every candidate has an outcome.
        candidates: Names, the reference last.
        labels: `gap`, `det`, `prob` or `trans`.
        encoder: `minilm`, a hub name or a path.
        reference: Whether to keep train embeddings and gaps; without them neighbours are no
            part of the router and no baseline.
        seed: Seed of folds and landmarks.
        cache: Whether to use the embedding cache on disk.
        progress: Told of long work.

    Returns:
        The scorer, its reference and the facts of its training.
    """
    made = make_labels(data, candidates, labels)
    exported = load_encoder(encoder)
    embeddings = embed(
        exported, data.queries, cache=cache, progress=counter(progress, "embed", len(data))
    )
    head = train_on_embeddings(data, made, embeddings, neighbours=reference, seed=seed)
    quality = data.quality(candidates)
    kept = Reference(
        embeddings.astype(np.float16), (quality[:, :-1] - quality[:, -1:]).astype(np.float32)
    )
    graph = export_router_graph(exported.graph, head, len(FEATURE_NAMES))
    tokens = Tokens(exported.tokenizer.read_text(encoding="utf-8"), exported.max_tokens)
    uses_neighbours = "neighbours" in head.parts
    scorer = GraphScorer(GraphSession(graph), tokens, kept.as_input() if uses_neighbours else None)
    if head.signal is not None:
        scorer = replace(scorer, tasks=head.signal.names)
    facts = _facts(data, candidates, made, head, exported, seed)
    return Fitted(scorer, kept if reference else None, facts)


def train_on_embeddings(
    data: RoutingDataset,
    labels: Labels,
    embeddings: NDArray[np.float32],
    *,
    neighbours: bool = True,
    seed: int = 0,
) -> TrainedHead:
    """Train the head alone, on embeddings already computed."""
    batch = Batch(
        embeddings,
        feature_matrix(data.queries),
        labels.values,
        tuple(record.task for record in data),
    )
    return train_head(
        batch,
        data.queries,
        probability=labels.kind != "gap",
        neighbours=neighbours,
        seed=seed,
    )


def counter(progress: Progress | None, stage: str, total: int) -> Callable[[int], None] | None:
    """Turn a stage's progress into a function that is told of increments."""
    if progress is None:
        return None
    done = 0

    def advance(n: int) -> None:
        nonlocal done
        done += n
        progress(stage, done, total)

    return advance


def _facts(
    data: RoutingDataset,
    candidates: Sequence[str],
    labels: Labels,
    head: TrainedHead,
    encoder: ExportedEncoder,
    seed: int,
) -> dict[str, Any]:
    means = data.quality(candidates).mean(axis=0)
    return {
        "data": data.name,
        "n": len(data),
        "splits": dict(data.splits),
        "tasks": dict(data.tasks.most_common()),
        "mean_quality": dict(zip(candidates, map(float, means), strict=True)),
        "labels": labels.kind,
        "t": list(labels.t) if labels.t else None,
        "encoder": encoder.name,
        "encoder_sha256": encoder.sha256,
        "max_tokens": encoder.max_tokens,
        "parts": head.weights,
        "ridge": head.ridge,
        "seed": seed,
    }
