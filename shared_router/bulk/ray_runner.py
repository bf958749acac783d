"""The runner that spreads records over a Ray cluster, by Ray Data.

One task on the driver's machine reads the file, a pool of actors works on bundles of records, and
the driver receives the results in the order of the records. A bundle whose worker dies is worked
on again by another one. Ray is imported here alone.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared_router import errors
from shared_router.bulk.runner import Row, check_workers, map_in_order
from shared_router.errors import ConfigurationError, HybridRoutingError, MissingExtraError
from shared_router.serving.scorer import workers as cores

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from shared_router.bulk.runner import Rows, Work

COLUMN = "bundle"
"""Records travel in bundles, each a list in JSON and a row of its own to Ray Data. An error of
this library travels as an object: Ray would wrap it up and rewrite its message."""
MOST_RECORDS, MOST_CHARACTERS = 256, 1_000_000
"""Size of a bundle: what an actor works on at once, and again if it dies."""
BUNDLES_PER_WORKER = 8
"""Fewest bundles per worker, so that all have work to the end, where the records suffice."""
ROUNDS_PER_BUNDLE = 4
"""How often a worker asks for all it may have in flight, before its results travel back."""
MOST_ATTEMPTS = 4
"""How often a bundle may be begun: each time but the last, the worker died of it."""
CONNECT_TIMEOUT_S = 30.0
"""Seconds after which a cluster counts as not answering; an import of Ray is part of them."""
NO_STATISTICS = {"RAY_USAGE_STATS_ENABLED": "0"}
"""Ray's switch for what it would tell its makers."""
QUIET = {"RAY_BACKEND_LOG_LEVEL": "fatal"}
"""Ray's switch for the C++ log lines on the terminal; one that the user has set stays."""
ON_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Ray's switch for clusters of one machine: it listens on 127.0.0.1 alone."""
PROBE = "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False, logging_level='ERROR')"


@dataclass(frozen=True)
class RayRunner:
    """Works in actors of a Ray cluster, one core each.

    A cluster that was started here is stopped at the end; where this process is connected to one
    already, that one is used and left running. While it works, what Ray prints on stdout goes to
    stderr.

    Raises:
        ConfigurationError: If an option is out of range.
    """

    workers: int | None = None
    """Actors; by default as many as the cluster has cores."""
    address: str | None = None
    """A cluster to join, `HOST:PORT` or `auto`; `None` starts one on this machine."""

    def __post_init__(self) -> None:
        check_workers(self.workers)
        if self.address is not None and "://" in self.address:
            raise ConfigurationError(
                f"--ray-address is 'auto' or HOST:PORT; got {self.address!r}. Ray Data is driven "
                "from a machine of the cluster: start the command there, or with `ray job submit`."
            )

    def map(self, work: Work, rows: Rows, total: int) -> Generator[list[Row]]:
        """Work on each record, in their order.

        Raises:
            MissingExtraError: If Ray is not installed.
            ConfigurationError: If the cluster does not answer or is too small, or the work cannot
                be sent to other processes.
        """
        ray = _imported(self.address)
        with ExitStack() as stack:
            stack.enter_context(redirect_stdout(sys.stderr))
            size = stack.enter_context(_connected(ray, self.address, self.workers))
            stack.enter_context(_settings(ray))
            sent = _sent(ray, work.portable())
            attempts = ray.remote(num_cpus=0)(Attempts).remote()
            most = _bundle_size(work, min(size, total), total)
            found = _dataset(ray, (sent, attempts), Reader(rows.portable(), most), size)
            for block in found.iter_batches(batch_size=None, batch_format="pyarrow"):
                yield from map(_opened, block.column(COLUMN).to_pylist())


class Reader:
    """Reads the records, in a task on the driver's machine."""

    def __init__(self, rows: Rows, most: int) -> None:
        self._rows, self._most = rows, most

    def __call__(self, _: Any) -> Iterator[dict[str, list[str]]]:
        """Yield the records in bundles."""
        try:
            for bundle in bundles(map(json.dumps, self._rows()), self._most):
                yield {COLUMN: [f"[{','.join(bundle)}]"]}
        except HybridRoutingError as error:
            yield {COLUMN: [_told(error)]}


def bundles(records: Iterable[str], most: int) -> Iterator[list[str]]:
    """Bundle records, up to so many or so long."""
    held: list[str] = []
    length = 0
    for record in records:
        held.append(record)
        length += len(record)
        if len(held) == most or length >= MOST_CHARACTERS:
            yield held
            held, length = [], 0
    if held:
        yield held


class Worker:
    """An actor: loads what the work needs once, then works on bundles."""

    def __init__(self, sent: Any, attempts: Any) -> None:
        import ray

        self._ray, self._attempts = ray, attempts
        self._work: Work = ray.get(sent)
        self._open = ExitStack()
        self._one: Callable[[Row], Row] | None = None

    def __call__(self, block: Any) -> Any:
        """Work on bundles; pyarrow tables in and out."""
        import pyarrow as pa

        found = [self._worked(bundle) for bundle in block.column(COLUMN).to_pylist()]
        return pa.table({COLUMN: pa.array(found, pa.string())})

    def _worked(self, bundle: str) -> str:
        rows = json.loads(bundle)
        if isinstance(rows, dict):  # an error of the reader
            return bundle
        try:
            self._check_attempts(bundle)
            if self._one is None:
                self._one = self._open.enter_context(self._work.open())
            return json.dumps(list(map_in_order(self._one, rows, self._work.concurrency)))
        except HybridRoutingError as error:
            return _told(error)

    def _check_attempts(self, bundle: str) -> None:
        digest = hashlib.sha256(bundle.encode()).hexdigest()
        if self._ray.get(self._attempts.begin.remote(digest)) > MOST_ATTEMPTS:
            raise HybridRoutingError(
                f"Workers of the Ray cluster died {MOST_ATTEMPTS} times at the same records, by "
                "lack of memory or by a record that ends its process; nothing was written. "
                "--runner local shows which one."
            )


