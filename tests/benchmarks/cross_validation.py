"""Five-fold cross-validation of routers over every row of a data file, beside the baselines.

    python -m tests.benchmarks.cross_validation routellm_mmlu.jsonl.gz \
        --candidates mixtral-8x7b,gpt-4-1106 [--task T] [--labels gap,det,prob,trans] \
        [--methods head,features,neighbours,tuned,blend] [--seeds 0,1,2] [--keep DIR] \
        [--encoder minilm]

Rows of one query stay in one fold. Each fold's router is trained on the other four alone, labels,
choice of parts, early stopping and blending included; scores of all folds are pooled, and lines
compared on the same bootstrap resamples of queries. With several seeds, folds are dealt and
encoders tuned anew by each, and a figure is the mean over seeds. With `--keep`, what each fold
predicted is kept in DIR, and the same command started again computes only what is missing.

Methods: `head` (heads on the frozen encoder), `features` (the kernel on query features alone),
`neighbours` (mean label of 100 nearest), `tuned` (the fine-tuned encoder alone), `blend` (the
fine-tuned encoder and the heads, weighed on a dev fold); `labelled` and `labelled blend` (`head`
and `blend`, given the label of each query's task as `task=` gives it).
"""

from __future__ import annotations

import argparse
import re
import warnings
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from shared_router import RoutingDataset
from shared_router.data.labels import DegenerateLabelWarning, Labels, make_labels
from shared_router.deciding.rule import Rule
from shared_router.deciding.walk import Walk
from shared_router.measuring.baselines import baseline_walks
from shared_router.measuring.bootstrap import interval, paired_difference, resampled_figures
from shared_router.measuring.metrics import trade_off
from shared_router.serving.features import feature_matrix
from shared_router.serving.scorer import map_texts
from shared_router.serving.session import GraphSession
from shared_router.training.cross_validation import TrainedHead, train_head
from shared_router.training.embedding import embed
from shared_router.training.encoder import ExportedEncoder, load_encoder
from shared_router.training.export import LEAST_CHANCE
from shared_router.training.finetuning.settings import FineTuning
from shared_router.training.finetuning.tune import finetune
from shared_router.training.fit import blended, train_on_embeddings
from shared_router.training.heads import Batch
from shared_router.training.neighbours import neighbour_mean
from shared_router.training.term_head import term_matrix

FOLDS = 5
RECIPE = "v4"
"""Changes with how heads are made, so that none made otherwise is taken from a folder."""
FIGURES = ("apgr", "cost_advantage_at_drop@0.01", "quality_drop_at_cost_advantage@0.4")
TUNED = {"tuned", "blend", "labelled blend"}


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    figures: dict[str, float | None]
    intervals: dict[str, tuple[float, float] | None]
    leads: dict[str, tuple[float, float] | None]
    """Paired interval of this line's APGR less each other line's."""


@dataclass(frozen=True)
class Plan:
    """What is compared."""

    candidates: list[str]
    kinds: list[str]
    methods: list[str]
    seeds: list[int]
    settings: FineTuning = field(default_factory=FineTuning)
    keep: Path | None = None
    encoder: str = "minilm"


@dataclass(frozen=True)
class Material:
    """A data set, embedded once."""

    data: RoutingDataset
    encoder: ExportedEncoder
    embeddings: np.ndarray
    features: np.ndarray


def folds_of(queries: list[str], seed: int = 0) -> np.ndarray:
    """Deal distinct queries to folds; other blanks, signs or capitals make no other query."""
    normal = [re.sub(r"\W+", " ", query.lower()).strip() for query in queries]
    _, inverse = np.unique(np.array(normal), return_inverse=True)
    return np.random.default_rng(seed).permutation(inverse.max() + 1)[inverse] % FOLDS


def cross_validate(data: RoutingDataset, plan: Plan, resamples: int = 500) -> list[Row]:
    """Cross-validate every method with every label kind, and the baselines."""
    data = data.candidates(plan.candidates)
    encoder = load_encoder(plan.encoder)
    embeddings = embed(encoder, data.queries)
    material = Material(data, encoder, embeddings, feature_matrix(data.queries))
    quality = data.quality(plan.candidates)
    savings = np.linspace(1.0, 0.0, len(plan.candidates))
    walks: dict[str, Walk] = {}
    for seed in plan.seeds:
        for kind in plan.kinds:
            rule = Rule("gap" if kind == "gap" else "probability", savings)
            for method, scores in _pooled(material, plan, kind, seed).items():
                walks[f"{method}, {kind}@{seed}"] = Walk(rule, scores, quality)
    baselines = baseline_walks(data.queries, quality, savings, None)
    return _rows(
        walks | {f"{name}@": walk for name, walk in baselines.items()}, len(data), resamples
    )


def _pooled(material: Material, plan: Plan, kind: str, seed: int) -> dict[str, np.ndarray]:
    """Predict every row by what was trained on the other folds."""
    folds = folds_of(material.data.queries, seed)
    pooled = {m: np.empty((len(folds), len(plan.candidates) - 1)) for m in plan.methods}
    for fold in range(FOLDS):
        inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        name = f"{material.encoder.sha256[:8]}-{RECIPE}-{kind}-{seed}-{fold}"
        found = _kept(plan, name, material, inside, outside, kind, seed)
        for method in plan.methods:
            pooled[method][outside] = found[method]
    return pooled


def _kept(plan, name, material, inside, outside, kind, seed) -> dict[str, np.ndarray]:
    """Take a fold's predictions from the folder, and compute and keep what is missing there."""
    path = plan.keep / f"{name}.npz" if plan.keep else None
    found = dict(np.load(path)) if path and path.is_file() else {}
    if set(plan.methods) - set(found):
        wanted = [method for method in plan.methods if method not in found]
        found |= _predicted(material, plan, inside, outside, kind, seed, wanted)
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, **found)
    return found


