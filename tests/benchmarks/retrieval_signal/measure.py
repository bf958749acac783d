"""Does a router gain from facts of the retrieval beside the question? Five-fold cross-validation.

    python -m tests.benchmarks.retrieval_signal.readers large --work DIR
    python -m tests.benchmarks.retrieval_signal.readers small --work DIR
    python -m tests.benchmarks.retrieval_signal.measure --work DIR

Both readers answer questions about sections they have not been trained on, from what MiniLM
retrieves. Routers learn the gap from the question (`query`), from the question and the facts
(`query + facts`, the facts being further features; `query + facts, heavy`, weighing as much as
the embedding), or from the facts (`facts`). Questions about one sentence stay in one fold, and
are resampled together. Answers are kept in DIR.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from shared_router.deciding.rule import Rule
from shared_router.deciding.walk import Walk
from shared_router.measuring.baselines import baseline_walks
from shared_router.measuring.bootstrap import interval, paired_difference
from shared_router.measuring.metrics import trade_off
from shared_router.retrieval import RETRIEVAL_NAMES, RetrievalFacts
from shared_router.serving.features import feature_matrix, retrieval_columns
from shared_router.training.cross_validation import train_head
from shared_router.training.embedding import embed
from shared_router.training.encoder import load_encoder
from shared_router.training.heads import Batch
from tests.benchmarks.retrieval_signal.passages import Sentence, sentences
from tests.benchmarks.retrieval_signal.questions import (
    MOST_NODES,
    Question,
    Retrieved,
    ask,
    retrieve,
)
from tests.benchmarks.retrieval_signal.readers import Reader

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

QUESTIONS = 4000
FOLDS = 5
SEEDS = (0, 1, 2)
RESAMPLES = 500
CUTOFF = 0.5
FIGURES = ("apgr", "cost_advantage_at_drop@0.01", "cost_advantage_at_drop@0.05")
SAVINGS = np.array([1.0, 0.0])
HEAVY = 0.5
"""Spread of a fact beside an embedding of unit length, where it weighs heavily."""


Figures = dict[str, float]


@dataclass(frozen=True)
class Asked:
    """The questions of one pipeline, with both readers' outcomes."""

    queries: list[str]
    sources: np.ndarray
    """Sentence each was cut from, shape (n,)."""
    facts: np.ndarray
    """Shape (n, len(RETRIEVAL_NAMES))."""
    quality: np.ndarray
    """Small, large; shape (n, 2)."""
    held: np.ndarray
    """Whether the word asked for was among what was retrieved, shape (n,)."""


def node_counts(pipeline: str, found: Retrieved) -> np.ndarray:
    """Return how many nodes a pipeline hands over.

    Args:
        pipeline: `fixed`: three; `cutoff`: those of a cosine of at least `CUTOFF`, as
            `SimilarityPostprocessor` keeps them, and the best in any case; `varied`: one to five,
            drawn, as from callers who ask for different numbers.
        found: What was retrieved.
    """
    n = len(found.nodes)
    if pipeline == "fixed":
        return np.full(n, 3)
    if pipeline == "cutoff":
        kept: np.ndarray = np.maximum((found.scores >= CUTOFF).sum(axis=1), 1)
        return kept
    drawn: np.ndarray = np.random.default_rng(5).integers(1, MOST_NODES + 1, n)
    return drawn


def facts_of(counts: np.ndarray, found: Retrieved, tokens: list[int]) -> np.ndarray:
    """Lay out the facts as a router sees them, shape (n, len(RETRIEVAL_NAMES))."""
    rows = zip(found.scores, counts, tokens, strict=True)
    return retrieval_columns(
        [RetrievalFacts.of(scores[:n], context_tokens=length) for scores, n, length in rows]
    )