class Attempts:
    """An actor: counts how often each bundle was begun."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()

    def begin(self, digest: str) -> int:
        """Count one more attempt, and return how many there were."""
        self._begun[digest] += 1
        return self._begun[digest]


def _sent(ray: Any, work: Work) -> Any:
    """Put the work where every node of the cluster can get it."""
    try:
        return ray.put(work)
    except TypeError as error:
        raise ConfigurationError(
            "What is to be done cannot be sent to other processes: give functions and objects "
            "that can be pickled, without locks, open files or clients "
            f"({str(error.__cause__ or error).splitlines()[0]})."
        ) from error


def _bundle_size(work: Work, size: int, total: int) -> int:
    """Choose how many records travel together; few where they are asked, and may be paid."""
    most = min(MOST_RECORDS, math.ceil(total / (size * BUNDLES_PER_WORKER)))
    return most if work.concurrency == 1 else min(most, ROUNDS_PER_BUNDLE * work.concurrency)


def _dataset(ray: Any, given: tuple[Any, Any], reader: Reader, size: int) -> Any:
    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    read = ray.data.from_items([{"file": 0}]).map_batches(
        reader, batch_size=1, num_cpus=0, label_selector=here
    )
    # Ray Data restarts actors that die and repeats their tasks, without limit; hence `Attempts`.
    return read.map_batches(
        Worker,
        fn_constructor_args=given,
        batch_format="pyarrow",
        batch_size=None,
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=size),
    )


def _told(error: HybridRoutingError) -> str:
    return json.dumps({"kind": type(error).__name__, "message": str(error)})


def _opened(bundle: str) -> list[Row]:
    """Read a bundle of results, or raise the error that it holds."""
    found = json.loads(bundle)
    if isinstance(found, dict):
        raise getattr(errors, found["kind"], HybridRoutingError)(found["message"])
    return list(found)


def _imported(address: str | None) -> Any:
    """Import Ray, with its switches set before it reads them."""
    wanted = QUIET | ({} if address else ON_LOOPBACK)
    os.environ.update({name: os.environ.get(name, value) for name, value in wanted.items()})
    os.environ.update(NO_STATISTICS)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError(
            "--runner ray needs Ray: pip install 'hybrid-llm[ray]', or leave --runner out."
        ) from error
    return ray


@contextmanager
def _connected(ray: Any, address: str | None, workers: int | None) -> Iterator[int]:
    """Start or join a cluster; gives the number of actors."""
    if ray.is_initialized():
        yield _size(ray, workers)
        return
    if address is not None:
        check_answering(address)
    own = {"num_cpus": workers or cores(), "include_dashboard": False} if address is None else {}
    where = address or "local"
    try:
        with _muffled():
            ray.init(address=where, log_to_driver=False, logging_level=logging.ERROR, **own)
    except Exception as error:  # Ray raises plain ones too
        raise ConfigurationError(
            f"Ray did not start at {where!r} ({type(error).__name__}: {error})."
        ) from error
    try:
        yield _size(ray, workers)
    finally:
        ray.shutdown()


@contextmanager
def _muffled() -> Iterator[None]:
    """Hold back what is written to file descriptor 2, and show it only if the block fails.

    The C++ side of Ray writes there before it knows how loud it is to be.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(terminal, held.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def _size(ray: Any, workers: int | None) -> int:
    there = int(ray.cluster_resources().get("CPU", 0))
    if (workers or 1) > there:
        raise ConfigurationError(
            f"The Ray cluster has {there} cores, one for each worker; got --workers {workers or 1}."
        )
    return workers or there


@contextmanager
def _settings(ray: Any) -> Iterator[None]:
    """Set what Ray Data reads when a data set is made, and put it back."""
    context, logger = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    before = (context.enable_progress_bars, context.target_max_block_size, logger.level)
    ordered = context.execution_options.preserve_order
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # byte: a block of its own for each bundle
    context.execution_options.preserve_order = True
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        context.execution_options.preserve_order = ordered
        context.enable_progress_bars, context.target_max_block_size, level = before
        logger.setLevel(level)


def check_answering(address: str) -> None:
    """Check that a cluster answers, in a process of its own: joining one cannot be broken off.

    Raises:
        ConfigurationError: If it does not.
    """
    host, _, port = address.rpartition(":")
    try:
        if address != "auto":
            socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
        subprocess.run(  # noqa: S603  our own interpreter
            [sys.executable, "-c", PROBE, address],
            check=True,
            capture_output=True,
            timeout=CONNECT_TIMEOUT_S,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise ConfigurationError(
            f"No Ray cluster answers at {address!r} ({_said(error)}). Start one with `ray start "
            "--head`, check the address, or leave --ray-address out to start one here."
        ) from None


def _said(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"not within {CONNECT_TIMEOUT_S:g} s"
    lines = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else str(error) or type(error).__name__
