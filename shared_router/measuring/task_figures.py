"""One dial within each task: one threshold for all beside a calibration by task."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.deciding.curve import calibration_curve
from shared_router.measuring.bootstrap import RESAMPLES, interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from shared_router.deciding.curve import CalibrationCurve
    from shared_router.deciding.rule import Rule
    from shared_router.measuring.evaluation import OutcomeTable
    from shared_router.options import Dial

HALVINGS = 50
NO_TASK = "(no task)"
"""How queries without a task are listed."""


@dataclass(frozen=True)
class Keyed:
    """Queries as calls with a task would be decided."""

    plain: NDArray[np.floating]
    """Scores without labels, shape (n, k - 1)."""
    scores: NDArray[np.floating]
    """Scores under each query's calibrated task, without one where it has none."""
    keys: Sequence[str | None]
    """The calibrated task or suite of each query; `None` where all tasks together serve."""
    tasks: Sequence[str | None]
    """The task of each query."""

    def rows_of(self, key: str) -> NDArray[np.intp]:
        """Return the queries of a calibrated task or suite."""
        return np.flatnonzero([own == key for own in self.keys])


def figures_by_task(
    dial: Dial,
    rule: Rule,
    keyed: Keyed,
    outcomes: OutcomeTable,
    curve: CalibrationCurve | None,
    curves: Mapping[str, CalibrationCurve],
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Measure a dial as calls with a task would find it, and as one threshold would.

    Args:
        dial: The dial.
        rule: The rule.
        keyed: The queries.
        outcomes: Their outcomes.
        curve: The overall calibration on other queries; `None` calibrates on one half of these
            and measures on the other, repeated.
        curves: The calibrations by task that are in force.
        resamples: Bootstrap resamples behind the intervals, where other queries calibrated.

    Returns:
        Under `by_task` and `one_threshold` the figures over all queries and within each task,
        with intervals, and under `difference` the paired intervals of the former less the latter:
        in quality, and in the drop within each task.
    """
    measure = _Measure(rule, keyed, outcomes)
    if curve is not None:
        one = np.full(len(outcomes), curve.resolve(dial))
        own = _thresholds(dial, keyed, one, curves)
        rng, n = np.random.default_rng(0), len(outcomes)
        draws = [rng.integers(0, n, n) for _ in range(resamples)]
        samples = [measure.both(one, own, rows) for rows in draws]
        return _reported(measure.both(one, own, np.arange(n)), samples)
    samples = list(_halved(dial, measure, curves))
    return _reported(_mean_of(samples), samples)


def _thresholds(
    dial: Dial,
    keyed: Keyed,
    one: NDArray[np.float64],
    curves: Mapping[str, CalibrationCurve],
) -> NDArray[np.float64]:
    own = one.copy()
    for key, curve in curves.items():
        own[keyed.rows_of(key)] = curve.resolve(dial)
    return own


@dataclass(frozen=True)
class _Measure:
    rule: Rule
    keyed: Keyed
    outcomes: OutcomeTable

    def both(
        self,
        one: NDArray[np.float64],
        own: NDArray[np.float64],
        rows: NDArray[np.intp],
    ) -> dict[str, float | None]:
        """Measure both ways on some queries, flat: `way|task|figure`."""
        found: dict[str, float | None] = {}
        ways = {"one_threshold": (self.keyed.plain, one), "by_task": (self.keyed.scores, own)}
        for way, (scores, thresholds) in ways.items():
            choice = self.rule.choose(scores[rows], thresholds[rows])
            for task, mine in self._tasks(rows).items():
                figures = self._figures(choice[mine], rows[mine])
                found |= {f"{way}|{task}|{name}": value for name, value in figures.items()}
        return found

    def _tasks(self, rows: NDArray[np.intp]) -> dict[str, NDArray[np.intp]]:
        here = self._codes[rows]
        found = {task: np.flatnonzero(here == at) for at, task in enumerate(self._names)}
        return {"": np.arange(len(rows))} | found

    @cached_property
    def _names(self) -> list[str]:
        return sorted({task or NO_TASK for task in self.keyed.tasks})

    @cached_property
    def _codes(self) -> NDArray[np.intp]:
        return np.array([self._names.index(task or NO_TASK) for task in self.keyed.tasks])

    def _figures(self, choice: NDArray[np.intp], rows: NDArray[np.intp]) -> dict[str, float | None]:
        if not len(rows):
            return dict.fromkeys(("quality", "cost_advantage", "quality_drop"))
        quality = self.outcomes.quality[rows]
        kept = float(quality[:, -1].mean())
        got = float(np.take_along_axis(quality, choice[:, None], axis=1).mean())
        return {
            "quality": got,
            "cost_advantage": float((choice != quality.shape[1] - 1).mean()),
            "quality_drop": (kept - got) / kept if kept > 0 else None,
        }


def _halved(
    dial: Dial, measure: _Measure, curves: Mapping[str, CalibrationCurve]
) -> list[dict[str, float | None]]:
    """Calibrate on one half, overall and within the same tasks, and measure on the other."""
    rule, keyed, quality = measure.rule, measure.keyed, measure.outcomes.quality
    rng, samples = np.random.default_rng(0), []
    for _ in range(HALVINGS):
        first, second = np.array_split(rng.permutation(len(quality)), 2)
        whole = calibration_curve(rule, keyed.plain[first], quality[first])
        halves = {}
        for key in curves:
            rows = np.intersect1d(first, keyed.rows_of(key))
            if len(rows):
                halves[key] = calibration_curve(rule, keyed.scores[rows], quality[rows])
        one = np.full(len(quality), whole.resolve(dial))
        samples.append(measure.both(one, _thresholds(dial, keyed, one, halves), second))
    return samples


def _mean_of(samples: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name in samples[0]:
        known = [value for sample in samples if (value := sample[name]) is not None]
        found[name] = float(np.mean(known)) if known else None
    return found


def _reported(
    figures: Mapping[str, float | None], samples: Sequence[Mapping[str, float | None]]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for flat, value in figures.items():
        way, task, name = flat.split("|")
        place = found.setdefault(way, {"tasks": {}})
        place = place["tasks"].setdefault(task, {}) if task else place
        place[name] = value
        span = interval([sample[flat] for sample in samples])
        place.setdefault("intervals", {})[name] = span
    tasks = found["by_task"]["tasks"]
    return found | {
        "difference": {
            "quality": _paired(samples, "|quality"),
            "quality_drop": {task: _paired(samples, f"{task}|quality_drop") for task in tasks},
        }
    }


def _paired(samples: Sequence[Mapping[str, float | None]], name: str) -> tuple[float, float] | None:
    """Return the interval of `by_task` less `one_threshold` in one figure."""
    pairs = [(sample[f"by_task|{name}"], sample[f"one_threshold|{name}"]) for sample in samples]
    return interval([None if a is None or b is None else a - b for a, b in pairs])
