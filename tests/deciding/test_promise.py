"""The promise: its grid, its looks, and what follows from what."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_router.deciding.evidence import Evidence
from shared_router.deciding.paired_test import LIMITS, CriticalValues
from shared_router.deciding.promise import (
    CONFIDENCES,
    FIRST_LOOK,
    Look,
    Promise,
    cut_grid,
    error_of_look,
    errors_of,
    take_look,
)
from shared_router.options import Dial

GRID = cut_grid(np.random.default_rng(0).normal(size=2000))
CRITICAL = CriticalValues(errors_of(FIRST_LOOK))
"""Found once: the tests take few numbers of queries."""


def drawn(n: int = 300, seed: int = 0, *, graded: bool = False) -> Evidence:
    """Queries of which the small model loses more, the lower they score."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=n)
    large = (rng.uniform(size=n) < 0.8).astype(float)
    small = (rng.uniform(size=n) < 0.8 / (1 + np.exp(-scores - 1))).astype(float)
    small = np.where(scores > 0, large, small)
    if graded:
        small, large = 0.9 * small + 0.05, 0.9 * large + 0.05
    method = "bets" if graded else "paired"
    return Evidence(scores, large - small, large, np.ones(n), (0.0, 1.0), method)


def promised(evidence: Evidence, *, relative: bool = True) -> Promise:
    look = take_look(GRID, evidence, relative=relative, critical=CRITICAL)
    shares = np.array([(evidence.scores >= threshold).mean() for threshold in GRID])
    return Promise(thresholds=GRID, shares=shares, looks=(look,), method=evidence.method)


RIGHT, GRADED = promised(drawn()), promised(drawn(graded=True))
dials = st.builds(
    Dial, st.sampled_from(["max_quality_drop", "max_quality_drop_absolute"]), st.floats(0, 1)
)
promises = st.sampled_from([RIGHT, GRADED])
confidences = st.floats(0.51, 0.9999)


def test_something_is_promised_and_not_everything():
    for own in (RIGHT, GRADED):
        step = own.step(Dial("max_quality_drop", 0.05), 0.9)
        assert 0 < step < len(GRID) - 1
        assert own.n == 300
    assert RIGHT.step(Dial("max_quality_drop", 0.05), 0.9) > GRADED.step(
        Dial("max_quality_drop", 0.02), 0.9
    )


@given(own=promises, dial=dials, wider=st.floats(0, 1), confidence=confidences)
def test_a_wider_limit_promises_no_less(own, dial, wider, confidence):
    other = Dial(dial.name, max(dial.value, wider))
    assert own.step(dial, confidence) <= own.step(other, confidence)


@given(own=promises, dial=dials, one=confidences, other=confidences)
def test_what_holds_at_a_confidence_holds_at_any_lower_one(own, dial, one, other):
    assert own.step(dial, max(one, other)) <= own.step(dial, min(one, other))


def test_a_confidence_between_two_takes_the_greater_and_none_is_beyond_the_greatest():
    dial = Dial("max_quality_drop", 0.1)
    assert RIGHT.step(dial, 0.92) == RIGHT.step(dial, 0.95)
    assert RIGHT.step(dial, CONFIDENCES[-1] + 1e-6) == 0


@pytest.mark.parametrize("limit", LIMITS.tolist())
def test_limits_are_tested_as_they_are(limit):
    for name in ("max_quality_drop", "max_quality_drop_absolute"):
        at, below = (RIGHT.step(Dial(name, value), 0.8) for value in (limit, limit * 0.999))
        bounds = RIGHT.looks[0].upper if "abs" in name else RIGHT.looks[0].upper_relative
        assert (at > below) == (limit in bounds[:, 0])


def test_a_limit_in_the_metrics_units_is_one_in_parts_of_its_range():
    wide = replace(drawn(), bounds=(0.0, 100.0))
    assert promised(wide).step(Dial("max_quality_drop_absolute", 5.0), 0.9) == RIGHT.step(
        Dial("max_quality_drop_absolute", 0.05), 0.9
    )


