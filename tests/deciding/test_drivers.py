"""The two drivers of a call's steps."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from shared_router import RoutingDecision
from shared_router.deciding.attempts import Attempt, Pause
from shared_router.deciding.drivers import adrive, drive
from shared_router.deciding.policy import Score

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
            return first, (yield Attempt(0, DECISION))
        except BaseException as error:
            self.thrown.append(error)
            raise
        finally:
            self.closed = True


def run_both(
    score: Callable[[str], Any], attempt: Callable[[Attempt], Any]
) -> list[tuple[Any, Closed]]:
    """Drive the same steps by both drivers; return the outcome or the error of each."""

    async def ascore(text: str) -> Any:
        return score(text)

    async def aattempt(step: Attempt) -> Any:
        return attempt(step)

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
    for outcome, seen in run_both(lambda text: text + "!", lambda step: step.decision.candidate):
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

    async def hang(_: Attempt) -> Any:
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


def test_a_pause_is_waited_for() -> None:
    def steps() -> Generator[Pause, Any, str]:
        assert (yield Pause(0.001)) is None
        return "waited"

    async def ascore(text: str) -> str:
        return text

    assert drive(steps(), str.upper) == "waited"
    assert asyncio.run(adrive(steps(), ascore)) == "waited"
