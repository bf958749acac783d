"""Stay or switch: what a switch costs and saves, and what the rules make of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from shared_router import Candidate, RoutingQuery
from shared_router.deciding.conversation import (
    CACHED_SHARE,
    CHEAPER_BY,
    LEAST_CACHED,
    LIFETIME_S,
    Answering,
    Conversation,
    prices_of,
    weigh,
)
from shared_router.deciding.drivers import drive
from shared_router.deciding.guards import RoutingRequest, unmeasured
from shared_router.deciding.policy import Policy
from shared_router.deciding.rule import Rule, savings_from_costs
from shared_router.deciding.settings import Dialling
from shared_router.errors import CandidateError
from shared_router.options import Asked, CallOptions, Dial

if TYPE_CHECKING:
    from shared_router.options import ConversationMode

SMALL = Candidate("small", input_usd_per_million_tokens=1.0, output_usd_per_million_tokens=5.0)
LARGE = Candidate("large", input_usd_per_million_tokens=5.0, output_usd_per_million_tokens=25.0)
LONG = Conversation(
    answering=Answering(candidate="large"),
    is_later=True,
    history_tokens=100_000,
    new_tokens=100,
    answer_tokens=500,
)
EASY, HARD = (1.0,), (-1.0,)


def decided(
    so_far: Conversation | None,
    scores: Any = EASY,
    mode: ConversationMode = "auto",
    candidates: tuple[Candidate, ...] = (SMALL, LARGE),
    **how: Any,
) -> Any:
    rule = Rule("gap", savings_from_costs(None, len(candidates)))
    policy = Policy(
        candidates, rule, Dialling(curve=None), Asked(Dial("threshold", 0.0)), conversation=mode
    )
    request = RoutingRequest(query=RoutingQuery(text="q"), conversation=so_far, **how)
    return drive(policy.deciding(request), lambda *_: scores)


def told(found: Any) -> tuple[int, str, str | None]:
    return found.index, found.reason, found.conversation


# -- what a switch costs --------------------------------------------------------------------------


def test_a_switch_costs_the_history_read_anew_above_what_is_cached() -> None:
    found = weigh(*reversed(prices_of((SMALL, LARGE), None)), LONG)
    assert found.cost_usd == pytest.approx(100_000 * (1.0 - 0.5) / 1e6)
    assert found.saving == pytest.approx((100 * 4.0 + 500 * 20.0) / 1e6)
    assert not found.pays


def test_what_is_said_of_the_cache_counts() -> None:
    dear_cache = replace(LARGE, cached_input_usd_per_million_tokens=2.5)
    assert weigh(*reversed(prices_of((SMALL, dear_cache), None)), LONG).pays
    without = replace(LARGE, cache_lifetime_s=0.0)
    found = weigh(*reversed(prices_of((SMALL, without), None)), LONG)
    assert found.cost_usd == pytest.approx(100_000 * (1.0 - 5.0) / 1e6)
    assert found.pays


@pytest.mark.parametrize(
    "so_far",
    [
        replace(LONG, idle_s=LIFETIME_S),
        replace(LONG, history_tokens=LEAST_CACHED - 1),
        replace(LONG, answer_tokens=10_000),
        replace(LONG, calls=3.0),
    ],
    ids=["cold cache", "too short for a cache", "long answers", "many calls a turn"],
)
def test_a_switch_pays_where_little_is_lost_or_much_is_saved(so_far: Conversation) -> None:
    assert weigh(*reversed(prices_of((SMALL, LARGE), None)), so_far).pays


def test_without_prices_measured_costs_weigh_and_without_those_the_order() -> None:
    plain = (Candidate("a"), Candidate("b"), Candidate("c"))
    assert [each.read for each in prices_of(plain, (1.0, 2.0, 8.0))] == [1.0, 2.0, 8.0]
    assert [each.read for each in prices_of(plain, None)] == [CHEAPER_BY**2, CHEAPER_BY, 1.0]
    found = prices_of(plain, (1.0, None, 8.0))[1]
    assert (found.read, found.cached, found.in_usd) == (
        CHEAPER_BY,
        CHEAPER_BY * CACHED_SHARE,
        False,
    )
    assert weigh(found, found, LONG).cost_usd is None


@pytest.mark.parametrize("wrong", [-1.0, float("inf"), float("nan")])
def test_prices_and_lifetimes_are_finite(wrong: float) -> None:
    with pytest.raises(CandidateError, match="finite and at least 0"):
        Candidate("a", cached_input_usd_per_million_tokens=wrong)
    with pytest.raises(CandidateError, match="cache_lifetime_s is finite"):
        Candidate("a", cache_lifetime_s=wrong)


# -- the rules ------------------------------------------------------------------------------------

BY_SMALL = replace(LONG, answering=Answering(candidate="small"))
SHORT = replace(LONG, history_tokens=100)


@pytest.mark.parametrize(
    ("so_far", "scores", "mode", "found"),
    [
        (None, EASY, "auto", (0, "score", None)),
        (Conversation(), EASY, "auto", (0, "score", "started")),
        (replace(LONG, answering=None), EASY, "auto", (0, "score", "started")),
        (
            replace(LONG, answering=Answering(candidate="other")),
            EASY,
            "auto",
            (0, "score", "started"),
        ),
        (LONG, HARD, "auto", (1, "score", "kept")),
        (LONG, EASY, "auto", (1, "sticky", "kept")),
        (SHORT, EASY, "auto", (0, "score", "switched")),
        (BY_SMALL, HARD, "auto", (1, "score", "switched")),
        (BY_SMALL, EASY, "auto", (0, "score", "kept")),
        (LONG, EASY, "turn", (0, "score", "switched")),
        (BY_SMALL, HARD, "turn", (1, "score", "switched")),
        (LONG, EASY, "keep", (1, "sticky", "kept")),
        (SHORT, EASY, "keep", (1, "sticky", "kept")),
        (BY_SMALL, HARD, "keep", (0, "sticky", "kept")),
        (Conversation(), HARD, "keep", (1, "score", "started")),
    ],
)
def test_stay_or_switch(
    so_far: Conversation | None, scores: Any, mode: ConversationMode, found: tuple[Any, ...]
) -> None:
    assert told(decided(so_far, scores, mode)) == found


def test_a_call_says_how_its_conversation_is_routed() -> None:
    asked = CallOptions(conversation="keep")
    assert told(decided(BY_SMALL, HARD, "auto", options=asked)) == (0, "sticky", "kept")
    asked = CallOptions(conversation="turn")
    assert told(decided(LONG, EASY, "keep", options=asked)) == (0, "score", "switched")


def test_the_other_rules_go_first() -> None:
    asked = CallOptions(route="small")
    assert told(decided(LONG, HARD, "keep", options=asked)) == (0, "forced", "switched")
    plain = replace(SMALL, supports_tools=False)
    found = decided(BY_SMALL, EASY, "keep", (plain, LARGE), needs_tools=True)
    assert told(found) == (1, "capability", "switched")
    within = replace(LONG, in_turn=True)
    assert told(decided(within, EASY, "turn", sticky_to="large")) == (1, "sticky", "kept")


def test_what_a_switch_costs_is_said_whatever_is_done() -> None:
    down, up = 0.05, (5.0 - 0.1) * 100_000 / 1e6
    assert decided(LONG, EASY).switch_cost_usd == pytest.approx(down)
    assert decided(LONG, HARD).switch_cost_usd == pytest.approx(down)
    assert decided(BY_SMALL, EASY).switch_cost_usd == pytest.approx(up)
    assert decided(BY_SMALL, HARD).switch_cost_usd == pytest.approx(up)
    assert decided(Conversation(), HARD).switch_cost_usd is None


def test_of_three_the_one_that_the_score_asks_for_is_weighed() -> None:
    three = (Candidate("nano"), Candidate("mini"), Candidate("large"))
    found = decided(LONG, (1.0, 0.0), candidates=three)
    assert told(found) == (0, "score", "switched")  # four hundredths of the price
    found = decided(LONG, (0.0, 1.0), candidates=three)
    assert told(found) == (2, "sticky", "kept")


# -- what was measured ----------------------------------------------------------------------------


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("kept", [False, True])
def test_single_questions_and_whole_conversations_are_told_apart(later: bool, kept: bool) -> None:
    request = RoutingRequest(later_turn=later)
    singles = unmeasured(request, kept=kept, by_conversation=False)
    whole = unmeasured(request, kept=kept, by_conversation=True)
    assert singles == ("conversation" if later else None)
    assert whole == (None if kept else "conversation")
    tools = replace(request, needs_tools=True)
    assert unmeasured(tools, kept=True, by_conversation=True) == "kind of call"
