"""Checks on an answer."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shared_router.records import Usage

logger = logging.getLogger("hybrid_llm")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer."""

    text: str = field(default="", repr=False)
    model: str | None = None
    usage: Usage | None = None
    native: Any = field(default=None, repr=False)
    parsed_ok: bool = True
    tool_calls: tuple[Any, ...] = ()
    finish_reason: str | None = None
    refusal: str | None = None
    failed_tools: Any = None


@dataclass(frozen=True)
class Check:
    """A check."""

    name: str
    function: Callable[[Answer], bool | str | None]


def checks_from(given: Sequence[Any]) -> tuple[Check, ...]:
    """Read checks."""
    names = {
        "schema": lambda a: a.parsed_ok,
        "empty": lambda a: bool(a.text or a.tool_calls),
    }
    return tuple(
        Check(g, names[g]) if isinstance(g, str) else Check(g.__name__, lambda a, g=g: g(a.native))
        for g in given
    )


def first_rejection(answer: Answer, checks: Sequence[Check]) -> str | None:
    """Return the first check that rejects."""
    for check in checks:
        told = check.function(answer)
        if isinstance(told, str):
            return told
        if told is False:
            return check.name
    return None
