"""What other ways of wrapping a chat model break, and this one must not: one test a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import SummarizationMiddleware
from langchain.agents.structured_output import ToolStrategy
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.rate_limiters import BaseRateLimiter
from langchain_core.tools import tool
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from pydantic import BaseModel

from tests.langchain.fakes import ANSWER, FakeChat, Recorder, hybrid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_hybrid import HybridChatModel


@tool
def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"Sunny in {city}."


class Report(BaseModel):
    """A report of the weather."""

    city: str
    degrees: int


def test_it_is_a_base_chat_model() -> None:
    assert isinstance(hybrid(), BaseChatModel)


async def call(model: Any, way: str, config: Any = None) -> Any:
    """Call a model one way or another, to its end."""
    if way == "invoke":
        return model.invoke("Hi", config)
    if way == "ainvoke":
        return await model.ainvoke("Hi", config)
    if way == "stream":
        return list(model.stream("Hi", config))
    if way == "astream":
        return [chunk async for chunk in model.astream("Hi", config)]
    if way == "batch":
        return model.batch(["Hi"], config)
    return await model.abatch(["Hi"], config)


WAYS = ("invoke", "ainvoke", "stream", "astream", "batch", "abatch")


@pytest.mark.parametrize("way", WAYS)
async def test_tokens_are_counted_once(way: str) -> None:
    counter = UsageMetadataCallbackHandler()
    await call(hybrid(), way, {"callbacks": [counter]})
    assert {name: usage["total_tokens"] for name, usage in counter.usage_metadata.items()} == {
        "small": 15
    }


@pytest.mark.parametrize("way", WAYS)
async def test_the_called_models_run_is_a_child_of_the_chain_run(way: str) -> None:
    seen = Recorder()
    await call(hybrid(), way, {"callbacks": [seen]})
    assert seen.llms[0].parent_id == seen.root.id
    assert (seen.root.name, seen.root.kind) == ("HybridChatModel", "chain")


@pytest.mark.parametrize("way", WAYS)
async def test_the_model_really_called_is_named_in_its_run(way: str) -> None:
    seen = Recorder()
    await call(hybrid(score=-1.0), way, {"callbacks": [seen]})
    assert [run.metadata["ls_model_name"] for run in seen.llms] == ["large"]


class State(TypedDict):
    messages: Annotated[list[BaseMessage], add_messages]


def chat_graph(model: HybridChatModel, *, sync: bool) -> Any:
    """Make a graph of one node that answers."""

    def answer(state: State) -> Any:
        return {"messages": [model.invoke(state["messages"])]}

    async def aanswer(state: State) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(State)
    graph.add_node("answer", answer if sync else aanswer)
    graph.add_edge(START, "answer")
    return graph.compile()


TOKENS = ["Hello ", "to ", "you, ", "friend."]
ASKED = {"messages": [HumanMessage("Hi")]}


def test_a_graph_streams_every_token_once() -> None:
    graph = chat_graph(hybrid(), sync=True)
    streamed = [chunk for chunk, _ in graph.stream(ASKED, stream_mode="messages")]
    assert [chunk.text for chunk in streamed if chunk.text] == TOKENS


async def test_an_async_graph_streams_every_token_once() -> None:
    graph = chat_graph(hybrid(), sync=False)
    streamed = [chunk async for chunk, _ in graph.astream(ASKED, stream_mode="messages")]
    assert [chunk.text for chunk in streamed if chunk.text] == TOKENS


QUESTION = {"messages": [HumanMessage("How is the weather in 'Rome', in 21 degrees?")]}


@pytest.mark.filterwarnings("ignore:create_react_agent has been moved")
def test_create_react_agent_with_a_response_format() -> None:
    from langgraph.prebuilt import create_react_agent

    agent = create_react_agent(hybrid(), [weather], response_format=Report)
    state = agent.invoke(QUESTION)
    assert state["structured_response"] == Report(city="Rome", degrees=21)
    assert [m.content for m in state["messages"] if m.type == "tool"] == ["Sunny in Rome."]


def test_create_agent_with_tools() -> None:
    state = create_agent(hybrid(), [weather]).invoke(QUESTION)
    assert [message.type for message in state["messages"]] == ["human", "ai", "tool", "ai"]
    assert state["messages"][-1].text == ANSWER


async def test_create_agent_with_tools_async() -> None:
    state = await create_agent(hybrid(), [weather]).ainvoke(QUESTION)
    assert state["messages"][-1].text == ANSWER


@pytest.mark.parametrize("tools", [[], [weather]])
def test_create_agent_with_a_structured_response(tools: list[Any]) -> None:
    agent = create_agent(hybrid(), tools, response_format=ToolStrategy(Report))
    state = agent.invoke(QUESTION)
    assert state["structured_response"] == Report(city="Rome", degrees=21)


def test_create_agent_streams_tokens_and_tool_calls_once() -> None:
    agent = create_agent(hybrid(), [weather])
    streamed = [chunk for chunk, _ in agent.stream(QUESTION, stream_mode="messages")]
    spoken = [chunk.text for chunk in streamed if chunk.type == "AIMessageChunk" and chunk.text]
    calls = [part for c in streamed for part in getattr(c, "tool_call_chunks", ()) if part["name"]]
    assert spoken == TOKENS
    assert [part["name"] for part in calls] == ["weather"]


async def test_create_agent_streams_asynchronously() -> None:
    agent = create_agent(hybrid(), [weather])
    streamed = [chunk async for chunk, _ in agent.astream(QUESTION, stream_mode="messages")]
    assert [c.text for c in streamed if c.type == "AIMessageChunk" and c.text] == TOKENS


def test_with_structured_output() -> None:
    structured = hybrid().with_structured_output(Report)
    assert structured.invoke("How is 'Rome', in 21 degrees?") == Report(city="Rome", degrees=21)


SMALL = {
    "max_input_tokens": 1000,
    "tool_calling": True,
    "image_inputs": True,
    "reasoning_output": True,
}
LARGE = {"max_input_tokens": 8000, "tool_calling": True, "image_inputs": False}


def profiled(answer: str = ANSWER) -> HybridChatModel:
    """Wrap two models with different profiles."""
    small = FakeChat(model="small", profile=SMALL, answer=answer)
    return hybrid(small, FakeChat(model="large", profile=LARGE, answer=answer))


def test_the_profile_is_what_both_models_can() -> None:
    shared = {"max_input_tokens": 1000, "tool_calling": True, "image_inputs": False}
    assert profiled().profile == shared


def test_the_profile_is_unknown_where_one_models_is() -> None:
    assert not hybrid(FakeChat(model="small", profile=SMALL)).profile


def test_fractional_summarization_reads_the_profile() -> None:
    middleware = SummarizationMiddleware(
        model=profiled("They talked."), trigger=("fraction", 0.5), keep=("messages", 1)
    )
    agent = create_agent(profiled(), [], middleware=[middleware])
    long = [HumanMessage("word " * 900), AIMessage("Yes."), HumanMessage("Hi")]
    state = agent.invoke({"messages": long})
    assert "They talked." in state["messages"][0].text
    assert state["messages"][-1].text == ANSWER


class Limiter(BaseRateLimiter):
    """Counts what it lets through."""

    def __init__(self) -> None:
        self.let_through = 0

    def acquire(self, *, blocking: bool = True) -> bool:
        self.let_through += 1
        return True

    async def aacquire(self, *, blocking: bool = True) -> bool:
        return self.acquire(blocking=blocking)


@pytest.mark.parametrize("way", WAYS)
async def test_rate_limiters_of_child_and_wrapper_are_honoured(way: str) -> None:
    of_child, of_wrapper = Limiter(), Limiter()
    small = FakeChat(model="small", rate_limiter=of_child)
    await call(hybrid(small, rate_limiter=of_wrapper), way)
    assert (of_child.let_through, of_wrapper.let_through) == (1, 1)


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "batch", "abatch"])
async def test_the_childs_cache_is_honoured(way: str) -> None:
    small = FakeChat(model="small", cache=InMemoryCache())
    model = hybrid(small)
    for _ in range(2):
        await call(model, way)
    assert len(small.requests) == 1


@pytest.mark.parametrize("way", WAYS)
async def test_the_childs_callbacks_tags_and_metadata_are_honoured(way: str) -> None:
    seen = Recorder()
    small = FakeChat(model="small", callbacks=[seen], tags=["mine"], metadata={"team": "red"})
    await call(hybrid(small), way)
    (run,) = seen.llms
    assert "mine" in run.tags
    assert run.metadata["team"] == "red"


@pytest.mark.parametrize("way", WAYS)
async def test_the_childs_bound_keywords_are_honoured(way: str) -> None:
    small = FakeChat(model="small")
    await call(hybrid(small.bind(seed=7)), way)
    assert [request["seed"] for request in small.requests] == [7]


@pytest.fixture
def shared_cache() -> Iterator[InMemoryCache]:
    """Give the process one cache of answers."""
    cache = InMemoryCache()
    set_llm_cache(cache)
    yield cache
    set_llm_cache(None)


async def test_wrappers_of_different_models_share_no_answers(shared_cache: InMemoryCache) -> None:
    one = hybrid(FakeChat(model="small", answer="I am the first."))
    other = hybrid(FakeChat(model="small", answer="I am the second."))
    answers = [model.invoke("Hi").text for model in (one, other, one)]
    answers += [(await model.ainvoke("Hi")).text for model in (one, other)]
    assert answers == ["I am the first.", "I am the second.", "I am the first.", *answers[:2]]
    assert len(shared_cache._cache) == 2
