"""A provider's keywords and tools go where they are understood, or are refused beforehand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import HumanMessage

from shared_router import Candidate
from shared_router.errors import ConfigurationError
from tests.langchain.doubles import Child, decision_of
from tests.langchain.test_foreign import candidate, routed, server, weather

if TYPE_CHECKING:
    from langchain_hybrid import HybridChatModel
    from tests.strict_servers import Server

__all__ = ["server"]

EPHEMERAL = {"type": "ephemeral"}
CLAUDE, GPT = "claude that thinks not", "chat"


@pytest.fixture
def mixed(server: Server) -> HybridChatModel:
    return routed(candidate(CLAUDE, server), candidate(GPT, server))


@pytest.mark.parametrize(("route", "sent"), [(CLAUDE, EPHEMERAL), (GPT, None)])
def test_a_hint_goes_only_where_it_is_understood(
    server: Server, mixed: HybridChatModel, route: str, sent: Any
) -> None:
    for model in (mixed, mixed.bind_tools([weather])):
        model.invoke("hard", cache_control=EPHEMERAL, route=route)
        assert server.asked[-1].get("cache_control") == sent


@pytest.mark.parametrize(("route", "sent"), [(CLAUDE, [EPHEMERAL]), (GPT, [])])
def test_a_mark_to_cache_a_block_goes_only_where_it_is_understood(
    server: Server, mixed: HybridChatModel, route: str, sent: Any
) -> None:
    said = HumanMessage([{"type": "text", "text": "a long text", "cache_control": EPHEMERAL}])
    mixed.invoke([said], route=route)
    content = server.asked[-1]["messages"][0]["content"]
    assert [block["cache_control"] for block in content if "cache_control" in block] == sent
    assert said.content[0]["cache_control"] == EPHEMERAL


@pytest.mark.parametrize(
    ("keywords", "able"),
    [({"seed": 1}, GPT), ({"top_k": 5}, CLAUDE), ({"stop_sequences": ["so"]}, CLAUDE)],
)
def test_what_changes_the_answer_goes_to_those_who_understand_it(
    server: Server, mixed: HybridChatModel, keywords: dict[str, Any], able: str
) -> None:
    decision = decision_of(mixed.invoke("hi", **keywords))
    assert decision["candidate"] == able
    assert server.refused == []
    with pytest.raises(ConfigurationError, match="Bind it to the model"):
        mixed.invoke("hi", **keywords, route=CLAUDE if able == GPT else GPT)
    assert len(server.asked) == 1


def test_what_nobody_understands_whole_is_refused_before_any_is_asked(
    server: Server, mixed: HybridChatModel
) -> None:
    with pytest.raises(ConfigurationError, match="'chat' not top_k"):
        mixed.invoke("hi", seed=1, top_k=5)
    assert server.asked == []


@pytest.mark.parametrize(
    ("tool", "able"),
    [
        ({"type": "web_search_20250305", "name": "web_search"}, CLAUDE),
        ({"type": "code_interpreter", "container": {"type": "auto"}}, GPT),
    ],
)
def test_a_tool_that_a_provider_runs_goes_to_that_provider(
    mixed: HybridChatModel, tool: dict[str, Any], able: str
) -> None:
    assert mixed.route("hi", tools=[tool]).candidate == able


def test_another_s_tools_and_keywords_are_nobody_s_business_where_a_client_is_unknown() -> None:
    model = routed(Candidate("a", Child(model="a")), Candidate("b", Child(model="b")))
    model.invoke("hi", seed=1, top_k=5, cache_control=EPHEMERAL)
    assert model.engine.candidates[0].model.keywords == [
        {"seed": 1, "top_k": 5, "cache_control": EPHEMERAL}
    ]
    assert model.route("hi", tools=[{"google_search": {}}]).candidate == "a"


NAMED = {"function": {"name": "weather"}, "type": "function"}


@pytest.mark.parametrize(
    ("choice", "claude", "gpt"),
    [
        ("required", {"type": "any"}, "required"),
        ("any", {"type": "any"}, "required"),
        ("none", {"type": "none"}, "none"),
        ("auto", {"type": "auto"}, "auto"),
        ("weather", {"type": "tool", "name": "weather"}, NAMED),
        (NAMED, {"type": "tool", "name": "weather"}, NAMED),
        ({"type": "tool", "name": "weather"}, {"type": "tool", "name": "weather"}, NAMED),
        ({"type": "any"}, {"type": "any"}, "required"),
    ],
)
def test_a_choice_of_tools_is_told_in_the_words_of_who_is_asked(
    server: Server, mixed: HybridChatModel, choice: Any, claude: Any, gpt: Any
) -> None:
    model: Any = mixed.bind_tools([weather], tool_choice=choice)
    for route in (CLAUDE, GPT):
        model.invoke("hi", route=route)
    assert [asked["tool_choice"] for asked in server.asked] == [claude, gpt]