def answered(pipeline: str, work: Path, material: Material) -> Asked:
    """Ask both readers, or read what they have answered before."""
    questions, found = material.questions, material.found
    counts = node_counts(pipeline, found)
    path = work / f"answers-{pipeline}.npz"
    if not path.is_file():
        readers = [Reader(name, work, material.corpus) for name in ("small", "large")]
        columns = [reader.right(questions, found, counts.tolist()) for reader in readers]
        tokens = [
            readers[0].context_tokens(row[:count])
            for row, count in zip(found.nodes, counts, strict=True)
        ]
        np.savez(path, quality=np.array(columns).T, tokens=np.array(tokens))
    kept = np.load(path)
    held = [
        any(question.missing in material.corpus[i].words for i in row[:count])
        for question, row, count in zip(questions, found.nodes, counts, strict=True)
    ]
    return Asked(
        [question.text for question in questions],
        np.array([question.source for question in questions]),
        facts_of(counts, found, kept["tokens"].tolist()),
        kept["quality"],
        np.array(held),
    )


@dataclass(frozen=True)
class Material:
    """Text, questions about its held-out sections, and what was retrieved."""

    corpus: list[Sentence]
    questions: list[Question]
    found: Retrieved

    @classmethod
    def make(cls) -> Material:
        """Make it from seeds."""
        corpus = sentences()
        unseen = [i for i, sentence in enumerate(corpus) if sentence.held_out]
        questions = ask(corpus, unseen, QUESTIONS, seed=20)
        return cls(corpus, questions, retrieve(corpus, questions))


def predictions(asked: Asked, seed: int) -> dict[str, np.ndarray]:
    """Predict every question's gap by heads trained on other sentences' questions alone."""
    gaps = asked.quality[:, :1] - asked.quality[:, 1:]
    views = _views(asked)
    folds = _folds(asked.sources, seed)
    pooled = {name: np.empty_like(gaps) for name in views}
    for fold in range(FOLDS):
        inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        groups = [str(source) for source in asked.sources[inside]]
        for name, (embeddings, features, neighbours) in views.items():
            batch = Batch(embeddings, features, gaps, (None,) * len(gaps))
            head = train_head(
                batch.take(inside), groups, probability=False, neighbours=neighbours, seed=seed
            )
            pooled[name][outside] = head.predict(embeddings[outside], features[outside])
    return pooled


def _views(asked: Asked) -> dict[str, tuple[np.ndarray, np.ndarray, bool]]:
    """Return embeddings, features and whether neighbours may help, of every method."""
    embeddings = embed(load_encoder("minilm"), asked.queries)
    features = feature_matrix(asked.queries)
    facts = asked.facts.astype(np.float32)
    spread = facts.std(axis=0)
    # Unlabelled statistics of all questions: they tell nothing of any outcome.
    heavy = HEAVY * (facts - facts.mean(axis=0)) / np.where(spread > 1e-6, spread, 1.0)
    nothing = np.zeros((len(facts), 1), dtype=np.float32)
    return {
        "query": (embeddings, features, True),
        "query + facts": (embeddings, np.hstack([features, facts]), True),
        "query + facts, heavy": (np.hstack([embeddings, heavy]), features, False),
        "facts": (np.hstack([nothing, heavy]), np.zeros_like(features), False),
    }


def _folds(sources: np.ndarray, seed: int) -> np.ndarray:
    _, group = np.unique(sources, return_inverse=True)
    return np.random.default_rng(seed).permutation(group.max() + 1)[group] % FOLDS


def lines(asked: Asked) -> dict[str, list[Walk]]:
    """Return a line per method and seed, and the baselines."""
    rule = Rule("gap", SAVINGS)
    found: dict[str, list[Walk]] = {}
    for seed in SEEDS:
        for name, scores in predictions(asked, seed).items():
            found.setdefault(name, []).append(Walk(rule, scores, asked.quality))
    for name, walk in baseline_walks(asked.queries, asked.quality, SAVINGS).items():
        found[name] = [walk]
    return found


