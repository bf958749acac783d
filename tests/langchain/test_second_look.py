"""A second look at the small model's answer, as LangChain's users see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import UsageMetadataCallbackHandler
from pydantic import BaseModel

from shared_router import hybrid_options
from shared_router.errors import ConfigurationError
from tests.langchain.fakes import FakeChat, Recorder, hybrid
from tests.langchain.looks import DEAR, RIGHT, WRONG, Telling, looking, told
from tests.langchain.test_attempts import Tokens
from tests.langchain.test_binding import look_up
from tests.langchain.test_runs import (
    EVENTS,
    WAYS,
    abatch,
    agenerate,
    ainvoke,
    astream,
    batch,
    beta,
    generate,
    invoke,
    stream,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.messages import AIMessage

    from langchain_hybrid import HybridChatModel
    from shared_router.records import CallRecord

pytestmark = beta
WHOLE = [invoke, ainvoke, batch, abatch, generate, agenerate]
STREAMED = [stream, astream, *EVENTS]
whole = pytest.mark.parametrize("way", WHOLE)
streamed = pytest.mark.parametrize("way", STREAMED)
every_way = pytest.mark.parametrize("way", [*WAYS, *EVENTS])


def asked(model: HybridChatModel) -> tuple[int, int]:
    """Count the requests to both models."""
    return len(model.small.requests), len(model.large.requests)


# -- accepted, passed on --------------------------------------------------------------------------


@whole
async def test_an_answer_that_is_good_enough_is_given(way: Any) -> None:
    heard: list[CallRecord] = []
    model = looking(on_call=[heard.append])
    answer = await way(model, {})
    assert answer.text == RIGHT
    assert (told(answer)["candidate"], told(answer)["reason"]) == ("small", "second_look")
    assert (told(answer)["answered_by"], told(answer)["answered_because"]) == ("small", "chosen")
    assert asked(model) == (1, 0)
    (record,) = heard
    assert (record.looked, record.accepted, record.thrown_away) == (True, True, None)
    assert record.attempts[0].answer_score == 1.0


@whole
async def test_one_that_is_not_is_passed_on_and_both_are_counted(way: Any) -> None:
    heard: list[CallRecord] = []
    counted, seen = UsageMetadataCallbackHandler(), Recorder()
    model = looking(WRONG, on_call=[heard.append])
    answer = await way(model, {"callbacks": [counted, seen]})
    assert answer.text == DEAR
    assert (told(answer)["candidate"], told(answer)["answered_by"]) == ("small", "large")
    assert told(answer)["answered_because"] == "escalated"
    assert answer.usage_metadata["output_tokens"] == 5
    assert {name: found["output_tokens"] for name, found in counted.usage_metadata.items()} == {
        "small": 5,
        "large": 5,
    }
    assert [run.error for run in seen.llms] == [None, None]
    (record,) = heard
    assert (record.looked, record.accepted) == (True, False)
    assert [each.rejected for each in record.attempts] == ["second_look", None]
    assert record.usage is not None
    assert record.usage.output_tokens == 10
    assert record.thrown_away is not None
    assert record.thrown_away.output_tokens == 5


@pytest.mark.parametrize(("score", "name"), [(0.2, "small"), (-0.2, "large")])
def test_what_is_clear_from_the_query_is_not_looked_at(score: float, name: str) -> None:
    model = looking(WRONG, score=score)
    answer = told(model.invoke("Hi"))
    assert (answer["candidate"], answer["reason"]) == (name, "score")
    assert sum(asked(model)) == 1


@every_way
async def test_without_looks_the_query_alone_decides(way: Any) -> None:
    model = looking(WRONG, second_look=False)
    answer = await way(model, {})
    assert (answer.text, told(answer)["reason"]) == (WRONG, "score")
    assert asked(model) == (1, 0)


async def test_the_preview_says_that_it_looks_first_and_calls_nobody() -> None:
    model = looking()
    for decision in (model.route("Hi"), await model.aroute("Hi")):
        assert (decision.candidate, decision.reason) == ("small", "second_look")
    assert asked(model) == (0, 0)


# -- streams --------------------------------------------------------------------------------------


@streamed
async def test_a_stream_is_left_alone_unless_it_is_asked(way: Any) -> None:
    model = looking(WRONG)
    answer = await way(model, {})
    assert (answer.text, told(answer)["reason"]) == (WRONG, "score")
    assert asked(model) == (1, 0)


@streamed
@pytest.mark.parametrize("given", [RIGHT, WRONG])
async def test_a_stream_that_is_looked_at_shows_the_accepted_answer_alone(
    way: Any, given: str
) -> None:
    tokens = Tokens()
    model = looking(given, second_look=True)
    answer = await way(model, {"callbacks": [tokens]})
    assert answer.text == (RIGHT if given == RIGHT else DEAR)
    assert "wrong" not in "".join(tokens.heard)
    assert asked(model) == (1, given == WRONG)


@pytest.mark.parametrize(
    ("given", "expected"), [(RIGHT, [RIGHT]), (WRONG, ["the ", "dear ", "answer"])]
)
async def test_an_accepted_answer_is_one_chunk_and_the_reference_streams(
    given: str, expected: list[str]
) -> None:
    model = looking(given, second_look=True)
    assert [chunk.text for chunk in model.stream("Hi")] == expected
    assert [chunk.text async for chunk in model.astream("Hi")] == expected


# -- tools, schemas, agents -----------------------------------------------------------------------


class Report(BaseModel):
    """A report."""

    word: str
    number: int


@pytest.mark.parametrize(("score", "name"), [(1.0, "small"), (-1.0, "large")])
async def test_a_tool_call_is_taken_as_a_whole(score: float, name: str) -> None:
    model = looking(answers=score)
    bound = model.bind_tools([look_up])
    for answer in (bound.invoke("Look up rain"), await bound.ainvoke("Look up rain")):
        assert [call["name"] for call in answer.tool_calls] == ["look_up"]
        assert told(answer)["answered_by"] == name
    assert asked(model) == (2, 0 if name == "small" else 2)


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
@pytest.mark.parametrize("include_raw", [False, True])
@pytest.mark.parametrize(("score", "name"), [(1.0, "small"), (-1.0, "large")])
async def test_an_answer_in_a_schema_is_taken_as_a_whole(
    method: str, include_raw: bool, score: float, name: str
) -> None:
    heard: list[CallRecord] = []
    asked_of = {"small": ["small"], "large": ["small", "large"]}
    model = looking(answers=score, on_call=[heard.append])
    asking = model.with_structured_output(Report, method=method, include_raw=include_raw)
    for answer in (asking.invoke("word=rain number=3"), await asking.ainvoke("word=rain number=3")):
        assert isinstance(answer["parsed"] if include_raw else answer, Report)
    assert [record.answered_by for record in heard] == [name, name]
    for record in heard:  # each attempt is read by its own message
        assert [each.model for each in record.attempts] == asked_of[name]
        assert record.attempts[0].answer_score == score


@pytest.mark.parametrize(("score", "name"), [(1.0, "small"), (-1.0, "large")])
async def test_only_the_first_call_of_a_turn_is_looked_at(score: float, name: str) -> None:
    heard: list[CallRecord] = []
    model = looking(answers=score, on_call=[heard.append])
    agent = create_agent(model, [look_up])
    agent.invoke({"messages": "Look up rain"})
    await agent.ainvoke({"messages": "Look up rain"})
    assert [record.looked for record in heard] == [True, False, True, False]
    assert [record.answered_by for record in heard] == [name] * 4
    assert [record.decision.reason for record in heard][1::2] == ["sticky", "sticky"]


@pytest.mark.parametrize(("given", "expected"), [(RIGHT, RIGHT), (WRONG, DEAR)])
async def test_a_graphs_stream_of_messages_shows_the_accepted_answer_once(
    given: str, expected: str
) -> None:
    model = looking(given)
    agent = create_agent(model, [])
    chunks = list(agent.stream({"messages": "Hi"}, stream_mode="messages"))
    assert "".join(chunk.text for chunk, _ in chunks) == expected
    later = agent.astream({"messages": "Hi"}, stream_mode="messages")
    assert "".join([chunk.text async for chunk, _ in later]) == expected
    assert asked(model) == (2, 0 if given == RIGHT else 2)


async def test_an_answer_in_hand_is_shown_once_too() -> None:
    model = looking(WRONG, FakeChat(model="large", fail_after=0))
    agent = create_agent(model, [])
    chunks = list(agent.stream({"messages": "Hi"}, stream_mode="messages"))
    assert "".join(chunk.text for chunk, _ in chunks) == WRONG
    events = [e async for e in model.astream_events("Hi", version="v2", second_look=True)]
    shown = [e["data"]["chunk"].text for e in events if e["event"] == "on_chat_model_stream"]
    assert "".join(shown) == WRONG


# -- what goes wrong ------------------------------------------------------------------------------


@whole
async def test_a_small_model_that_fails_is_not_looked_at(way: Any) -> None:
    heard: list[CallRecord] = []
    model = looking(Telling(model="small", fail_after=0), on_call=[heard.append])
    answer = await way(model, {})
    assert (answer.text, told(answer)["answered_because"]) == (DEAR, "fallback")
    assert (heard[0].looked, heard[0].attempts[0].error) == (False, "connection")


@whole
async def test_where_the_dearer_model_fails_the_answer_in_hand_is_given(way: Any) -> None:
    heard: list[CallRecord] = []
    model = looking(WRONG, FakeChat(model="large", fail_after=0), on_call=[heard.append])
    answer = await way(model, {})
    assert (answer.text, told(answer)["answered_by"]) == (WRONG, "small")
    assert (heard[0].accepted, heard[0].answered_by) == (False, "small")
    for fallback in ("up", "off"):
        with pytest.raises(ConnectionError):
            await way(model.model_copy(update={"fallback": fallback}), {})


@whole
async def test_a_scorer_that_raises_gives_the_reference_s_answer(way: Any) -> None:
    heard: list[CallRecord] = []
    model = looking(answers=RuntimeError("broken"), on_call=[heard.append])
    answer = await way(model, {})
    assert (answer.text, told(answer)["answered_by"]) == (DEAR, "large")
    assert heard[0].attempts[0].look_error == "RuntimeError"
    assert heard[0].attempts[0].answer_score is None


@pytest.mark.parametrize("answers", [float("nan"), float("inf"), [1.0, 2.0]])
def test_a_score_that_is_no_number_gives_the_reference_s_answer(answers: Any) -> None:
    assert looking(answers=answers).invoke("Hi").text == DEAR


class Silent(Telling):
    """Says nothing."""

    def _reply(self, *args: Any) -> AIMessage:
        return super()._reply(*args).model_copy(update={"content": ""})


def test_an_empty_answer_is_passed_on() -> None:
    model = looking(Silent(model="small"), answers=1.0)
    assert model.invoke("Hi").text == DEAR


async def test_a_long_answer_is_looked_at() -> None:
    long = "right " * 200_000
    model = looking(long)
    assert model.invoke("Hi").text == long
    assert (await model.ainvoke("Hi")).text == long


# -- options --------------------------------------------------------------------------------------

OFF: dict[str, Callable[[Any], Any]] = {
    "field": lambda m: m.model_copy(update={"second_look": False}).invoke("Hi"),
    "keyword": lambda m: m.invoke("Hi", second_look=False),
    "bound": lambda m: m.bind(second_look=False).invoke("Hi"),
    "tools": lambda m: m.bind(second_look=False).bind_tools([look_up]).invoke("Look up rain"),
    "tools' own": lambda m: m.bind_tools([look_up], second_look=False).invoke("Look up rain"),
    "config": lambda m: m.invoke("Hi", {"configurable": {"hybrid_second_look": False}}),
    "text": lambda m: m.invoke("Hi", {"configurable": {"hybrid_second_look": "false"}}),
    "with_config": lambda m: m.with_config({"configurable": {"hybrid_second_look": False}}).invoke(
        "Hi"
    ),
}


@pytest.mark.parametrize("way", OFF)
def test_it_is_set_as_every_option_is(way: str) -> None:
    model = looking(WRONG)
    assert told(OFF[way](model))["reason"] == "score"
    assert asked(model) == (1, 0)


def test_the_context_sets_it_and_a_schema_carries_it() -> None:
    model = looking(WRONG)
    with hybrid_options(second_look=False):
        assert model.invoke("Hi").text == WRONG
        assert model.invoke("Hi", second_look="auto").text == DEAR
    asking = model.with_structured_output(Report, second_look=False)
    asking.invoke("word=rain number=3")
    assert asked(model) == (3, 1)


def test_what_cannot_be_looked_at_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="second_look"):
        hybrid(second_look="often")
    with pytest.raises(ConfigurationError, match="second_look"):
        looking().invoke("Hi", second_look="often")
    with pytest.raises(ConfigurationError, match="scorer of answers"):
        hybrid(second_look=True)
    with pytest.raises(ConfigurationError, match="scorer of answers"):
        hybrid().invoke("Hi", second_look=True)
