"""The pocket server through people's clients: ChatOpenAI, OpenAILike, and HybridChatModel."""

from __future__ import annotations

import asyncio

import openai
import pytest

pytest.importorskip("langchain_openai")
pytest.importorskip("llama_index.llms.openai_like")

from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_openai import ChatOpenAI
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike

from cookbook.pocket.batches import BatchedModel
from cookbook.pocket.chat import PocketChatModel
from cookbook.pocket.generation import LONGEST_ANSWER
from cookbook.pocket.llama_index import PocketLLM
from langchain_hybrid import HybridChatModel
from langchain_hybrid.models import asking
from langchain_hybrid.settings import answer_settings
from llamaindex_hybrid.logprobs import logprobs_of
from llamaindex_hybrid.models import asking as asking_llm
from shared_router import RoutingDataset
from shared_router.collecting.collect import collect
from shared_router.data.answers import Sampling
from shared_router.testing import fixed_router
from tests.collecting.material import Right

REVERSE = "Reverse the word bakolit."
PAIR = ("small", "large")


@pytest.fixture
async def connections():
    """Return connections that are closed with the test: what the clients make they never close."""
    with openai.DefaultHttpxClient(timeout=60) as sync_one:
        async with openai.DefaultAsyncHttpxClient(timeout=60) as async_one:
            yield sync_one, async_one


@pytest.fixture
def over_http(url, connections):
    """Make a ChatOpenAI of a model of the pair."""
    shared = {"base_url": url, "api_key": "none", "stream_usage": True, "max_retries": 0}
    shared |= {"http_client": connections[0], "http_async_client": connections[1]}

    def make(name="small", **settings):
        return ChatOpenAI(model=f"pocket-{name}", **shared, **settings)

    return make


@pytest.fixture
def like_openai(url, connections):
    """Make an OpenAILike of a model of the pair."""
    shared = {"api_base": url, "api_key": "none", "max_retries": 0}
    shared |= {"http_client": connections[0], "async_http_client": connections[1]}

    def make(name="small", **settings):
        settings = {"is_chat_model": True, "temperature": 0, **settings}
        return OpenAILike(model=f"pocket-{name}", **shared, **settings)

    return make


def in_process(name="small"):
    return PocketChatModel(model_name=name)


def merged(chunks):
    return sum(chunks[1:], chunks[0])


def counts(usage):
    return {name: usage[name] for name in ("input_tokens", "output_tokens", "total_tokens")}


# -- LangChain ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAIR)
def test_chat_openai_answers_as_in_process(over_http, asked, name):
    there, here = over_http(name), in_process(name)
    for text in asked:
        reply, own = there.invoke(text), here.invoke(text)
        assert reply.content == own.content
        assert counts(reply.usage_metadata) == own.usage_metadata
        assert reply.response_metadata["model_name"] == f"pocket-{name}"
        assert reply.response_metadata["finish_reason"] == "stop"


def test_chat_openai_streams_with_usage(over_http, asked):
    model = over_http()
    for text in asked[:4]:
        whole = model.invoke(text)
        chunks = list(model.stream(text))
        streamed = merged(chunks)
        assert streamed.content == whole.content
        assert sum(bool(chunk.content) for chunk in chunks) == len(whole.content)
        assert counts(streamed.usage_metadata) == counts(whole.usage_metadata)


async def test_chat_openai_async(over_http, asked):
    model = over_http()
    whole = await model.ainvoke(asked[0])
    streamed = merged([chunk async for chunk in model.astream(asked[0])])
    assert whole.content == streamed.content == in_process().invoke(asked[0]).content
    assert counts(whole.usage_metadata) == counts(streamed.usage_metadata)
    together = await asyncio.gather(*map(model.ainvoke, asked))
    assert [reply.content for reply in together] == [
        in_process().invoke(text).content for text in asked
    ]


def test_chat_openai_stop_and_max_tokens(over_http):
    whole = in_process().invoke(REVERSE).content
    mark = whole[1:3]
    assert over_http().invoke(REVERSE, stop=[mark]).content == whole[: whole.index(mark)]
    assert (
        merged(list(over_http().stream(REVERSE, stop=[mark]))).content
        == (whole[: whole.index(mark)])
    )
    cut = over_http(max_tokens=2).invoke(REVERSE)
    assert cut.content == whole[:2]
    assert cut.response_metadata["finish_reason"] == "length"
    assert cut.usage_metadata["output_tokens"] == 2