def _predicted(material, plan, inside, outside, kind, seed, wanted) -> dict[str, np.ndarray]:
    train = material.data.take(inside)
    labels = make_labels(train, plan.candidates, kind)
    embeddings, features = material.embeddings, material.features
    found: dict[str, np.ndarray] = {}
    if "neighbours" in wanted:
        near = neighbour_mean(embeddings[outside], embeddings[inside], labels.values)
        found["neighbours"] = near
    if "features" in wanted:
        found["features"] = _from_features(features, labels, train, inside, outside)
    if not {"head", "labelled", *TUNED} & set(wanted):
        return found
    head = train_on_embeddings(train, labels, embeddings[inside], seed=seed)
    texts = [material.data.queries[row] for row in outside]
    words = term_matrix(texts)
    found["head"] = head.predict(embeddings[outside], features[outside], terms=words)
    tasks = [material.data.records[row].task for row in outside]
    found["labelled"] = _told(found["head"], head, tasks)
    if TUNED & set(wanted):
        tuned = finetune(train, plan.candidates, labels, material.encoder, plan.settings, seed=seed)
        found["tuned"] = _run(tuned.graph, texts, material)
        fit = partial(train_on_embeddings, seed=seed)
        mixed = blended(train, labels, embeddings[inside], head, tuned, fit)
        found["blend"] = mixed.weight * found["tuned"] + (1 - mixed.weight) * found["head"]
        found["labelled blend"] = _told(found["blend"], head, tasks)
        print(f"{kind} seed {seed}: weight of tuned {mixed.weight:.2f}, {tuned.facts}", flush=True)  # noqa: T201
    return found


def _told(scores: np.ndarray, head: TrainedHead, tasks: list[str | None]) -> np.ndarray:
    """Move scores by what the labels add, as the served graph does."""
    if head.signal is None:
        return scores
    offsets = head.signal.offset_of(tasks)
    if head.link is None:
        return scores + offsets
    inside = np.clip(scores, LEAST_CHANCE, 1 - LEAST_CHANCE)
    return 1 / (1 + (1 - inside) / inside * np.exp(-offsets))


def _from_features(features, labels: Labels, train, inside, outside) -> np.ndarray:
    nothing = np.zeros((len(features), 1), dtype=np.float32)
    batch = Batch(nothing[inside], features[inside], labels.values, (None,) * len(inside))
    head = train_head(batch, train.queries, probability=labels.kind != "gap", neighbours=False)
    return head.predict(nothing[outside], features[outside])


def _run(graph: bytes, texts: list[str], material: Material) -> np.ndarray:
    session = GraphSession(graph)

    def one(text: str) -> np.ndarray:
        feeds = material.encoder.tokens.encode(text) | {"features": feature_matrix([text])}
        return session.run(["tuned"], feeds)[0][0]

    return np.array(list(map_texts(one, texts)), dtype=np.float64)


def _rows(walks: dict[str, Walk], n: int, resamples: int) -> list[Row]:
    """Average each line over its seeds, resample by resample."""
    samples = resampled_figures(walks, n, resamples)
    lines: dict[str, list[str]] = {}
    for name in walks:
        lines.setdefault(name.split("@")[0], []).append(name)
    means = {
        line: [_mean([samples[name][i] for name in names]) for i in range(resamples)]
        for line, names in lines.items()
    }
    rows = []
    for line, names in lines.items():
        figures = _mean([trade_off(walks[name]).figures() for name in names])
        intervals = {f: interval([sample[f] for sample in means[line]]) for f in FIGURES}
        others = [other for other in lines if other != line]
        leads = {o: paired_difference(means[line], means[o], "apgr") for o in others}
        rows.append(Row(line, figures, intervals, leads))
    return rows


def _mean(figures: list[dict[str, float | None]]) -> dict[str, float | None]:
    columns = {name: [one[name] for one in figures] for name in figures[0]}
    return {n: None if None in values else float(np.mean(values)) for n, values in columns.items()}


def show(rows: list[Row]) -> str:
    """Format the table, and the leads of every line over every other."""
    lines = ["columns: " + ", ".join(FIGURES)]
    for row in rows:
        parts = [f"{row.name:24s}"]
        for figure in FIGURES:
            value, span = row.figures[figure], row.intervals[figure]
            shown = "    -" if value is None else f"{value:6.3f}"
            parts.append(shown + (f" [{span[0]:.3f}, {span[1]:.3f}]" if span else ""))
        lines.append("  ".join(parts))
    for row in rows:
        leads = [f"{b} [{s[0]:+.3f}, {s[1]:+.3f}]" for b, s in row.leads.items() if s]
        lines.append(f"lead of {row.name} over: " + ", ".join(leads))
    return "\n".join(lines)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--candidates", required=True)
    parser.add_argument("--task")
    parser.add_argument("--labels", default="gap")
    parser.add_argument("--methods", default="head,features,neighbours")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--encoder", default="minilm", help="a hub name, or a folder")
    parser.add_argument("--epochs", type=int, default=FineTuning().epochs)
    asked = parser.parse_args()
    data = RoutingDataset.load(asked.data)
    data = data.task(asked.task) if asked.task else data
    warnings.simplefilter("once", DegenerateLabelWarning)
    plan = Plan(
        asked.candidates.split(","),
        asked.labels.split(","),
        asked.methods.split(","),
        [int(seed) for seed in asked.seeds.split(",")],
        FineTuning(epochs=asked.epochs),
        asked.keep,
        asked.encoder,
    )
    print(f"{data!r}\n{show(cross_validate(data, plan))}")  # noqa: T201


if __name__ == "__main__":
    main()
