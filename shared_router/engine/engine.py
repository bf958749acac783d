"""RoutingEngine: a Router at work in a process, over models that are bound to its candidates."""

from __future__ import annotations

import hashlib
import inspect
import logging
import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from shared_router.asking.questions import GuessedQueryWarning, warn_of_guess
from shared_router.deciding.attempts import attempting
from shared_router.deciding.decision import decision_record
from shared_router.deciding.drivers import adrive, drive
from shared_router.deciding.guarantee import OTHER_CANDIDATES
from shared_router.deciding.settings import check_promisable
from shared_router.engine.binding import as_router, check_binding, other_models, priced, renamed
from shared_router.engine.breaker import Breakers
from shared_router.engine.calls import Call
from shared_router.engine.deadline import Deadline
from shared_router.engine.promised import said_of_limit
from shared_router.engine.terms import CallSettings, TermsOf
from shared_router.errors import ConfigurationError
from shared_router.options import USUAL_CONFIDENCE, Asked, confidence_from
from shared_router.support.once import warn_once
from shared_router.support.user_warnings import warn

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Generator, Iterable, Sequence

    from shared_router.deciding.guards import RoutingRequest
    from shared_router.deciding.looks import LookAt
    from shared_router.deciding.policy import Score, Verdict
    from shared_router.engine.breaker import Health
    from shared_router.engine.calls import Hands
    from shared_router.options import CallOptions, Confidence, Dial
    from shared_router.records import CallRecord, Candidate, RoutingDecision
    from shared_router.router.router import Router

logger = logging.getLogger("hybrid_llm")

LONGEST_TIMEOUT_S = 3600.0


class OtherCandidatesWarning(UserWarning):
    """The bound models' names are not the names the router was calibrated with."""


