"""From recorded answers to second looks: embed, train, choose the width, export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.data.draws import common_settings, have_answers, logprobs_of
from shared_router.deciding.looks import Band
from shared_router.deciding.rule import savings_from_costs
from shared_router.serving.answer_numbers import answer_numbers
from shared_router.serving.answers import Answered, GraphAnswerScorer
from shared_router.serving.second_look import Pairs, SecondLook
from shared_router.serving.session import GraphSession
from shared_router.training.answer_export import export_answer_graph
from shared_router.training.answer_heads import AnswerBatch, train_answers
from shared_router.training.embedding import embed
from shared_router.training.look_width import choose_width
from shared_router.training.quantisation import LEAST_SPEARMAN, int8_graph, least_spearman

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from shared_router.data.dataset import RoutingDataset
    from shared_router.serving.scorer import GraphScorer
    from shared_router.training.answer_heads import TrainedAnswers
    from shared_router.training.encoder import ExportedEncoder
    from shared_router.training.look_width import Width

LEAST_ROWS = 100
"""Fewest training queries for a scorer of answers."""
LEAST_WITH_LOGPROBS = 0.9
"""Share of the answers that must have log-probabilities, for these to be a part."""
MOST_COMPARED = 200
"""Answers on which int8 is compared with float32."""
USUAL_COSTS = (0.1, 1.0)
"""What the cheapest and the reference are taken to cost where nobody knows."""


@dataclass(frozen=True)
class Material:
    """What a scorer of answers is made of."""

    data: RoutingDataset
    """The training queries, with one answer of each candidate but the reference."""
    names: Sequence[str]
    """The candidates, the reference last."""
    queries: NDArray[np.float32]
    """Embeddings of the queries, shape (n, d)."""
    before: NDArray[np.float64]
    """Their scores by heads that had not seen them, shape (n, k - 1)."""

    def take(self, rows: NDArray[np.intp]) -> Material:
        """Keep these rows."""
        kept = self.data.take(rows.tolist())
        return Material(kept, self.names, self.queries[rows], self.before[rows])

    def texts(self, name: str) -> list[str]:
        """Return the answers of a candidate."""
        return [(record.outcomes[name].response or ("",))[0] for record in self.data]


def why_no_look(data: RoutingDataset, names: Sequence[str], look_share: float, kind: str) -> str:
    """Say why no second look can be fitted; nothing where it can.

    Args:
        data: Records in which every candidate has an outcome.
        names: The candidates, the reference last.
        look_share: As asked.
        kind: The kind of labels.
    """
    if look_share == 0:
        return "look_share=0"
    if kind != "gap":
        return f"labels={kind!r}: answers are scored as gaps alone"
    if not have_answers(data, names[:-1]):
        return "the data have no `response` of some cheaper candidate"
    if len(data) < LEAST_ROWS:
        return f"{len(data)} queries; a scorer of answers needs {LEAST_ROWS}"
    return ""


def fit_second_look(
    material: Material,
    scorer: GraphScorer,
    encoder: ExportedEncoder,
    costs_usd: Sequence[float | None] | None,
    look_share: float,
    *,
    int8: bool,
    seed: int,
    cache: bool,
    progress: Callable[[int], None] | None = None,
) -> SecondLook:
    """Fit a scorer of answers, and the width of the band.

    Args:
        material: The training queries.
        scorer: The router's scorer of queries.
        encoder: Embeds answers.
        costs_usd: Mean cost of a call per candidate, where known.
        look_share: Greatest share of queries that are looked at.
        int8: Whether to serve in int8 where that ranks answers as float32 does.
        seed: Seed of folds and landmarks.
        cache: Whether to use the embedding cache on disk.
        progress: Called with the number of answers just embedded.
    """
    material, with_logprobs = _with_logprobs(material)
    names, data = material.names, material.data
    heads: list[TrainedAnswers] = []
    numbers = 0
    for at, name in enumerate(names[:-1]):
        answers = embed(encoder, material.texts(name), cache=cache, progress=progress)
        batch = _batch(material, at, answers, with_logprobs=with_logprobs)
        numbers = batch.numbers.shape[1]
        heads.append(train_answers(batch, data.queries, seed))
    pairs = Pairs(
        material.before,
        np.stack([head.out_of_fold for head in heads], axis=1),
        data.quality(names),
    )
    band, costs = _band(costs_usd, len(names))
    width = choose_width(pairs, band, costs, look_share)
    graph = export_answer_graph(encoder.graph, heads, numbers, material.queries.shape[1])
    made = GraphAnswerScorer(GraphSession(graph), encoder.tokens, scorer, with_logprobs)
    facts = _facts(material, heads, width, look_share, costs_usd, with_logprobs)
    if int8:
        made, facts["int8"] = _quantised(made, material)
    return SecondLook(
        scorer=made,
        width=width.width,
        after=band.after,
        pays=width.pays,
        settings=common_settings(data, names[:-1]),
        pairs=pairs,
        facts=facts,
    )


def _with_logprobs(material: Material) -> tuple[Material, bool]:
    """Tell whether log-probabilities are a part; then answers without are left out."""
    cheaper = material.names[:-1]
    known = np.array(
        [all(logprobs_of(record.outcomes[name]) for name in cheaper) for record in material.data]
    )
    if known.mean() < LEAST_WITH_LOGPROBS or known.sum() < LEAST_ROWS:
        return material, False
    return (material if known.all() else material.take(np.flatnonzero(known))), True


def _batch(
    material: Material, at: int, answers: NDArray[np.float32], *, with_logprobs: bool
) -> AnswerBatch:
    name, data = material.names[at], material.data
    numbers = [
        answer_numbers(
            record.query,
            text,
            logprobs_of(record.outcomes[name]),
            with_logprobs=with_logprobs,
        )
        for record, text in zip(data, material.texts(name), strict=True)
    ]
    quality = data.quality([name, material.names[-1]])
    return AnswerBatch(
        material.queries,
        answers,
        np.stack(numbers),
        material.before[:, at].astype(np.float32),
        quality[:, 0] - quality[:, 1],
    )


def _band(costs_usd: Sequence[float | None] | None, k: int) -> tuple[Band, NDArray[np.float64]]:
    """Make the band but for its width, and the costs it is chosen by."""
    savings = tuple(map(float, savings_from_costs(costs_usd, k)))
    if costs_usd is None or any(cost is None for cost in costs_usd):
        least, most = USUAL_COSTS
        costs = most - (most - least) * np.asarray(savings)
    else:
        costs = np.asarray(costs_usd, dtype=np.float64)
    gap = float(costs[-1] - costs.min())
    after = float(costs[-1]) / gap if gap > 0 else 1.0
    return Band(0.0, savings, after), costs


def _facts(
    material: Material,
    heads: Sequence[TrainedAnswers],
    width: Width,
    look_share: float,
    costs_usd: Sequence[float | None] | None,
    with_logprobs: bool,
) -> dict[str, Any]:
    return {
        "n": len(material.data),
        "parts": [dict(head.weights) for head in heads],
        "logprobs": with_logprobs,
        "look_share": look_share,
        "share": width.share,
        "saved": width.saved,
        "saved_interval": list(width.interval),
        "costs_known": costs_usd is not None and None not in costs_usd,
    }


def _quantised(
    scorer: GraphAnswerScorer, material: Material
) -> tuple[GraphAnswerScorer, dict[str, Any]]:
    """Serve in int8 where that ranks answers as float32 does."""
    import dataclasses

    step = max(1, -(-len(material.data) // MOST_COMPARED))
    chosen = material.take(np.arange(0, len(material.data), step))
    small = dataclasses.replace(scorer, session=GraphSession(int8_graph(scorer.session.bytes)))
    least = least_spearman(_compared(scorer, chosen), _compared(small, chosen))
    kept = least >= LEAST_SPEARMAN
    facts = {"kept": kept, "spearman": round(least, 5), "n": len(chosen.data)}
    return (small if kept else scorer), facts


def _compared(scorer: GraphAnswerScorer, material: Material) -> NDArray[np.float32]:
    """Score each candidate's answers, each in its own column, shape (n, k - 1)."""
    columns = []
    for at, name in enumerate(material.names[:-1]):
        given = [
            Answered(record.query, text, logprobs_of(record.outcomes[name]))
            for record, text in zip(material.data, material.texts(name), strict=True)
        ]
        columns.append(scorer.score(given)[:, at])
    return np.stack(columns, axis=1)
