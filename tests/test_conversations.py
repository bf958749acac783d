"""Conversations over both fronts: who goes on, what is said of it, and in another process."""

from __future__ import annotations

import copy
import logging
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from llama_index.core.base.llms.types import ChatMessage, MessageRole, ToolCallBlock
from llama_index.core.prompts import ChatPromptTemplate

from langchain_hybrid import HybridChatModel
from llamaindex_hybrid import HybridLLM
from shared_router import hybrid_options
from shared_router.errors import ConfigurationError
from shared_router.records import ROUTING_KEY
from shared_router.testing import fixed_router
from tests.langchain.fakes import FakeChat
from tests.llamaindex.fakes import FakeLLM

if TYPE_CHECKING:
    from shared_router import Router

HARD = "Prove the hard theorem of Fermat about sums of powers."
EASY = "Which city is the capital of Denmark?"
"""Each stands by itself, whatever was said before."""
LONG_HARD = "hard " * 8000
"""Ten thousand tokens: to have them read anew by the small model does not pay."""


def by_words(text: str) -> float:
    return -1.0 if "hard" in text.lower() else 1.0


ROUTER = fixed_router(by_words)


class LangChain:
    """A conversation with a `HybridChatModel`; its messages tell who made them."""

    carries = True

    def __init__(self, router: Router = ROUTER, **options: Any) -> None:
        self.options = {"router": router, **options}
        self.models: dict[str, Any] = {name: FakeChat(model=name) for name in ("small", "large")}
        self.model = self.build()
        self.messages: list[Any] = []

    def build(self) -> HybridChatModel:
        return HybridChatModel(**self.models, **self.options)

    def say(self, text: str, **options: Any) -> dict[str, Any]:
        self.messages.append(HumanMessage(text))
        return self.go_on(**options)

    def go_on(self, **options: Any) -> dict[str, Any]:
        answer = self.model.invoke(self.messages, **options)
        self.messages.append(answer.model_copy(update={"usage_metadata": None}))
        return answer.response_metadata[ROUTING_KEY]  # type: ignore[no-any-return]

    def call_tool(self) -> None:
        """Let the last answer call a tool, which answers."""
        calls = [{"name": "look_up", "args": {}, "id": "1"}]
        self.messages[-1] = self.messages[-1].model_copy(update={"tool_calls": calls})
        self.messages.append(ToolMessage("found", tool_call_id="1"))

    def inject(self, text: str) -> None:
        self.messages.append(HumanMessage(text))

    def forget(self) -> None:
        """Send the history as a client does that keeps texts alone."""
        plain = [m if not isinstance(m, AIMessage) else _without_metadata(m) for m in self.messages]
        self.messages = plain

    def fail(self, name: str) -> None:
        self.models[name].fail_after = 0


def _without_metadata(message: AIMessage) -> AIMessage:
    return AIMessage(message.content, tool_calls=message.tool_calls)


class LlamaIndex:
    """A conversation with a `HybridLLM`; its messages cannot tell who made them."""

    carries = False

    def __init__(self, router: Router = ROUTER, **options: Any) -> None:
        self.options = {"router": router, **options}
        self.models: dict[str, Any] = {name: FakeLLM(name=name) for name in ("small", "large")}
        self.model = self.build()
        self.messages: list[Any] = []

    def build(self) -> HybridLLM:
        return HybridLLM(**self.models, **self.options)

    def say(self, text: str, **options: Any) -> dict[str, Any]:
        self.messages.append(ChatMessage(role="user", content=text))
        return self.go_on(**options)

    def go_on(self, **options: Any) -> dict[str, Any]:
        response = self.model.chat(self.messages, **options)
        self.messages.append(response.message)
        return response.additional_kwargs[ROUTING_KEY]  # type: ignore[no-any-return]

    def call_tool(self) -> None:
        call = ToolCallBlock(tool_call_id="1", tool_name="look_up", tool_kwargs={})
        self.messages[-1] = ChatMessage(role="assistant", blocks=[*self.messages[-1].blocks, call])
        tool = ChatMessage(role=MessageRole.TOOL, content="found")
        tool.additional_kwargs["tool_call_id"] = "1"
        self.messages.append(tool)

    def inject(self, text: str) -> None:
        self.messages.append(ChatMessage(role="user", content=text))

    def forget(self) -> None:
        self.messages = [copy.deepcopy(each) for each in self.messages]

    def fail(self, name: str) -> None:
        self.models[name].fail_after = 0


