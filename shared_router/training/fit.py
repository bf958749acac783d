"""From queries with outcomes to a scorer: label, embed, train, export."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.data.draws import drawn
from shared_router.data.labels import make_labels
from shared_router.deciding.pooling import OutOfFold
from shared_router.options import LOOK_SHARE
from shared_router.serving.memory import TrainMemory
from shared_router.serving.scorer import GraphScorer
from shared_router.serving.session import GraphSession
from shared_router.serving.task_names import TaskNames
from shared_router.support.progress import counter
from shared_router.training.blend import Blend, blend_weight
from shared_router.training.cross_validation import train_head
from shared_router.training.embedding import embed
from shared_router.training.encoder import load_encoder
from shared_router.training.export import export_router_graph, export_tuned_graph
from shared_router.training.finetuning.tune import finetune
from shared_router.training.heads import Batch
from shared_router.training.quantisation import quantised
from shared_router.training.retrieval import data_features, learned_means, named
from shared_router.training.second_look import (
    LEAST_ROWS,
    Material,
    fit_second_look,
    why_no_look,
)
from shared_router.training.term_head import term_matrix

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from shared_router.data.dataset import RoutingDataset
    from shared_router.data.labels import LabelKind, Labels
    from shared_router.serving.second_look import SecondLook
    from shared_router.support.progress import Progress
    from shared_router.training.cross_validation import TrainedHead
    from shared_router.training.encoder import ExportedEncoder
    from shared_router.training.finetuning.settings import FineTuning, Tuned


@dataclass(frozen=True)
class Fitted:
    """The outcome of training."""

    scorer: GraphScorer
    train_memory: TrainMemory | None
    facts: dict[str, Any]
    """Measured facts, for the model card."""
    out_of_fold: OutOfFold | None
    """The training queries as heads scored them that had not seen them; `None` of too few."""
    second_look: SecondLook | None = None
    """Second looks at answers; `None` where the data have none, or nobody wants them."""


def fit_scorer(
    data: RoutingDataset,
    candidates: Sequence[str],
    labels: LabelKind,
    encoder: str,
    *,
    train_memory: bool = True,
    finetuning: FineTuning | None = None,
    int8: bool = True,
    retrieval: bool = True,
    words: bool = True,
    seed: int = 0,
    cache: bool = True,
    progress: Progress | None = None,
    costs_usd: Sequence[float | None] | None = None,
    look_share: float = LOOK_SHARE,
) -> Fitted:
    """Train and export a scorer.

    Args:
        data: Records in which every candidate has an outcome.
        candidates: Names, the reference last.
        labels: `gap`, `det`, `prob` or `trans`.
        encoder: `minilm`, a hub name or a path.
        train_memory: Whether to keep train embeddings and gaps; without them neighbours are no
            part of the router and no baseline.
        finetuning: How to fine-tune the encoder; `None` leaves it frozen.
        int8: Whether to serve in int8 where ranking survives.
        retrieval: Whether the scorer sees facts of retrieval, where the data have them.
        words: Whether hashed words may be a part.
        seed: Seed of folds, landmarks and fine-tuning.
        cache: Whether to use the embedding cache on disk.
        progress: Told of long work.
        costs_usd: Mean cost of a call per candidate, where known.
        look_share: Greatest share of queries whose answers are looked at; 0 for none.

    Returns:
        The scorer, its train memory and the facts of its training.

    Raises:
        DataError: If only some of the queries have facts of retrieval.
    """
    means = learned_means(data) if retrieval else ()
    features = data_features(data, means)
    made = make_labels(data, candidates, labels)
    exported = load_encoder(encoder)
    tuned = (
        finetune(
            data, candidates, made, exported, finetuning, features, seed=seed, progress=progress
        )
        if finetuning
        else None
    )
    facts = _facts(data, candidates, made, exported, seed)
    if means:
        facts["retrieval_means"] = named(means)
    if tuned is not None:
        facts["finetuning"] = tuned.facts
    if tuned is not None and finetuning is not None and not finetuning.blend:
        scorer, kept, facts["parts"] = _tuned_alone(exported, tuned, data, means, progress)
        unseen: Unseen | None = Unseen(tuned.dev, tuned.dev_predictions)
    else:
        embeddings = embed(
            exported, data.queries, cache=cache, progress=counter(progress, "embed", len(data))
        )
        train = partial(train_on_embeddings, neighbours=train_memory, words=words, seed=seed)
        head = train(data, made, embeddings, features)
        mixed: TrainedHead | Blend = head
        unseen = Unseen.of(head)
        if tuned is not None:
            mixed = blended(data, made, embeddings, head, tuned, train, features)
            both = mixed.dev_predictions
            unseen = None if both is None else Unseen(tuned.dev, both)
        kept = embeddings
        scorer = _scorer(exported, mixed, kept, features.shape[1], means)
        facts |= {"parts": part_weights(mixed), "ridge": head.ridge}
    if int8:
        scorer, facts["int8"] = quantised(scorer, data.queries)
    look = _Look(data, candidates, made.kind, unseen, kept, look_share)
    facts["second_look"], second_look = look.fitted(
        scorer, exported, costs_usd, int8=int8, seed=seed, cache=cache, progress=progress
    )
    quality = data.quality(candidates)
    gaps = (quality[:, :-1] - quality[:, -1:]).astype(np.float32)
    return Fitted(
        scorer,
        TrainMemory(kept.astype(np.float16), gaps) if train_memory else None,
        facts,
        None if unseen is None else unseen.with_outcomes(quality),
        second_look,
    )


@dataclass(frozen=True)
class _Look:
    """What second looks are fitted on."""

    data: RoutingDataset
    candidates: Sequence[str]
    kind: str
    unseen: Unseen | None
    embeddings: NDArray[np.float32]
    look_share: float

    def fitted(
        self,
        scorer: GraphScorer,
        exported: ExportedEncoder,
        costs_usd: Sequence[float | None] | None,
        *,
        int8: bool,
        seed: int,
        cache: bool,
        progress: Progress | None,
    ) -> tuple[dict[str, Any], SecondLook | None]:
        """Fit second looks, or say why there are none."""
        why = why_no_look(self.data, self.candidates, self.look_share, self.kind)
        if why or self.unseen is None:
            return {"why_not": why or "too few queries"}, None
        rows = self.unseen.rows
        names, kept = (
            tuple(self.candidates),
            drawn(self.data.take(rows.tolist()), self.candidates[:-1]),
        )
        if len(kept) < LEAST_ROWS:
            return {"why_not": f"{len(kept)} queries that the encoder was not tuned on"}, None
        made = fit_second_look(
            Material(kept, names, self.embeddings[rows], self.unseen.scores),
            scorer,
            exported,
            costs_usd,
            self.look_share,
            int8=int8,
            seed=seed,
            cache=cache,
            progress=counter(progress, "answers", len(kept) * (len(names) - 1)),
        )
        return made.facts, made


@dataclass(frozen=True)
class Unseen:
    """Training queries with scores by models that were fitted without them."""

    rows: NDArray[np.intp]
    scores: NDArray[np.float64]
    """Shape (rows, k - 1)."""

    @classmethod
    def of(cls, head: TrainedHead) -> Unseen | None:
        """Take the out-of-fold scores of a head's cross-validation, where there was one."""
        scores = head.out_of_fold
        return None if scores is None else cls(np.arange(len(scores)), scores)

    def with_outcomes(self, quality: NDArray[np.float64]) -> OutOfFold:
        """Put the outcomes of the queries beside their scores."""
        return OutOfFold(np.asarray(self.scores, dtype=np.float64), quality[self.rows])


