"""What is claimed of a pipeline's calls: answers to single questions are promised, no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from llama_index.core import Settings
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.core.chat_engine import CondenseQuestionChatEngine, ContextChatEngine
from llama_index.core.indices.query.query_transform import HyDEQueryTransform
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.prompts import (
    ChatPromptTemplate,
    PromptTemplate,
    PromptType,
    SelectorPromptTemplate,
)
from llama_index.core.prompts.utils import is_chat_model
from llama_index.core.query_engine import RouterQueryEngine, TransformQueryEngine
from llama_index.core.selectors import LLMSingleSelector

from llamaindex_hybrid import track_queries
from shared_router import routing_query
from tests.llamaindex.fronts import LlamaIndex, promising
from tests.llamaindex.test_rag import (
    FOLLOW_UP,
    Bench,
    ask,
    condense_plus_context,
    context,
    memory,
    simple,
    tools,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from llama_index.core import VectorStoreIndex

CLAIMS: dict[str, tuple[Callable[[Bench], Any], list[tuple[str, str | None]]]] = {
    "an answer": (lambda bench: bench.index.as_query_engine(llm=bench.llm), [("promised", None)]),
    "a chat": (simple, [("void", "conversation")]),
    "a chat with context": (context, [("void", "conversation")]),
    "condensed beside context": (
        condense_plus_context, [("void", "kind of call"), ("void", "conversation")]),
    "a condensed question": (
        lambda bench: CondenseQuestionChatEngine.from_defaults(
            query_engine=bench.index.as_query_engine(llm=bench.llm),
            llm=bench.llm,
            memory=memory(),
        ),
        [("void", "conversation"), ("promised", None)]),
    "a choice": (
        lambda bench: RouterQueryEngine(
            selector=LLMSingleSelector.from_defaults(llm=bench.llm),
            query_engine_tools=tools(bench),
        ),
        [("void", "kind of call"), ("promised", None)]),
    "a search made up": (
        lambda bench: TransformQueryEngine(
            bench.index.as_query_engine(llm=bench.llm), HyDEQueryTransform(llm=bench.llm)
        ),
        [("void", "kind of call"), ("promised", None)]),
}  # fmt: skip


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("pipeline", CLAIMS)
async def test_what_a_pipelines_calls_claim(
    pipeline: str, way: str, index: VectorStoreIndex
) -> None:
    make, expected = CLAIMS[pipeline]
    bench = Bench(index, options={"router": promising(), "max_quality_drop": 0.05})
    Settings.llm = bench.llm
    engine = make(bench)
    name = "chat" if hasattr(engine, "chat") else "query"
    with track_queries():
        assert await ask(engine, way, FOLLOW_UP, name)
    claims = [(each.guarantee, each.guarantee_reason) for each in bench.decisions]
    assert claims == expected


def test_the_first_turn_of_a_chat_with_context_is_an_answer(index: VectorStoreIndex) -> None:
    bench = Bench(index, options={"router": promising(), "max_quality_drop": 0.05})
    ContextChatEngine.from_defaults(
        retriever=bench.retriever,
        llm=bench.llm,
        memory=ChatMemoryBuffer.from_defaults(token_limit=3_000),
    ).chat(FOLLOW_UP)
    assert [each.guarantee for each in bench.decisions] == ["promised"]


# -- prompts of one's own -------------------------------------------------------------------------

QUESTION_ALONE = ChatMessage("{query_str}", role="user")
EARLIER = [ChatMessage("Hello.", role="user"), ChatMessage("Hello.", role="assistant")]
IMAGE = ImageBlock(url="https://example.com/a.png")
PICTURE = ChatMessage(role="user", blocks=[TextBlock(text="{query_str}"), IMAGE])
SELECT = PromptTemplate("{query_str}", prompt_type=PromptType.SINGLE_SELECT)
PROMPTS: dict[str, tuple[Any, dict[str, Any], tuple[str, str | None]]] = {
    "a question": (PromptTemplate("{query_str}"), {}, ("promised", None)),
    "messages": (ChatPromptTemplate([QUESTION_ALONE]), {}, ("promised", None)),
    "a conversation": (
        ChatPromptTemplate([*EARLIER, QUESTION_ALONE]), {}, ("void", "conversation")),
    "a conversation for chat models": (
        SelectorPromptTemplate(
            PromptTemplate("{query_str}"),
            conditionals=[(is_chat_model, ChatPromptTemplate([*EARLIER, QUESTION_ALONE]))],
        ), {}, ("void", "conversation")),
    "a conversation as a text": (
        PromptTemplate("{chat_history}\n{query_str}"), {"chat_history": "user: Hello."},
        ("void", "conversation")),
    "none yet": (
        PromptTemplate("{chat_history}\n{query_str}"), {"chat_history": ""}, ("promised", None)),
    "a history that is no text": (
        PromptTemplate("{chat_history}\n{query_str}"), {"chat_history": np.zeros(2)},
        ("promised", None)),
    "a picture": (ChatPromptTemplate([PICTURE]), {}, ("void", "kind of call")),
    "a choice": (SELECT, {}, ("void", "kind of call")),
}  # fmt: skip


@pytest.mark.parametrize("shape", PROMPTS)
async def test_what_a_prompts_call_claims(shape: str) -> None:
    prompt, values, expected = PROMPTS[shape]
    llm = LlamaIndex.build(promising(), max_quality_drop=0.05)
    found = llm.route(prompt, query_str="Who?", **values)
    assert (found.guarantee, found.guarantee_reason) == expected
    decisions: list[Any] = []
    llm = LlamaIndex.build(promising(), max_quality_drop=0.05, on_decision=[decisions.append])
    llm.predict(prompt, query_str="Who?", **values)
    await llm.apredict(prompt, query_str="Who?", **values)
    list(llm.stream(prompt, query_str="Who?", **values))
    assert {(each.guarantee, each.guarantee_reason) for each in decisions} == {expected}


def test_a_transcript_of_a_conversation_is_one() -> None:
    llm = LlamaIndex.build(promising(), max_quality_drop=0.05)
    said = "\t<user>\n\t\t<message>Who?</message>\n\t</user>\n"
    found = llm.route([ChatMessage(f"<current_conversation>\n{said}", role="user")])
    assert (found.guarantee, found.guarantee_reason) == ("void", "conversation")
    with routing_query("Who?"):  # whoever states the question does not make it a first turn
        assert llm.route([*EARLIER, ChatMessage("Who?", role="user")]).guarantee == "void"
        assert llm.route("Who?").guarantee == "promised"
