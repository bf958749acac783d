"""Dials, call options, and the context both fronts read."""

from __future__ import annotations

import asyncio
import math
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import numpy as np
import pytest

from shared_router import (
    Candidate,
    Dial,
    RoutingDecision,
    RoutingQuery,
    hybrid_options,
    routing_query,
)
from shared_router.context import current_options, current_query, found_query
from shared_router.errors import CandidateError, ConfigurationError, DialError
from shared_router.options import CallOptions, dial_from, only_dial, split_options


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("cost_advantage", -0.1, r"a share of calls between 0 and 1; got -0\.1"),
        ("cost_advantage", 1.1, "between 0 and 1"),
        ("max_quality_drop", 2, r"0\.02 is 2 %\); got 2"),
        ("max_quality_drop", -0.01, "between 0 and 1"),
        ("max_quality_drop_absolute", -1, "at least 0, in the metric's units"),
        ("threshold", math.nan, "threshold is a number; got nan"),
        ("threshold", "high", "threshold is a number; got 'high'"),
        ("threshold", True, "threshold is a number; got True"),
        ("cost_advantage", None, "got None"),
        ("speed", 0.5, "A dial is one of threshold, .*; got 'speed'"),
    ],
)
def test_a_dial_out_of_range_is_refused(name: str, value: object, rule: str) -> None:
    with pytest.raises(DialError, match=rule):
        Dial(name, value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float64(0.25), np.float32(0.25), np.int64(1)])
def test_a_dial_takes_any_number(value: float) -> None:
    assert Dial("cost_advantage", value).value == float(value)
    assert type(Dial("cost_advantage", value).value) is float


def test_thresholds_may_be_infinite_or_negative() -> None:
    assert Dial("threshold", math.inf).value == math.inf
    assert Dial("threshold", -0.3).value == -0.3


def test_two_dials_are_refused() -> None:
    with pytest.raises(DialError, match=r"One dial at a time: .*threshold=0\.5, cost_advantage=0"):
        dial_from({"threshold": 0.5, "cost_advantage": 0})


def test_a_dial_is_found_among_other_options() -> None:
    assert dial_from({"route": "small", "threshold": None, "cost_advantage": 0}) == Dial(
        "cost_advantage", 0
    )
    assert dial_from({}) is None


def test_where_only_a_dial_may_stand_another_name_is_refused() -> None:
    assert only_dial({"threshold": 1}) == Dial("threshold", 1)
    with pytest.raises(DialError, match="got 'max_drop'"):
        only_dial({"max_drop": 0.1})


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"treshold": 1}, "Unknown routing option 'treshold'; known are threshold"),
        ({"route": 3}, "route is a name"),
        ({"task": ["a"]}, "task is a name"),
        ({"threshold": 0, "max_quality_drop": 0}, "One dial at a time"),
    ],
)
def test_wrong_call_options_are_refused(options: dict[str, object], rule: str) -> None:
    with pytest.raises(ConfigurationError, match=rule):
        CallOptions.parse(options)


def test_options_of_a_call_lie_over_those_below() -> None:
    below = CallOptions(dial=Dial("threshold", 1), route="small", task="math")
    above = CallOptions(dial=Dial("cost_advantage", 0.5), task="code")
    merged = above.over(below)
    assert merged == CallOptions(dial=Dial("cost_advantage", 0.5), route="small", task="code")


def test_a_query_holds_inside_its_block_only() -> None:
    assert current_query() is None
    with routing_query("outer", task="math"), routing_query("inner") as inner:
        assert current_query() is inner
        assert (inner.text, inner.source, inner.task) == ("inner", "explicit", None)
    assert current_query() is None


def test_a_query_is_text() -> None:
    with pytest.raises(TypeError, match="takes the user's question as text"), routing_query(3):  # type: ignore[arg-type]
        pass


def test_nested_options_replace_only_what_they_name() -> None:
    with hybrid_options(threshold=1, task="math"):
        with hybrid_options(cost_advantage=0.5) as inner:
            assert inner == CallOptions(dial=Dial("cost_advantage", 0.5), task="math")
        assert current_options().dial == Dial("threshold", 1)
    assert current_options() == CallOptions()


def test_a_block_ends_with_its_exception() -> None:
    with pytest.raises(KeyError), hybrid_options(route="small"), routing_query("q"):
        raise KeyError
    assert (current_query(), current_options()) == (None, CallOptions())


def test_wrong_options_never_open_a_block() -> None:
    with pytest.raises(DialError), hybrid_options(cost_advantage=2):
        pass
    assert current_options() == CallOptions()


async def test_each_task_has_its_own_context() -> None:
    async def ask(text: str) -> str | None:
        with routing_query(text):
            await asyncio.sleep(0.01)
            query = current_query()
            return query and query.text

    assert await asyncio.gather(*map(ask, "abc")) == ["a", "b", "c"]


