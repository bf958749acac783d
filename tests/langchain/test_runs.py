"""The run tree of every way of calling, and everything that carries a decision."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGeneration
from langchain_core.rate_limiters import BaseRateLimiter
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.runnables.config import var_child_runnable_config

from shared_router import Router
from shared_router.records import ROUTING_KEY, RoutingDecision
from shared_router.testing import fixed_router
from tests.langchain.fakes import ANSWER, FakeChat, Recorder, hybrid

if TYPE_CHECKING:
    from langchain_hybrid import HybridChatModel

TREE = ("HybridChatModel:chain", [("HybridRouter:chain", []), ("FakeChat:llm", [])])


async def invoke(model: HybridChatModel, config: Any) -> Any:
    return model.invoke("Hi", config)


async def ainvoke(model: HybridChatModel, config: Any) -> Any:
    return await model.ainvoke("Hi", config)


async def stream(model: HybridChatModel, config: Any) -> Any:
    first, *rest = model.stream("Hi", config)
    return first + rest


async def astream(model: HybridChatModel, config: Any) -> Any:
    first, *rest = [chunk async for chunk in model.astream("Hi", config)]
    return first + rest


async def batch(model: HybridChatModel, config: Any) -> Any:
    return model.batch(["Hi"], config)[0]


async def abatch(model: HybridChatModel, config: Any) -> Any:
    return (await model.abatch(["Hi"], config))[0]


async def generate(model: HybridChatModel, config: Any) -> Any:
    return model.generate([[HumanMessage("Hi")]], **config).generations[0][0].message


async def agenerate(model: HybridChatModel, config: Any) -> Any:
    result = await model.agenerate([[HumanMessage("Hi")]], **config)
    return result.generations[0][0].message


async def events_v3(model: HybridChatModel, config: Any) -> Any:
    return model.stream_events("Hi", config, version="v3").output


async def aevents_v3(model: HybridChatModel, config: Any) -> Any:
    stream = await model.astream_events("Hi", config, version="v3")
    try:
        return await stream.output
    finally:
        await asyncio.sleep(0.01)  # the host ends the model's run just after its answer is there


async def aevents_v2(model: HybridChatModel, config: Any) -> Any:
    events = [event async for event in model.astream_events("Hi", config, version="v2")]
    return events[-1]["data"]["output"]


WAYS = [invoke, ainvoke, stream, astream, batch, abatch, generate, agenerate]
EVENTS = [events_v3, aevents_v3, aevents_v2]
every_way = pytest.mark.parametrize("way", [*WAYS, *EVENTS])
beta = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
pytestmark = beta


@every_way
async def test_a_chain_run_holds_the_routers_run_and_the_chosen_models(way: Any) -> None:
    seen = Recorder()
    answer = await way(hybrid(), {"callbacks": [seen]})
    assert answer.text == ANSWER
    assert seen.root.shape == TREE
    ends = {run.name: run.ended for run in seen.runs.values()}
    assert ends == {"HybridRouter": 0, "FakeChat": 1, "HybridChatModel": 2}


@every_way
async def test_the_routers_run_has_the_query_and_the_decision(way: Any) -> None:
    seen = Recorder()
    await way(hybrid(score=-0.5), {"callbacks": [seen]})
    run = seen.of("HybridRouter")
    assert run.inputs == {"query": "Hi", "source": "last_user_message"}
    decision = run.outputs
    assert (decision["candidate"], decision["reason"]) == ("large", "score")
    assert (decision["scores"], decision["threshold"]) == ([-0.5], 0.0)


@every_way
async def test_the_models_run_and_the_message_tell_the_decision(way: Any) -> None:
    seen = Recorder()
    answer = await way(hybrid(score=-1.0), {"callbacks": [seen]})
    decision = seen.of("HybridRouter").outputs
    (run,) = seen.llms
    assert f"{ROUTING_KEY}:large" in run.tags
    assert run.metadata[ROUTING_KEY] == decision
    assert decision["latency_ms"] > 0
    answered = {"answered_by": "large", "answered_because": "chosen"}
    told = RoutingDecision(**decision).stable() | answered
    assert answer.response_metadata[ROUTING_KEY] == told
    assert answer.response_metadata["model_name"] == "large"
    assert answer.usage_metadata["total_tokens"] == 15


@every_way
async def test_a_custom_event_tells_the_decision_once(way: Any) -> None:
    seen = Recorder()
    await way(hybrid(), {"callbacks": [seen]})
    assert seen.events == [(ROUTING_KEY, seen.of("HybridRouter").outputs, seen.root.id)]


@every_way
async def test_the_chains_run_ends_with_the_answer(way: Any) -> None:
    seen = Recorder()
    answer = await way(hybrid(), {"callbacks": [seen]})
    output = seen.root.outputs
    assert (output.text, output.usage_metadata) == (answer.text, answer.usage_metadata)
    assert output.response_metadata[ROUTING_KEY] == answer.response_metadata[ROUTING_KEY]


@pytest.mark.parametrize("way", WAYS)
async def test_without_listeners_the_message_alone_tells_the_decision(way: Any) -> None:
    answer = await way(hybrid(), {})
    assert answer.response_metadata[ROUTING_KEY]["candidate"] == "small"


async def test_astream_events_v2_shows_the_custom_event_before_the_model_starts() -> None:
    events = [event async for event in hybrid().astream_events("Hi", version="v2")]
    names = [(event["event"], event["name"]) for event in events]
    decided = names.index(("on_custom_event", ROUTING_KEY))
    assert events[decided]["data"]["candidate"] == "small"
    assert decided < names.index(("on_chat_model_start", "FakeChat"))
    tokens = [e["data"]["chunk"].text for e in events if e["event"] == "on_chat_model_stream"]
    assert "".join(tokens) == ANSWER


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_streaming_tells_the_decision_on_the_first_chunk_alone(way: str) -> None:
    model = hybrid()
    chunks = [c async for c in model.astream("Hi")] if way == "astream" else [*model.stream("Hi")]
    assert len(chunks) == len(ANSWER.split())
    assert [ROUTING_KEY in chunk.response_metadata for chunk in chunks] == [True, *[False] * 3]
    whole = chunks[0] + chunks[1:]
    assert whole.response_metadata[ROUTING_KEY]["candidate"] == "small"
    assert whole.response_metadata["model_name"] == "small"


@pytest.mark.parametrize("way", [invoke, ainvoke, batch, generate])
async def test_the_childs_cached_message_is_left_alone(way: Any) -> None:
    class Cache(InMemoryCache):
        """Hands out the very object it holds."""

        kept: ChatGeneration

        def lookup(self, prompt: str, llm_string: str) -> Any:
            return [self.kept]

    cache = Cache()
    cache.kept = ChatGeneration(message=AIMessage("kept", response_metadata={"model_name": "x"}))
    answer = await way(hybrid(FakeChat(model="small", cache=cache)), {})
    assert ROUTING_KEY in answer.response_metadata
    assert cache.kept.message.response_metadata == {"model_name": "x"}


def test_an_abandoned_stream_ends_the_models_run_and_then_the_chains() -> None:
    seen = Recorder()
    chunks = hybrid().stream("Hi", {"callbacks": [seen]})
    first = next(chunks)
    chunks.close()
    (run,) = seen.llms
    assert isinstance(run.error, GeneratorExit)
    assert (run.ended, seen.root.ended) == (1, 2)
    assert seen.root.outputs.text == first.text


async def test_an_abandoned_async_stream_ends_both_runs_at_once() -> None:
    seen = Recorder()
    chunks = hybrid().astream("Hi", {"callbacks": [seen]})
    await anext(chunks)
    await chunks.aclose()
    (run,) = seen.llms
    assert isinstance(run.error, GeneratorExit)
    assert (run.ended, seen.root.ended) == (1, 2)


async def test_an_abandoned_async_stream_closes_an_untraced_model_at_once() -> None:
    closed: list[bool] = []

    class Closing(FakeChat):
        async def astream(self, *args: Any, **kwargs: Any) -> Any:
            try:
                async for chunk in super().astream(*args, **kwargs):
                    yield chunk
            finally:
                closed.append(True)

    chunks = hybrid(Closing(model="small")).astream("Hi")
    await anext(chunks)
    await chunks.aclose()
    assert closed == [True]


async def test_a_cancelled_call_ends_its_runs() -> None:
    seen = Recorder()
    started = asyncio.Event()

    async def wait(*_: Any) -> None:
        started.set()
        await asyncio.sleep(30)

    model = hybrid(RunnableLambda(wait))
    task = asyncio.create_task(model.ainvoke("Hi", {"callbacks": [seen]}))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert isinstance(seen.root.error, asyncio.CancelledError)


@every_way
@pytest.mark.parametrize("fail_after", [0, 2])
async def test_a_childs_error_ends_both_runs_and_comes_out_unchanged(
    way: Any, fail_after: int
) -> None:
    seen = Recorder()
    model = hybrid(FakeChat(model="small", fail_after=fail_after), fallback="off")
    with pytest.raises(ConnectionError, match="the provider is down") as caught:
        await way(model, {"callbacks": [seen]})
    assert seen.root.shape == TREE
    (run,) = seen.llms
    assert (run.error, seen.root.error) == (caught.value, caught.value)
    assert (run.ended, seen.root.ended) == (1, 2)


async def test_a_router_error_closes_the_routers_run_and_goes_to_the_reference() -> None:
    seen = Recorder()
    model = hybrid().model_copy(update={"router": fixed_router(RuntimeError("broken"))})
    answer = model.invoke("Hi", {"callbacks": [seen]})
    assert answer.response_metadata["model_name"] == "large"
    assert seen.of("HybridRouter").outputs["reason"] == "router_error"
    assert seen.root.shape == TREE


class Interrupted:
    """A scorer that the user interrupts."""

    bounded = True

    def score(self, texts: Any) -> Any:
        raise KeyboardInterrupt


def test_an_interruption_while_scoring_ends_both_runs() -> None:
    seen = Recorder()
    router = Router(candidates=("small", "large"), scorer=Interrupted())
    model = hybrid().model_copy(update={"router": router})
    with pytest.raises(KeyboardInterrupt):
        model.invoke("Hi", {"callbacks": [seen]})
    assert isinstance(seen.of("HybridRouter").error, KeyboardInterrupt)
    assert isinstance(seen.root.error, KeyboardInterrupt)


async def test_a_call_cancelled_while_scoring_ends_both_runs() -> None:
    seen = Recorder()
    model = hybrid().model_copy(update={"router": fixed_router(1.0, delay_s=0.5)})
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(model.ainvoke("Hi", {"callbacks": [seen]}), 0.1)
    assert isinstance(seen.of("HybridRouter").error, asyncio.CancelledError)
    assert isinstance(seen.root.error, asyncio.CancelledError)


class Refusing(BaseRateLimiter):
    """Lets no call through."""

    def acquire(self, *, blocking: bool = True) -> bool:
        raise ConnectionError("no more calls")

    async def aacquire(self, *, blocking: bool = True) -> bool:
        raise ConnectionError("no more calls")


@every_way
async def test_a_call_that_never_starts_ends_the_chains_run(way: Any) -> None:
    seen = Recorder()
    with pytest.raises(ConnectionError, match="no more calls"):
        await way(hybrid(rate_limiter=Refusing()), {"callbacks": [seen]})
    assert isinstance(seen.root.error, ConnectionError)
    assert seen.llms == []


async def test_a_stream_inside_a_step_shows_its_chunks_as_events() -> None:
    model = hybrid()
    step = RunnableLambda(lambda text: "".join(chunk.text for chunk in model.stream(text)))
    events = [event async for event in step.astream_events("Hi", version="v2")]
    shown = [
        e for e in events if e["event"] == "on_chain_stream" and e["name"] == "HybridChatModel"
    ]
    assert "".join(event["data"]["chunk"].text for event in shown) == ANSWER


class Bare(Runnable[Any, Any]):
    """Streams iterators that cannot be closed, as a Runnable of a user's may."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def invoke(self, input: Any, config: Any = None, **kwargs: Any) -> AIMessage:
        return AIMessage("".join(self.words))

    def stream(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        return iter([AIMessageChunk(word) for word in self.words])

    def astream(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        return Drawn(self.stream(input))


class Drawn:
    """An asynchronous iterator and nothing else."""

    def __init__(self, chunks: Any) -> None:
        self.chunks = chunks

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        for chunk in self.chunks:
            return chunk
        raise StopAsyncIteration


@pytest.mark.parametrize("traced", [True, False])
@pytest.mark.parametrize("words", [("one ", "two"), ()])
async def test_streams_that_cannot_be_closed_are_read_to_their_end(
    words: tuple[str, ...], traced: bool
) -> None:
    model = hybrid(Bare(*words), Bare("large"))
    config: Any = {"callbacks": [Recorder()]} if traced else None
    chunks = [chunk.text for chunk in model.stream("Hi", config)]
    assert chunks == [chunk.text async for chunk in model.astream("Hi", config)] == list(words)


@pytest.mark.parametrize("traced", [True, False])
async def test_streams_that_cannot_be_closed_can_be_abandoned(traced: bool) -> None:
    model = hybrid(Bare("one ", "two"), Bare("large"))
    config: Any = {"callbacks": [Recorder()]} if traced else None
    sync, later = model.stream("Hi", config), model.astream("Hi", config)
    assert (next(sync).text, (await anext(later)).text) == ("one ", "one ")
    sync.close()
    await later.aclose()


@every_way
async def test_the_wrappers_own_callbacks_tags_and_metadata_are_merged_in(way: Any) -> None:
    own, given = Recorder(), Recorder()
    model = hybrid(callbacks=[own], tags=["own"], metadata={"team": "red"})
    await way(model, {"callbacks": [given], "tags": ["given"], "metadata": {"user": "ann"}})
    for seen in (own, given):
        assert seen.root.shape == TREE
        for run in (seen.root, *seen.llms):
            assert {"own", "given"} <= set(run.tags)
            assert (run.metadata["team"], run.metadata["user"]) == ("red", "ann")


@every_way
async def test_run_name_and_run_id_are_the_chain_runs(way: Any) -> None:
    seen = Recorder()
    wanted = uuid4()
    config = {"callbacks": [seen], "run_name": "answering", "run_id": wanted}
    await way(hybrid(), config)
    assert (seen.root.name, seen.root.id) == ("answering", wanted)
    assert [child.name for child in seen.root.children] == ["HybridRouter", "FakeChat"]


async def test_the_callers_config_is_left_alone() -> None:
    config: Any = {"run_id": uuid4(), "tags": ["mine"], "metadata": {"user": "ann"}}
    before = {**config, "tags": [*config["tags"]], "metadata": {**config["metadata"]}}
    model = hybrid()
    model.invoke("Hi", config)
    await model.ainvoke("Hi", config)
    list(model.stream("Hi", config))
    assert config == before


async def test_generate_returns_the_ids_of_its_runs() -> None:
    seen = Recorder()
    asked = [[HumanMessage("one")], [HumanMessage("two")]]
    result = await hybrid().agenerate(asked, callbacks=[seen])
    assert {run.run_id for run in result.run or ()} == {root.id for root in seen.roots}


async def test_concurrent_calls_keep_their_own_trees() -> None:
    delayed = FakeChat(model="small", delay_s=0.002)
    model = hybrid(delayed, score=lambda text: 1.0 if int(text) % 2 else -1.0)
    recorders = [Recorder() for _ in range(20)]

    async def one(number: int, seen: Recorder) -> str:
        chunks = [c async for c in model.astream(str(number), {"callbacks": [seen]})]
        return str(chunks[0].response_metadata[ROUTING_KEY]["candidate"])

    chosen = await asyncio.gather(*(one(i, seen) for i, seen in enumerate(recorders)))
    assert chosen == ["small" if i % 2 else "large" for i in range(20)]
    for number, seen in enumerate(recorders):
        assert seen.root.shape == TREE
        assert seen.of("HybridRouter").inputs["query"] == str(number)


def _context() -> dict[Any, Any]:
    return dict(contextvars.copy_context().items())


def test_nothing_leaks_into_the_consumer_between_chunks() -> None:
    before = _context()
    for _ in hybrid().stream("Hi", {"callbacks": [Recorder()]}):
        assert _context() == before
    assert _context() == before


async def test_nothing_leaks_into_the_async_consumer_between_chunks() -> None:
    before = _context()
    async for _ in hybrid().astream("Hi", {"callbacks": [Recorder()]}):
        assert _context() == before
    assert _context() == before


@pytest.mark.parametrize("way", [invoke, ainvoke, stream, astream])
async def test_the_model_works_inside_the_chain_runs_context(way: Any) -> None:
    """A model that calls something else nests it under its own chain, by context alone."""
    parents: list[Any] = []

    def probe() -> None:
        config = var_child_runnable_config.get()
        parents.append(getattr((config or {}).get("callbacks"), "parent_run_id", None))

    seen = Recorder()
    await way(hybrid(FakeChat(model="small", probe=probe)), {"callbacks": [seen]})
    assert parents == [seen.root.id]


async def test_a_routed_step_nests_under_the_chain_it_stands_in() -> None:
    seen = Recorder()
    chain = (lambda question: question["ask"]) | hybrid()
    await chain.ainvoke({"ask": "Hi"}, {"callbacks": [seen]})
    assert seen.of("HybridChatModel").parent_id == seen.of("RunnableSequence").id
    assert seen.of("HybridChatModel").shape == TREE


@pytest.mark.parametrize("way", [invoke, ainvoke, stream, astream])
async def test_a_recorded_query_stands_where_inputs_are_hidden_alone(way: Any) -> None:
    seen, told = Recorder(), list[Any]()
    answer = await way(hybrid(record_query=True, on_decision=[told.append]), {"callbacks": [seen]})
    assert [decision.query for decision in told] == ["Hi"]
    assert seen.of("HybridRouter").outputs["query"] == "Hi"
    carried = [(run.metadata, run.tags) for run in seen.runs.values()]
    assert repr("Hi") not in repr([carried, answer.response_metadata])
