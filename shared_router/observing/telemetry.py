"""Decisions on OpenTelemetry spans, for whoever traces with it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shared_router.records import RoutingDecision

ATTRIBUTE_PREFIX = "hybrid.routing."
"""A decision's fields stand on a span as `hybrid.routing.<field>`."""


def note_on_span(decision: RoutingDecision) -> None:
    """Put a decision on the current OpenTelemetry span, if there is one.

    No text of the query stands there: a tracer that hides inputs would not know it as one.
    Nothing is imported: where nobody has imported OpenTelemetry, nobody has opened a span.
    """
    span = _current_span()
    if span is not None:
        for name, value in decision.without_text().flat().items():
            span.set_attribute(ATTRIBUTE_PREFIX + name, value)


def note_answer_on_span(answered_by: str, why: str, attempts: int) -> None:
    """Put who answered, why, and after how many attempts on the current span, if there is one."""
    span = _current_span()
    if span is not None:
        span.set_attribute(ATTRIBUTE_PREFIX + "answered_by", answered_by)
        span.set_attribute(ATTRIBUTE_PREFIX + "answered_because", why)
        span.set_attribute(ATTRIBUTE_PREFIX + "attempts", attempts)


def _current_span() -> Any:
    trace: Any = sys.modules.get("opentelemetry.trace")
    span = trace.get_current_span() if trace is not None else None
    return span if span is not None and span.is_recording() else None
