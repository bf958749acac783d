"""Time limits: nobody waits longer than promised."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from contextvars import ContextVar

import pytest

from shared_router.engine.deadline import AT_ONCE, MOST_OVERDUE, Deadline
from shared_router.errors import ScoringTimeoutError

variable: ContextVar[str] = ContextVar("variable", default="outside")


def test_a_result_and_an_error_come_through() -> None:
    assert Deadline(5).run(lambda: 42) == 42
    with pytest.raises(ZeroDivisionError):
        Deadline(5).run(lambda: 1 / 0)


async def test_a_result_and_an_error_come_through_asynchronously() -> None:
    assert await Deadline(5).arun(lambda: 42) == 42
    with pytest.raises(ZeroDivisionError):
        await Deadline(5).arun(lambda: 1 / 0)


def test_a_hanging_function_is_not_waited_for() -> None:
    release = threading.Event()
    started = time.perf_counter()
    with pytest.raises(ScoringTimeoutError, match=r"longer than 0\.05 s"):
        Deadline(0.05).run(release.wait)
    assert time.perf_counter() - started < 2
    release.set()


async def test_a_hanging_function_is_not_waited_for_asynchronously() -> None:
    release = threading.Event()
    with pytest.raises(ScoringTimeoutError):
        await Deadline(0.05).arun(release.wait)
    release.set()


def test_after_too_many_hang_new_ones_are_refused_until_they_end() -> None:
    release, deadline = threading.Event(), Deadline(0.001)
    for _ in range(MOST_OVERDUE):
        with pytest.raises(ScoringTimeoutError):
            deadline.run(release.wait)
    with pytest.raises(ScoringTimeoutError, match="still hang"):
        deadline.run(lambda: 1)
    release.set()
    until = time.monotonic() + 5
    while deadline._overdue and time.monotonic() < until:
        time.sleep(0.01)
    assert Deadline(5).run(lambda: 1) == 1
    deadline.seconds = 5
    assert deadline.run(lambda: 1) == 1


async def test_waiting_for_a_turn_is_not_counted() -> None:
    deadline = Deadline(0.5)
    found = await asyncio.gather(
        *(deadline.arun(lambda: time.sleep(0.1) or 1) for _ in range(AT_ONCE * 6))
    )
    assert sum(found) == AT_ONCE * 6


def test_the_callers_context_is_seen() -> None:
    token = variable.set("inside")
    try:
        assert Deadline(5).run(variable.get) == "inside"
    finally:
        variable.reset(token)


def test_one_deadline_serves_one_event_loop_after_another() -> None:
    deadline = Deadline(5)
    assert [asyncio.run(deadline.arun(lambda: 1)) for _ in range(3)] == [1, 1, 1]


async def test_an_error_after_the_limit_is_quiet(caplog: pytest.LogCaptureFixture) -> None:
    release = threading.Event()

    def late() -> None:
        release.wait()
        raise OSError("my secret query")

    with pytest.raises(ScoringTimeoutError):
        await Deadline(0.05).arun(late)
    release.set()
    await asyncio.sleep(0.1)
    import gc

    gc.collect()
    assert "secret" not in caplog.text


async def test_cancelling_the_wait_leaves_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    release = threading.Event()
    task = asyncio.create_task(Deadline(5).arun(release.wait))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()
    await asyncio.sleep(0.05)
    assert not caplog.text


@pytest.mark.parametrize("error", [StopIteration("x"), StopAsyncIteration("x")])
async def test_even_stop_iteration_comes_through(error: Exception) -> None:
    def stop() -> None:
        raise error

    with pytest.raises((RuntimeError, TypeError, StopAsyncIteration)):
        await asyncio.wait_for(Deadline(0.5).arun(stop), 5)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_what_hangs_in_the_parent_does_not_hang_in_a_child() -> None:
    deadline, release = Deadline(0.01), threading.Event()
    for _ in range(MOST_OVERDUE):
        with pytest.raises(ScoringTimeoutError):
            deadline.run(release.wait)
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        deadline.seconds = 5
        os._exit(deadline.run(lambda: 42))
    release.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
