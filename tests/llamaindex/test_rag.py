"""Retrieval-augmented pipelines: the router scores the user's question, never what was retrieved.

One row per pipeline; each is run synchronously, asynchronously and, where it can, streaming. What
each of its calls was routed by is stated beside it.
"""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core import PromptTemplate, Settings, get_response_synthesizer
from llama_index.core.base.response.schema import AsyncStreamingResponse, StreamingResponse
from llama_index.core.chat_engine import (
    CondensePlusContextChatEngine,
    CondenseQuestionChatEngine,
    ContextChatEngine,
    SimpleChatEngine,
)
from llama_index.core.chat_engine.types import StreamingAgentChatResponse
from llama_index.core.evaluation import FaithfulnessEvaluator
from llama_index.core.extractors import KeywordExtractor, SummaryExtractor, TitleExtractor
from llama_index.core.indices.query.query_transform import HyDEQueryTransform
from llama_index.core.llms import ChatMessage
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.postprocessor import LLMRerank
from llama_index.core.query_engine import (
    CitationQueryEngine,
    RetrieverQueryEngine,
    RouterQueryEngine,
    SubQuestionQueryEngine,
    TransformQueryEngine,
)
from llama_index.core.question_gen import LLMQuestionGenerator
from llama_index.core.response_synthesizers import ResponseMode
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.selectors import LLMSingleSelector
from llama_index.core.tools import QueryEngineTool
from pydantic import BaseModel

from llamaindex_hybrid import track_queries
from shared_router import routing_query
from tests.llamaindex.fakes import Decisions, FakeLLM, RecordingScorer, hybrid

if TYPE_CHECKING:
    from collections.abc import Callable

    from llama_index.core import VectorStoreIndex

QUESTION = "Which rule decides when a route is forced?"
FOLLOW_UP = "And without a dial?"
ANOTHER = "What does a promise about quality cost?"
REWRITTEN = "What happens without a dial?"
HISTORY = [
    ChatMessage(role="user", content=QUESTION),
    ChatMessage(role="assistant", content="The forced one."),
]
WAYS = ("sync", "async", "sync stream", "async stream")


class Answer(BaseModel):
    """An answer."""

    answer: str


def say(text: str) -> str:
    """Answer as the pipelines' own parsers want it."""
    if "Some choices are given below" in text:
        return '[{"choice": 1, "reason": "it fits"}]'
    if "sub-questions" in text or "sub_question" in text:
        item = '{"sub_question": "What is a dial?", "tool_name": "docs"}'
        return f'```json\n{{"items": [{item}]}}\n```'
    if "A list of documents is shown below" in text:
        return "Doc: 1, Relevance: 8\nDoc: 2, Relevance: 7"
    if "Standalone question" in text or "standalone question" in text:
        return REWRITTEN
    if "Generate" in text and "search queries" in text:
        return "first query\nsecond query"
    return "The forced one."


@dataclass
class Bench:
    """A pipeline's surroundings: one hybrid model over fakes, an index, a recording scorer."""

    index: VectorStoreIndex
    scorer: RecordingScorer = field(default_factory=RecordingScorer)
    decisions: Decisions = field(default_factory=Decisions)
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        models = [FakeLLM(name=name, answer=say) for name in ("small", "large")]
        for model in models:
            model.function_calling = False  # structured answers are asked in text, and filled above
        self.models = models
        self.llm = hybrid(
            *models,
            score=self.scorer,
            on_decision=[self.decisions.append],
            record_query=True,
            **self.options,
        )

    @property
    def retriever(self) -> Any:
        return self.index.as_retriever(similarity_top_k=3)

    @property
    def longest_prompt(self) -> int:
        sizes = [
            sum(len(message.content or "") for message in request["messages"])
            for model in self.models
            for request in model.requests
        ]
        return max(sizes)


@pytest.fixture
def bench(index: VectorStoreIndex) -> Bench:
    made = Bench(index)
    Settings.llm = made.llm  # what is given none takes this one
    return made


async def ask(engine: Any, way: str, text: str = QUESTION, name: str = "query") -> str:
    """Ask a query engine or chat engine and read the whole answer."""
    stream, asynchronous = way.endswith("stream"), way.startswith("async")
    method = f"{'a' if asynchronous else ''}{'stream_' if stream and name == 'chat' else ''}{name}"
    found = getattr(engine, method)(text)
    found = await found if inspect.isawaitable(found) else found
    return await read(found)


