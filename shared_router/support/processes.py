"""Native code at work: the process may fork or end under it, and it may panic.

A thread that comes back from ONNX Runtime or a tokenizer while the interpreter finalises is ended
by Python in the middle of C++ or Rust frames, which aborts the process (SIGABRT) and loses what
is not flushed yet. A fork in the middle of an import or of opening a model leaves the child with
locks that nobody releases. So the end waits for `native_work`, and a fork for `opening`, both
within a bound. What Rust raises in place of an error passes every `except Exception`: `native_work`
makes an error of it.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload
from weakref import WeakSet

from shared_router.errors import LeavingError, PanicError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

LEAVE_WITHIN_S = 5.0
"""The longest the end of the process waits for native code."""
FORK_WITHIN_S = 10.0
"""The longest a fork waits for a model that another thread opens."""
_LOOK_EVERY_S = 0.002
_PANICS = "pyo3_runtime"
"""Where the classes stand that Rust's panics are raised as; none derives from `Exception`."""

_at_work: set[object] = set()
_leaving = threading.Event()


@contextmanager
def native_work() -> Iterator[None]:
    """Run code that the end of the process has to wait for, and whose panics are errors.

    Raises:
        LeavingError: If the process has begun to end and this is not the main thread: any other
            one may be stopped anywhere now.
        PanicError: If an extension written in Rust panics.
    """
    mine = object()
    _at_work.add(mine)  # before looking: whoever ends either sees it here, or is seen
    try:
        if _leaving.is_set() and threading.current_thread() is not threading.main_thread():
            raise LeavingError("The process is ending: nothing is scored any more.")
        yield
    except BaseException as error:
        if type(error).__module__ == _PANICS:  # each extension has a class of its own
            raise PanicError("A native extension panicked.") from None
        raise
    finally:
        _at_work.discard(mine)


@atexit.register
def _wait_for_work() -> None:
    """Let no new work begin, and wait for what is under way; a second Ctrl-C does not hurry it."""
    _leaving.set()
    until = time.monotonic() + LEAVE_WITHIN_S
    while _at_work and time.monotonic() < until:
        try:
            time.sleep(_LOOK_EVERY_S)
        except KeyboardInterrupt:  # the abort would lose more than the moment it saves
            continue


_lock = threading.RLock()
_held_by_fork: list[bool] = []


@contextmanager
def opening() -> Iterator[None]:
    """Open a model, or import what it needs: one thread at a time, and no fork in the middle."""
    with _lock:
        yield


class ForkSafeLock:
    """A lock that a fork in another thread does not leave held in the child."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def begin_anew(self) -> None:
        """Be free again, in a child: who held it is the parent's."""
        self._lock = threading.Lock()


_locks: WeakSet[ForkSafeLock] = WeakSet()


def _before_fork() -> None:
    _held_by_fork.append(_lock.acquire(timeout=FORK_WITHIN_S))


def _after_fork_in_parent() -> None:
    if _held_by_fork.pop():
        _lock.release()


def _after_fork_in_child() -> None:
    """Begin anew: the threads that worked or waited are the parent's."""
    global _lock
    _lock = threading.RLock()
    _held_by_fork.clear()
    _at_work.clear()
    for lock in _locks:
        lock.begin_anew()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )


if sys.version_info >= (3, 12):
    from functools import cached_property
else:

    class cached_property(Generic[T]):  # noqa: N801  (named as what it stands for)
        """`functools.cached_property` as it is from Python 3.12 on: without a lock.

        The older one holds a lock of the whole class while it computes, which a fork in another
        thread would leave held in the child. Without it a value may be computed twice.
        """

        def __init__(self, compute: Callable[[Any], T]) -> None:
            self._compute = compute
            self._name = compute.__name__
            self.__doc__ = compute.__doc__

        @overload
        def __get__(self, owner: None, kind: type) -> cached_property[T]: ...
        @overload
        def __get__(self, owner: object, kind: type) -> T: ...
        def __get__(self, owner: object | None, kind: type) -> cached_property[T] | T:
            """Compute the value, and keep it where the attribute is looked for first."""
            if owner is None:
                return self
            found: T = vars(owner).setdefault(self._name, self._compute(owner))
            return found
