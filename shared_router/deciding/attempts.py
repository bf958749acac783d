"""The attempts of one call, without I/O: a generator that says whom to ask and learns the outcome.

It decides, then asks candidates one by one until one answers and no check rejects the answer.
`Attempt` and `Pause` are what a driver does; all else is reckoned here, once for both fronts, sync
and async, whole answers and streams.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shared_router.deciding.escalation import CHECKS, first_rejection
from shared_router.deciding.failures import OF_THE_SET_UP, Failure, are_alike, failure_of
from shared_router.deciding.guards import allowed_candidates
from shared_router.deciding.looks import LookAt
from shared_router.deciding.order import next_of, others, widest_first
from shared_router.deciding.taking import LOOKED, Looks, Taken
from shared_router.errors import AllCandidatesFailedError, CallTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from shared_router.deciding.escalation import Answer, Check
    from shared_router.deciding.guards import RoutingRequest
    from shared_router.deciding.looks import Looking
    from shared_router.deciding.policy import Score
    from shared_router.deciding.terms import Terms
    from shared_router.records import RoutingDecision, Why

logger = logging.getLogger("hybrid_llm")

KEPT_BACK_SHARE = 1 / 3
LONGEST_KEPT_BACK_S = 20.0
"""Of the time that is left, so large a share and at most so many seconds are kept for the
candidates behind: one that hangs leaves them time to answer."""
LEAST_TO_LOOK = 1 / 2
"""Of a call's time, what must be left to ask a cheaper candidate first and look at its answer."""
NOTE = "Raised by candidate {name!r}."
NOT_ANSWERED: Any = object()


@dataclass(slots=True)
class Attempt:
    """Ask the driver to call a candidate."""

    index: int
    """Its position."""
    decision: RoutingDecision
    """What the router chose."""
    why: Why = "chosen"
    """Why this one is asked."""
    number: int = 1
    """Which attempt of the call it is, from 1."""
    held: bool = False
    """Whether its answer may be rejected: nothing of it may be shown before."""
    left_s: float | None = None
    """Seconds it may take; `None` for no limit."""
    look: bool = False
    """Whether its answer will be scored; then it is `held` too."""
    logprobs: bool = False
    """Whether the model is to give log-probabilities with it."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Ask the driver to wait."""

    seconds: float


@dataclass(slots=True)
class Tried:
    """One attempt as it went; a record is made of it where somebody listens."""

    attempt: Attempt
    started: float
    ended: float = 0.0
    error: Exception | None = None
    failure: Failure | None = None
    rejected: str | None = None
    look: Taken | None = None
    """What came of looking at its answer."""
    answer: Any = field(default=NOT_ANSWERED, repr=False)

    @property
    def answered(self) -> bool:
        """Whether the candidate answered."""
        return self.answer is not NOT_ANSWERED

    @property
    def passed_on(self) -> bool:
        """Whether a second look passed its answer on."""
        return self.look is not None and self.look.passed_on


