"""Bounds by bets: against a plain loop, and how often they hold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shared_router.deciding.bets import STAKES, Losses, _mixture, upper_means
from shared_router.deciding.paired_test import LIMITS


def random_losses(seed: int, n: int = 60, settings: int = 4, *, relative: bool = True) -> Losses:
    rng = np.random.default_rng(seed)
    reference = rng.beta(3, 1, n)
    return Losses(
        losses=reference - rng.beta(4, 1, n),
        unit=reference if relative else np.ones(n),
        weights=rng.integers(1, 4, n).astype(float),
        first=rng.integers(0, settings + 1, n),
        settings=settings,
    )


def rejects(found: Losses, setting: int, limit: float, error: float) -> bool:
    """Bet query by query."""
    fortune = 0.0
    for stake, part in zip(STAKES, _mixture(len(found.losses), error), strict=True):
        own = part
        for loss, unit, weight, first in zip(
            found.losses, found.unit, found.weights, found.first, strict=True
        ):
            lost = loss if first <= setting else 0.0
            own *= 1 + stake * weight / found.weights.max() * (limit * unit - lost)
        fortune += own
    return fortune >= 1 / error


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("relative", [False, True])
def test_bounds_are_what_betting_query_by_query_gives(seed, relative):
    found = random_losses(seed, relative=relative)
    bounds = upper_means(found, [0.2, 0.05])
    for setting in range(found.settings):
        for at, error in enumerate([0.2, 0.05]):
            kept = [x for x in LIMITS if not rejects(found, setting, x, error)]
            above = LIMITS[max(kept, default=0.0) < LIMITS]
            assert bounds[setting, at] == min(above, default=math.inf)


def test_bounds_hold_as_often_as_they_say():
    rng, broken, error = np.random.default_rng(0), 0, 0.2
    for _ in range(300):
        reference = rng.beta(2, 1, 200)
        losses = rng.uniform(-0.05, 0.152, 200)  # just above 0.075 of the reference's 2 / 3
        found = Losses(losses, reference, np.ones(200), np.zeros(200, dtype=np.intp), 1)
        broken += upper_means(found, [error])[0, 0] <= 0.075
    assert broken <= 300 * error


def test_the_order_of_rows_does_not_matter():
    found = random_losses(7)
    order = np.random.default_rng(1).permutation(len(found.losses))
    turned = Losses(
        found.losses[order], found.unit[order], found.weights[order], found.first[order], 4
    )
    assert np.array_equal(upper_means(found, [0.2]), upper_means(turned, [0.2]))


def test_only_how_weights_compare_matters():
    found = random_losses(8)
    doubled = Losses(found.losses, found.unit, 2 * found.weights, found.first, 4)
    assert np.array_equal(upper_means(found, [0.2]), upper_means(doubled, [0.2]))


def test_a_query_that_counts_much_is_not_many_queries():
    rng = np.random.default_rng(3)
    losses, first = rng.uniform(-0.3, 0.2, 400), np.zeros(400, dtype=np.intp)
    alike = Losses(losses, np.ones(400), np.ones(400), first, 1)
    heavy = Losses(losses, np.ones(400), np.where(np.arange(400) < 4, 50.0, 1.0), first, 1)
    assert upper_means(alike, [0.1])[0, 0] < upper_means(heavy, [0.1])[0, 0]


def test_stakes_weigh_one_in_all():
    for n in (20, 1000, 100_000):
        assert _mixture(n, 0.05).sum() == pytest.approx(1)
