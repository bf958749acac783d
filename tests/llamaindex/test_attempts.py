"""Another model answers when one fails, or its answer is rejected, as LlamaIndex's users see it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.agent import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

from llamaindex_hybrid import HybridLLM
from shared_router import hybrid_options
from shared_router.errors import (
    AllCandidatesFailedError,
    CallTimeoutError,
    CandidateError,
    ConfigurationError,
)
from shared_router.records import ROUTING_KEY, CallRecord
from tests.llamaindex.fakes import FakeLLM, PlainLLM, hybrid
from tests.llamaindex.operations import (
    ALL,
    PROMPT,
    QUESTION,
    STREAMS,
    STRUCTURED,
    VARIABLES,
    Answer,
    drawn,
    messages,
    run,
    with_async,
)

if TYPE_CHECKING:
    from llama_index.core.llms import LLMMetadata

    from tests.llamaindex.conftest import Events

every_way = pytest.mark.parametrize("name", ALL)


def down(name: str = "small", after: int = 0) -> FakeLLM:
    return FakeLLM(name=name, fail_after=after)


def told(answer: Any) -> dict[str, Any]:
    found: dict[str, Any] = answer.additional_kwargs[ROUTING_KEY]
    return found


class RefusedError(Exception):
    """A request that is wrong for every model."""

    status_code = 400


# -- fallback -------------------------------------------------------------------------------------


@every_way
async def test_the_other_one_answers_whatever_is_asked(name: str) -> None:
    heard: list[CallRecord] = []
    small, large = down(), FakeLLM(name="large")
    answers = await run(hybrid(small, large, on_call=[heard.append]), name)
    assert answers
    assert (len(small.requests), len(large.requests)) == (1, 1)
    (record,) = heard
    assert (record.answered_by, record.why) == ("large", "fallback")
    assert [a.error for a in record.attempts] == ["connection", None]
    for answer in answers:
        if isinstance(answer, ChatResponse):
            assert (told(answer)["candidate"], told(answer)["answered_by"]) == ("small", "large")


@every_way
async def test_all_down_is_one_group(name: str) -> None:
    with pytest.raises(AllCandidatesFailedError) as caught:
        await run(hybrid(down(), down("large")), name)
    notes = [error.__notes__ for error in caught.value.exceptions]
    assert notes == [["Raised by candidate 'small'."], ["Raised by candidate 'large'."]]


@every_way
async def test_off_by_keyword_and_by_context(name: str) -> None:
    large = FakeLLM(name="large")
    llm = hybrid(down(), large)
    with pytest.raises(ConnectionError) as caught:
        await run(llm, name, fallback="off")
    assert caught.value.__notes__ == ["Raised by candidate 'small'."]
    with hybrid_options(fallback="off"), pytest.raises(ConnectionError):
        await run(llm, name)
    assert large.requests == []


def test_wrong_settings_are_refused_at_once() -> None:
    with pytest.raises(CandidateError, match="fallback='medium'"):
        hybrid(fallback="medium")
    with pytest.raises(ConfigurationError, match="did you mean 'empty'"):
        hybrid(escalate=["emtpy"])
    with pytest.raises(ConfigurationError, match="call_timeout_s"):
        hybrid(call_timeout_s=-1)


def test_inside_a_chat_engine() -> None:
    small, large = down(), FakeLLM(name="large")
    memory = ChatMemoryBuffer.from_defaults(token_limit=3_000)
    engine = SimpleChatEngine.from_defaults(llm=hybrid(small, large), memory=memory)
    assert str(engine.chat(QUESTION))
    assert "".join(engine.stream_chat(QUESTION).response_gen)
    assert (len(small.requests), len(large.requests)) == (2, 2)


async def test_an_agents_turn_stays_with_who_answered() -> None:
    small, large = down(), FakeLLM(name="large")

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    agent = FunctionAgent(tools=[add], llm=hybrid(small, large), streaming=False)
    await agent.run("What is 3 + 4?", memory=ChatMemoryBuffer.from_defaults(token_limit=3_000))
    assert len(small.requests) == 1
    assert len(large.requests) == 2


# -- streams --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in STREAMS if n.endswith(("chat", "complete", "stream"))])
async def test_a_stream_that_breaks_later_names_its_candidate(name: str) -> None:
    heard: list[CallRecord] = []
    large = FakeLLM(name="large")
    with pytest.raises(ConnectionError) as caught:
        await run(hybrid(down(after=1), large, on_call=[heard.append]), name)
    assert caught.value.__notes__ == ["Raised by candidate 'small'."]
    assert large.requests == []
    assert heard[0].broke_off


class NoChoices(FakeLLM):
    """Streams as a client does that was sent no choices."""

    def _stream(self, *args: Any) -> Any:
        yield ChatResponse(message=ChatMessage(role="assistant", content=""), delta="")


@pytest.mark.parametrize("name", ["stream_chat", "astream_chat"])
async def test_a_stream_that_says_nothing_is_answered_by_the_other_one(name: str) -> None:
    answers = await run(hybrid(NoChoices(name="small"), FakeLLM(name="large")), name)
    assert told(answers[-1])["answered_by"] == "large"


STRUCTURED_STREAMS = [n for n in with_async(STRUCTURED) if "stream" in n]


class Says(PlainLLM):
    """Streams a text character by character, whatever it is asked; then it may break off."""

    says: str = ""
    breaks: bool = True

    def _stream(self, *args: Any) -> Any:
        for end in range(len(self.says) + 1):
            said = ChatMessage(role="assistant", content=self.says[:end])
            yield ChatResponse(message=said, delta=self.says[end - 1 : end])
        if self.breaks:
            raise ConnectionError("the provider is down")


@pytest.mark.parametrize("name", STRUCTURED_STREAMS)
@pytest.mark.parametrize("says", ["", "{", '{"tex', "Sure! Here"])
async def test_an_empty_object_is_no_answer_yet(name: str, says: str) -> None:
    heard: list[CallRecord] = []
    small = Says(name="small", says=says)
    llm = hybrid(small, FakeLLM(name="large"), on_call=[heard.append])
    answers = await run(llm, name)
    assert isinstance(answers[-1], Answer)
    assert (heard[0].answered_by, heard[0].why) == ("large", "fallback")


@pytest.mark.parametrize("name", STRUCTURED_STREAMS)
async def test_an_object_with_a_field_is_shown_at_once(name: str) -> None:
    large = FakeLLM(name="large")
    small = Says(name="small", says='{"text": "four"')
    with pytest.raises(ConnectionError):
        await run(hybrid(small, large), name)
    assert large.requests == []


class Tags(BaseModel):
    """What may be found, or not."""

    tags: list[str] = []


@pytest.mark.parametrize(
    ("schema", "says", "answered_by"), [(Tags, "{}", "small"), (Answer, "Nothing.", "large")]
)
def test_only_a_schema_of_defaults_may_be_answered_with_nothing(
    schema: type[BaseModel], says: str, answered_by: str
) -> None:
    heard: list[CallRecord] = []
    small = Says(name="small", says=says, breaks=False)
    llm = hybrid(small, FakeLLM(name="large"), on_call=[heard.append])
    *_, last = llm.stream_structured_predict(schema, PROMPT, **VARIABLES)
    assert isinstance(last, schema)
    assert heard[0].answered_by == answered_by


# -- tools ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["predict_and_call", "apredict_and_call"])
async def test_a_tool_that_has_run_is_not_run_by_another_model(name: str) -> None:
    ran: list[int] = []

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        ran.append(a + b)
        raise RuntimeError("the tool is broken")

    small, large = FakeLLM(name="small"), FakeLLM(name="large")
    llm = hybrid(small, large)
    tools = [FunctionTool.from_defaults(add)]
    how: dict[str, Any] = {"user_msg": QUESTION, "error_on_tool_error": True}
    with pytest.raises(ValueError, match="the tool is broken"):
        await drawn(getattr(llm, name)(tools, **how))
    assert len(ran) == 1
    assert large.requests == []


# -- time, health ---------------------------------------------------------------------------------


class Slow(FakeLLM):
    """Takes its time."""

    def _reply(self, *args: Any) -> Any:
        time.sleep(2.5)
        return super()._reply(*args)


def test_one_that_hangs_leaves_time_for_the_other() -> None:
    llm = hybrid(Slow(name="small"), FakeLLM(name="large"), call_timeout_s=2.4)
    assert told(llm.chat(messages()))["answered_by"] == "large"
    both = hybrid(Slow(name="small"), Slow(name="large"), call_timeout_s=0.3)
    with pytest.raises(CallTimeoutError):
        both.complete(QUESTION)


async def test_the_same_asynchronously() -> None:
    llm = hybrid(FakeLLM(name="small", delay_s=20), FakeLLM(name="large"), call_timeout_s=1.8)
    assert told(await llm.achat(messages()))["answered_by"] == "large"
    chunks = [chunk async for chunk in await llm.astream_chat(messages())]
    assert told(chunks[0])["answered_by"] == "large"


def test_one_that_fails_again_and_again_rests() -> None:
    small = down()
    llm = hybrid(small)
    for _ in range(10):
        assert told(llm.complete(QUESTION))["answered_by"] == "large"
    assert len(small.requests) == 5
    assert [each.state for each in llm.health()] == ["resting", "healthy"]
    assert llm.model_copy(update={"cost_advantage": None}).health()[0].state == "resting"
    llm.reset()
    assert llm.health()[0].state == "healthy"


class NotThere(FakeLLM):
    """Asks its server what it is, which is down."""

    @property
    def metadata(self) -> LLMMetadata:
        raise ConnectionRefusedError("no server")


def test_an_application_starts_while_a_server_is_down(caplog: pytest.LogCaptureFixture) -> None:
    large = FakeLLM(name="large")
    llm = HybridLLM(small=NotThere(name="small", fail_after=0), large=large, router=None)
    assert "does not tell its metadata now (ConnectionRefusedError)" in caplog.text
    assert llm.metadata.context_window == large.metadata.context_window
    assert told(llm.chat(messages(), route="small"))["answered_by"] == "large"
    with pytest.raises(CandidateError, match="does not tell its metadata"):
        _ = HybridLLM(small=NotThere(name="a"), large=NotThere(name="b")).metadata


# -- escalation -----------------------------------------------------------------------------------


class Prose(FakeLLM):
    """Answers in prose where a schema is asked for."""

    def _reply(self, asked: Any, kwargs: Any) -> ChatMessage:
        self.requests.append({})
        return ChatMessage(role="assistant", content="no JSON here")


@pytest.mark.parametrize("name", [n for n in with_async(STRUCTURED) if "stream" not in n])
async def test_an_answer_outside_its_schema_goes_to_the_large_one(name: str) -> None:
    heard: list[CallRecord] = []
    large = FakeLLM(name="large")
    await run(hybrid(Prose(name="small"), large, on_call=[heard.append]), name)
    assert heard[0].attempts[0].rejected == "schema"
    assert (heard[0].answered_by, heard[0].why) == ("large", "escalated")
    with pytest.raises(ValueError):
        await run(hybrid(Prose(name="small"), large), name, escalate=())


@pytest.mark.parametrize("name", ["predict_and_call", "apredict_and_call"])
async def test_an_answer_that_ran_a_tool_is_not_rejected(name: str) -> None:
    large = FakeLLM(name="large")
    llm = hybrid(FakeLLM(name="small"), large, escalate=lambda _: "not good enough")
    assert await run(llm, name)
    assert large.requests == []


@pytest.mark.parametrize("name", [name for name in ALL if "and_call" not in name])
async def test_a_users_own_check(name: str, events: Events) -> None:
    heard: list[CallRecord] = []
    small = FakeLLM(name="small")
    llm = hybrid(small, escalate=lambda _: "not good enough", on_call=[heard.append])
    await run(llm, name)
    assert [a.rejected for a in heard[0].attempts] == ["not good enough", None]
    ended = next(i for i, each in enumerate(events.names) if each.endswith("EndEvent"))
    assert not [each for each in events.names[:ended] if "InProgress" in each]


def test_the_event_at_the_end_tells_who_answered(events: Events) -> None:
    hybrid(down()).chat(messages())
    (event,) = events.of("RoutingCallEvent")
    assert (event.candidate, event.answered_by) == ("small", "large")
    assert (event.attempts, event.failures) == (2, "small: connection")
    with pytest.raises(AllCandidatesFailedError):
        hybrid(down(), down("large")).chat(messages())
    last = events.of("RoutingCallEvent")[-1]
    assert (last.answered_by, last.error) == (None, "AllCandidatesFailedError")
