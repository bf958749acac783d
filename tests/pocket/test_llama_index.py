"""The pocket models in LlamaIndex: the same answers, streamed, counted and priced."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading

import pytest

pytest.importorskip("llama_index.core")

from llama_index.core import Document, PromptTemplate, SummaryIndex
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.llms import ChatMessage, MessageRole
from pydantic import ValidationError

from cookbook.pocket.answering import USD_PER_PARAMETER_TOKEN, in_threads, pocket_model
from cookbook.pocket.chat import PocketChatModel
from cookbook.pocket.llama_index import PocketLLM

REVERSE = "Reverse the word bakolit."


def user(text):
    return [ChatMessage(role=MessageRole.USER, content=text)]


@pytest.fixture
def counter():
    return TokenCountingHandler()


@pytest.fixture
def counted(counter):
    return PocketLLM.small(callback_manager=CallbackManager([counter]))


@pytest.mark.parametrize("name", ["small", "large"])
def test_it_answers_as_its_langchain_sibling(asked, name):
    llm, sibling = PocketLLM(model_name=name), PocketChatModel(model_name=name)
    for text in asked:
        own = sibling.invoke(text)
        for reply in (llm.complete(text), llm.chat(user(text))):
            assert str(reply).removeprefix("assistant: ") == own.content
            assert reply.raw["usage"] == {
                "prompt_tokens": own.usage_metadata["input_tokens"],
                "completion_tokens": own.usage_metadata["output_tokens"],
                "total_tokens": own.usage_metadata["total_tokens"],
            }
            assert reply.additional_kwargs["cost_usd"] == own.response_metadata["cost_usd"]
            assert reply.raw["model"] == own.response_metadata["model_name"]
            assert reply.delta is None


def test_cost_is_in_proportion_to_parameters():
    for llm in (PocketLLM.small(), PocketLLM.large()):
        raw = llm.complete(REVERSE).raw
        price = llm.parameters * USD_PER_PARAMETER_TOKEN
        assert raw["cost_usd"] == pytest.approx(raw["usage"]["total_tokens"] * price)
        known = pocket_model(llm.model_name)
        assert known.usd_per_million_tokens == pytest.approx(price * 1e6)


async def test_all_eight_endpoints_agree(asked):
    llm, text = PocketLLM.small(), asked[2]
    whole = llm.complete(text)
    assert llm.chat(user(text)).message.content == whole.text
    assert (await llm.acomplete(text)).text == whole.text
    assert (await llm.achat(user(text))).message.content == whole.text
    for stream in (
        list(llm.stream_complete(text)),
        list(llm.stream_chat(user(text))),
        [each async for each in await llm.astream_complete(text)],
        [each async for each in await llm.astream_chat(user(text))],
    ):
        assert "".join(each.delta for each in stream) == whole.text
        assert all(len(each.delta) <= 1 for each in stream)
        assert [len(getattr(e, "text", None) or str(e).removeprefix("assistant: ")) for e in stream
                ] == [*range(1, len(whole.text) + 1), len(whole.text)]  # fmt: skip
        assert stream[-1].raw == whole.raw
        assert all(each.raw is None for each in stream[:-1])


async def test_tokens_are_counted_once_by_every_endpoint(counter, counted, asked):
    text = asked[0]
    own = PocketChatModel.small().invoke(text).usage_metadata
    calls = [
        lambda: counted.complete(text),
        lambda: counted.chat(user(text)),
        lambda: list(counted.stream_complete(text)),
        lambda: list(counted.stream_chat(user(text))),
    ]
    for call in calls:
        call()
    await counted.acomplete(text)
    await counted.achat(user(text))
    async for _ in await counted.astream_complete(text):
        pass
    async for _ in await counted.astream_chat(user(text)):
        pass
    assert [
        (event.prompt_token_count, event.completion_token_count)
        for event in counter.llm_token_counts
    ] == [(own["input_tokens"], own["output_tokens"])] * 8


@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")  # its own
def test_open_inference_sees_usage_and_the_finish(asked):
    pytest.importorskip("openinference.instrumentation.llama_index")
    from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = LlamaIndexInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    try:
        PocketLLM.small().complete(asked[0])
        list(PocketLLM.small().stream_chat(user(asked[0])))
    finally:
        instrumentor.uninstrument()
    own = PocketChatModel.small().invoke(asked[0]).usage_metadata
    spans = exporter.get_finished_spans()
    assert len(spans) == 2
    for span in spans:
        assert span.attributes["llm.token_count.prompt"] == own["input_tokens"]
        assert span.attributes["llm.token_count.completion"] == own["output_tokens"]
        assert span.attributes["llm.token_count.total"] == own["total_tokens"]
        assert span.attributes["llm.model_name"] == "pocket-small"
        assert span.attributes["llm.finish_reason"] == "stop"


async def test_async_calls_leave_the_loop_free(asked):
    beats = 0

    async def beat():
        nonlocal beats
        while True:
            beats += 1
            await asyncio.sleep(0)

    beating = asyncio.create_task(beat())
    llm = PocketLLM.large()
    await llm.acomplete(asked[0])
    in_whole, beats = beats, 0
    async for _ in await llm.astream_complete(asked[0]):
        pass
    beating.cancel()
    assert in_whole > 10
    assert beats > 10


async def test_concurrent_async_calls_get_their_own_answers(asked):
    llm = PocketLLM.large()
    together = await asyncio.gather(*map(llm.acomplete, asked))
    assert [reply.text for reply in together] == [llm.complete(text).text for text in asked]


def test_settings_of_the_model_and_of_the_call():
    llm = PocketLLM.small()
    whole = llm.complete(REVERSE).text
    mark = whole[1:3]
    for stop in (mark, [mark, "#"]):
        reply = llm.complete(REVERSE, stop=stop)
        assert (reply.text, reply.raw["finish_reason"]) == (whole[: whole.index(mark)], "stop")
    cut = llm.complete(REVERSE, max_tokens=2)
    assert (cut.text, cut.raw["finish_reason"]) == (whole[:2], "length")
    assert PocketLLM.small(max_tokens=3).complete(REVERSE).text == whole[:3]


def test_samples_differ_and_a_seed_repeats_them():
    hot = PocketLLM.small(temperature=2.0)
    assert len({hot.complete(REVERSE).text for _ in range(12)}) > 1
    assert len({hot.complete(REVERSE, seed=3).text for _ in range(4)}) == 1
    assert len({PocketLLM.small(temperature=2.0, seed=3).complete(REVERSE).text,
                hot.complete(REVERSE, seed=3).text}) == 1  # fmt: skip


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"max_tokens": 0}, {"max_tokens": 17}])
def test_numbers_out_of_range(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        PocketLLM.small(**wrong)


def test_the_last_user_message_is_the_question(asked):
    llm = PocketLLM.small()
    talk = [
        ChatMessage(role=MessageRole.SYSTEM, content="Be kind."),
        *user("Add 2 and 3."),
        ChatMessage(role=MessageRole.ASSISTANT, content="5"),
        *user(asked[3]),
        ChatMessage(role=MessageRole.ASSISTANT, content="Let me see"),
    ]
    assert llm.chat(talk).message.content == llm.complete(asked[3]).text


def test_it_describes_itself():
    found = PocketLLM.large(max_tokens=8).metadata
    assert (found.model_name, found.context_window, found.num_output) == ("pocket-large", 128, 8)
    assert found.is_chat_model
    assert not found.is_function_calling_model


def test_it_works_in_a_pipeline(asked):
    llm = PocketLLM.large(context_window=4000)
    assert llm.predict(PromptTemplate("{question}"), question=asked[0]) == (
        llm.complete(asked[0]).text
    )
    index = SummaryIndex.from_documents([Document(text="If lime is 2, pink is 9.")])
    template = PromptTemplate("{context_str} what is {query_str}?")
    engine = index.as_query_engine(llm=llm, text_qa_template=template)
    assert str(engine.query("pink")) == llm.complete("If lime is 2, pink is 9. what is pink?").text


def test_copies_and_pickles_answer_too():
    llm = PocketLLM.small(seed=3)
    for again in (copy.deepcopy(llm), llm.model_copy(), pickle.loads(pickle.dumps(llm))):  # noqa: S301
        assert again.complete(REVERSE).text == llm.complete(REVERSE).text
    chat = PocketChatModel.small()
    again = pickle.loads(pickle.dumps(copy.deepcopy(chat)))  # noqa: S301
    assert again.invoke(REVERSE).content == chat.invoke(REVERSE).content


async def test_whoever_leaves_stops_the_generation():
    left = threading.Event()

    def endless():
        try:
            while True:
                yield "a"
        finally:
            left.set()

    async for _ in (drawn := in_threads(endless())):
        break
    await drawn.aclose()
    assert left.is_set()


async def test_whoever_is_cancelled_while_a_token_is_computed_stops_the_generation():
    computing, computed, left = threading.Event(), threading.Event(), threading.Event()

    def slow():
        try:
            while True:
                computing.set()
                computed.wait(60)
                yield "a"
        finally:
            left.set()

    async def draw():
        async for _ in in_threads(slow()):
            pass

    drawing = asyncio.create_task(draw())
    await asyncio.to_thread(computing.wait, 60)
    drawing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await drawing
    assert not left.is_set()
    computed.set()
    assert await asyncio.to_thread(left.wait, 60)
