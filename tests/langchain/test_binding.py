"""Dials set by `bind` and `with_config` last through whatever is made of the model afterwards."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import wrap_model_call
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import ConfigurableField, RunnableBinding
from langchain_core.tools import tool
from pydantic import BaseModel

from langchain_hybrid import HybridChatModel
from shared_router import hybrid_options
from shared_router.errors import ConfigurationError, DialError
from shared_router.records import ROUTING_KEY
from tests.langchain.fakes import FakeChat, hybrid

if TYPE_CHECKING:
    from collections.abc import Callable


class Word(BaseModel):
    """A word."""

    word: str


@tool
def look_up(word: str) -> str:
    """Look a word up."""
    return word


LARGE: Any = {"hybrid_route": "large"}
BOUND: dict[str, Callable[[Any], Any]] = {
    "bind": lambda h: h.bind(route="large"),
    "bind a dial": lambda h: h.bind(threshold=5),
    "config": lambda h: h.with_config(configurable=LARGE),
    "config as a dict": lambda h: h.with_config({"configurable": LARGE, "tags": ["mine"]}),
    "bind, config": lambda h: h.bind(route="large").with_config(tags=["mine"]),
    "stop, bind": lambda h: h.bind(stop=["x"]).bind(route="large"),
    "stop, config": lambda h: h.bind(stop=["x"]).with_config(configurable=LARGE),
    "config, another": lambda h: h.with_config(configurable=LARGE).with_config(configurable={}),
    "types, bind": lambda h: h.with_types(output_type=AIMessage).bind(route="large"),
    "listeners, bind": lambda h: h.with_listeners(on_end=lambda run: None).bind(route="large"),
    "fallbacks, bind": lambda h: h.with_fallbacks([h]).bind(route="large"),
    "fallbacks, config": lambda h: h.with_fallbacks([h]).with_config(configurable=LARGE),
    "bind, fallbacks": lambda h: h.bind(route="large").with_fallbacks([h]),
    "config, fallbacks": lambda h: h.with_config(configurable=LARGE).with_fallbacks([h]),
}
MADE: dict[str, Callable[[Any], Any]] = {
    "itself": lambda b: b,
    "tools": lambda b: b.bind_tools([look_up]),
    "structured": lambda b: b.with_structured_output(Word),
    "raw": lambda b: b.with_structured_output(Word, include_raw=True, method="json_schema"),
    "tools, fallbacks": lambda b: b.bind_tools([look_up]).with_fallbacks([b]),
    "agent": lambda b: create_agent(b, [look_up]),
    "agent without tools": lambda b: create_agent(b, []),
    "agent with a schema": lambda b: create_agent(b, [look_up], response_format=Word),
}
OPTIONS = {"route", "threshold", "task", "hybrid_route"}


def asked_of(model: HybridChatModel, runnable: Any) -> set[str]:
    """Call a Runnable, and return the candidates that were asked."""
    agent = hasattr(runnable, "nodes")
    runnable.invoke({"messages": [HumanMessage("Look 'x' up")]} if agent else "Look 'x' up")
    for request in [*model.small.requests, *model.large.requests]:
        assert not OPTIONS & set(request)
    return {m.model for m in (model.small, model.large) if m.requests}


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
@pytest.mark.parametrize("bound", BOUND.values(), ids=BOUND)
def test_what_was_bound_holds_in_what_is_made(bound: Any, made: Any) -> None:
    model = hybrid()
    assert asked_of(model, made(bound(model))) == {"large"}


LATER: dict[str, Callable[[Any], Any]] = {
    "structured, at once": lambda h: h.with_structured_output(Word, route="large"),
    "structured by a dial": lambda h: h.with_structured_output(Word, threshold=5, task="qa"),
    "structured, bind": lambda h: h.with_structured_output(Word).bind(route="large"),
    "structured, config": lambda h: h.with_structured_output(Word).with_config(configurable=LARGE),
    "structured, fallbacks, bind": lambda h: (
        h.with_structured_output(Word).with_fallbacks([FakeChat()]).bind(route="large")
    ),
    "tools, at once": lambda h: h.bind_tools([look_up], route="large", tool_choice="any"),
    "tools, bind": lambda h: h.bind_tools([look_up]).bind(route="large"),
    "tools, config": lambda h: h.bind_tools([look_up]).with_config(configurable=LARGE),
    "retry, bind": lambda h: h.with_retry().bind(route="large"),
    "bind, retry, fallbacks": lambda h: h.bind(route="large").with_retry().with_fallbacks([h]),
}


@pytest.mark.parametrize("made", LATER.values(), ids=LATER)
def test_what_is_bound_later_holds(made: Any) -> None:
    model = hybrid()
    assert asked_of(model, made(model)) == {"large"}


@pytest.mark.parametrize("bound", ["bind", "config", "fallbacks, bind"])
@pytest.mark.parametrize("made", ["tools", "raw"])
async def test_it_holds_in_every_way_of_calling(bound: str, made: str) -> None:
    model = hybrid()
    runnable = MADE[made](BOUND[bound](model))
    await runnable.ainvoke("x")
    list(runnable.stream("x"))
    assert [chunk async for chunk in runnable.astream("x")]
    runnable.batch(["x"])
    await runnable.abatch(["x"])
    assert (len(model.small.requests), len(model.large.requests)) == (0, 5)


@pytest.mark.parametrize(
    "made", [lambda f: f, lambda f: f.bind_tools([look_up]), lambda f: create_agent(f, [look_up])]
)
def test_a_fallback_is_the_one_that_was_named(made: Any) -> None:
    model = hybrid(FakeChat(model="small", fail_after=0))
    runnable = made(model.with_fallbacks([model.bind(route="large")]))
    assert asked_of(model, runnable) == {"small", "large"}
    assert len(model.small.requests) == 1


@pytest.mark.parametrize("retried", [False, True])
async def test_no_fallback_s_provider_is_sent_an_option(retried: bool) -> None:
    model = hybrid(FakeChat(model="small", fail_after=0), fallback="off")
    spare = FakeChat(model="spare")
    first = model.with_retry(stop_after_attempt=1) if retried else model
    runnable = first.with_fallbacks([spare])
    runnable.invoke("x", route="small")
    await runnable.ainvoke("x", route="small", stop=["y"])
    list(runnable.stream("x", threshold=0))
    assert [chunk async for chunk in runnable.astream("x", task="qa")]
    runnable.batch(["x"], route="small")
    await runnable.abatch(["x"], route="small")
    runnable.bind(route="small").invoke("x")
    assert [set(request) for request in spare.requests] == [{"messages", "stop"}] * 7
    assert spare.requests[1]["stop"] == ["y"]


# -- which one wins -------------------------------------------------------------------------------


def decided(runnable: Any, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
    decision = runnable.invoke("x", *args, **kwargs).response_metadata[ROUTING_KEY]
    return decision["candidate"], decision["dial"], decision["dial_value"]


def test_the_later_wins_and_another_dial_replaces_the_one_before() -> None:
    model = hybrid()
    assert decided(model.bind(route="large").bind(route="small"))[0] == "small"
    bound = model.bind(threshold=5).bind(threshold=-5)
    assert decided(bound)[1:] == ("threshold", -5)
    configured = model.with_config(configurable={"hybrid_threshold": 5})
    assert decided(configured.with_config(configurable={"hybrid_threshold": 3}))[2] == 3


def test_bound_keywords_over_configs_over_context() -> None:
    model = hybrid()
    config: Any = {"configurable": {"hybrid_threshold": 3}}
    with hybrid_options(threshold=2):
        assert decided(model.bind(threshold=4), config)[2] == 4
        assert decided(model.with_config(config).bind(threshold=4))[2] == 4
        assert decided(model.with_config(config))[2] == 3
        assert decided(model.bind(task="qa"))[2] == 2
        assert decided(model.bind(threshold=4), config, threshold=5)[2] == 5


# -- what stays as it was -------------------------------------------------------------------------


def test_the_model_is_left_as_it_is_and_the_binding_is_langchains() -> None:
    model = hybrid()
    bound = model.bind(route="large", stop=["y"])
    assert isinstance(bound, RunnableBinding)
    assert isinstance(bound.bound, HybridChatModel)
    assert dict(bound.kwargs) == {"stop": ["y"]}
    assert bound.bound.engine is model.engine
    assert decided(model)[0] == "small"
    assert decided(bound.bound)[0] == "large"  # hosts look inside of bindings
    assert bound.lc_id()[-1] == "RunnableBinding"
    assert "route='large'" in repr(bound)
    assert "bound" not in repr(model)
    assert model.with_fallbacks([model]).get_name() == "RunnableWithFallbacks"


def test_a_binding_s_preview_is_what_its_call_does() -> None:
    bound = hybrid().bind(route="large")
    assert bound.route("x").candidate == decided(bound)[0] == "large"


def test_what_a_config_holds_beside_the_dial_stays_in_the_binding() -> None:
    configured = hybrid().with_config(configurable={**LARGE, "route": "mine"}, tags=["t"])
    assert configured.config == {"configurable": {"route": "mine"}, "tags": ["t"]}


def test_copies_keep_what_is_bound() -> None:
    bound = hybrid().bind(route="large")
    assert decided(copy.deepcopy(bound))[0] == decided(copy.copy(bound))[0] == "large"
    assert decided(bound.bound.model_copy(update={"threshold": 1.0}))[0] == "large"


def test_dials_of_a_block_hold_for_a_bound_stream_read_after_it() -> None:
    model = hybrid()
    with hybrid_options(route="large"):
        chunks = model.bind(stop=["y"]).stream("x")
    assert next(chunks).response_metadata[ROUTING_KEY]["candidate"] == "large"


def test_a_wrong_option_is_refused_where_it_is_bound() -> None:
    model = hybrid()
    ways: list[Any] = [
        lambda: model.bind(threshold=1, cost_advantage=0.5),
        lambda: model.with_config(configurable={"hybrid_threshold": "high"}),
        lambda: model.with_structured_output(Word, threshold=float("nan")),
        lambda: model.bind_tools([look_up], threshold=True),
    ]
    for way in ways:
        with pytest.raises(DialError):
            way()
    with pytest.raises(ConfigurationError, match="as a keyword it is 'route'"):
        model.with_structured_output(Word, hybrid_route="large")


# -- behind fallbacks, configurable fields and alternatives ---------------------------------------

BEHIND: dict[str, Callable[[Any], Any]] = {
    "tools": lambda f: f.bind_tools([look_up], route="small"),
    "structured": lambda f: f.with_structured_output(Word, route="small"),
    "structured, a dial": lambda f: f.with_structured_output(Word, threshold=-5, task="qa"),
    "agent": lambda f: create_agent(f, [look_up], middleware=[forced]),
    "agent without tools": lambda f: create_agent(f, [], middleware=[forced]),
}


@wrap_model_call
def forced(request: Any, handler: Any) -> Any:
    """Set an option as an agent's middleware does."""
    return handler(request.override(model_settings={"route": "small"}))


