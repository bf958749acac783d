"""The generators of deciding and trying, and their two drivers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from shared_router import Candidate, Dial, RoutingDecision, RoutingQuery
from shared_router.deciding.attempts import Attempt, Policy, Score, adrive, drive
from shared_router.deciding.guards import RoutingRequest
from shared_router.deciding.rule import Rule, savings_from_costs
from shared_router.deciding.settings import Dialling
from shared_router.options import Asked, CallOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

Steps = "Generator[Score | Attempt, Any, Any]"
DECISION = RoutingDecision(candidate="small", index=0, reason="score")


class Closed:
    """Notes whether a generator was closed, and what was thrown into it."""

    def __init__(self) -> None:
        self.closed = False
        self.thrown: list[BaseException] = []

    def steps(self) -> Generator[Score | Attempt, Any, Any]:
        try:
            first = yield Score("q")
            return first, (yield Attempt(DECISION))
        except BaseException as error:
            self.thrown.append(error)
            raise
        finally:
            self.closed = True


def run_both(
    score: Callable[[str], Any], attempt: Callable[[RoutingDecision], Any]
) -> list[tuple[Any, Closed]]:
    """Drive the same steps by both drivers; return the outcome or the error of each."""

    async def ascore(text: str) -> Any:
        return score(text)

    async def aattempt(decision: RoutingDecision) -> Any:
        return attempt(decision)

    found = []
    for asynchronous in (False, True):
        seen = Closed()
        try:
            if asynchronous:
                outcome = asyncio.run(adrive(seen.steps(), ascore, aattempt))
            else:
                outcome = drive(seen.steps(), score, attempt)
        except Exception as error:
            outcome = error
        found.append((outcome, seen))
    return found


def fail(error: Exception) -> Callable[[Any], Any]:
    def raising(_: Any) -> Any:
        raise error

    return raising


def test_both_drivers_feed_outcomes_back_and_close() -> None:
    for outcome, seen in run_both(lambda text: text + "!", lambda d: d.candidate):
        assert outcome == ("q!", "small")
        assert seen.closed
        assert not seen.thrown


def test_a_childs_own_exception_comes_out_unchanged() -> None:
    error = ValueError("mine")
    for outcome, seen in run_both(str.upper, fail(error)):
        assert outcome is error
        assert seen.thrown == [error]
        assert seen.closed


def test_a_childs_stop_iteration_is_not_taken_for_an_answer() -> None:
    seen = Closed()
    with pytest.raises(RuntimeError) as caught:
        drive(seen.steps(), str.upper, fail(StopIteration("answer")))
    assert isinstance(caught.value.__cause__, StopIteration)
    assert seen.closed


def test_a_failed_score_is_fed_back_too() -> None:
    error = OSError("scorer")
    for outcome, seen in run_both(fail(error), str):
        assert outcome is error
        assert seen.closed


def test_what_is_no_exception_is_not_fed_back() -> None:
    seen = Closed()

    def interrupted(_: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drive(seen.steps(), str.upper, interrupted)
    assert seen.closed
    assert [type(error) for error in seen.thrown] == [GeneratorExit]


async def test_cancellation_passes_through() -> None:
    seen, started = Closed(), asyncio.Event()

    async def score(text: str) -> Any:
        return text

    async def hang(_: RoutingDecision) -> Any:
        started.set()
        await asyncio.sleep(60)

    task = asyncio.create_task(adrive(seen.steps(), score, hang))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen.closed
    assert [type(error) for error in seen.thrown] == [GeneratorExit]


def test_trying_without_an_attempt_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="give the driver an `attempt`"):
        drive(Closed().steps(), str.upper)


# -- the order of rules -------------------------------------------------------------------------

THREE = (
    Candidate("nano", supports_tools=False),
    Candidate("mini", context_window=100),
    Candidate("maxi"),
)


def at_threshold(candidates: tuple[Candidate, ...], threshold: float) -> Policy:
    """A policy that nothing was calibrated for."""
    rule = Rule("gap", savings_from_costs(None, len(candidates)))
    return Policy(candidates, rule, Dialling(curve=None), Asked(Dial("threshold", threshold)))


def verdict(request: RoutingRequest, scores: Any = (0.5, 0.4), threshold: float = 0.0) -> Any:
    """Drive a policy over three candidates with fixed scores."""

    def score(_: str) -> Any:
        if isinstance(scores, Exception):
            raise scores
        return scores

    return drive(at_threshold(THREE, threshold).deciding(request), score)


def asking(text: str = "q", *, route: str | None = None, **how: Any) -> RoutingRequest:
    return RoutingRequest(query=RoutingQuery(text=text), options=CallOptions(route=route), **how)


def test_forced_is_before_capability_and_stickiness() -> None:
    found = verdict(asking(route="small", needs_tools=True, sticky_to="mini"))
    assert (found.index, found.reason) == (0, "forced")


def test_capability_is_before_stickiness() -> None:
    found = verdict(asking(needs_tools=True, input_tokens=500, sticky_to="mini"))
    assert (found.index, found.reason) == (2, "context_window")


def test_stickiness_is_before_the_score() -> None:
    found = verdict(asking(sticky_to="maxi"))
    assert (found.index, found.reason, found.scores) == (2, "sticky", None)


@pytest.mark.parametrize("query", [None, RoutingQuery(text=""), RoutingQuery(text=" \n\t")])
def test_no_query_goes_to_the_reference(query: RoutingQuery | None) -> None:
    found = verdict(RoutingRequest(query=query))
    assert (found.index, found.reason, found.error) == (2, "no_query", None)


def test_no_query_goes_where_it_was_told_to_if_that_one_can_serve() -> None:
    assert verdict(RoutingRequest(without_query_to="small")).index == 0
    found = verdict(RoutingRequest(without_query_to="nano", needs_tools=True))
    assert (found.index, found.reason) == (2, "no_query")
    assert verdict(asking(without_query_to="nano")).reason == "score"


def test_the_score_decides_otherwise() -> None:
    assert verdict(asking()).index == 0
    assert verdict(asking(), threshold=1.0).index == 2
    assert verdict(asking(), (-0.5, 0.4)).index == 1


def test_the_score_decides_among_those_that_can_serve() -> None:
    found = verdict(asking(needs_tools=True))
    assert (found.index, found.reason) == (1, "score")


def test_a_reference_that_cannot_serve_yields_to_the_best_that_can() -> None:
    small, large = Candidate("small"), Candidate("large", supports_tools=False)
    policy = at_threshold((small, Candidate("middle"), large), 5.0)
    found = drive(policy.deciding(asking(needs_tools=True)), lambda _: (0.1, 0.3))
    assert (found.index, found.reason) == (1, "capability")


@pytest.mark.parametrize(
    ("scores", "error"),
    [
        (OSError("secret query"), "OSError"),
        ((0.1, float("nan")), "ScoringError"),
        ((0.1, float("inf")), "ScoringError"),
        ((0.1,), "ScoringError"),
        (np.zeros((2, 2)), "ScoringError"),
        ("words", "ValueError"),
        (None, "ScoringError TypeError"),
    ],
)
def test_a_router_that_fails_sends_to_the_reference(scores: Any, error: str) -> None:
    found = verdict(asking(), scores)
    assert (found.index, found.reason, found.scores) == (2, "router_error", None)
    assert found.error in error.split()


def test_a_router_that_fails_never_sends_where_the_call_cannot_be_served() -> None:
    policy = at_threshold((Candidate("small"), Candidate("large", supports_tools=False)), 0.0)
    found = drive(policy.deciding(asking(needs_tools=True)), fail(OSError()))
    assert found.index == 0
