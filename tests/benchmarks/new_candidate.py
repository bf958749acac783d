"""What a few hundred outcomes of a new model give, beside a full refit.

    python -m tests.benchmarks.new_candidate routerbench_zeroshot.jsonl.gz \
        [--new yi-34b-chat,gpt-3.5-turbo-1106] [--outcomes 100,300,1000]

Scores of the other models are out of fold, see `out_of_fold`. The new model's column is fitted, as
`Router.add_candidate` does, on outcomes drawn from the other folds. AIQ over the costs of all
models: without the new one, with its column from so many outcomes, and with its column from a
full refit.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import numpy as np

from shared_router.deciding.rule import Rule, savings_from_costs
from shared_router.measuring.bootstrap import interval, resampled_weights
from shared_router.measuring.cost_quality import CostLine
from shared_router.serving.features import feature_matrix
from shared_router.training.cross_validation import train_head
from shared_router.training.heads import Batch
from tests.benchmarks.n_models import models_by_cost
from tests.benchmarks.out_of_fold import FOLDS, OutOfFold, out_of_fold

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEW = "mixtral-8x7b-chat,yi-34b-chat,gpt-3.5-turbo-1106,claude-v1"
RESAMPLES = 300


def column_of(found: OutOfFold, new: int, outcomes: int, seed: int = 0) -> NDArray[np.float64]:
    """Score every query for the new model by a head fitted on a few outcomes of other folds."""
    features, quality = feature_matrix(found.data.queries), found.quality
    gaps = quality[:, [new]] - quality[:, [-1]]
    column = np.empty(len(gaps))
    rng = np.random.default_rng(seed)
    for fold in range(FOLDS):
        rows = rng.permutation(np.flatnonzero(found.folds != fold))[:outcomes]
        outside = np.flatnonzero(found.folds == fold)
        tasks = tuple(found.data.records[row].task for row in rows)
        batch = Batch(found.embeddings[rows], features[rows], gaps[rows], tasks)
        texts = [found.data.queries[row] for row in rows]
        head = train_head(batch, texts, probability=False, neighbours=False, seed=seed)
        column[outside] = head.predict(found.embeddings[outside], features[outside])[:, 0]
    return column


def aiqs(
    found: OutOfFold, new: int, columns: dict[str, NDArray[np.float64]], resamples: int = RESAMPLES
) -> dict[str, tuple[float, tuple[float, float] | None]]:
    """Measure AIQ without the new model and with each of its columns, and the lead over without."""
    costs = found.data.costs_usd(found.names)
    assert costs is not None
    others = [at for at in range(len(found.names)) if at != new]
    lines = {"without": _line(found, costs, others, found.plain[:, others[:-1]])}
    for name, column in columns.items():
        scores = found.plain.copy()
        scores[:, new] = column
        lines[name] = _line(found, costs, list(range(len(found.names))), scores)
    low, high = costs.mean(axis=0).min(), costs.mean(axis=0)[-1]
    whole = {name: line.hull().aiq(low, high) or 0.0 for name, line in lines.items()}
    samples = [
        {name: line.hull(weights).aiq(low, high) or 0.0 for name, line in lines.items()}
        for weights in resampled_weights(len(found.data), resamples)
    ]
    return {
        name: (value, interval([each[name] - each["without"] for each in samples]))
        for name, value in whole.items()
    }


def _line(
    found: OutOfFold,
    costs: NDArray[np.float64],
    columns: list[int],
    scores: NDArray[np.float64],
) -> CostLine:
    kept = costs[:, columns]
    names = [found.names[at] for at in columns]
    savings = savings_from_costs(kept.mean(axis=0).tolist(), len(columns), names)
    return CostLine(Rule("gap", savings), scores, found.quality[:, columns], kept)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--new", default=NEW)
    parser.add_argument("--outcomes", default="100,300,1000")
    asked = parser.parse_args()
    found = out_of_fold(asked.data, models_by_cost(asked.data))
    for name in asked.new.split(","):
        new = found.names.index(name)
        columns = {n: column_of(found, new, int(n)) for n in asked.outcomes.split(",")}
        columns["full refit"] = found.plain[:, new]
        print(name)  # noqa: T201
        for way, (aiq, lead) in aiqs(found, new, columns).items():
            shown = f"[{lead[0]:+.4f}, {lead[1]:+.4f}]" if lead and way != "without" else ""
            print(f"  {way:12s} AIQ {aiq:.4f} {shown}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
