"""What needs no router: models alone, and a coin of the same cost."""

from __future__ import annotations

import numpy as np
import pytest

from shared_router import Dial
from shared_router.measuring.cost_quality import CostQuality, Prices
from shared_router.measuring.static_mix import best_mix, per_call, single_models, static_mix

QUALITY = np.array([[1.0, 1.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
NAMES = ("small", "large")
CALLS, _ = per_call(None, 4)


def test_without_costs_two_models_are_compared_by_calls_of_the_reference():
    cost, unit = per_call(None, 2)
    assert cost.tolist() == [[0.0, 1.0], [0.0, 1.0]]
    assert unit == "calls"
    known = Prices(np.array([[0.1, 1.0]]), "usd")
    assert per_call(known, 1)[1] == "usd"


def test_the_mix_by_hand():
    choice = np.array([0, 1, 1, 0])  # half the calls, and all of them right
    found = static_mix(NAMES, QUALITY, choice, CALLS)
    assert (found["cost"], found["router_quality"]) == (0.5, 1.0)
    assert found["shares"] == {"small": 0.5, "large": 0.5}
    assert found["quality"] == pytest.approx(0.5 * 0.5 + 0.5 * 0.75)
    assert found["router_lead"] == pytest.approx(1 - 0.625)
    low, high = found["intervals"]["router_lead"]
    assert low < found["router_lead"] < high


def test_a_router_that_asks_one_model_leads_no_mix():
    for at, name in enumerate(NAMES):
        found = static_mix(NAMES, QUALITY, np.full(4, at), CALLS)
        assert found["shares"] == {name: 1.0}
        assert found["router_lead"] == 0.0
        assert found["intervals"]["router_lead"] == (0.0, 0.0)


def test_of_several_models_the_mix_is_the_hull():
    rng = np.random.default_rng(0)
    for _ in range(20):
        cost, quality = np.sort(rng.random(5)), rng.random(5)
        hull = CostQuality.of(cost, quality)
        for budget in np.linspace(cost[0], cost[-1], 7):
            shares = best_mix(cost, quality, budget)
            assert shares.sum() == pytest.approx(1.0)
            assert shares @ cost <= budget + 1e-12
            assert shares @ quality == pytest.approx(hull.at(budget))


def test_below_the_cheapest_model_that_is_taken_alone():
    assert best_mix(np.array([1.0, 2.0]), np.array([0.2, 0.9]), 0.5).tolist() == [1.0, 0.0]


def test_the_best_model_and_the_cheapest_within_a_limit():
    quality = np.array([[0.5, 0.94, 0.9, 1.0]])
    cost = np.array([[0.1, 0.3, 0.2, 1.0]])
    names = ("nano", "good", "cheap", "large")
    found = single_models(names, quality, cost, Dial("max_quality_drop", 0.1))
    assert found["best"]["name"] == "large"
    assert found["cheapest_within_limit"] == {
        "name": "cheap",
        "cost": 0.2,
        "quality": 0.9,
        "quality_drop": pytest.approx(0.1),
    }
    five = single_models(names, quality, cost, Dial("max_quality_drop_absolute", 0.05))
    assert five["cheapest_within_limit"]["name"] == "large"


def test_the_reference_need_not_be_the_best():
    found = single_models(("small", "large"), 1 - QUALITY[:, ::-1], CALLS, Dial("threshold", 0))
    assert found["best"]["name"] == "large"
    better = single_models(("small", "large"), QUALITY[:, ::-1], CALLS, None)
    assert better["best"]["name"] == "small"
    assert better["best"]["quality_drop"] == pytest.approx(-0.5)
    assert better["cheapest_within_limit"] is None


def test_a_drop_of_qualities_that_span_zero_is_undefined():
    found = single_models(NAMES, QUALITY - 0.5, CALLS, Dial("max_quality_drop", 0.1))
    assert found["best"]["quality_drop"] is None
    assert found["cheapest_within_limit"] is None
