"""Metrics against hand-computed cases and brute force."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shared_router.deciding.rule import Rule, savings_from_costs
from shared_router.deciding.walk import Walk
from shared_router.measuring.baselines import baseline_walks
from shared_router.measuring.bootstrap import interval, paired_difference, resampled_figures
from shared_router.measuring.metrics import TradeOff, trade_off

PAIR_RULE = Rule("gap", savings_from_costs(None, 2))
SIMPLE = TradeOff(np.array([0, 0.5, 1.0]), np.array([1.0, 0.9, 0.5]))
BUMPY = TradeOff(np.array([0, 0.25, 0.5, 1.0]), np.array([1.0, 0.5, 0.9, 0.4]))
seeds = st.integers(0, 2**32 - 1)
grades = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=25)


def line(scores: object, quality: object) -> TradeOff:
    column = np.asarray(scores, dtype=float).reshape(-1, 1)
    return trade_off(Walk(PAIR_RULE, column, np.asarray(quality, dtype=float)))


def test_a_line_by_hand() -> None:
    assert SIMPLE.figures() == pytest.approx(
        {
            "apgr": 0.65,
            "cpt50": 0.3125,
            "cpt80": 0.5,
            "cost_advantage_at_drop@0": 0.0,
            "cost_advantage_at_drop@0.01": 0.05,
            "cost_advantage_at_drop@0.05": 0.25,
            "quality_drop_at_cost_advantage@0.1": 0.02,
            "quality_drop_at_cost_advantage@0.2": 0.04,
            "quality_drop_at_cost_advantage@0.4": 0.08,
        }
    )


def test_the_best_over_a_line_that_is_not_monotone_counts() -> None:
    assert BUMPY.advantage_at_drop(0.1) == pytest.approx(0.5)
    assert BUMPY.cpt(5 / 6) == pytest.approx(0.5)
    assert BUMPY.drop_at_advantage(0.25) == pytest.approx(0.5)


def test_a_small_model_that_is_never_worse_takes_every_call() -> None:
    better = line([0.1, 0.2], [[1, 1], [1, 0.5]])
    assert better.advantage_at_drop(0.0) == 1.0
    assert better.drop_at_advantage(0.4) < 0


def test_cost_advantage_and_quality_from_scores() -> None:
    found = line([0.9, 0.1, 0.5], [[1, 1], [0, 1], [0.5, 1]])
    np.testing.assert_allclose(found.cost_advantage, [0, 1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(found.quality, [1, 1, 5 / 6, 0.5])


@given(quality=grades, seed=seeds)
def test_apgr_is_the_area_by_brute_force(quality: list[tuple[int, int]], seed: int) -> None:
    scores = np.random.default_rng(seed).permutation(len(quality)).astype(float)
    ordered = np.array(quality, dtype=float)[np.argsort(-scores)]
    n = len(ordered)
    means = [(ordered[:i, 0].sum() + ordered[i:, 1].sum()) / n for i in range(n + 1)]
    assume(means[0] > means[-1])
    recovered = (np.array(means) - means[-1]) / (means[0] - means[-1])
    area = (recovered[1:] + recovered[:-1]).sum() / 2 / n
    assert line(scores, quality).apgr() == pytest.approx(area)


@given(
    quality=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=5),
    tied=st.lists(st.integers(0, 1), min_size=5, max_size=5),
)
def test_ties_are_averaged_over_their_orders(
    quality: list[tuple[int, int]], tied: list[int]
) -> None:
    scores = np.array(tied[: len(quality)], dtype=float)
    found = line(scores, quality)
    assume(found.has_pgr)
    orders = [
        line(scores + 0.01 * np.array(p), quality).apgr() for p in permutations(range(len(quality)))
    ]
    assert found.apgr() == pytest.approx(np.mean(orders))


@given(quality=grades)
def test_random_is_exactly_one_half(quality: list[tuple[int, int]]) -> None:
    walks = baseline_walks([""] * len(quality), np.array(quality, float), PAIR_RULE.savings)
    found = trade_off(walks["random"])
    assume(found.has_pgr)
    assert found.apgr() == 0.5


@given(quality=grades, seed=seeds)
def test_no_order_beats_the_oracle(quality: list[tuple[int, int]], seed: int) -> None:
    outcomes = np.array(quality, dtype=float)
    walks = baseline_walks([""] * len(quality), outcomes, PAIR_RULE.savings)
    oracle = trade_off(walks["oracle"])
    assume(oracle.has_pgr)
    anyone = line(np.random.default_rng(seed).normal(size=len(quality)), quality)
    assert oracle.apgr() >= anyone.apgr() - 1e-12
    assert oracle.cpt(0.5) <= anyone.cpt(0.5) + 1e-12


def test_the_length_baseline_sends_short_queries_to_the_small_model() -> None:
    quality = np.array([[1.0, 1.0], [0.0, 1.0]])
    walks = baseline_walks(["short", "a longer query"], quality, PAIR_RULE.savings)
    assert trade_off(walks["query_length"]).apgr() == pytest.approx(0.75)
    assert "nearest_neighbours" not in walks


def test_pgr_without_a_gap_is_undefined() -> None:
    found = line([0.1, 0.2], [[1, 1], [0, 0]])
    assert not found.has_pgr
    assert (found.apgr(), found.cpt(0.5)) == (None, None)
    assert found.advantage_at_drop(0.0) == 1.0


@pytest.mark.parametrize("quality", [[[0, 0], [0, 0]], [[-1, 1], [0, 2]]])
def test_a_relative_drop_without_a_meaning_is_undefined(quality: list[list[float]]) -> None:
    found = line([0.1, 0.2], quality)
    assert not found.has_drop
    assert found.advantage_at_drop(0.01) is None
    assert found.drop_at_advantage(0.2) is None


def test_negative_qualities_have_a_drop() -> None:
    found = line([0.2, 0.1], [[-2, -1], [-3, -1]])
    assert found.drop_at_advantage(1.0) == pytest.approx(1.5)


def many(n: int = 400) -> dict[str, Walk]:
    rng = np.random.default_rng(0)
    quality = np.stack([rng.random(n) < 0.6, rng.random(n) < 0.85], axis=1).astype(float)
    scores = quality[:, :1] - quality[:, 1:] + rng.normal(0, 1, (n, 1))
    return {"one": Walk(PAIR_RULE, scores, quality), "two": Walk(PAIR_RULE, -scores, quality)}


def test_intervals_hold_the_figure_itself() -> None:
    walks = many()
    samples = resampled_figures(walks, 400, 200)
    for name, value in trade_off(walks["one"]).figures().items():
        low, high = interval([sample[name] for sample in samples["one"]]) or (1, 0)
        assert low <= value <= high


def test_differences_are_paired() -> None:
    samples = resampled_figures(many(), 400, 100)
    assert paired_difference(samples["one"], samples["one"], "apgr") == (0.0, 0.0)
    low, _ = paired_difference(samples["one"], samples["two"], "apgr") or (0, 0)
    assert low > 0


def test_resamples_are_the_same_every_time() -> None:
    assert resampled_figures(many(), 400, 5) == resampled_figures(many(), 400, 5)
    assert resampled_figures(many(), 400, 5) != resampled_figures(many(), 400, 5, seed=1)


def test_an_interval_of_undefined_figures_is_undefined() -> None:
    assert interval([0.5, None, 0.6]) is None
    assert interval([]) is None
    assert paired_difference([{"apgr": None}], [{"apgr": 0.5}], "apgr") is None


def test_a_resample_is_a_line_over_the_queries_drawn() -> None:
    rng = np.random.default_rng(3)
    scores, quality = rng.normal(size=(20, 1)), rng.random((20, 2))
    rows = rng.integers(0, 20, 20)
    weights = np.bincount(rows, minlength=20).astype(float)
    weighed = trade_off(Walk(PAIR_RULE, scores, quality), weights)
    drawn = trade_off(Walk(PAIR_RULE, scores[rows], quality[rows]))
    assert weighed.figures() == pytest.approx(drawn.figures())
