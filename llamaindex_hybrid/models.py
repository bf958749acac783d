"""LLMs for `hybrid-llm collect`: from a SPEC to an async callable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.callbacks.token_counting import get_tokens_from_response
from llama_index.core.llms import LLM

from shared_router.data.answers import Answer
from shared_router.data.collect_specs import imported
from shared_router.records import Usage

if TYPE_CHECKING:
    from shared_router.data.answers import AskModel


def resolve(spec: str) -> AskModel | None:
    """Read `module:attribute`.

    Args:
        spec: The attribute is a LlamaIndex LLM.

    Returns:
        The async callable; `None` where the SPEC names no LLM of LlamaIndex's.

    Raises:
        ConfigurationError: If the module is there and fails on import.
    """
    if spec.startswith(("http://", "https://")):
        return None
    found = imported(spec)
    return asking(found) if isinstance(found, LLM) else None


def asking(model: LLM) -> AskModel:
    """Make an async callable of an LLM."""

    async def ask(query: str, sample: int, /) -> Answer:
        if model.metadata.is_chat_model:
            message = ChatMessage(role=MessageRole.USER, content=query)
            chatted = await model.achat([message])
            return Answer(chatted.message.content or "", _usage(chatted))
        completed = await model.acomplete(query)
        return Answer(completed.text, _usage(completed))

    return ask


def _usage(response: Any) -> Usage:
    """Read what was counted, as LlamaIndex's own counter does; 0 where a provider tells nothing."""
    try:
        read, written = get_tokens_from_response(response)
    except (TypeError, ValueError, AttributeError):  # a raw response of another shape
        read, written = 0, 0
    return Usage(input_tokens=read, output_tokens=written)
