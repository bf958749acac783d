"""From a dial to a threshold: promised, estimated, refused; and how every label counts."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_router import Dial
from shared_router.deciding.by_task import TaskCurves
from shared_router.deciding.curve import calibration_curve
from shared_router.deciding.guarantee import OTHER_ARITHMETIC, OTHER_CANDIDATES
from shared_router.deciding.pooling import (
    OutOfFold,
    carried,
    check_out_of_fold,
    estimate_at,
    pooled_curve,
)
from shared_router.deciding.promise import CONFIDENCES, Look, Promise
from shared_router.deciding.rule import Rule
from shared_router.deciding.settings import Dialling, Promises, check_promisable
from shared_router.errors import ConfigurationError, NotCalibratedError
from shared_router.options import Asked

PAIR = Rule("gap", np.array([1.0, 0.0]))
FIVE = Dial("max_quality_drop", 0.05)
ESTIMATE = 1.5
"""The threshold of the estimate at 5 %: all but one query go to the small model."""


def bounds_of(*drops: float) -> np.ndarray[Any, Any]:
    """Bounds at each setting, a little wider with each confidence."""
    return np.array(drops)[:, None] * np.linspace(1, 1.5, len(CONFIDENCES))


def promise_of(*drops: float) -> Promise:
    """A grid infinite, 30, 20, ..., minus infinite, with a bound at each."""
    bounds = bounds_of(0.0, *drops)
    grid = np.array([math.inf, *np.arange(30.0, 40.0 - 10 * len(drops), -10), -math.inf])
    look = Look(n=400, upper=bounds, upper_relative=bounds)
    shares = np.linspace(0, 1, len(grid))
    return Promise(thresholds=grid, shares=shares, looks=(look,), method="paired")


def curve_of(offset: float = 0.0) -> Any:
    scores = np.array([1.0, 2.0, 3.0, 4.0])[:, None] + offset
    return calibration_curve(PAIR, scores, np.array([[0.0, 1.0], [0.9, 1], [1, 1], [1, 1]]))


CURVE = curve_of()
TASKS = TaskCurves(curves={"s/own": curve_of(100.0), "s/small": curve_of(200.0)}, too_few={})
PROMISES = Promises(whole=promise_of(0.01, 0.03, 0.2))
BY_TASK = Promises(
    whole=promise_of(0.01, 0.03, 0.2),
    tasks={"s/own": promise_of(0.03, 0.2)},
    rest=promise_of(0.2),
)


def resolved(dial: Dial = FIVE, how: Any = 0.9, written: bool = True, **more: Any) -> Any:
    label, void = more.pop("label", None), more.pop("void_call", None)
    dialling = Dialling(**({"curve": CURVE, "promises": PROMISES} | more))
    return dialling.resolve(Asked(dial, written, how), label, void)


def said(setting: Any) -> tuple[str, str | None]:
    return setting.claim.guarantee, setting.claim.reason


def test_a_limit_is_the_cheapest_setting_that_is_promised() -> None:
    found = resolved()
    assert (found.threshold, found.confidence, found.refused) == (20.0, 0.9, False)
    assert said(found) == ("promised", None)
    assert resolved(Dial("max_quality_drop", 0.02)).threshold == 30.0
    assert resolved(Dial("max_quality_drop_absolute", 0.5)).threshold == -math.inf


def test_a_surer_limit_is_a_dearer_one() -> None:
    limit = Dial("max_quality_drop", 0.0350)
    assert resolved(limit, 0.8).threshold == 20.0
    assert resolved(limit, 0.999).threshold == 30.0


def test_a_confidence_between_two_takes_the_greater() -> None:
    for asked, taken in [(0.51, 0.8), (0.81, 0.85), (0.9, 0.9), (0.901, 0.95), (0.98, 0.99)]:
        for value in np.linspace(0.001, 0.3, 40):
            limit = Dial("max_quality_drop", float(value))
            assert resolved(limit, asked).threshold == resolved(limit, taken).threshold


def test_no_confidence_above_the_greatest_is_promised() -> None:
    assert resolved(Dial("max_quality_drop", 0.9), 0.9999).refused


def test_a_written_limit_that_cannot_be_promised_is_refused() -> None:
    found = resolved(Dial("max_quality_drop", 0.001))
    assert (found.threshold, found.refused) == (math.inf, True)
    assert said(found) == ("none", "no promise")


def test_the_stored_default_follows_the_estimate_there() -> None:
    found = resolved(Dial("max_quality_drop", 0.001), written=False)
    assert (found.threshold, found.refused) == (2.5, False)
    assert said(found) == ("estimated", "not promised")


def test_nothing_tested_is_nothing_promised() -> None:
    assert resolved(promises=None).refused
    assert said(resolved(promises=None, written=False)) == ("estimated", "not promised")


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"how": "estimate"}, ("estimated", "confidence='estimate'")),
        ({"models": 3}, ("estimated", "more than two models")),
        ({"void": OTHER_CANDIDATES}, ("void", "other candidates")),
        ({"void": OTHER_ARITHMETIC}, ("void", "other arithmetic")),
        ({"void_call": "conversation"}, ("void", "conversation")),
        ({"void": OTHER_CANDIDATES, "void_call": "conversation"}, ("void", "other candidates")),
        ({"how": "estimate", "void_call": "kind of call"}, ("void", "kind of call")),
        ({"dial": Dial("threshold", ESTIMATE)}, ("none", "no quality dial")),
        ({"dial": Dial("cost_advantage", 0.75)}, ("none", "no quality dial")),
    ],
)
def test_what_is_not_promised_goes_by_the_estimate(
    more: dict[str, Any], expected: tuple[str, str]
) -> None:
    found = resolved(**more)
    assert (found.threshold, found.refused, found.confidence) == (ESTIMATE, False, None)
    assert said(found) == expected


def test_without_a_calibration_only_a_threshold_resolves() -> None:
    found = resolved(Dial("threshold", 3.0), curve=None, promises=None)
    assert (found.threshold, *said(found)) == (3.0, "none", "not calibrated")
    with pytest.raises(NotCalibratedError):
        resolved(curve=None, promises=None)


@pytest.mark.parametrize(
    ("label", "threshold", "task", "because", "expected"),
    [
        ("s/own", 30.0, "s/own", None, ("promised", None)),
        ("s/small", math.inf, "s/small", None, ("none", "no promise")),
        ("s/new", math.inf, None, "unknown_task", ("void", "unknown task")),
        (None, 20.0, None, "no_task", ("promised", None)),
    ],
)
def test_by_task(label: Any, threshold: float, task: Any, because: Any, expected: Any) -> None:
    found = resolved(promises=BY_TASK, tasks=TASKS, label=label)
    assert (found.threshold, found.task, found.because) == (threshold, task, because)
    assert said(found) == expected


def test_a_task_under_the_promise_of_the_rest_says_so() -> None:
    limit = Dial("max_quality_drop", 0.5)
    found = resolved(limit, promises=BY_TASK, tasks=TASKS, label="s/small")
    assert (found.threshold, found.task, found.because) == (-math.inf, None, "too_few")


def test_a_task_that_nobody_labelled_follows_the_estimate_under_the_default() -> None:
    found = resolved(promises=BY_TASK, tasks=TASKS, label="s/new", written=False)
    assert (found.threshold, found.refused) == (ESTIMATE, False)
    assert said(found) == ("void", "unknown task")


def test_a_confidence_that_cannot_be_kept_is_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigurationError, match="or ask for confidence='estimate'"):
        check_promisable(Asked(FIVE, True, 0.9), OTHER_CANDIDATES)
    check_promisable(Asked(FIVE, True, "estimate"), OTHER_CANDIDATES)
    check_promisable(Asked(Dial("threshold", 0.5), True, 0.9), OTHER_CANDIDATES)
    check_promisable(Asked(FIVE, True, 0.9), OTHER_ARITHMETIC)
    check_promisable(Asked(FIVE, True, 0.9), None)


TRUE_DROP = 0.02973
"""Of what scores 1 or more under a logistic loss, by a sum over a fine grid."""

# -- every label counts -------------------------------------------------------------------------

NUMBERS = st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=30)


@given(NUMBERS, NUMBERS)
def test_scores_are_carried_by_rank(unseen: list[float], served: list[float]) -> None:
    own, other = np.array(unseen)[:, None], np.array(served)[:, None]
    found = carried(own, other)[:, 0]
    assert found.shape == (len(unseen),)
    assert other.min() <= found.min()
    assert found.max() <= other.max()
    order = np.argsort(own[:, 0], kind="stable")
    assert (np.diff(found[order]) >= 0).all()
    for value in set(unseen):
        assert len(set(found[own[:, 0] == value])) == 1


def test_the_same_scores_are_carried_to_themselves() -> None:
    scores = np.random.default_rng(0).normal(size=(50, 2))
    np.testing.assert_allclose(carried(scores, scores), scores)
    np.testing.assert_allclose(carried(scores * 3 + 1, scores), scores)


def test_the_estimate_rests_on_all_labels() -> None:
    unseen = OutOfFold(np.array([[30.0], [20], [10]]), np.array([[0.0, 1], [0, 1], [0, 1]]))
    pooled = pooled_curve(PAIR, CURVE, unseen)
    assert (CURVE.n, pooled.n) == (4, 7)
    assert pooled.reference_quality == 1.0
    assert pooled.cost_advantage_at(FIVE) < CURVE.cost_advantage_at(FIVE)
    assert pooled_curve(PAIR, CURVE, None) is CURVE


@pytest.mark.parametrize(
    ("scores", "outcomes"),
    [
        (np.zeros((3, 1)), np.zeros((3, 1))),
        (np.zeros((3, 1)), np.zeros((2, 2))),
        (np.zeros((0, 1)), np.zeros((0, 2))),
        (np.zeros(3), np.zeros((3, 2))),
        (np.full((3, 1), math.nan), np.zeros((3, 2))),
        (np.zeros((3, 1)), np.full((3, 2), math.inf)),
        (np.zeros((3, 1), dtype=int), np.zeros((3, 2))),
    ],
)
def test_a_table_out_of_fold_is_checked(scores: Any, outcomes: Any) -> None:
    with pytest.raises(ConfigurationError, match="An out-of-fold table"):
        OutOfFold(scores, outcomes)


def test_a_table_of_other_candidates_is_refused() -> None:
    unseen = OutOfFold(np.zeros((3, 1)), np.zeros((3, 2)))
    check_out_of_fold(unseen, 2)
    check_out_of_fold(None, 3)
    with pytest.raises(ConfigurationError, match="a column per candidate, 3; got 2"):
        check_out_of_fold(unseen, 3)


@pytest.mark.parametrize("dial", [FIVE, Dial("max_quality_drop_absolute", 0.05)])
def test_an_estimate_holds_the_drop_about_as_often_as_its_interval_says(dial: Dial) -> None:
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(200):
        scores = rng.normal(size=400)
        large = (rng.random(400) < 0.8).astype(float)
        small = np.where(rng.random(400) < 1 / (1 + np.exp(scores)), 0.0, large)
        curve = calibration_curve(PAIR, scores[:, None], np.stack([small, large], axis=1))
        found = estimate_at(PAIR, curve, Dial("threshold", 1.0))
        assert found is not None
        held += found.interval[0] <= TRUE_DROP <= found.interval[1]
        limited = estimate_at(PAIR, curve, dial)
        assert limited is not None
        assert limited.drop <= 0.05 + 1e-9
        assert limited.interval[0] <= limited.drop <= limited.interval[1]
    assert 165 <= held <= 195


def test_an_estimate_tells_its_share_and_its_labels() -> None:
    found = estimate_at(PAIR, CURVE, FIVE)
    assert found is not None
    assert (found.share, found.n) == (0.75, 4)
    assert found.drop == pytest.approx(0.025)
    kept_none = dataclasses.replace(CURVE, scores=None, outcomes=None)
    assert estimate_at(PAIR, kept_none, FIVE) is None
