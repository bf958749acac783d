"""Retrieval chains and agents over real text score exactly what the user asked."""

from __future__ import annotations

import ast
import asyncio
import re
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from langchain.agents import create_agent
from langchain_classic.chains import create_retrieval_chain
from langchain_classic.chains.combine_documents import create_stuff_documents_chain
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_core.tools import create_retriever_tool
from langchain_core.vectorstores import InMemoryVectorStore

from langchain_hybrid import QueryFromPrompt, with_routing_query
from tests.langchain.doubles import Child, RecordingScorer, decision_of, hybrid

if TYPE_CHECKING:
    from pathlib import Path

QUESTION = "Which rule comes first when a route is forced?"
OTHER = "What happens to an empty query?"
RAG = ChatPromptTemplate(
    [
        ("system", "Answer by the context alone."),
        ("human", "Context:\n{context}\n\nQuestion: {question}\nHelpful Answer:"),
    ]
)
STUFF = ChatPromptTemplate(
    [
        ("system", "Answer by the context alone:\n\n{context}"),
        ("human", "{input}"),
    ]
)


class WordEmbeddings(Embeddings):
    """Counts words by their hash: deterministic, and near texts share words."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        counts = np.full(256, 1e-3)
        for word in re.findall(r"\w+", text.lower()):
            counts[zlib.crc32(word.encode()) % 256] += 1
        return [float(count) for count in counts]


@pytest.fixture(scope="module")
def store(repository: Path) -> InMemoryVectorStore:
    """Index the docstrings of the repository's own code."""
    store = InMemoryVectorStore(WordEmbeddings())
    for path in sorted((repository / "shared_router").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node) or ""
                if len(text) > 200:
                    store.add_documents([Document(text, metadata={"source": path.name})])
    assert len(store.store) > 40
    return store


@pytest.fixture
def retriever(store: InMemoryVectorStore) -> Any:
    return store.as_retriever(search_kwargs={"k": 6})


@pytest.fixture
def scorer() -> RecordingScorer:
    return RecordingScorer()


def joined(documents: list[Document]) -> str:
    return "\n\n".join(document.page_content for document in documents)


async def called(chain: Any, value: Any, other: Any) -> None:
    """Call a chain in every way there is, with two inputs: 8 calls."""
    chain.invoke(value)
    await chain.ainvoke(value)
    list(chain.stream(value))
    assert [chunk async for chunk in chain.astream(value)]
    chain.batch([value, other])
    await asyncio.gather(chain.ainvoke(value), chain.ainvoke(other))


def check(texts: list[str]) -> None:
    """Check what eight calls were scored by."""
    assert sorted(texts) == sorted([QUESTION] * 6 + [OTHER] * 2)


# -- a plain chain --------------------------------------------------------------------------------


def plain(model: Any, retriever: Any) -> Any:
    inputs = {"context": retriever | joined, "question": RunnablePassthrough()}
    return inputs | RAG | model


async def test_a_plain_chain_with_the_question_stated(
    retriever: Any, scorer: RecordingScorer
) -> None:
    chain = with_routing_query(plain(hybrid(scorer), retriever) | StrOutputParser())
    await called(chain, QUESTION, OTHER)
    check(scorer.texts)


async def test_a_plain_chain_with_its_prompts_variable(
    retriever: Any, scorer: RecordingScorer
) -> None:
    model = hybrid(scorer, query_extractor=QueryFromPrompt(RAG, "question"))
    chain = plain(model, retriever)
    assert decision_of(chain.invoke(QUESTION))["query_source"] == "prompt_variable"
    scorer.texts.clear()
    await called(chain | StrOutputParser(), QUESTION, OTHER)
    check(scorer.texts)


@pytest.mark.filterwarnings("ignore::shared_router.asking.questions.GuessedQueryWarning")
async def test_a_plain_chain_as_it_is(retriever: Any, scorer: RecordingScorer) -> None:
    chain = plain(hybrid(scorer), retriever)
    assert decision_of(chain.invoke(QUESTION))["query_source"] == "guessed"
    scorer.texts.clear()
    await called(chain, QUESTION, OTHER)
    check(scorer.texts)


def test_the_prompt_is_long_and_holds_what_was_retrieved(
    retriever: Any, scorer: RecordingScorer
) -> None:
    model = hybrid(scorer)
    with_routing_query(plain(model, retriever)).invoke(QUESTION)
    prompt = model.small.asked[0][-1].content
    assert len(prompt) > 1_500
    assert retriever.invoke(QUESTION)[0].page_content in prompt


