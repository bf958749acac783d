"""How an answer would be made: a scorer of answers holds for those that are made alike."""

from __future__ import annotations

import json
import logging
from functools import lru_cache
from numbers import Real
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import MessageRole

from llamaindex_hybrid.children import model_name
from llamaindex_hybrid.queries import messages_of, text_of
from shared_router.records import AnswerSettings
from shared_router.support.hashing import text_sha256

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llama_index.core.base.llms.types import ChatMessage
    from llama_index.core.llms import LLM

    from llamaindex_hybrid.queries import Asked

logger = logging.getLogger("hybrid_llm")

MOST_SCHEMAS = 256
"""Schemas whose hash is kept: the same comes again call after call."""
_MOST_WRITTEN = (
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "max_new_tokens",
    "num_predict",
)
"""What providers call the most tokens of an answer."""


UNREAD = AnswerSettings(system_sha256="unread")
"""Of a call that cannot be read: it differs from every call that was measured."""


def known_settings(asked: Asked, model: LLM, system_prompt: str | None = None) -> AnswerSettings:
    """Tell how an answer would be made, whatever the call is; see `settings_of`."""
    try:
        return settings_of(asked, model, system_prompt)
    except Exception as error:  # noqa: BLE001  (a chain never breaks because the router did)
        logger.warning("Reading how an answer is made raised %s.", type(error).__name__)
        return UNREAD


def settings_of(asked: Asked, model: LLM, system_prompt: str | None = None) -> AnswerSettings:
    """Tell how a model's answer to a call would be made; texts are told by their hashes.

    Args:
        asked: The call.
        model: The model.
        system_prompt: The wrapper's, which stands in place of the model's own.
    """
    system = "\n".join(_system(asked, model, system_prompt or model.system_prompt))
    return AnswerSettings(
        model=model_name(model),
        temperature=_number(asked, model, ("temperature",)),
        max_tokens=_whole(_number(asked, model, _MOST_WRITTEN)),
        system_sha256=text_sha256(system) if system else None,
        tools_sha256=_hashed(sorted(map(_tool, asked.tools), key=repr)),
        schema_sha256=_of_schema(asked.schema) if asked.schema else None,
    )


def _number(asked: Asked, model: LLM, names: tuple[str, ...]) -> float | None:
    """Find a number by its names: the call's keywords come first, then the model's fields."""
    own = getattr(model, "additional_kwargs", None)
    extra = own if isinstance(own, dict) else {}
    found = [holder.get(name) for holder in (asked.keywords, extra) for name in names]
    found += [getattr(model, name, None) for name in names]
    numbers = (each for each in found if isinstance(each, Real) and not isinstance(each, bool))
    return next(map(float, numbers), None)


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)


def _system(asked: Asked, model: LLM, own: str | None) -> Iterator[str]:
    """Yield what a system says to the model: LlamaIndex adds a model's own to prompts alone."""
    if asked.prompt is not None and own:
        yield own
    said = _said(asked, model)
    yield from (text_of(each) for each in said if each.role == MessageRole.SYSTEM)


def _said(asked: Asked, model: LLM) -> Sequence[ChatMessage]:
    prompt = asked.prompt
    if prompt is None:
        return asked.messages
    if prompt.function_mappings:  # they run once, in the model that answers
        return messages_of(prompt)
    return prompt.format_messages(llm=model, **asked.variables)


def _tool(tool: Any) -> dict[str, Any]:
    told = tool.metadata
    return {
        "name": told.get_name(),
        "description": told.description,
        "parameters": told.get_parameters_dict(),
    }


@lru_cache(maxsize=MOST_SCHEMAS)
def _of_schema(kind: Any) -> str | None:
    return _hashed(kind.model_json_schema())


def _hashed(told: Any) -> str | None:
    return text_sha256(json.dumps(told, sort_keys=True, default=str)) if told else None