async def read(found: Any) -> str:
    if isinstance(found, AsyncStreamingResponse):
        return "".join([token async for token in found.async_response_gen()])
    if isinstance(found, StreamingAgentChatResponse) and found.achat_stream is not None:
        return "".join([token async for token in found.async_response_gen()])
    streamed = isinstance(found, StreamingResponse | StreamingAgentChatResponse)
    return "".join(found.response_gen) if streamed else str(found)


# -- response synthesizers ------------------------------------------------------------------------

MODES = [
    ResponseMode.COMPACT,
    ResponseMode.REFINE,
    ResponseMode.TREE_SUMMARIZE,
    ResponseMode.SIMPLE_SUMMARIZE,
    ResponseMode.ACCUMULATE,
    ResponseMode.COMPACT_ACCUMULATE,
    ResponseMode.GENERATION,
]
NO_STREAM = (ResponseMode.ACCUMULATE, ResponseMode.COMPACT_ACCUMULATE)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
async def test_a_synthesizer(mode: ResponseMode, way: str, bench: Bench) -> None:
    stream = way.endswith("stream")
    if stream and mode in NO_STREAM:
        with pytest.raises(ValueError, match="Unable to stream"):
            await ask(_engine(bench, mode, stream), way)
        return
    assert await ask(_engine(bench, mode, stream), way)
    check_exact(bench, "prompt_variable")
    if mode != ResponseMode.GENERATION:
        assert bench.longest_prompt > 1_500


def _engine(bench: Bench, mode: ResponseMode, stream: bool) -> Any:
    return bench.index.as_query_engine(
        llm=bench.llm, response_mode=mode, streaming=stream, similarity_top_k=3
    )


def check_exact(bench: Bench, *sources: str) -> None:
    """Every call was routed by the question, word for word, from these sources."""
    assert bench.decisions
    assert set(bench.scorer.texts) == {QUESTION}
    assert len(bench.scorer.texts) == len(bench.decisions)
    assert set(bench.decisions.sources) == set(sources)


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("mode", ["compact", "refine", "tree_summarize", "accumulate"])
async def test_structured_answers(mode: Any, way: str, bench: Bench) -> None:
    synthesizer = get_response_synthesizer(
        llm=bench.llm, response_mode=mode, output_cls=Answer, use_async=way == "async"
    )
    engine = RetrieverQueryEngine(bench.retriever, response_synthesizer=synthesizer)
    assert "answer" in await ask(engine, way)
    check_exact(bench, "prompt_variable")


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("mode", ["compact", "tree_summarize", "refine"])
async def test_a_structured_llm(mode: Any, way: str, bench: Bench) -> None:
    llm = bench.llm.as_structured_llm(Answer)
    engine = bench.index.as_query_engine(llm=llm, response_mode=mode)
    assert json.loads(await ask(engine, way))["answer"]
    check_exact(bench, "prompt_variable")


@pytest.mark.parametrize("way", ["sync stream", "async stream"])
async def test_a_structured_llm_streaming(way: str, bench: Bench) -> None:
    prompt = PromptTemplate("{context_str}\n\n{query_str}")
    values = {"context_str": "word " * 4_000, "query_str": QUESTION}
    llm = bench.llm.as_structured_llm(Answer)
    if way.startswith("async"):
        assert [token async for token in await llm.astream(prompt, **values)]
    else:
        assert list(llm.stream(prompt, **values))
    check_exact(bench, "prompt_variable")


# -- steps around retrieval -----------------------------------------------------------------------


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_citations(way: str, bench: Bench) -> None:
    engine = CitationQueryEngine.from_args(bench.index, llm=bench.llm, similarity_top_k=3)
    assert await ask(engine, way)
    check_exact(bench, "prompt_variable")


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_reranking(way: str, bench: Bench) -> None:
    engine = bench.index.as_query_engine(
        llm=bench.llm, node_postprocessors=[LLMRerank(llm=bench.llm, top_n=2)], similarity_top_k=4
    )
    assert await ask(engine, way)
    assert len(bench.decisions) >= 2
    check_exact(bench, "prompt_variable")


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_a_router_query_engine(way: str, bench: Bench) -> None:
    engine = RouterQueryEngine(
        selector=LLMSingleSelector.from_defaults(llm=bench.llm), query_engine_tools=tools(bench)
    )
    assert await ask(engine, way)
    assert len(bench.decisions) == 2
    check_exact(bench, "prompt_variable")


