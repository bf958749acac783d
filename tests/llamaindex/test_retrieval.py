"""Facts of the retrieval: the tracker tells those of the nodes in the prompt, and no others."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.chat_engine import ContextChatEngine
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.postprocessor import LLMRerank, SimilarityPostprocessor
from llama_index.core.query_engine import CustomQueryEngine, RetrieverQueryEngine
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode

from langchain_hybrid import HybridChatModel
from llamaindex_hybrid import HybridLLM, track_queries
from shared_router import RetrievalFacts, Router, routing_query
from tests.langchain.doubles import Child
from tests.llamaindex.fakes import Decisions, FakeLLM, decision_of
from tests.material import PAIR, SeeingScorer

if TYPE_CHECKING:
    from llama_index.core import VectorStoreIndex

pytestmark = pytest.mark.filterwarnings(
    "ignore::shared_router.asking.questions.GuessedQueryWarning"
)
QUESTION = "Which dial keeps calls from the large model?"
WAYS = ["sync", "async", "sync-stream", "async-stream"]
FACTS = RetrievalFacts(nodes=2, top_score=0.75, second_score=0.5, context_tokens=40)


@pytest.fixture
def seeing() -> SeeingScorer:
    return SeeingScorer()


@pytest.fixture
def llm(seeing: SeeingScorer, decisions: Decisions) -> HybridLLM:
    return wrap(seeing, on_decision=[decisions.append])


def wrap(seeing: SeeingScorer, **options: Any) -> HybridLLM:
    """Wrap two fakes with a router that sees facts."""
    small, large = (FakeLLM(name=name, answer="1, yes") for name in PAIR)
    router = Router(candidates=PAIR, scorer=seeing, name="seeing")
    return HybridLLM(small=small, large=large, router=router, same_models=True, **options)


def facts_of(nodes: list[NodeWithScore]) -> RetrievalFacts:
    """Read the facts of nodes in another way than the tracker does."""
    scores = sorted((node.score or 0.0 for node in nodes), reverse=True)
    characters = sum(len(node.get_content(metadata_mode=MetadataMode.LLM)) for node in nodes)
    return RetrievalFacts(
        nodes=len(nodes),
        top_score=scores[0],
        second_score=scores[1] if len(scores) > 1 else None,
        context_tokens=characters // 4,
    )


async def ask(engine: Any, way: str, text: str = QUESTION) -> None:
    """Ask, and read the whole answer."""
    found = await engine.aquery(text) if way.startswith("async") else engine.query(text)
    if way == "sync-stream":
        assert "".join(found.response_gen)
    elif way == "async-stream":
        assert [token async for token in found.async_response_gen()]


@pytest.mark.parametrize("way", WAYS)
async def test_a_real_index_hands_its_facts_to_the_router(
    way: str, index: VectorStoreIndex, llm: HybridLLM, seeing: SeeingScorer, decisions: Decisions
) -> None:
    engine = index.as_query_engine(llm=llm, similarity_top_k=3, streaming="stream" in way)
    expected = facts_of(index.as_retriever(similarity_top_k=3).retrieve(QUESTION))
    assert expected.nodes == 3
    with track_queries() as tracker:
        await ask(engine, way)
        assert len(tracker) == 0
    assert set(seeing.texts) == {QUESTION}
    assert set(seeing.facts) == {expected}
    assert {(d.retrieval, d.retrieval_source) for d in decisions} == {(expected, "span")}
    await ask(engine, way)  # nothing stays behind
    assert (decisions[-1].retrieval, decisions[-1].retrieval_source) == (None, "missing")


async def test_streams_read_late_and_in_turns_keep_their_facts_apart(
    llm: HybridLLM, seeing: SeeingScorer
) -> None:
    engine = RetrieverQueryEngine.from_args(Counted(), llm=llm, streaming=True)
    with track_queries() as tracker:
        answers: list[Any] = [engine.query(f"how many? {n}") for n in (2, 5, 3)]
        assert len(tracker) == 0
        streams = [iter(answer.response_gen) for answer in answers]
        for stream in streams:
            next(stream)
        assert llm.route("outside of any").retrieval is None
        late: Any = [await engine.aquery(f"how many? {n}") for n in (4, 1)]
        assert [token async for token in late[1].async_response_gen()]
        assert [token async for token in late[0].async_response_gen()]
        assert "".join(streams[0])
        abandoned: Any = engine.query("how many? 7")
        abandoned.response_gen.close()
    seen = [facts.nodes for facts in seeing.facts if facts]
    assert sorted(seen) == [1, 2, 3, 4, 5]
    answered = [text for text in seeing.texts if text != "outside of any"]
    assert [int(text.split()[-1]) for text in answered] == seen


def test_the_facts_are_those_of_the_nodes_in_the_prompt(
    index: VectorStoreIndex, llm: HybridLLM, seeing: SeeingScorer
) -> None:
    found = index.as_retriever(similarity_top_k=4).retrieve(QUESTION)
    cutoff = sum(node.score or 0.0 for node in found[1:3]) / 2
    engine = index.as_query_engine(
        llm=llm,
        similarity_top_k=4,
        node_postprocessors=[SimilarityPostprocessor(similarity_cutoff=cutoff)],
    )
    with track_queries():
        engine.query(QUESTION)
    assert set(seeing.facts) == {facts_of(found[:2])}


def test_a_stated_question_takes_its_own_facts_alone(
    index: VectorStoreIndex, llm: HybridLLM, decisions: Decisions
) -> None:
    engine = index.as_query_engine(llm=llm, similarity_top_k=3)
    with track_queries():
        with routing_query("stated", retrieval=FACTS):
            engine.query(QUESTION)
        with routing_query("stated"):  # what is retrieved for another question is not its own
            engine.query(QUESTION)
        with routing_query(QUESTION):
            engine.query(QUESTION)
    assert [(d.retrieval_source, d.retrieval and d.retrieval.nodes) for d in decisions] == [
        ("given", 2),
        ("missing", None),
        ("span", 3),
    ]


def test_a_reranker_at_work_is_told_nothing(
    index: VectorStoreIndex, llm: HybridLLM, decisions: Decisions
) -> None:
    engine = index.as_query_engine(
        llm=llm, similarity_top_k=3, node_postprocessors=[LLMRerank(llm=llm, top_n=1)]
    )
    with track_queries():
        engine.query(QUESTION)
    assert decisions[0].retrieval_source == "missing"


def test_query_fusion_is_told_nothing_and_its_answer_is(
    index: VectorStoreIndex, llm: HybridLLM, decisions: Decisions
) -> None:
    retriever = QueryFusionRetriever(
        [index.as_retriever(similarity_top_k=3)], llm=llm, num_queries=3, use_async=False
    )
    with track_queries():
        RetrieverQueryEngine.from_args(retriever, llm=llm).query(QUESTION)
    assert [decision.retrieval_source for decision in decisions] == ["missing", "span"]


@pytest.mark.parametrize("way", WAYS)
async def test_a_context_chat_is_told(
    way: str, index: VectorStoreIndex, llm: HybridLLM, seeing: SeeingScorer
) -> None:
    engine = ContextChatEngine.from_defaults(
        retriever=index.as_retriever(similarity_top_k=2),
        llm=llm,
        memory=ChatMemoryBuffer.from_defaults(token_limit=3_000),
    )
    with track_queries():
        if way == "sync":
            engine.chat(QUESTION)
        elif way == "async":
            await engine.achat(QUESTION)
        elif way == "sync-stream":
            assert "".join(engine.stream_chat(QUESTION).response_gen)
        else:
            answer = await engine.astream_chat(QUESTION)
            assert [token async for token in answer.async_response_gen()]
    expected = facts_of(index.as_retriever(similarity_top_k=2).retrieve(QUESTION))
    assert set(seeing.facts) == {expected}


class Own(CustomQueryEngine):
    """An engine without a synthesizer."""

    retriever: BaseRetriever
    llm: Any

    def custom_query(self, query_str: str) -> str:
        before = self.llm.complete(f"Is this a question? {query_str}").text
        nodes = self.retriever.retrieve(query_str)
        context = "\n".join(node.get_content() for node in nodes)
        return f"{before} {self.llm.complete(f'{context}: {query_str}').text}"


def test_an_engine_without_a_synthesizer_is_told_what_it_retrieved_last(
    index: VectorStoreIndex, llm: HybridLLM, seeing: SeeingScorer
) -> None:
    retriever = index.as_retriever(similarity_top_k=2)
    with track_queries():
        Own(retriever=retriever, llm=llm).query(QUESTION)
        retriever.retrieve(QUESTION)
        llm.complete("outside of any engine")
    assert seeing.facts == [None, facts_of(retriever.retrieve(QUESTION)), None]


class Counted(BaseRetriever):
    """Finds as many nodes as the question says, the first of a score that the question says."""

    def _retrieve(self, query_bundle: Any) -> list[NodeWithScore]:
        n = int(query_bundle.query_str.split()[-1])
        return [NodeWithScore(node=TextNode(text="x" * 40), score=n / 100) for _ in range(n)]

    async def _aretrieve(self, query_bundle: Any) -> list[NodeWithScore]:
        await asyncio.sleep(0.001)
        return self._retrieve(query_bundle)


def check_kept_apart(seeing: SeeingScorer, n: int) -> None:
    assert len(seeing.texts) == n
    for text, facts in zip(seeing.texts, seeing.facts, strict=True):
        nodes = int(text.split()[-1])
        assert facts is not None
        assert (facts.nodes, facts.top_score) == (nodes, nodes / 100)
        assert facts.context_tokens == 10 * nodes


async def test_queries_at_once_keep_their_facts_apart(llm: HybridLLM, seeing: SeeingScorer) -> None:
    engine = RetrieverQueryEngine.from_args(Counted(), llm=llm)
    with track_queries() as tracker:
        await asyncio.gather(*(engine.aquery(f"how many? {n}") for n in range(1, 21)))
        assert len(tracker) == 0
    check_kept_apart(seeing, 20)


def test_threads_keep_their_facts_apart(llm: HybridLLM, seeing: SeeingScorer) -> None:
    engine = RetrieverQueryEngine.from_args(Counted(), llm=llm)
    with track_queries() as tracker, ThreadPoolExecutor(8) as pool:
        list(pool.map(engine.query, [f"how many? {n}" for n in range(1, 31)]))
        assert len(tracker) == 0
    check_kept_apart(seeing, 30)


class Unreadable(TextNode):
    """A node whose text cannot be read at first."""

    def get_content(self, metadata_mode: Any = MetadataMode.NONE) -> str:
        if broken.pop("once", None):
            raise ValueError("a secret")
        return "text"


broken: dict[str, bool] = {}


def test_facts_that_cannot_be_read_break_nothing(
    llm: HybridLLM, seeing: SeeingScorer, decisions: Decisions, caplog: pytest.LogCaptureFixture
) -> None:
    node = NodeWithScore(node=Unreadable(text="t"), score=0.9)
    broken["once"] = True
    with track_queries():
        get_response_synthesizer(llm=llm).synthesize(QUESTION, [node])
    assert seeing.texts == [QUESTION]
    assert decisions[-1].retrieval_source == "missing"
    assert "Reading the facts of a retrieval raised ValueError." in caplog.messages
    assert "secret" not in caplog.text


def test_nodes_without_scores_are_counted_all_the_same(
    llm: HybridLLM, seeing: SeeingScorer
) -> None:
    nodes = [NodeWithScore(node=TextNode(text="x" * 40)) for _ in range(2)]
    with track_queries():
        get_response_synthesizer(llm=llm).synthesize(QUESTION, nodes)
    assert seeing.facts == [RetrievalFacts(nodes=2, context_tokens=20)]


def test_an_event_tells_the_facts_flat(llm: HybridLLM, events: Any) -> None:
    with routing_query(QUESTION, retrieval=FACTS):
        answer = llm.complete("prompt")
    (event,) = events.of("RoutingDecisionEvent")
    assert (event.retrieval_nodes, event.retrieval_top_score) == (2, 0.75)
    assert (event.retrieval_second_score, event.retrieval_context_tokens) == (0.5, 40)
    assert event.retrieval_source == "given"
    assert decision_of(answer)["retrieval"] == FACTS.model_dump()


@pytest.mark.parametrize("facts", [FACTS, None, RetrievalFacts.of([0.1], context_tokens=3)])
def test_both_fronts_decide_alike_by_facts(facts: RetrievalFacts | None) -> None:
    router = Router(candidates=PAIR, scorer=SeeingScorer(), name="seeing")
    chat = HybridChatModel(
        small=Child(model="small"), large=Child(model="large"), router=router, same_models=True
    )
    with routing_query(QUESTION, retrieval=facts):
        ours, theirs = (
            each.route("a prompt").model_dump(exclude={"latency_ms", "query_hash"})
            for each in (wrap(SeeingScorer()), chat)
        )
    assert ours == theirs
    assert ours["candidate"] == ("large" if facts and facts.nodes == 1 else "small")
    assert ours["retrieval_source"] == ("given" if facts else "missing")
