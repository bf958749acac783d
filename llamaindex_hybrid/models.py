"""LLMs for `hybrid-llm collect`: from a SPEC to an async callable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.callbacks.token_counting import get_tokens_from_response
from llama_index.core.llms import LLM

from llamaindex_hybrid.children import model_name
from llamaindex_hybrid.listening import has_fields
from llamaindex_hybrid.logprobs import ASKED, NAME, logprobs_of, may_refuse
from llamaindex_hybrid.queries import Asked
from llamaindex_hybrid.settings import known_settings
from shared_router.collecting.specs import imported
from shared_router.collecting.willing import Willing
from shared_router.data.answers import Answer, Sampling
from shared_router.errors import ConfigurationError
from shared_router.records import Usage
from shared_router.support.model_names import told_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared_router.data.answers import AskModel
    from shared_router.records import AnswerSettings


def resolve(spec: str, sampling: Sampling | None = None) -> AskModel | None:
    """Read `module:attribute`.

    Args:
        spec: The attribute is a LlamaIndex LLM.
        sampling: The temperature and the seed to ask with, and whether to ask for
            log-probabilities.

    Returns:
        The async callable; `None` where the SPEC names no LLM of LlamaIndex's.

    Raises:
        ConfigurationError: If the module is there and fails on import, or the LLM takes no
            question for log-probabilities, and they must be asked for.
    """
    if spec.startswith(("http://", "https://")):
        return None
    found = imported(spec)
    return asking(found, sampling) if isinstance(found, LLM) else None


def asking(model: LLM, sampling: Sampling | None = None) -> AskModel:
    """Make an async callable of an LLM.

    Raises:
        ConfigurationError: If the LLM takes no question for log-probabilities, and they must be
            asked for.
    """
    chosen = sampling or Sampling()
    more = _logprobs(model, chosen)
    willing = Willing(chosen, may_refuse, can=bool(more))

    async def ask(query: str, sample: int, /) -> Answer:
        keywords = chosen.keywords(sample)
        text, response = await willing.ask(
            lambda asks: _answered(model, query, {**keywords, **(more if asks else {})})
        )
        known = logprobs_of(response)
        made = _made(*sampled(model, keywords), query)
        settings = made.model_copy(update={NAME: known is not None})
        return Answer(text, _usage(response), _names(model, response), known, settings)

    return ask


async def _answered(model: LLM, query: str, keywords: Mapping[str, Any]) -> tuple[str, Any]:
    """Ask, and return the answer's text and the response that it came in."""
    asked, rest = sampled(model, keywords)
    if not asked.metadata.is_chat_model:
        completed = await asked.acomplete(query, **rest)
        return completed.text, completed
    chatted = await asked.achat(_messages(query), **rest)
    return chatted.message.content or "", chatted


def _messages(query: str) -> list[ChatMessage]:
    return [ChatMessage(role=MessageRole.USER, content=query)]


def _made(asked: LLM, keywords: Mapping[str, Any], query: str) -> AnswerSettings:
    call = Asked(read=lambda: _messages(query), keywords=keywords)
    return known_settings(call, asked)


def _logprobs(model: LLM, sampling: Sampling) -> dict[str, Any]:
    """Return what asks a model for log-probabilities: nothing where its user has said whether."""
    takes = has_fields(type(model)) or model.metadata.is_chat_model
    if sampling.logprobs is True and not takes:
        raise ConfigurationError(
            f"Log-probabilities are asked of chat models; {type(model).__name__} is none. Leave "
            "the option out: by default they are asked for where that can be."
        )
    said = getattr(model, NAME, None) is not None and sampling.logprobs is not True
    return dict(ASKED) if takes and not said else {}


def sampled(model: LLM, keywords: Mapping[str, Any]) -> tuple[LLM, dict[str, Any]]:
    """Give a temperature, a seed and the like to a model.

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