@pytest.mark.parametrize("made", BEHIND.values(), ids=BEHIND)
def test_no_fallback_is_made_with_an_option(made: Any) -> None:
    model = hybrid(FakeChat(model="small", fail_after=0), fallback="off")
    spare = FakeChat(model="spare")
    assert asked_of(model, made(model.with_fallbacks([spare]))) == {"small"}
    assert spare.requests
    assert not [request for request in spare.requests if OPTIONS & set(request)]


def test_a_fallback_has_what_the_first_has() -> None:
    fallbacks = hybrid().with_fallbacks([FakeChat()])
    assert fallbacks.route("x", route="large").candidate == "large"
    assert fallbacks.router.candidates == ("small", "large")
    assert not hasattr(fallbacks, "no_such_method")
    assert not hasattr(hybrid().with_structured_output(Word).with_fallbacks([]), "bind_tools")


WRONG: dict[str, Callable[[Any], Any]] = {
    "keyword": lambda f: f.invoke("x", route="larg"),
    "bound": lambda f: f.bind(route="larg").invoke("x"),
    "config": lambda f: f.invoke("x", {"configurable": {"hybrid_route": "larg"}}),
    "a batch's": lambda f: f.batch(["x"], [{"configurable": {"hybrid_route": "larg"}}]),
    "stream": lambda f: list(f.stream("x", route="larg")),
    "tools": lambda f: f.bind_tools([look_up]).invoke("x", route="larg"),
    "structured": lambda f: f.with_structured_output(Word, route="larg").invoke("x"),
    "retried": lambda f: f.runnable.with_retry().with_fallbacks(f.fallbacks).bind(route="larg")
    .invoke("x"),
    "no calibration": lambda f: f.invoke("x", cost_advantage=0.5),
}  # fmt: skip


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
async def test_a_wrong_option_is_no_failure_that_a_fallback_answers(call: Any) -> None:
    spare = FakeChat(model="spare")
    fallbacks = hybrid().with_fallbacks([spare])
    with pytest.raises(ConfigurationError, match=r"'larg' names no candidate|not calibrated"):
        call(fallbacks)
    with hybrid_options(route="larg"), pytest.raises(ConfigurationError, match="larg"):
        await fallbacks.ainvoke("x")
    assert spare.requests == []


