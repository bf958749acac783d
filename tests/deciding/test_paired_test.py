"""The exact paired test: its size by an enumeration of its own, and bounds against single tests."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_router.deciding.paired_test import (
    LIMITS,
    CriticalValues,
    Pairs,
    absolute_pairs,
    critical_values,
    relative_pairs,
    score_statistic,
    upper_drops,
)

stats = pytest.importorskip("scipy.stats")

ERRORS = (0.18, 0.09, 0.045, 0.009, 0.0009)


def size(n: int, drop: float, gain: float, gains: float, below: np.ndarray) -> np.ndarray:
    """Sum the chance of rejecting at the limit, over every count there can be."""
    lost, gained = np.indices((n + 1, n + 1))
    fits = lost + gained <= n
    b, c = lost[fits], gained[fits]
    losses = drop + gain * gains
    shares = np.maximum([losses, gains, 1 - losses - gains], 0)
    chance = stats.multinomial.pmf(np.stack([b, c, n - b - c], axis=1), n, shares)
    z = score_statistic(b, c, n, drop, gain)
    return np.array([chance[z < each].sum() for each in below])


@pytest.mark.parametrize(
    ("n", "drop"), [(20, 0.1), (60, 0.05), (150, 0.02), (150, 0.1), (150, 0.35), (420, 0.15)]
)
@pytest.mark.parametrize("relative", [False, True])
def test_the_error_is_kept_at_shares_between_those_enumerated(n, drop, relative):
    gain = 1 - drop if relative else 1.0
    below = CriticalValues(ERRORS).at(n, drop, gain)
    most = (1 - drop) / (1 + gain)
    shares = [0.0, *np.random.default_rng(0).uniform(0, 1, 25) ** 2 * most, most * (1 - 1e-9)]
    for gains in shares:
        assert (size(n, drop, gain, gains, below) <= 1.01 * np.array(ERRORS)).all()


@pytest.mark.parametrize("relative", [False, True])
def test_the_error_is_used(relative):
    n, drop = 400, 0.05
    gain = 1 - drop if relative else 1.0
    below = critical_values(n, drop, ERRORS, gain)
    worst = np.max([size(n, drop, gain, q, below) for q in (0.0, 0.002, 0.01, 0.05, 0.1)], axis=0)
    assert (worst >= 0.8 * np.array(ERRORS)).all()


@pytest.mark.parametrize(("n", "drop"), [(20, 0.1), (60, 0.02), (60, 0.3), (150, 0.05)])
@pytest.mark.parametrize("relative", [False, True])
def test_the_other_tail_keeps_its_error_too(n, drop, relative):
    gain = 1 - drop if relative else 1.0
    above = critical_values(n, drop, ERRORS, gain, above=True)
    most = (1 - drop) / (1 + gain)
    shares = [0.0, *np.random.default_rng(0).uniform(0, 1, 15) ** 2 * most, most * (1 - 1e-9)]
    reached = [1 - size(n, drop, gain, gains, above + 1e-9) for gains in shares]
    assert (np.max(reached, axis=0) <= 1.02 * np.array(ERRORS)).all()
    assert (np.max(reached, axis=0)[1:3] >= 0.6 * np.array(ERRORS)[1:3]).all()


def test_a_relative_limit_keeps_the_error_whatever_the_reference_gets_right():
    n, drop, error = 24, 0.3, 0.18
    test = CriticalValues((error,))
    b, c, a = (each.ravel() for each in np.indices((n + 1, n + 1, n + 1)))
    b, c, a = (each[b + c + a <= n] for each in (b, c, a))
    kept = [
        bool(m) and score_statistic(lost, gained, m, drop, 1 - drop) < test.at(m, drop, 1 - drop)[0]
        for lost, gained, m in zip(b, c, (a + b + c).tolist(), strict=True)
    ]
    counts = np.stack([b, c, a, n - a - b - c], axis=1)[kept]
    for right in (0.4, 0.6, 0.9):
        for gains in (0.0, 0.02, (1 - right) * 0.9):
            losses = drop * right + gains  # E[D] is the limit's part of the reference's mean
            if losses <= right:
                shares = [losses, gains, right - losses, 1 - right - gains]
                assert stats.multinomial.pmf(counts, n, shares).sum() <= 1.01 * error


counts, small_limits = st.integers(0, 60), st.floats(0.01, 0.39)


@given(st.integers(5, 400), counts, counts, small_limits, st.booleans())
def test_fewer_losses_and_more_gains_are_surer(n, lost, gained, drop, relative):
    lost, gained = lost % n, gained % n
    gain = 1 - drop if relative else 1.0
    if lost + gained < n:
        here = score_statistic(lost, gained, n, drop, gain)
        assert score_statistic(lost + 1, gained, n, drop, gain) > here
        assert score_statistic(lost, gained + 1, n, drop, gain) < here


@given(st.integers(5, 300), counts, counts.map(lambda c: c + 1), small_limits, st.booleans())
def test_the_statistic_is_taken_at_the_likeliest_share_of_gains(n, lost, gained, drop, relative):
    n = max(n, lost + gained + 1)
    gain = 1 - drop if relative else 1.0
    shares = np.linspace(0, (1 - drop) / (1 + gain), 20_001)[1:-1]
    losses = drop + gain * shares
    same = (n - lost - gained) * np.log(1 - losses - shares)
    best = shares[(lost * np.log(losses) + gained * np.log(shares) + same).argmax()]
    spread = math.sqrt(n * (drop + gain * best + gain**2 * best - drop**2))
    expected = (lost - gain * gained - n * drop) / spread
    assert score_statistic(lost, gained, n, drop, gain) == pytest.approx(expected, rel=0.01)


def test_bounds_agree_with_the_single_tests():
    n, test, rng = 300, CriticalValues((0.18, 0.045)), np.random.default_rng(1)
    limits = [float(limit) for limit in LIMITS if limit * n >= 1]
    single = {x: critical_values(n, x, test.errors) for x in limits}
    for _ in range(20):
        b, c = float(rng.integers(0, 25)), float(rng.integers(0, 25))
        pairs = Pairs(np.array([b]), np.array([c]), np.array([n]), relative=False)
        found = upper_drops(pairs, test)[0]
        for at in range(2):
            kept = [x for x in limits if score_statistic(b, c, n, x) >= single[x][at]]
            above = [x for x in limits if x > max(kept, default=0.0)]
            assert found[at] == min(above, default=math.inf)


def test_a_walk_stops_at_the_first_failure():
    pairs = Pairs(np.array([0.0, 30.0, 0.0]), np.zeros(3), np.full(3, 300), relative=False)
    first, second, third = upper_drops(pairs, CriticalValues((0.1,)))[:, 0]
    assert first < second <= third


def test_pairs_are_counted_among_the_queries_that_say_something():
    losses = np.array([1.0, 0, -1, -1, 0, 0])
    right = np.array([True, True, False, False, False, True])
    routed = np.array([[True, False, True, False, False, False], [True] * 6])
    absolute = absolute_pairs(losses, routed)
    assert (absolute.lost.tolist(), absolute.gained.tolist()) == ([1, 1], [1, 2])
    assert absolute.n.tolist() == [6, 6]
    relative = relative_pairs(losses, right, routed)
    assert (relative.lost.tolist(), relative.gained.tolist()) == ([1, 1], [1, 2])
    assert relative.n.tolist() == [4, 5]  # right ones, and those gained so far


def test_a_relative_limit_takes_the_first_queries_of_a_few_numbers():
    rng = np.random.default_rng(2)
    losses, right = rng.choice([-1.0, 0, 1], 3000), rng.uniform(size=3000) < 0.7
    losses[right == (losses < 0)] = 0
    routed = rng.uniform(size=(1, 3000)) < np.linspace(0.1, 0.9, 9)[:, None]
    found = relative_pairs(losses, right, routed)
    for row, n, lost in zip(routed, found.n, found.lost, strict=True):
        telling = np.flatnonzero(right | (row & (losses == -1)))
        assert n <= len(telling) <= 1.02 * n + 1
        assert lost == (row & (losses == 1))[telling[:n]].sum()


def test_nothing_is_promised_where_nothing_tells():
    nothing = relative_pairs(np.zeros(30), np.zeros(30, dtype=bool), np.ones((2, 30), dtype=bool))
    assert np.isinf(upper_drops(nothing, CriticalValues((0.1,)))).all()


@given(st.integers(0, 5), st.lists(st.sampled_from([1, 0, -1]), min_size=30, max_size=60))
def test_queries_that_came_so_often_each_count_as_those_that_came_once(more, losses):
    times = more + 1
    once, right = np.array(losses, dtype=float), np.array(losses) >= 0
    routed = np.arange(len(losses))[None, :] < np.array([[5], [20], [30]])
    often = [np.repeat(each, times, axis=-1) for each in (once, right, routed)]
    for one, many in (
        (absolute_pairs(once, routed), absolute_pairs(often[0], often[2], 1 / times)),
        (relative_pairs(once, right, routed), relative_pairs(*often, 1 / times)),
    ):
        for name in ("lost", "gained", "n"):
            np.testing.assert_array_equal(getattr(one, name), getattr(many, name))
