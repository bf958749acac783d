"""What may be said of one decision's quality, when rules meet: the table, as one pure function.

The promise speaks of the mean over the calls that say `promised`. A call to the reference adds no
loss, so it keeps whatever its dial claims; one that another rule sends to a cheaper model was
measured by nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared_router.records import GUARANTEES, NOT_CALIBRATED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared_router.records import Guarantee, Reason


@dataclass(frozen=True)
class Claim:
    """What is claimed of a decision's quality, and why no more."""

    guarantee: Guarantee
    reason: str | None = None

    @classmethod
    def read(cls, carried: Mapping[str, Any]) -> Claim | None:
        """Read what a message carries of its decision; `None` where it says nothing we know."""
        found, reason = carried.get("guarantee"), carried.get("guarantee_reason")
        if not isinstance(found, str) or found not in GUARANTEES:
            return None
        return cls(found, reason if isinstance(reason, str) else None)


Limit = tuple[str, float, float]
"""Of what a promise speaks: a dial's name, its value, and how sure it is."""


def limit_of(dial: Any, value: Any, confidence: Any) -> Limit | None:
    """Take what a decision, or a message, carries of a promised limit; `None` where it is none."""
    numbers = isinstance(value, int | float) and isinstance(confidence, int | float)
    return (dial, value, confidence) if isinstance(dial, str) and numbers else None


PROMISED = Claim("promised")
ESTIMATED = Claim("estimated", "confidence='estimate'")
NOT_PROMISED = Claim("estimated", "not promised")
"""The stored default, where its limit cannot be promised."""
SEVERAL_MODELS = Claim("estimated", "more than two models")
NO_PROMISE = Claim("none", "no promise")
"""A limit that was written and cannot be promised: its calls go to the reference."""
NO_QUALITY_DIAL = Claim("none", "no quality dial")
UNCALIBRATED = Claim("none", NOT_CALIBRATED)
UNRESOLVED = Claim("none", "router_error")
"""Where the router failed at resolving the dial."""
UNKNOWN_TASK = "unknown task"
OTHER_CANDIDATES = "other candidates"
OTHER_ARITHMETIC = "other arithmetic"
OTHER_SETTINGS = "other settings"
CONVERSATION = "conversation"
KIND_OF_CALL = "kind of call"
RETRIEVAL = "retrieval"
"""Facts of the retrieval that all calibration queries had and the call has not, or the reverse."""

_MEASURED: tuple[Reason, ...] = ("score", "no_promise", "second_look")
"""Reasons that choose as the calibration did."""


def void(reason: str) -> Claim:
    """Say that a decision is not what was measured."""
    return Claim("void", reason)


def claim_of(
    reason: Reason,
    claimed: Claim,
    *,
    to_reference: bool,
    kept_from: Claim | None = None,
    other_settings: bool = False,
) -> Claim:
    """Say what holds of one decision.

    Args:
        reason: The rule that decided, or `fallback` where another model answered.
        claimed: What the dial in force claims of decisions by score.
        to_reference: Whether the reference answers.
        kept_from: Where a turn or a conversation keeps its model, what held of the decision that
            chose it.
        other_settings: Whether the answer was made under other settings than those measured.

    Returns:
        The claim.
    """
    if claimed in (UNCALIBRATED, NO_QUALITY_DIAL):
        return claimed
    if reason == "sticky" and kept_from is not None:
        return kept_from
    if to_reference:
        return claimed
    if reason not in _MEASURED:
        return void(reason)
    return void(OTHER_SETTINGS) if other_settings else claimed
