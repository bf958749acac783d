"""Where a decision is told: events, callbacks, responses; nothing twice, nothing lost."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core import Settings
from llama_index.core.agent.workflow import FunctionAgent, ReActAgent
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler, TokenCountingHandler
from llama_index.core.callbacks.schema import CBEventType
from llama_index.core.instrumentation.dispatcher import instrument_tags
from llama_index.core.memory import ChatMemoryBuffer

from llamaindex_hybrid import RoutingDecisionEvent
from shared_router import RetrievalFacts, Router, RoutingDecision
from shared_router.records import ROUTING_KEY
from shared_router.testing import FixedScorer
from tests.llamaindex.conftest import words
from tests.llamaindex.fakes import (
    USAGE,
    Decisions,
    Events,
    FakeLLM,
    Heard,
    decision_of,
    hybrid,
    pair,
)
from tests.llamaindex.operations import ALL, QUESTION, STREAMS, TOOL, messages, run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from llama_index.core import VectorStoreIndex

ROUTING = "RoutingDecisionEvent"


def counting() -> TokenCountingHandler:
    return TokenCountingHandler(tokenizer=words)


# -- LlamaIndex's events --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
async def test_the_models_events_are_sent_as_without_the_wrapper(name: str, events: Events) -> None:
    await run(FakeLLM(name="small"), name)
    plain = list(events.names)
    events.seen.clear()
    await run(hybrid(), name)
    assert events.names == [ROUTING, *plain, "RoutingCallEvent"]


@pytest.mark.parametrize("name", ALL)
async def test_the_decision_is_sent_inside_the_wrappers_span(name: str, events: Events) -> None:
    await run(hybrid(), name)
    (event,) = events.of(ROUTING)
    assert event.span_id.startswith(f"HybridLLM.{name}-")
    starts = events.of("LLMChatStartEvent") + events.of("LLMCompletionStartEvent")
    assert [start.span_id.partition(".")[0] for start in starts] == ["FakeLLM"]


def test_the_event_is_flat_and_holds_the_whole_decision(
    events: Events, decisions: Decisions
) -> None:
    hybrid(on_decision=[decisions.append]).chat(messages(), task="sums")
    (event,) = events.of(ROUTING)
    told = event.model_dump(exclude={"id_", "timestamp", "span_id", "tags"})
    assert told.pop("class_name") == ROUTING
    assert {k: v for k, v in told.items() if v is not None} == decisions[0].flat()
    assert all(isinstance(v, str | int | float | None) for v in told.values())
    assert (told["candidate"], told["score"], told["task"]) == ("small", 1.0, "sums")


def test_every_field_of_a_decision_has_its_place_in_the_event() -> None:
    known = set(RoutingDecisionEvent.model_fields)
    flat = {f"retrieval_{name}" for name in RetrievalFacts.model_fields}
    assert (set(RoutingDecision.model_fields) - {"retrieval"}) | flat <= known


def test_more_than_two_candidates_have_all_their_scores(events: Events) -> None:
    from llamaindex_hybrid import HybridLLM
    from shared_router import Candidate

    names = ("tiny", "small", "large")
    router = Router(candidates=names, scorer=FixedScorer([-1.0, 0.5]), name="three")
    llm = HybridLLM(candidates=[Candidate(n, FakeLLM(name=n)) for n in names], router=router)
    assert decision_of(llm.complete(QUESTION))["candidate"] == "small"
    (event,) = events.of(ROUTING)
    assert json.loads(event.scores or "") == [-1.0, 0.5]
    assert event.score == 0.5


def test_tags_reach_the_event(events: Events) -> None:
    with instrument_tags({"tenant": "a"}):
        hybrid().complete(QUESTION)
    (event,) = events.of(ROUTING)
    assert event.tags == {"tenant": "a"}


def test_the_query_is_told_only_where_it_was_asked_for(events: Events) -> None:
    hybrid().chat(messages("my secret"))
    hybrid(record_query=True).chat(messages("my wish"))
    assert [event.query for event in events.of(ROUTING)] == [None, "my wish"]
    assert "secret" not in str(events.of(ROUTING))


# -- callback managers ----------------------------------------------------------------------------


def without_routing(heard: Heard) -> list[str]:
    return [name for name in heard.names if not name.endswith(ROUTING_KEY)]


@pytest.mark.parametrize("name", ALL)
async def test_the_wrappers_handlers_hear_what_the_models_would(name: str) -> None:
    plain, ours = Heard(), Heard()
    await run(FakeLLM(name="small", callback_manager=CallbackManager([plain])), name)
    await run(hybrid(callback_manager=CallbackManager([ours])), name)
    # The trace is opened by the wrapper, under the operation's name.
    calls = [each for each in plain.names if not each.startswith(("open", "close"))]
    assert [e for e in without_routing(ours) if not e.startswith(("open", "close"))] == calls
    assert [e for e in ours.names if e.startswith("open")] == [f"open {name}"]
    assert [e for e in ours.names if e.startswith("close")] == [f"close {name}"]


@pytest.mark.parametrize("name", ALL)
async def test_the_decision_is_called_back_before_the_call(name: str) -> None:
    heard = Heard()
    await run(hybrid(callback_manager=CallbackManager([heard])), name)
    assert heard.names[1:3] == [f"start {ROUTING_KEY}", f"end {ROUTING_KEY}"]
    payload = heard.events[1][2]
    assert payload["candidate"] == "small"
    assert RoutingDecision.model_validate(payload).reason == "score"


@pytest.mark.parametrize("name", ALL)
async def test_tokens_are_counted_once(name: str) -> None:
    counter = counting()
    await run(hybrid(callback_manager=CallbackManager([counter])), name)
    assert counter.total_llm_token_count == USAGE["total_tokens"]
    assert counter.prompt_llm_token_count == USAGE["prompt_tokens"]


@pytest.mark.parametrize("name", ALL)
async def test_a_models_own_handlers_survive_and_hear_once(name: str) -> None:
    own, shared, outer = Heard(), Heard(), Heard()
    small = FakeLLM(name="small", callback_manager=CallbackManager([own, shared]))
    llm = hybrid(small, callback_manager=CallbackManager([outer, shared]))
    await run(llm, name)
    assert own.names == shared.names == outer.names
    assert len([each for each in own.names if each == "start llm"]) == 1
    assert small.callback_manager.handlers == [own, shared]
    assert llm.callback_manager.handlers == [outer, shared]


async def test_the_other_models_handlers_hear_nothing() -> None:
    small, large = Heard(), Heard()
    llm = hybrid(
        FakeLLM(name="small", callback_manager=CallbackManager([small])),
        FakeLLM(name="large", callback_manager=CallbackManager([large])),
    )
    llm.chat(messages())
    assert "start llm" in small.names
    assert large.names == []


@pytest.mark.parametrize("name", ["chat", "astream_chat", "apredict", "structured_predict"])
async def test_a_manager_given_later_is_the_one_that_hears(name: str) -> None:
    first, later = Heard(), Heard()
    llm = hybrid(callback_manager=CallbackManager([first]))
    llm.callback_manager = CallbackManager([later])
    await run(llm, name)
    assert first.names == []
    assert later.names.count("start llm") == 1


def test_settings_hand_their_manager_on() -> None:
    counter = counting()
    Settings.llm = hybrid()
    Settings.callback_manager = CallbackManager([counter])
    Settings.llm.complete(QUESTION)
    assert counter.total_llm_token_count == 15


def test_a_trace_of_the_wrapper_holds_the_models_call() -> None:
    heard = Heard()
    manager = CallbackManager([heard])
    small = FakeLLM(name="small", callback_manager=CallbackManager([Heard()]))
    llm = hybrid(small, callback_manager=manager)
    with manager.as_trace("query"), manager.event(CBEventType.QUERY):
        llm.complete(QUESTION)
    assert heard.names[0] == "open query"
    kind, name, trace_map = heard.events[-1]
    assert (kind, name) == ("close", "query")
    (query,) = trace_map["root"]
    assert len(trace_map[query]) == 2  # the decision and the call


@pytest.mark.parametrize("print_trace", [False, True])
def test_the_debug_handler_takes_the_event(print_trace: bool, capsys: Any) -> None:
    debug = LlamaDebugHandler(print_trace_on_end=print_trace)
    llm = hybrid(callback_manager=CallbackManager([debug]))
    llm.complete(QUESTION)
    llm.chat(messages())
    assert len(debug.get_llm_inputs_outputs()) == 2
    assert ("hybrid_routing" in capsys.readouterr().out) == print_trace


def test_a_handler_that_knows_no_such_event_breaks_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Strict(Heard):
        def on_event_start(self, event_type: Any, *args: Any, **kwargs: Any) -> str:
            CBEventType(event_type)
            return super().on_event_start(event_type, *args, **kwargs)

    heard = Strict()
    hybrid(callback_manager=CallbackManager([heard])).complete("my secret")
    assert "start llm" in heard.names
    assert "ValueError at hybrid_routing" in caplog.text
    assert "secret" not in caplog.text


def test_a_spent_token_budget_still_stops_the_call() -> None:
    counter = TokenCountingHandler(tokenizer=words, token_budget=20)
    small, large = pair()
    llm = hybrid(small, large, callback_manager=CallbackManager([counter]))
    llm.complete(QUESTION)
    with pytest.raises(ValueError, match="budget exceeded"):
        llm.complete(QUESTION)
    with pytest.raises(ValueError, match="budget exceeded"):
        llm.complete(QUESTION)
    assert len(small.requests) == 2


def test_an_error_is_heard_once() -> None:
    heard = Heard()
    llm = hybrid(
        FakeLLM(name="small", fail_after=0),
        callback_manager=CallbackManager([heard]),
        fallback="off",
    )
    with pytest.raises(ConnectionError):
        llm.complete(QUESTION)
    assert heard.names.count("end llm") == 1
    assert heard.names.count("start exception") == 1
    assert heard.names[-1] == "close complete"


@pytest.mark.parametrize("name", [*STREAMS, "chat", "acomplete", "chat_with_tools"])
async def test_a_response_carries_what_two_wrappers_decide_alike(
    name: str, decisions: Decisions
) -> None:
    for _ in range(2):
        for answer in await run(hybrid(on_decision=[decisions.append]), name):
            if hasattr(answer, "additional_kwargs") and hasattr(answer, "raw"):
                answered = {"answered_by": "small", "answered_because": "chosen"}
                assert decision_of(answer) == decisions[0].stable() | answered
    assert decisions[0].query_hash != decisions[1].query_hash
    assert "latency_ms" not in decisions[0].stable()


# -- inside pipelines -----------------------------------------------------------------------------


async def queried(index: VectorStoreIndex, mode: Any, streaming: bool) -> None:
    answer: Any = index.as_query_engine(response_mode=mode, streaming=streaming).query(QUESTION)
    assert "".join(answer.response_gen) if streaming else str(answer)


async def aqueried(index: VectorStoreIndex, mode: Any) -> None:
    assert str(await index.as_query_engine(response_mode=mode).aquery(QUESTION))


async def chatted(index: VectorStoreIndex, way: Any) -> None:
    memory = ChatMemoryBuffer.from_defaults(token_limit=3_000)
    chat = index.as_chat_engine(chat_mode=way, memory=memory)
    assert str(chat.chat(QUESTION))
    assert "".join(chat.stream_chat(QUESTION).response_gen)


async def acted(kind: Any) -> None:
    assert str(await kind(tools=[TOOL]).run(QUESTION))


PIPELINES: dict[str, Callable[[VectorStoreIndex], Awaitable[None]]] = {
    "compact": lambda index: queried(index, "compact", False),
    "compact, streaming": lambda index: queried(index, "compact", True),
    "refine": lambda index: queried(index, "refine", False),
    "tree_summarize, async": lambda index: aqueried(index, "tree_summarize"),
    "simple chat": lambda index: chatted(index, "simple"),
    "context chat": lambda index: chatted(index, "context"),
    "condense_plus_context chat": lambda index: chatted(index, "condense_plus_context"),
    "function agent": lambda index: acted(FunctionAgent),
    "react agent": lambda index: acted(ReActAgent),
}


@pytest.mark.parametrize("pipeline", PIPELINES.values(), ids=PIPELINES)
async def test_tokens_are_counted_once_in_a_pipeline(
    pipeline: Callable[[VectorStoreIndex], Awaitable[None]],
    index: VectorStoreIndex,
    events: Events,
    decisions: Decisions,
) -> None:
    small, large = pair()
    counter = counting()
    Settings.llm = hybrid(small, large, on_decision=[decisions.append])
    Settings.callback_manager = CallbackManager([counter])
    await pipeline(index)
    calls = len(small.requests)
    assert calls > 0
    assert large.requests == [] or decisions.reasons.count("no_query") == len(large.requests)
    calls += len(large.requests)
    assert counter.total_llm_token_count == calls * USAGE["total_tokens"]
    assert len(events.of(ROUTING)) == len(decisions) == calls


# -- models that are shared -----------------------------------------------------------------------


@pytest.mark.parametrize("name", STREAMS)
async def test_two_wrappers_of_one_model_hear_their_own_calls_alone(name: str) -> None:
    small = FakeLLM(name="small", delay_s=0.001)
    counters = [counting() for _ in range(2)]
    llms = [hybrid(small, callback_manager=CallbackManager([each])) for each in counters]
    await asyncio.gather(run(llms[0], name), run(llms[1], name), run(llms[0], name))
    assert [each.total_llm_token_count for each in counters] == [30, 15]


def test_threads_hear_their_own_calls_alone() -> None:
    small, large = pair()
    barrier = threading.Barrier(4)
    small.probe = barrier.wait
    counters = [counting() for _ in range(4)]
    llms = [hybrid(small, large, callback_manager=CallbackManager([each])) for each in counters]

    def work(number: int) -> None:
        for _ in range(number + 1):
            llms[number].complete(QUESTION)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: llms[number].complete(QUESTION), range(4)))
        small.probe = None
        list(pool.map(work, range(4)))
    assert [each.total_llm_token_count for each in counters] == [30, 45, 60, 75]


def test_what_a_model_keeps_is_kept_under_a_view() -> None:
    class Counting(FakeLLM):
        calls: int = 0
        _client: object | None = None

        def _reply(self, messages: Any, kwargs: Any) -> Any:
            self.calls += 1
            self._client = self._client or object()
            return super()._reply(messages, kwargs)

    small = Counting(name="small")
    llm = hybrid(small, callback_manager=CallbackManager([Heard()]))
    llm.complete(QUESTION)
    client = small._client
    llm.chat(messages())
    assert small.calls == 2
    assert client is not None
    assert small._client is client
    small.answer = "changed"
    assert llm.complete(QUESTION).text == "changed"


def test_no_listener_means_the_model_itself_is_called() -> None:
    seen = []

    class Seeing(FakeLLM):
        def _reply(self, messages: Any, kwargs: Any) -> Any:
            seen.append(self)
            return super()._reply(messages, kwargs)

    small = Seeing(name="small")
    hybrid(small).complete(QUESTION)
    assert seen[0] is small
