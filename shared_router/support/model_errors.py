"""What an error of a model's client carries: its HTTP status, when to come back, its causes."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

DEEPEST = 12
"""Causes of an error that are looked at."""


def status_of(error: BaseException) -> int | None:
    """Find the HTTP status that an error of an HTTP client carries."""
    for owner in (error, getattr(error, "response", None)):
        for name in ("status_code", "status", "code"):
            value = getattr(owner, name, None)
            if isinstance(value, int) and 100 <= value < 600:
                return value
    return None


def retry_after_s(error: BaseException) -> float | None:
    """Read `Retry-After`, in seconds or as a date, from an error or its response's headers."""
    value = getattr(error, "retry_after", None)
    for owner in (getattr(error, "response", None), error):
        headers: Any = getattr(owner, "headers", None)
        if value is None and hasattr(headers, "get"):
            value = headers.get("retry-after") or headers.get("Retry-After")
    return None if value is None else _seconds(str(value))


def _seconds(value: str) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        try:
            due = parsedate_to_datetime(value)
        except ValueError:
            return None
        zoned = due if due.tzinfo else due.replace(tzinfo=UTC)
        seconds = (zoned - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def error_kind(error: BaseException) -> str:
    """Name an error by its class and status; never its message, which may quote the query."""
    status = status_of(error)
    return type(error).__name__ + (f" ({status})" if status else "")


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it came of, groups taken apart."""
    waiting = [error]
    for _ in range(DEEPEST):
        if not waiting:
            return
        each = waiting.pop(0)
        yield each
        below = each.exceptions if isinstance(each, BaseExceptionGroup) else ()
        cause = each.__cause__ or each.__context__
        waiting += [*below, *([cause] if cause else [])]
