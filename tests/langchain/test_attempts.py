"""Another model answers when one fails, or its answer is rejected, as LangChain's users see it."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelFallbackMiddleware, ModelRetryMiddleware
from langchain.agents.structured_output import ToolStrategy
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import BaseModel

from shared_router import hybrid_options
from shared_router.errors import (
    AllCandidatesFailedError,
    CallTimeoutError,
    CandidateError,
    ConfigurationError,
    EmptyStreamError,
)
from shared_router.records import ROUTING_KEY, CallRecord
from tests.langchain.fakes import ANSWER, FakeChat, Recorder, hybrid
from tests.langchain.test_binding import look_up
from tests.langchain.test_runs import EVENTS, WAYS, aevents_v3, astream, beta, events_v3, stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_hybrid import HybridChatModel

pytestmark = beta
every_way = pytest.mark.parametrize("way", [*WAYS, *EVENTS])


def down(name: str = "small", after: int = 0) -> FakeChat:
    return FakeChat(model=name, fail_after=after)


def told(answer: Any) -> dict[str, Any]:
    found: dict[str, Any] = answer.response_metadata[ROUTING_KEY]
    return found


class RefusedError(Exception):
    """A request that is wrong for every model."""

    status_code = 400


class Raising(FakeChat):
    """Raises what it is told to."""

    error: Any = None

    def _reply(self, *args: Any) -> AIMessage:
        message = super()._reply(*args)
        if self.error is not None:
            raise self.error
        return message


# -- fallback -------------------------------------------------------------------------------------


@every_way
async def test_the_other_one_answers_whatever_way_it_is_asked(way: Any) -> None:
    heard: list[CallRecord] = []
    model = hybrid(down(), on_call=[heard.append])
    seen = Recorder()
    answer = await way(model, {"callbacks": [seen]})
    assert answer.text == ANSWER
    assert answer.response_metadata["model_name"] == "large"
    assert (told(answer)["candidate"], told(answer)["answered_by"]) == ("small", "large")
    assert told(answer)["answered_because"] == "fallback"
    assert (len(model.small.requests), len(model.large.requests)) == (1, 1)
    failed, answered = seen.llms
    assert f"{ROUTING_KEY}:small" in failed.tags
    assert f"{ROUTING_KEY}:large" in answered.tags
    assert f"{ROUTING_KEY}:small" not in answered.tags
    assert answered.metadata[ROUTING_KEY]["asked"] == "large"
    assert isinstance(failed.error, ConnectionError)
    assert seen.root.error is None
    (record,) = heard
    assert (record.answered_by, record.why) == ("large", "fallback")
    assert [a.error for a in record.attempts] == ["connection", None]
    assert record.attempts[1].model == "large"
    assert record.usage is not None
    assert record.usage.input_tokens == 10


@every_way
async def test_all_down_is_one_group(way: Any) -> None:
    model = hybrid(down(), down("large"))
    seen = Recorder()
    with pytest.raises(AllCandidatesFailedError) as caught:
        await way(model, {"callbacks": [seen]})
    notes = [error.__notes__ for error in caught.value.exceptions]
    assert notes == [["Raised by candidate 'small'."], ["Raised by candidate 'large'."]]
    assert seen.root.error is caught.value


@every_way
async def test_the_callers_own_error_asks_nobody_else(way: Any) -> None:
    model = hybrid(Raising(model="small", error=RefusedError("no")))
    with pytest.raises(RefusedError) as caught:
        await way(model, {})
    assert caught.value.__notes__ == ["Raised by candidate 'small'."]
    assert model.large.requests == []


@pytest.mark.parametrize(
    "off",
    [
        lambda m: m.model_copy(update={"fallback": "off"}),
        lambda m: m.bind(fallback="off"),
        lambda m: m.with_config({"configurable": {"hybrid_fallback": "off"}}),
        lambda m: m.bind(fallback="up", route="large"),
        lambda m: m.bind(fallback=[]),
    ],
    ids=["constructed", "bound", "configured", "up", "no names"],
)
def test_fallback_is_set_as_every_option_is(off: Callable[[Any], Any]) -> None:
    model = hybrid(down(), down("large"))
    with pytest.raises(ConnectionError):
        off(model).invoke("Hi")
    assert len(model.small.requests) + len(model.large.requests) == 1


def test_the_context_sets_it_too_and_a_keyword_wins() -> None:
    model = hybrid(down())
    with hybrid_options(fallback="off"):
        with pytest.raises(ConnectionError):
            model.invoke("Hi")
        assert model.invoke("Hi", fallback="any").text == ANSWER


def test_wrong_settings_are_refused_at_once() -> None:
    with pytest.raises(CandidateError, match="fallback='medium'"):
        hybrid(fallback="medium")
    with pytest.raises(ConfigurationError, match="did you mean 'empty'"):
        hybrid(escalate=["emtpy"])
    with pytest.raises(ConfigurationError, match="call_timeout_s"):
        hybrid(call_timeout_s=0)
    with pytest.raises(ConfigurationError, match="is_mendable"):
        hybrid(is_mendable="yes")
    with pytest.raises(CandidateError, match="fallback='medium'"):
        hybrid().invoke("Hi", fallback="medium")


def test_the_users_rule_on_errors() -> None:
    model = hybrid(Raising(model="small", error=RefusedError("no")), is_mendable=lambda _: True)
    assert told(model.invoke("Hi"))["answered_by"] == "large"
    model = hybrid(down(), is_mendable=lambda _: False)
    with pytest.raises(ConnectionError):
        model.invoke("Hi")


def test_under_a_limit_the_answer_of_a_cheaper_one_is_void() -> None:
    from tests.llamaindex.fronts import LONG, PROMISED, promising

    model = hybrid(large=down("large")).model_copy(update={"router": promising(), **PROMISED})
    answer = told(model.invoke(LONG))
    assert (answer["candidate"], answer["answered_by"]) == ("large", "small")
    assert (answer["guarantee"], answer["guarantee_reason"]) == ("void", "fallback")


# -- streams --------------------------------------------------------------------------------------


async def test_a_stream_that_breaks_later_names_its_candidate() -> None:
    model = hybrid(down(after=2))
    seen: list[str] = []
    with pytest.raises(ConnectionError) as caught:
        seen.extend(chunk.text for chunk in model.stream("Hi"))
    assert "".join(seen) == "Hello to "
    assert caught.value.__notes__ == ["Raised by candidate 'small'."]
    with pytest.raises(ConnectionError) as caught:
        await astream(model, {})
    assert caught.value.__notes__ == ["Raised by candidate 'small'."]
    stream = model.stream_events("Hi", version="v3")
    with pytest.raises(ConnectionError) as caught:
        str(stream.text)
    assert caught.value.__notes__ == ["Raised by candidate 'small'."]
    assert model.large.requests == []


class NoChoices(FakeChat):
    """Streams as a client does that was sent no choices."""

    def _stream(self, *args: Any, **kwargs: Any) -> Any:
        yield ChatGenerationChunk(message=AIMessageChunk(""))


async def test_a_stream_that_says_nothing_is_answered_by_the_other_one() -> None:
    model = hybrid(NoChoices(model="small"))
    assert told(await astream(model, {}))["answered_by"] == "large"
    assert "".join(chunk.text for chunk in model.stream("Hi")) == ANSWER
    with pytest.raises(EmptyStreamError):
        list(model.stream("Hi", fallback="off"))


async def test_a_token_that_was_shown_is_not_answered_by_another() -> None:
    """Under a graph's stream of messages, `invoke` streams inside."""
    agent = create_agent(hybrid(down(after=2)), [])
    shown: list[str] = []
    found = agent.stream({"messages": "Hi"}, stream_mode="messages")
    with pytest.raises(ConnectionError):
        shown.extend(chunk.text for chunk, _ in found)
    assert "".join(shown) == "Hello to "


