"""A LlamaIndex call in its conversation: what was said, and by whom."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from llamaindex_hybrid.queries import (
    ASSISTANT,
    messages_of,
    said_by,
    text_of,
    variable_query,
)
from shared_router.asking.conversations import Said
from shared_router.engine.conversations import NOWHERE, Place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llama_index.core.base.llms.types import ChatMessage

    from llamaindex_hybrid.queries import Asked
    from shared_router.engine.conversations import Conversations
    from shared_router.engine.engine import RoutingEngine
    from shared_router.options import CallOptions

logger = logging.getLogger("hybrid_llm")


def place_of(
    asked: Asked,
    variables: Sequence[str],
    options: CallOptions,
    engine: RoutingEngine,
    conversations: Conversations,
) -> Place:
    """Find where a call stands in its conversation; nowhere, where that cannot be read.

    Args:
        asked: What the call was given.
        variables: Prompt variables that hold a question.
        options: The call's routing options.
        engine: Knows the candidates.
        conversations: Remembers who answers: LlamaIndex's messages cannot say it.
    """
    try:
        said = asked.said if asked.prompt is None else _said_in_prompt(asked, variables)
        return conversations.place(said, options, engine.candidates)
    except Exception as error:  # noqa: BLE001  (a chain never breaks because the router did)
        logger.warning("Reading the conversation raised %s.", type(error).__name__)
        return NOWHERE


def _said_in_prompt(asked: Asked, variables: Sequence[str]) -> list[Said]:
    """Read the conversation that a chat engine put into a prompt, which ends with the question."""
    messages = () if asked.prompt is None else messages_of(asked.prompt)
    question = variable_query(asked.variables, variables)
    if question is None or not any(message.role in ASSISTANT for message in messages):
        return []
    return [*map(_said, messages[:-1]), Said(role="user", text=question.text)]


def _said(message: ChatMessage) -> Said:
    return said_by(message, text_of(message))
