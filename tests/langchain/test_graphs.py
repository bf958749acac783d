"""Graphs and agents: threads, interrupts, sub-agents, dials by context and config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt

from langchain_hybrid import HybridChatModel, with_routing_query
from shared_router.errors import ConfigurationError, DialError
from shared_router.options import OPTION_NAMES
from shared_router.records import ROUTING_KEY
from shared_router.testing import fixed_router
from tests.langchain.fakes import FakeChat

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.tools import BaseTool


def by_words(text: str) -> float:
    return -1.0 if "hard" in text.lower() else 1.0


def model(**options: Any) -> HybridChatModel:
    pair = {name: FakeChat(model=name) for name in ("small", "large")}
    return HybridChatModel(**{**pair, "router": fixed_router(by_words), **options})


def told(messages: list[Any]) -> list[tuple[str, str, str]]:
    """Say of each answer who gave it, by which rule, and what that does in the conversation."""
    carried = [m.response_metadata[ROUTING_KEY] for m in messages if isinstance(m, AIMessage)]
    return [(each["answered_by"], each["reason"], each["conversation"]) for each in carried]


@tool
def look_up(q: str) -> str:
    """Look something up."""
    return f"found a hard {q}"


@tool
def ask_person(q: str) -> str:
    """Ask a person."""
    return str(interrupt(q))


def agent_of(
    *tools: BaseTool, make: Callable[..., HybridChatModel] = model, **how: Any
) -> tuple[Any, dict[str, FakeChat]]:
    pair = {name: FakeChat(model=name) for name in ("small", "large")}
    return create_agent(make(**pair), list(tools), **how), pair


def user(text: str) -> dict[str, Any]:
    return {"messages": [HumanMessage(text)]}


THREAD: dict[str, Any] = {"configurable": {"thread_id": "1"}}

# -- threads --------------------------------------------------------------------------------------


def test_a_thread_goes_on_with_its_model_in_another_process() -> None:
    saver, keeping = InMemorySaver(), {"conversation": "keep"}
    for text in ("a hard one", "yes", "go on"):
        agent = create_agent(model(**keeping), [], checkpointer=saver)  # nothing is remembered
        messages = agent.invoke(user(text), THREAD)["messages"]
    kept = ("large", "sticky", "kept")
    assert told(messages) == [("large", "score", "started"), kept, kept]


@pytest.mark.parametrize("mode", ["auto", "turn", "keep"])
def test_an_interrupt_and_its_resumption_keep_the_model(mode: str) -> None:
    saver = InMemorySaver()
    agent, _ = agent_of(
        ask_person, make=lambda **pair: model(conversation=mode, **pair), checkpointer=saver
    )
    agent.invoke(user("an easy one"), THREAD)
    agent, pair = agent_of(
        ask_person, make=lambda **pair: model(conversation=mode, **pair), checkpointer=saver
    )
    config = {"configurable": {"thread_id": "1", "hybrid_threshold": 5.0}}
    messages = agent.invoke(Command(resume="a hard answer"), config)["messages"]
    assert told(messages) == [("small", "score", "started"), ("small", "sticky", "kept")]
    assert not pair["large"].requests


def test_a_thread_is_known_where_its_history_is_cut() -> None:
    hybrid = model(conversation="keep")
    in_thread: Any = {"configurable": {"thread_id": "7"}}
    hybrid.invoke("an easy one", in_thread)
    cut = [AIMessage("what was kept"), HumanMessage("a hard one")]
    assert told([hybrid.invoke(cut, in_thread)]) == [("small", "sticky", "kept")]
    other: Any = {"configurable": {"thread_id": "8"}}
    assert told([hybrid.invoke(cut, other)])[0][0] == "large"


# -- sub-agents -----------------------------------------------------------------------------------


@pytest.mark.parametrize("stated", [False, True])
@pytest.mark.parametrize("mode", ["auto", "keep"])
async def test_a_sub_agent_is_scored_by_its_own_task(mode: str, stated: bool) -> None:
    inner = create_agent(model(conversation=mode), [])
    seen: list[Any] = []

    @tool
    def delegate(q: str) -> str:
        """Let a sub-agent do it."""
        seen.extend(inner.invoke(user(f"a hard part of {q}"))["messages"])
        return "done"

    @tool
    async def adelegate(q: str) -> str:
        """Let a sub-agent do it."""
        seen.extend((await inner.ainvoke(user(f"a hard part of {q}")))["messages"])
        return "done"

    keeping = {"make": lambda **pair: model(conversation=mode, **pair)}
    for called in (delegate, adelegate):
        agent, _ = agent_of(called, **keeping, checkpointer=InMemorySaver())
        if stated:
            agent = with_routing_query(agent, key=lambda _: "an easy one")
        found = (await agent.ainvoke(user("an easy one"), THREAD))["messages"]
        assert told(found) == [("small", "score", "started"), ("small", "sticky", "kept")]
    if not stated:
        agent, _ = agent_of(delegate, **keeping)
        agent.invoke(user("an easy one"))
    assert told(seen) == [("large", "score", "started")] * (2 if stated else 3)


def test_the_question_is_stated_again_after_a_tool() -> None:
    agent, pair = agent_of(look_up)
    chain = with_routing_query(agent, key=lambda _: "an easy one")
    decisions: list[Any] = []
    agent.invoke(user("a hard one"))
    chain = with_routing_query(
        create_agent(model(**pair, conversation="turn", on_decision=[decisions.append]), [look_up]),
        key=lambda _: "an easy one",
    )
    list(chain.stream(user("a hard one")))
    assert [each.candidate for each in decisions] == ["small", "small"]
    assert decisions[0].query_source == "explicit"


# -- context= and configs -------------------------------------------------------------------------


@dataclass
class Context:
    hybrid_route: str | None = None
    other: int = 1


@pytest.mark.parametrize("context", [{"hybrid_route": "large", "other": 1}, Context("large")])
def test_context_sets_dials(context: Any) -> None:
    agent = create_agent(model(), [], context_schema=type(context))
    found = agent.invoke(user("an easy one"), context=context)["messages"]
    assert told(found) == [("large", "forced", "started")]


def test_a_config_goes_before_the_context_and_that_before_what_is_bound() -> None:
    agent = create_agent(model().bind(route="small"), [], context_schema=dict)
    config: Any = {"configurable": {"hybrid_threshold": 5.0}}
    found = agent.invoke(user("a hard one"), config, context={"hybrid_threshold": -5.0})["messages"]
    assert told(found)[0][:2] == ("small", "forced")  # a keyword goes before both
    agent = create_agent(
        model().with_config(configurable={"hybrid_threshold": -5.0}), [], context_schema=dict
    )
    found = agent.invoke(user("an easy one"), context={"hybrid_threshold": 5.0})["messages"]
    assert told(found)[0][0] == "large"
    found = agent.invoke(user("an easy one"), config, context={"hybrid_threshold": -5.0})[
        "messages"
    ]
    assert told(found)[0][0] == "large"


def test_what_is_wrong_in_a_context_is_refused() -> None:
    agent = create_agent(model(), [], context_schema=dict)
    with pytest.raises(ConfigurationError, match="did you mean 'hybrid_route'"):
        agent.invoke(user("hello"), context={"hybrid_rout": "large"})


@pytest.mark.parametrize("given", ["5", "5.0", " 5e0 "])
def test_numbers_as_text_set_dials(given: str) -> None:
    config: Any = {"configurable": {"hybrid_threshold": given}}
    assert model().route("an easy one", config).threshold == 5.0


@pytest.mark.parametrize("given", ["five", "nan", ""])
def test_texts_that_are_no_numbers_do_not(given: str) -> None:
    config: Any = {"configurable": {"hybrid_threshold": given}}
    with pytest.raises(DialError, match="threshold is a number"):
        model().route("an easy one", config)


def test_configs_list_what_they_can_set() -> None:
    hybrid = model()
    known = {f"hybrid_{name}" for name in OPTION_NAMES}
    assert {spec.id for spec in hybrid.config_specs} == known
    for each in (hybrid, hybrid.bind(stop=["x"]), hybrid | str):
        schema = each.get_config_jsonschema()["$defs"]["Configurable"]["properties"]
        assert known <= set(schema)
        assert all(schema[name]["description"] for name in known)
