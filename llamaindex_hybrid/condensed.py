"""What `condense_plus_context` has condensed: the question that its answer is to.

The engine has one call rewrite a follow-up as a question, retrieves by it, and asks for the answer
by the follow-up as it was said. The rewritten question is in the answer of the first call alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.generic_utils import messages_to_history_str
from llama_index.core.base.llms.types import CompletionResponse
from llama_index.core.chat_engine.condense_plus_context import DEFAULT_CONDENSE_PROMPT_TEMPLATE

from llamaindex_hybrid.kinds import kind_of_text
from llamaindex_hybrid.queries import messages_of
from shared_router.asking.turns import TurnMemory

if TYPE_CHECKING:
    from llamaindex_hybrid.queries import Asked

MOST_CONDENSED = 1024
"""Questions remembered; the ones not met for longest are forgotten first."""


class CondensedQuestions:
    """Remembers condensed questions by keyed hashes of the prompts that asked for them."""

    def __init__(self) -> None:
        self._memory: TurnMemory[str] = TurnMemory(MOST_CONDENSED)

    def __reduce__(self) -> tuple[type[CondensedQuestions], tuple[()]]:
        return CondensedQuestions, ()  # a copy starts afresh

    def hear(self, asked: Asked, answer: Any) -> None:
        """Remember the answer of a call that condenses; of any other, nothing."""
        if asked.prompt is not None or not isinstance(answer, CompletionResponse):
            return
        said = asked.said_last
        if said is not None and kind_of_text(said[1]) == "condense" and answer.text.strip():
            self._memory.remember([self._memory.key([said[1]])], answer.text.strip())

    def recall(self, asked: Asked, message: str) -> str | None:
        """Return what a message was condensed to, where the call answers it in a conversation."""
        if asked.prompt is None or not len(self._memory):
            return None
        history = messages_of(asked.prompt)[1:-1]  # after the context, before the message
        if not history:
            return None
        told = messages_to_history_str(history)
        prompt = DEFAULT_CONDENSE_PROMPT_TEMPLATE.format(chat_history=told, question=message)
        return self._memory.recall([self._memory.key([prompt])])
