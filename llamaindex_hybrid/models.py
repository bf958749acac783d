"""LLMs for `hybrid-llm collect`: from a SPEC to an async callable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.callbacks.token_counting import get_tokens_from_response
from llama_index.core.llms import LLM

from llamaindex_hybrid.children import model_name
from shared_router.collecting.specs import imported
from shared_router.data.answers import Answer, Sampling
from shared_router.records import Usage
from shared_router.support.model_names import told_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared_router.data.answers import AskModel


def resolve(spec: str, sampling: Sampling | None = None) -> AskModel | None:
    """Read `module:attribute`.

    Args:
        spec: The attribute is a LlamaIndex LLM.
        sampling: The temperature and the seed to ask with.

    Returns:
        The async callable; `None` where the SPEC names no LLM of LlamaIndex's.

    Raises:
        ConfigurationError: If the module is there and fails on import.
    """
    if spec.startswith(("http://", "https://")):
        return None
    found = imported(spec)
    return asking(found, sampling) if isinstance(found, LLM) else None


def asking(model: LLM, sampling: Sampling | None = None) -> AskModel:
    """Make an async callable of an LLM."""
    chosen = sampling or Sampling()

    async def ask(query: str, sample: int, /) -> Answer:
        asked, keywords = sampled(model, chosen.keywords(sample))
        if asked.metadata.is_chat_model:
            message = ChatMessage(role=MessageRole.USER, content=query)
            chatted = await asked.achat([message], **keywords)
            return Answer(chatted.message.content or "", _usage(chatted), _names(model, chatted))
        completed = await asked.acomplete(query, **keywords)
        return Answer(completed.text, _usage(completed), _names(model, completed))

    return ask


def sampled(model: LLM, keywords: Mapping[str, Any]) -> tuple[LLM, dict[str, Any]]:
    """Give temperature and seed to a model.

    As fields of a copy where it has them, because some clients (Ollama's) take them in no other
    way; as keywords of the call elsewhere.

    Returns:
        The model to call, and the keywords to call it with.
    """
    fields = {name: value for name, value in keywords.items() if name in type(model).model_fields}
    rest = {name: value for name, value in keywords.items() if name not in fields}
    return (model.model_copy(update=fields) if fields else model), rest


def _names(model: LLM, response: Any) -> tuple[str, ...]:
    """Read what the model is called, by its class and by the provider that answered."""
    raw = response.raw
    answered = raw.get("model") if isinstance(raw, dict) else getattr(raw, "model", None)
    return told_names(model_name(model), answered)


def _usage(response: Any) -> Usage:
    """Read what was counted, as LlamaIndex's own counter does; 0 where a provider tells nothing."""
    try:
        read, written = get_tokens_from_response(response)
    except (TypeError, ValueError, AttributeError):  # a raw response of another shape
        read, written = 0, 0
    return Usage(input_tokens=read, output_tokens=written)
