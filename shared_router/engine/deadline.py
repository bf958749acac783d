"""Time limits for code that may hang: a scorer never holds a user's chain for long."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import Future
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from shared_router.errors import ScoringTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

AT_ONCE = 16
"""Functions one event loop runs at once; more wait their turn, and waiting is not counted."""
MOST_OVERDUE = 32
"""Hanging functions after which new ones are refused at once."""


class Deadline:
    """Runs functions on daemon threads and stops waiting after a time limit.

    A function that hangs keeps its thread, but never holds up its caller; when too many hang, new
    ones are refused until some end.

    Args:
        seconds: The time limit of one function.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._overdue: set[Future[Any]] = set()
        self._process = os.getpid()
        self._gates: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = (
            WeakKeyDictionary()
        )

    def __reduce__(self) -> tuple[type[Deadline], tuple[float]]:
        return Deadline, (self.seconds,)  # what runs here stays here

    def run(self, function: Callable[[], T]) -> T:
        """Run a function and wait for its result.

        Raises:
            ScoringTimeoutError: If it takes longer than the limit.
        """
        future = self._start(function)
        try:
            return future.result(self.seconds)
        except TimeoutError:
            raise self._late(future) from None

    async def arun(self, function: Callable[[], T]) -> T:
        """Run a function without blocking the event loop.

        Raises:
            ScoringTimeoutError: If it takes longer than the limit.
        """
        gate = self._gates.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE))
        async with gate:
            future = self._start(function)
            waiting = asyncio.wrap_future(future)
            waiting.add_done_callback(_heard)
            try:
                done, _ = await asyncio.wait([waiting], timeout=self.seconds)
            except asyncio.CancelledError:
                self._late(future)  # its caller is gone, its thread may still hang
                raise
            if not done:
                raise self._late(future)
            return await waiting

    def _late(self, future: Future[Any]) -> ScoringTimeoutError:
        self._overdue.add(future)
        future.add_done_callback(self._overdue.discard)  # at once, if it is done by now
        return ScoringTimeoutError(f"The router took longer than {self.seconds:g} s.")

    def _start(self, function: Callable[[], T]) -> Future[T]:
        if self._process != os.getpid():  # what hangs in the parent does not hang here
            self._process, self._overdue = os.getpid(), set()
        if len(self._overdue) >= MOST_OVERDUE:
            raise ScoringTimeoutError(f"{MOST_OVERDUE} earlier routings still hang.")
        future: Future[T] = Future()
        context = copy_context()

        def work() -> None:
            try:
                result = context.run(function)
            except StopIteration:  # which no asyncio future can carry
                future.set_exception(RuntimeError("The router raised StopIteration."))
            except BaseException as error:  # noqa: BLE001  (handed to whoever waits)
                future.set_exception(error)
            else:
                future.set_result(result)

        threading.Thread(target=work, name="hybrid-llm-score", daemon=True).start()
        return future


def _heard(late: asyncio.Future[Any]) -> None:
    """Take note of an error nobody waits for any more: asyncio would log it, message and all."""
    if not late.cancelled():
        late.exception()
