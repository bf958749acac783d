"""Dials resolved on the calibrated line, against brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_router.deciding.curve import CalibrationCurve, calibration_curve, resolve_dial
from shared_router.deciding.rule import Rule, savings_from_costs
from shared_router.errors import ConfigurationError, DialError, NotCalibratedError
from shared_router.options import DIAL_NAMES, Dial

seeds = st.integers(0, 2**32 - 1)
shares = st.integers(0, 40).map(lambda part: part / 40)
limits = st.integers(0, 20).map(lambda part: part / 40)


def random_case(seed: int, k: int = 2) -> tuple[Rule, np.ndarray, np.ndarray]:
    """Make scores with ties, and qualities that they predict a little."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 40))
    quality = rng.integers(0, 5, (n, k)) / 4 + 0.25
    scores = np.round(quality[:, :-1] - quality[:, -1:] + rng.normal(0, 1, (n, k - 1)), 1)
    return Rule("gap", savings_from_costs(None, k)), scores, quality


def measured(rule: Rule, scores: np.ndarray, quality: np.ndarray, t: float) -> tuple[float, float]:
    """Measure cost advantage and absolute drop of one threshold, directly."""
    choice = rule.choose(scores, t)
    got = np.take_along_axis(quality, choice[:, None], axis=1).mean()
    return float((choice < quality.shape[1] - 1).mean()), float(quality[:, -1].mean() - got)


def all_settings(rule: Rule, scores: np.ndarray, quality: np.ndarray) -> list[tuple[float, float]]:
    """Measure every setting that the line has, between changes that rounding does not explain."""
    at = np.unique(np.round(rule.events(scores)[0], 7))
    between = [np.inf, *((at[1:] + at[:-1]) / 2), -np.inf]
    return [measured(rule, scores, quality, t) for t in between]


@pytest.mark.parametrize("k", [2, 3, 4])
@given(seed=seeds, share=shares)
def test_cost_advantage_takes_the_first_setting_that_reaches_it(
    k: int, seed: int, share: float
) -> None:
    rule, scores, quality = random_case(seed, k)
    t = calibration_curve(rule, scores, quality).resolve(Dial("cost_advantage", share))
    reached = [a for a, _ in all_settings(rule, scores, quality) if a >= share - 1e-9]
    assert measured(rule, scores, quality, t)[0] == pytest.approx(min(reached))


@pytest.mark.parametrize("k", [2, 3, 4])
@given(seed=seeds, limit=limits, relative=st.booleans())
def test_a_quality_dial_takes_the_cheapest_setting_within_its_limit(
    k: int, seed: int, limit: float, relative: bool
) -> None:
    rule, scores, quality = random_case(seed, k)
    name = "max_quality_drop" if relative else "max_quality_drop_absolute"
    t = calibration_curve(rule, scores, quality).resolve(Dial(name, limit))
    allowed = limit * (quality[:, -1].mean() if relative else 1)
    within = [a for a, drop in all_settings(rule, scores, quality) if drop <= allowed + 1e-9]
    advantage, drop = measured(rule, scores, quality, t)
    assert drop <= allowed + 1e-9
    assert advantage == pytest.approx(max(within))


@given(seed=seeds)
def test_every_point_of_the_curve_is_what_its_threshold_gives(seed: int) -> None:
    rule, scores, quality = random_case(seed, 3)
    curve = calibration_curve(rule, scores, quality)
    for t, advantage, mean in zip(
        curve.thresholds, curve.cost_advantage, curve.quality, strict=True
    ):
        found = measured(rule, scores, quality, t)
        assert found == pytest.approx((advantage, curve.reference_quality - mean))


@given(seed=seeds, share=shares)
def test_last_bits_of_scores_flip_nothing(seed: int, share: float) -> None:
    rule, scores, quality = random_case(seed)
    t = calibration_curve(rule, scores, quality).resolve(Dial("cost_advantage", share))
    noise = np.random.default_rng(seed).choice([-1e-9, 1e-9], scores.shape)
    assert (rule.choose(scores + noise, t) == rule.choose(scores, t)).all()


def small_curve(shift: float = 0) -> CalibrationCurve:
    rule = Rule("gap", savings_from_costs(None, 2))
    scores = np.array([[0.8], [0.4], [0.1]])
    return calibration_curve(rule, scores, np.array([[1, 1], [0, 1], [0, 1]]) + shift)


