"""Quality against cost: the hull and the area under it, against brute force and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_router.deciding.rule import Rule
from shared_router.measuring.cost_quality import (
    CostLine,
    CostQuality,
    cost_quality,
    prices_of,
)

seeds = st.integers(0, 2**32 - 1)


def points(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Make a few points on a coarse grid, so that ties are common."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 30))
    return rng.integers(0, 8, n) / 8, rng.integers(0, 8, n) / 8


def best_mixture(cost: np.ndarray, quality: np.ndarray, at: float) -> float:
    """Best quality at a cost by tossing a coin between any two points, or spending less."""
    best = -np.inf
    for a, qa in zip(cost, quality, strict=True):
        for b, qb in zip(cost, quality, strict=True):
            if a <= at:
                best = max(best, qa)
            if a <= at < b:
                best = max(best, qa + (qb - qa) * (at - a) / (b - a))
    return float(best)


@given(seeds, st.integers(0, 32))
def test_the_hull_is_the_best_mixture(seed: int, step: int) -> None:
    cost, quality = points(seed)
    at = float(cost.min()) + step / 32
    assert CostQuality.of(cost, quality).at(at) == pytest.approx(best_mixture(cost, quality, at))


@given(seeds)
def test_the_hull_rises_ever_less(seed: int) -> None:
    hull = CostQuality.of(*points(seed))
    assert (np.diff(hull.cost) > 0).all()
    assert (np.diff(hull.quality) > 0).all()
    slopes = np.diff(hull.quality) / np.diff(hull.cost)
    assert (np.diff(slopes) < 1e-12).all()


@given(seeds)
def test_aiq_is_the_mean_over_the_range(seed: int) -> None:
    hull = CostQuality.of(*points(seed))
    grid = np.linspace(-0.25, 1.5, 7001)
    values = np.array([hull.at(float(at)) or 0.0 for at in grid])
    assert hull.aiq(-0.25, 1.5) == pytest.approx(values.mean(), abs=2e-3)


def test_a_single_model_is_flat_from_its_cost_upwards() -> None:
    alone = CostQuality(np.array([0.4]), np.array([0.9]))
    assert alone.aiq(0.0, 1.0) == pytest.approx(0.54)
    assert alone.aiq(0.5, 1.0) == pytest.approx(0.9)
    assert alone.aiq(0.0, 0.4) == 0.0
    assert alone.aiq(1.0, 1.0) is None
    assert alone.at(0.3) is None
    assert alone.cost_of(0.95) is None


def three() -> tuple[Rule, np.ndarray, np.ndarray, np.ndarray]:
    """Two queries; nano is right on the first, mini and maxi on both."""
    rule = Rule("gap", np.array([1.0, 0.5, 0.0]))
    quality = np.array([[1.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
    scores = np.array([[0.0, 0.0], [-1.0, 0.0]])
    return rule, scores, quality, np.array([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]])


def test_a_line_is_measured_by_hand() -> None:
    rule, scores, quality, cost = three()
    found = CostLine(rule, scores, quality, cost)
    paid, got, shares = found.points()
    assert paid.tolist() == [2.0, 0.5, 0.0]  # all maxi; nano and mini; all nano
    assert got.tolist() == [1.0, 1.0, 0.5]
    assert shares.tolist() == [0.0, 1.0, 1.0]
    assert found.hull().aiq(0.0, 2.0) == pytest.approx((0.75 * 0.5 + 1.0 * 1.5) / 2)


def test_the_report_compares_lines_candidates_and_their_hull() -> None:
    rule, scores, quality, cost = three()
    prices = prices_of(cost, rule.savings, 2)
    assert prices is not None
    lines = {
        "router": CostLine(rule, scores, quality, cost),
        "random": CostLine(rule, np.zeros((2, 2)), quality, cost),
    }
    found = cost_quality(lines, ("nano", "mini", "maxi"), quality, prices, resamples=5)
    assert (found["unit"], found["range"]) == ("usd", [0.0, 2.0])
    assert found["candidates"]["mini"] == {"cost": 1.0, "quality": 1.0, "aiq": 0.5}
    assert found["candidates"]["maxi"]["aiq"] == 0.0
    assert found["router"]["cost_saved_at_drop"]["0"] == pytest.approx(0.75)
    assert found["baselines"]["single_models"]["cost_saved_at_drop"]["0"] == pytest.approx(0.5)
    assert found["router"]["quality_at_cost_saved"]["0.4"] == 1.0
    assert found["router"]["aiq"] > found["baselines"]["single_models"]["aiq"]
    assert set(found["baselines"]) == {"random", "single_models"}
    assert len(found["baselines"]["random"]["router_lead_aiq"]) == 2
    assert [point["cost"] for point in found["curve"]] == [2.0, 0.5, 0.0]


def test_costs_are_dollars_where_known_else_relative_for_more_than_two() -> None:
    savings = np.array([1.0, 0.25, 0.0])
    dollars = prices_of(np.array([0.1, 0.2, 0.4]), savings, 3)
    assert dollars is not None
    assert (dollars.unit, dollars.per_query.shape) == ("usd", (3, 3))
    relative = prices_of(None, savings, 2)
    assert relative is not None
    assert (relative.unit, relative.per_query[0].tolist()) == ("relative", [0.0, 0.75, 1.0])
    free = prices_of(np.zeros(3), savings, 2)
    assert free is not None
    assert free.unit == "relative"
    assert prices_of(None, np.array([1.0, 0.0]), 2) is None


def test_figures_are_undefined_where_they_have_no_meaning() -> None:
    rule, scores, _, cost = three()
    quality = np.array([[-1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    prices = prices_of(cost, rule.savings, 2)
    assert prices is not None
    lines = {"router": CostLine(rule, scores, quality, cost)}
    found = cost_quality(lines, ("a", "b", "c"), quality, prices, resamples=2)
    assert found["router"]["cost_saved_at_drop"] == {"0": None, "0.01": None, "0.05": None}