FRONTS = pytest.mark.parametrize("front", [LangChain, LlamaIndex])


def told(found: dict[str, Any]) -> tuple[str, str, str | None]:
    return found["answered_by"], found["reason"], found["conversation"]


@FRONTS
@pytest.mark.parametrize(
    ("mode", "texts", "found"),
    [
        ("auto", [HARD, EASY], [("large", "score", "started"), ("small", "score", "switched")]),
        ("auto", [EASY, HARD], [("small", "score", "started"), ("large", "score", "switched")]),
        ("auto", [LONG_HARD, EASY], [("large", "score", "started"), ("large", "sticky", "kept")]),
        ("auto", [HARD, HARD], [("large", "score", "started"), ("large", "score", "kept")]),
        (
            "turn",
            [LONG_HARD, EASY],
            [("large", "score", "started"), ("small", "score", "switched")],
        ),
        ("keep", [HARD, EASY], [("large", "score", "started"), ("large", "sticky", "kept")]),
        ("keep", [EASY, HARD], [("small", "score", "started"), ("small", "sticky", "kept")]),
    ],
)
def test_turns_of_a_conversation(front: Any, mode: str, texts: list[str], found: Any) -> None:
    chat = front(conversation=mode)
    assert [told(chat.say(text)) for text in texts] == found


@FRONTS
def test_a_call_says_how_its_conversation_is_routed(front: Any) -> None:
    chat = front()
    chat.say(EASY)
    assert told(chat.say(HARD, conversation="keep")) == ("small", "sticky", "kept")
    with hybrid_options(conversation="keep"):
        assert told(chat.say(HARD)) == ("small", "sticky", "kept")
    assert told(chat.say(HARD)) == ("large", "score", "switched")


@FRONTS
@pytest.mark.parametrize("wrong", ["kepp", "turns", "", True, 1.5])
def test_what_is_no_mode_is_refused(front: Any, wrong: Any) -> None:
    with pytest.raises((ConfigurationError, ValueError), match="conversation"):
        front(conversation=wrong)
    with pytest.raises(ConfigurationError, match="conversation"):
        front().say(EASY, conversation=wrong)


# -- within a turn --------------------------------------------------------------------------------


@FRONTS
@pytest.mark.parametrize("mode", ["auto", "turn", "keep"])
@pytest.mark.parametrize("plain", [False, True], ids=["as it came", "texts alone"])
def test_within_a_turn_nobody_switches(front: Any, mode: str, plain: bool) -> None:
    """Not for a tool's answer, nor what a harness says, nor another dial."""
    chat = front(conversation=mode)
    chat.say(EASY)
    chat.call_tool()
    if plain:
        chat.forget()
    assert told(chat.go_on()) == ("small", "sticky", "kept")
    chat.call_tool()
    chat.inject("You must think hard now.")
    if plain:
        chat.forget()
    assert told(chat.go_on(threshold=5.0)) == ("small", "sticky", "kept")
    chat.call_tool()
    assert told(chat.go_on(threshold=5.0)) == ("small", "sticky", "kept")


@FRONTS
def test_a_model_that_fails_within_a_turn_is_left_and_the_other_one_kept(front: Any) -> None:
    chat = front()
    chat.say(EASY)
    chat.call_tool()
    chat.fail("small")
    found = chat.go_on()
    assert (found["candidate"], found["answered_by"]) == ("small", "large")
    chat.call_tool()
    assert told(chat.go_on()) == ("large", "sticky", "kept")


# -- who answered is not told by the messages -----------------------------------------------------


