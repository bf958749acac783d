"""Who is asked, in which order, where a candidate fails or its answer is rejected: pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from shared_router.deciding.guarantee import Claim, claim_of
from shared_router.deciding.guards import position_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shared_router.options import Fallback
    from shared_router.records import Candidate, RoutingDecision, Why


def others(
    chosen: int, fallback: Fallback, able: Sequence[int], candidates: Sequence[Candidate]
) -> list[int]:
    """List who is asked after the chosen one, in order.

    Args:
        chosen: Position of the chosen candidate.
        fallback: As the user said it.
        able: Positions of the candidates that can serve the call.
        candidates: All candidates, from the cheapest to the reference.

    Raises:
        CandidateError: If a name is no candidate's.
    """
    if fallback == "off":
        return []
    if fallback not in ("any", "up"):
        named = dict.fromkeys(position_of(name, candidates, "fallback") for name in fallback)
        return [index for index in named if index != chosen and index in able]
    dearer = [index for index in able if index > chosen]
    cheaper = [index for index in reversed(able) if index < chosen]
    return dearer if fallback == "up" else dearer + cheaper


def next_of(
    waiting: Sequence[int], chosen: int, ready: Callable[[int], bool], *, up_first: bool
) -> int:
    """Choose who is asked next: the first in order who does not rest, else the first.

    Args:
        waiting: Positions in order, at least one.
        chosen: Position of the chosen candidate.
        ready: Tells whether a candidate does not rest.
        up_first: Whether no cheaper candidate than the chosen one comes before one that is not:
            a resting one is then asked before a cheaper one.
    """
    first = [index for index in waiting if index >= chosen] if up_first else []
    group = first or waiting
    return next((index for index in group if ready(index)), group[0])


def widest_first(waiting: Sequence[int], candidates: Sequence[Candidate]) -> list[int]:
    """Order candidates for an input that was too long for another: the widest window first.

    One whose window is not known may be wide; those that are equal keep their order.
    """
    return sorted(waiting, key=lambda index: -(candidates[index].context_window or math.inf))


def call_claim(
    decision: RoutingDecision, index: int, why: Why, reference: int, *, passed_on: bool = False
) -> Claim:
    """Say what holds of an answer, by who gave it; see the table in `guarantee`.

    The reference adds no loss; a dearer model that is not the reference was not measured in this
    place, and is taken to be no worse; a cheaper one stands for nothing that was measured.

    Args:
        decision: What the router chose.
        index: Who answered.
        why: Why that one was asked.
        reference: Position of the reference.
        passed_on: Whether a second look passed the answer on, and nobody else gave one: that was
            not measured either.
    """
    claimed = Claim(decision.guarantee, decision.guarantee_reason)
    if passed_on:
        return claim_of("fallback", claimed, to_reference=index == reference)
    if index == decision.index:
        return claimed
    if decision.index < index < reference and claimed.guarantee in ("promised", "estimated"):
        return Claim("estimated", claimed.reason or why)
    return claim_of("fallback", claimed, to_reference=index == reference)
