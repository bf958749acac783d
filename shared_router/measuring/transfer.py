"""Transfer: may a router fitted for one pair of models serve another?

The paper's test is the correlation of the two pairs' quality gaps: at r = 0.76 a router carried
over, and the lower r, the less. Beside it stand what decides: whether the router's scores rank
the new pair's gaps at all, and what its stored setting gives there.
Source: Hybrid LLM (Ding et al., ICLR 2024), section 4.5.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from shared_router.deciding.rule import Rule
from shared_router.deciding.walk import Walk
from shared_router.measuring.bootstrap import RESAMPLES, interval, resampled_weights
from shared_router.measuring.evaluation import figures_at_dial
from shared_router.measuring.ranks import ranks
from shared_router.options import Dial

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared_router.measuring.evaluation import OutcomeTable

Recommendation = Literal["reuse", "recalibrate", "retrain"]

LEAST_TRANSFER = 30
"""Fewest outcomes of the new pair a report can be made of."""
WASTE = 0.1
"""Cost advantage that a new calibration must add before it is worth recommending."""
SLACK = 0.05
"""Share of calls by which a stored setting may miss a dial of cost advantage."""

TRANSFER_RULE = (
    "retrain, if the router's scores do not rank the new pair (the 95 % interval of their gain "
    "over random routing reaches 0) or heads fitted on these outcomes rank it better (that "
    "interval lies above 0); else recalibrate, if the stored setting misses the dial on the new "
    f"pair, or a new calibration keeps {WASTE:.0%} more calls from the reference; else reuse"
)


@dataclass(frozen=True, kw_only=True)
class TransferReport:
    """What a router is worth for other models; shares and drops are fractions, intervals 95 %."""

    router: str
    """Its name."""
    router_candidates: tuple[str, ...]
    """The models it was fitted for, the reference last."""
    candidates: tuple[str, ...]
    """The new models, the reference last."""
    n: int
    """Queries with outcomes of the new models that the router was not fitted on."""
    shared: int
    """Queries with outcomes of the router's own models too, those it was fitted on included."""
    gap_correlation: dict[str, Any] | None
    """Pearson and Spearman between the quality gaps of both, on the shared queries; `None` where
    there are too few, or one never varies."""
    score_correlation: dict[str, Any] | None
    """The same between the router's scores and the new gaps, on all queries."""
    gain: dict[str, Any]
    """Mean quality above random routing over all shares of calls: by the router as it is, by
    heads fitted on these outcomes (cross-validated), and by how much the latter lead."""
    dial: dict[str, Any]
    """The dial, and the threshold stored for it."""
    at_dial: dict[str, Any]
    """What the stored setting gives for the new models."""
    recalibrated: dict[str, Any] | None
    """What a calibration on half of these outcomes gives on the other half; `None` for a bare
    threshold."""
    recommendation: Recommendation
    """`reuse`, `recalibrate` or `retrain`."""
    why: str
    """What decided."""
    rule: str = TRANSFER_RULE
    """How the recommendation is made."""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON-ready values."""
        return asdict(self) | {
            "router_candidates": list(self.router_candidates),
            "candidates": list(self.candidates),
        }


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """What a report is measured on."""

    scores: NDArray[np.float64]
    """The router's, shape (n, k - 1)."""
    outcomes: OutcomeTable
    """Of the new models."""
    shared: tuple[NDArray[np.float64], NDArray[np.float64]]
    """Gaps of the router's own models and of the new ones on shared queries, shape (m, k - 1)."""
    refitted: NDArray[np.float64] | None
    """Scores by heads fitted on the other folds' outcomes, shape (n, k - 1)."""
    rule: Rule
    """The router's."""

    @property
    def gaps(self) -> NDArray[np.float64]:
        """Gaps of the new models, shape (n, k - 1)."""
        quality = self.outcomes.quality
        return quality[:, :-1] - quality[:, -1:]


def correlations(
    first: NDArray[np.float64], second: NDArray[np.float64], resamples: int = RESAMPLES
) -> dict[str, Any] | None:
    """Correlate two sets of columns, pair by pair, and average over the columns.

    Args:
        first: Shape (n, c).
        second: Shape (n, c).
        resamples: Bootstrap resamples behind the intervals.

    Returns:
        `pearson`, `spearman` and their `intervals`; `None` where a column never varies.
    """
    found = _both(first, second)
    if found is None:
        return None
    rng, n = np.random.default_rng(0), len(first)
    drawn = []
    for _ in range(resamples):
        rows = rng.integers(0, n, n)
        drawn.append(_both(first[rows], second[rows]) or (np.nan, np.nan))
    samples = np.array(drawn)
    samples = samples[~np.isnan(samples).any(axis=1)]
    names = ("pearson", "spearman")
    spans = {name: interval(list(samples[:, at])) for at, name in enumerate(names)}
    return dict(zip(names, found, strict=True)) | {"intervals": spans}


def _both(first: NDArray[np.float64], second: NDArray[np.float64]) -> tuple[float, float] | None:
    if not len(first) or (np.ptp(first, axis=0) == 0).any() or (np.ptp(second, axis=0) == 0).any():
        return None
    pairs = list(zip(first.T, second.T, strict=True))
    pearson = np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs])
    spearman = np.mean([np.corrcoef(ranks(a), ranks(b))[0, 1] for a, b in pairs])
    return float(pearson), float(spearman)


