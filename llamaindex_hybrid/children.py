"""The wrapped models: what they are called, and what they can do."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import LLMMetadata
from llama_index.core.llms import LLM
from llama_index.core.llms.function_calling import FunctionCallingLLM

from shared_router.deciding.failures import PASSING, kind_of
from shared_router.engine.fronts import described
from shared_router.errors import CandidateError
from shared_router.support.once import warn_once

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared_router.records import Candidate

logger = logging.getLogger("hybrid_llm")

_UNNAMED = ("", "unknown")


def resolve_model(model: Any, role: str) -> LLM:
    """Take a LlamaIndex LLM.

    Args:
        model: What the user gave.
        role: Its name in messages.

    Raises:
        CandidateError: If it is none.
    """
    if isinstance(model, LLM):
        return model
    kind = type(model)
    hint = ""
    if isinstance(model, str):
        hint = " LlamaIndex makes no model by its name: give the model itself."
    elif kind.__module__.startswith("langchain"):
        hint = " langchain_hybrid.HybridChatModel wraps the models of LangChain."
    raise CandidateError(f"{role} is a LlamaIndex LLM; got {kind.__name__}.{hint}")


def metadata_of(model: LLM) -> LLMMetadata:
    """Read a model's metadata.

    Raises:
        CandidateError: If it tells none, such as a provider's class for a name it does not know.
    """
    try:
        return model.metadata
    except Exception as error:
        raise CandidateError(
            f"{type(model).__name__} does not tell its metadata ({type(error).__name__}: {error}), "
            "which LlamaIndex needs of a model. For an OpenAI-compatible server use OpenAILike."
        ) from error


def known_metadata(model: LLM) -> LLMMetadata | None:
    """Read a model's metadata; `None` where its server cannot be asked now, which is logged once.

    A server may be down when an application starts: that model is then one of unknown abilities,
    and others answer while it fails.

    Raises:
        CandidateError: If it tells none for another reason, such as a name it does not know.
    """
    try:
        return metadata_of(model)
    except CandidateError as error:
        cause = error.__cause__
        if not isinstance(cause, Exception) or kind_of(cause) not in PASSING:
            raise
        kind = type(cause).__name__
        warn_once(
            logger,
            f"{type(model).__name__} does not tell its metadata now ({kind}): what it can do and "
            "its context window are unknown.",
        )
        return None


def model_name(model: LLM) -> str | None:
    """Return the name the provider calls the model by, if it tells."""
    known = known_metadata(model)
    name = known.model_name if known else getattr(model, "model", None)
    return None if not isinstance(name, str) or name in _UNNAMED else name


def retries(model: LLM) -> bool:
    """Tell whether a model tries again by itself, as most clients do unless told otherwise."""
    return getattr(model, "max_retries", None) != 0


def can_call_tools(model: LLM) -> bool:
    """Tell whether a model calls tools."""
    if not isinstance(model, FunctionCallingLLM):
        return False
    known = known_metadata(model)
    return known is None or known.is_function_calling_model


def describe(candidate: Candidate) -> Candidate:
    """Fill in what the model itself tells: capabilities, context window, its provider's name.

    Every LLM can answer in a schema: LlamaIndex asks in text where there are no tools.
    """
    metadata = known_metadata(candidate.model)
    # Where it is not stated, it is LlamaIndex's default.
    stated = metadata is not None and "context_window" in metadata.model_fields_set
    return described(
        candidate,
        name=model_name(candidate.model),
        context_window=metadata.context_window if stated and metadata else None,
        supports_tools=can_call_tools(candidate.model),
        supports_structured_output=True,
    )


def combined_metadata(candidates: Sequence[Candidate]) -> LLMMetadata:
    """Describe several models as one, before a route exists.

    What is packed into a prompt must fit every model; what only some can do is asked of those.
    """
    told = [(candidate, known_metadata(candidate.model)) for candidate in candidates]
    known = [metadata for _, metadata in told if metadata is not None]
    if not known:
        metadata_of(candidates[-1].model)  # raises: a host cannot work without any
    window = min(
        candidate.context_window or metadata.context_window
        for candidate, metadata in told
        if metadata is not None
    )
    return LLMMetadata(
        context_window=window,
        num_output=_num_output([metadata.num_output for metadata in known], window),
        is_chat_model=any(metadata.is_chat_model for metadata in known),
        is_function_calling_model=any(candidate.supports_tools for candidate in candidates),
        model_name=f"hybrid({'|'.join(candidate.name for candidate in candidates)})",
        system_role=known[-1].system_role,
    )


def _num_output(outputs: Sequence[int], window: int) -> int:
    """The most any model writes, as long as the window has room for a prompt beside it."""
    stated = [output for output in outputs if output > 0]
    if not stated:
        return -1  # unknown, as LlamaIndex writes it
    return max((output for output in stated if output < window), default=window // 2)