def test_thresholds_lie_midway() -> None:
    np.testing.assert_allclose(small_curve().thresholds, [np.inf, 0.6, 0.25, -np.inf])


def test_the_line_by_hand() -> None:
    curve = small_curve()
    np.testing.assert_allclose(curve.cost_advantage, [0, 1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(curve.quality, [1, 1, 2 / 3, 1 / 3])
    assert (curve.reference_quality, curve.quality_range, curve.n) == (1, (0, 1), 3)
    assert curve.resolve(Dial("max_quality_drop", 0.0)) == pytest.approx(0.6)
    assert curve.resolve(Dial("max_quality_drop", 1.0)) == -np.inf
    assert curve.resolve(Dial("cost_advantage", 0.0)) == np.inf
    assert curve.resolve(Dial("threshold", 0.123)) == 0.123


def test_a_relative_drop_across_zero_is_refused_with_the_way_out() -> None:
    curve = small_curve(shift=-0.5)
    assert not curve.one_sign
    with pytest.raises(DialError, match=r"from -0\.5 to 0\.5\. Use max_quality_drop_absolute"):
        curve.resolve(Dial("max_quality_drop", 0.1))
    assert curve.resolve(Dial("max_quality_drop_absolute", 0.0)) == pytest.approx(0.6)


def test_a_relative_drop_of_negative_qualities_is_of_their_size() -> None:
    curve = small_curve(shift=-2)
    assert curve.reference_quality == -1
    assert curve.resolve(Dial("max_quality_drop", 0.4)) == pytest.approx(0.25)


@pytest.mark.parametrize("name", DIAL_NAMES[1:])
def test_without_a_calibration_only_a_threshold_resolves(name: str) -> None:
    assert resolve_dial(Dial("threshold", 0.3), None) == 0.3
    with pytest.raises(NotCalibratedError, match=rf"{name} needs a calibrated router.*calibrate"):
        resolve_dial(Dial(name, 0.1), None)  # type: ignore[arg-type]


# -- what a curve must be -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gap", "probability"])
@given(
    seed=seeds,
    k=st.integers(2, 4),
    digits=st.integers(0, 9),
    costs=st.lists(st.sampled_from([0.0, 1e-9, 0.5, 1.0, 2.0]), min_size=3, max_size=3),
    shift=st.sampled_from([0.0, -3.0, 1e-12, 1e6]),
)
def test_every_calibration_is_what_a_stored_one_must_be(
    name: Any, seed: int, k: int, digits: int, costs: list[float], shift: float
) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 40))
    scores = np.round(rng.normal(0, 1, (n, k - 1)), digits).astype(np.float32)
    quality = np.round(rng.random((n, k)), digits) + shift
    rule = Rule(name, savings_from_costs([*costs[: k - 1], 2.0], k))
    calibration_curve(rule, scores, quality).check_walk(rule)


def test_a_line_of_another_rule_is_told_from_its_own() -> None:
    rule, scores, quality = random_case(3, 3)
    curve = calibration_curve(rule, scores, quality)
    with pytest.raises(ConfigurationError, match="thresholds is what its own scores"):
        curve.check_walk(Rule("gap", np.array([1.0, 0.9, 0.0])))
    with pytest.raises(ConfigurationError, match="a column per candidate, 2; got 3"):
        curve.check_walk(Rule("gap", np.array([1.0, 0.0])))


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("quality", np.array([1.0, np.nan]), "quality holds finite numbers alone; got nan"),
        ("quality", [1.0, 1.0], "quality is an array"),
        ("thresholds", np.array([np.inf]), "infinite to minus infinite"),
        ("cost_advantage", np.array([0.0, 0.5]), "rises from 0 to 1"),
        ("quality_range", (1.0, np.nan), "least and its greatest"),
        ("quality_range", "ab", "least and its greatest"),
        ("n", 0, "1 or more; got 0"),
        ("n", True, "1 or more; got True"),
    ],
)
def test_a_curve_made_by_hand_keeps_the_rules(field: str, value: Any, rule: str) -> None:
    line = {
        "thresholds": np.array([np.inf, -np.inf]),
        "cost_advantage": np.array([0.0, 1.0]),
        "quality": np.array([1.0, 1.0]),
        "quality_range": (1.0, 1.0),
        "n": 2,
    }
    CalibrationCurve(**line)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=rule):
        CalibrationCurve(**line | {field: value})  # type: ignore[arg-type]