def test_no_relative_limit_is_promised_where_it_has_no_meaning():
    own = promised(drawn(), relative=False)
    assert own.step(Dial("max_quality_drop", 0.3), 0.8) == 0
    assert own.step(Dial("max_quality_drop_absolute", 0.3), 0.8) > 0


@pytest.mark.parametrize("bounds", [(1.0, 5.0), (-1.0, 0.0)])
def test_a_relative_limit_of_quality_not_from_nought_is_bet_on(bounds):
    paired = replace(drawn(n=1500), bounds=bounds)
    bets = replace(paired, method="bets")
    looks = [take_look(GRID, own, relative=True) for own in (paired, bets)]
    assert np.array_equal(looks[0].upper_relative, looks[1].upper_relative)
    assert (looks[0].upper <= looks[1].upper + 1e-9).mean() > 0.9
    assert np.isfinite(looks[0].upper_relative[5]).any()


@pytest.mark.parametrize("graded", [False, True])
def test_the_order_of_rows_does_not_matter_to_bounds_of_the_drop(graded):
    evidence = drawn(graded=graded)
    order = np.random.default_rng(3).permutation(300)
    names = ("scores", "losses", "reference", "weights")
    turned = replace(evidence, **{name: getattr(evidence, name)[order] for name in names})
    one, other = promised(evidence).looks[0], promised(turned).looks[0]
    assert np.array_equal(one.upper, other.upper)


@given(st.integers(0, 2**32 - 1), st.integers(1, 400))
def test_a_grid_compares_rounded_scores(seed, n):
    rng = np.random.default_rng(seed)
    grid = cut_grid(rng.normal(size=n))
    assert np.isinf(grid[[0, -1]]).all()
    assert (np.diff(grid[:-1]) < 0).all()
    if len(grid) > 2:
        inner = grid[1:-1]
        step = 10.0 ** np.floor(np.log10(np.ptp(rng_scores(seed, n)) * 1e-4))
        away = np.abs(inner / step - np.floor(inner / step) - 0.5)
        assert (away < 1e-3).all()
        near = (np.floor(inner / step) * step)[:, None] + np.array([0, step]) - 1e-9 * step
        assert (near < inner[:, None]).tolist() == [[True, False]] * len(inner)


def rng_scores(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=n)


def test_last_bits_of_a_score_flip_no_setting():
    scores = np.round(np.random.default_rng(4).normal(size=5000), 4)
    grid = cut_grid(scores)
    for noise in (-1e-9, 1e-9):
        assert np.array_equal(scores[None] >= grid[:, None], scores[None] + noise >= grid[:, None])


def test_one_score_alone_leaves_two_settings():
    assert cut_grid(np.full(30, 0.3)).tolist() == [np.inf, -np.inf]


def test_the_errors_of_all_looks_add_up_to_one():
    shares = [error_of_look(look) for look in range(1, 60)]
    assert shares[0] == FIRST_LOOK
    assert all(one > other for one, other in pairwise(shares))
    assert sum(shares) == pytest.approx(1)


def test_a_promise_is_the_best_of_all_its_looks():
    later = take_look(GRID, drawn(1500, 1), relative=True, error_share=error_of_look(2))
    both = replace(RIGHT, looks=(*RIGHT.looks, later))
    alone = replace(RIGHT, looks=(later,))
    dial = Dial("max_quality_drop", 0.03)
    assert both.step(dial, 0.9) == max(RIGHT.step(dial, 0.9), alone.step(dial, 0.9))
    assert both.n == 1500


def test_bounds_rise_along_the_walk():
    for own in (RIGHT, GRADED):
        look: Look = own.looks[0]
        for bounds in (look.upper, look.upper_relative):
            assert (bounds[0] == 0).all()
            assert not (np.diff(np.nan_to_num(bounds, posinf=9.0), axis=0) < 0).any()
            assert not (np.diff(np.nan_to_num(bounds, posinf=9.0), axis=1) < 0).any()