def tools(bench: Bench) -> list[QueryEngineTool]:
    engine = bench.index.as_query_engine(llm=bench.llm)
    return [
        QueryEngineTool.from_defaults(engine, name=name, description=f"About {name}.")
        for name in ("docs", "code")
    ]


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_sub_questions(way: str, bench: Bench) -> None:
    engine = SubQuestionQueryEngine.from_defaults(
        query_engine_tools=tools(bench),
        llm=bench.llm,
        question_gen=LLMQuestionGenerator.from_defaults(llm=bench.llm),
        response_synthesizer=get_response_synthesizer(llm=bench.llm),
        use_async=way == "async",
        verbose=False,
    )
    assert await ask(engine, way)
    # The generator and the last answer by the question, the answer between by its sub-question.
    assert bench.scorer.texts == [QUESTION, "What is a dial?", QUESTION]
    assert set(bench.decisions.sources) == {"prompt_variable"}


# -- chat engines ---------------------------------------------------------------------------------


def memory() -> ChatMemoryBuffer:
    return ChatMemoryBuffer.from_defaults(chat_history=list(HISTORY), token_limit=3_000)


def simple(bench: Bench) -> Any:
    return SimpleChatEngine.from_defaults(llm=bench.llm, memory=memory())


def context(bench: Bench) -> Any:
    return ContextChatEngine.from_defaults(
        retriever=bench.retriever, llm=bench.llm, memory=memory()
    )


def condense_plus_context(bench: Bench) -> Any:
    return CondensePlusContextChatEngine.from_defaults(
        retriever=bench.retriever, llm=bench.llm, memory=memory()
    )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("make", "source"), [(simple, "last_user_message"), (context, "prompt_variable")]
)
async def test_chat_engines_that_ask_once(
    make: Callable[[Bench], Any], source: str, way: str, bench: Bench
) -> None:
    assert await ask(make(bench), way, ANOTHER, "chat")
    assert bench.scorer.texts == [ANOTHER]
    assert bench.decisions.sources == [source]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", [simple, context])
async def test_a_follow_up_is_scored_with_what_it_refers_to(
    make: Callable[[Bench], Any], way: str, bench: Bench
) -> None:
    assert await ask(make(bench), way, FOLLOW_UP, "chat")
    assert bench.scorer.texts == [f"{QUESTION}\n{FOLLOW_UP}"]
    assert bench.decisions.sources == ["conversation"]


@pytest.mark.parametrize("way", WAYS)
async def test_condensing_a_question(way: str, bench: Bench) -> None:
    engine = CondenseQuestionChatEngine.from_defaults(
        query_engine=bench.index.as_query_engine(llm=bench.llm, streaming=way.endswith("stream")),
        llm=bench.llm,
        memory=memory(),
    )
    assert await ask(engine, way, FOLLOW_UP, "chat")
    # The answer step is asked the rewritten question, and knows no other.
    assert bench.scorer.texts == [FOLLOW_UP, REWRITTEN]
    assert bench.decisions.sources == ["prompt_variable"] * 2


@pytest.mark.parametrize("way", WAYS)
async def test_condense_plus_context(way: str, bench: Bench) -> None:
    assert await ask(condense_plus_context(bench), way, FOLLOW_UP, "chat")
    assert bench.scorer.texts == [REWRITTEN]
    assert bench.decisions.sources == ["none", "conversation"]
    assert bench.decisions.reasons == ["no_query", "score"]
    assert bench.decisions.candidates[0] == "large"


@pytest.mark.parametrize("way", WAYS)
async def test_condense_plus_context_by_its_span(way: str, bench: Bench) -> None:
    with track_queries() as tracker:
        assert await ask(condense_plus_context(bench), way, FOLLOW_UP, "chat")
        assert len(tracker) == 0
    assert bench.scorer.texts == [FOLLOW_UP, REWRITTEN]
    assert bench.decisions.sources == ["span", "conversation"]


@pytest.mark.parametrize("way", WAYS)
async def test_a_stated_query_holds_for_every_step(way: str, bench: Bench) -> None:
    with routing_query(QUESTION):
        assert await ask(condense_plus_context(bench), way, FOLLOW_UP, "chat")
    check_exact(bench, "explicit")
    assert len(bench.decisions) == 2


