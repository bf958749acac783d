"""The interval of a drop: the promise's test turned both ways."""

from __future__ import annotations

from itertools import product
from math import comb

import numpy as np
import pytest

from shared_router.deciding.evidence import Evidence
from shared_router.measuring.drop_interval import (
    drop_interval,
    most_lost,
    reference_interval,
    share_interval,
)


def evidence(lost: int, gained: int, n: int, right: int, method="paired") -> Evidence:
    """Make evidence of counts; the reference is right on the first `right` queries."""
    losses = np.zeros(n)
    losses[:lost], losses[n - gained :] = 1.0, -1.0
    reference = (np.arange(n) < right).astype(float)
    return Evidence(np.zeros(n), losses, reference, np.ones(n), (0.0, 1.0), method)


@pytest.fixture(scope="module")
def ends() -> dict[tuple[int, int], float]:
    """Upper ends at an error of 0.1 for all that ten queries can show."""
    counts = [(b, c) for b, c in product(range(11), repeat=2) if b + c <= 10]
    return {(b, c): most_lost(b, c, 10, 0.1) for b, c in counts}


@pytest.mark.parametrize("gains", [0.0, 0.05, 0.2])
@pytest.mark.parametrize("drop", [-0.3, -0.1, 0.02, 0.1, 0.3, 0.6])
def test_an_end_lies_below_the_truth_with_at_most_its_error(ends, drop, gains):
    losses = gains + max(drop, 0.0)
    gains += max(-drop, 0.0)
    missed = sum(
        comb(10, b) * comb(10 - b, c) * losses**b * gains**c * (1 - losses - gains) ** (10 - b - c)
        for (b, c), end in ends.items()
        if end < drop
    )
    assert missed <= 0.1


def test_without_a_loss_the_end_is_near_the_least_that_any_test_can_show():
    least = 1 - 0.05 ** (1 / 100)  # a greater drop shows a loss in 95 of 100 such samples
    assert least <= most_lost(0, 0, 100, 0.05) <= 1.1 * least


@pytest.mark.parametrize(("lost", "gained", "n"), [(30, 10, 638), (2, 40, 500), (300, 200, 5000)])
def test_many_queries_come_near_the_normal_interval(lost, gained, n):
    mean = (lost - gained) / n
    spread = np.sqrt(((lost + gained) / n - mean**2) / n)
    low, high = drop_interval(evidence(lost, gained, n, n), 0.05, relative=False)
    assert (low, high) == pytest.approx(
        (mean - 1.645 * spread, mean + 1.645 * spread), abs=0.4 * spread
    )


def test_turning_the_losses_round_turns_the_interval_round():
    low, high = drop_interval(evidence(12, 3, 200, 150), 0.05, relative=False)
    turned = drop_interval(evidence(3, 12, 200, 150), 0.05, relative=False)
    assert turned == pytest.approx((-high, -low))


def test_all_lost_and_all_gained():
    assert drop_interval(evidence(40, 0, 40, 40), 0.05, relative=False)[1] == 1.0
    assert drop_interval(evidence(0, 40, 40, 0), 0.05, relative=False)[0] == -1.0


def test_a_relative_interval_divides_by_the_bounds_of_the_reference():
    found = evidence(30, 5, 500, 400)
    low, high = drop_interval(found, 0.05, relative=True)
    least, most = reference_interval(found, 0.005)
    assert least < 0.8 < most
    absolute = drop_interval(found, 0.045, relative=False)
    assert (low, high) == pytest.approx((absolute[0] / most, absolute[1] / least))


def test_bets_are_wider_than_the_paired_test_and_hold_the_mean():
    paired = drop_interval(evidence(30, 10, 638, 600), 0.05, relative=False)
    bets = drop_interval(evidence(30, 10, 638, 600, "bets"), 0.05, relative=False)
    assert bets[0] < paired[0] < 20 / 638 < paired[1] < bets[1]


def test_bets_can_show_that_a_graded_quality_is_lost():
    losses = np.tile([0.1, 0.2, 0.3], 100)
    found = Evidence(np.zeros(300), losses, np.ones(300), np.ones(300), (0.0, 1.0), "bets")
    low, high = drop_interval(found, 0.05, relative=False)
    assert 0.1 < low < 0.2 < high < 0.3


def test_a_limit_is_tested_to_the_digit():
    between = np.linspace(0.1, 0.106, 12)
    found = [most_lost(6, 1, 100, 0.05, [limit]) for limit in between]
    plain = most_lost(6, 1, 100, 0.05)
    assert all(end <= plain for end in found)
    assert set(found) & set(between)


def test_the_interval_of_a_share_is_clopper_and_pearsons():
    assert share_interval(0, 10, 0.05) == pytest.approx((0.0, 1 - 0.05**0.1))
    assert share_interval(10, 10, 0.05) == pytest.approx((0.05**0.1, 1.0))
