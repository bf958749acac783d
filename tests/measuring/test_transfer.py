"""The transfer report: correlations by hand, gains, and each recommendation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_router.deciding.rule import Rule
from shared_router.deciding.walk import Walk
from shared_router.measuring.evaluation import OutcomeTable
from shared_router.measuring.metrics import trade_off
from shared_router.measuring.transfer import (
    Transfer,
    correlations,
    gain_over_random,
    recommend,
    transfer_report,
)
from shared_router.options import Dial

PAIR = Rule("gap", np.array([1.0, 0.0]))
DROP = Dial("max_quality_drop", 0.05)


@given(st.integers(0, 2**32 - 1))
def test_correlations_are_those_of_scipy(seed: int) -> None:
    from scipy import stats

    rng = np.random.default_rng(seed)
    first = np.round(rng.normal(size=(40, 1)), 1)
    second = np.round(first + rng.normal(size=(40, 1)), 0)
    found = correlations(first, second, resamples=2)
    assert found is not None
    assert found["pearson"] == pytest.approx(stats.pearsonr(first[:, 0], second[:, 0])[0])
    assert found["spearman"] == pytest.approx(stats.spearmanr(first[:, 0], second[:, 0])[0])


def test_what_never_varies_correlates_with_nothing() -> None:
    assert correlations(np.ones((40, 1)), np.arange(40.0)[:, None]) is None
    assert correlations(np.empty((0, 1)), np.empty((0, 1))) is None


@given(st.integers(0, 2**32 - 1))
def test_the_gain_is_the_apgr_above_a_half(seed: int) -> None:
    rng = np.random.default_rng(seed)
    quality = np.stack([rng.random(30), 1 + rng.random(30)], axis=1)
    walk = Walk(PAIR, rng.normal(size=(30, 1)), quality)
    line = trade_off(walk)
    apgr = line.apgr()
    assert apgr is not None
    span = float(line.quality[0] - line.quality[-1])
    assert gain_over_random(walk) == pytest.approx((apgr - 0.5) * span)


def case(kind: str, n: int = 300) -> Transfer:
    """Make outcomes of a new pair to which the router's scores mean much, little or nothing."""
    rng = np.random.default_rng(0)
    true = rng.normal(size=n)
    small = (true + rng.normal(0, 0.3, n) > 0).astype(float)
    scores = {"same": true, "noise": rng.normal(size=n), "worse": true + rng.normal(0, 3, n)}[kind]
    quality = np.stack([small, np.ones(n)], axis=1)
    gaps = quality[:, :1] - quality[:, 1:]
    return Transfer(
        scores=scores[:, None],
        outcomes=OutcomeTable([""] * n, quality),
        shared=(gaps + rng.normal(0, 0.2, (n, 1)), gaps),
        refitted=(true + rng.normal(0, 1, n))[:, None],
        rule=PAIR,
    )


def report_of(kind: str, threshold: float, dial: Dial = DROP) -> Any:
    names = ("router", ("a", "b"), ("c", "d"))
    return transfer_report(case(kind), dial, threshold, names, resamples=50)


def test_a_router_that_ranks_and_keeps_its_dial_is_reused() -> None:
    found = report_of("same", threshold=0.0)
    assert (found.recommendation, found.n, found.shared) == ("reuse", 300, 300)
    assert found.gap_correlation["pearson"] > 0.8
    assert found.score_correlation["spearman"] > 0.5
    assert found.at_dial["quality_drop"] <= 0.05
    assert found.to_dict()["candidates"] == ["c", "d"]


def test_one_whose_setting_misses_the_dial_is_recalibrated() -> None:
    found = report_of("same", threshold=-2.0)
    assert found.recommendation == "recalibrate"
    assert "gives a drop of" in found.why
    assert found.recalibrated["quality_drop"] < found.at_dial["quality_drop"]


def test_one_whose_setting_wastes_calls_is_recalibrated() -> None:
    found = report_of("same", threshold=2.0)
    assert found.recommendation == "recalibrate"
    assert "a new calibration keeps" in found.why


@pytest.mark.parametrize("kind", ["noise", "worse"])
def test_one_that_ranks_worse_than_the_new_outcomes_is_retrained(kind: str) -> None:
    found = report_of(kind, threshold=0.0)
    assert found.recommendation == "retrain"
    assert found.gain["lead"] > 0
    assert "rank the new models better" in found.why


def test_where_nothing_ranks_more_outcomes_are_asked_for() -> None:
    gain = {"intervals": {"router": (-0.01, 0.01), "lead": (-0.01, 0.01)}}
    advice, why = recommend(DROP, gain, {"quality_drop": 0.0, "cost_advantage": 0.5}, None)
    assert advice == "retrain"
    assert "measure more of them" in why


def test_a_dial_of_cost_is_kept_by_its_share() -> None:
    gain = {"intervals": {"router": (0.01, 0.02)}}
    half = Dial("cost_advantage", 0.5)
    shares = ((0.46, "reuse"), (0.4, "recalibrate"), (0.55, "reuse"), (0.95, "recalibrate"))
    for share, advice in shares:
        stored = {"quality_drop": None, "cost_advantage": share}
        assert recommend(half, gain, stored, None)[0] == advice
    bare = Dial("threshold", 0.0)
    assert recommend(bare, gain, {"quality_drop": 1.0, "cost_advantage": 1.0}, None)[0] == "reuse"


def test_a_relative_drop_that_is_undefined_is_no_drop_kept() -> None:
    gain = {"intervals": {"router": (0.01, 0.02)}}
    advice, why = recommend(DROP, gain, {"quality_drop": None, "cost_advantage": 0.5}, None)
    assert (advice, "undefined" in why) == ("recalibrate", True)
