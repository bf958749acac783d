"""Tools and schemas: bound late, formatted by the chosen model, given to able models only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableBinding
from langchain_core.tools import tool
from pydantic import BaseModel

from langchain_hybrid.structured import HybridStructuredOutput
from shared_router.records import ROUTING_KEY, Candidate
from shared_router.support.processes import cached_property
from tests.langchain.fakes import ANSWER, FakeChat, Recorder, hybrid

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

    from langchain_hybrid import HybridChatModel


@tool(extras={"cache_control": "ephemeral"})
def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"Sunny in {city}."


@tool
def clock(city: str) -> str:
    """Tell the time in a city."""
    return f"Noon in {city}."


class Report(BaseModel):
    """A report of the weather."""

    city: str
    degrees: int


class ReportDict(TypedDict):
    """A report of the weather."""

    city: str
    degrees: int


QUESTION = "How is the weather in 'Rome', in 21 degrees?"
REPORT = {"city": "Rome", "degrees": 21}


def chosen(message: Any) -> tuple[str, str]:
    """Return the candidate and the reason that a message carries."""
    decision = message.response_metadata[ROUTING_KEY]
    return decision["candidate"], decision["reason"]


async def call(model: Runnable[Any, Any], way: str, config: Any = None) -> Any:
    """Call a model one way or another, and merge what it streams."""
    if way == "invoke":
        return model.invoke(QUESTION, config)
    if way == "ainvoke":
        return await model.ainvoke(QUESTION, config)
    if way == "stream":
        chunks = list(model.stream(QUESTION, config))
    else:
        chunks = [chunk async for chunk in model.astream(QUESTION, config)]
    if isinstance(chunks[0], AIMessageChunk):
        return chunks[0] + chunks[1:] if len(chunks) > 1 else chunks[0]
    return chunks[-1]


WAYS = ("invoke", "ainvoke", "stream", "astream")
every_way = pytest.mark.parametrize("way", WAYS)


# -- tools ----------------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize(("score", "name"), [(1.0, "small"), (-1.0, "large")])
async def test_the_chosen_model_formats_the_tools(way: str, score: float, name: str) -> None:
    models = {name: FakeChat(model=name) for name in ("small", "large")}
    answer = await call(hybrid(**models, score=score).bind_tools([weather, clock]), way)
    (request,) = models[name].requests
    assert [given["signed"] for given in request["tools"]] == [name, name]
    assert [call["name"] for call in answer.tool_calls] == ["weather"]
    assert answer.tool_calls[0]["args"] == {"city": "Rome"}
    assert chosen(answer) == (name, "score")


def test_bound_tools_are_a_binding_of_openai_dicts() -> None:
    bound = hybrid().bind_tools([weather, clock, Report])
    assert isinstance(bound, RunnableBinding)
    names = [given.get("function").get("name") for given in bound.kwargs["tools"]]
    assert names == ["weather", "clock", "Report"]


def test_a_tools_extras_reach_the_model() -> None:
    small = FakeChat(model="small")
    hybrid(small).bind_tools([weather, clock]).invoke(QUESTION)
    assert [given["extras"] for given in small.requests[0]["tools"]] == [
        {"cache_control": "ephemeral"},
        {},
    ]


def test_tools_may_be_dicts_and_functions() -> None:
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    small = FakeChat(model="small")
    as_dict = hybrid().bind_tools([clock]).kwargs["tools"][0]
    hybrid(small).bind_tools([add, as_dict]).invoke(QUESTION)
    names = [given["function"]["name"] for given in small.requests[0]["tools"]]
    assert names == ["add", "clock"]


def test_tool_choice_strict_and_other_options_reach_the_model() -> None:
    small = FakeChat(model="small")
    bound = hybrid(small).bind_tools(
        [weather, clock], tool_choice="clock", strict=True, parallel_tool_calls=False
    )
    answer = bound.invoke(QUESTION)
    (request,) = small.requests
    assert [call["name"] for call in answer.tool_calls] == ["clock"]
    assert (request["tool_choice"], request["parallel_tool_calls"]) == ("clock", False)
    assert request["tools"][0]["function"]["strict"] is True


def test_tools_may_be_given_at_the_call() -> None:
    small = FakeChat(model="small")
    given = hybrid().bind_tools([weather]).kwargs["tools"]
    assert hybrid(small).invoke(QUESTION, tools=list(given)).tool_calls
    assert small.requests[0]["tools"][0]["signed"] == "small"


def wrapped(small: FakeChat) -> dict[str, Any]:
    """Wrap a model as users do."""
    bound = small.bind(seed=7)
    return {
        "binding": bound,
        "config": bound.with_config(tags=["mine"]),
        "retry": bound.with_retry(stop_after_attempt=2, wait_exponential_jitter=False),
        "fallbacks": bound.with_fallbacks([FakeChat(model="spare").bind(seed=8)]),
        "retry of a binding with fallbacks": bound.with_retry().with_fallbacks([FakeChat()]),
    }


@every_way
@pytest.mark.parametrize("kind", list(wrapped(FakeChat())))
async def test_a_wrapped_child_keeps_its_bound_keywords_with_tools(way: str, kind: str) -> None:
    small = FakeChat(model="small")
    answer = await call(hybrid(wrapped(small)[kind]).bind_tools([weather]), way)
    (request,) = small.requests
    assert (request["seed"], request["tools"][0]["signed"]) == (7, "small")
    assert chosen(answer)[0] == "small"


@every_way
@pytest.mark.parametrize("kind", list(wrapped(FakeChat())))
async def test_a_wrapped_child_keeps_its_bound_keywords_with_a_schema(way: str, kind: str) -> None:
    small = FakeChat(model="small")
    structured = hybrid(wrapped(small)[kind]).with_structured_output(Report, method="json_schema")
    assert await call(structured, way) == Report(**REPORT)
    assert [request["seed"] for request in small.requests] == [7]


def test_a_failing_child_falls_back_with_the_tools() -> None:
    spare = FakeChat(model="spare")
    child = FakeChat(model="small", fail_after=0).with_fallbacks([spare])
    answer = hybrid(child).bind_tools([weather]).invoke(QUESTION)
    assert [call["name"] for call in answer.tool_calls] == ["weather"]
    assert spare.requests[0]["tools"][0]["signed"] == "spare"


def unable() -> GenericFakeChatModel:
    """Make a model that can neither call tools nor answer in a schema."""
    return GenericFakeChatModel(messages=iter([AIMessage("No.")] * 5))


@every_way
async def test_a_model_that_cannot_call_tools_is_not_chosen_for_a_tool_call(way: str) -> None:
    model = hybrid(unable())
    assert chosen(await call(model, way))[0] == "small"
    answer = await call(model.bind_tools([weather]), way)
    assert chosen(answer) == ("large", "capability")
    assert answer.tool_calls


def test_a_profile_without_tool_calling_counts_as_unable() -> None:
    model = hybrid(FakeChat(model="small", profile={"tool_calling": False}))
    assert chosen(model.bind_tools([weather]).invoke(QUESTION)) == ("large", "capability")


def test_a_candidate_may_say_that_it_cannot_call_tools() -> None:
    small = Candidate("small", FakeChat(model="small"), supports_tools=False)
    candidates = [small, Candidate("large", FakeChat(model="large"))]
    from langchain_hybrid import HybridChatModel
    from shared_router.testing import fixed_router

    model = HybridChatModel(candidates=candidates, router=fixed_router(1.0))
    assert model.route(QUESTION).candidate == "small"
    assert chosen(model.bind_tools([weather]).invoke(QUESTION)) == ("large", "capability")


@every_way
async def test_a_model_that_cannot_structure_is_not_chosen_for_a_schema(way: str) -> None:
    seen = Recorder()
    structured = hybrid(unable()).with_structured_output(Report)
    assert await call(structured, way, {"callbacks": [seen]}) == Report(**REPORT)
    decision = seen.of("HybridRouter").outputs
    assert (decision["candidate"], decision["reason"]) == ("large", "capability")


def test_where_no_model_is_able_binding_says_so() -> None:
    model = hybrid(unable(), unable())
    with pytest.raises(NotImplementedError, match="can call tools"):
        model.bind_tools([weather])
    with pytest.raises(NotImplementedError, match="answer in a schema"):
        model.with_structured_output(Report)


# -- structured output ----------------------------------------------------------------------------

SCHEMAS = {
    "class": (Report, Report(**REPORT)),
    "typed dict": (ReportDict, REPORT),
    "json schema": (Report.model_json_schema(), REPORT),
}


@every_way
@pytest.mark.parametrize("method", ["function_calling", "json_schema", "json_mode"])
@pytest.mark.parametrize("kind", list(SCHEMAS))
async def test_an_answer_in_a_schema(way: str, method: str, kind: str) -> None:
    schema, expected = SCHEMAS[kind]
    seen = Recorder()
    structured = hybrid().with_structured_output(schema, method=method)
    assert await call(structured, way, {"callbacks": [seen]}) == expected
    assert len(seen.llms) == 1, "exactly one model is called"
    assert seen.llms[0].tags.count(f"{ROUTING_KEY}:small") == 1
    assert seen.root.name == "HybridChatModel"
    assert {run.ended is None for run in seen.runs.values()} == {False}


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize("method", ["function_calling", "json_schema"])
async def test_include_raw_carries_the_decision_on_the_raw_message(way: str, method: str) -> None:
    structured = hybrid().with_structured_output(Report, method=method, include_raw=True)
    answer = await call(structured, way)
    assert answer["parsed"] == Report(**REPORT)
    assert answer["parsing_error"] is None
    assert chosen(answer["raw"]) == ("small", "score")


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_include_raw_streams_one_decision(way: str) -> None:
    structured = hybrid().with_structured_output(Report, include_raw=True)
    if way == "stream":
        chunks = list(structured.stream(QUESTION))
    else:
        chunks = [chunk async for chunk in structured.astream(QUESTION)]
    raw = [chunk["raw"] for chunk in chunks if "raw" in chunk]
    assert [ROUTING_KEY in part.response_metadata for part in raw].count(True) == 1
    assert chosen(raw[0] + raw[1:]) == ("small", "score")
    assert [chunk["parsed"] for chunk in chunks if "parsed" in chunk][-1] == Report(**REPORT)


@pytest.mark.parametrize(("score", "name"), [(1.0, "small"), (-1.0, "large")])
def test_a_models_native_schema_mode_is_kept(score: float, name: str) -> None:
    models = {name: FakeChat(model=name) for name in ("small", "large")}
    model = hybrid(**models, score=score)
    structured = model.with_structured_output(Report, method="json_schema", strict=True)
    structured.invoke(QUESTION)
    (request,) = models[name].requests
    assert request["response_format"]["type"] == "json_schema"
    assert request["response_format"]["strict"] is True
    assert "tools" not in request


def test_dials_and_routes_work_with_a_schema() -> None:
    seen = Recorder()
    structured = hybrid(score=0.5).with_structured_output(Report)
    structured.invoke(QUESTION, {"callbacks": [seen]}, threshold=0.9)
    structured.invoke(QUESTION, {"callbacks": [seen], "configurable": {"hybrid_route": "large"}})
    assert [run.metadata["ls_model_name"] for run in seen.llms] == ["large", "large"]


# -- stickiness -----------------------------------------------------------------------------------


def conversation(model: HybridChatModel) -> list[Any]:
    """Ask a question with tools, and answer the tool call."""
    question = HumanMessage(QUESTION)
    asked = model.bind_tools([weather]).invoke([question])
    return [question, asked, weather.invoke(asked.tool_calls[0])]


@every_way
@pytest.mark.parametrize(("score", "name"), [(1.0, "small"), (-1.0, "large")])
async def test_a_tools_answer_goes_back_to_the_model_that_asked(
    way: str, score: float, name: str
) -> None:
    messages = conversation(hybrid(score=score))
    flipped = hybrid(score=-score).bind_tools([weather])
    if way in ("invoke", "stream"):
        answer = flipped.invoke(messages) if way == "invoke" else next(flipped.stream(messages))
    elif way == "ainvoke":
        answer = await flipped.ainvoke(messages)
    else:
        answer = await anext(aiter(flipped.astream(messages)))
    assert chosen(answer) == (name, "sticky")


def test_a_new_question_is_routed_anew() -> None:
    messages = [*conversation(hybrid()), AIMessage("Sunny."), HumanMessage("And in Oslo?")]
    assert hybrid(score=-1.0).bind_tools([weather]).invoke(messages).tool_calls
    assert hybrid(score=-1.0).route(messages).reason == "score"


def test_several_tool_answers_are_sticky_too() -> None:
    messages = conversation(hybrid())
    messages.append(ToolMessage("Noon.", tool_call_id="other"))
    assert hybrid(score=-1.0).route(messages).reason == "sticky"


def test_a_forced_route_wins_over_stickiness() -> None:
    decision = hybrid().route(conversation(hybrid()), route="large")
    assert (decision.candidate, decision.reason) == ("large", "forced")


class Flipping:
    """A score that changes its mind at every query."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, text: str) -> float:
        self.asked += 1
        return 1.0 if self.asked % 2 else -1.0


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream"])
async def test_an_agents_tool_loop_stays_on_one_model(way: str) -> None:
    agent = create_agent(hybrid(score=Flipping()), [weather])
    asked = {"messages": [HumanMessage(QUESTION)]}
    if way == "invoke":
        state = agent.invoke(asked)
    elif way == "ainvoke":
        state = await agent.ainvoke(asked)
    else:
        *_, state = agent.stream(asked, stream_mode="values")
    answers = [message for message in state["messages"] if message.type == "ai"]
    assert [chosen(answer) for answer in answers] == [("small", "score"), ("small", "sticky")]
    assert answers[-1].text == ANSWER


def test_an_agents_next_question_is_routed_anew() -> None:
    agent = create_agent(hybrid(score=Flipping()), [weather])
    state = agent.invoke({"messages": [HumanMessage(QUESTION)]})
    state = agent.invoke({"messages": [*state["messages"], HumanMessage("And in 'Oslo'?")]})
    answers = [message for message in state["messages"] if message.type == "ai"]
    assert [chosen(answer)[0] for answer in answers] == ["small", "small", "large", "large"]


def test_chains_are_kept_without_a_lock_that_a_fork_would_leave_held() -> None:
    assert isinstance(vars(HybridStructuredOutput)["_chains"], cached_property)


def test_a_structured_model_shows_the_model_it_is_of() -> None:
    model = hybrid().with_structured_output({"title": "Word", "type": "object", "properties": {}})
    assert repr(model).startswith("HybridStructuredOutput(HybridChatModel(")
