"""Dials within a task: which calibration serves, and what a decision says of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shared_router import Candidate, Dial, RoutingQuery
from shared_router.deciding.by_task import TaskCurves, resolve_setting
from shared_router.deciding.curve import CalibrationCurve, calibration_curve
from shared_router.deciding.drivers import drive
from shared_router.deciding.guards import RoutingRequest
from shared_router.deciding.policy import Policy, Scored
from shared_router.deciding.rule import Rule
from shared_router.deciding.settings import Dialling
from shared_router.errors import NotCalibratedError
from shared_router.options import Asked, CallOptions

PAIR = Rule("gap", np.array([1.0, 0.0]))
HALF = Dial("cost_advantage", 0.5)


def curve_at(*scores: float) -> CalibrationCurve:
    """A curve over queries with these scores; half of them lie above its threshold."""
    return calibration_curve(PAIR, np.array(scores)[:, None], np.ones((len(scores), 2)))


OVERALL = curve_at(0.0, 1.0)  # 0.5 calls half of them
CURVES = TaskCurves(
    curves={"s/a": curve_at(2.0, 3.0), "s": curve_at(4.0, 5.0)},
    too_few={"t/x": 3, "t": 3, "s/few": 1},
    least=2,
)


@pytest.mark.parametrize(
    ("label", "task", "because", "threshold"),
    [
        ("s/a", "s/a", None, 2.5),
        ("s/new", "s", "unknown_task", 4.5),
        ("s/few", "s", "too_few", 4.5),
        ("s", "s", None, 4.5),
        ("t/x", None, "too_few", 0.5),
        ("t/y", None, "unknown_task", 0.5),
        ("elsewhere", None, "unknown_task", 0.5),
        (None, None, "no_task", 0.5),
    ],
)
def test_the_narrowest_calibration_serves(
    label: str | None, task: str | None, because: str | None, threshold: float
) -> None:
    found = resolve_setting(HALF, OVERALL, CURVES, label)
    assert (found.task, found.because) == (task, because)
    assert found.threshold == threshold


def test_without_calibrations_by_task_a_label_is_said_to_be_unknown() -> None:
    assert resolve_setting(HALF, OVERALL, None, "s/a").because == "unknown_task"
    assert resolve_setting(HALF, OVERALL, None, None).because is None


def test_a_threshold_needs_no_calibration() -> None:
    found = resolve_setting(Dial("threshold", 7.0), None, None, "s/a")
    assert (found.threshold, found.task, found.because) == (7.0, None, None)
    with pytest.raises(NotCalibratedError, match="needs a calibrated router"):
        resolve_setting(HALF, None, None, "s/a")


def decided(
    task: str | None, score: Any, dial: Dial = HALF, by: str = "given", stated: str | None = None
) -> Any:
    """Decide one query; `score` is called as the driver calls a scorer."""
    tasks = TaskCurves(curves=CURVES.curves, too_few=CURVES.too_few, by=by)  # type: ignore[arg-type]
    pair, dialling = (Candidate("small"), Candidate("large")), Dialling(curve=OVERALL, tasks=tasks)
    policy = Policy(pair, PAIR, dialling, Asked(dial))
    query = RoutingQuery(text="q", task=stated)
    request = RoutingRequest(query=query, options=CallOptions(task=task))
    return drive(policy.deciding(request), score)


def test_a_query_is_scored_under_the_label_whose_calibration_serves() -> None:
    asked: list[tuple[str, ...]] = []

    def score(*given: str) -> list[float]:
        asked.append(given)
        return [3.0]

    verdicts = [decided(task, score) for task in ("s/a", "s/new", "t/x", None)]
    assert asked == [("q", "s/a"), ("q", "s"), ("q",), ("q",)]
    assert [verdict.index for verdict in verdicts] == [0, 1, 0, 0]
    assert [verdict.task for verdict in verdicts] == ["s/a", "s/new", "t/x", None]
    assert verdicts[0].task_source == "given"


def test_under_a_bare_threshold_the_calls_own_label_stands() -> None:
    asked: list[tuple[str, ...]] = []
    decided("s/new", lambda *given: asked.append(given) or [1.0], Dial("threshold", 0.0))
    assert asked == [("q", "s/new")]


def test_the_calls_option_wins_over_the_task_stated_with_the_query() -> None:
    assert decided("s/a", lambda *_: [1.0], stated="t/x").task == "s/a"
    assert decided(None, lambda *_: [1.0], stated="t/x").task == "t/x"


def test_a_predicted_task_keys_a_call_without_one() -> None:
    def told(*given: str) -> Scored:
        assert given == ("q",)  # labels change no score where tasks are predicted
        return Scored([3.0], "s/a")

    found = decided(None, told, by="predicted")
    assert (found.task, found.task_source, found.threshold) == ("s/a", "predicted", 2.5)
    given = decided("s", told, by="predicted")
    assert (given.task, given.task_source, given.threshold) == ("s", "given", 4.5)


def test_a_curve_can_be_walked_under_another_rule() -> None:
    three = Rule("gap", np.array([1.0, 0.9, 0.0]))
    other = Rule("gap", np.array([1.0, 0.1, 0.0]))
    rng = np.random.default_rng(0)
    scores, quality = rng.normal(size=(30, 2)), rng.random((30, 3))
    walked = calibration_curve(three, scores, quality).under(other)
    direct = calibration_curve(other, scores, quality)
    np.testing.assert_array_equal(walked.thresholds, direct.thresholds)
    np.testing.assert_array_equal(walked.quality, direct.quality)


def test_a_curve_without_its_scores_cannot() -> None:
    bare = CalibrationCurve(
        thresholds=OVERALL.thresholds,
        cost_advantage=OVERALL.cost_advantage,
        quality=OVERALL.quality,
        quality_range=(1.0, 1.0),
        n=2,
    )
    with pytest.raises(NotCalibratedError, match="kept no scores"):
        bare.under(PAIR)


def test_the_cost_advantage_at_a_dial() -> None:
    curve = curve_at(1.0, 2.0, 3.0, 4.0)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        assert curve.cost_advantage_at(Dial("cost_advantage", share)) == share
    assert curve.cost_advantage_at(Dial("threshold", 2.5)) == 0.5
