"""Waiting for code that blocks, up to a time limit."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextvars import copy_context
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from shared_router.errors import CallTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Patience:
    """Runs functions one after another on a thread of its own, each waited for up to a limit.

    Nothing can stop a thread: what is not waited for any more goes on until it returns, and is
    closed then if it can be. All functions see the context in which this was made.
    """

    def __init__(self) -> None:
        self._work: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        self._context = copy_context()
        self.gone = False
        """Whether it is left behind, with a function that has not returned."""
        threading.Thread(target=self._serve, name="hybrid-llm-call", daemon=True).start()

    def run(self, function: Callable[[], T], seconds: float) -> T:
        """Run a function and wait for what it returns.

        Raises:
            CallTimeoutError: If it takes longer; this runs nothing more then.
        """
        future: Future[T] = Future()
        self._work.put((function, future))
        try:
            return future.result(seconds)
        except BaseException as error:
            if future.done():  # its own error, or an answer of the last moment
                return future.result()
            self._leave(future)
            if isinstance(error, TimeoutError):
                raise late(seconds) from None
            raise  # Ctrl-C while waiting

    def _leave(self, future: Future[Any]) -> None:
        self.gone = True
        self.close()
        future.add_done_callback(_closed)

    def close(self) -> None:
        """End the thread, after what it is at."""
        self._work.put(None)

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            function, future = work
            try:
                result = self._context.run(function)
            except BaseException as error:  # noqa: BLE001  (handed to whoever waits)
                future.set_exception(error)
            else:
                future.set_result(result)
            del work, function, future


def late(seconds: float) -> CallTimeoutError:
    """Make the error of one attempt that took too long."""
    return CallTimeoutError(
        f"No answer within the {seconds:.3g} s that call_timeout_s left for it."
    )


def _closed(left: Future[Any]) -> None:
    """Close what came too late: a stream holds a connection."""
    if left.exception() is None:
        close = getattr(left.result(), "close", None)
        if callable(close):
            close()
