"""Engines: the same function per record, in threads of this process or on a Ray cluster."""

from __future__ import annotations

import json
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, get_args

from shared_router.errors import ConfigurationError
from shared_router.serving.scorer import workers as cores
from shared_router.support.extras import need

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from contextlib import AbstractContextManager

Row = dict[str, Any]
"""One record, of what JSON can hold."""
EngineName = Literal["local", "ray"]
ENGINE_NAMES: tuple[EngineName, ...] = get_args(EngineName)
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


class Engine(Protocol):
    """Maps a function over records."""

    def map(self, work: Work, rows: Rows, total: int) -> Generator[list[Row]]:
        """Work on each of `total` records; results come in their order, some at a time."""
        ...


@dataclass(frozen=True)
class LocalEngine:
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


def engine_named(name: str, workers: int | None = None, ray_address: str | None = None) -> Engine:
    """Make an engine by its name.

    Args:
        name: `local` or `ray`.
        workers: Threads of this process, or actors on the cluster; by default one per core.
        ray_address: A cluster to join, `HOST:PORT` or `auto`; by default one is started here.

    Raises:
        ConfigurationError: If there is none of that name, or an option is not for it.
    """
    if name == "ray":
        from shared_router.bulk.ray_engine import RayEngine

        return RayEngine(workers, ray_address)
    if name != "local":
        raise ConfigurationError(f"An engine is one of {', '.join(ENGINE_NAMES)}; got {name!r}.")
    if ray_address is not None:
        raise ConfigurationError("--ray-address is for --engine ray; got --engine local.")
    return LocalEngine(workers)


def check_engine(name: str) -> None:
    """Check, before the input is read, that what an engine needs is installed.

    Raises:
        MissingExtraError: If it is not.
    """
    if name == "ray":
        need("--engine ray", "ray", "ray", "pyarrow")


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