def test_chat_openai_samples_repeat_with_their_seed(over_http):
    model = over_http(temperature=2)
    found = [model.invoke(REVERSE, seed=seed).content for seed in range(8)]
    assert [model.invoke(REVERSE, seed=seed).content for seed in range(8)] == found
    assert len(set(found)) > 1
    hot = PocketChatModel.small(temperature=2)
    assert found == [hot.invoke(REVERSE, seed=seed).content for seed in range(8)]
    assert len({model.invoke(REVERSE).content for _ in range(12)}) > 1


def told_by(message):
    return [each["logprob"] for each in message.response_metadata["logprobs"]["content"]]


@pytest.mark.parametrize("temperature", [0, 2])
async def test_chat_openai_log_probabilities(over_http, temperature):
    settings = {"temperature": temperature, "seed": 5}
    there, here = over_http(**settings), PocketChatModel.small(**settings, logprobs=True)
    own = here.invoke(REVERSE)
    chunks = [chunk async for chunk in there.bind(logprobs=True).astream(REVERSE)]
    for reply in (
        there.invoke(REVERSE, logprobs=True),
        await there.ainvoke(REVERSE, logprobs=True, top_logprobs=1),
        over_http(logprobs=True, **settings).invoke(REVERSE),
        merged(chunks),
        merged(list(here.stream(REVERSE))),
    ):
        assert reply.text == own.text
        assert told_by(reply) == told_by(own)
        assert len(told_by(reply)) == reply.usage_metadata["output_tokens"]
    assert "logprobs" not in PocketChatModel.small().invoke(REVERSE).response_metadata


def test_chat_openai_errors(over_http):
    with pytest.raises(openai.NotFoundError, match="there are pocket-small, pocket-large"):
        over_http("huge").invoke("hi")
    with pytest.raises(openai.BadRequestError, match="each request gets one answer"):
        over_http(n=2).invoke("hi")
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    with pytest.raises(openai.BadRequestError, match="tools is not supported"):
        over_http().bind_tools([tool]).invoke("hi")


def test_many_threads_at_once(over_http, asked):
    replies = over_http("large").batch(asked, config={"max_concurrency": 8})
    here = in_process("large")
    assert [reply.content for reply in replies] == [here.invoke(text).content for text in asked]


# -- LlamaIndex -----------------------------------------------------------------------------------


@pytest.mark.parametrize("is_chat_model", [True, False])
@pytest.mark.parametrize("name", PAIR)
def test_openai_like_answers_as_in_process(like_openai, asked, name, is_chat_model):
    there, here = like_openai(name, is_chat_model=is_chat_model), in_process(name)
    for text in asked[:6]:
        own = here.invoke(text)
        reply = there.complete(text)
        assert reply.text == own.content
        assert reply.raw.usage.total_tokens == own.usage_metadata["total_tokens"]
        streamed = list(there.stream_complete(text))
        assert streamed[-1].text == "".join(each.delta for each in streamed) == own.content


async def test_openai_like_async(like_openai, asked):
    model, talk = like_openai(), [ChatMessage(role="user", content=asked[1])]
    own = in_process().invoke(asked[1]).content
    assert (await model.achat(talk)).message.content == own
    stream = await model.astream_chat(talk)
    assert "".join([each.delta async for each in stream]) == own
    together = await asyncio.gather(*map(model.acomplete, asked))
    assert [reply.text for reply in together] == [
        in_process().invoke(text).content for text in asked
    ]


def test_openai_like_counts_tokens(like_openai, asked):
    told = {"stream_options": {"include_usage": True}}
    for settings in ({}, {"additional_kwargs": told}):
        counter = TokenCountingHandler()
        model = like_openai(callback_manager=CallbackManager([counter]), **settings)
        if settings:
            list(model.stream_chat([ChatMessage(role="user", content=asked[0])]))
        else:
            model.chat([ChatMessage(role="user", content=asked[0])])
        own = in_process().invoke(asked[0]).usage_metadata
        assert counter.prompt_llm_token_count == own["input_tokens"]
        assert counter.completion_llm_token_count == own["output_tokens"]


def test_openai_like_stop_max_tokens_and_seed(like_openai):
    whole = in_process().invoke(REVERSE).content
    mark = whole[1:3]
    assert like_openai().complete(REVERSE, stop=[mark]).text == whole[: whole.index(mark)]
    assert like_openai(max_tokens=2).complete(REVERSE).text == whole[:2]
    hot = like_openai(temperature=2)
    found = [hot.complete(REVERSE, seed=seed).text for seed in range(8)]
    assert found == [
        PocketChatModel.small(temperature=2, seed=seed).invoke(REVERSE).content for seed in range(8)
    ]


