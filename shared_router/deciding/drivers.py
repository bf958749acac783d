"""The two drivers of a call's steps, one sync and one async; both fronts use them.

A step is scored, attempted or waited for; what comes of it is sent back, or thrown in. Only
`Exception` is fed back, so that cancellation passes through.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

from shared_router.deciding.attempts import Attempt, Pause
from shared_router.deciding.looks import LookAt
from shared_router.deciding.policy import Score

R = TypeVar("R")
Steps = Generator[Score | Attempt | LookAt | Pause, Any, R] | Generator[Score, Any, R]
Attempted = Callable[[Attempt], Any]
AsyncAttempted = Callable[[Attempt], Awaitable[Any]]


def drive(
    steps: Steps[R],
    score: Callable[..., Any],
    attempt: Attempted | None = None,
    look: Callable[[LookAt], Any] | None = None,
) -> R:
    """Drive a generator to its end, synchronously.

    Args:
        steps: Yields what to do.
        score: Scores a text.
        attempt: Calls a candidate; needed where candidates are tried.
        look: Scores an answer; needed where answers are looked at.
    """
    try:
        step = next(steps)
        while True:
            try:
                if isinstance(step, Score):
                    outcome = score(*step.asked())
                elif isinstance(step, Attempt):
                    outcome = _able(attempt)(step)
                elif isinstance(step, LookAt):
                    outcome = _able(look)(step)
                else:
                    time.sleep(step.seconds)
                    outcome = None
            except Exception as error:  # noqa: BLE001  (the generator decides what it means)
                step = steps.throw(error)
            else:
                step = steps.send(outcome)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        steps.close()


async def adrive(
    steps: Steps[R],
    score: Callable[..., Awaitable[Any]],
    attempt: AsyncAttempted | None = None,
    look: Callable[[LookAt], Awaitable[Any]] | None = None,
) -> R:
    """Drive a generator to its end, asynchronously; see `drive`."""
    try:
        step = next(steps)
        while True:
            try:
                if isinstance(step, Score):
                    outcome = await score(*step.asked())
                elif isinstance(step, Attempt):
                    outcome = await _able(attempt)(step)
                elif isinstance(step, LookAt):
                    outcome = await _able(look)(step)
                else:
                    await _wait(step.seconds)
                    outcome = None
            except Exception as error:  # noqa: BLE001  (the generator decides what it means)
                step = steps.throw(error)
            else:
                step = steps.send(outcome)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        steps.close()


async def _wait(seconds: float) -> None:
    import asyncio  # by a process that scores alone, it is not loaded

    await asyncio.sleep(seconds)


def _able(hand: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    if hand is None:
        raise TypeError(
            "This generator tries candidates, or looks at answers: give the driver an `attempt`, "
            "or a `look`."
        )
    return hand
