"""Dials and forced routes: every way to give them, which one wins, and what they never touch."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableParallel
from langchain_core.tools import tool

from langchain_hybrid import HybridChatModel
from shared_router import Candidate, Router, hybrid_options
from shared_router.errors import CandidateError, ConfigurationError, DialError, NotCalibratedError
from shared_router.testing import FixedScorer
from tests.langchain.doubles import (
    Child,
    RecordingScorer,
    answered_by,
    decision_of,
    first,
    hybrid,
    pair,
)
from tests.material import PAIR, known_truth

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared_router import RoutingDecision

DIALS: dict[str, float] = {
    "threshold": 0.25,
    "cost_advantage": 0.5,
    "max_quality_drop": 0.125,
    "max_quality_drop_absolute": 0.0625,
}
EACH = pytest.mark.parametrize(("name", "value"), DIALS.items())


@pytest.fixture(scope="module")
def router() -> Router:
    """Return a calibrated router that scores by length."""
    made = Router(
        candidates=PAIR,
        scorer=FixedScorer(lambda text: -len(text)),
        labels="prob",
        name="by-length",
    )
    return made.calibrate(known_truth(60, split="validation"))


def dial_of(message: Any) -> tuple[str, float]:
    found = decision_of(message)
    return found["dial"], found["dial_value"]


# -- every way to give one ------------------------------------------------------------------------


@EACH
def test_by_field(name: str, value: float, router: Router) -> None:
    answer = hybrid(router=router, **{name: value}).invoke("hello")
    assert dial_of(answer) == (name, value)
    assert decision_of(answer)["threshold"] == router.threshold_of(**{name: value})


@EACH
async def test_by_keyword(name: str, value: float, router: Router) -> None:
    model = hybrid(router=router)
    dial: Any = {name: value}
    found = [model.invoke("hello", **dial), await model.ainvoke("hello", **dial)]
    found += [next(model.stream("hello", **dial)), await first(model.astream("hello", **dial))]
    found += model.batch(["hello"], **dial) + await model.abatch(["hello"], **dial)
    assert [dial_of(each) for each in found] == [(name, value)] * 6


@EACH
async def test_by_binding_and_by_config(name: str, value: float, router: Router) -> None:
    model = hybrid(router=router)
    bound = [
        model.bind(**{name: value}),
        model.with_config(configurable={f"hybrid_{name}": value}),
        model.bind(stop=["x"]).with_config({"configurable": {f"hybrid_{name}": value}}),
    ]
    config: Any = {"configurable": {f"hybrid_{name}": value}}
    found = [each.invoke("hello") for each in bound] + [model.invoke("hello", config)]
    found += [await each.ainvoke("hello") for each in bound] + [await model.ainvoke("hi", config)]
    assert [dial_of(each) for each in found] == [(name, value)] * 8


@EACH
async def test_by_context(name: str, value: float, router: Router) -> None:
    model = hybrid(router=router)
    with hybrid_options(**{name: value}):
        found = [model.invoke("hello"), await model.ainvoke("hello"), next(model.stream("hello"))]
        found += await model.abatch(["a", "b"])
    assert [dial_of(each) for each in found] == [(name, value)] * 5
    assert dial_of(model.invoke("hello")) != (name, value)


async def test_each_input_of_a_batch_has_its_own_config(router: Router) -> None:
    model = hybrid(router=router)
    configs: Any = [{"configurable": {f"hybrid_{name}": value}} for name, value in DIALS.items()]
    expected = list(DIALS.items())
    inputs = ["hello"] * len(configs)
    assert [dial_of(each) for each in model.batch(inputs, configs)] == expected
    assert [dial_of(each) for each in await model.abatch(inputs, configs)] == expected


def test_inside_a_chain_a_config_reaches_the_model(router: Router) -> None:
    chain = RunnableParallel(one=hybrid(router=router), two=hybrid(router=router))
    found = chain.invoke("hello", {"configurable": {"hybrid_cost_advantage": 0.25}})
    assert [dial_of(each) for each in found.values()] == [("cost_advantage", 0.25)] * 2


@tool
def look_up(word: str) -> str:
    """Look a word up."""
    return word


WAYS: dict[str, Callable[[Any, Any], Any]] = {
    "config": lambda agent, value: agent.invoke(value, {"configurable": {"hybrid_threshold": 7}}),
    "bound config": lambda agent, value: agent.with_config(
        {"configurable": {"hybrid_threshold": 7}}
    ).invoke(value),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_inside_an_agent(way: Any) -> None:
    agent = create_agent(hybrid(), [look_up])
    found = way(agent, {"messages": [HumanMessage("hello")]})
    assert dial_of(found["messages"][-1]) == ("threshold", 7)
    assert found["messages"][-1].content == "from large"


async def test_inside_an_agent_by_context_and_by_field() -> None:
    value: Any = {"messages": [HumanMessage("hello")]}
    agent = create_agent(hybrid(), [look_up])
    with hybrid_options(threshold=7):
        found = [agent.invoke(value), await agent.ainvoke(value)]
    found += [create_agent(hybrid(threshold=7), [look_up]).invoke(value)]
    assert [dial_of(each["messages"][-1]) for each in found] == [("threshold", 7)] * 3


# -- which one wins -------------------------------------------------------------------------------


def test_keyword_over_config_over_context_over_field() -> None:
    model = hybrid(threshold=1)
    config: Any = {"configurable": {"hybrid_threshold": 3}}
    assert dial_of(model.invoke("x"))[1] == 1
    with hybrid_options(threshold=2):
        assert dial_of(model.invoke("x"))[1] == 2
        assert dial_of(model.invoke("x", config))[1] == 3
        assert dial_of(model.invoke("x", config, threshold=4))[1] == 4
        assert dial_of(model.bind(threshold=4).with_config(config).invoke("x"))[1] == 4


def test_another_dial_replaces_the_one_below_instead_of_joining_it(router: Router) -> None:
    model = hybrid(router=router, max_quality_drop=0.1)
    with hybrid_options(cost_advantage=0.5):
        assert dial_of(model.invoke("x"))[0] == "cost_advantage"
        assert dial_of(model.invoke("x", threshold=0.0))[0] == "threshold"


def test_a_dial_replaces_the_one_that_is_bound(router: Router) -> None:
    model = hybrid(router=router)
    bound = model.bind(cost_advantage=0.25)
    configured = model.with_config(configurable={"hybrid_cost_advantage": 0.25})
    config: Any = {"configurable": {"hybrid_threshold": 0}}
    assert dial_of(bound.bind(threshold=0).invoke("x"))[0] == "threshold"
    assert dial_of(bound.invoke("x", threshold=0))[0] == "threshold"
    assert dial_of(configured.with_config(config).invoke("x"))[0] == "threshold"
    assert dial_of(configured.invoke("x", config))[0] == "threshold"


def test_options_of_different_kinds_join() -> None:
    model = hybrid()
    config: Any = {"configurable": {"hybrid_task": "qa"}}
    with hybrid_options(route="large"):
        found = decision_of(model.invoke("x", config, threshold=-1.0))
    assert (found["candidate"], found["reason"], found["task"]) == ("large", "forced", "qa")
    assert found["dial_value"] == -1.0


def test_inner_options_replace_only_what_they_name() -> None:
    model = hybrid()
    with hybrid_options(threshold=2, task="qa"), hybrid_options(threshold=3):
        found = decision_of(model.invoke("x"))
    assert (found["dial_value"], found["task"]) == (3, "qa")


def test_none_is_no_dial() -> None:
    config: Any = {"configurable": {"hybrid_threshold": None}}
    assert dial_of(hybrid(threshold=1).invoke("x", config, threshold=None))[1] == 1


# -- what they never touch ------------------------------------------------------------------------


async def test_no_option_reaches_the_model() -> None:
    model = hybrid()
    options: Any = {"threshold": 0.5, "task": "qa", "route": "small", "stop": ["x"]}
    model.invoke("x", temperature=0.5, **options)
    await model.ainvoke("x", temperature=0.5, **options)
    list(model.stream("x", temperature=0.5, **options))
    model.bind(**options).invoke("x", temperature=0.5)
    model.bind_tools([look_up]).invoke("x", temperature=0.5, **options)
    assert len(model.small.keywords) == 5
    for keywords in model.small.keywords:
        keywords.pop("tools", None)
        assert keywords == {"temperature": 0.5, "stop": ["x"]}


# -- errors ---------------------------------------------------------------------------------------

WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"threshold": 0.1, "cost_advantage": 0.5}, DialError, "One dial at a time.*threshold=0.1"),
    ({"cost_advantage": 1.5}, DialError, r"share of calls between 0 and 1; got 1\.5"),
    ({"cost_advantage": -0.1}, DialError, "share of calls"),
    ({"max_quality_drop": 2}, DialError, r"relative drop between 0 and 1 \(0\.02 is 2 %\); got 2"),
    ({"max_quality_drop_absolute": -1}, DialError, "at least 0, in the metric's units; got -1"),
    ({"threshold": float("nan")}, DialError, "threshold is a number; got nan"),
]


@pytest.mark.parametrize(("options", "kind", "says"), WRONG, ids=lambda x: str(x)[:40])
def test_a_wrong_dial_is_a_clear_error_in_every_way(
    options: Any, kind: type[Exception], says: str, router: Router
) -> None:
    model = hybrid(router=router)
    configurable = {f"hybrid_{name}": value for name, value in options.items()}
    ways: list[Callable[[], Any]] = [
        lambda: hybrid(router=router, **options),
        lambda: model.invoke("x", **options),
        lambda: model.invoke("x", {"configurable": configurable}),
        lambda: model.route("x", **options),
        lambda: hybrid_options(**options).__enter__(),
    ]
    for way in ways:
        with pytest.raises(kind, match=says):
            way()
    assert model.small.asked == model.large.asked == []


@pytest.mark.parametrize("value", ["0.5", True, [0.5]])
def test_a_dial_is_a_number(value: Any) -> None:
    for way in (lambda: hybrid().invoke("x", threshold=value), lambda: hybrid(threshold=value)):
        with pytest.raises(ConfigurationError, match="threshold"):
            way()


def test_a_misspelt_name_is_a_clear_error() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'hybrid_threshold'"):
        hybrid().invoke("x", {"configurable": {"hybrid_treshold": 1}})
    with pytest.raises(ConfigurationError, match="did you mean 'max_quality_drop'"):
        hybrid().invoke("x", max_quality_dorp=0.1)
    with pytest.raises(ConfigurationError, match="Unknown routing option 'treshold'"):
        hybrid_options(treshold=1).__enter__()


def test_another_s_name_in_a_config_is_left_alone() -> None:
    assert hybrid().invoke("x", {"configurable": {"hybrid_search": True, "threshold": 9}})


def test_an_assigned_dial_is_refused_not_ignored() -> None:
    model = hybrid(threshold=0.0)
    with pytest.raises(ConfigurationError, match="max_quality_drop is fixed at construction"):
        model.max_quality_drop = 1.0


def test_options_of_a_block_hold_for_a_stream_read_after_it() -> None:
    model = hybrid()
    with hybrid_options(route="small"):
        chunks = model.stream("x")
    assert next(chunks).response_metadata["hybrid_routing"]["reason"] == "forced"


def test_a_configs_name_as_a_keyword_is_a_clear_error() -> None:
    with pytest.raises(ConfigurationError, match="as a keyword it is 'threshold'"):
        hybrid().invoke("x", hybrid_threshold=1)


@pytest.mark.parametrize("name", ["cost_advantage", "max_quality_drop"])
def test_a_quality_dial_needs_a_calibration(name: str) -> None:
    with pytest.raises(NotCalibratedError, match="calibrat"):
        hybrid(**{name: 0.5})
    with pytest.raises(NotCalibratedError, match="calibrat"):
        hybrid().invoke("x", **{name: 0.5})


# -- forced routes --------------------------------------------------------------------------------


def three() -> HybridChatModel:
    models = [Child(model=name) for name in ("nano", "mini", "full")]
    scorer = FixedScorer([1.0, 1.0])
    router = Router(candidates=("nano", "mini", "full"), scorer=scorer, name="three")
    aliases = [(), ("middle",), ()]
    candidates = [
        Candidate(model.model, model, aliases=alias)
        for model, alias in zip(models, aliases, strict=True)
    ]
    return HybridChatModel(candidates=candidates, router=router)


@pytest.mark.parametrize(
    ("name", "found"),
    [("nano", "nano"), ("mini", "mini"), ("middle", "mini"), ("full", "full"),
     ("small", "nano"), ("large", "full")],
)  # fmt: skip
async def test_a_route_is_forced_by_name_and_by_alias(name: str, found: str) -> None:
    model = three()
    config: Any = {"configurable": {"hybrid_route": name}}
    answers = [model.invoke("x", route=name), model.invoke("x", config)]
    with hybrid_options(route=name):
        answers.append(await model.ainvoke("x"))
    for answer in answers:
        decision = decision_of(answer)
        assert (decision["candidate"], decision["reason"]) == (found, "forced")
        assert answer.content == f"from {found}"


def test_a_forced_route_scores_nothing() -> None:
    scorer = RecordingScorer()
    hybrid(scorer).invoke("x", route="small")
    assert scorer.texts == []


def test_an_unknown_route_is_a_clear_error() -> None:
    with pytest.raises(CandidateError, match="'nowhere' names no candidate; there are 'nano'"):
        three().invoke("x", route="nowhere")
    with pytest.raises(ConfigurationError, match="route is a name"):
        three().invoke("x", route=2)


# -- previews -------------------------------------------------------------------------------------


async def test_a_preview_calls_no_model_and_tells_nobody() -> None:
    told: list[RoutingDecision] = []
    model = hybrid(on_decision=[told.append])
    previews = [model.route("x", threshold=2), await model.aroute("x", threshold=2)]
    assert [each.candidate for each in previews] == ["large", "large"]
    assert model.small.asked == model.large.asked == []
    assert told == []


async def test_a_call_tells_of_its_decision_once() -> None:
    told: list[RoutingDecision] = []
    model = hybrid(on_decision=[told.append])
    answers = [model.invoke("a"), await model.ainvoke("b"), next(model.stream("c"))]
    answers += [await first(model.astream("d")), *model.batch(["e", "f"])]
    assert len(told) == 6
    for each, answer in zip(told, answers[:4], strict=False):
        assert decision_of(answer) == each.stable() | answered_by(each.candidate)


def test_a_preview_is_what_the_call_then_does(router: Router) -> None:
    model = hybrid(router=router)
    for text in ("short", "a much longer question than the other one, by far"):
        config: Any = {"configurable": {"hybrid_cost_advantage": 0.5}}
        preview = model.route(text, config)
        told = preview.stable() | answered_by(preview.candidate)
        assert told == decision_of(model.invoke(text, config))


def test_a_preview_takes_tools_and_messages() -> None:
    messages = [HumanMessage("hello"), AIMessage("hi"), HumanMessage("a question")]
    found = hybrid().route(messages, tools=[look_up])
    assert found.query_length == len("a question")


# -- the default dial -----------------------------------------------------------------------------


def default_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if "default" in r.getMessage()]


def test_the_default_dial_is_named_in_one_log_line(
    router: Router, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="hybrid_llm"):
        model = hybrid(router=router)
        model.invoke("x")
        model.invoke("y")
    dial = router.dial
    (line,) = default_lines(caplog)
    assert f"{dial.name}={dial.value:g}" in line
    assert "by-length" in line
    assert model.route("x").threshold == router.setting_of(dial, written=False).threshold


def test_a_given_dial_is_not_logged_as_a_default(
    router: Router, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="hybrid_llm"):
        hybrid(router=router, cost_advantage=0.5).invoke("x")
    assert default_lines(caplog) == []


# -- options across tasks and threads -------------------------------------------------------------


async def test_tasks_keep_their_own_options() -> None:
    model = hybrid()
    model.small.delay_s = model.large.delay_s = 0.01

    async def one(threshold: float) -> float:
        with hybrid_options(threshold=threshold):
            await asyncio.sleep(0.01)
            answer = await model.ainvoke("x")
            in_thread = await asyncio.to_thread(model.invoke, "x")
            in_task = await asyncio.create_task(model.ainvoke("x"))
        values = {dial_of(each)[1] for each in (answer, in_thread, in_task)}
        assert values == {threshold}
        return threshold

    assert await asyncio.gather(*map(one, range(8))) == list(range(8))
    assert dial_of(await model.ainvoke("x")) == ("threshold", 0.0)


def test_the_hosts_threads_see_the_options() -> None:
    small, _ = pair()
    model = hybrid(small=small)
    with hybrid_options(threshold=3):
        found = [
            *model.batch(["a", "b", "c"]),
            *RunnableParallel(a=model, b=model).invoke("x").values(),
        ]
    assert {dial_of(each) for each in found} == {("threshold", 3)}
    assert small.asked == []


def test_options_end_with_an_error_inside() -> None:
    with pytest.raises(ZeroDivisionError), hybrid_options(threshold=3):
        1 / 0  # noqa: B018
    assert dial_of(hybrid().invoke("x"))[1] == 0
