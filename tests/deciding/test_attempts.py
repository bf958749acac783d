"""The loop over attempts: who is asked, in which order, and what comes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_router import Candidate, RoutingDecision
from shared_router.deciding.attempts import Attempts, Pause, attempting
from shared_router.deciding.escalation import Answer, checks_from
from shared_router.deciding.guards import RoutingRequest
from shared_router.deciding.order import call_claim, others
from shared_router.deciding.terms import Terms
from shared_router.errors import AllCandidatesFailedError, CallTimeoutError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from shared_router.deciding.failures import Failure
    from shared_router.options import Fallback

NAMES = ("nano", "mini", "maxi")
CANDIDATES = tuple(map(Candidate, NAMES))


class DownError(Exception):
    """A server that fails."""

    status_code = 503


class BusyError(Exception):
    """A server that wants to be asked later."""

    status_code = 429
    retry_after = 2.0


class TooLongError(Exception):
    """An input that does not fit."""

    status_code = 413


class WrongError(Exception):
    """A request that is wrong for every model."""

    status_code = 400


class Clock:
    """A clock that moves where it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Seen:
    """Notes health, and lets some rest."""

    def __init__(self, resting: Sequence[int] = ()) -> None:
        self.resting = set(resting)
        self.told: list[tuple[int, str]] = []

    def ready(self, index: int) -> bool:
        return index not in self.resting

    def answered(self, index: int) -> None:
        self.told.append((index, "answered"))

    def failed(self, index: int, failure: Failure) -> None:
        self.told.append((index, failure.kind))

    def warn(self, index: int, failure: Failure) -> None:
        self.told.append((index, f"warned of {failure.kind}"))


class Run:
    """One call over candidates that behave as told; `asked` is who was asked, in order."""

    def __init__(
        self,
        behave: Sequence[Any],
        chosen: int = 0,
        *,
        request: RoutingRequest | None = None,
        candidates: Sequence[Candidate] = CANDIDATES,
        takes_s: float = 0.0,
        committed: bool = False,
        **terms: Any,
    ) -> None:
        self.clock, self.asked, self.paused, self.held = Clock(), [], [], []
        self.left_s: list[float | None] = []
        name = candidates[chosen].name
        decision = RoutingDecision(
            candidate=name, index=chosen, reason="score", guarantee="promised"
        )
        checks = checks_from(terms.pop("checks", ()))
        self.terms = Terms(candidates=candidates, clock=self.clock, checks=checks, **terms)
        self.behave, self.takes_s = [list(b) if isinstance(b, list) else b for b in behave], takes_s
        self.attempts = Attempts(
            decision,
            request or RoutingRequest(),
            self.terms,
            lambda answer: Answer(text=str(answer), native=answer),
            0.0,
            lambda: committed,
        )

    def go(self) -> Any:
        steps = attempting(self._deciding(), lambda _: self.attempts)
        try:
            step: Any = next(steps)
            while True:
                try:
                    outcome = self._done(step)
                except Exception as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(outcome)
        except StopIteration:
            assert self.attempts.given is not None
            return self.attempts.given.answer

    def _deciding(self) -> Generator[Any, Any, RoutingDecision]:
        return self.attempts.decision
        yield

    def _done(self, step: Any) -> Any:
        if isinstance(step, Pause):
            self.paused.append(step.seconds)
            self.clock.now += step.seconds
            return None
        self.asked.append(NAMES[step.index])
        self.held.append(step.held)
        self.left_s.append(step.left_s)
        self.clock.now += self.takes_s
        found = self.behave[step.index]
        if isinstance(found, list):
            found = found.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


# -- fallback -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fallback", "chosen", "expected"),
    [
        ("any", 0, [1, 2]),
        ("any", 1, [2, 0]),
        ("any", 2, [1, 0]),
        ("up", 1, [2]),
        ("up", 2, []),
        ("off", 0, []),
        (("maxi",), 0, [2]),
        (("small", "nano", "large"), 1, [0, 2]),
    ],
)
def test_the_order(fallback: Fallback, chosen: int, expected: list[int]) -> None:
    assert others(chosen, fallback, (0, 1, 2), CANDIDATES) == expected