def resampled(walks: dict[str, list[Walk]], sources: np.ndarray) -> dict[str, list[Figures]]:
    """Measure every line, a mean over seeds, on the same resamples of sentences."""
    _, group = np.unique(sources, return_inverse=True)
    rng, n = np.random.default_rng(0), group.max() + 1
    found: dict[str, list[Figures]] = {name: [] for name in walks}
    for _ in range(RESAMPLES):
        weights = rng.multinomial(n, np.full(n, 1 / n)).astype(np.float64)[group]
        for name, each in walks.items():
            found[name].append(_mean([trade_off(walk, weights).figures() for walk in each]))
    return found


def _mean(figures: Sequence[Mapping[str, Any]]) -> Figures:
    return {name: float(np.mean([one[name] for one in figures])) for name in FIGURES}


def table(asked: Asked) -> str:
    """Format the figures of one pipeline."""
    walks = lines(asked)
    samples = resampled(walks, asked.sources)
    rows = ["| router | " + " | ".join(FIGURES) + " |", "|---|" + "--:|" * len(FIGURES)]
    for name, each in walks.items():
        figures = _mean([trade_off(walk).figures() for walk in each])
        spans = {f: interval([sample[f] for sample in samples[name]]) for f in FIGURES}
        rows.append(_row(name, figures, spans))
    for name in ("query + facts", "query + facts, heavy", "facts"):
        first = _mean([trade_off(walk).figures() for walk in walks[name]])
        second = _mean([trade_off(walk).figures() for walk in walks["query"]])
        lead = {f: first[f] - second[f] for f in FIGURES}
        spans = {f: paired_difference(samples[name], samples["query"], f) for f in FIGURES}
        rows.append(_row(f"{name} less query", lead, spans))
    return "\n".join(rows)


def _row(name: str, figures: Figures, spans: Mapping[str, Any]) -> str:
    cells = [f"{figures[f]:.3f} [{spans[f][0]:.3f}, {spans[f][1]:.3f}]" for f in FIGURES]
    return f"| {name} | " + " | ".join(cells) + " |"


def facts_table(asked: Asked) -> str:
    """Format rank correlations of each fact with what the readers get right."""
    from scipy.stats import spearmanr

    small, large = asked.quality.T
    columns = {"large less small": large - small, "small": small, "large": large,
               "word retrieved": asked.held}  # fmt: skip
    rows = ["| fact | " + " | ".join(columns) + " |", "|---|" + "--:|" * len(columns)]
    for name, fact in zip(RETRIEVAL_NAMES, asked.facts.T, strict=True):
        if fact.std() > 0:
            cells = [f"{spearmanr(fact, column).statistic:+.2f}" for column in columns.values()]
            rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def summary(asked: Asked) -> str:
    """Say how good the readers are, and when."""
    small, large = asked.quality.T
    only = (large > small).mean(), (small > large).mean()
    with_word, without = asked.quality[asked.held].mean(0), asked.quality[~asked.held].mean(0)
    return (
        f"{len(small)} questions, small {small.mean():.3f}, large {large.mean():.3f}; "
        f"only large right {only[0]:.3f}, only small {only[1]:.3f}; "
        f"word retrieved {asked.held.mean():.3f}: small {with_word[0]:.3f}, "
        f"large {with_word[1]:.3f}; not: small {without[0]:.3f}, large {without[1]:.3f}"
    )


def main() -> None:
    """Measure every pipeline."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="holds the readers' weights")
    parser.add_argument("--pipelines", default="fixed,cutoff,varied")
    asked_for = parser.parse_args()
    torch.set_num_threads(1)
    material = Material.make()
    for pipeline in asked_for.pipelines.split(","):
        asked = answered(pipeline, asked_for.work, material)
        print(f"\n## {pipeline}\n\n{summary(asked)}\n", flush=True)  # noqa: T201
        print(f"{facts_table(asked)}\n\n{table(asked)}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
