"""The verdict: what was asked, what came of it, and what would decide it."""

from __future__ import annotations

import json
from math import log

import numpy as np
import pytest

from shared_router import Dial
from shared_router.measuring.verdict import FreshQueries, verdict_of

FIVE = Dial("max_quality_drop", 0.05)


def fresh(
    n: int, lost: int = 0, gained: int = 0, *, right: int | None = None, routed: int | None = None
) -> FreshQueries:
    """Make queries of which the first `routed` go to the small model; it loses the first few.

    Args:
        n: How many.
        lost: Queries that the large model alone gets right.
        gained: Queries that the small model alone gets right.
        right: How many the large model gets right; all but the gained ones by default.
        routed: How many go to the small model; a half by default.
    """
    at, wrong = np.arange(n), n - gained if right is None else right
    small, large = (at >= lost) & (at < n), (at < lost) | (at >= lost + gained)
    dumb = at >= n - (n - gained - wrong)  # both wrong
    choice = (at >= (n // 2 if routed is None else routed)).astype(int)
    samples = [[np.array([float(v)]) for v in model & ~dumb] for model in (small, large)]
    return FreshQueries(
        ids=[f"id {i}" for i in at],
        texts=[f"query {i}" for i in at],
        choice=choice,
        samples=samples,
        names=["small", "large"],
    )


def with_costs(found: FreshQueries, *usd: float) -> FreshQueries:
    from dataclasses import replace

    return replace(found, costs_usd=np.array(usd))


@pytest.mark.parametrize(("lost", "state"), [(10, "held"), (30, "not shown"), (80, "broken")])
def test_the_states(lost, state):
    found = verdict_of(FIVE, 0.9, fresh(640, lost, 2))
    assert found.state == state
    assert found.drop == pytest.approx((lost - 2) / 638)
    low, high = found.drop_interval
    assert low < found.drop < high
    assert {"held": high <= 0.05, "broken": low > 0.05, "not shown": low <= 0.05 < high}[state]


def test_a_query_that_stays_with_the_reference_loses_nothing():
    found = verdict_of(FIVE, 0.9, fresh(400, lost=300, routed=0))
    assert (found.drop, found.cost_advantage) == (0.0, 0.0)


def test_how_many_queries_would_decide_it_by_hand():
    found = verdict_of(Dial("max_quality_drop_absolute", 0.03), 0.9, fresh(640, 17, 1))
    over, variance = 16 / 640 - 0.03, 18 / 640 - (16 / 640) ** 2
    assert found.state == "not shown"
    assert found.queries_needed == pytest.approx((1.6449 + 0.8416) ** 2 * variance / over**2, abs=3)


def test_without_a_loss_it_takes_what_shows_the_limit():
    found = verdict_of(Dial("max_quality_drop_absolute", 0.05), 0.9, fresh(30))
    assert found.state == "not shown"
    assert found.queries_needed == pytest.approx(log(0.05) / log(0.95), abs=1)


def test_at_the_limit_no_number_of_queries_decides_it():
    found = verdict_of(Dial("max_quality_drop_absolute", 0.0625), 0.9, fresh(640, 40))
    assert (found.state, found.queries_needed) == ("not shown", None)
    assert "no number of queries would decide it" in found.sentence


def test_what_is_decided_needs_no_more():
    assert verdict_of(FIVE, 0.9, fresh(640, 10, 2)).queries_needed is None


def test_the_more_confidence_the_wider():
    ends = [verdict_of(FIVE, sure, fresh(640, 20)).drop_interval for sure in (0.8, 0.9, 0.99)]
    assert ends[0][1] < ends[1][1] < ends[2][1]
    assert ends[0][0] > ends[1][0] > ends[2][0]


def test_an_estimate_is_judged_at_the_usual_confidence():
    found = verdict_of(FIVE, "estimate", fresh(640, 10, 2), "estimated")
    assert found.confidence == 0.9
    assert "max_quality_drop=0.05 (estimated) was asked" in found.sentence


@pytest.mark.parametrize("name", ["cost_advantage", "threshold"])
def test_a_dial_that_limits_no_quality_promises_nothing(name):
    found = verdict_of(Dial(name, 0.5), 0.9, fresh(640, 20), "none")
    assert (found.state, found.queries_needed) == (None, None)
    assert found.sentence.startswith("Nothing is promised: ")
    assert found.drop_interval is not None


@pytest.mark.parametrize(("dial", "state"), [(FIVE, "not shown"), (Dial("threshold", 0), None)])
def test_no_fresh_queries(dial, state):
    found = verdict_of(dial, 0.9, fresh(0))
    assert (found.state, found.n, found.drop) == (state, 0, None)
    assert "no query is left" in found.sentence


def test_one_query_shows_nothing():
    found = verdict_of(FIVE, 0.9, fresh(1, routed=1))
    assert found.state == "not shown"
    assert "on 1 query that" in found.sentence


def test_a_relative_drop_of_no_quality_is_undefined():
    found = verdict_of(FIVE, 0.9, fresh(50, right=0))
    assert (found.state, found.drop, found.drop_interval) == ("not shown", None, None)
    assert "relative drop has no meaning" in found.sentence


def test_quality_of_unknown_bounds_is_measured_and_not_shown():
    found = fresh(100, 5)
    scaled = [[7 * own for own in model] for model in found.samples]
    verdict = verdict_of(FIVE, 0.9, FreshQueries(**vars(found) | {"samples": scaled}))
    assert (verdict.state, verdict.drop_interval) == ("not shown", None)
    assert verdict.drop == pytest.approx(0.05)
    stated = FreshQueries(**vars(found) | {"samples": scaled, "bounds": (0.0, 7.0)})
    assert verdict_of(FIVE, 0.9, stated).drop_interval is not None


def test_all_to_the_reference_holds_by_itself():
    always = FreshQueries(**vars(fresh(10, routed=0)) | {"always_reference": True})
    found = verdict_of(FIVE, 0.9, always, "none")
    assert (found.state, found.drop, found.drop_interval) == ("held", 0.0, (0.0, 0.0))
    assert found.cost_advantage_interval == (0.0, 0.0)
    assert found.sentence == (
        "Trivially held at confidence 0.9: max_quality_drop=0.05 (no promise) was asked, and on "
        "10 queries that nobody fitted or calibrated on all goes to large: nothing is lost, and "
        "nothing saved."
    )


def test_repeated_texts_count_as_one():
    found = fresh(300, 10)
    texts = [f"query {i // 2}" for i in range(300)]
    assert verdict_of(FIVE, 0.9, FreshQueries(**vars(found) | {"texts": texts})).tested == 150


def test_graded_quality_is_tested_by_bets():
    found = fresh(300, 10)
    graded = [[own * 0.9 for own in model] for model in found.samples]
    verdict = verdict_of(FIVE, 0.9, FreshQueries(**vars(found) | {"samples": graded}))
    assert verdict.method == "bets"
    assert verdict.drop_interval[0] < verdict.drop < verdict.drop_interval[1]


def test_dollars_saved_by_hand():
    found = verdict_of(FIVE, 0.9, with_costs(fresh(400, 5), 0.01, 0.1))
    assert found.cost_saved == pytest.approx(0.5 * 0.9)
    low, high = found.cost_saved_interval
    assert low < 0.45 < high
    assert "of its cost saved" in found.sentence
    assert verdict_of(FIVE, 0.9, with_costs(fresh(400, 5), 0.0, 0.0)).cost_saved is None


def test_the_sentence_says_it_all():
    found = verdict_of(FIVE, 0.9, with_costs(fresh(640, 30, 2), 0.01, 0.1), "promised")
    assert found.sentence.startswith(
        "Not shown at confidence 0.9: max_quality_drop=0.05 (promised) was asked, and on 640 "
        "queries that nobody fitted or calibrated on the drop is 4.4 % ["
    )
    assert "50.0 % [46.7, 53.3] of calls kept from large and 45.0 % [" in found.sentence
    assert found.sentence.endswith(" such queries would decide it.")
    assert "\n" not in found.sentence


def test_it_is_plain_json():
    for verdict in (verdict_of(FIVE, 0.9, fresh(640, 10)), verdict_of(FIVE, 0.9, fresh(0))):
        again = json.loads(json.dumps(verdict.to_dict(), allow_nan=False))
        assert again["sentence"] == verdict.sentence
        assert again["state"] == verdict.state
