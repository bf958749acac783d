"""What a promise is tested on: repeated texts, sampled answers, and an order of its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_router.deciding.evidence import (
    Evidence,
    cutters,
    gather_evidence,
    is_coarse,
    quality_bounds,
)


def gathered(
    small: list[list[float]],
    large: list[list[float]],
    texts: list[str] | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    order: np.ndarray | None = None,
    *,
    rounding: bool = False,
) -> Evidence:
    order = np.arange(len(small)) if order is None else order
    texts = texts or [f"text {row}" for row in range(len(small))]
    samples = tuple([np.array(own[row], dtype=float) for row in order] for own in (small, large))
    scores = np.array([hash(text) % 97 for text in texts], dtype=float)
    return gather_evidence(
        [f"q{row}" for row in order],
        [texts[row] for row in order],
        scores[order],
        samples,  # type: ignore[arg-type]
        bounds,
        rounding=rounding,
    )


def rights(n: int, share: float, seed: int) -> list[list[float]]:
    return [[float(x)] for x in np.random.default_rng(seed).uniform(size=n) < share]


@given(st.integers(0, 2**32 - 1))
def test_the_order_of_rows_does_not_matter(seed):
    small, large = rights(40, 0.5, 0), rights(40, 0.8, 1)
    texts = [f"text {row % 25}" for row in range(40)]
    order = np.random.default_rng(seed).permutation(40)
    one, other = gathered(small, large, texts), gathered(small, large, texts, order=order)
    for name in ("scores", "losses", "reference", "weights"):
        assert np.array_equal(getattr(one, name), getattr(other, name))


def test_right_or_wrong_is_paired_and_anything_else_is_bet_on():
    assert gathered(rights(9, 0.5, 0), rights(9, 0.8, 1)).method == "paired"
    assert gathered([[0.5]] * 9, rights(9, 0.8, 1)).method == "bets"
    scaled = gathered([[1.0], [5.0]], [[5.0], [5.0]], bounds=(1.0, 5.0))
    assert scaled.method == "paired"
    assert sorted(scaled.losses) == [0, 1]


def test_several_samples_are_rounded_by_the_id_alone():
    small, large = [[0.0, 1.0]] * 400, [[1.0, 1.0]] * 400
    found = gathered(small, large)
    assert found.method == "paired"
    assert set(found.losses) == {0, 1}
    assert abs(found.losses.mean() - 0.5) < 0.1
    assert np.array_equal(found.losses, gathered(small, large).losses)


def test_equal_means_lose_nothing_by_rounding():
    found = gathered([[0.0, 1.0]] * 200, [[1.0, 0.0]] * 200)
    assert (found.losses == 0).all()
    assert 0.3 < found.reference.mean() < 0.7


def test_graded_quality_is_rounded_where_asked_and_no_mean_changes():
    rng = np.random.default_rng(0)
    small, large = ([[x] for x in rng.beta(a, 1, 4000) * 4 + 1] for a in (1, 3))
    bet, exact = (gathered(small, large, bounds=(1, 5), rounding=asked) for asked in (False, True))
    assert (bet.method, exact.method) == ("bets", "paired")
    assert set(exact.losses) <= {-1, 0, 1}
    assert exact.losses.mean() == pytest.approx(bet.losses.mean(), abs=0.03)
    assert exact.reference.mean() * 4 + 1 == pytest.approx(bet.reference.mean() * 4 + 1, abs=0.15)


@pytest.mark.parametrize(("apart", "coarse"), [(1.0, True), (0.5, True), (0.1, False)])
def test_coarse_quality_is_told_by_its_differences(apart, coarse):
    quality = np.column_stack([np.full(50, 0.2), 0.2 + apart * (np.arange(50) % 2) * 0.8])
    assert is_coarse(quality, (0.0, 1.0)) == coarse
    assert is_coarse(quality * 10, (0.0, 10.0)) == coarse


@pytest.mark.parametrize(
    ("copies", "n"),
    [([1] * 500, 500), ([2] * 250, 250), ([1] * 494 + [2] * 3, 494), ([5] * 10, 10)],
)
def test_copies_of_a_text_count_together_in_the_exact_test(copies, n):
    texts = [f"text {at}" for at, times in enumerate(copies) for _ in range(times)]
    found = gathered(rights(len(texts), 0.5, 0), rights(len(texts), 0.8, 1), texts)
    assert found.method == "paired"
    assert len(found.losses) == len(texts)
    assert found.n == n


def test_a_text_of_many_copies_leaves_less_to_test_and_not_nothing():
    texts = ["hello"] * 50 + [f"text {row}" for row in range(950)]
    found = gathered(rights(1000, 0.5, 0), rights(1000, 0.8, 1), texts)
    assert found.method == "paired"
    assert 250 < found.n < 350


def test_texts_that_came_often_weigh_as_much():
    texts = ["the same"] * 10 + [f"text {row}" for row in range(20)]
    found = gathered([[0.0]] * 10 + [[0.9]] * 20, [[1.0]] * 10 + [[0.9]] * 20, texts)
    assert found.method == "bets"
    assert found.weights @ found.losses == pytest.approx(10)
    assert found.weights.sum() == 30
    assert len(found.losses) == 21


def test_white_space_parts_no_texts():
    found = gathered([[0.0]] * 3, [[1.0]] * 3, ["a  b", "a b", "a\nb"])
    assert found.n == 1


@pytest.mark.parametrize(
    ("bounds", "large", "reference"),
    [((0, 10), 5, 0.5), ((1, 5), 5, 1.0), ((-1, 0), -0.25, 0.25), ((-4, -2), -3, 0.5)],
)
def test_the_reference_is_measured_in_parts_of_its_greatest_amount(bounds, large, reference):
    found = gathered([[bounds[0]]] * 3, [[large]] * 3, bounds=bounds)
    assert found.reference == pytest.approx(reference)
    assert found.losses == pytest.approx((large - bounds[0]) / (bounds[1] - bounds[0]))


def test_bounds_are_taken_as_stated_or_from_nought_to_one():
    inside, outside = np.array([0.0, 0.7]), np.array([0.0, 1.2])
    assert quality_bounds([inside], None) == (0.0, 1.0)
    assert quality_bounds([inside, outside], None) is None
    assert quality_bounds([inside, outside], (0.0, 2.0)) == (0.0, 2.0)


def test_those_that_cut_a_grid_are_chosen_by_their_ids():
    ids = [f"q{row}" for row in range(1000)]
    cut = cutters(ids, 50, 0.1)
    assert cut.sum() == 100
    assert np.array_equal(cutters(ids[::-1], 50, 0.1)[::-1], cut)
    assert cutters(ids[:80], 50, 0.1).sum() == 50