class Streaming(FakeChat):
    """Streams by a setting of its own."""

    streaming: bool = False


def test_a_token_that_a_handler_printed_is_not_taken_back() -> None:
    model, tokens = hybrid(Streaming(model="small", fail_after=2, streaming=True)), Tokens()
    with pytest.raises(ConnectionError):
        model.invoke("Hi", {"callbacks": [tokens]})
    assert "".join(tokens.heard) == "Hello to "
    assert model.large.requests == []
    assert told(model.invoke("Hi"))["answered_by"] == "large"  # nobody has seen anything


def test_a_graphs_stream_shows_the_answer_of_the_other_one_once() -> None:
    agent = create_agent(hybrid(down()), [])
    chunks = agent.stream({"messages": "Hi"}, stream_mode="messages")
    assert "".join(chunk.text for chunk, _ in chunks) == ANSWER


# -- beside LangChain's own cures -----------------------------------------------------------------


def test_langchains_fallbacks_come_after_ours() -> None:
    spare = FakeChat(model="spare")
    model = hybrid(down(), down("large"))
    assert model.with_fallbacks([spare]).invoke("Hi").response_metadata["model_name"] == "spare"
    assert (len(model.small.requests), len(model.large.requests)) == (1, 1)


def test_middleware_for_fallback_and_retries() -> None:
    model, spare = hybrid(down(), down("large")), FakeChat(model="spare")
    agent = create_agent(model, [look_up], middleware=[ModelFallbackMiddleware(spare)])
    answer = agent.invoke({"messages": "Hi"})["messages"][-1]
    assert answer.response_metadata["model_name"] == "spare"
    model = hybrid(down())
    retry = ModelRetryMiddleware(max_retries=2, initial_delay=0.0, jitter=False)
    agent = create_agent(model, [look_up], middleware=[retry])
    assert told(agent.invoke({"messages": "Hi"})["messages"][-1])["answered_by"] == "large"
    assert len(model.small.requests) == 1  # no retry was needed, and the large one keeps the turn


