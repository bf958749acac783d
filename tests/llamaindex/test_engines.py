"""Chat engines, response synthesizers and programs behave as with any LLM, over two inner pairs.

The behaviours are those that LlamaIndex's own tests check: what an engine answers, remembers and
streams, with a HybridLLM in the model's place.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from llama_index.core import PromptTemplate, Settings, VectorStoreIndex, get_response_synthesizer
from llama_index.core.chat_engine import (
    CondensePlusContextChatEngine,
    CondenseQuestionChatEngine,
    ContextChatEngine,
    SimpleChatEngine,
)
from llama_index.core.llms import ChatMessage, MessageRole
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.program import FunctionCallingProgram, LLMTextCompletionProgram
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import NodeWithScore, TextNode
from pydantic import BaseModel

from llamaindex_hybrid import HybridLLM
from shared_router.testing import fixed_router
from tests.llamaindex.fakes import (
    ANSWER,
    Decisions,
    FakeLLM,
    PlainLLM,
    decision_of,
    hybrid,
    pair,
)
from tests.llamaindex.operations import Answer

QUESTION = "Add 3 and 4."
NOTE = "numbers can be added, and the order does not matter."
MODES = ["compact", "refine", "tree_summarize", "simple_summarize", "accumulate", "generation"]
ENGINES = ["simple", "context", "condense_question", "condense_plus_context"]


def by_length(text: str) -> float:
    """Send what is short to the small model."""
    return 1.0 if len(text) < 30 else -1.0


@pytest.fixture
def llm(inner: tuple[Any, Any], decisions: Decisions) -> HybridLLM:
    made = HybridLLM(
        small=inner[0],
        large=inner[1],
        router=fixed_router(by_length),
        same_models=True,
        on_decision=[decisions.append],
    )
    Settings.llm = made
    return made


def memory(*messages: ChatMessage) -> ChatMemoryBuffer:
    return ChatMemoryBuffer.from_defaults(chat_history=list(messages), token_limit=3_000)


def sources(count: int = 3) -> list[NodeWithScore]:
    texts = [
        f"Note {i}: numbers can be added, and the order does not matter." for i in range(count)
    ]
    return [
        NodeWithScore(node=TextNode(text=text, id_=str(i)), score=1.0)
        for i, text in enumerate(texts)
    ]


# -- chat engines ---------------------------------------------------------------------------------


def engine(name: str, llm: HybridLLM, index: VectorStoreIndex, *history: ChatMessage) -> Any:
    """Make a chat engine; none has more than two nodes to read."""
    retriever = index.as_retriever(similarity_top_k=2)
    given: dict[str, Any] = {"llm": llm, "memory": memory(*history)}
    if name == "simple":
        return SimpleChatEngine.from_defaults(**given)
    if name == "context":
        return ContextChatEngine.from_defaults(retriever=retriever, **given)
    if name == "condense_question":
        query_engine = RetrieverQueryEngine.from_args(retriever, llm=llm)
        return CondenseQuestionChatEngine.from_defaults(query_engine=query_engine, **given)
    return CondensePlusContextChatEngine.from_defaults(retriever=retriever, **given)


@pytest.mark.parametrize("name", ENGINES)
def test_a_chat_engine_answers_and_remembers(
    name: str,
    llm: HybridLLM,
    inner: tuple[Any, Any],
    index: VectorStoreIndex,
    decisions: Decisions,
) -> None:
    chat = engine(name, llm, index)
    answer = chat.chat(QUESTION)
    assert answer.response == engine(name, inner[0], index).chat(QUESTION).response
    assert said(chat) == [("user", QUESTION), ("assistant", answer.response)]
    assert decisions.candidates == [llm.engine.candidates[0].name]
    chat.reset()
    assert chat.chat_history == []


def said(chat: Any) -> list[tuple[str, str]]:
    return [(message.role.value, message.content or "") for message in chat.chat_history]


@pytest.mark.parametrize("name", ENGINES)
async def test_a_chat_engine_answers_asynchronously(
    name: str, llm: HybridLLM, inner: tuple[Any, Any], index: VectorStoreIndex
) -> None:
    chat = engine(name, llm, index)
    answer = await chat.achat(QUESTION)
    plain = await engine(name, inner[0], index).achat(QUESTION)
    assert answer.response == plain.response == said(chat)[-1][1]


@pytest.mark.parametrize("name", ["simple", "context", "condense_plus_context"])
def test_a_stream_is_remembered_when_it_has_been_read(
    name: str, llm: HybridLLM, inner: tuple[Any, Any], index: VectorStoreIndex
) -> None:
    chat = engine(name, llm, index)
    read = "".join(chat.stream_chat(QUESTION).response_gen)
    plain = engine(name, inner[0], index).stream_chat(QUESTION)
    assert read == "".join(plain.response_gen)
    assert said(chat) == [("user", QUESTION), ("assistant", read)]


@pytest.mark.parametrize("name", ["simple", "context", "condense_plus_context"])
async def test_an_async_stream_is_remembered_when_it_has_been_read(
    name: str, llm: HybridLLM, inner: tuple[Any, Any], index: VectorStoreIndex
) -> None:
    chat = engine(name, llm, index)
    answer = await chat.astream_chat(QUESTION)
    read = "".join([token async for token in answer.async_response_gen()])
    plain = await engine(name, inner[0], index).astream_chat(QUESTION)
    assert read == "".join([token async for token in plain.async_response_gen()])
    for _ in range(100):  # the history is written by a task of its own
        if len(chat.chat_history) == 2:
            break
        await asyncio.sleep(0.01)
    assert said(chat) == [("user", QUESTION), ("assistant", read)]


@pytest.mark.parametrize("name", ENGINES)
def test_a_second_turn_is_routed_by_itself(
    name: str, llm: HybridLLM, index: VectorStoreIndex, decisions: Decisions
) -> None:
    chat = engine(name, llm, index)
    chat.chat(QUESTION)
    decisions.clear()
    chat.chat("And now multiply the sum of both by seven, then take two away from it.")
    assert len(chat.chat_history) == 4
    large = llm.engine.candidates[1].name
    # Condensing with a formatted prompt has no query of its own; all else is long, so: large.
    by_another_text = ("condense_question", "condense_plus_context")
    assert set(decisions.candidates) == {large} or name in by_another_text


@pytest.mark.parametrize("name", ["context", "condense_plus_context"])
def test_sources_are_handed_on(name: str, llm: HybridLLM, index: VectorStoreIndex) -> None:
    answer = engine(name, llm, index).chat(QUESTION)
    assert len(answer.source_nodes) == 2


def test_a_system_prompt_of_an_engine_comes_first(
    index: VectorStoreIndex, decisions: Decisions
) -> None:
    small, large = pair(system_role=MessageRole.DEVELOPER)
    llm = hybrid(small, large, on_decision=[decisions.append])
    SimpleChatEngine.from_defaults(llm=llm, memory=memory(), system_prompt="Be brief.").chat("hi")
    first = small.requests[0]["messages"][0]
    assert (first.role, first.content) == (MessageRole.DEVELOPER, "Be brief.")


def test_messages_of_a_chat_bear_nothing_of_ours(index: VectorStoreIndex) -> None:
    small, large = pair()
    chat = engine("simple", hybrid(small, large), index)
    chat.chat("hi")
    chat.chat("again")
    for message in (*chat.chat_history, *small.requests[-1]["messages"]):
        assert "hybrid_routing" not in str(message.additional_kwargs)


# -- response synthesizers ------------------------------------------------------------------------


def synthesizer(mode: Any, llm: Any, **options: Any) -> Any:
    return get_response_synthesizer(llm=llm, response_mode=mode, **options)


@pytest.mark.parametrize("mode", MODES)
def test_a_synthesizer_answers_with_its_sources(
    mode: Any, llm: HybridLLM, inner: tuple[Any, Any], decisions: Decisions
) -> None:
    answer = synthesizer(mode, llm).synthesize(QUESTION, sources())
    assert str(answer) == str(synthesizer(mode, inner[0]).synthesize(QUESTION, sources()))
    assert len(answer.source_nodes) == 3
    assert set(decisions.candidates) == {llm.engine.candidates[0].name}


@pytest.mark.parametrize("mode", MODES)
async def test_a_synthesizer_answers_asynchronously(
    mode: Any, llm: HybridLLM, inner: tuple[Any, Any]
) -> None:
    answer = await synthesizer(mode, llm, use_async=True).asynthesize(QUESTION, sources())
    plain = await synthesizer(mode, inner[0], use_async=True).asynthesize(QUESTION, sources())
    assert str(answer) == str(plain)


STREAMING = ["compact", "refine", "tree_summarize", "simple_summarize"]


@pytest.mark.parametrize("mode", STREAMING)
def test_a_synthesizer_streams(mode: Any, llm: HybridLLM, inner: tuple[Any, Any]) -> None:
    ours, plain = (
        synthesizer(mode, model, streaming=True).synthesize(QUESTION, sources())
        for model in (llm, inner[0])
    )
    assert "".join(ours.response_gen) == "".join(plain.response_gen)


@pytest.mark.parametrize("mode", STREAMING)
async def test_a_synthesizer_streams_asynchronously(
    mode: Any, llm: HybridLLM, inner: tuple[Any, Any]
) -> None:
    read = []
    for model in (llm, inner[0]):
        answer = await synthesizer(mode, model, streaming=True).asynthesize(QUESTION, sources())
        read.append("".join([token async for token in answer.async_response_gen()]))
    assert read[0] == read[1]


def test_without_sources_no_model_is_asked(llm: HybridLLM, decisions: Decisions) -> None:
    answer = get_response_synthesizer(llm=llm).synthesize(QUESTION, [])
    assert str(answer) == "Empty Response"
    assert decisions == []


def test_a_template_of_ones_own_reaches_the_model() -> None:
    small, large = pair()
    template = PromptTemplate("Only by {context_str} answer {query_str}!")
    llm = hybrid(small, large)
    get_response_synthesizer(llm=llm, text_qa_template=template).synthesize(QUESTION, sources(1))
    assert small.requests[0]["messages"][-1].content.startswith("Only by Note 0")


def test_what_was_retrieved_is_packed_for_the_narrowest_window(decisions: Decisions) -> None:
    small, large = pair()
    small.context_window, large.context_window = 900, 100_000
    llm = hybrid(small, large, on_decision=[decisions.append])
    get_response_synthesizer(llm=llm, response_mode="compact").synthesize(QUESTION, sources(60))
    assert len(small.requests) > 1
    assert set(decisions.reasons) == {"score"}


# -- programs -------------------------------------------------------------------------------------


class Song(BaseModel):
    """A song."""

    title: str
    seconds: int


@pytest.mark.parametrize("score", [1.0, -1.0], ids=["small", "large"])
async def test_a_function_program(score: float, decisions: Decisions) -> None:
    llm = hybrid(score=score, on_decision=[decisions.append])
    program = FunctionCallingProgram.from_defaults(
        output_cls=Song, prompt_template_str="A song of 90 seconds called '{topic}'", llm=llm
    )
    expected = Song(title="rain", seconds=90)
    assert program(topic="rain") == expected
    assert await program.acall(topic="rain") == expected
    assert list(program.stream_call(topic="rain"))[-1] == expected
    assert [song async for song in await program.astream_call(topic="rain")][-1] == expected
    assert decisions.candidates == ["small" if score > 0 else "large"] * 4


def test_a_function_program_asks_the_model_that_can(decisions: Decisions) -> None:
    llm = hybrid(PlainLLM(name="small"), on_decision=[decisions.append])
    program = FunctionCallingProgram.from_defaults(
        output_cls=Song, prompt_template_str="A song of 90 seconds called 'rain'", llm=llm
    )
    assert program() == Song(title="rain", seconds=90)
    assert decisions.candidates == ["large"]


def test_a_function_program_needs_a_model_that_can() -> None:
    llm = hybrid(PlainLLM(name="small"), PlainLLM(name="large"))
    with pytest.raises(ValueError, match="does not support function calling"):
        FunctionCallingProgram.from_defaults(output_cls=Song, prompt_template_str="A song", llm=llm)


@pytest.mark.parametrize("kinds", [(FakeLLM, FakeLLM), (PlainLLM, FakeLLM), (PlainLLM, PlainLLM)])
async def test_a_text_program(kinds: tuple[Any, Any], decisions: Decisions) -> None:
    models = [kind(name=name) for kind, name in zip(kinds, ("small", "large"), strict=True)]
    llm = hybrid(*models, on_decision=[decisions.append])
    program = LLMTextCompletionProgram.from_defaults(
        output_cls=Song, prompt_template_str="A song of 90 seconds called '{topic}'", llm=llm
    )
    assert program(topic="rain") == Song(title="rain", seconds=90)
    assert await program.acall(topic="rain") == Song(title="rain", seconds=90)
    assert decisions.candidates == ["small"] * 2


def test_a_structured_llm_chats_and_completes() -> None:
    llm = hybrid().as_structured_llm(Answer)
    expected = '{"text":"rain","number":3}'
    assert llm.chat([ChatMessage(content="3 times 'rain'")]).message.content == expected
    assert llm.complete("3 times 'rain'").text == expected
    *_, last = llm.stream_chat([ChatMessage(content="3 times 'rain'")])
    assert last.raw == Answer(text="rain", number=3)


async def test_a_structured_llm_takes_dials_in_every_way(decisions: Decisions) -> None:
    llm = hybrid(on_decision=[decisions.append]).as_structured_llm(Answer)
    prompt = PromptTemplate("{query_str} by {task}")
    asked = [ChatMessage(content="3 times 'rain'")]
    llm.chat(asked, threshold=2.0)
    await llm.achat(asked, threshold=2.0)
    list(llm.stream_chat(asked, threshold=2.0))
    [_ async for _ in await llm.astream_chat(asked, threshold=2.0)]
    llm.predict(prompt, query_str="q", task="t", threshold=2.0)
    await llm.apredict(prompt, query_str="q", task="t", threshold=2.0)
    list(llm.stream(prompt, query_str="q", task="t", threshold=2.0))
    [_ async for _ in await llm.astream(prompt, query_str="q", task="t", threshold=2.0)]
    assert decisions.candidates == ["large"] * 8
    assert decisions.sources == ["last_user_message"] * 4 + ["prompt_variable"] * 4
    assert {decision.task for decision in decisions} == {None}


def test_everything_takes_it_as_the_default_model(index: VectorStoreIndex) -> None:
    Settings.llm = hybrid()
    assert Settings.llm.class_name() == "HybridLLM"
    assert str(index.as_query_engine().query("which?")) == ANSWER
    assert decision_of(Settings.llm.complete("which?"))["candidate"] == "small"
