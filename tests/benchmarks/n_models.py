"""Any number of models: AIQ and the cost-quality curve, by five-fold cross-validation.

    python -m tests.benchmarks.n_models routerbench_zeroshot.jsonl.gz [--candidates A,...,REFERENCE]

Without `--candidates` all of the file's models are taken, the dearest as the reference. Scores are
out of fold, see `out_of_fold`. Costs are those of each query and model, as the data measured them.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router import RoutingDataset
from shared_router.deciding.rule import Rule, savings_from_costs
from shared_router.measuring.baselines import baseline_lines
from shared_router.measuring.bootstrap import interval, resampled_weights
from shared_router.measuring.cost_quality import (
    SINGLE_MODELS,
    CostLine,
    cost_quality,
    hulls_of,
    prices_of,
)
from shared_router.training.neighbours import neighbour_mean
from tests.benchmarks.out_of_fold import FOLDS, OutOfFold, out_of_fold

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESAMPLES = 300
LEVELS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99)
"""Where between the cheapest's and the reference's cost the curves are compared."""


@dataclass(frozen=True)
class Comparison:
    """The router beside every single model, their hull, random mixtures and the oracle."""

    found: dict[str, Any]
    """As `cost_quality` reports it."""
    above_hull: list[tuple[float, float, float, tuple[float, float] | None]]
    """Per level: cost, the router's quality, the hull's, and the paired interval of the lead."""
    pairs: dict[str, tuple[float, tuple[float, float] | None]]
    """Per candidate the AIQ of routing between it and the reference alone, and the paired
    interval of the whole router's lead over that."""
    unhulled: float
    """The router's area without the convex hull: what its settings give with no coin tossed."""


def models_by_cost(path: str) -> list[str]:
    """List a file's models, the dearest last."""
    data = RoutingDataset.load(path)
    costs = dict(zip(data.models, data.mean_costs_usd(data.models), strict=True))
    return sorted(costs, key=lambda name: costs[name] or 0.0)


def lines_of(found: OutOfFold, costs: NDArray[np.float64]) -> dict[str, CostLine]:
    """Build the router's line and the baselines'."""
    quality = found.quality
    savings = savings_from_costs(costs.mean(axis=0).tolist(), len(found.names), found.names)
    gaps = quality[:, :-1] - quality[:, -1:]
    near = np.empty_like(gaps)
    for fold in range(FOLDS):
        inside, outside = found.folds != fold, found.folds == fold
        near[outside] = neighbour_mean(
            found.embeddings[outside], found.embeddings[inside], gaps[inside]
        )
    lines = {"router": (Rule("gap", savings), found.plain)}
    lines |= baseline_lines(found.data.queries, quality, savings, near)
    return {name: CostLine(*line, quality, costs) for name, line in lines.items()}


def compare(found: OutOfFold, resamples: int = RESAMPLES) -> Comparison:
    """Measure everything on the same resamples."""
    costs = found.data.costs_usd(found.names)
    assert costs is not None, "a query lacks a cost"
    prices = prices_of(costs, np.zeros(len(found.names)), len(found.data))
    assert prices is not None
    lines, quality = lines_of(found, costs), found.quality
    report = cost_quality(lines, found.names, quality, prices, resamples)
    two = {"router": lines["router"]}
    hulls, within = hulls_of(two, quality, costs)
    levels = [within.low + part * (within.high - within.low) for part in LEVELS]
    drawn = [
        hulls_of(two, quality, costs, weights)[0]
        for weights in resampled_weights(len(quality), resamples)
    ]
    above = []
    for cost in levels:
        own, singles = (hulls[name].at(cost) or 0.0 for name in ("router", SINGLE_MODELS))
        leads = [(h["router"].at(cost) or 0.0) - (h[SINGLE_MODELS].at(cost) or 0.0) for h in drawn]
        above.append((cost, own, singles, interval(leads)))
    cost, points, _ = lines["router"].points()
    order = np.argsort(cost)
    area = np.trapezoid(points[order], cost[order]) / (within.high - within.low)
    return Comparison(report, above, _pairs(found, costs, lines["router"], resamples), float(area))


def _pairs(
    found: OutOfFold, costs: NDArray[np.float64], whole: CostLine, resamples: int
) -> dict[str, tuple[float, tuple[float, float] | None]]:
    """Measure the router of each candidate with the reference alone, over the same costs."""
    means, last = costs.mean(axis=0), len(found.names) - 1
    low, high, rule = means.min(), means[-1], Rule("gap", np.array([1.0, 0.0]))
    quality = found.quality
    lines = {
        name: CostLine(rule, found.plain[:, [at]], quality[:, [at, last]], costs[:, [at, last]])
        for at, name in enumerate(found.names[:-1])
    }
    leads: dict[str, list[float]] = {name: [] for name in lines}
    for weights in resampled_weights(len(quality), resamples):
        own = whole.hull(weights).aiq(low, high) or 0.0
        for name, line in lines.items():
            leads[name].append(own - (line.hull(weights).aiq(low, high) or 0.0))
    return {
        name: (line.hull().aiq(low, high) or 0.0, interval(leads[name]))
        for name, line in lines.items()
    }


def show(compared: Comparison) -> str:
    """Format the tables."""
    found = compared.found
    low, high = found["range"]
    lines = [f"costs from {low:.3g} to {high:.3g} {found['unit']} a call"]
    for name, own in found["candidates"].items():
        lines.append(f"  {name:32s} {own['cost']:.3g}  {own['quality']:.4f}  AIQ {own['aiq']:.4f}")
    for name, own in ({"router": found["router"]} | found["baselines"]).items():
        lead = own.get("router_lead_aiq")
        shown = f"  router leads [{lead[0]:+.4f}, {lead[1]:+.4f}]" if lead else ""
        span = own["intervals"]["aiq"]
        saved = "  ".join(
            f"{float(drop):.0%}: {'-' if share is None else f'{share:.3f}'}"
            for drop, share in own["cost_saved_at_drop"].items()
        )
        lines.append(
            f"  {name:20s} AIQ {own['aiq']:.4f} [{span[0]:.4f}, {span[1]:.4f}]{shown}"
            f"  cost saved at a drop of {saved}"
        )
    lines.append(f"  router without the hull: {compared.unhulled:.4f}")
    for name, (aiq, lead) in compared.pairs.items():
        shown = f"[{lead[0]:+.4f}, {lead[1]:+.4f}]" if lead else "-"
        lines.append(f"  {name:32s} with the reference alone: AIQ {aiq:.4f}, router leads {shown}")
    lines.append("cost, router, hull of single models, paired interval of the lead")
    for cost, own, singles, lead in compared.above_hull:
        shown = f"[{lead[0]:+.4f}, {lead[1]:+.4f}]" if lead else "-"
        lines.append(f"  {cost:.3g}  {own:.4f}  {singles:.4f}  {shown}")
    return "\n".join(lines)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--candidates")
    asked = parser.parse_args()
    names = asked.candidates.split(",") if asked.candidates else models_by_cost(asked.data)
    found = out_of_fold(asked.data, names)
    print(f"{found.data!r}\n{show(compare(found))}")  # noqa: T201


if __name__ == "__main__":
    main()
