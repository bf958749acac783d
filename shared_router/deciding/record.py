"""From a verdict to the record that every carrier shows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from shared_router.records import RoutingDecision

if TYPE_CHECKING:
    from shared_router.deciding.attempts import Policy, Verdict
    from shared_router.deciding.guards import RoutingRequest
    from shared_router.records import RoutingQuery
    from shared_router.retrieval import RetrievalFacts, RetrievalSource


class Named(Protocol):
    """What a record says of its router."""

    @property
    def name(self) -> str:
        """The router's name."""
        ...

    @property
    def version(self) -> str:
        """The router's version."""
        ...

    @property
    def sees_retrieval(self) -> bool:
        """Whether facts of the retrieval move its scores."""
        ...


def decision_record(
    verdict: Verdict,
    request: RoutingRequest,
    policy: Policy,
    router: Named,
    latency_ms: float,
    *,
    guarantee: str = "estimated",
    query_hash: str | None = None,
    record_query: bool = False,
) -> RoutingDecision:
    """Make the record of one decision.

    Args:
        verdict: What the rules found.
        request: The call.
        policy: The rules, with the candidates bound.
        router: Names the router.
        latency_ms: Time the decision took.
        guarantee: `estimated` or `void: why`.
        query_hash: Keyed hash of the query, where wanted.
        record_query: Whether to keep the text.
    """
    query, dial = query_of(verdict, request), policy.dial(request)
    scored = verdict.scores is not None
    facts, told = _facts(query) if scored and router.sees_retrieval else (None, None)
    return RoutingDecision(
        candidate=policy.candidates[verdict.index].name,
        index=verdict.index,
        reason=verdict.reason,
        scores=verdict.scores,
        threshold=verdict.threshold,
        dial=dial.name,
        dial_value=dial.value,
        guarantee=guarantee,
        query_source=query.source if query else "none",
        task=verdict.task,
        task_source=verdict.task_source,
        calibrated_task=verdict.setting.task if verdict.setting else None,
        wider_because=verdict.setting.because if verdict.setting else None,
        retrieval=facts,
        retrieval_source=told,
        router_name=router.name,
        router_version=router.version,
        latency_ms=latency_ms,
        query_length=len(query.text) if query else None,
        query_truncated=verdict.truncated,
        query_hash=query_hash,
        query=_encodable(query.text) if query and record_query else None,
        error=verdict.error,
    )


def query_of(verdict: Verdict, request: RoutingRequest) -> RoutingQuery | None:
    """Return what was scored: the call's query, or what it was narrowed to."""
    query = request.query
    if query is None or verdict.question is None:
        return query
    return replace(query, text=verdict.question, source="guessed")


def _facts(query: RoutingQuery | None) -> tuple[RetrievalFacts | None, RetrievalSource]:
    """Return the facts that were scored, and who told them."""
    if query is None or query.retrieval is None:
        return None, "missing"
    return query.retrieval, query.retrieval_source


def _encodable(text: str) -> str:
    """Replace lone surrogates, which no JSON or database takes."""
    return text.encode("utf-8", "replace").decode()