# -- create_retrieval_chain -----------------------------------------------------------------------


async def test_a_stock_retrieval_chain(retriever: Any, scorer: RecordingScorer) -> None:
    stuff = create_stuff_documents_chain(hybrid(scorer), STUFF)
    await called(create_retrieval_chain(retriever, stuff), {"input": QUESTION}, {"input": OTHER})
    check(scorer.texts)


async def test_a_stock_retrieval_chain_with_the_question_in_the_prompt(
    retriever: Any, scorer: RecordingScorer
) -> None:
    prompt = ChatPromptTemplate([("human", "{context}\n\nQuestion: {input}\nHelpful Answer:")])
    stuff = create_stuff_documents_chain(hybrid(scorer), prompt)
    chain = with_routing_query(create_retrieval_chain(retriever, stuff), key="input")
    await called(chain, {"input": QUESTION}, {"input": OTHER})
    check(scorer.texts)


async def test_a_stock_retrieval_chain_with_its_prompts_variable(
    retriever: Any, scorer: RecordingScorer
) -> None:
    prompt = ChatPromptTemplate([("human", "{context}\n\nQuestion: {input}\nHelpful Answer:")])
    model = hybrid(scorer, query_extractor=QueryFromPrompt(prompt, "input"))
    stuff = create_stuff_documents_chain(model, prompt)
    await called(create_retrieval_chain(retriever, stuff), {"input": QUESTION}, {"input": OTHER})
    check(scorer.texts)


# -- an agent -------------------------------------------------------------------------------------


def searching() -> AIMessage:
    call = {"name": "search", "args": {"query": "a rewritten query"}, "id": "call-1"}
    return AIMessage("", tool_calls=[call])


def agent(scorer: RecordingScorer, retriever: Any) -> tuple[Any, Any]:
    """Make an agent whose small model searches once, then answers."""
    model = hybrid(scorer, small=Child(model="small", answers=[searching()]))
    tool = create_retriever_tool(retriever, "search", "Search the documentation.")
    return create_agent(model, [tool]), model


def asking(text: str = QUESTION) -> dict[str, Any]:
    return {"messages": [HumanMessage(text)]}


def check_agent(messages: list[Any], model: Any, texts: list[str]) -> None:
    """The question is scored once; the tool's answer goes back to the model that asked for it."""
    assert [message.type for message in messages] == ["human", "ai", "tool", "ai"]
    assert "route" in messages[2].content
    assert [decision_of(messages[i])["reason"] for i in (1, 3)] == ["score", "sticky"]
    assert len(model.small.asked) == 2
    assert model.large.asked == []
    assert texts == [QUESTION]


def test_an_agent(retriever: Any, scorer: RecordingScorer) -> None:
    chain, model = agent(scorer, retriever)
    check_agent(chain.invoke(asking())["messages"], model, scorer.texts)


async def test_an_agent_asynchronously(retriever: Any, scorer: RecordingScorer) -> None:
    chain, model = agent(scorer, retriever)
    found = await chain.ainvoke(asking())
    check_agent(found["messages"], model, scorer.texts)


def test_an_agent_streaming(retriever: Any, scorer: RecordingScorer) -> None:
    chain, model = agent(scorer, retriever)
    *_, last = chain.stream(asking(), stream_mode="values")
    check_agent(last["messages"], model, scorer.texts)
    list(chain.stream(asking(OTHER), stream_mode="messages"))
    assert scorer.texts == [QUESTION, OTHER]


async def test_an_agent_streaming_asynchronously(retriever: Any, scorer: RecordingScorer) -> None:
    chain, model = agent(scorer, retriever)
    states = [state async for state in chain.astream(asking(), stream_mode="values")]
    check_agent(states[-1]["messages"], model, scorer.texts)


async def test_an_agent_with_the_question_stated(retriever: Any, scorer: RecordingScorer) -> None:
    chain, model = agent(scorer, retriever)
    noisy = with_routing_query(chain, key=lambda value: value["messages"][0].content.split("|")[1])
    value = asking(f"harness notes|{QUESTION}")
    await noisy.ainvoke(value)
    model.small.asked.clear()
    list(noisy.stream(value, stream_mode="messages"))
    assert scorer.texts == [QUESTION] * 2


def test_a_later_turn_is_scored_by_its_own_question(
    retriever: Any, scorer: RecordingScorer
) -> None:
    chain, _ = agent(scorer, retriever)
    first = chain.invoke(asking())["messages"]
    chain.invoke({"messages": [*first, HumanMessage(OTHER)]})
    assert scorer.texts == [QUESTION, OTHER]