def _tuned_alone(
    exported: ExportedEncoder,
    tuned: Tuned,
    data: RoutingDataset,
    means: tuple[float, ...],
    progress: Progress | None,
) -> tuple[GraphScorer, NDArray[np.float32], dict[str, float]]:
    session = GraphSession(export_tuned_graph(tuned.graph))
    scorer = GraphScorer(session, exported.tokens, retrieval_means=means)
    _, embeddings = scorer.score_and_embed(data.queries, counter(progress, "embed", len(data)))
    return scorer, embeddings, {"tuned": 1.0}


def _scorer(
    exported: ExportedEncoder,
    head: TrainedHead | Blend,
    embeddings: NDArray[np.float32],
    n_features: int,
    means: tuple[float, ...],
) -> GraphScorer:
    graph = export_router_graph(exported.graph, head, n_features)
    needed = "neighbours" in part_weights(head)
    # As the train memory is kept, so that a router read from its folder scores alike.
    columns = np.ascontiguousarray(embeddings.astype(np.float16).T, dtype=np.float32)
    trained = head.head if isinstance(head, Blend) else head
    return GraphScorer(
        GraphSession(graph),
        exported.tokens,
        columns if needed else None,
        trained.signal.names if trained.signal else TaskNames(),
        means,
        reads_terms="terms" in trained.parts,
    )


