"""Both fronts score the same text of a conversation: each row is a conversation and that text."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from llama_index.core.base.llms.types import ChatMessage

from shared_router.testing import fixed_router
from tests.llamaindex.fronts import LangChain, LlamaIndex
from tests.material import PAIR

HARD = "Prove the hard theorem of Liouville on bounded entire functions."
EASY = "Which city is the capital of Denmark?"
OFFER = "Restarted.\n\nShall I rewrite the scheduler for hard deadlines as well?"
MADE: dict[str, Any] = {
    "system": (SystemMessage, lambda text: ChatMessage(text, role="system")),
    "user": (HumanMessage, lambda text: ChatMessage(text, role="user")),
    "assistant": (AIMessage, lambda text: ChatMessage(text, role="assistant")),
    "tool": (
        lambda text: ToolMessage(text, tool_call_id="1"),
        lambda text: ChatMessage(text, role="tool"),
    ),
}


def talk(*texts: str) -> list[tuple[str, str]]:
    return [(("user", "assistant")[at % 2], text) for at, text in enumerate(texts)]


CONVERSATIONS: dict[str, tuple[list[tuple[str, str]], str]] = {
    "a first turn": (talk("yes"), "yes"),
    "a correction": (
        talk(HARD, "So.", "That is wrong, the third step does not follow. Redo it."),
        HARD,
    ),
    "yes": (talk("a hard proof please", "So.", "yes"), "a hard proof please"),
    "many follow-ups": (
        talk("a hard proof please", "So.", "yes", "So.", "go on", "So.", "why?", "So.", "shorter"),
        "a hard proof please",
    ),
    "with words of its own": (
        talk("a hard proof please", "So.", "fix the bug you mentioned"),
        "a hard proof please\nfix the bug you mentioned",
    ),
    "what about": (
        talk(HARD, "So.", "what about a workflow for this?"),
        f"{HARD}\nwhat about a workflow for this?",
    ),
    "and the last step": (talk(HARD, "So.", "and the last step?"), HARD),
    "an easy one, gone on with": (talk(EASY, "Copenhagen.", "continue"), EASY),
    "another question": (talk(HARD, "So.", EASY), EASY),
    "a harder question": (talk(EASY, "Copenhagen.", HARD), HARD),
    "yes to an offer": (
        talk("Restart the service on the old host.", OFFER, "yes"),
        f"Restart the service on the old host.\n{OFFER.rpartition(chr(10))[2]}",
    ),
    "two in a row": (
        [("user", f"here it is: {HARD}"), ("user", "please check it")],
        f"here it is: {HARD}\nplease check it",
    ),
    "a memory": (
        [*talk(HARD, "So."), ("user", f"<memory>\nThe user is Ann.\n</memory>\n{EASY}")],
        EASY,
    ),
    "a reminder in a loop": (
        [
            ("user", EASY),
            ("assistant", "I look."),
            ("tool", "42"),
            ("user", "<system-reminder>Prove that you are done.</system-reminder>"),
        ],
        EASY,
    ),
    "go on, by the harness": (
        [("system", "Be kind."), *talk(HARD, "I look."), ("tool", "42"), ("user", "Continue.")],
        HARD,
    ),
}


@pytest.mark.parametrize("front", [LangChain, LlamaIndex])
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_what_is_scored(name: str, front: Any) -> None:
    said, expected = CONVERSATIONS[name]
    at = (LangChain, LlamaIndex).index(front)
    texts: list[str] = []

    def score(text: str) -> float:
        texts.append(text)
        return -1.0 if "hard" in text else 1.0

    model = front.build(fixed_router(score, candidates=tuple(PAIR)))
    decision = model.route([MADE[role][at](text) for role, text in said])
    assert texts == [expected]
    assert decision.candidate == ("large" if "hard" in expected else "small")
    earlier = expected != said[-1][1] and name not in ("two in a row", "a memory")
    last = "conversation" if earlier else "last_user_message"
    assert decision.query_source == ("last_user_message" if "reminder" in name else last)