def gain_over_random(walk: Walk, weights: NDArray[np.float64] | None = None) -> float:
    """Measure the area between a line and random routing, in the metric's units.

    `(APGR - 1/2) (Q_ref - Q_cheapest)`: defined whichever model is better.
    """
    shares, quality = walk.line(weights)
    return float(np.trapezoid(quality, shares) - (quality[0] + quality[-1]) / 2)


def gains(transfer: Transfer, resamples: int = RESAMPLES) -> dict[str, Any]:
    """Measure the gain over random of the scores as they are, and of refitted heads."""
    quality = transfer.outcomes.quality
    walks = {"router": Walk(transfer.rule, transfer.scores, quality)}
    if transfer.refitted is not None:
        refitted = Rule("gap", transfer.rule.savings)
        walks["refitted"] = Walk(refitted, transfer.refitted, quality)
    found: dict[str, Any] = {name: gain_over_random(walk) for name, walk in walks.items()}
    samples = [
        {name: gain_over_random(walk, weights) for name, walk in walks.items()}
        for weights in resampled_weights(len(quality), resamples)
    ]
    spans = {name: interval([sample[name] for sample in samples]) for name in walks}
    if "refitted" in walks:
        found["lead"] = found["refitted"] - found["router"]
        spans["lead"] = interval([s["refitted"] - s["router"] for s in samples])
    return found | {"intervals": spans}


def transfer_report(
    transfer: Transfer,
    dial: Dial,
    threshold: float,
    names: tuple[str, tuple[str, ...], tuple[str, ...]],
    resamples: int = RESAMPLES,
) -> TransferReport:
    """Measure what a router is worth for other models, and recommend what to do.

    Args:
        transfer: What it is measured on.
        dial: The dial that is to be kept.
        threshold: The setting stored for it.
        names: The router's, its candidates', and the new candidates'.
        resamples: Bootstrap resamples behind the intervals.

    Returns:
        The report.
    """
    own, new = transfer.shared
    enough = len(own) >= LEAST_TRANSFER
    gain = gains(transfer, resamples)
    stored = _at_threshold(transfer, threshold)
    fresh = None
    if dial.name != "threshold":
        fresh = figures_at_dial(dial, None, transfer.rule, transfer.scores, transfer.outcomes)
    recommendation, why = recommend(dial, gain, stored, fresh)
    return TransferReport(
        router=names[0],
        router_candidates=names[1],
        candidates=names[2],
        n=len(transfer.outcomes),
        shared=len(own),
        gap_correlation=correlations(own, new, resamples) if enough else None,
        score_correlation=correlations(transfer.scores, transfer.gaps, resamples),
        gain=gain,
        dial={"name": dial.name, "value": dial.value, "threshold": threshold},
        at_dial=stored,
        recalibrated=fresh,
        recommendation=recommendation,
        why=why,
    )


def _at_threshold(transfer: Transfer, value: float) -> dict[str, Any]:
    found = figures_at_dial(
        Dial("threshold", value), None, transfer.rule, transfer.scores, transfer.outcomes
    )
    return {key: found[key] for key in found if key not in ("name", "value", "method")}


def recommend(
    dial: Dial, gain: dict[str, Any], stored: dict[str, Any], fresh: dict[str, Any] | None
) -> tuple[Recommendation, str]:
    """Apply `TRANSFER_RULE`.

    Returns:
        The recommendation, and what decided.
    """
    low, high = gain["intervals"]["router"]
    lead = gain["intervals"].get("lead")
    if lead is not None and lead[0] > 0:
        found = f"95 % interval of their lead {lead[0]:+.4f} to {lead[1]:+.4f}"
        return "retrain", f"heads fitted on these outcomes rank the new models better ({found})"
    if low <= 0:
        found = f"95 % interval of their gain {low:+.4f} to {high:+.4f}"
        return "retrain", (
            f"its scores are not shown to rank the new models ({found}), nor are heads fitted on "
            "these outcomes shown to do better: measure more of them first"
        )
    missed = _missed(dial, stored)
    if missed:
        return "recalibrate", missed
    if fresh is not None and fresh["cost_advantage"] - stored["cost_advantage"] > WASTE:
        return "recalibrate", (
            f"a new calibration keeps {fresh['cost_advantage']:.1%} of calls from the reference, "
            f"the stored setting {stored['cost_advantage']:.1%}"
        )
    return "reuse", "its scores rank the new models, and the stored setting keeps the dial"


def _missed(dial: Dial, stored: dict[str, Any]) -> str | None:
    """Say by how much a stored setting misses its dial; `None` where it keeps it."""
    if dial.name == "cost_advantage":
        found = stored["cost_advantage"]
        kept = -SLACK <= found - dial.value <= WASTE  # more than asked is quality lost unasked
        return None if kept else _miss(dial, "cost advantage", found)
    if dial.name == "threshold":
        return None
    name = "quality_drop" if dial.name == "max_quality_drop" else "quality_drop_absolute"
    found = stored[name]
    return None if found is not None and found <= dial.value else _miss(dial, "drop", found)


def _miss(dial: Dial, what: str, found: float | None) -> str:
    shown = "undefined" if found is None else f"{found:.4f}"
    return f"the stored setting gives a {what} of {shown} where {dial.name}={dial.value:g} is asked"
