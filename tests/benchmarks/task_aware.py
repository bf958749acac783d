"""What task labels buy: one threshold for all tasks, beside labels as signal and as key.

    python -m tests.benchmarks.task_aware routerdc_seven_models.jsonl.gz \
        --candidates A,...,REFERENCE [--small A,...] [--drops 0.01,0.05]

Scores are out of fold, see `out_of_fold`. With `--small` each of those candidates is a pair with
the reference, its column taken out of the whole; without, all candidates are routed between.

At equal cost advantage each way keeps the same share of all calls from the reference, and its
quality is compared, paired, with one threshold on scores without labels: `signal` is one threshold
on scores under the labels, `each task` keeps that share within every task. At a quality dial, half
of the queries calibrate and the other half is measured, 50 times; tasks with fewer than 100
queries in a calibrating half take the overall curve, as `Router.calibrate` would have it.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import numpy as np

from shared_router.deciding.by_task import LEAST_PER_TASK
from shared_router.deciding.curve import CalibrationCurve, calibration_curve
from shared_router.deciding.rule import Rule, savings_from_costs
from shared_router.deciding.walk import Walk
from shared_router.measuring.bootstrap import interval, resampled_weights
from shared_router.measuring.evaluation import OutcomeTable
from shared_router.measuring.task_figures import Keyed, figures_by_task
from shared_router.options import Dial
from tests.benchmarks.out_of_fold import OutOfFold, out_of_fold

if TYPE_CHECKING:
    from numpy.typing import NDArray

ADVANTAGES = (0.2, 0.4, 0.6)
RESAMPLES = 300


def rule_of(found: OutOfFold) -> Rule:
    """Return the gap rule under the data's costs."""
    costs = found.data.mean_costs_usd(found.names)
    return Rule("gap", savings_from_costs(costs, len(found.names), found.names))


WAYS = ("one threshold", "signal", "each task")


class Ways:
    """The lines of every way, walked once and measured on any resample."""

    def __init__(self, found: OutOfFold, rule: Rule) -> None:
        quality, tasks = found.quality, found.tasks
        everyone = np.arange(len(quality))
        parts = [np.flatnonzero(tasks == task) for task in np.unique(tasks)]
        self._lines = {
            way: [(rows, Walk(rule, scores[rows], quality[rows])) for rows in groups]
            for way, scores, groups in (
                ("one threshold", found.plain, [everyone]),
                ("signal", found.labelled, [everyone]),
                ("each task", found.labelled, parts),
            )
        }

    def quality(self, weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Measure quality at each cost advantage: a mean over parts that all keep that share."""
        found = {}
        for way, lines in self._lines.items():
            total = np.zeros(len(ADVANTAGES))
            for rows, walk in lines:
                total += weights[rows].sum() * np.interp(ADVANTAGES, *walk.line(weights[rows]))
            found[way] = total / weights.sum()
        return found


def at_equal_cost(found: OutOfFold, rule: Rule) -> str:
    """Compare the ways at equal cost advantage."""
    ways = Ways(found, rule)
    whole = ways.quality(np.ones(len(found.data)))
    samples = [ways.quality(each) for each in resampled_weights(len(found.data), RESAMPLES)]
    lines = ["quality at equal cost advantage; in brackets the paired 95 % interval of the lead"]
    for way in WAYS:
        cells = []
        for at, share in enumerate(ADVANTAGES):
            lead = interval([float(s[way][at] - s[WAYS[0]][at]) for s in samples])
            span = "" if way == WAYS[0] or not lead else f" [{lead[0]:+.4f}, {lead[1]:+.4f}]"
            cells.append(f"{share:.0%}: {whole[way][at]:.4f}{span}")
        lines.append(f"  {way:14s} " + "  ".join(cells))
    return "\n".join(lines)


def keyed_by_task(found: OutOfFold, rule: Rule) -> tuple[Keyed, dict[str, CalibrationCurve]]:
    """Key each query by its task, where half of its queries are enough to calibrate it."""
    tasks = list(found.tasks)
    counts = {task: tasks.count(task) for task in sorted(set(tasks))}
    enough = [task for task, n in counts.items() if n / 2 >= LEAST_PER_TASK]
    keys = [task if task in enough else None for task in tasks]
    keyed_too = np.array([[key is not None] for key in keys])
    scores = np.where(keyed_too, found.labelled, found.plain)
    # The curves name the tasks; each halving walks them anew.
    curves = {task: calibration_curve(rule, scores[:2], found.quality[:2]) for task in enough}
    return Keyed(found.plain, scores, keys, tasks), curves


def at_drop(found: OutOfFold, rule: Rule, drop: float) -> str:
    """Compare one threshold and a calibration by task at a quality dial."""
    keyed, curves = keyed_by_task(found, rule)
    tasks, enough = list(found.tasks), list(curves)
    counts = {task: tasks.count(task) for task in sorted(set(tasks))}
    outcomes = OutcomeTable(found.data.queries, found.quality)
    figures = figures_by_task(Dial("max_quality_drop", drop), rule, keyed, outcomes, None, curves)
    lines = [f"max_quality_drop={drop:g}: drop and cost advantage, one threshold | by task"]
    for task in ("", *counts):
        row = [f"  {task or 'all':28s} {counts.get(task, len(tasks)):5d}"]
        for way in ("one_threshold", "by_task"):
            own = figures[way]["tasks"][task] if task else figures[way]
            span = own["intervals"]["quality_drop"]
            row.append(
                f"{own['quality_drop']:+.3f} [{span[0]:+.3f}, {span[1]:+.3f}] "
                f"{own['cost_advantage']:.3f}"
            )
        apart = task and figures["difference"]["quality_drop"][task]
        row.append(f"difference [{apart[0]:+.3f}, {apart[1]:+.3f}]" if apart else "")
        lines.append(" | ".join(row) + ("" if not task or task in enough else "  (too few)"))
    return "\n".join(lines)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--candidates", required=True)
    parser.add_argument("--small")
    parser.add_argument("--drops", default="0.01,0.05")
    asked = parser.parse_args()
    whole = out_of_fold(asked.data, asked.candidates.split(","))
    print(f"{whole.data!r}, task told by the text: {whole.told.mean():.1%}")  # noqa: T201
    several = [whole.pair(name) for name in asked.small.split(",")] if asked.small else [whole]
    for found in several:
        rule = rule_of(found)
        print(f"== {', '.join(found.names)}\n{at_equal_cost(found, rule)}")  # noqa: T201
        for drop in asked.drops.split(","):
            print(at_drop(found, rule, float(drop)), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
