"""Which text to route by: pure conversion from LangChain messages to a `RoutingQuery`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from langchain_hybrid.prompts import QueryFromPrompt
from shared_router.asking.turns import query_in_context
from shared_router.context import current_query
from shared_router.records import RoutingQuery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from shared_router.asking.turns import Role

    QueryExtractor = Callable[[list[BaseMessage]], str | None]

logger = logging.getLogger("hybrid_llm")

MEDIA = frozenset(
    {"image", "image_url", "input_image", "audio", "input_audio", "video", "file", "document"}
)
"""Types of content blocks that no calibration on texts has held."""
_WAYS = "with_routing_query(chain, key=...), routing_query(...) or QueryFromPrompt(...)"


def find_query(
    messages: list[BaseMessage], extractors: Sequence[QueryExtractor]
) -> RoutingQuery | None:
    """Find what the user asked.

    In this order: `routing_query(...)` or `with_routing_query`; prompt variables
    (`QueryFromPrompt`); other extractors; the last human turn. A prompt variable and a last turn
    that say little by themselves ("yes", "explain step 3") are scored with what they refer to; a
    text longer than the encoder reads is narrowed to its final question paragraph.

    Args:
        messages: The model's input.
        extractors: The user's; what one raises is logged and passed over.

    Returns:
        The query and its source; `None` where there is no text.
    """
    explicit = current_query()
    if explicit is not None:
        return explicit
    ordered = sorted(extractors, key=lambda each: not isinstance(each, QueryFromPrompt))
    for extractor in ordered:
        text = _extract(extractor, messages)
        if text and isinstance(extractor, QueryFromPrompt):
            said = RoutingQuery(text=text, source="prompt_variable")
            return query_in_context(_said(messages), _WAYS, said)
        if text:
            return RoutingQuery(text=text, source="extractor")
    return query_in_context(_said(messages), _WAYS)


def _extract(extractor: QueryExtractor, messages: list[BaseMessage]) -> str | None:
    try:
        text = extractor(messages)
    except Exception as error:  # noqa: BLE001  (a chain never breaks because the router did)
        logger.warning("query_extractor raised %s; passed over.", type(error).__name__)
        return None
    return text if isinstance(text, str) and text.strip() else None


def _said(messages: Sequence[BaseMessage]) -> Iterator[tuple[Role, str]]:
    """Yield what user and assistant said, the newest first."""
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            yield "user", text_of(message)
        elif isinstance(message, AIMessage):
            yield "assistant", text_of(message)


def text_of(message: BaseMessage) -> str:
    """Join the text blocks of a message; images, audio and tool results have none."""
    if isinstance(message.content, str):
        return message.content
    parts = [
        block if isinstance(block, str) else str(block.get("text") or "")
        for block in message.content
        if isinstance(block, str) or block.get("type") == "text"
    ]
    return "\n".join(part for part in parts if part)


def is_later_turn(messages: Sequence[BaseMessage]) -> bool:
    """Tell whether a model has answered the user before the user's last words."""
    looked_for: Iterator[type[BaseMessage]] = iter((HumanMessage, AIMessage, HumanMessage))
    kind = next(looked_for)
    for message in reversed(messages):
        if isinstance(message, kind):
            following = next(looked_for, None)
            if following is None:
                return True
            kind = following
    return False


def has_pictures(messages: Sequence[BaseMessage]) -> bool:
    """Tell whether there are pictures, sound or files among the messages."""
    return any(
        isinstance(block, dict) and block.get("type") in MEDIA
        for message in messages
        if not isinstance(message.content, str)
        for block in message.content
    )


def holds_tool_calls(messages: Sequence[BaseMessage]) -> bool:
    """Tell whether a conversation holds tool calls, or what tools answered."""
    return any(
        isinstance(each, ToolMessage) or (isinstance(each, AIMessage) and bool(each.tool_calls))
        for each in messages
    )