class Attempts:
    """One call's attempts: whom to ask next, and what came of each.

    Args:
        decision: What the router chose.
        request: The call.
        terms: What holds for its attempts.
        read: Reads an answer for the checks.
        started: When the call began, by the terms' clock.
        looking: What looking at an answer needs, where the decision is to look.
        committed: Tells whether something of an attempt that failed is seen outside already.
    """

    def __init__(
        self,
        decision: RoutingDecision,
        request: RoutingRequest,
        terms: Terms,
        read: Callable[[Any], Answer],
        started: float,
        committed: Callable[[], bool] | None = None,
        looking: Looking | None = None,
    ) -> None:
        self.decision, self.request, self.terms, self.read = decision, request, terms, read
        self.started, self._committed = started, committed
        self.broke_off = False
        """Whether an attempt failed after something of it was seen: nobody else answers then."""
        self.until = None if terms.call_timeout_s is None else started + terms.call_timeout_s
        self.tried: list[Tried] = []
        self.given: Tried | None = None
        """The one whose answer is given."""
        self._waiting: list[int] | None = None
        self._rejected_at = -1
        self._again: list[tuple[float, int]] = []
        self._able: tuple[int, ...] | None = None
        self._looks = None if looking is None else Looks(looking, decision.index, self.able)

    # -- what is done next ----------------------------------------------------------------------

    def next_step(self) -> Attempt | Pause | None:
        """Return what is done next; `None` where nobody is left, or no time.

        Raises:
            CallTimeoutError: If the decision took all the time there was.
        """
        if not self.tried:
            return self._first()
        if self._over():
            return None
        waiting = self._dearer() if self._rejected_at >= 0 else self._waiting
        if waiting:
            return self._attempt(self._next(waiting), self._why())
        return self._once_more()

    def _first(self) -> Attempt:
        if self._over():
            raise self._late()
        watch, chosen = self.terms.watch, self.decision.index
        if (why := self._why_no_look()) is not None:
            self._looks = None
            return self._attempt(self.able[-1], why)
        if watch is None or watch.ready(chosen):
            return self._attempt(chosen, "chosen")
        self._waiting = [chosen, *self._others()]
        first = self._next(self._waiting)
        return self._attempt(first, "chosen" if first == chosen else "resting")

    def _why_no_look(self) -> Why | None:
        """Say why the reference is asked at once, where an answer was to be looked at.

        The time that is left is its own, as two answers would not fit; or the answer would be
        passed on for certain, as it comes without log-probabilities.
        """
        looks, watch, limit = self._looks, self.terms.watch, self.terms.call_timeout_s
        if looks is None or not looks.at(self.decision.index):
            return None
        left_s = None if self.until is None else self.until - self.terms.clock()
        if left_s is not None and limit is not None and left_s < limit * LEAST_TO_LOOK:
            return "no_time"
        needs = looks.looking.needs_logprobs and watch is not None
        return "no_logprobs" if needs and watch.is_mute(self.decision.index) else None  # type: ignore[union-attr]

    @property
    def able(self) -> tuple[int, ...]:
        """Positions of the candidates that can serve the call."""
        if self._able is None:
            self._able = allowed_candidates(self.request, self.terms.candidates).indices
        return self._able

    def _others(self) -> list[int]:
        return others(self.decision.index, self.terms.fallback, self.able, self.terms.candidates)

    def _next(self, waiting: Sequence[int]) -> int:
        watch = self.terms.watch
        ready = watch.ready if watch else lambda _: True
        return next_of(waiting, self.decision.index, ready, up_first=self.terms.up_first)

    def _why(self) -> Why:
        return "escalated" if self._rejected_at >= 0 else "fallback"

    def _dearer(self) -> list[int]:
        """List who may give a better answer than the one that was rejected, in order."""
        asked = {tried.attempt.index for tried in self.tried}
        found = [index for index in self.able if index > self._rejected_at and index not in asked]
        wanted = -1 if self._looks is None else self._looks.plan.index
        return sorted(found, key=lambda index: index != wanted)

    def _attempt(self, index: int, why: Why) -> Attempt:
        if self._waiting and index in self._waiting:
            self._waiting.remove(index)
        look = self._looks is not None and self._looks.at(index)
        return Attempt(
            index,
            self.decision,
            why,
            len(self.tried) + 1,
            held=look or (bool(self.terms.checks) and index < self.able[-1]),
            left_s=None if self.until is None else self._left_s(index, self.until),
            look=look,
            logprobs=look and self._looks is not None and self._looks.looking.needs_logprobs,
        )

    def _left_s(self, index: int, until: float) -> float:
        left_s = max(0.0, until - self.terms.clock())
        if not self._somebody_behind(index):
            return left_s
        return left_s - min(left_s * KEPT_BACK_SHARE, LONGEST_KEPT_BACK_S)

    def _somebody_behind(self, index: int) -> bool:
        if self._rejected_at >= 0:
            return any(other > index for other in self._dearer())
        waiting = self._others() if self._waiting is None else self._waiting
        return any(other != index for other in waiting)

    def _once_more(self) -> Attempt | Pause | None:
        """Wait for a candidate that named a time, where the call has the time and nobody retried.

        It is asked once more at most.
        """
        if not self._again:
            return None
        due, index = min(self._again)
        now = self.terms.clock()
        if due > now:
            return Pause(due - now)
        self._again = []
        return self._attempt(index, "chosen" if index == self.decision.index else "fallback")

    # -- what came of it ------------------------------------------------------------------------

    def failed(self, tried: Tried, error: Exception) -> None:
        """Note an error.

        Raises:
            Exception: The error itself, where no other candidate may mend it.
        """
        terms, index = self.terms, tried.attempt.index
        structured = self.request.needs_structured_output
        failure = failure_of(error, terms.is_mendable, structured=structured)
        tried.error, tried.failure = error, failure
        note(error, terms.candidates[index].name)
        if self._is_committed():
            self.broke_off = True
            self._tell(index, failure)
            raise error
        if failure.kind == "schema" and self._checks_schema():
            tried.rejected, self._rejected_at = "schema", index
            return
        self._tell(index, failure)
        if not failure.mendable:
            raise error
        self._line_up(index, failure)

    def _is_committed(self) -> bool:
        return self._committed is not None and self._committed()

    def _checks_schema(self) -> bool:
        return any(check.name == "schema" for check in self.terms.checks)

    def _tell(self, index: int, failure: Failure) -> None:
        watch = self.terms.watch
        if watch is None:
            return
        watch.failed(index, failure)
        if failure.kind in OF_THE_SET_UP:
            watch.warn(index, failure)

    def _line_up(self, index: int, failure: Failure) -> None:
        """Put those behind a failed candidate in order."""
        if self._waiting is None:
            self._waiting = self._others()
        if failure.kind == "context_overflow":
            self._waiting = widest_first(self._waiting, self.terms.candidates)
        if failure.retry_after_s is not None and self._may_ask_again(index):
            due = self.terms.clock() + failure.retry_after_s
            if self.until is not None and due < self.until:
                self._again.append((due, index))

    def _may_ask_again(self, index: int) -> bool:
        asked = [tried.attempt.index for tried in self.tried]
        return len(set(asked)) == len(asked) and not self.terms.retries(index)

    def answered(self, tried: Tried, answer: Any) -> LookAt | None:
        """Note an answer and check it; return what is to be scored of it, if it is looked at."""
        tried.answer = answer
        if self.terms.watch is not None:
            self.terms.watch.answered(tried.attempt.index)
        if not tried.attempt.held or self._is_committed():
            return None
        read = self._read(answer)
        if read is not None:
            tried.rejected = first_rejection(read, self._checks(tried))
        if not tried.attempt.look or self._looks is None:
            return None
        index = tried.attempt.index
        if tried.rejected is not None:
            self._noted(tried, self._looks.rejected(index))
            return None
        asked = self._looks.asked(index, read)
        if self.terms.watch is not None:
            self.terms.watch.told(index, mute=not isinstance(asked, LookAt))
        if isinstance(asked, LookAt):
            return asked
        self._noted(tried, asked)
        return None

    def _read(self, answer: Any) -> Answer | None:
        """Read an answer; one that cannot be read is not lost because of that."""
        try:
            return self.read(answer)
        except Exception as error:  # noqa: BLE001  (see above)
            logger.warning("Reading an answer raised %s: not checked.", type(error).__name__)
            return None

    def _checks(self, tried: Tried) -> tuple[Check, ...]:
        """Return what an answer must pass; one that says nothing is not scored."""
        checks, empty = self.terms.checks, CHECKS["empty"]
        return (*checks, empty) if tried.attempt.look and empty not in checks else checks

    def scored(self, tried: Tried, score: Any) -> None:
        """Note the score of an answer."""
        if self._looks is not None:
            self._noted(tried, self._looks.scored(tried.attempt.index, score))

    def not_scored(self, tried: Tried, error: Exception) -> None:
        """Note that an answer could not be scored: the reference answers."""
        kind = type(error).__name__
        logger.warning("Scoring an answer raised %s: the reference answers.", kind)
        if self._looks is not None:
            self._noted(tried, self._looks.failed(kind))

    def _noted(self, tried: Tried, taken: Taken) -> None:
        tried.look = taken
        if taken.passed_on and tried.rejected is None:
            tried.rejected = LOOKED

    def accepted(self, tried: Tried) -> bool:
        """Tell whether an answer is given."""
        if tried.rejected is not None:
            self._rejected_at = tried.attempt.index
            return False
        self.given = tried
        return True

    def end(self) -> None:
        """Give the best answer in hand, or raise what came of the attempts.

        An answer that a check rejected is better than none, where nobody gives a better one.

        Raises:
            CallTimeoutError: If the time was over.
            AllCandidatesFailedError: If several failed.
            Exception: The only error, or the last one of answers that did not fit their schema.
        """
        in_hand = [tried for tried in self.tried if tried.answered]
        if in_hand and self.terms.fallback not in ("up", "off"):
            self.given = in_hand[-1]
            return
        errors = [tried.error for tried in self.tried if tried.error is not None]
        if self._over():
            raise self._late()
        alone = len({tried.attempt.index for tried in self.tried}) == 1
        if alone or len(errors) == 1 or all(tried.rejected for tried in self.tried):
            raise errors[-1]
        if are_alike(errors):  # what each finds wrong is the call's, not the models'
            raise errors[0]
        raise self._all_failed(errors)

    def _all_failed(self, errors: list[Exception]) -> AllCandidatesFailedError:
        names = (self.terms.candidates[tried.attempt.index].name for tried in self.tried)
        shown = ", ".join(map(repr, dict.fromkeys(names)))
        return AllCandidatesFailedError(f"Every candidate that was asked failed: {shown}.", errors)

    def _over(self) -> bool:
        return self.until is not None and self.terms.clock() >= self.until

    def _late(self) -> CallTimeoutError:
        """Make the error of a call whose time is over; what failed before is its cause."""
        errors = [tried.error for tried in self.tried if tried.error is not None]
        late = CallTimeoutError(
            f"The call took longer than call_timeout_s={self.terms.call_timeout_s:g}; candidates "
            f"asked: {len(self.tried)}. Give it more, or its models shorter limits of their own."
        )
        if errors:
            late.__cause__ = errors[0] if len(errors) == 1 else self._all_failed(errors)
        return late


