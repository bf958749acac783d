"""Which text to route by: pure conversion from LangChain messages to a `RoutingQuery`.

In a RAG prompt the question is the last 13 characters of a message of 15,000, cut off at the
encoder's 256 tokens; in an agent the last human message may be harness noise.
"""

from __future__ import annotations

import logging
import re
import warnings
from typing import TYPE_CHECKING

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from langchain_hybrid.prompts import QueryFromPrompt
from shared_router.context import current_query
from shared_router.records import ROUTING_KEY, RoutingQuery

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    QueryExtractor = Callable[[list[BaseMessage]], str | None]
    TooLong = Callable[[str], bool]

logger = logging.getLogger("hybrid_llm")

_NOISE = re.compile(r"\s*(?:Observation:|<tool_result|<tool_response|\[tool)", re.IGNORECASE)
_LABEL = re.compile(
    r"^[^\S\n]*(?:#+\s*)?(?:user\s+)?(?:question|query|input|user)\s*:\s*",
    re.IGNORECASE | re.MULTILINE,
)
_CONTEXT = re.compile(r"^\s*(?:context|documents?|sources?)\s*:", re.IGNORECASE | re.MULTILINE)
_ANSWER = re.compile(r"^\s*(?:\w+\s+)?answer\s*:?\s*$", re.IGNORECASE)


class GuessedQueryWarning(UserWarning):
    """The query had to be guessed out of a long message."""


def find_query(
    messages: list[BaseMessage], extractors: Sequence[QueryExtractor], too_long: TooLong
) -> RoutingQuery | None:
    """Find what the user asked.

    In this order: `routing_query(...)` or `with_routing_query`; prompt variables
    (`QueryFromPrompt`); other extractors; the last human message. A last human message longer
    than the encoder reads is narrowed to its final question paragraph.

    Args:
        messages: The model's input.
        extractors: The user's; what one raises is logged and passed over.
        too_long: Tells whether a text is longer than the encoder reads.

    Returns:
        The query and its source; `None` where there is no text.
    """
    explicit = current_query()
    if explicit is not None:
        return explicit
    ordered = sorted(extractors, key=lambda each: not isinstance(each, QueryFromPrompt))
    for extractor in ordered:
        text = _extract(extractor, messages)
        if text:
            by_prompt = isinstance(extractor, QueryFromPrompt)
            return RoutingQuery(text=text, source="prompt_variable" if by_prompt else "extractor")
    text = last_human_text(messages)
    if text is None:
        return None
    if not too_long(text):
        return RoutingQuery(text=text, source="last_user_message")
    _warn_guess()
    return RoutingQuery(text=final_question(text), source="guessed")


def _extract(extractor: QueryExtractor, messages: list[BaseMessage]) -> str | None:
    try:
        text = extractor(messages)
    except Exception as error:  # noqa: BLE001  (a chain never breaks because the router did)
        logger.warning("query_extractor raised %s; passed over.", type(error).__name__)
        return None
    return text if isinstance(text, str) and text.strip() else None


def last_human_text(messages: Sequence[BaseMessage]) -> str | None:
    """Return the text of the last human message that is no tool noise."""
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            text = text_of(message)
            if text.strip() and not _NOISE.match(text):
                return text
    return None


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


def final_question(text: str) -> str:
    """Narrow a long message to its final question paragraph.

    The last paragraph if it asks: by a label such as `Question:`, or by a question mark. Else the
    last labelled one, else the last one with a question mark: retrieved text asks too, but
    seldom with a label. Label, empty `Answer:` and a `Context:` that follows are cut.
    """
    paragraphs = [p for p in map(_without_answer_line, re.split(r"\n\s*\n", text)) if p.strip()]
    if not paragraphs:
        return text
    labelled = [paragraph for paragraph in paragraphs if _LABEL.search(paragraph)]
    asking = [paragraph for paragraph in paragraphs if "?" in paragraph]
    last = paragraphs[-1:] if paragraphs[-1] in asking else []
    return _labelled_part((last or labelled or asking or paragraphs)[-1]) or text


def _labelled_part(paragraph: str) -> str:
    """Return what stands behind the last label of a paragraph, or all of it."""
    after = paragraph[[0, *(found.end() for found in _LABEL.finditer(paragraph))][-1] :]
    return _CONTEXT.split(after, maxsplit=1)[0].strip()


def _without_answer_line(paragraph: str) -> str:
    return "\n".join(line for line in paragraph.splitlines() if not _ANSWER.match(line))


_warned = False


def _warn_guess() -> None:
    """Warn once per process."""
    global _warned
    if _warned:
        return
    _warned = True
    warnings.warn(
        "The last human message is longer than the router's encoder reads; it is routed by its "
        "final question paragraph (query_source='guessed'). State the question with "
        "with_routing_query(chain, key=...), routing_query(...) or QueryFromPrompt(...).",
        GuessedQueryWarning,
        stacklevel=2,
    )


def open_tool_caller(messages: Sequence[BaseMessage]) -> str | None:
    """Name the candidate whose tool calls the end of the conversation answers, if known."""
    for position in range(len(messages) - 1, -1, -1):
        message = messages[position]
        if isinstance(message, ToolMessage):
            continue
        is_open = isinstance(message, AIMessage) and position < len(messages) - 1
        routed = message.response_metadata.get(ROUTING_KEY) if is_open else None
        return routed.get("candidate") if isinstance(routed, dict) else None
    return None
