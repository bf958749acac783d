"""The span tracker: opt-in, exact, and it forgets."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.response.schema import Response
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.extractors import BaseExtractor
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.schema import TextNode
from llama_index_instrumentation import get_dispatcher

from llamaindex_hybrid import HybridLLM, QueryTracker, track_queries
from llamaindex_hybrid.spans import MOST_OPEN, enclosing
from tests.llamaindex.fakes import Decisions, FakeLLM, RecordingScorer, hybrid

if TYPE_CHECKING:
    from llama_index.core import VectorStoreIndex

pytestmark = pytest.mark.filterwarnings(
    "ignore::shared_router.asking.questions.GuessedQueryWarning"
)
LONG = "a note of many words " * 400


class Engine(BaseQueryEngine):
    """A query engine that asks its model with a prompt of its own making."""

    llm: Any
    inner: Any = None

    def __init__(self, llm: Any, inner: Any = None) -> None:
        super().__init__(callback_manager=None)
        self.llm, self.inner = llm, inner

    def _get_prompt_modules(self) -> Any:
        return {}

    def _query(self, query_bundle: Any) -> Response:
        if self.inner is not None:
            self.inner.query(f"part of {query_bundle.query_str}")
        return Response(self.llm.complete(LONG).text)

    async def _aquery(self, query_bundle: Any) -> Response:
        await asyncio.sleep(0.001)
        if self.inner is not None:
            await self.inner.aquery(f"part of {query_bundle.query_str}")
        return Response((await self.llm.acomplete(LONG)).text)


@pytest.fixture
def llm(scorer: RecordingScorer, decisions: Decisions) -> HybridLLM:
    return hybrid(score=scorer, on_decision=[decisions.append])


def trackers() -> list[Any]:
    return [each for each in get_dispatcher().span_handlers if isinstance(each, QueryTracker)]


def test_it_is_off_until_it_is_asked_for(llm: HybridLLM, decisions: Decisions) -> None:
    assert trackers() == []
    Engine(llm).query("which?")
    assert decisions.sources == ["guessed"]
    with track_queries():
        Engine(llm).query("which?")
    assert decisions.sources[1:] == ["span"]
    assert trackers() == []
    Engine(llm).query("which?")
    assert decisions.sources[2:] == ["guessed"]


def test_one_tracker_serves_all_who_asked_for_it() -> None:
    first = track_queries()
    with track_queries() as second:
        assert first is second
        assert trackers() == [first]
    assert trackers() == [first]
    first.stop()
    assert trackers() == []
    first.stop()
    assert trackers() == []


def test_the_innermost_engine_says_what_is_asked(llm: HybridLLM, scorer: RecordingScorer) -> None:
    with track_queries():
        Engine(llm, inner=Engine(llm)).query("all of it")
    assert scorer.texts == ["part of all of it", "all of it"]


async def test_queries_at_once_keep_apart(llm: HybridLLM, scorer: RecordingScorer) -> None:
    engine = Engine(llm, inner=Engine(llm))
    with track_queries() as tracker:
        await asyncio.gather(*(engine.aquery(f"q{i}") for i in range(20)))
        assert len(tracker) == 0
    assert sorted(scorer.texts) == sorted(
        [text for i in range(20) for text in (f"q{i}", f"part of q{i}")]
    )


def test_threads_keep_apart(llm: HybridLLM, scorer: RecordingScorer) -> None:
    engine = Engine(llm)
    with track_queries() as tracker, ThreadPoolExecutor(8) as pool:
        list(pool.map(engine.query, [f"q{i}" for i in range(40)]))
        assert len(tracker) == 0
    assert sorted(scorer.texts) == sorted(f"q{i}" for i in range(40))


async def test_what_fails_or_is_cancelled_leaves_nothing() -> None:
    failing = hybrid(FakeLLM(name="small", fail_after=0), fallback="off")
    slow = hybrid(FakeLLM(name="small", delay_s=5))
    with track_queries() as tracker:
        with pytest.raises(ConnectionError):
            Engine(failing).query("which?")
        with pytest.raises(ConnectionError):
            await Engine(failing).aquery("which?")
        task = asyncio.create_task(Engine(slow).aquery("which?"))
        await asyncio.sleep(0.05)
        assert len(tracker) > 0
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(tracker) == 0
        assert enclosing().query is None


async def test_streams_read_or_abandoned_leave_nothing(
    llm: HybridLLM, index: VectorStoreIndex, scorer: RecordingScorer
) -> None:
    with track_queries() as tracker:
        streaming = index.as_query_engine(llm=llm, streaming=True)
        read: Any = streaming.query("which?")
        assert "".join(read.response_gen)
        abandoned: Any = streaming.query("which?")
        next(iter(abandoned.response_gen))
        chat = SimpleChatEngine.from_defaults(
            llm=llm, memory=ChatMemoryBuffer.from_defaults(token_limit=3_000)
        )
        answer = await chat.astream_chat("which?")
        assert [token async for token in answer.async_response_gen()]
        assert len(tracker) == 0
    assert scorer.texts == ["which?"] * 3


class Own(BaseExtractor):
    """Extracts with a prompt of its own making."""

    llm: Any

    async def aextract(self, nodes: Any) -> list[dict[str, Any]]:
        return [{"note": (await self.llm.acomplete(f"Tell of it: {n.text}")).text} for n in nodes]


async def test_an_extractor_is_known_by_its_span(decisions: Decisions) -> None:
    llm = hybrid(on_decision=[decisions.append], no_query={"extract": "small"})
    nodes = [TextNode(text="one"), TextNode(text="two")]
    with track_queries():
        await Own(llm=llm).aextract(nodes)
    await Own(llm=llm).aextract(nodes[:1])
    assert decisions.reasons == ["no_query", "no_query", "score"]
    assert decisions.candidates == ["small"] * 3


def test_a_span_that_never_ends_is_dropped_in_the_end() -> None:
    import inspect

    nothing = inspect.signature(lambda: None).bind()
    with track_queries() as tracker:
        for i in range(MOST_OPEN + 5):
            tracker.span_enter(f"Engine.query-{i}", nothing)
        assert len(tracker) == MOST_OPEN
        tracker.span_exit("Engine.query-0", nothing)  # one that was dropped
        tracker.span_exit(f"Engine.query-{MOST_OPEN}", nothing)
        assert len(tracker) == MOST_OPEN - 1
        assert tracker
        assert tracker.class_name() == "QueryTracker"


def test_the_tracker_shows_no_query(llm: HybridLLM) -> None:
    class Looking(FakeLLM):
        def _reply(self, messages: Any, kwargs: Any) -> Any:
            seen.append(f"{tracker!r} {vars(tracker)} {enclosing()!r}")
            return super()._reply(messages, kwargs)

    seen: list[str] = []
    with track_queries() as tracker:
        Engine(hybrid(Looking(name="small"))).query("my secret")
    assert seen
    assert "secret" not in "".join(seen)
