"""A small model's answer is looked at, and given or passed on, as LlamaIndex's users see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.agent import FunctionAgent
from llama_index.core.base.llms.types import ChatResponse, CompletionResponse, LogProb
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.prompts import PromptTemplate
from pydantic import BaseModel

from llamaindex_hybrid import HybridLLM
from shared_router import hybrid_options
from shared_router.errors import AllCandidatesFailedError, ConfigurationError
from shared_router.records import ROUTING_KEY, CallRecord, Usage
from shared_router.testing import FixedAnswerScorer, fixed_router
from tests.llamaindex.fakes import ANSWER, FakeLLM, PlainLLM
from tests.llamaindex.operations import (
    ALL,
    QUESTION,
    STREAMS,
    STRUCTURED,
    TOOL,
    TOOLED,
    Answer,
    drawn,
    messages,
    run,
    with_async,
)

if TYPE_CHECKING:
    from tests.llamaindex.conftest import Events

CALLED = ("predict_and_call", "apredict_and_call")
LOOKED_AT = [name for name in ALL if name not in CALLED]
WHOLE = [name for name in LOOKED_AT if name not in STREAMS]
GOOD, BAD = 0.05, -0.05
"""Scores of answers, within the band: given, and passed on."""
USED = Usage(input_tokens=10, output_tokens=5)


class Telling(FakeLLM):
    """Tells log-probabilities where it is asked for them, as the keywords say."""

    tells: Any = (-0.1, -0.2, -0.3)
    refuses: Any = None
    """What it raises where it is asked for them."""

    def _response(self, messages: Any, kwargs: dict[str, Any]) -> ChatResponse:
        asked = bool(kwargs.get("logprobs"))
        if asked and self.refuses is not None:
            self.requests.append({"messages": list(messages), **kwargs})
            raise self.refuses
        response = super()._response(messages, kwargs)
        if asked and self.tells is not None:
            response.logprobs = [[LogProb(token="x", logprob=each)] for each in self.tells]
        return response


def looking(
    answer: Any = GOOD,
    small: Any = None,
    large: Any = None,
    *,
    needs_logprobs: bool = False,
    **how: Any,
) -> tuple[HybridLLM, list[CallRecord]]:
    """Wrap two fakes by a router that looks at every answer of the small one."""
    heard: list[CallRecord] = []
    scorer = FixedAnswerScorer(answer, needs_logprobs=needs_logprobs)
    llm = HybridLLM(
        small=Telling(name="small") if small is None else small,
        large=FakeLLM(name="large") if large is None else large,
        router=fixed_router(0.0, answers=scorer),
        same_models=True,
        on_call=[heard.append],
        **how,
    )
    return llm, heard


def requests_of(llm: HybridLLM) -> tuple[list[Any], list[Any]]:
    return llm.small.requests, llm.large.requests


def asked_of(llm: HybridLLM) -> tuple[int, int]:
    small, large = requests_of(llm)
    return len(small), len(large)


def told(answer: Any) -> dict[str, Any]:
    found: dict[str, Any] = answer.additional_kwargs[ROUTING_KEY]
    return found


# -- whole answers --------------------------------------------------------------------------------


@pytest.mark.parametrize("needs_logprobs", [False, True])
@pytest.mark.parametrize("name", WHOLE)
async def test_a_good_answer_is_given(name: str, needs_logprobs: bool, events: Events) -> None:
    llm, heard = looking(GOOD, needs_logprobs=needs_logprobs)
    (answer,) = await run(llm, name)
    (record,) = heard
    starts = ("LLMChatStartEvent", "LLMCompletionStartEvent")
    assert sum(each in starts for each in events.names) == 1
    assert asked_of(llm) == (1, 0)
    assert ("logprobs" in llm.small.requests[0]) == needs_logprobs
    assert (record.accepted, record.answered_by, record.usage) == (True, "small", USED)
    assert record.attempts[0].answer_score == pytest.approx(GOOD)
    if isinstance(answer, ChatResponse | CompletionResponse):
        assert answer.logprobs is None
        assert (told(answer)["reason"], told(answer)["answered_by"]) == ("second_look", "small")


@pytest.mark.parametrize("needs_logprobs", [False, True])
@pytest.mark.parametrize("name", WHOLE)
async def test_a_bad_answer_is_passed_on_and_paid_for(name: str, needs_logprobs: bool) -> None:
    llm, heard = looking(BAD, needs_logprobs=needs_logprobs)
    (answer,) = await run(llm, name)
    (record,) = heard
    assert asked_of(llm) == (1, 1)
    assert "logprobs" not in llm.large.requests[0]
    assert [each.rejected for each in record.attempts] == ["second_look", None]
    assert (record.accepted, record.answered_by) == (False, "large")
    assert (record.thrown_away, record.usage) == (USED, Usage(input_tokens=20, output_tokens=10))
    if isinstance(answer, ChatResponse | CompletionResponse):
        assert told(answer)["answered_by"] == "large"


@pytest.mark.parametrize("name", CALLED)
async def test_an_answer_that_ran_a_tool_is_given(name: str) -> None:
    llm, heard = looking(BAD)
    await run(llm, name)
    assert asked_of(llm) == (1, 0)
    assert not heard[0].looked


async def test_tool_calls_are_given_as_wholes() -> None:
    for name in with_async(TOOLED):
        llm, heard = looking(GOOD)
        *_, last = await run(llm, name, second_look=True)
        (call,) = llm.get_tool_calls_from_response(last)
        assert (call.tool_name, heard[0].accepted) == ("add", True)


async def test_an_object_in_a_schema_is_given_as_a_whole() -> None:
    for name in with_async(STRUCTURED):
        llm, heard = looking(lambda text: GOOD if '"number"' in text else BAD)
        (answer,) = await run(llm, name, second_look=True)
        assert isinstance(answer, BaseModel)
        assert heard[0].accepted


def test_a_structured_llm_brings_the_option_of_its_own() -> None:
    llm, heard = looking(GOOD)
    for option in (False, True):
        llm.as_structured_llm(Answer, second_look=option).chat(messages())
    assert [record.looked for record in heard] == [False, True]


# -- streams --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STREAMS)
async def test_streams_are_left_alone(name: str) -> None:
    llm, heard = looking(BAD)
    assert len(await run(llm, name)) >= 1
    assert asked_of(llm) == (1, 0)
    assert not heard[0].decision.with_second_look


@pytest.mark.parametrize("name", STREAMS)
async def test_a_stream_that_is_looked_at_comes_as_one_chunk(name: str) -> None:
    llm, heard = looking(GOOD, needs_logprobs=True)
    (chunk,) = await run(llm, name, second_look=True)
    assert (heard[0].accepted, heard[0].usage) == (True, USED)
    if isinstance(chunk, ChatResponse | CompletionResponse):
        assert chunk.delta == str(getattr(chunk, "text", None) or chunk.message.content or "")
        assert (chunk.logprobs, told(chunk)["answered_by"]) == (None, "small")
    if name.endswith("stream"):
        assert chunk == ANSWER


@pytest.mark.parametrize("name", STREAMS)
async def test_of_a_stream_that_is_passed_on_nothing_is_seen(name: str, events: Events) -> None:
    llm, heard = looking(BAD)
    chunks = await run(llm, name, second_look=True)
    assert asked_of(llm) == (1, 1)
    assert (heard[0].answered_by, heard[0].accepted) == ("large", False)
    assert all(told(each)["answered_by"] == "large" for each in chunks if hasattr(each, "delta"))
    ended = next(i for i, each in enumerate(events.names) if each.endswith("EndEvent"))
    assert not [each for each in events.names[:ended] if "InProgress" in each]


# -- how it is asked for --------------------------------------------------------------------------


@pytest.mark.parametrize("option", [True, False, "auto"])
async def test_by_field_by_keyword_and_by_context(option: Any) -> None:
    looked = option is not False
    by_field, heard = looking(second_look=option)
    by_field.chat(messages())
    assert heard[0].looked == looked
    llm, records = looking()
    llm.chat(messages(), second_look=option)
    with hybrid_options(second_look=option):
        await llm.acomplete(QUESTION)
    copied = llm.model_copy(update={"second_look": option})
    copied.chat(messages())
    assert [record.looked for record in records] == [looked] * 3


def test_a_wrong_option_is_refused() -> None:
    llm, _ = looking()
    for wrong in ("often", 1, None):
        with pytest.raises(ConfigurationError, match="second_look is True, False or 'auto'"):
            looking(second_look=wrong)
    with pytest.raises(ConfigurationError, match="second_look is True, False or 'auto'"):
        llm.chat(messages(), second_look="often")
    plain = HybridLLM(small=llm.small, large=llm.large, router=fixed_router())
    with pytest.raises(ConfigurationError, match="second_look=True needs a router"):
        plain.chat(messages(), second_look=True)


async def test_the_preview_says_that_it_looks_first(events: Events) -> None:
    llm, _ = looking()
    for decision in (llm.route(QUESTION), await llm.aroute(QUESTION)):
        assert (decision.reason, decision.candidate) == ("second_look", "small")
    llm.chat(messages())
    (event,) = events.of("RoutingDecisionEvent")
    assert (event.reason, event.with_second_look) == ("second_look", True)
    (ended,) = events.of("RoutingCallEvent")
    assert (ended.accepted, ended.answer_score) == (True, pytest.approx(GOOD))


# -- agents ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [GOOD, BAD])
@pytest.mark.parametrize("streaming", [False, True])
async def test_only_the_first_call_of_an_agents_turn_is_looked_at(
    answer: float, streaming: bool
) -> None:
    llm, heard = looking(answer, second_look=True)
    agent = FunctionAgent(tools=[TOOL], llm=llm, streaming=streaming)
    await agent.run("What is 3 + 4?", memory=ChatMemoryBuffer.from_defaults(token_limit=3_000))
    name = "small" if answer == GOOD else "large"
    assert [record.looked for record in heard] == [True, False]
    assert [record.decision.reason for record in heard] == ["second_look", "sticky"]
    assert [record.answered_by for record in heard] == [name, name]


# -- what fails -----------------------------------------------------------------------------------


def down(name: str) -> FakeLLM:
    return Telling(name=name, fail_after=0)


@pytest.mark.parametrize("name", LOOKED_AT)
async def test_where_the_small_model_fails_the_large_one_answers(name: str) -> None:
    llm, heard = looking(small=down("small"))
    assert await run(llm, name, second_look=True)
    assert (heard[0].answered_by, heard[0].why, heard[0].looked) == ("large", "fallback", False)


@pytest.mark.parametrize("name", LOOKED_AT)
async def test_where_the_large_model_fails_the_answer_in_hand_is_given(name: str) -> None:
    llm, heard = looking(BAD, large=down("large"))
    (answer,) = await run(llm, name, second_look=True)
    (record,) = heard
    assert (record.answered_by, record.accepted) == ("small", False)
    if isinstance(answer, ChatResponse | CompletionResponse):
        assert told(answer)["answered_by"] == "small"


@pytest.mark.parametrize("name", LOOKED_AT)
async def test_where_it_may_not_be_given_the_error_is_raised(name: str) -> None:
    llm, _ = looking(BAD, large=down("large"))
    with pytest.raises(ConnectionError):
        await run(llm, name, second_look=True, fallback="up")


async def test_all_down() -> None:
    llm, heard = looking(small=down("small"), large=down("large"))
    with pytest.raises(AllCandidatesFailedError):
        await run(llm, "achat")
    assert not heard[0].looked


@pytest.mark.parametrize("name", LOOKED_AT)
async def test_a_scorer_that_raises_leaves_it_to_the_large_model(name: str) -> None:
    llm, heard = looking(ValueError("no"))
    await run(llm, name, second_look=True)
    assert heard[0].answered_by == "large"
    assert heard[0].attempts[0].look_error == "ValueError"


# -- bad answers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize(
    ("tells", "error"),
    [
        (None, "no_logprobs"),
        ((), "no_logprobs"),
        ((float("nan"), -0.1), "no_logprobs"),
        ((-0.1,) * 7, None),  # of another length than the answer: the tokens are the provider's
    ],
)
async def test_log_probabilities_that_are_none(name: str, tells: Any, error: str | None) -> None:
    small = Telling(name="small", tells=tells)
    llm, heard = looking(GOOD, small, needs_logprobs=True)
    await run(llm, name)
    assert heard[0].attempts[0].look_error == error
    assert heard[0].answered_by == ("small" if error is None else "large")


@pytest.mark.parametrize("name", ["chat", "acomplete", "predict", "astream_chat"])
async def test_an_empty_answer_is_passed_on(name: str) -> None:
    llm, heard = looking(GOOD, Telling(name="small", answer=""))
    await run(llm, name, second_look=True)
    assert (heard[0].answered_by, heard[0].attempts[0].rejected) == ("large", "empty")


@pytest.mark.parametrize("name", ["chat", "acomplete", "predict", "astream_chat"])
async def test_a_megabyte_is_an_answer(name: str) -> None:
    small = Telling(name="small", answer="x " * 500_000)
    llm, heard = looking(lambda text: GOOD if len(text) == 1_000_000 else BAD, small)
    await run(llm, name, second_look=True)
    assert heard[0].accepted


# -- the parameter --------------------------------------------------------------------------------


class InvalidError(Exception):
    """A request that a provider finds wrong."""

    status_code = 422


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize(
    "error",
    [
        TypeError("chat() got an unexpected keyword argument 'logprobs'"),
        InvalidError("logprobs: extra inputs are not permitted"),
        InvalidError("unknown parameter"),
        ValueError("logprobs needs logits_all=True"),
    ],
)
async def test_a_model_that_refuses_is_asked_once_without(name: str, error: Exception) -> None:
    llm, heard = looking(GOOD, Telling(name="small", refuses=error), needs_logprobs=True)
    for _ in range(2):
        await run(llm, name)
    assert ["logprobs" in each for each in llm.small.requests] == [True, False, False]
    assert [record.attempts[0].look_error for record in heard] == ["no_logprobs"] * 2
    assert [record.attempts[0].error for record in heard] == [None] * 2


@pytest.mark.parametrize("name", WHOLE)
async def test_an_error_of_another_kind_is_no_refusal(name: str) -> None:
    small = Telling(name="small", refuses=ConnectionError("the provider is down"))
    llm, heard = looking(GOOD, small, needs_logprobs=True)
    await run(llm, name)
    assert (len(small.requests), heard[0].attempts[0].error) == (1, "connection")
    small.refuses = None
    await run(llm, name)
    assert heard[1].accepted


@pytest.mark.parametrize("name", ["chat", "achat", "complete", "acomplete"])
async def test_what_the_caller_asked_for_stays(name: str) -> None:
    llm, heard = looking(GOOD, needs_logprobs=True)
    (answer,) = await run(llm, name, logprobs=True)
    assert [tokens[0].logprob for tokens in answer.logprobs] == [-0.1, -0.2, -0.3]
    assert heard[0].accepted


def test_a_prompt_without_variables_is_looked_at_too() -> None:
    llm, heard = looking(GOOD, PlainLLM(name="small", chat_model=False))
    assert llm.predict(PromptTemplate("Say hello.")) == ANSWER
    assert heard[0].accepted


async def test_a_stream_that_nobody_draws_is_paid_for_and_let_go() -> None:
    llm, heard = looking(GOOD)
    llm.stream_chat(messages(), second_look=True).close()
    assert heard[0].accepted
    assert await drawn(llm.astream_chat(messages(), second_look=True))