@pytest.mark.parametrize("temperature", [0, 2])
async def test_openai_like_log_probabilities(like_openai, temperature):
    """LlamaIndex keeps the likeliest token of each step; what was sampled stands in `raw`."""
    there = like_openai(temperature=temperature, logprobs=True, top_logprobs=1)
    here = PocketLLM.small(temperature=temperature, seed=5, logprobs=True)
    talk = [ChatMessage(role="user", content=REVERSE)]
    own = here.chat(talk)
    for reply in (there.chat(talk, seed=5), await there.achat(talk, seed=5)):
        assert reply.message.content == own.message.content
        likeliest = [tokens[0].logprob for tokens in reply.logprobs]
        sampled = [tokens[0].logprob for tokens in own.logprobs]
        assert all(map(float.__ge__, likeliest, sampled))
        assert (likeliest == sampled) == (temperature == 0)
        assert logprobs_of(reply) == logprobs_of(own) == tuple(sampled)
    assert there.complete(REVERSE, seed=5).text == own.message.content
    assert PocketLLM.small().chat(talk).logprobs is None


def test_openai_like_errors(like_openai):
    with pytest.raises(openai.NotFoundError, match="there are pocket-small"):
        like_openai("huge").complete("hi")


# -- collected ------------------------------------------------------------------------------------


async def collected(asked, model, out):
    await collect(asked, {"small": model}, out, 1, Right())
    return [record.outcomes["small"] for record in RoutingDataset.load(out)]


async def test_every_client_records_the_same_of_an_answer(over_http, like_openai, asked, tmp_path):
    greedy = {"temperature": 0, "max_tokens": LONGEST_ANSWER}
    models = [
        asking(over_http(**greedy)),
        asking_llm(like_openai(**greedy)),
        asking(PocketChatModel.small(), Sampling(temperature=0)),
        asking_llm(PocketLLM.small()),
    ]
    in_batches = BatchedModel("small", temperature=0)
    expected = await collected(asked, in_batches, tmp_path / "expected.jsonl")
    served = answer_settings(PocketChatModel.small(), (), {})
    for number, model in enumerate(models):
        found = await collected(asked, model, tmp_path / f"{number}.jsonl")
        for one, other in zip(found, expected, strict=True):
            assert one.response == other.response
            assert one.logprobs[0] == pytest.approx(other.logprobs[0], abs=2e-3)
            assert one.settings == other.settings
            assert one.settings.alike(served)


# -- the routed whole -----------------------------------------------------------------------------


@pytest.fixture
def routed(over_http):
    """Send short questions to the small model, long ones to the large one."""
    names = ("pocket-small", "pocket-large")
    router = fixed_router(lambda text: 1.0 if len(text) < 20 else -1.0, candidates=names)
    return HybridChatModel(small=over_http("small"), large=over_http("large"), router=router)


@pytest.mark.parametrize(
    ("text", "name"), [("Add 2 and 3.", "small"), ("Sort the letters of bakolite.", "large")]
)
def test_a_routed_call_over_http(routed, text, name):
    counter = UsageMetadataCallbackHandler()
    reply = routed.invoke(text, config={"callbacks": [counter]})
    own = in_process(name).invoke(text)
    assert reply.content == own.content
    assert reply.response_metadata["hybrid_routing"]["candidate"] == f"pocket-{name}"
    assert reply.response_metadata["model_name"] == f"pocket-{name}"
    assert {used: counts(usage) for used, usage in counter.usage_metadata.items()} == {
        f"pocket-{name}": own.usage_metadata
    }


@pytest.mark.parametrize(
    ("text", "name"), [("Add 2 and 3.", "small"), ("Sort the letters of bakolite.", "large")]
)
async def test_a_routed_stream_over_http(routed, text, name):
    own = in_process(name).invoke(text)
    for chunks in (list(routed.stream(text)), [chunk async for chunk in routed.astream(text)]):
        whole = merged(chunks)
        assert whole.content == own.content
        assert chunks[0].response_metadata["hybrid_routing"]["candidate"] == f"pocket-{name}"
        assert counts(whole.usage_metadata) == own.usage_metadata