def part_weights(head: TrainedHead | Blend) -> dict[str, float]:
    """Name the parts of a router, with their weights."""
    if isinstance(head, Blend):
        others = {name: (1 - head.weight) * w for name, w in head.head.weights.items()}
        return {"tuned": head.weight, **others}
    return dict(head.weights)


def blended(
    data: RoutingDataset,
    labels: Labels,
    embeddings: NDArray[np.float32],
    head: TrainedHead,
    tuned: Tuned,
    train: Callable[..., TrainedHead] | None = None,
    features: NDArray[np.float32] | None = None,
) -> Blend:
    """Weigh a fine-tuned encoder and heads on the frozen one, on the dev fold neither has seen.

    Args:
        data: The training queries.
        labels: Their labels.
        embeddings: Their frozen embeddings.
        head: Heads fitted on all of them, the dev fold included.
        tuned: The fine-tuned encoder.
        train: How the heads were fitted; `train_on_embeddings` where `None`.
        features: Their features, shape (n, f); those of the texts where `None`.

    Returns:
        Both, with the weight of the tuned encoder.
    """
    features = data_features(data, ()) if features is None else features
    dev = tuned.dev
    rest = np.setdiff1d(np.arange(len(data)), dev)
    known = dataclasses.replace(labels, values=labels.values[rest])
    fitted = (train or train_on_embeddings)(
        data.take(rest), known, embeddings[rest], features[rest]
    )
    words = term_matrix([data.queries[row] for row in dev])
    frozen = fitted.predict(embeddings[dev], features[dev], terms=words)
    weight = blend_weight(tuned.dev_predictions, frozen, labels.values[dev])
    both = weight * tuned.dev_predictions + (1 - weight) * frozen
    return Blend(tuned.graph, weight, head, both)


def train_on_embeddings(
    data: RoutingDataset,
    labels: Labels,
    embeddings: NDArray[np.float32],
    features: NDArray[np.float32] | None = None,
    *,
    neighbours: bool = True,
    words: bool = True,
    seed: int = 0,
) -> TrainedHead:
    """Train the head alone, on embeddings already computed.

    Args:
        data: The training queries.
        labels: Their labels.
        embeddings: Their embeddings, shape (n, d).
        features: Their features, shape (n, f); those of the texts where `None`.
        neighbours: Whether neighbours may be a part.
        words: Whether hashed words may be a part.
        seed: Seed of folds and landmarks.
    """
    batch = Batch(
        embeddings,
        data_features(data, ()) if features is None else features,
        labels.values,
        tuple(record.task for record in data),
        term_matrix(data.queries) if words else None,
    )
    return train_head(
        batch,
        data.queries,
        probability=labels.kind != "gap",
        neighbours=neighbours,
        seed=seed,
    )


def _facts(
    data: RoutingDataset,
    candidates: Sequence[str],
    labels: Labels,
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
        "seed": seed,
    }