def test_who_cannot_serve_the_call_is_not_asked() -> None:
    assert others(0, "any", (0, 2), CANDIDATES) == [2]
    assert others(0, ("mini", "maxi"), (0, 2), CANDIDATES) == [2]


def test_the_next_dearer_answers_and_nobody_is_asked_twice() -> None:
    run = Run([DownError(), DownError(), "hello"])
    assert run.go() == "hello"
    assert run.asked == ["nano", "mini", "maxi"]
    whys = [tried.attempt.why for tried in run.attempts.tried]
    assert whys == ["chosen", "fallback", "fallback"]


def test_all_down_is_a_group_of_every_cause_and_candidate() -> None:
    errors = [DownError("a"), DownError("b"), DownError("c")]
    with pytest.raises(AllCandidatesFailedError) as caught:
        Run(errors).go()
    assert caught.value.exceptions == tuple(errors)
    for error, name in zip(errors, NAMES, strict=True):
        assert error.__notes__ == [f"Raised by candidate '{name}'."]
    assert "'nano', 'mini', 'maxi'" in str(caught.value)


def test_a_single_cause_is_raised_itself_with_a_note() -> None:
    error = DownError()
    with pytest.raises(DownError) as caught:
        Run([error, "x", "x"], fallback="off").go()
    assert caught.value is error
    assert error.__notes__ == ["Raised by candidate 'nano'."]


def test_one_that_was_asked_twice_is_a_single_cause() -> None:
    run = Run([BusyError(), "x", "x"], fallback="off", call_timeout_s=9.0, retries=lambda _: False)
    with pytest.raises(BusyError):
        run.go()
    assert run.asked == ["nano", "nano"]


def test_an_error_that_is_raised_again_is_noted_once() -> None:
    error = DownError()
    for _ in range(3):
        with pytest.raises(DownError):
            Run([error, "x", "x"], fallback="off").go()
    assert len(error.__notes__) == 1


def test_the_callers_own_error_is_nobody_elses_to_mend() -> None:
    run = Run([WrongError(), "x", "x"])
    with pytest.raises(WrongError):
        run.go()
    assert run.asked == ["nano"]


def test_what_each_finds_wrong_is_raised_as_with_one_model() -> None:
    with pytest.raises(LookupError, match="no such variable"):
        Run([LookupError("no such variable") for _ in NAMES]).go()


def test_an_input_that_is_too_long_goes_to_the_widest() -> None:
    windows = [Candidate("nano", context_window=10), Candidate("mini", context_window=20)]
    run = Run(
        [TooLongError(), "x", "fits"], candidates=[*windows, Candidate("maxi", context_window=90)]
    )
    assert run.go() == "fits"
    assert run.asked == ["nano", "maxi"]


def test_what_is_seen_outside_is_not_answered_by_another() -> None:
    run = Run([DownError(), "x", "x"], committed=True)
    with pytest.raises(DownError):
        run.go()
    assert run.attempts.broke_off


# -- who rests ----------------------------------------------------------------------------------


def test_one_that_rests_is_asked_last_and_never_left_out() -> None:
    run = Run(["a", DownError(), DownError()], watch=Seen(resting=[0]))
    assert run.go() == "a"
    assert run.asked == ["mini", "maxi", "nano"]
    assert [t.attempt.why for t in run.attempts.tried] == ["resting", "fallback", "fallback"]


def test_one_that_rests_is_asked_where_nobody_else_may_be() -> None:
    assert Run(["a", "b", "c"], watch=Seen(resting=[0]), fallback="off").go() == "a"


def test_under_a_limit_on_quality_the_cheaper_come_last() -> None:
    run = Run(["a", "b", "c"], chosen=2, watch=Seen(resting=[2]), up_first=True)
    assert run.go() == "c"
    run = Run(["a", "b", DownError()], chosen=2, watch=Seen(resting=[2]), up_first=True)
    assert run.go() == "b"
    assert run.asked == ["maxi", "mini"]


