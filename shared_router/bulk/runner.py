"""What a runner is: the same function per record; and the one in threads of this process."""

from __future__ import annotations

import json
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from shared_router.errors import ConfigurationError
from shared_router.serving.scorer import workers as cores

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from contextlib import AbstractContextManager

Row = dict[str, Any]
"""One record, of what JSON can hold."""
AHEAD = 32
"""Records per thread that are handed out before the oldest is finished."""


class Work(Protocol):
    """What is done to each record; it travels to where the records are worked on."""

    @property
    def concurrency(self) -> int:
        """Records in work at once per worker: more than 1 where the work is mostly waiting."""
        ...

    def portable(self) -> Self:
        """Return the same work without anything that only this machine has, such as a path."""
        ...

    def open(self) -> AbstractContextManager[Callable[[Row], Row]]:
        """Load what is needed, once per worker, and give the function of one record."""
        ...


class Rows(Protocol):
    """Where the records come from; called anew for each pass."""

    def portable(self) -> Self:
        """Return the same rows, wherever the process that reads them stands."""
        ...

    def __call__(self) -> Iterable[Row]:
        """Read the records in their order."""
        ...


class Runner(Protocol):
    """Maps a function over records."""

    def map(self, work: Work, rows: Rows, total: int) -> Generator[list[Row]]:
        """Work on each of `total` records; results come in their order, some at a time."""
        ...


@dataclass(frozen=True)
class LocalRunner:
    """Works in threads of this process.

    Raises:
        ConfigurationError: If `workers` is below 1.
    """

    workers: int | None = None
    """Threads; by default as many as there are cores, or as the work has requests in flight."""

    def __post_init__(self) -> None:
        check_workers(self.workers)

    def map(self, work: Work, rows: Rows, total: int) -> Generator[list[Row]]:
        """Work on each record, in their order."""
        usual = cores() if work.concurrency == 1 else 1
        with work.open() as one:
            for row in map_in_order(one, rows(), (self.workers or usual) * work.concurrency):
                yield [row]


def check_workers(workers: int | None) -> None:
    """Check a number of workers.

    Raises:
        ConfigurationError: If it is below 1.
    """
    if workers is not None and workers < 1:
        raise ConfigurationError(f"workers is at least 1; got {workers}.")


def map_in_order(one: Callable[[Row], Row], rows: Iterable[Row], threads: int) -> Iterator[Row]:
    """Apply a function to each record on several threads, reading only a little ahead."""
    if threads == 1:
        yield from map(one, rows)
        return
    waiting: deque[Future[Row]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="hybrid-llm")
    try:
        for row in rows:
            waiting.append(pool.submit(one, row))
            if len(waiting) >= threads * AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # where the run is broken off, what is under way is not waited for
        pool.shutdown(wait=False, cancel_futures=True)


def as_line(row: Row) -> str:
    """Write one record as a line of JSON; half a surrogate pair is escaped, as JSON can."""
    return json.dumps(row, separators=(", ", ": "))
