"""Facts of the retrieval: stated around a call, or told by a function of the chain's input."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough

from langchain_hybrid import with_routing_query
from shared_router import RetrievalFacts, routing_query
from tests.langchain.doubles import decision_of, hybrid
from tests.material import SeeingScorer

if TYPE_CHECKING:
    from collections.abc import Callable

PROMPT = ChatPromptTemplate([("human", "{documents}\n\n{question}")])
FACTS = RetrievalFacts.of([0.75, 0.5], context_tokens=40)


def found(question: str) -> list[Document]:
    """Retrieve as many documents as the question says, scored as a vector store may."""
    n = int(question.split()[-1])
    return [Document("x" * 40, metadata={"score": n / 100}) for _ in range(n)]


def facts_of(value: dict[str, Any]) -> RetrievalFacts:
    """Tell the facts of a chain's documents."""
    documents = value["documents"]
    scores = [document.metadata["score"] for document in documents]
    return RetrievalFacts.of(scores, [document.page_content for document in documents])


def rag(scorer: SeeingScorer, retrieval: Callable[[Any], Any] | None = facts_of) -> Any:
    """Make a chain that retrieves, then answers with the question and facts stated."""
    answer = with_routing_query(
        PROMPT | hybrid(scorer) | StrOutputParser(), key="question", retrieval=retrieval
    )
    return RunnablePassthrough.assign(documents=lambda value: found(value["question"])) | answer


def inputs(n: int) -> list[dict[str, str]]:
    return [{"question": f"how many? {i}"} for i in range(1, n + 1)]


def check_kept_apart(scorer: SeeingScorer, n: int) -> None:
    assert len(scorer.texts) == n
    for text, facts in zip(scorer.texts, scorer.facts, strict=True):
        nodes = int(text.split()[-1])
        assert facts == RetrievalFacts.of([nodes / 100] * nodes, context_tokens=10 * nodes)


async def test_every_way_of_calling_a_chain_tells_its_facts() -> None:
    scorer = SeeingScorer()
    chain = rag(scorer)
    value = {"question": "how many? 3"}
    assert chain.invoke(value)
    assert await chain.ainvoke(value)
    assert "".join(chain.stream(value))
    assert "".join([chunk async for chunk in chain.astream(value)])
    check_kept_apart(scorer, 4)


async def test_inputs_at_once_keep_their_facts_apart() -> None:
    scorer = SeeingScorer()
    rag(scorer).batch(inputs(10))
    await rag(scorer).abatch(inputs(10))
    check_kept_apart(scorer, 20)


def raising(value: Any) -> Any:
    raise ValueError("a secret")


@pytest.mark.parametrize(
    ("retrieval", "said"),
    [
        (raising, ["with_routing_query's retrieval raised ValueError."]),
        (lambda value: {"nodes": 3}, ["with_routing_query's retrieval returned dict."]),
        (lambda value: RetrievalFacts(nodes=-1, context_tokens=0), ["raised ValidationError."]),
        (lambda value: None, []),
        (None, []),
    ],
)
def test_facts_that_cannot_be_told_break_nothing(
    retrieval: Any, said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    scorer = SeeingScorer()
    caplog.set_level(logging.WARNING, "hybrid_llm")
    assert rag(scorer, retrieval).invoke({"question": "how many? 2"}) == "from small"
    assert (scorer.texts, scorer.facts) == (["how many? 2"], [None])
    assert len(caplog.messages) == len(said)
    assert all(part in message for part, message in zip(said, caplog.messages, strict=True))
    assert "secret" not in caplog.text


@pytest.mark.parametrize("streamed", [False, True])
def test_stated_facts_are_scored_and_recorded(streamed: bool) -> None:
    scorer = SeeingScorer()
    model = hybrid(scorer)
    with routing_query("which?", retrieval=FACTS):
        answer = next(iter(model.stream("prompt"))) if streamed else model.invoke("prompt")
    decision = decision_of(answer)
    assert (decision["retrieval"], decision["retrieval_source"]) == (FACTS.model_dump(), "given")
    assert scorer.facts == [FACTS]
    assert decision_of(model.invoke("prompt"))["retrieval_source"] == "missing"


async def test_stated_facts_are_scored_asynchronously() -> None:
    scorer = SeeingScorer()
    with routing_query("which?", retrieval=FACTS):
        answer = await hybrid(scorer).ainvoke("prompt")
        chunks = [chunk async for chunk in hybrid(scorer).astream("prompt")]
    assert decision_of(answer)["retrieval"] == decision_of(chunks[0])["retrieval"]
    assert scorer.facts == [FACTS] * 2


def test_a_router_that_sees_none_says_nothing_of_them() -> None:
    with routing_query("which?", retrieval=FACTS):
        decision = decision_of(hybrid().invoke("prompt"))
    assert (decision["retrieval"], decision["retrieval_source"]) == (None, None)