T = ConfigurableField(id="t")
CONFIGURED: dict[str, Callable[[Any], Any]] = {
    "fields": lambda h: h.configurable_fields(threshold=T),
    "alternatives": lambda h: h.configurable_alternatives(T, default_key="h", o=FakeChat()),
    "both": lambda h: (
        h.configurable_alternatives(T, default_key="h", o=FakeChat())
        .configurable_fields(threshold=ConfigurableField(id="u"))
    ),
    "fallbacks": lambda h: h.configurable_fields(threshold=T).with_fallbacks([FakeChat()]),
}  # fmt: skip


@pytest.mark.parametrize("made", ["itself", "tools", "raw", "agent"])
@pytest.mark.parametrize("bound", ["bind", "bind a dial", "config", "config, another"])
@pytest.mark.parametrize("configured", CONFIGURED.values(), ids=CONFIGURED)
def test_it_holds_behind_what_a_config_sets(configured: Any, bound: str, made: str) -> None:
    model = hybrid()
    assert asked_of(model, MADE[made](BOUND[bound](configured(model)))) == {"large"}


WRITTEN: dict[str, Callable[[Any], Any]] = {
    "bound": lambda m: m.bind(stop=["x"]),
    "retried": lambda m: m.with_retry(),
    "fallbacks": lambda m: m.with_fallbacks([FakeChat()]),
    "fields": lambda m: m.configurable_fields(tags=T),
    "alternatives": lambda m: m.configurable_alternatives(T, default_key="h", o=FakeChat()),
}


