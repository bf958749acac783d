"""Chat models for `hybrid-llm collect`: from a SPEC to an async callable."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urldefrag

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable

from langchain_hybrid.children import resolve_model
from shared_router.data.answers import Answer
from shared_router.data.collect_specs import FORMS, imported, shown
from shared_router.errors import ConfigurationError, HybridRoutingError, MissingExtraError
from shared_router.records import Usage

if TYPE_CHECKING:
    from shared_router.data.answers import AskModel


def resolve(spec: str) -> AskModel | None:
    """Read `provider:model`, `module:attribute` or an OpenAI-compatible URL.

    Args:
        spec: A provider is one of LangChain's `init_chat_model`; an attribute is a chat model or
            a Runnable around one; a URL names the model behind `#` and takes its key from
            `OPENAI_API_KEY`.

    Returns:
        The async callable; `None` where an attribute is no model of LangChain's.

    Raises:
        ConfigurationError: If the URL names no model, or the provider is unknown or not set up.
        MissingExtraError: If `langchain` or `langchain-openai` is needed and not installed.
    """
    if spec.startswith(("http://", "https://")):
        return asking(_openai_compatible(spec))
    found = imported(spec)
    if isinstance(found, Runnable):
        return asking(found)
    return None if found is not None else asking(_by_provider(spec))


def _by_provider(spec: str) -> Runnable[Any, Any]:
    try:
        return resolve_model(spec, "a model")
    except HybridRoutingError:
        raise
    except ImportError as error:
        raise MissingExtraError(f"Model {spec!r}: {error}") from error
    except Exception as error:  # providers raise what they like: a missing key, a wrong name
        kind = type(error).__name__
        raise ConfigurationError(
            f"Model {spec!r} is no module:attribute, and LangChain cannot make it by name "
            f"({kind}: {error}). A SPEC is {FORMS}."
        ) from error


def _openai_compatible(spec: str) -> Runnable[Any, Any]:
    url, name = urldefrag(spec)
    if not name:
        raise ConfigurationError(
            f"A URL names the model behind '#', as in {shown(url)}#llama3.2; got {shown(spec)!r}."
        )
    try:
        from langchain_openai import ChatOpenAI
    except ImportError as error:
        raise MissingExtraError(
            f"Model {shown(spec)!r} is a URL, which needs langchain-openai: pip install "
            "langchain-openai."
        ) from error
    # collect retries by itself; local servers take any key, and the client insists on one.
    key = os.environ.get("OPENAI_API_KEY") or "none"
    made: Runnable[Any, Any] = ChatOpenAI(base_url=url, model=name, api_key=key, max_retries=0)
    return made


def asking(model: Runnable[Any, Any]) -> AskModel:
    """Make an async callable of a chat model, a completion model or a Runnable around one."""

    async def ask(query: str, sample: int, /) -> Answer:
        reply = await model.ainvoke(query)
        return Answer(_text(reply), _usage(reply))

    return ask


def _text(reply: Any) -> str:
    return str(reply.text) if isinstance(reply, BaseMessage) else str(reply)


def _usage(reply: Any) -> Usage:
    told = getattr(reply, "usage_metadata", None) or {}
    return Usage(
        input_tokens=told.get("input_tokens", 0), output_tokens=told.get("output_tokens", 0)
    )
