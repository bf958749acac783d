"""Five-fold cross-validation of routers over every row of a data file, beside the baselines.

    python -m tests.benchmarks.cross_validation routellm_mmlu.jsonl.gz \
        --candidates mixtral-8x7b,gpt-4-1106 [--task T] [--labels gap,det,prob,trans]

Rows of one query stay in one fold. Each fold's router is trained on the other four alone, labels
and choice of parts included; scores of all folds are pooled, and lines compared on the same
bootstrap resamples.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass

import numpy as np

from shared_router import RoutingDataset
from shared_router.data.labels import DegenerateLabelWarning, make_labels
from shared_router.deciding.rule import Rule
from shared_router.deciding.walk import Walk
from shared_router.measuring.baselines import baseline_walks
from shared_router.measuring.bootstrap import interval, paired_difference, resampled_figures
from shared_router.measuring.metrics import trade_off
from shared_router.scoring.embedding import embed
from shared_router.scoring.encoder import load_encoder
from shared_router.scoring.features import feature_matrix
from shared_router.scoring.fitting import train_on_embeddings
from shared_router.scoring.neighbours import neighbour_mean

FOLDS = 5
FIGURES = ("apgr", "cost_advantage_at_drop@0.01", "quality_drop_at_cost_advantage@0.4")


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    figures: dict[str, float | None]
    intervals: dict[str, tuple[float, float] | None]
    leads: dict[str, tuple[float, float] | None]
    """Paired interval of this line's APGR less each baseline's."""


def folds_of(queries: list[str], seed: int = 0) -> np.ndarray:
    """Deal distinct queries to folds."""
    _, inverse = np.unique(np.array(queries), return_inverse=True)
    return np.random.default_rng(seed).permutation(inverse.max() + 1)[inverse] % FOLDS


def cross_validate(
    data: RoutingDataset, candidates: list[str], kinds: list[str], resamples: int = 500
) -> list[Row]:
    """Cross-validate a router per label kind, and the baselines."""
    data = data.candidates(candidates)
    embeddings = embed(load_encoder("minilm"), data.queries)
    features = feature_matrix(data.queries)
    quality = data.quality(candidates)
    gaps = quality[:, :-1] - quality[:, -1:]
    folds = folds_of(data.queries)
    savings = np.linspace(1.0, 0.0, len(candidates))
    near = np.empty_like(gaps)
    scores = {kind: np.empty_like(gaps) for kind in kinds}
    for fold in range(FOLDS):
        inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        near[outside] = neighbour_mean(embeddings[outside], embeddings[inside], gaps[inside])
        train = data.take(inside)
        for kind in kinds:
            head = train_on_embeddings(
                train, make_labels(train, candidates, kind), embeddings[inside]
            )
            scores[kind][outside] = head.predict(embeddings[outside], features[outside])
    walks = {
        kind: Walk(Rule("gap" if kind == "gap" else "probability", savings), scores[kind], quality)
        for kind in kinds
    }
    walks |= baseline_walks(data.queries, quality, savings, near)
    return _rows(walks, kinds, len(data), resamples)


def _rows(walks: dict[str, Walk], kinds: list[str], n: int, resamples: int) -> list[Row]:
    samples = resampled_figures(walks, n, resamples)
    rows = []
    for name, walk in walks.items():
        intervals = {f: interval([s[f] for s in samples[name]]) for f in FIGURES}
        against = [b for b in walks if b not in kinds] if name in kinds else []
        leads = {b: paired_difference(samples[name], samples[b], "apgr") for b in against}
        rows.append(Row(name, trade_off(walk).figures(), intervals, leads))
    return rows


def show(rows: list[Row]) -> str:
    """Format the table."""
    lines = []
    for row in rows:
        parts = [f"{row.name:20s}"]
        for figure in FIGURES:
            value, span = row.figures[figure], row.intervals[figure]
            shown = "    -" if value is None else f"{value:6.3f}"
            parts.append(shown + (f" [{span[0]:.3f}, {span[1]:.3f}]" if span else ""))
        leads = [f"{b} [{s[0]:+.3f}, {s[1]:+.3f}]" for b, s in row.leads.items() if s]
        lines.append("  ".join(parts) + ("  lead: " + ", ".join(leads) if leads else ""))
    return "\n".join(["columns: " + ", ".join(FIGURES), *lines])


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--candidates", required=True)
    parser.add_argument("--task")
    parser.add_argument("--labels", default="gap")
    asked = parser.parse_args()
    data = RoutingDataset.load(asked.data)
    data = data.task(asked.task) if asked.task else data
    warnings.simplefilter("once", DegenerateLabelWarning)
    rows = cross_validate(data, asked.candidates.split(","), asked.labels.split(","))
    print(f"{data!r}\n{show(rows)}")  # noqa: T201


if __name__ == "__main__":
    main()