def test_every_outcome_is_told() -> None:
    seen = Seen()
    error = DownError()
    error.status_code = 401
    Run([error, DownError(), "c"], watch=seen).go()
    assert seen.told == [
        (0, "authentication"),
        (0, "warned of authentication"),
        (1, "overloaded"),
        (2, "answered"),
    ]


# -- time ---------------------------------------------------------------------------------------


def test_those_behind_are_left_time() -> None:
    run = Run([DownError(), DownError(), "c"], call_timeout_s=90.0, takes_s=30.0)
    assert run.go() == "c"
    assert run.left_s == [70.0, 40.0, 30.0]
    with pytest.raises(CallTimeoutError, match="call_timeout_s=90"):
        Run([DownError(), DownError(), DownError()], call_timeout_s=90.0, takes_s=30.0).go()


def test_a_decision_that_took_all_the_time_asks_nobody() -> None:
    run = Run(["a", "b", "c"], call_timeout_s=1.0)
    run.clock.now = 1.0
    with pytest.raises(CallTimeoutError):
        run.go()
    assert run.asked == []


def test_the_end_of_time_tells_what_failed() -> None:
    with pytest.raises(CallTimeoutError) as caught:
        Run([DownError(), DownError(), DownError()], call_timeout_s=2.0, takes_s=1.0).go()
    assert isinstance(caught.value.__cause__, AllCandidatesFailedError)


def test_a_provider_that_names_a_time_is_asked_once_more() -> None:
    run = Run(
        [[BusyError(), "now"], DownError(), DownError()],
        call_timeout_s=10.0,
        retries=lambda _: False,
    )
    assert run.go() == "now"
    assert (run.paused, run.asked) == ([2.0], ["nano", "mini", "maxi", "nano"])
    run = Run(
        [[BusyError(), BusyError(), "x"], DownError(), DownError()],
        call_timeout_s=9.0,
        retries=lambda _: False,
    )
    with pytest.raises(AllCandidatesFailedError):
        run.go()
    assert run.asked.count("nano") == 2


@pytest.mark.parametrize(
    "terms",
    [
        {"call_timeout_s": 10.0, "retries": lambda _: True},
        {"call_timeout_s": 1.5, "retries": lambda _: False},
        {"retries": lambda _: False},
    ],
    ids=["it retries by itself", "no time for it", "no limit, so nobody waits"],
)
def test_nobody_waits_in_vain(terms: dict[str, Any]) -> None:
    run = Run([BusyError(), DownError(), DownError()], **terms)
    with pytest.raises(AllCandidatesFailedError):
        run.go()
    assert run.paused == []


# -- escalation ---------------------------------------------------------------------------------


def test_an_answer_that_is_rejected_goes_to_the_next_dearer() -> None:
    run = Run(["", "", "c"], checks=["empty"])
    assert run.go() == "c"
    assert [t.rejected for t in run.attempts.tried] == ["empty", "empty", None]
    assert [t.attempt.why for t in run.attempts.tried] == ["chosen", "escalated", "escalated"]
    assert run.held == [True, True, False]


def test_the_dearest_ones_answer_stands() -> None:
    run = Run(["x", "x", ""], chosen=2, checks=["empty"])
    assert run.go() == ""
    assert run.held == [False]


def test_a_rejected_answer_is_better_than_none() -> None:
    run = Run(["", DownError(), DownError()], checks=["empty"])
    assert run.go() == ""
    assert run.attempts.given is run.attempts.tried[0]
    with pytest.raises(AllCandidatesFailedError):
        Run(["", DownError(), DownError()], checks=["empty"], fallback="up").go()


def test_a_schema_that_raises_is_a_rejection() -> None:
    structured = RoutingRequest(needs_structured_output=True)
    run = Run([ValueError("no JSON"), {"a": 1}, "x"], checks=["schema"], request=structured)
    assert run.go() == {"a": 1}
    assert run.attempts.tried[0].rejected == "schema"
    with pytest.raises(ValueError, match="still none"):
        Run(
            [ValueError("no JSON"), ValueError("none"), ValueError("still none")],
            checks=["schema"],
            request=structured,
        ).go()
    with pytest.raises(ValueError, match="no JSON"):
        Run([ValueError("no JSON"), "x", "x"], request=structured).go()