@every_way
async def test_a_candidate_that_is_a_fallback_names_who_answered(way: Any) -> None:
    heard: list[CallRecord] = []
    small = down().with_fallbacks([FakeChat(model="spare")])
    model = hybrid(small, on_call=[heard.append])
    answer = await way(model, {})
    assert answer.response_metadata["model_name"] == "spare"
    assert told(answer)["answered_by"] == "small"
    assert heard[0].attempts[0].model == "spare"
    assert model.large.requests == []


def test_a_candidate_that_retries_is_left_to_it() -> None:
    small = down()
    model = hybrid(small.with_retry(stop_after_attempt=3, wait_exponential_jitter=False))
    assert told(model.invoke("Hi"))["answered_by"] == "large"
    assert len(small.requests) == 3


def test_tools_go_to_the_one_that_answers_and_it_keeps_the_turn() -> None:
    model = hybrid(down())
    bound = model.bind_tools([look_up])
    first = bound.invoke("Look up rain")
    assert first.tool_calls
    assert len(model.large.requests) == 1
    history = [HumanMessage("Look up rain"), first]
    history.append(ToolMessage("wet", tool_call_id=first.tool_calls[0]["id"]))
    second = told(bound.invoke(history))
    assert (second["candidate"], second["reason"]) == ("large", "sticky")
    assert len(model.small.requests) == 1


# -- time, health ---------------------------------------------------------------------------------