async def test_threads_of_asyncio_and_copied_contexts_see_it() -> None:
    with routing_query("q"), ThreadPoolExecutor(1) as pool:
        assert await asyncio.to_thread(current_query) is current_query()
        assert pool.submit(copy_context().run, current_query).result() is current_query()


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"name": ""}, "non-empty name"),
        ({"name": None}, "non-empty name"),
        ({"name": " "}, "non-empty name"),
        ({"name": "a\x1b[31mb"}, r"no control characters.*got 'a\\x1b\[31mb'"),
        ({"name": "a\nb"}, "no control characters"),
        ({"name": "a\x9bb"}, "no control characters"),
        ({"name": "\ud800x"}, "halves of surrogate pairs"),
        ({"name": "a\u202eb"}, "text direction marks"),
        ({"name": "x" * 2_000}, "at most 1000 characters; got 2000"),
        ({"name": "a", "aliases": ("b\x07",)}, "alias of candidate 'a'.*no control characters"),
        ({"name": "a", "aliases": "bc"}, "'a': aliases is a tuple of names; got 'bc'"),
        ({"name": "a", "input_usd_per_million_tokens": -1}, "'a': prices are finite"),
        ({"name": "a", "output_usd_per_million_tokens": math.nan}, "'a': prices are finite"),
    ],
)
def test_impossible_candidates_are_refused(fields: dict[str, object], rule: str) -> None:
    with pytest.raises(CandidateError, match=rule):
        Candidate(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", ["gpt-5.5", "小さい", "👩\u200d🚀", "mi\u200cx", "/models/a b.gguf"]
)
def test_a_name_may_be_of_any_script(name: str) -> None:
    assert Candidate(name, aliases=(name,)).answers_to(name)


def test_no_text_in_reprs() -> None:
    with routing_query("my secret") as query:
        assert "secret" not in repr(query)
    decision = RoutingDecision(candidate="a", index=0, reason="score", query="my secret")
    assert "secret" not in repr(decision)
    assert "secret" not in decision.summary()


def test_a_summary_says_why() -> None:
    decision = RoutingDecision(
        candidate="small", index=0, reason="score", scores=(0.5,), threshold=0.25, dial="threshold"
    )
    assert decision.summary().startswith("small (score), score 0.500, threshold 0.250")


def test_the_score_of_a_decision_is_of_its_candidate_or_the_best() -> None:
    def decided(index: int) -> RoutingDecision:
        return RoutingDecision(candidate="a", index=index, reason="score", scores=(0.1, 0.7))

    assert [decided(i).score for i in range(3)] == [0.1, 0.7, 0.7]
    assert RoutingDecision(candidate="a", index=0, reason="forced").score is None


def test_a_decision_round_trips_as_json() -> None:
    decision = RoutingDecision(candidate="a", index=0, reason="score", threshold=math.inf)
    assert RoutingDecision.model_validate_json(decision.model_dump_json()) == decision


def test_a_decision_flattens_to_scalars() -> None:
    two = RoutingDecision(candidate="a", index=0, reason="score", scores=(0.5,), threshold=0.0)
    known = {
        "candidate": "a",
        "index": 0,
        "reason": "score",
        "score": 0.5,
        "threshold": 0.0,
        "guarantee": "none",
        "guarantee_reason": "not calibrated",
        "query_source": "none",
        "latency_ms": 0.0,
    }
    assert two.flat().items() >= known.items()
    assert not {"scores", "task", "query"} & set(two.flat())
    three = two.model_copy(update={"scores": (0.5, -0.25)}).flat()
    assert (three["score"], three["scores"]) == (0.5, "[0.5, -0.25]")
    assert all(isinstance(value, str | int | float) for value in three.values())


def test_a_found_query_holds_where_none_was_stated() -> None:
    found = RoutingQuery(text="found", source="prompt_variable")
    with found_query(found):
        assert current_query() is found
        with routing_query("stated"), found_query(found):
            assert (current_query() or found).text == "stated"
    with found_query(None):
        assert current_query() is None


def test_options_are_taken_out_of_keywords() -> None:
    options, rest = split_options({"threshold": 0.5, "temperature": 1, "task": "math"})
    assert options == CallOptions(dial=Dial("threshold", 0.5), task="math")
    assert rest == {"temperature": 1}
    options, rest = split_options({"task": "math", "treshold": 1}, kept={"task", "treshold"})
    assert (options, rest) == (CallOptions(), {"task": "math", "treshold": 1})
    with pytest.raises(ConfigurationError, match="did you mean 'threshold'"):
        split_options({"treshold": 1})
    with pytest.raises(ConfigurationError, match="as a keyword it is 'threshold'"):
        split_options({"hybrid_threshold": 1})
