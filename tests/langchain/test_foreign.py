"""When the model changes, what only the other one can read is left out; nobody refuses a call."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from langchain_hybrid import HybridChatModel
from langchain_hybrid.foreign import Reader, readable
from shared_router import Candidate, Router
from tests.langchain.doubles import Child, RecordingScorer
from tests.strict_servers import WITHOUT_TOOLS, Server, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

TURNS, MOST_STEPS = 6, 5
KINDS = (
    *("chat", "responses", "responses v0", "responses v1", "stateless", "by id"),
    *("claude", "other claude", "claude v1", "claude that thinks not", WITHOUT_TOOLS),
)


@tool
def weather(place: str) -> str:
    """Tell the weather."""
    return f"sunny in {place}"


@tool
def news(place: str) -> str:
    """Tell the news."""
    return f"none from {place}"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


def gpt(server: Server, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(base_url=f"{server.url}/v1", api_key="k", max_retries=0, **options)


def claude(server: Server, *, thinks: bool = True, **options: Any) -> ChatAnthropic:
    if thinks:
        options["thinking"] = {"type": "enabled", "budget_tokens": 1024}
    return ChatAnthropic(
        base_url=server.url, api_key="k", max_tokens=2048, max_retries=0, **options
    )


def candidate(kind: str, server: Server) -> Candidate:
    if kind == WITHOUT_TOOLS:
        plain = gpt(server, model=kind, use_responses_api=False)
        return Candidate(kind, plain, supports_tools=False)
    return Candidate(kind, client(kind, server))


def client(kind: str, server: Server) -> Any:
    include = ["reasoning.encrypted_content"]
    thinking = {"model": "gpt-5", "use_responses_api": True}
    made = {
        "chat": lambda: gpt(server, model="gpt-4.1", use_responses_api=False),
        "responses": lambda: gpt(server, **thinking, output_version="responses/v1"),
        "responses v0": lambda: gpt(server, **thinking | {"model": "gpt-5-mini"}),
        "responses v1": lambda: gpt(server, **thinking, output_version="v1"),
        "stateless": lambda: gpt(
            server, **thinking | {"model": "gpt-5-nano"}, store=False, include=include
        ),
        "by id": lambda: gpt(
            server, **thinking | {"model": "gpt-5-pro"}, use_previous_response_id=True
        ),
        "claude": lambda: claude(server, model="claude-large"),
        "other claude": lambda: claude(server, model="claude-small"),
        "claude v1": lambda: claude(server, model="claude-middle", output_version="v1"),
        "claude that thinks not": lambda: claude(server, model="claude-large", thinks=False),
    }
    return made[kind]()


def routed(*candidates: Candidate, **options: Any) -> HybridChatModel:
    names = [each.name for each in candidates]
    router = Router(candidates=names, scorer=RecordingScorer(), name="test")
    return HybridChatModel(candidates=candidates, router=router, breaker=False, **options)


def converse(server: Server, model: HybridChatModel, kinds: list[str], seed: int) -> None:
    """Hold a conversation; at each step somebody else may be forced to answer, or fail."""
    chance = random.Random(seed)  # noqa: S311
    able = [kind for kind in kinds if kind != WITHOUT_TOOLS]
    said: list[Any] = []
    for _ in range(TURNS):
        said.append(HumanMessage("And now?"))
        asked, route = model, chance.choice(kinds)
        if able and chance.random() < 0.7:
            asked, route = model.bind_tools([weather, news]), chance.choice(able)
        for _ in range(MOST_STEPS):
            names = {each.name: each.model.model for each in model.engine.candidates}
            server.down = {names[route]} if chance.random() < 0.2 and able == kinds else set()
            if server.down == set(names.values()):
                server.down = set()
            answer = asked.invoke(said, route=route)
            said.append(answer)
            if not answer.tool_calls:
                break
            said += [ToolMessage("sunny", tool_call_id=each["id"]) for each in answer.tool_calls]
            if chance.random() < 0.3:
                route = chance.choice(able)
        if said[-1].type == "tool":
            said.append(AIMessage("It is so."))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("conversations", [40, pytest.param(200, marks=pytest.mark.statistical)])
def test_no_call_of_many_random_conversations_is_refused(
    server: Server, conversations: int
) -> None:
    chance = random.Random(0)  # noqa: S311
    made = {kind: candidate(kind, server) for kind in KINDS}
    for seed in range(conversations):
        kinds = chance.sample(KINDS, 2)
        converse(server, routed(*(made[kind] for kind in kinds)), kinds, seed)
        assert not server.refused, (seed, kinds)
    assert len(server.asked) > conversations * TURNS


def turn(server: Server, model: Any, said: list[Any], route: str) -> dict[str, Any]:
    """Say something, and return what reached the server."""
    said.append(HumanMessage("yes"))
    said.append(model.invoke(said, route=route))
    return server.asked[-1]


def kinds_sent(asked: dict[str, Any]) -> list[str]:
    """Return the kinds of blocks of the assistant's messages that reached Anthropic's server."""
    sent = (each["content"] for each in asked["messages"] if each["role"] == "assistant")
    blocks = (block for each in sent if isinstance(each, list) for block in each)
    return [block["type"] for block in blocks]


def test_foreign_thinking_is_left_out_and_one_s_own_comes_back(server: Server) -> None:
    server.random.random = lambda: 0.9  # type: ignore[method-assign]  (nothing but thinking and text)
    model = routed(candidate("claude", server), candidate("other claude", server))
    said: list[Any] = []
    turn(server, model, said, "other claude")
    assert kinds_sent(turn(server, model, said, "claude")) == []
    assert kinds_sent(turn(server, model, said, "other claude")) == ["thinking", "text"]
    assert server.refused == []
    assert said[1].content[0]["signature"]


def test_openai_and_a_claude_that_thinks_take_turns(server: Server) -> None:
    model = routed(candidate("chat", server), candidate("claude", server))
    for asked in (model, model.bind_tools([weather, news])):
        said: list[Any] = []
        for route in ("claude", "chat", "claude"):
            turn(server, asked, said, route)
            said += [ToolMessage("sunny", tool_call_id=c["id"]) for c in said[-1].tool_calls]
            if said[-1].type == "tool":
                said.append(AIMessage("Sunny."))
    assert server.refused == []


def test_an_answer_s_id_goes_to_its_own_server_alone(server: Server) -> None:
    server.random.random = lambda: 0.9  # type: ignore[method-assign]
    model = routed(candidate("by id", server), candidate("responses", server))
    said: list[Any] = []
    turn(server, model, said, "by id")
    assert "previous_response_id" not in turn(server, model, said, "responses")
    back = turn(server, model, said, "by id")
    assert back["previous_response_id"] == said[1].response_metadata["id"]
    assert len(back["input"]) == 3
    assert server.refused == []


def test_tool_history_goes_to_models_that_take_tools(server: Server) -> None:
    model = routed(candidate(WITHOUT_TOOLS, server), candidate("chat", server))
    call = {"name": "weather", "args": {"place": "Rome"}, "id": "1"}
    said = [
        HumanMessage("hi"),
        AIMessage("", tool_calls=[call]),
        ToolMessage("sunny", tool_call_id="1"),
    ]
    decision = model.route([*said, HumanMessage("summarise")])
    assert (decision.candidate, decision.reason) == ("chat", "capability")
    assert model.route("hi").candidate == WITHOUT_TOOLS


def test_tool_history_is_told_in_text_to_a_model_without_tools(server: Server) -> None:
    model = routed(candidate(WITHOUT_TOOLS, server), candidate("chat", server))
    calls = [
        {"name": "weather", "args": {"place": "Rome"}, "id": "1"},
        {"name": "news", "args": {}, "id": "2"},
    ]
    said = [
        HumanMessage("hi"),
        AIMessage("I look.", tool_calls=calls),
        ToolMessage("sunny", tool_call_id="1"),
        ToolMessage("none", tool_call_id="2"),
        HumanMessage("summarise"),
    ]
    model.invoke(said, route=WITHOUT_TOOLS)
    told = 'I look.\n\nI called the tool weather with {"place": "Rome"}.'
    assert [each["content"] for each in server.asked[-1]["messages"]] == [
        "hi",
        f"{told}\n\nI called the tool news with {{}}.",
        "The tool weather answered:\nsunny\n\nThe tool news answered:\nnone",
        "summarise",
    ]


def test_who_wrote_it_is_known_by_the_decision_then_by_the_provider_s_name() -> None:
    readers = readers_of(("small", "m-small"), ("large", "m-large"))
    assert own(signed(hybrid_routing={"answered_by": "large"}), readers) == [False, True]
    assert own(signed(hybrid_routing={"candidate": "small"}), readers) == [True, False]
    assert own(signed(model_name="m-large-2026-01-02"), readers) == [False, True]
    assert own(signed(model_name="another"), readers) == [False, False]


def test_what_nobody_signed_is_the_only_one_s_that_writes_so(server: Server) -> None:
    """A client that drops metadata loses no thinking while it is clear whose it is."""
    one = [Reader.of(candidate(kind, server)) for kind in ("chat", "claude")]
    assert own(signed(), one) == [False, True]
    two = [Reader.of(candidate(kind, server)) for kind in ("claude", "other claude")]
    assert own(signed(), two) == [False, False]


def test_a_client_that_drops_metadata_is_refused_nothing_within_a_turn(server: Server) -> None:
    model = routed(candidate("claude", server), candidate("other claude", server))
    asked = model.bind_tools([weather, news])
    answer = AIMessage("")
    while not answer.tool_calls:
        answer = asked.invoke("hi", route="claude")
    answer.response_metadata.clear()
    results = [ToolMessage("sunny", tool_call_id=each["id"]) for each in answer.tool_calls]
    for route in ("claude", "other claude"):
        asked.invoke([HumanMessage("hi"), answer, *results], route=route)
    assert server.refused == []


def test_one_model_twice_reads_what_it_wrote(server: Server) -> None:
    model = client("claude", server)
    low = [Reader.of(Candidate(name, model.bind(stop=[name]))) for name in ("low", "high")]
    assert own(signed(hybrid_routing={"answered_by": "low"}), low) == [True, True]


def test_what_needs_no_change_is_the_same_object() -> None:
    readers = readers_of(("small", "m-small"), ("large", "m-large"))
    said = [HumanMessage("a"), AIMessage("b", response_metadata={"model_name": "m-large"})]
    assert readable(said, 0, readers) is said
    foreign = signed(model_name="m-large")
    read = readable([*said, foreign], 0, readers)
    assert read[:2] == said
    assert read[0] is said[0]
    assert (read[2].content, read[2].tool_calls) == ("So.", [])
    assert foreign.content[0]["signature"]
    assert readable([*said, foreign], 1, readers)[2] is foreign


def test_a_message_of_foreign_parts_alone_is_left_out_with_what_answers_it() -> None:
    readers = readers_of(("small", "m-small"), ("large", "m-large"))
    used = AIMessage([{"type": "computer_call", "id": "1"}], response_metadata={"model": "m-large"})
    said = [HumanMessage("a"), used, ToolMessage("done", tool_call_id="1"), HumanMessage("b")]
    assert readable(said, 0, readers) == [said[0], said[3]]
    assert readable(said, 1, readers) is said
    assert [each.content for each in readable([said[0], used, said[3]], 0, readers)] == [
        "a",
        "(no text)",
        "b",
    ]


def signed(**told: Any) -> AIMessage:
    thinking = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    return AIMessage([thinking, {"type": "text", "text": "So."}], response_metadata=told)


def readers_of(*named: tuple[str, str]) -> list[Reader]:
    return [Reader.of(Candidate(name, Child(model=at), aliases=(at,))) for name, at in named]


def own(message: AIMessage, readers: list[Reader]) -> list[bool]:
    """Tell for each candidate whether it is given the message whole."""
    return [readable([message], at, readers)[0] is message for at in range(len(readers))]