@FRONTS
def test_texts_alone_are_known_again_in_the_same_process(front: Any) -> None:
    chat = front(conversation="keep")
    chat.say(HARD, route="small")
    chat.forget()
    assert told(chat.say(HARD)) == ("small", "sticky", "kept")
    chat.forget()
    assert told(chat.say(HARD)) == ("small", "sticky", "kept")


@FRONTS
def test_another_process_keeps_what_the_beginning_asks_for(front: Any) -> None:
    chat = front(conversation="keep")
    chat.say(HARD)
    chat.forget()
    chat.model = chat.build()
    assert told(chat.say(EASY)) == ("large", "score", "started")
    chat.model = chat.build()
    chat.forget()
    assert told(chat.say(EASY)) == ("large", "score", "started")


def test_messages_tell_another_process_who_answered() -> None:
    chat = LangChain(conversation="keep")
    chat.say(HARD, route="small")
    chat.messages = pickle.loads(pickle.dumps(chat.messages))  # noqa: S301
    chat.model = chat.build()
    assert told(chat.say(HARD)) == ("small", "sticky", "kept")


def test_a_providers_own_name_of_a_model_tells_who_answered() -> None:
    chat = LangChain(conversation="keep")
    chat.messages = [HumanMessage(HARD), AIMessage("so", response_metadata={"model_name": "small"})]
    assert told(chat.say(HARD)) == ("small", "sticky", "kept")


@FRONTS
def test_a_named_conversation_is_known_by_its_name(front: Any) -> None:
    """Though its history is cut away, as a window of the last messages does."""
    chat = front(conversation="keep")
    chat.say(EASY, conversation="user 7")
    chat.messages.clear()
    assert told(chat.say(HARD, conversation="user 7")) == ("small", "sticky", "kept")
    chat.messages.clear()
    assert told(chat.say(HARD, conversation="user 8")) == ("large", "score", "started")
    chat.messages.clear()
    assert told(chat.say(HARD)) == ("large", "score", "started")


@FRONTS
def test_copies_and_pickles_carry_nobodys_words(front: Any) -> None:
    chat = front(conversation="keep")
    chat.say("a secret")
    if front is LangChain:
        assert b"secret" not in pickle.dumps(chat.model._conversations)
    copied = chat.model.model_copy()
    chat.model = copied
    assert told(chat.say(HARD)) == ("small", "sticky", "kept")


@FRONTS
def test_a_conversation_that_cannot_be_read_is_routed_by_its_turn(
    front: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("secret")

    chat = front()
    monkeypatch.setattr("shared_router.engine.conversations.standing", broken)
    with caplog.at_level(logging.WARNING, "hybrid_llm"):
        assert told(chat.say(EASY)) == ("small", "score", None)
    assert "Reading the conversation raised RuntimeError." in caplog.text
    assert "secret" not in caplog.text


# -- prompts that hold a conversation, as chat engines make them ----------------------------------


def test_a_chat_engines_prompt_continues_its_conversation() -> None:
    chat = LlamaIndex(conversation="keep")
    chat.say(EASY)
    system = ChatMessage(role="system", content="{context_str}")
    question = ChatMessage(role="user", content="{query_str}")
    prompt = ChatPromptTemplate([system, *chat.messages, question])
    values = {"context_str": "told", "query_str": HARD}
    assert chat.model.route(prompt, **values).conversation == "kept"
    chat.model.predict(prompt, **values)
    chat.inject(HARD)
    chat.messages.append(ChatMessage(role="assistant", content="so"))
    prompt = ChatPromptTemplate([system, *chat.messages, question])
    assert chat.model.route(prompt, **values).conversation == "kept"


def test_a_single_prompt_is_of_no_conversation() -> None:
    chat = LlamaIndex()
    prompt = ChatPromptTemplate([ChatMessage(role="user", content="{query_str}")])
    assert chat.model.route(prompt, query_str=EASY).conversation is None
    assert chat.model.route(EASY).conversation == "started"
