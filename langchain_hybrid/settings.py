"""How the cheapest candidate's answer will be made: what a scorer of answers was made for, or not.

Read where answers are looked at alone; what cannot be read is no setting that was measured.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from langchain_core.messages import SystemMessage
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_hybrid.children import base_models, bound_keywords, model_name
from langchain_hybrid.queries import text_of
from shared_router.records import AnswerSettings
from shared_router.support.hashing import text_sha256

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_core.messages import BaseMessage

_MOST_TOKENS = (
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "max_tokens_to_sample",
    "max_new_tokens",
    "num_predict",
)
"""What hosts call the most tokens of an answer."""


def answer_settings(
    model: Any,
    messages: Sequence[BaseMessage],
    kwargs: Mapping[str, Any],
    schemas: Sequence[Any] = (),
) -> AnswerSettings:
    """Tell how an answer will be made.

    Args:
        model: Who will be asked.
        messages: The input, for its system prompt.
        kwargs: The call's keywords, which go before what is bound to a model, and that before its
            fields.
        schemas: What is asked for in structured output, if it is.
    """
    keywords = {**bound_keywords(model), **kwargs}
    base = next(base_models(model), None)
    return AnswerSettings(
        model=model_name(model),
        temperature=_number(keywords, base, ("temperature",)),
        max_tokens=_whole(_number(keywords, base, _MOST_TOKENS)),
        system_sha256=_system(messages),
        tools_sha256=described_sha256(keywords.get("tools")),
        schema_sha256=described_sha256(schemas),
    )


def _number(keywords: Mapping[str, Any], base: Any, names: Sequence[str]) -> float | None:
    """Return the first number there is by one of the names."""
    told = [keywords.get(name) for name in names] + [getattr(base, name, None) for name in names]
    return next((each for each in told if isinstance(each, int | float)), None)


def _whole(number: float | None) -> int | None:
    return None if number is None or number != number // 1 else int(number)


def _system(messages: Sequence[BaseMessage]) -> str | None:
    texts = [text_of(each) for each in messages if isinstance(each, SystemMessage)]
    return text_sha256("\n".join(texts)) if texts else None


def described_sha256(described: Any) -> str | None:
    """Hash tools, or a schema, by their names and what they take; `None` where there are none."""
    if not described:
        return None
    told = sorted(map(_described, described))
    return text_sha256(json.dumps(told))


def _described(tool: Any) -> str:
    """Write down a tool or a schema; one that is unknown to the host is its own kind."""
    try:
        return json.dumps(convert_to_openai_tool(tool), sort_keys=True)
    except Exception:  # noqa: BLE001  (a chain never breaks because the router did)
        return f"{type(tool).__name__}: {getattr(tool, '__name__', '')}"
