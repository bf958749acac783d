"""The interval of a drop: the promise's test turned both ways."""

from __future__ import annotations

from itertools import product
from math import factorial, prod

import numpy as np
import pytest

from shared_router.deciding.evidence import Evidence
from shared_router.deciding.paired_test import (
    LIMITS,
    CriticalValues,
    Pairs,
    critical_values,
    normal_quantiles,
    upper_drops,
)
from shared_router.measuring.drop_interval import (
    DEEPEST,
    OF_SQUARE,
    UPPER_MARGIN,
    as_drop,
    drop_interval,
    most_lost,
    share_interval,
)


def evidence(lost: int, gained: int, n: int, right: int, method="paired") -> Evidence:
    """Make evidence of counts; the reference is right on the first `right` queries."""
    losses = np.zeros(n)
    losses[:lost], losses[n - gained :] = 1.0, -1.0
    reference = (np.arange(n) < right).astype(float)
    return Evidence(np.zeros(n), losses, reference, np.ones(n), (0.0, 1.0), method)


ERROR, MOST = 0.1, 12


@pytest.fixture(scope="module", params=[False, True])
def ends(request) -> tuple[bool, dict[tuple[int, int, int], tuple[float, float]]]:
    """Both ends at an error of 0.1, for all that up to 12 queries can show."""
    relative, found = request.param, {}
    for n in range(MOST + 1) if relative else (MOST,):
        counts = [(b, c) for b, c in product(range(n + 1), repeat=2) if b + c <= n]
        most = {at: most_lost(*at, n, ERROR, relative=relative) for at in counts}
        for b, c in counts:
            low, high = -most[c, b], most[b, c]
            found[b, c, n] = (as_drop(low, relative=relative), as_drop(high, relative=relative))
    return relative, found


def chances(lost: float, gained: float, right: float) -> dict[tuple[int, int, int], float]:
    """Chance of each count of lost, gained and informative queries among all 12."""
    shares = (lost, gained, right - lost)  # the last are right whatever is chosen
    found: dict[tuple[int, int, int], float] = {}
    for b, c, a in product(range(MOST + 1), repeat=3):
        rest = MOST - b - c - a
        if rest >= 0:
            ways = factorial(MOST) / prod(map(factorial, (b, c, a, rest)))
            powers = [share**k for share, k in zip(shares, (b, c, a), strict=True)]
            found[b, c, a + b + c] = ways * prod(powers) * max(0, 1 - sum(shares)) ** rest
    return found


TRUTHS = [
    (lost, gained, right)
    for lost, gained, right in product(
        (0.0, 0.02, 0.11, 0.3, 0.55), (0.0, 0.03, 0.15, 0.35), (0.56, 0.62, 0.8, 1.0)
    )
    if gained <= 1 - right  # a gain is a query that the reference gets wrong
]


@pytest.mark.parametrize(("lost", "gained", "right"), TRUTHS)
def test_each_end_lies_on_the_wrong_side_with_at_most_its_error(ends, lost, gained, right):
    relative, found = ends
    truth = (lost - gained) / (right if relative else 1)
    missed_low = missed_high = 0.0
    for (b, c, n), chance in chances(lost, gained, right).items():
        low, high = found[b, c, n if relative else MOST]
        missed_low += chance * (low > truth + 1e-12)
        missed_high += chance * (high < truth - 1e-12)
    assert missed_low <= ERROR * 1.02
    assert missed_high <= ERROR * 1.02


@pytest.mark.parametrize("relative", [False, True])
def test_without_a_loss_the_end_is_near_the_least_that_any_test_can_show(relative):
    least = 1 - 0.05 ** (1 / 100)  # a greater drop shows a loss in 95 of 100 such samples
    assert least <= most_lost(0, 0, 100, 0.05, relative=relative) <= 1.1 * least


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize(("lost", "gained", "n"), [(14, 5, 420), (14, 20, 420), (60, 60, 420)])
def test_an_end_is_the_promises_own_bound_on_its_limits(lost, gained, n, relative):
    critical = CriticalValues((0.05,))
    counts = (np.array([float(lost)]), np.array([float(gained)]), np.array([n]))
    promised = upper_drops(Pairs(*counts, relative=relative), critical)[0, 0]
    found = most_lost(lost, gained, n, 0.05, relative=relative)
    below = LIMITS[promised > LIMITS][-1]
    assert below < found * 1.06
    assert found <= promised or n * promised < 1.5


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


def test_changing_the_roles_of_the_models_tells_the_same_of_the_other():
    low, high = drop_interval(evidence(12, 3, 200, 150), 0.05, relative=True)
    turned = evidence(3, 12, 200, 141)  # the other model gets 150 - 12 + 3 right
    other_low, other_high = drop_interval(turned, 0.05, relative=True)
    assert (1 - low) * (1 - other_high) == pytest.approx(1)
    assert (1 - high) * (1 - other_low) == pytest.approx(1)


