"""Does the transfer report's recommendation come true?

    python -m tests.benchmarks.transfer_pairs routerdc_seven_models.jsonl.gz \
        --candidates A,...,REFERENCE [--drop 0.02] [--outcomes 300]

Every candidate with the reference is a pair, and every pair's router is tried on every other
pair. Scores are out of fold, see `out_of_fold`, so that no query was fitted on. One third of the
queries calibrates the first pair's router; `--outcomes` others are what is known of the second
pair, and make the report; the rest tells what is true: what the stored setting gives, what a new
calibration on the known outcomes gives, and what a router fitted for the second pair gives,
calibrated on the same.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shared_router.deciding.curve import calibration_curve
from shared_router.deciding.rule import Rule
from shared_router.deciding.walk import Walk
from shared_router.measuring.evaluation import OutcomeTable
from shared_router.measuring.transfer import Transfer, gain_over_random, transfer_report
from shared_router.options import Dial
from shared_router.router.transfer import refitted
from tests.benchmarks.out_of_fold import OutOfFold, out_of_fold

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared_router.measuring.transfer import TransferReport

PAIR = Rule("gap", np.array([1.0, 0.0]))
RESAMPLES = 200
NEAR = 0.01
"""How far above the dial a drop on unseen queries still counts as kept."""


@dataclass(frozen=True)
class Truth:
    """What the unseen queries say of one transfer."""

    report: TransferReport
    drops: dict[str, float]
    """Relative drop: stored setting, recalibrated, retrained."""
    advantages: dict[str, float]
    """Cost advantage, likewise."""
    gains: dict[str, float]
    """Gain over random routing: `old` scores and `new` ones."""


def split_of(n: int, outcomes: int, seed: int = 0) -> list[NDArray[np.intp]]:
    """Deal queries: to the first pair's calibration, to the report, to the truth."""
    mixed = np.random.default_rng(seed).permutation(n)
    return [mixed[: n // 3], mixed[n // 3 : n // 3 + outcomes], mixed[n // 3 + outcomes :]]


def transfer(found: OutOfFold, old: int, new: int, dial: Dial, outcomes: int) -> Truth:
    """Try the router of one pair on another."""
    first, known, rest = split_of(len(found.data), outcomes)
    quality, last = found.quality, len(found.names) - 1
    before, after = quality[:, [old, last]], quality[:, [new, last]]
    scores, own = found.plain[:, [old]], found.plain[:, [new]]
    stored = calibration_curve(PAIR, scores[first], before[first]).resolve(dial)
    gaps = after[:, :1] - after[:, 1:]
    queries = [found.data.queries[row] for row in known]
    report = transfer_report(
        Transfer(
            scores=scores[known],
            outcomes=OutcomeTable(queries, after[known]),
            shared=((before[:, :1] - before[:, 1:])[known], gaps[known]),
            refitted=refitted(queries, found.embeddings[known], gaps[known]),
            rule=PAIR,
        ),
        dial,
        stored,
        ("router", (found.names[old], found.names[last]), (found.names[new], found.names[last])),
        RESAMPLES,
    )
    settings = {
        "reuse": (scores, stored),
        "recalibrate": (scores, calibration_curve(PAIR, scores[known], after[known]).resolve(dial)),
        "retrain": (own, calibration_curve(PAIR, own[known], after[known]).resolve(dial)),
    }
    drops, shares = {}, {}
    for name, (column, threshold) in settings.items():
        small = PAIR.choose(column[rest], threshold) == 0
        got = np.where(small, after[rest, 0], after[rest, 1]).mean()
        drops[name] = float(1 - got / after[rest, 1].mean())
        shares[name] = float(small.mean())
    gains = {
        "old": gain_over_random(Walk(PAIR, scores[rest], after[rest])),
        "new": gain_over_random(Walk(PAIR, own[rest], after[rest])),
    }
    return Truth(report, drops, shares, gains)


def came_true(truth: Truth, dial: Dial) -> bool:
    """Tell whether following the recommendation was right.

    `reuse`: the stored setting keeps the dial. `recalibrate`: the new calibration keeps it, or is
    nearer to it than the stored setting. `retrain`: the new pair's own router ranks better.
    """
    advice, drops = truth.report.recommendation, truth.drops
    if advice == "retrain":
        return truth.gains["new"] > truth.gains["old"]
    if advice == "reuse":
        return drops["reuse"] <= dial.value + NEAR
    nearer = abs(drops["recalibrate"] - dial.value) < abs(drops["reuse"] - dial.value)
    return drops["recalibrate"] <= dial.value + NEAR or nearer


def show(truths: list[Truth], dial: Dial) -> str:
    """Format the table, and what the correlations are worth."""
    groups: dict[str, list[Truth]] = defaultdict(list)
    for truth in truths:
        groups[truth.report.recommendation].append(truth)
    lines = [f"{dial.name}={dial.value:g}, {len(truths)} transfers"]
    for advice in ("reuse", "recalibrate", "retrain"):
        own = groups[advice]
        if not own:
            lines.append(f"  {advice:12s}   0")
            continue
        right = sum(came_true(truth, dial) for truth in own)
        cells = [
            f"{way}: drop {np.mean([t.drops[way] for t in own]):+.3f}"
            f" (within {np.mean([t.drops[way] <= dial.value + NEAR for t in own]):.0%})"
            f" advantage {np.mean([t.advantages[way] for t in own]):.3f}"
            for way in ("reuse", "recalibrate", "retrain")
        ]
        old, new = (np.mean([t.gains[which] for t in own]) for which in ("old", "new"))
        lines.append(
            f"  {advice:12s} {len(own):3d}, came true {right}/{len(own)}; {'; '.join(cells)}; "
            f"gain old {old:+.4f}, new {new:+.4f}"
        )
    kept = np.array([truth.gains["old"] - truth.gains["new"] for truth in truths])
    for name in ("gap_correlation", "score_correlation"):
        values = [getattr(truth.report, name) for truth in truths]
        pearson = np.array([np.nan if v is None else v["pearson"] for v in values])
        known = ~np.isnan(pearson)
        worth = np.corrcoef(pearson[known], kept[known])[0, 1]
        lines.append(f"  {name}: correlates {worth:+.2f} with the gain that is kept")
    return "\n".join(lines)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--candidates", required=True)
    parser.add_argument("--drop", type=float, default=0.02)
    parser.add_argument("--outcomes", type=int, default=300)
    asked = parser.parse_args()
    found = out_of_fold(asked.data, asked.candidates.split(","))
    dial, pairs = Dial("max_quality_drop", asked.drop), range(len(found.names) - 1)
    truths = [
        transfer(found, old, new, dial, asked.outcomes)
        for old in pairs
        for new in pairs
        if old != new
    ]
    print(f"{found.data!r}\n{show(truths, dial)}")  # noqa: T201


if __name__ == "__main__":
    main()