# -- what only the span knows ---------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_answer_filtering_by_its_span(way: str, bench: Bench) -> None:
    synthesizer = get_response_synthesizer(
        llm=bench.llm, structured_answer_filtering=True, streaming=way.endswith("stream")
    )
    engine = RetrieverQueryEngine(bench.retriever, response_synthesizer=synthesizer)
    with track_queries():
        assert await ask(engine, way)
    check_exact(bench, "span")


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_hyde_by_its_span(way: str, bench: Bench) -> None:
    engine = TransformQueryEngine(
        bench.index.as_query_engine(llm=bench.llm), HyDEQueryTransform(llm=bench.llm)
    )
    with track_queries():
        assert await ask(engine, way)
    check_exact(bench, "span", "prompt_variable")
    assert bench.decisions.sources == ["span", "prompt_variable"]


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_fusion_by_its_span(way: str, bench: Bench) -> None:
    engine = RetrieverQueryEngine.from_args(fusion(bench), llm=bench.llm)
    with track_queries():
        assert await ask(engine, way)
    assert bench.decisions.sources == ["span", "prompt_variable"]
    check_exact(bench, "span", "prompt_variable")


def fusion(bench: Bench) -> QueryFusionRetriever:
    return QueryFusionRetriever(
        [bench.retriever], llm=bench.llm, num_queries=3, use_async=False, similarity_top_k=2
    )


# -- calls no user asked for ----------------------------------------------------------------------


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_a_bare_fusion_retriever(way: str, bench: Bench) -> None:
    retriever = fusion(bench)
    found = await retriever.aretrieve(QUESTION) if way == "async" else retriever.retrieve(QUESTION)
    assert found
    check_no_query(bench, 1)


def test_a_bare_hyde(bench: Bench) -> None:
    assert HyDEQueryTransform(llm=bench.llm)(QUESTION).embedding_strs
    check_no_query(bench, 1)


EXTRACTORS = [TitleExtractor, KeywordExtractor, SummaryExtractor]


@pytest.mark.parametrize("kind", EXTRACTORS, ids=lambda kind: kind.__name__)
async def test_extractors(kind: Any, bench: Bench) -> None:
    nodes = [each.node for each in bench.retriever.retrieve(QUESTION)]
    await kind(llm=bench.llm, show_progress=False).aextract(nodes)
    check_no_query(bench, len(bench.decisions))


def check_no_query(bench: Bench, calls: int) -> None:
    """Nothing was scored, and all went to the reference."""
    assert bench.scorer.texts == []
    assert bench.decisions.candidates == ["large"] * calls
    assert set(bench.decisions.reasons) == {"no_query"}
    assert set(bench.decisions.sources) == {"none"}


async def test_calls_no_user_asked_for_go_where_they_are_told(index: VectorStoreIndex) -> None:
    policy = {"extract": "small", "rewrite": "small", "condense": "large"}
    bench = Bench(index, options={"no_query": policy})
    nodes = [each.node for each in bench.retriever.retrieve(QUESTION)]
    await KeywordExtractor(llm=bench.llm, show_progress=False).aextract(nodes)
    HyDEQueryTransform(llm=bench.llm)(QUESTION)
    fusion(bench).retrieve(QUESTION)
    assert set(bench.decisions.candidates) == {"small"}
    assert set(bench.decisions.reasons) == {"no_query"}
    bench.decisions.clear()
    condense_plus_context(bench).chat(FOLLOW_UP)
    assert bench.decisions.candidates == ["large", "small"]


# -- a false hit, known ---------------------------------------------------------------------------


async def test_an_evaluator_says_that_the_response_is_the_query(bench: Bench) -> None:
    """LlamaIndex's FaithfulnessEvaluator asks an engine about the *response*, as its query."""
    evaluator = FaithfulnessEvaluator(llm=bench.llm)
    await evaluator.aevaluate(query=QUESTION, response="The forced one.", contexts=["a", "b"])
    assert bench.scorer.texts == ["The forced one."]
    bench.scorer.texts.clear()
    with routing_query(QUESTION):  # the way out
        await evaluator.aevaluate(query=QUESTION, response="The forced one.", contexts=["a", "b"])
    assert bench.scorer.texts == [QUESTION]
