"""Chat models for `hybrid-llm collect`: from a SPEC to an async callable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urldefrag

from langchain_core.language_models import BaseChatModel, BaseLanguageModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable

from langchain_hybrid.children import (
    base_models,
    bound_keywords,
    is_url,
    map_models,
    model_name,
    openai_compatible,
    resolve_model,
)
from langchain_hybrid.logprobs import NAME, logprobs_of, refuses_logprobs, with_logprobs
from langchain_hybrid.settings import answer_settings
from shared_router.collecting.specs import FORMS, imported, why_not_imported
from shared_router.collecting.willing import Willing
from shared_router.data.answers import Answer, Sampling
from shared_router.errors import (
    CandidateError,
    ConfigurationError,
    HybridRoutingError,
)
from shared_router.records import Usage
from shared_router.support.model_names import told_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared_router.data.answers import AskModel
    from shared_router.records import AnswerSettings


def resolve(spec: str, sampling: Sampling | None = None) -> AskModel | None:
    """Read `provider:model`, `module:attribute` or an OpenAI-compatible URL.

    Args:
        spec: A provider is one of LangChain's `init_chat_model`; an attribute is a chat model or
            a Runnable around one; a URL names the model behind `#` and takes its key from
            `OPENAI_API_KEY`.
        sampling: The temperature and the seed to ask with, and whether to ask for
            log-probabilities.

    Returns:
        The async callable; `None` where an attribute is no model of LangChain's.

    Raises:
        ConfigurationError: If the URL names no model, the provider is unknown or not set up, or
            `sampling` cannot reach the model.
        MissingExtraError: If `langchain` or `langchain-openai` is needed and not installed.
    """
    if is_url(spec):
        name = urldefrag(spec).fragment.partition("?")[0]
        return asking(
            openai_compatible(spec, max_retries=0), sampling, [name]
        )  # collect retries itself
    found = imported(spec)
    if isinstance(found, Runnable):
        return asking(found, sampling)
    if found is not None:
        return None
    return asking(_by_provider(spec), sampling, [spec, spec.partition(":")[2]])


def _by_provider(spec: str) -> Runnable[Any, Any]:
    try:
        return resolve_model(spec, "a model")
    except CandidateError as error:
        raise ConfigurationError(
            f"{error} As module:attribute: {why_not_imported(spec)}."
        ) from error
    except HybridRoutingError:
        raise
    except Exception as error:  # providers raise what they like: a missing key, a wrong name
        kind = type(error).__name__
        raise ConfigurationError(
            f"Model {spec!r} is no module:attribute, and LangChain cannot make it by name "
            f"({kind}: {error}). A SPEC is {FORMS}."
        ) from error


def asking(
    model: Runnable[Any, Any], sampling: Sampling | None = None, names: Sequence[str] = ()
) -> AskModel:
    """Make an async callable of a chat model, a completion model or a Runnable around one.

    Args:
        model: What to ask.
        sampling: The temperature and the seed to ask with, and whether to ask for
            log-probabilities.
        names: What the user calls it; each answer tells these, and its provider's.

    Raises:
        ConfigurationError: If `sampling` asks for something and there is no model it can reach.
    """
    chosen = sampling or Sampling()
    telling = always_with_logprobs if chosen.logprobs is True else with_logprobs
    willing, made = Willing(chosen, refuses_logprobs), _made(model, chosen)
    if chosen.logprobs is True:
        telling(model)  # refused now, not at the first call

    async def ask(query: str, sample: int, /) -> Answer:
        asked = sampled(model, chosen.keywords(sample))
        reply = await willing.ask(lambda asks: (telling(asked) if asks else asked).ainvoke(query))
        told = getattr(reply, "response_metadata", {})
        answered = (told.get("model_name"), told.get("model"))
        known = logprobs_of(reply) if isinstance(reply, AIMessage) else None
        return Answer(
            _text(reply),
            _usage(reply),
            told_names(*names, model_name(model), *answered),
            known,
            made and made.model_copy(update={NAME: known is not None}),
        )

    return ask


def always_with_logprobs(model: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """Ask the chat models inside bindings, retries and fallbacks for log-probabilities.

    As a field where a model has it, as a bound keyword elsewhere.

    Raises:
        ConfigurationError: If something else than a chat model is inside.
    """
    changed = map_models(model, _asked)
    return changed.bind(logprobs=True) if NAME in bound_keywords(model) else changed


def _asked(model: Any) -> Runnable[Any, Any]:
    if not isinstance(model, BaseChatModel):
        raise ConfigurationError(
            f"Log-probabilities are asked of chat models; here is a {type(model).__name__}. Leave "
            "the option out: by default they are asked for where that can be."
        )
    if NAME in type(model).model_fields:
        return model.model_copy(update={NAME: True})
    return model.bind(logprobs=True)


def _made(model: Runnable[Any, Any], sampling: Sampling) -> AnswerSettings | None:
    """Tell how answers will be made; `None` where no chat model inside says it."""
    asked = sampled(model, sampling.keywords(0))
    return answer_settings(asked, (), {}) if any(base_models(asked)) else None


def sampled(model: Runnable[Any, Any], keywords: Mapping[str, Any]) -> Runnable[Any, Any]:
    """Give temperature and seed to the models inside bindings, retries and fallbacks.

    As fields where a model has them, because some clients (Ollama's) take them in no other way;
    as bound keywords elsewhere.

    Raises:
        ConfigurationError: If there are keywords, and something else than a model inside.
    """
    if not keywords:
        return model
    changed = map_models(model, lambda inner: _set(inner, keywords))
    # What a binding holds goes before a model's fields.
    again = {name: keywords[name] for name in bound_keywords(model).keys() & keywords.keys()}
    return changed.bind(**again) if again else changed


def _set(model: Any, keywords: Mapping[str, Any]) -> Runnable[Any, Any]:
    if not isinstance(model, BaseLanguageModel):
        raise ConfigurationError(
            f"{' and '.join(keywords)} reach chat models; here is a {type(model).__name__} around "
            "one. Set them in the model itself, and leave the option out."
        )
    fields = {name: value for name, value in keywords.items() if name in type(model).model_fields}
    others = {name: value for name, value in keywords.items() if name not in fields}
    changed = model.model_copy(update=fields)
    return changed.bind(**others) if others else changed


def _text(reply: Any) -> str:
    return str(reply.text) if isinstance(reply, BaseMessage) else str(reply)


def _usage(reply: Any) -> Usage:
    told = getattr(reply, "usage_metadata", None) or {}
    return Usage(
        input_tokens=told.get("input_tokens", 0), output_tokens=told.get("output_tokens", 0)
    )
