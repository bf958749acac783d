"""Deciding and trying, without I/O: generators that say what to do next and learn the outcome.

A generator yields `Score` or `Attempt` and receives the result, or has the exception thrown in.
`drive` and `adrive` are the only places where something is really done; both fronts use them.
Only `Exception` is fed back, so that cancellation passes through.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from shared_router.deciding.curve import resolve_dial
from shared_router.deciding.guards import RoutingRequest, allowed_candidates, position_of
from shared_router.deciding.stickiness import sticky_position
from shared_router.errors import ScoringError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared_router.deciding.curve import CalibrationCurve
    from shared_router.deciding.guards import Allowed
    from shared_router.deciding.rule import Rule
    from shared_router.options import Dial
    from shared_router.records import Candidate, Reason, RoutingDecision

R = TypeVar("R")


@dataclass(frozen=True)
class Score:
    """Ask the driver to score one text."""

    text: str = field(repr=False)


@dataclass(frozen=True)
class Attempt:
    """Ask the driver to call the decided candidate."""

    decision: RoutingDecision


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the rules found; the engine makes a `RoutingDecision` of it."""

    index: int
    reason: Reason
    scores: tuple[float, ...] | None = None
    threshold: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class Policy:
    """The rules in their order, for one router over its candidates."""

    candidates: tuple[Candidate, ...]
    """As bound, the reference last."""
    rule: Rule
    """Turns scores into a choice."""
    curve: CalibrationCurve | None
    """Resolves dials; `None` where the router is not calibrated."""
    default: Dial
    """The dial of a call that brings none."""

    @property
    def reference(self) -> int:
        """Position of the reference."""
        return len(self.candidates) - 1

    def dial(self, request: RoutingRequest) -> Dial:
        """Return the dial in force."""
        return request.options.dial or self.default

    def deciding(self, request: RoutingRequest) -> Generator[Score, Any, Verdict]:
        """Decide one call: forced > capability and context window > sticky > score.

        Raises:
            ConfigurationError: If the call's own options are wrong. Content never raises.
        """
        if request.options.route is not None:
            return Verdict(
                index=position_of(request.options.route, self.candidates), reason="forced"
            )
        threshold = resolve_dial(self.dial(request), self.curve)
        allowed = allowed_candidates(request, self.candidates)
        if len(allowed.indices) == 1 and allowed.reason is not None:
            return Verdict(index=allowed.indices[0], reason=allowed.reason, threshold=threshold)
        sticky = sticky_position(request.sticky_to, allowed, self.candidates)
        if sticky is not None:
            return Verdict(index=sticky, reason="sticky", threshold=threshold)
        if request.query is None or not request.query.text.strip():
            index = self._without_query(request.without_query_to, allowed)
            return Verdict(index=index, reason="no_query", threshold=threshold)
        try:
            scores = self._checked((yield Score(request.query.text)))
        except Exception as error:  # noqa: BLE001  (a chain never breaks because the router did)
            return Verdict(
                index=allowed.indices[-1],
                reason="router_error",
                threshold=threshold,
                error=type(error).__name__,
            )
        return self._by_score(scores, threshold, allowed)

    def _without_query(self, name: str | None, allowed: Allowed) -> int:
        """Return where a call without a query goes: the reference, unless another was named."""
        if name is not None:
            named = position_of(name, self.candidates)
            if named in allowed.indices:
                return named
        return allowed.indices[-1]

    def _checked(self, scores: Any) -> tuple[float, ...]:
        row = tuple(np.asarray(scores, dtype=np.float64).ravel().tolist())
        if len(row) != self.reference or not all(map(math.isfinite, row)):
            raise ScoringError(
                f"A scorer returns {self.reference} finite numbers a query; got {len(row)}."
            )
        return row

    def _by_score(self, scores: tuple[float, ...], threshold: float, allowed: Allowed) -> Verdict:
        masked = [s if i in allowed.indices else -math.inf for i, s in enumerate(scores)]
        index = self.rule.choose_one(masked, threshold)
        if index in allowed.indices:
            return Verdict(index=index, reason="score", scores=scores, threshold=threshold)
        best = max(allowed.indices, key=lambda i: scores[i])
        reason = allowed.reason or "capability"
        return Verdict(index=best, reason=reason, scores=scores, threshold=threshold)


def attempting(
    deciding: Generator[Score, Any, RoutingDecision],
    tell: Callable[[RoutingDecision], None],
) -> Generator[Score | Attempt, Any, Any]:
    """Decide, tell of it, then try the chosen candidate; its own errors are the caller's."""
    decision = yield from deciding
    tell(decision)
    return (yield Attempt(decision))


Attempted = Callable[["RoutingDecision"], Any]
AsyncAttempted = Callable[["RoutingDecision"], Awaitable[Any]]


def drive(
    steps: Generator[Score | Attempt, Any, R] | Generator[Score, Any, R],
    score: Callable[[str], Sequence[float]],
    attempt: Attempted | None = None,
) -> R:
    """Drive a generator to its end, synchronously."""
    try:
        step = next(steps)
        while True:
            try:
                outcome = score(step.text) if isinstance(step, Score) else _call(attempt, step)
            except Exception as error:  # noqa: BLE001  (the generator decides what it means)
                step = steps.throw(error)
            else:
                step = steps.send(outcome)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        steps.close()


async def adrive(
    steps: Generator[Score | Attempt, Any, R] | Generator[Score, Any, R],
    score: Callable[[str], Awaitable[Sequence[float]]],
    attempt: AsyncAttempted | None = None,
) -> R:
    """Drive a generator to its end, asynchronously."""
    try:
        step = next(steps)
        while True:
            try:
                if isinstance(step, Score):
                    outcome: Any = await score(step.text)
                else:
                    outcome = await _call(attempt, step)
            except Exception as error:  # noqa: BLE001  (the generator decides what it means)
                step = steps.throw(error)
            else:
                step = steps.send(outcome)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        steps.close()


def _call(attempt: Attempted | None, step: Attempt) -> Any:
    if attempt is None:
        raise TypeError("This generator tries candidates: give the driver an `attempt`.")
    return attempt(step.decision)
