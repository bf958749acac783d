"""From a verdict to the record that every carrier shows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from shared_router.deciding.guarantee import CONVERSATION, PROMISED, claim_of, void
from shared_router.records import RoutingDecision

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared_router.deciding.guarantee import Claim, Limit
    from shared_router.deciding.guards import RoutingRequest
    from shared_router.deciding.policy import Policy, Verdict
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
    hashed: Callable[[str], str] | None = None,
    record_query: bool = False,
) -> RoutingDecision:
    """Make the record of one decision.

    Args:
        verdict: What the rules found.
        request: The call.
        policy: The rules, with the candidates bound.
        router: Names the router.
        latency_ms: Time the decision took.
        hashed: Makes the keyed hash of the query, where wanted.
        record_query: Whether to keep the text.

    Returns:
        The record. One that cannot be made, as of a router made by hand whose name is none, is
        that of a router that failed: a chain never breaks because of a record.
    """
    try:
        return _whole_record(verdict, request, policy, router, hashed, record_query, latency_ms)
    except Exception as error:  # noqa: BLE001  (whatever it is, the call goes on)
        failed = verdict if verdict.reason == "forced" else policy.failed(request, error)
        return RoutingDecision(
            candidate=policy.candidates[failed.index].name,
            index=failed.index,
            reason=failed.reason,
            **_claimed(failed, request, policy),
            latency_ms=latency_ms,
            error=type(error).__name__,
        )


def _whole_record(
    verdict: Verdict,
    request: RoutingRequest,
    policy: Policy,
    router: Named,
    hashed: Callable[[str], str] | None,
    record_query: bool,
    latency_ms: float,
) -> RoutingDecision:
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
        **_claimed(verdict, request, policy),
        with_second_look=verdict.with_looks,
        conversation=verdict.conversation,
        switch_cost_usd=verdict.switch_cost_usd,
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
        query_hash=hashed(query.text) if query and hashed else None,
        query=_encodable(query.text) if query and record_query else None,
        error=verdict.error,
    )


def _claimed(verdict: Verdict, request: RoutingRequest, policy: Policy) -> dict[str, Any]:
    """Say what holds of a decision's quality."""
    setting = verdict.setting
    asked = policy.asked(request.options)
    limit = asked.dial.name, asked.dial.value, asked.confidence
    to_reference = verdict.index == policy.reference
    kept, kept_limit = _kept_from(verdict, request, policy)
    if kept == PROMISED and kept_limit != limit:
        # What was promised at another limit is no promise at this one.
        kept = void(CONVERSATION) if verdict.kept and not to_reference else None
    claim = claim_of(
        # What is kept of an earlier turn is a later turn's: the claim says so itself.
        "score" if verdict.kept and kept is None else verdict.reason,
        policy.claim(request) if setting is None else setting.claim,
        to_reference=to_reference,
        kept_from=kept,
    )
    return {
        "guarantee": claim.guarantee,
        "guarantee_reason": claim.reason,
        "confidence": asked.confidence if claim.guarantee == "promised" else None,
    }


def _kept_from(
    verdict: Verdict, request: RoutingRequest, policy: Policy
) -> tuple[Claim | None, Limit | None]:
    """Return what held of the decision whose model is kept, and of what limit."""
    if not verdict.kept:
        return request.sticky_claim, request.sticky_limit
    so_far = request.conversation
    begun = so_far.answering if so_far and policy.staying.mode(request) == "keep" else None
    if begun is None or not policy.dialling.by_conversation:
        return None, None  # what was measured was no conversation
    return begun.claim or void(CONVERSATION), begun.limit


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