def test_a_reading_that_raises_loses_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    run = Run(["a", "b", "c"], checks=["empty"])
    run.attempts.read = lambda _: 1 / 0  # type: ignore[assignment, return-value]
    assert run.go() == "a"
    assert "ZeroDivisionError" in caplog.text


def test_an_answer_may_be_none() -> None:
    assert Run([None, "b", "c"]).go() is None


# -- what may be said of the answer -------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "index", "why", "expected"),
    [
        (0, 0, "chosen", ("promised", None)),
        (0, 2, "fallback", ("promised", None)),
        (0, 2, "resting", ("promised", None)),
        (0, 2, "escalated", ("promised", None)),
        (0, 1, "fallback", ("estimated", "fallback")),
        (0, 1, "escalated", ("estimated", "escalated")),
        (2, 0, "fallback", ("void", "fallback")),
        (2, 1, "resting", ("void", "fallback")),
    ],
)
def test_what_is_claimed_of_an_answer(
    chosen: int, index: int, why: Any, expected: tuple[str, str | None]
) -> None:
    decision = RoutingDecision(
        candidate=NAMES[chosen],
        index=chosen,
        reason="score",
        guarantee="promised",
        guarantee_reason=None,
    )
    claim = call_claim(decision, index, why, reference=2)
    assert (claim.guarantee, claim.reason) == expected


def test_an_uncalibrated_router_claims_nothing_of_a_fallback() -> None:
    decision = RoutingDecision(candidate="maxi", index=2, reason="score")
    assert call_claim(decision, 0, "fallback", 2).reason == "not calibrated"


# -- whatever happens ---------------------------------------------------------------------------

BEHAVIOUR = st.sampled_from(["answer", "", "down", "busy", "long", "wrong"])
MADE: dict[str, Any] = {
    "answer": lambda: "hello",
    "": lambda: "",
    "down": DownError,
    "busy": BusyError,
    "long": TooLongError,
    "wrong": WrongError,
}


@given(
    behave=st.lists(BEHAVIOUR, min_size=3, max_size=3),
    chosen=st.integers(0, 2),
    fallback=st.sampled_from(["any", "up", "off", ("nano",), ("maxi", "nano")]),
    resting=st.sets(st.integers(0, 2)),
    up_first=st.booleans(),
    checks=st.sampled_from([(), ("empty",)]),
    limit=st.sampled_from([None, 5.0]),
)
def test_rules_that_always_hold(
    behave: list[str],
    chosen: int,
    fallback: Fallback,
    resting: set[int],
    up_first: bool,
    checks: tuple[str, ...],
    limit: float | None,
) -> None:
    run = Run(
        [MADE[each]() for each in behave],
        chosen,
        fallback=fallback,
        watch=Seen(sorted(resting)),
        up_first=up_first,
        checks=checks,
        call_timeout_s=limit,
        retries=lambda _: False,
        takes_s=0.5,
    )
    try:
        answer = run.go()
    except Exception:
        answer = None
    asked = [NAMES.index(name) for name in run.asked]
    again = [index for index in set(asked) if asked.count(index) > 1]
    assert [asked.count(index) for index in again] in ([], [2])
    assert all(behave[index] == "busy" for index in again)
    if fallback == "up":
        assert all(index >= chosen for index in asked)
    if fallback == "off" and not checks:
        assert set(asked) == {chosen}
    if fallback == "any" and up_first:
        cheaper = [position for position, index in enumerate(asked) if index < chosen]
        assert all(set(range(chosen, 3)) <= set(asked[:position]) for position in cheaper)
    for tried in run.attempts.tried:
        assert (tried.error is None) == tried.answered
        if tried.error is not None:
            assert tried.error.__notes__ == [f"Raised by candidate '{NAMES[tried.attempt.index]}'."]
    if answer is not None:
        assert run.attempts.given in run.attempts.tried
        assert behave[run.attempts.given.attempt.index] == ("answer" if answer else "")
    may_answer = {"answer"} | (set() if checks else {""})
    if fallback == "any" and limit is None and "wrong" not in behave:
        assert (answer is not None) == bool(may_answer & set(behave)) or answer == ""
