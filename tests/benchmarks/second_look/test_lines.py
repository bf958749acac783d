"""Lines with looks are measured as they would be paid for: worked by hand, on three queries."""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks.second_look.lines import LookLine, Pair, measure

ONCE = np.ones(3)


@pytest.fixture
def pair() -> Pair:
    quality = np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    return Pair(quality, np.tile([1.0, 10.0], (3, 1)))


def test_a_look_that_is_passed_on_costs_both_and_one_that_is_accepted_the_cheaper_alone(pair):
    line = LookLine(pair, np.array([3.0, 2.0, 1.0]), np.array([2.5, 0.0, 1.0]), np.full(3, 0.0))
    assert line.along("cost", ONCE) * 3 == pytest.approx([30, 31, 21, 22, 13, 3])
    assert line.along("quality", ONCE) * 3 == pytest.approx([2, 2, 2, 2, 3, 2])
    assert line.along("thrown", ONCE) * 3 == pytest.approx([0, 1, 0, 1, 1, 0])


def test_below_the_band_an_answer_is_given_unseen(pair):
    line = LookLine(pair, np.full(3, 1.0), np.full(3, 0.0), np.full(3, -1.0))
    assert line.along("looked", ONCE) == pytest.approx([0, 1, 1, 0])


def test_a_line_that_asks_nobody_twice_is_the_routers_own(pair):
    at = np.array([0.3, 0.1, 0.2])
    line = LookLine.unseen(pair, at)
    assert line.along("cost", ONCE) * 3 == pytest.approx([30, 21, 12, 3])
    assert not line.along("thrown", ONCE).any()


def test_no_answer_is_accepted_that_was_not_asked_for(pair):
    with pytest.raises(ValueError, match="blind <= accept <= look"):
        LookLine(pair, np.zeros(3), np.ones(3), np.zeros(3))


def test_the_cheapest_setting_in_hindsight_says_what_was_looked_at_and_thrown_away(pair):
    line = LookLine.cascade(pair, np.array([2.0, 0.0, 1.0]))
    setting = line.cheapest(1.0, ONCE)
    assert (setting.cost_usd, setting.looked, setting.thrown_away) == pytest.approx(
        (13 / 3, 1.0, 1 / 3)
    )


def test_a_line_leads_itself_by_nothing_and_a_coin_saves_what_it_loses(pair):
    coin = LookLine.unseen(pair, np.zeros(3))
    found = measure({"first": [coin], "second": [coin, coin]}, pair, [0.0], resamples=50)
    assert found["second"].aiq_lead == (0.0, 0.0)
    assert found["first"].aiq == pytest.approx(2 / 3)
