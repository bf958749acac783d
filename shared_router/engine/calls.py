"""One call from its request to its record: what every front's calls share, sync and async."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from shared_router.deciding.attempts import NOT_ANSWERED, Attempts, note
from shared_router.deciding.failures import failure_of
from shared_router.deciding.order import call_claim
from shared_router.engine.streams import (
    AsyncOpened,
    Live,
    Opened,
    afollowed,
    ain_time,
    check_said,
    followed,
)
from shared_router.records import AttemptRecord, CallRecord
from shared_router.support.patience import Patience

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator

    from shared_router.deciding.attempts import Attempt, Tried
    from shared_router.deciding.escalation import Answer
    from shared_router.deciding.guards import RoutingRequest
    from shared_router.deciding.looks import Looking
    from shared_router.deciding.terms import Terms
    from shared_router.records import RoutingDecision, Why

logger = logging.getLogger("hybrid_llm")


@dataclass(frozen=True, kw_only=True)
class Hands:
    """What a front does for one call: all that is its host's own."""

    attempt: Callable[[Attempt], Any]
    """Calls a candidate: returns its answer, or an awaitable of it in async calls; an `Opened`
    stream where one is wanted, but a whole answer where it may be rejected (`held`)."""
    read: Callable[[Any], Answer]
    """Reads an answer, for checks and records."""
    merge: Callable[[list[Any]], Any] | None = None
    """Makes an answer of a stream's chunks."""
    streams: bool = False
    """Whether the caller wants a stream."""
    ended: Callable[[Call], None] | None = None
    """Told of the end of the call, to tell its host of it."""
    committed: Callable[[], bool] | None = None
    """Tells whether something of the attempt under way is seen outside already, a token or a tool
    that has run: then nobody else answers."""


class Call:
    """One routed call: its attempts, and what is told of them.

    Args:
        request: The call.
        hands: What the front does for it.
        terms: What holds for its attempts.
        decided: Told of the decision.
        listeners: Told of the record, at the end.
    """

    def __init__(
        self,
        request: RoutingRequest,
        hands: Hands,
        terms: Terms,
        decided: Callable[[RoutingDecision], None],
        listeners: tuple[Callable[[CallRecord], object], ...] = (),
    ) -> None:
        self.request, self.hands, self.terms = request, hands, terms
        self._decided, self._listeners = decided, listeners
        self.attempts: Attempts | None = None
        self.looking: Looking | None = None
        """What looking at an answer needs; told before `begin`."""
        self._started = terms.clock()
        self._ended: float | None = None
        self._error: BaseException | None = None
        self._broke_off = False

    def begin(self, decision: RoutingDecision) -> Attempts:
        """Tell of the decision, and begin the attempts."""
        self._decided(decision)
        hands = self.hands
        self.attempts = Attempts(
            decision,
            self.request,
            self.terms,
            hands.read,
            self._started,
            hands.committed,
            self.looking,
        )
        return self.attempts

    # -- attempts within their time ---------------------------------------------------------------

    def attempt(self, step: Attempt) -> Any:
        """Call a candidate, within its time where there is a limit."""
        if step.left_s is None:
            return self._said(self.hands.attempt(step))
        patience = Patience()
        try:
            answer = self._said(patience.run(lambda: self.hands.attempt(step), step.left_s))
        except BaseException:
            patience.close()
            raise
        if not isinstance(answer, Opened):
            patience.close()
            return answer
        answer.patience, answer.left_s = patience, self.left_s()
        return answer

    async def aattempt(self, step: Attempt) -> Any:
        """Call a candidate without blocking the event loop, within its time."""
        waited: Awaitable[Any] = self.hands.attempt(step)
        if step.left_s is None:
            return self._said(await waited)
        answer = self._said(await ain_time(waited, step.left_s))
        if isinstance(answer, AsyncOpened):
            answer.left_s = self.left_s()
        return answer

    def _said(self, answer: Any) -> Any:
        check_said(answer, self.hands.read)
        return answer

    def left_s(self) -> float | None:
        """Return the seconds that are left for the call; `None` where there is no limit."""
        limit = self.terms.call_timeout_s
        return None if limit is None else self._started + limit - self.terms.clock()

    # -- the answer -------------------------------------------------------------------------------

    @property
    def answer(self) -> Any:
        """The answer that is given: a whole one, or an opened stream."""
        return self._given.answer

    @property
    def _given(self) -> Tried:
        given = self.attempts.given if self.attempts else None
        if given is None:
            raise RuntimeError("Nobody has answered this call.")
        return given

    @property
    def index(self) -> int:
        """Position of the candidate that answers."""
        return self._given.attempt.index

    @property
    def answered_by(self) -> str:
        """Name of the candidate that answers."""
        return self.terms.candidates[self.index].name

    @property
    def why(self) -> Why:
        """Why that one answers."""
        return self._given.attempt.why

    @property
    def attempted(self) -> int:
        """How many attempts there were."""
        return len(self.attempts.tried) if self.attempts else 0

    def stable(self) -> dict[str, Any]:
        """Return what a message carries: the decision's stable part, who answered and why."""
        return {**self._given.attempt.decision.stable(), **self.answering()}

    def answering(self) -> dict[str, Any]:
        """Return who answered and why, and what holds of that."""
        given, reference = self._given.attempt, len(self.terms.candidates) - 1
        passed_on = self._given.passed_on
        claim = call_claim(given.decision, given.index, given.why, reference, passed_on=passed_on)
        return {
            "guarantee": claim.guarantee,
            "guarantee_reason": claim.reason,
            "answered_by": self.answered_by,
            "answered_because": given.why,
        }

    def settled(self) -> Call:
        """Note the end of a call with a whole answer; a stream ends when it is read."""
        if not isinstance(self.answer, Opened | AsyncOpened | Live):
            self.ended()
        return self

    # -- its end ----------------------------------------------------------------------------------

    def ended(self, answer: Any = NOT_ANSWERED) -> None:
        """Note the end of a call that was answered; a stream's whole answer is told then."""
        if answer is not NOT_ANSWERED:
            self._given.answer = answer
        self._ended = self.terms.clock()
        self._tell()

    def failed(self, error: BaseException) -> None:
        """Note the end of a call that was not answered, or whose stream broke off."""
        self._ended, self._error = self.terms.clock(), error
        self._tell()

    def _tell(self) -> None:
        if self.attempts is None:
            return
        if self.hands.ended is not None:
            self.hands.ended(self)
        for listener in self._listeners:
            try:
                listener(self.record)
            except Exception as error:  # noqa: BLE001  (a chain never breaks because of a listener)
                logger.warning("on_call raised %s.", type(error).__name__)

    def chunks(self) -> Generator[Any, None, None]:
        """Yield the chunks of the stream that is given, and end the call with it."""
        stream: Opened = self.answer
        kept: list[Any] = []
        try:
            for chunk in followed(stream):
                self._keep(kept, chunk)
                yield chunk
        except GeneratorExit:
            self._left(kept)
            raise
        except BaseException as error:
            self._broke(kept, error)
            raise
        else:
            self._whole(kept)
        finally:
            stream.close()

    async def achunks(self) -> AsyncGenerator[Any, None]:
        """Yield the chunks of the async stream that is given; see `chunks`."""
        stream: AsyncOpened = self.answer
        kept: list[Any] = []
        try:
            async for chunk in afollowed(stream):
                self._keep(kept, chunk)
                yield chunk
        except GeneratorExit:
            self._left(kept)
            raise
        except BaseException as error:
            self._broke(kept, error)
            raise
        else:
            self._whole(kept)
        finally:
            await stream.aclose()

    def _keep(self, kept: list[Any], chunk: Any) -> None:
        if self._listeners:
            kept.append(chunk)

    def _whole(self, kept: list[Any]) -> None:
        self.ended(self._merged(kept))

    def _left(self, kept: list[Any]) -> None:
        """Note that nobody reads the stream any more."""
        self._broke_off = True
        self._whole(kept)

    def _broke(self, kept: list[Any], error: BaseException) -> None:
        self._given.answer = self._merged(kept)
        self.broke(error)

    def broke(self, error: BaseException) -> None:
        """Note that a stream broke off: nobody else answers, and the error says whose it was."""
        self._broke_off = True
        if isinstance(error, Exception):
            note(error, self.answered_by)
            if self.terms.watch is not None:
                self.terms.watch.failed(self.index, failure_of(error))
        self.failed(error)

    def _merged(self, kept: list[Any]) -> Any:
        return self.hands.merge(kept) if kept and self.hands.merge else None

    @cached_property
    def record(self) -> CallRecord:
        """The record of the call; made where somebody wants it, at its end."""
        attempts = self.attempts
        if attempts is None:
            raise RuntimeError("This call was not decided.")
        return _record(self, attempts)

    def _latency_ms(self) -> float:
        ended = self.terms.clock() if self._ended is None else self._ended
        return (ended - self._started) * 1e3