def note(error: BaseException, name: str) -> None:
    """Note on an error which candidate raised it."""
    told = NOTE.format(name=name)
    with suppress(Exception):  # one that cannot be noted on is raised all the same
        if told not in getattr(error, "__notes__", ()):
            error.add_note(told)


def attempting(
    deciding: Generator[Score, Any, RoutingDecision],
    begin: Callable[[RoutingDecision], Attempts],
) -> Generator[Score | Attempt | LookAt | Pause, Any, Attempts]:
    """Decide, then ask candidates until one answers; the one loop over attempts there is.

    Args:
        deciding: Yields what is scored, and returns the decision.
        begin: Tells of the decision, and returns the call's attempts.

    Returns:
        The attempts; `given` is the one whose answer is given.
    """
    decision = yield from deciding
    attempts = begin(decision)
    clock = attempts.terms.clock
    while (step := attempts.next_step()) is not None:
        if isinstance(step, Pause):
            yield step
            continue
        tried = Tried(step, clock())
        attempts.tried.append(tried)
        try:
            answer = yield step
        except Exception as error:  # noqa: BLE001  (the rules decide what it means)
            tried.ended = clock()
            attempts.failed(tried, error)
        else:
            tried.ended = clock()
            asked = attempts.answered(tried, answer)
            if asked is not None:
                yield from _looking_at(attempts, tried, asked)
            if attempts.accepted(tried):
                return attempts
    attempts.end()
    return attempts


def _looking_at(attempts: Attempts, tried: Tried, asked: LookAt) -> Generator[LookAt, Any, None]:
    try:
        score = yield asked
    except Exception as error:  # noqa: BLE001  (a chain never breaks because a scorer did)
        attempts.not_scored(tried, error)
    else:
        attempts.scored(tried, score)