class Hanging(FakeChat):
    """Answers when it is let go."""

    release: Any = None

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        self.release.wait(20)
        return super()._generate(*args, **kwargs)

    async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(20)

    def _stream(self, *args: Any, **kwargs: Any) -> Any:
        self.release.wait(20)
        yield from super()._stream(*args, **kwargs)

    async def _astream(self, *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(20)
        yield None


@pytest.mark.parametrize("way", WAYS + EVENTS)
async def test_one_that_hangs_leaves_time_for_the_other(way: Any) -> None:
    release = threading.Event()
    model = hybrid(Hanging(model="small", release=release), call_timeout_s=2.4)
    try:
        assert told(await way(model, {}))["answered_by"] == "large"
        both = hybrid(
            Hanging(model="small", release=release),
            Hanging(model="large", release=release),
            call_timeout_s=0.3,
        )
        with pytest.raises(CallTimeoutError):
            await way(both, {})
    finally:
        release.set()


def test_an_attempt_that_was_given_up_shows_nothing_later() -> None:
    release = threading.Event()
    small = Hanging(model="small", answer="too late", release=release)
    agent = create_agent(hybrid(small, call_timeout_s=2.4), [])
    shown: list[str] = []
    for chunk, _ in agent.stream({"messages": "Hi"}, stream_mode="messages"):
        shown.append(chunk.text)
        release.set()  # what was given up goes on now
    assert "".join(shown) == ANSWER
    tokens = Tokens()
    release.clear()
    model = hybrid(small, Hanging(model="large", release=release), call_timeout_s=0.3)
    with pytest.raises(CallTimeoutError):
        list(model.stream("Hi", {"callbacks": [tokens]}))
    release.set()
    time.sleep(0.1)
    assert tokens.heard == []


class Stalling(FakeChat):
    """Says one word, and then nothing."""

    release: Any = None

    def _stream(self, *args: Any, **kwargs: Any) -> Any:
        chunks = super()._stream(*args, **kwargs)
        yield next(chunks)
        self.release.wait(20)
        yield from chunks

    async def _astream(self, *args: Any, **kwargs: Any) -> Any:
        yield next(super()._stream(*args, **kwargs))
        await asyncio.sleep(20)


@pytest.mark.parametrize("way", [stream, astream, events_v3, aevents_v3])
async def test_a_stream_that_stalls_ends_at_the_limit(way: Any) -> None:
    release, heard, seen = threading.Event(), list[CallRecord](), Recorder()
    small = Stalling(model="small", release=release)
    model = hybrid(small, call_timeout_s=1.2, on_call=[heard.append])
    try:
        with pytest.raises(CallTimeoutError) as caught:
            await way(model, {"callbacks": [seen]})
    finally:
        release.set()
    assert caught.value.__notes__ == ["Raised by candidate 'small'."]
    assert [(r.broke_off, r.error_type) for r in heard] == [(True, "CallTimeoutError")]
    assert isinstance(seen.root.error, CallTimeoutError)
    assert model.large.requests == []


def test_one_that_fails_again_and_again_rests(caplog: pytest.LogCaptureFixture) -> None:
    model = hybrid(down())
    for _ in range(10):
        assert told(model.invoke("Hi"))["answered_by"] == "large"
    assert len(model.small.requests) == 5
    assert model.health()[0].state == "resting"
    assert model.model_copy(update={"cost_advantage": None}).health()[0].state == "resting"
    assert "'small' rests" in caplog.text
    model.reset()
    model.invoke("Hi")
    assert len(model.small.requests) == 6


def test_a_wrong_key_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    error = RefusedError("no key")
    error.status_code = 401
    model = hybrid(Raising(model="small", error=error), breaker=False)
    for _ in range(20):
        assert told(model.invoke("Hi"))["answered_by"] == "large"
    said = [r.getMessage() for r in caplog.records if "set up wrongly" in r.getMessage()]
    assert said == [
        "Candidate 'small' is set up wrongly (authentication): another one answers its calls."
    ]
    assert model.health()[0].state == "misconfigured"


# -- escalation -----------------------------------------------------------------------------------


class Report(BaseModel):
    """A report."""

    word: str
    number: int


class Prose(FakeChat):
    """Answers in prose where a schema is asked for."""

    def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
        self.requests.append({})
        message = AIMessage("no JSON here", response_metadata={"model_name": self.model})
        return ChatResult(generations=[ChatGeneration(message=message)])


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
@pytest.mark.parametrize("include_raw", [False, True])
async def test_an_answer_outside_its_schema_goes_to_the_large_one(
    method: str, include_raw: bool
) -> None:
    heard: list[CallRecord] = []
    model = hybrid(Prose(model="small"), on_call=[heard.append])
    asking = model.with_structured_output(Report, method=method, include_raw=include_raw)
    for answer in (asking.invoke("word=rain number=3"), await asking.ainvoke("word=rain number=3")):
        found = answer["parsed"] if include_raw else answer
        assert isinstance(found, Report)
    assert [record.attempts[0].rejected for record in heard] == ["schema", "schema"]
    assert [record.why for record in heard] == ["escalated", "escalated"]
    assert [record.attempts[1].model for record in heard] == ["large", "large"]


def test_without_escalation_the_models_own_error_comes_out() -> None:
    model = hybrid(Prose(model="small"))
    asking = model.with_structured_output(Report, method="json_schema", escalate=())
    with pytest.raises(ValueError, match="no JSON here"):
        asking.invoke("word=rain number=3")
    assert model.large.requests == []


def test_the_dearest_ones_failure_is_its_own_error() -> None:
    model = hybrid(Prose(model="small"), Prose(model="large"))
    asking = model.with_structured_output(Report, method="json_schema")
    with pytest.raises(ValueError, match="no JSON here") as caught:
        asking.invoke("word=rain number=3")
    assert caught.value.__notes__ == ["Raised by candidate 'large'."]


@every_way
async def test_a_users_own_check(way: Any) -> None:
    model = hybrid(
        FakeChat(model="small", answer="bad"),
        escalate=lambda answer: "too short" if len(answer.text) < 5 else True,
    )
    heard: list[CallRecord] = []
    model = model.model_copy(update={"on_call": [heard.append]})
    answer = await way(model, {})
    assert answer.text == ANSWER
    assert told(answer)["answered_because"] == "escalated"
    assert heard[0].attempts[0].rejected == "too short"


class Tokens(BaseCallbackHandler):
    """Hears every token."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
        self.heard.append(str(token))


def rejecting(**how: Any) -> HybridChatModel:
    return hybrid(
        FakeChat(model="small", answer="never shown"),
        escalate=lambda answer: "never" not in answer.text,
        **how,
    )


@pytest.mark.filterwarnings("ignore:astream_events version='v1'")
async def test_no_token_of_a_rejected_answer_is_ever_seen() -> None:
    tokens = Tokens()
    model = rejecting()
    chunks = list(model.stream("Hi", {"callbacks": [tokens]}))
    assert "".join(chunk.text for chunk in chunks) == ANSWER
    assert "never" not in "".join(tokens.heard)
    for version in ("v1", "v2"):
        events = [e async for e in rejecting().astream_events("Hi", version=version)]
        shown = [e["data"]["chunk"].text for e in events if e["event"] == "on_chat_model_stream"]
        assert "".join(shown) == ANSWER
    stream = rejecting().stream_events("Hi", version="v3")
    assert "".join(stream.text) == ANSWER
    later = await rejecting().astream_events("Hi", version="v3")
    assert await later.text == ANSWER


@pytest.mark.parametrize("accepted", [False, True])
def test_a_graphs_stream_of_messages_shows_the_accepted_answer_once(accepted: bool) -> None:
    small = FakeChat(model="small", answer="fine, thanks" if accepted else "never shown")
    agent = create_agent(hybrid(small, escalate=lambda a: "never" not in a.text), [])
    chunks = [c for c, _ in agent.stream({"messages": "Hi"}, stream_mode="messages")]
    assert "".join(chunk.text for chunk in chunks) == ("fine, thanks" if accepted else ANSWER)


async def test_the_same_in_an_async_graph() -> None:
    agent = create_agent(rejecting(), [])
    found = agent.astream({"messages": "Hi"}, stream_mode="messages")
    assert "".join([chunk.text async for chunk, _ in found]) == ANSWER


def test_a_tool_that_fails_again_and_again_goes_to_the_large_one() -> None:
    model = hybrid(escalate=["repeated_tool"])
    bound = model.bind_tools([look_up])
    history: list[Any] = [HumanMessage("Look up rain")]
    for number in range(3):
        call = {"name": "look_up", "args": {"word": "rain"}, "id": f"c{number}"}
        kept = {"response_metadata": {ROUTING_KEY: {"candidate": "small"}}}
        history.append(AIMessage("", tool_calls=[call], **kept))
        history.append(ToolMessage("broken", tool_call_id=f"c{number}", status="error"))
    history.append(HumanMessage("Look up rain again"))
    answer = told(bound.invoke(history))
    assert (answer["candidate"], answer["answered_by"]) == ("small", "large")


class Unfit(FakeChat):
    """Fills the schema wrongly, whatever it is told."""

    def _reply(self, *args: Any) -> AIMessage:
        message = super()._reply(*args)
        calls = [{**call, "args": {"word": "rain"}} for call in message.tool_calls]
        return message.model_copy(update={"tool_calls": calls})


def test_a_schema_an_agent_never_fills_goes_to_the_large_one() -> None:
    model = hybrid(Unfit(model="small"), escalate=["repeated_tool"])
    strategy = ToolStrategy(Report, handle_errors=True)
    agent = create_agent(model, [], response_format=strategy)
    found = agent.invoke({"messages": "word=rain number=3"}, {"recursion_limit": 20})
    assert isinstance(found["structured_response"], Report)
    assert (len(model.small.requests), len(model.large.requests)) == (4, 1)


@pytest.mark.parametrize("way", WAYS)
async def test_the_run_tree_holds_both_answers_and_who_gave_it(way: Any) -> None:
    seen = Recorder()
    await way(rejecting(), {"callbacks": [seen]})
    assert [run.name for run in seen.llms] == ["FakeChat", "FakeChat"]
    assert [run.error for run in seen.llms] == [None, None]