def _record(call: Call, attempts: Attempts) -> CallRecord:
    given, names = attempts.given, [each.name for each in call.terms.candidates]
    decision, error = attempts.decision, call._error  # noqa: SLF001
    claim: dict[str, Any] = {
        "guarantee": decision.guarantee,
        "guarantee_reason": decision.guarantee_reason,
    }
    if given is not None:
        found = call_claim(
            decision,
            given.attempt.index,
            given.attempt.why,
            len(names) - 1,
            passed_on=given.passed_on,
        )
        claim = {"guarantee": found.guarantee, "guarantee_reason": found.reason}
    return CallRecord(
        decision=decision.without_text(),
        attempts=tuple(_attempt_record(call, tried, names) for tried in attempts.tried),
        answered_by=names[given.attempt.index] if given else None,
        index=given.attempt.index if given else None,
        why=given.attempt.why if given else None,
        **claim,
        broke_off=call._broke_off or attempts.broke_off,  # noqa: SLF001
        error_type=type(error).__name__ if error is not None else None,
        latency_ms=call._latency_ms(),  # noqa: SLF001
    )


def _attempt_record(call: Call, tried: Tried, names: list[str]) -> AttemptRecord:
    answer = _read(call, tried)
    return AttemptRecord(
        candidate=names[tried.attempt.index],
        index=tried.attempt.index,
        why=tried.attempt.why,
        error=tried.failure.kind if tried.failure else None,
        error_type=type(tried.error).__name__ if tried.error is not None else None,
        rejected=tried.rejected,
        answer_score=tried.look.score if tried.look else None,
        look_error=tried.look.error if tried.look else None,
        ms=max(0.0, tried.ended - tried.started) * 1e3,
        model=answer.model if answer else None,
        usage=answer.usage if answer else None,
    )


def _read(call: Call, tried: Tried) -> Answer | None:
    """Read an answer for the record; a stream that nobody kept has none."""
    if not tried.answered or tried.answer is None:
        return None
    if isinstance(tried.answer, Opened | AsyncOpened | Live):
        return None
    try:
        return call.hands.read(tried.answer)
    except Exception as error:  # noqa: BLE001  (a chain never breaks because of a record)
        logger.warning("Reading an answer raised %s.", type(error).__name__)
        return None
