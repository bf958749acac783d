"""When the model changes, what only the other one can read is left out; nobody refuses a call."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.base.llms.types import (
    CacheControl,
    CachePoint,
    ChatMessage,
    CitationBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.chat_engine import CondensePlusContextChatEngine
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.prompts import ChatPromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai import OpenAIResponses
from llama_index.llms.openai_like import OpenAILike

from llamaindex_hybrid import HybridLLM
from llamaindex_hybrid.foreign import Reader, readable
from shared_router import Candidate, Router
from shared_router.errors import ConfigurationError
from shared_router.records import ROUTING_KEY
from tests.langchain.doubles import RecordingScorer
from tests.llamaindex.claude import Anthropic
from tests.strict_servers import WITHOUT_TOOLS, Server, serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TURNS, MOST_STEPS = 6, 5
KINDS = (
    *("chat", "responses", "stored responses", "other responses", WITHOUT_TOOLS),
    *("claude", "other claude", "claude that thinks not"),
)


def weather(place: str) -> str:
    """Tell the weather."""
    return f"sunny in {place}"


def news(place: str) -> str:
    """Tell the news."""
    return f"none from {place}"


TOOLS = [FunctionTool.from_defaults(weather), FunctionTool.from_defaults(news)]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


def like(server: Server, model: str, **options: Any) -> OpenAILike:
    return OpenAILike(
        model=model,
        api_base=f"{server.url}/v1",
        api_key="k",
        max_retries=0,
        is_chat_model=True,
        **options,
    )


def responses(server: Server, model: str, **options: Any) -> OpenAIResponses:
    return OpenAIResponses(
        model=model, api_base=f"{server.url}/v1", api_key="k", max_retries=0, **options
    )


def claude(server: Server, model: str, *, thinks: bool = True) -> Anthropic:
    thinking = {"type": "enabled", "budget_tokens": 1024} if thinks else None
    return Anthropic(model=model, base_url=server.url, thinking_dict=thinking)


def candidate(kind: str, server: Server) -> Candidate:
    made = {
        "chat": lambda: like(server, "gpt-4.1", is_function_calling_model=True),
        WITHOUT_TOOLS: lambda: like(server, WITHOUT_TOOLS),
        "responses": lambda: responses(server, "gpt-5"),
        "stored responses": lambda: responses(server, "gpt-5-mini", store=True),
        "other responses": lambda: responses(server, "gpt-5-nano", store=True),
        "claude": lambda: claude(server, "claude-large"),
        "other claude": lambda: claude(server, "claude-small"),
        "claude that thinks not": lambda: claude(server, "claude-large", thinks=False),
    }
    return Candidate(kind, made[kind]())


def routed(*candidates: Candidate, **options: Any) -> HybridLLM:
    names = [each.name for each in candidates]
    router = Router(candidates=names, scorer=RecordingScorer(), name="test")
    return HybridLLM(candidates=candidates, router=router, breaker=False, **options)


def result(call: Any) -> ChatMessage:
    return ChatMessage(
        role=MessageRole.TOOL, content="sunny", additional_kwargs={"tool_call_id": call.tool_id}
    )


def converse(server: Server, llm: HybridLLM, kinds: list[str], seed: int) -> None:
    """Hold a conversation; at each step somebody else may be forced to answer, or fail."""
    chance = random.Random(seed)  # noqa: S311
    able = [kind for kind in kinds if kind != WITHOUT_TOOLS]
    names = {each.name: each.model.model for each in llm.engine.candidates}
    said: list[ChatMessage] = []
    for _ in range(TURNS):
        said.append(ChatMessage("And now?"))
        with_tools, route = chance.random() < 0.7, chance.choice(kinds)
        for _ in range(MOST_STEPS):
            if with_tools:
                route = route if route in able else chance.choice(able)
            fails = able == kinds and len(set(names.values())) > 1 and chance.random() < 0.2
            server.down = {names[route]} if fails else set()
            answer = (
                llm.chat_with_tools(TOOLS, chat_history=said, route=route)
                if with_tools
                else llm.chat(said, route=route)
            )
            said.append(ChatMessage.model_validate(answer.message.model_dump()))  # as memories do
            calls = llm.get_tool_calls_from_response(answer, error_on_no_tool_call=False)
            if not calls:
                break
            said += [result(call) for call in calls]
            if chance.random() < 0.3:
                route = chance.choice(able)
        if said[-1].role == MessageRole.TOOL:
            said.append(ChatMessage("It is so.", role="assistant"))


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


@pytest.fixture
def two(server: Server) -> HybridLLM:
    server.random.random = lambda: 0.9  # type: ignore[method-assign]  (no tools, no searches)
    return routed(candidate("claude", server), candidate("other claude", server))


def thoughts(server: Server) -> list[str]:
    """Return the signatures that reached the server last."""
    blocks = (block for each in server.asked[-1]["messages"] for block in each["content"])
    return [block["signature"] for block in blocks if block["type"] == "thinking"]


def test_foreign_thinking_is_left_out_and_one_s_own_comes_back(
    server: Server, two: HybridLLM
) -> None:
    said = [ChatMessage("a hard one")]
    said += [two.chat(said, route="other claude").message, ChatMessage("yes")]
    signed = said[1].blocks[0].additional_information
    said += [two.chat(said, route="claude").message, ChatMessage("go on")]
    assert thoughts(server) == []
    two.chat(said, route="other claude")
    assert thoughts(server) == [signed["signature"]]
    assert server.refused == []


def test_a_conversation_inside_of_a_prompt_is_read_alike(server: Server, two: HybridLLM) -> None:
    answer = two.chat([ChatMessage("a hard one")], route="other claude").message
    for route, count in (("claude", 0), ("other claude", 1)):
        prompt = ChatPromptTemplate([ChatMessage("hi"), answer, ChatMessage("{query_str}")])
        two.predict(prompt, query_str="why?", route=route)
        assert len(thoughts(server)) == count
    assert prompt.message_templates[1] is answer


class Nothing:
    """A retriever that finds nothing."""

    def retrieve(self, _: Any) -> list[Any]:
        return []


def test_a_chat_engine_may_change_its_model(server: Server, two: HybridLLM) -> None:
    memory = ChatMemoryBuffer.from_defaults(
        chat_history=[ChatMessage("hard"), two.chat([ChatMessage("hard")], route="claude").message]
    )
    engine = CondensePlusContextChatEngine(
        retriever=Nothing(), llm=two, memory=memory, skip_condense=True
    )
    engine.chat("why?")
    assert server.refused == []


def test_a_mark_says_who_wrote_it_and_is_not_sent(server: Server, two: HybridLLM) -> None:
    answer = two.chat([ChatMessage("hi")], route="claude")
    assert answer.message.blocks[0].additional_information[ROUTING_KEY] == "claude"
    assert ROUTING_KEY not in answer.raw["content"][0]
    read = readable([answer.message], 0, two._readers)
    assert read[0].blocks[0].additional_information == {
        "signature": answer.raw["content"][0]["signature"],
        "type": "thinking",
    }


def test_what_nobody_marked_is_the_only_one_s_that_writes_so(server: Server) -> None:
    block = ThinkingBlock(content="Hm.", additional_information={"signature": "s"})
    message = ChatMessage(role="assistant", blocks=[block, TextBlock(text="So.")])
    one = readers(server, "chat", "claude")
    assert [len(readable([message], at, one)[0].blocks) for at in (0, 1)] == [1, 2]
    several = readers(server, "claude", "other claude")
    assert [len(readable([message], at, several)[0].blocks) for at in (0, 1)] == [1, 1]


def readers(server: Server, *kinds: str) -> list[Reader]:
    return [Reader.of(candidate(kind, server)) for kind in kinds]


def test_what_needs_no_change_is_the_same_object(server: Server) -> None:
    said: Sequence[ChatMessage] = [ChatMessage("a"), ChatMessage("b", role="assistant")]
    for at, _ in enumerate(kinds := ("chat", "claude")):
        assert readable(said, at, readers(server, *kinds)) is said


def test_blocks_that_openai_s_client_raises_at_are_left_out(server: Server) -> None:
    point = CachePoint(cache_control=CacheControl(type="ephemeral"))
    cited = CitationBlock(
        cited_content=TextBlock(text="so"), source="s", title="t", additional_location_info={}
    )
    said = [
        ChatMessage(blocks=[TextBlock(text="a long text"), point]),
        ChatMessage(role="assistant", blocks=[TextBlock(text="So."), cited]),
        ChatMessage("and now?"),
    ]
    routed(candidate("chat", server), candidate("claude", server)).chat(said, route="chat")
    assert [each["content"] for each in server.asked[-1]["messages"]] == [
        "a long text",
        "So.",
        "and now?",
    ]
    assert said[0].blocks[1] is point


def called(kwargs: Any) -> list[ChatMessage]:
    call = ToolCallBlock(tool_call_id="1", tool_name="weather", tool_kwargs=kwargs)
    return [
        ChatMessage("hi"),
        ChatMessage(role="assistant", blocks=[TextBlock(text="I look."), call]),
        ChatMessage("sunny", role="tool", additional_kwargs={"tool_call_id": "1"}),
        ChatMessage("summarise"),
    ]


def test_arguments_in_json_reach_claude_as_what_they_say(server: Server) -> None:
    llm = routed(candidate("chat", server), candidate("claude that thinks not", server))
    llm.chat(called('{"place": "Rome"}'), route="claude that thinks not")
    assert server.asked[-1]["messages"][1]["content"][1]["input"] == {"place": "Rome"}


def test_tool_history_goes_to_models_that_take_tools_or_is_told_in_text(server: Server) -> None:
    llm = routed(candidate(WITHOUT_TOOLS, server), candidate("chat", server))
    said = called({"place": "Rome"})
    decision = llm.route(said)
    assert (decision.candidate, decision.reason) == ("chat", "capability")
    llm.chat(said, route=WITHOUT_TOOLS)
    assert [each["content"] for each in server.asked[-1]["messages"]] == [
        "hi",
        'I look.\n\nI called the tool weather with {"place": "Rome"}.',
        "The tool weather answered:\nsunny",
        "summarise",
    ]
    assert server.refused == []


def test_the_caller_s_history_is_not_added_to(server: Server, two: HybridLLM) -> None:
    history = [ChatMessage("hi"), ChatMessage("So.", role="assistant")]
    two.chat_with_tools(TOOLS, user_msg="and now?", chat_history=history)
    assert len(history) == 2
    assert len(server.asked[-1]["messages"]) == 3


def test_keywords_go_where_they_are_understood(server: Server) -> None:
    claude, gpt = "claude that thinks not", "chat"
    llm = routed(candidate(claude, server), candidate(gpt, server))
    for route, sent in ((claude, {"type": "ephemeral"}), (gpt, None)):
        llm.chat([ChatMessage("hi")], cache_control={"type": "ephemeral"}, route=route)
        assert server.asked[-1].get("cache_control") == sent
    assert llm.chat([ChatMessage("hi")], seed=1).additional_kwargs[ROUTING_KEY]["candidate"] == gpt
    with pytest.raises(ConfigurationError, match="'chat' not top_k"):
        llm.chat([ChatMessage("hi")], top_k=5, route=gpt)


@pytest.mark.parametrize(
    ("choice", "claude", "gpt"),
    [
        ("required", {"type": "any"}, "required"),
        ({"type": "any"}, {"type": "any"}, "required"),
        ("none", {"type": "none"}, "none"),
        (
            {"type": "tool", "name": "news"},
            {"type": "tool", "name": "news"},
            {"type": "function", "function": {"name": "news"}},
        ),
    ],
)
def test_a_choice_of_tools_is_told_in_the_words_of_who_is_asked(
    server: Server, choice: Any, claude: Any, gpt: Any
) -> None:
    names = ("claude that thinks not", "chat")
    llm = routed(*(candidate(name, server) for name in names))
    for route in names:
        llm.chat_with_tools(TOOLS, "hi", tool_choice=choice, route=route)
    assert [asked["tool_choice"] for asked in server.asked] == [claude, gpt]
