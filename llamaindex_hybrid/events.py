"""Where a decision is told: an event, a callback, a span's attributes, and on the response."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse
from llama_index.core.instrumentation.events import BaseEvent
from llama_index_instrumentation import get_dispatcher

from llamaindex_hybrid.foreign import marked
from shared_router.observing.telemetry import note_answer_on_span, note_on_span
from shared_router.records import ROUTING_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llama_index.core.callbacks import CallbackManager

    from shared_router.engine.calls import Call
    from shared_router.records import RoutingDecision

WITHIN = "within"
"""Where a decision on a response holds that of a wrapper inside of the wrapper."""

logger = logging.getLogger("hybrid_llm")
dispatcher = get_dispatcher(__name__)


class RoutingDecisionEvent(BaseEvent):
    """One decision, dispatched inside the wrapper's span, before the chosen model's start event.

    Flat, scalars alone; the fields are those of `RoutingDecision`, described there.
    """

    candidate: str
    index: int
    reason: str
    score: float | None = None
    scores: str | None = None
    """JSON, where there are more than two candidates."""
    threshold: float | None = None
    dial: str | None = None
    dial_value: float | None = None
    confidence: float | None = None
    guarantee: str
    guarantee_reason: str | None = None
    with_second_look: bool = False
    conversation: str | None = None
    switch_cost_usd: float | None = None
    query_source: str
    task: str | None = None
    task_source: str | None = None
    calibrated_task: str | None = None
    wider_because: str | None = None
    retrieval_nodes: int | None = None
    retrieval_top_score: float | None = None
    retrieval_second_score: float | None = None
    retrieval_context_tokens: int | None = None
    retrieval_source: str | None = None
    router_name: str | None = None
    router_version: str | None = None
    latency_ms: float
    query_length: int | None = None
    query_truncated: bool | None = None
    query_hash: str | None = None
    query: str | None = None
    error: str | None = None

    @classmethod
    def class_name(cls) -> str:
        """Name the event as LlamaIndex's handlers do."""
        return "RoutingDecisionEvent"


class _Quiet(logging.Filter):
    """Keeps OpenInference from warning at every call that it does not know our event.

    The decision reaches it as attributes of the span.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        return record.getMessage() not in _UNKNOWN


logging.getLogger("openinference.instrumentation.llama_index._handler").addFilter(_Quiet())


class RoutingCallEvent(BaseEvent):
    """What came of one call, dispatched at its end, inside the span that asked for it.

    Flat, scalars alone; the fields are those of `CallRecord`, described there.
    """

    candidate: str
    """What the router chose."""
    answered_by: str | None = None
    answered_because: str | None = None
    attempts: int
    """How many candidates were asked."""
    failures: str | None = None
    """Each attempt that gave no answer, as `small: rate_limit`."""
    escalated: bool
    accepted: bool | None = None
    answer_score: float | None = None
    """Of the first answer that was looked at."""
    guarantee: str
    guarantee_reason: str | None = None
    broke_off: bool
    error: str | None = None
    latency_ms: float

    @classmethod
    def class_name(cls) -> str:
        """Name the event as LlamaIndex's handlers do."""
        return "RoutingCallEvent"


_UNKNOWN = {
    f"Unhandled event of type {each.__name__}" for each in (RoutingDecisionEvent, RoutingCallEvent)
}


def tell_of_decision(decision: RoutingDecision) -> None:
    """Tell of a decision: an event, and the current span's attributes."""
    dispatcher.event(RoutingDecisionEvent(**decision.flat()))
    note_on_span(decision)


def tell_of_call(call: Call) -> None:
    """Tell of the end of a call, where somebody listens."""
    if call.attempts is not None and call.attempts.given is not None:
        note_answer_on_span(call.answered_by, call.why, call.attempted)
    if not _is_heard():
        return
    record = call.record
    failures = [(each.candidate, each.error or each.rejected) for each in record.attempts]
    dispatcher.event(
        RoutingCallEvent(
            candidate=record.decision.candidate,
            answered_by=record.answered_by,
            answered_because=record.why,
            attempts=len(record.attempts),
            failures=", ".join(f"{name}: {why}" for name, why in failures if why) or None,
            escalated=record.escalated,
            accepted=record.accepted,
            answer_score=next((each.answer_score for each in record.attempts if each.looked), None),
            guarantee=record.guarantee,
            guarantee_reason=record.guarantee_reason,
            broke_off=record.broke_off,
            error=record.error_type,
            latency_ms=record.latency_ms,
        )
    )


def _is_heard() -> bool:
    """Tell whether a handler listens to our events."""
    at: Any = dispatcher
    while at is not None:
        if at.event_handlers:
            return True
        at = at.parent if at.propagate else None
    return False


@contextmanager
def announced(
    decision: RoutingDecision | None, manager: CallbackManager, name: str
) -> Iterator[None]:
    """Keep a trace open for the call of a model that is asked.

    Args:
        decision: Told to the trace; `None` where it was told before.
        manager: Hears of it, if it has handlers.
        name: Name of the trace.
    """
    if not manager.handlers:
        yield
        return
    with manager.as_trace(name):
        if decision is not None:
            _call_back(decision, manager)
        yield


def _call_back(decision: RoutingDecision, manager: CallbackManager) -> None:
    event: Any = ROUTING_KEY  # LlamaIndex's enumeration of events cannot be extended
    try:
        with manager.event(event, payload=decision.model_dump(mode="json")):
            pass
    except Exception as error:  # noqa: BLE001  (a chain never breaks because of a listener)
        logger.warning("A callback handler raised %s at %s.", type(error).__name__, ROUTING_KEY)


def annotated(output: Any, payload: dict[str, Any]) -> Any:
    """Put what is stable of the decision on a response, or on a chunk of a stream.

    The response is copied: the model's own events hold the same object. `raw` and the message
    stay as they are: token counts are read out of one, and the other is sent to the provider again;
    reasoning in it alone is marked with who wrote it, and sent without that mark.
    """
    if not isinstance(output, ChatResponse | CompletionResponse):
        return output
    inner = output.additional_kwargs.get(ROUTING_KEY)  # of a wrapper that was wrapped
    told = payload if inner is None else {**payload, WITHIN: inner}
    made = with_routing(output, told)
    if isinstance(made, ChatResponse):
        made.message = marked(made.message, told.get("answered_by") or told["candidate"])
    return made


def with_routing(response: Any, told: Any) -> Any:
    """Copy a response, with another decision on it."""
    kept = {**response.additional_kwargs, ROUTING_KEY: told}
    return response.model_copy(update={"additional_kwargs": kept})