def test_queries_that_both_get_wrong_say_nothing_about_a_relative_drop():
    few, many = (drop_interval(evidence(12, 3, n, 150), 0.05, relative=True) for n in (160, 900))
    assert few == many


def test_bets_are_wider_than_the_paired_test_and_hold_the_mean():
    paired = drop_interval(evidence(30, 10, 638, 600), 0.05, relative=False)
    bets = drop_interval(evidence(30, 10, 638, 600, "bets"), 0.05, relative=False)
    assert bets[0] < paired[0] < 20 / 638 < paired[1] < bets[1]


def test_bets_can_show_that_a_graded_quality_is_lost():
    losses = np.tile([0.1, 0.2, 0.3], 100)
    found = Evidence(np.zeros(300), losses, np.ones(300), np.ones(300), (0.0, 1.0), "bets")
    low, high = drop_interval(found, 0.05, relative=False)
    assert 0.1 < low < 0.2 < high < 0.3


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("method", ["paired", "bets"])
def test_a_graded_relative_interval_holds_the_drop(relative, method):
    rng = np.random.default_rng(0)
    reference = rng.uniform(0.4, 1, 400)
    losses = np.where(rng.random(400) < 0.5, rng.uniform(-0.1, 0.3, 400), 0.0)
    if method == "paired":
        reference = np.ones(400)
        losses = (losses > 0.2).astype(float)
    found = Evidence(np.zeros(400), losses, reference, np.ones(400), (0.0, 1.0), method)
    truth = losses.mean() / (reference.mean() if relative else 1)
    low, high = drop_interval(found, 0.05, relative=relative)
    assert 0 < low < truth < high < 3 * truth


@pytest.mark.parametrize("relative", [False, True])
def test_bets_on_a_model_that_is_better_end_below_zero(relative):
    losses = np.tile([-0.3, -0.2, -0.1], 100)
    found = Evidence(np.zeros(300), losses, np.full(300, 0.5), np.ones(300), (0.0, 1.0), "bets")
    low, high = drop_interval(found, 0.05, relative=relative)
    truth = -0.4 if relative else -0.2
    assert 1.5 * truth < low < truth < high < truth / 2


@pytest.mark.parametrize("way", [-1, 1])
@pytest.mark.parametrize("relative", [False, True])
def test_each_end_of_bets_lies_on_the_wrong_side_with_at_most_its_error(relative, way):
    rng, missed, repeats = np.random.default_rng(0), 0, 120
    for _ in range(repeats):
        reference = rng.choice([0.25, 0.5, 1.0], 60)
        routed = np.where(rng.random(60) < 0.3, 1.25 - reference, reference)
        found = Evidence(np.zeros(60), reference - routed, reference, np.ones(60), (0, 1), "bets")
        truth = 0.3 * (2 * 1.75 / 3 - 1.25) / (1.75 / 3 if relative else 1)
        low, high = drop_interval(found, 0.2, relative=relative)
        missed += high < truth if way > 0 else low > truth
    assert missed <= 0.2 * repeats


def test_an_end_of_bets_may_be_infinite():
    nothing = Evidence(np.zeros(1), np.zeros(1), np.ones(1), np.ones(1), (-1.0, 0.0), "bets")
    assert drop_interval(nothing, 0.05, relative=True) == (-np.inf, np.inf)


def test_a_limit_is_tested_to_the_digit():
    between = np.linspace(0.1045, 0.106, 6)
    found = [most_lost(6, 1, 100, 0.05, relative=False, also=limit) for limit in between]
    plain = most_lost(6, 1, 100, 0.05, relative=False)
    assert all(end <= plain for end in found)
    assert set(found) & set(between)


def test_what_is_not_enumerated_is_bounded():
    errors = (0.2, 0.05, 0.005, 0.0005)
    quantiles = normal_quantiles(np.array(errors))
    allowed = UPPER_MARGIN + OF_SQUARE * quantiles**2
    for n, drop in ((401, 0.15), (401, 0.3), (1300, 0.0465), (1300, 0.1)):
        for gain in (1.0, 1 - drop):
            above = critical_values(n, drop, errors, gain, above=True)
            assert (above + quantiles <= allowed).all()
            assert (above + quantiles < DEEPEST).all()
            assert (quantiles - critical_values(n, drop, errors, gain) < DEEPEST).all()


def test_the_interval_of_a_share_is_clopper_and_pearsons():
    assert share_interval(0, 10, 0.05) == pytest.approx((0.0, 1 - 0.05**0.1))
    assert share_interval(10, 10, 0.05) == pytest.approx((0.05**0.1, 1.0))