class RoutingEngine:
    """Decides each call, and drives the call of the chosen candidate.

    Args:
        router: The router, or its folder or hub name.
        candidates: One bound model per candidate of the router, by position, the reference last.
        dial: The dial of calls that bring none; the router's stored default where `None`. A limit
            that is given here, or by a call, is promised, or keeps its calls at the reference.
        confidence: How sure a limit must be, 0.9 where `None`; `estimate` for its estimate.
        timeout_s: Seconds a decision may take before the call goes to the reference.
        same_models: States that the bound models are those of the calibration, whatever their
            names.
        record_query: Whether decisions hold the query's text, for listeners and events.
        on_decision: Called with every decision; what one raises is logged, not raised.
        settings: How calls are made: fallback, escalation, second looks, time limit, breakers.
        on_call: Called with the record of every call, at its end; what one raises is logged.
        breakers: Breakers to go on with, as a copy does; new ones where `None`.
        retries: Tells of a candidate's model whether it tries again by itself.
        hash_key: Key of the query hashes in decisions; drawn anew per engine by default. Give one
            to compare hashes across processes.

    Raises:
        CandidateError: If the number of candidates is wrong.
        DialError: If the confidence is out of range.
        ConfigurationError: If a confidence is given, and the bound models are others than those
            measured.
        NotCalibratedError: If the dial needs a calibration and the router has none.

    Warns:
        OtherCandidatesWarning: Once, if the names differ.
    """

    def __init__(
        self,
        router: Router | str | os.PathLike[str],
        candidates: Sequence[Candidate],
        *,
        dial: Dial | None = None,
        confidence: Confidence | None = None,
        timeout_s: float = 5.0,
        same_models: bool = False,
        record_query: bool = False,
        on_decision: Iterable[Callable[[RoutingDecision], object]] = (),
        settings: CallSettings | None = None,
        on_call: Iterable[Callable[[CallRecord], object]] = (),
        breakers: Breakers | None = None,
        retries: Callable[[Any], bool] | None = None,
        hash_key: bytes | None = None,
    ) -> None:
        if not 0 < timeout_s <= LONGEST_TIMEOUT_S:
            raise ConfigurationError(
                f"timeout_s is above 0 and at most {LONGEST_TIMEOUT_S:g} seconds; got {timeout_s}."
            )
        self.router = as_router(router)
        check_binding(self.router, candidates)
        self.void = self._void(candidates, same_models)
        self.candidates = renamed(self.router, candidates)
        self.router = priced(self.router, self.candidates)
        self.dial = dial or self.router.dial
        sure = USUAL_CONFIDENCE if confidence is None else confidence_from(confidence)
        self.asked = Asked(self.dial, dial is not None, sure)
        if confidence is not None:
            check_promisable(self.asked, self.void or self.router.void)
        calls = settings or CallSettings()
        self.policy = self.router.policy(
            self.candidates, self.asked, self.void, calls.second_look, calls.conversation
        )
        if calls.second_look is True:
            self.policy.check_looks(self.dial)
        self._say_limit()
        if dial is None:
            logger.info(
                "No dial given: using the stored default of router %s, %s=%g.",
                self.router.name,
                self.dial.name,
                self.dial.value,
            )
        self.record_query = record_query
        self.on_decision = tuple(on_decision)
        self.on_call = tuple(on_call)
        _check_listeners("on_decision", self.on_decision)
        _check_listeners("on_call", self.on_call)
        self.breakers = breakers or Breakers([candidate.name for candidate in self.candidates])
        self._terms = TermsOf(self.candidates, self.asked, calls, self.breakers, retries)
        self._deadline = Deadline(timeout_s)
        self._said_unknown = False
        self._hash_key = (hash_key or secrets.token_bytes(32))[:64]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the hash key, which never leaves the process; a copy draws its own."""
        return {name: value for name, value in vars(self).items() if name != "_hash_key"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._hash_key = secrets.token_bytes(32)

    def __repr__(self) -> str:
        names = ", ".join(candidate.name for candidate in self.candidates)
        return f"RoutingEngine({self.router.name!r}, [{names}], {self.dial})"

    def _say_limit(self) -> None:
        """Say once in a process what a limit gives that cannot be promised.

        Raises:
            NotCalibratedError: If the dial needs a calibration and there is none.
        """
        if self.policy.refuses():
            warn_once(logger, said_of_limit(self.router, self.asked))

    def _void(self, candidates: Sequence[Candidate], same_models: bool) -> str | None:
        """Say why nothing that was measured holds for the bound models, and warn of it."""
        other = other_models(self.router, candidates)
        if not other or same_models or self.router.tiers:
            return None
        warn(
            f"Router {self.router.name!r} was calibrated with other models: bound are "
            f"{', '.join(other)}. Its quality estimates are void for these: calibrate it with "
            "their outcomes, name them by Candidate(aliases=...), or state same_models=True.",
            OtherCandidatesWarning,
        )
        return OTHER_CANDIDATES

    def check(self, options: CallOptions) -> None:
        """Refuse what `decide` would refuse of a call's own options.

        Raises:
            ConfigurationError: If the route names no candidate, or the dial cannot be resolved.
        """
        self.policy.check(options)
        self._terms.check(options)

    def decide(self, request: RoutingRequest) -> RoutingDecision:
        """Preview the decision of one call: no model is called and no listener is told.

        Raises:
            ConfigurationError: If the call's own options are wrong; its content never raises.
        """
        return drive(self._deciding(request), self._score)

    async def adecide(self, request: RoutingRequest) -> RoutingDecision:
        """Preview without blocking the event loop; see `decide`."""
        return await adrive(self._deciding(request), self._ascore)

    def call(self, request: RoutingRequest, hands: Hands) -> Call:
        """Decide one call, then make it.

        Args:
            request: The call.
            hands: What the front does for it.

        Returns:
            The call, with its answer; a stream's chunks are drawn from it.

        Raises:
            AllCandidatesFailedError: If several candidates failed; a single error is raised itself.
            CallTimeoutError: If it took longer than its time limit.
            ConfigurationError: If the call's own options are wrong.
        """
        call = self._call(request, hands)
        steps = attempting(self._deciding(call.request, call), call.begin)
        try:
            drive(steps, self._score, call.attempt, self._look)
        except BaseException as error:
            call.failed(error)
            raise
        return call.settled()

    async def acall(self, request: RoutingRequest, hands: Hands) -> Call:
        """Decide one call, then make it, without blocking the event loop; see `call`."""
        call = self._call(request, hands)
        steps = attempting(self._deciding(call.request, call), call.begin)
        try:
            await adrive(steps, self._ascore, call.aattempt, self._alook)
        except BaseException as error:
            call.failed(error)
            raise
        return call.settled()

    @property
    def looks(self) -> bool:
        """Whether answers may be looked at: then calls tell how they would be made."""
        return self.policy.looks is not None

    def _call(self, request: RoutingRequest, hands: Hands) -> Call:
        if hands.streams:
            request = replace(request, streams=True)
        terms = self._terms.of(request, streams=hands.streams)
        return Call(request, hands, terms, self._tell, self.on_call)

    def health(self) -> list[Health]:
        """Say how each candidate does in this process, in their order."""
        return [breaker.health() for breaker in self.breakers]

    def reset(self) -> None:
        """Forget all failures of the candidates: none rests any more."""
        for breaker in self.breakers:
            breaker.reset()

    def _deciding(
        self, request: RoutingRequest, call: Call | None = None
    ) -> Generator[Score, Any, RoutingDecision]:
        started = time.perf_counter()
        request = self.policy.staying.by_its_opening(request)
        verdict = yield from self.policy.deciding(request)
        if call is not None:
            call.looking = verdict.looking
        if verdict.question is not None and request.query and request.query.ways:
            _warn_of_guess(request.query.ways)
        return self._record(verdict, request, (time.perf_counter() - started) * 1e3)

    def _record(
        self, verdict: Verdict, request: RoutingRequest, latency_ms: float
    ) -> RoutingDecision:
        return decision_record(
            verdict,
            request,
            self.policy,
            self.router,
            latency_ms,
            hashed=self._hash,
            record_query=self.record_query,
        )

    def _hash(self, text: str) -> str:
        return hashlib.blake2b(
            text.encode("utf-8", "surrogatepass"), key=self._hash_key, digest_size=16
        ).hexdigest()

    def _tell(self, decision: RoutingDecision) -> None:
        if decision.reason == "router_error":
            logger.warning("The router failed (%s): sent to the reference.", decision.error)
        if decision.wider_because == "unknown_task" and not self._said_unknown:
            self._said_unknown = True
            logger.warning(
                "A call names a task that router %s is not calibrated for: its dial is resolved on "
                "all tasks together, as is said in wider_because of each such decision.",
                self.router.name,
            )
        for listener in self.on_decision:
            try:
                listener(decision)
            except Exception as error:  # noqa: BLE001  (a chain never breaks because of a listener)
                logger.warning("on_decision raised %s.", type(error).__name__)

    def _score(self, *asked: Any) -> Any:
        if getattr(self.router.scorer, "bounded", False):
            return self.router.scored(*asked)
        return self._deadline.run(lambda: self.router.scored(*asked))

    async def _ascore(self, *asked: Any) -> Any:
        return await self._deadline.arun(lambda: self.router.scored(*asked))

    def _look(self, asked: LookAt) -> Any:
        return self._deadline.run(lambda: self.router.look(asked))

    async def _alook(self, asked: LookAt) -> Any:
        return await self._deadline.arun(lambda: self.router.look(asked))


def _warn_of_guess(ways: str) -> None:
    """Warn; a chain does not break where warnings are errors, for the guess serves all the same."""
    try:
        warn_of_guess(ways)
    except GuessedQueryWarning as warning:
        logger.warning("%s", warning)


def _check_listeners(name: str, listeners: Iterable[Callable[..., object]]) -> None:
    for listener in listeners:
        if inspect.iscoroutinefunction(listener):
            raise ConfigurationError(
                f"{name} takes plain functions; {listener.__qualname__} is a coroutine "
                "function and would never run. Schedule it from a plain one."
            )