@pytest.mark.parametrize("made", WRITTEN.values(), ids=WRITTEN)
def test_what_is_made_is_written_down_as_langchains_own(made: Any) -> None:
    assert made(hybrid()).lc_id() == made(FakeChat()).lc_id()


async def test_asynchronous_listeners_hear_of_a_bound_model() -> None:
    heard = []

    async def note(run: Any, config: Any) -> None:
        heard.append(run.name)

    model = hybrid()
    await model.with_alisteners(on_end=note).bind(route="large").ainvoke("x")
    assert heard == ["HybridChatModel"]
    assert model.large.requests


def test_it_holds_in_a_retry_that_a_config_makes() -> None:
    model = hybrid()
    tries = ConfigurableField(id="tries")
    fields = model.with_retry().configurable_fields(max_attempt_number=tries).bind(route="large")
    fields.invoke("x", {"configurable": {"tries": 2}})
    assert asked_of(model, fields) == {"large"}


def test_a_wrong_option_is_no_failure_behind_alternatives_either() -> None:
    spare = FakeChat(model="spare")
    chosen = hybrid().configurable_alternatives(T, default_key="h", o=FakeChat(answer="other"))
    fallbacks = chosen.with_fallbacks([spare])
    wrong = {"hybrid_route": "larg"}
    with pytest.raises(ConfigurationError, match="'larg' names no candidate"):
        fallbacks.invoke("x", {"configurable": wrong})
    # What is no routed model has no options that could be wrong.
    assert fallbacks.invoke("x", {"configurable": {"t": "o"} | wrong}).text == "other"
    assert spare.requests == []


async def test_it_holds_in_what_a_config_makes_and_reaches_no_other() -> None:
    model, other = hybrid(), FakeChat(model="other")
    fields = model.bind(route="large").bound.configurable_fields(threshold=T)
    assert decided(fields, {"configurable": {"t": -5}})[::2] == ("large", -5)
    made = model.configurable_alternatives(T, default_key="h", o=other, late=lambda: model)
    chosen: Any = {"configurable": {"t": "o"}}
    made.bind(route="large").invoke("x", chosen)
    await made.ainvoke("x", chosen, route="large")
    list(made.stream("x", chosen, threshold=5))
    made.with_config(chosen).bind_tools([look_up], route="large").invoke("x")
    assert [OPTIONS & set(request) for request in other.requests] == [set()] * 4
    assert decided(made.bind(route="large"), {"configurable": {"t": "late"}})[0] == "large"
