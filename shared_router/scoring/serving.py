"""Serving: one ONNX graph, one query at a time, no torch.

Every query is scored alone by one-thread sessions, so that a score never depends on its
neighbours in a batch; many queries are spread over a pool of threads.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable
from weakref import WeakValueDictionary

import numpy as np

from shared_router.errors import ArtifactError
from shared_router.processes import cached_property, native_work, opening
from shared_router.scoring.features import feature_matrix
from shared_router.scoring.tasks import TaskNames
from shared_router.scoring.terms import hashed_terms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from numpy.typing import NDArray

    from shared_router.retrieval import RetrievalFacts
    from shared_router.scoring.tokens import Tokens

AHEAD = 4
"""Texts per thread that are begun before they are asked for."""

S = TypeVar("S")
T = TypeVar("T")


@runtime_checkable
class Scorer(Protocol):
    """Anything that scores texts; higher = less need of the reference.

    A scorer whose class sets `bounded = True` computes in bounded time, with no I/O: it is not
    moved to a thread of its own to be watched, which costs more than a short score. One whose
    class sets `takes_tasks = True` is called with `tasks=` too, a label or `None` per text, where
    labels are given; `takes_retrieval = True` the same with `retrieval=`, `RetrievalFacts` or
    `None` per text.
    """

    def score(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32 of shape (n, k - 1)."""
        ...


def workers() -> int:
    """Return the number of CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_OPEN: WeakValueDictionary[tuple[str, int], Any] = WeakValueDictionary()
"""Sessions by the SHA-256 of their model and process: routers of one graph share one."""


class GraphSession:
    """A lazily opened, thread-safe ONNX Runtime session that survives a fork.

    In one process, sessions of the same model share its memory.

    Args:
        source: Path of the model, or its bytes.
        sha256: What the file must hash to, now and whenever it is opened: it may be replaced by
            another router's before the first query comes.
        held: What was read of the file, kept until the session is open.
    """

    def __init__(
        self, source: Path | bytes, sha256: str | None = None, held: bytes | None = None
    ) -> None:
        self._source = source
        self._held = held
        self._expected = sha256
        self._session: Any = None
        self._process = -1

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is held where the file still has it: pickles stay small."""
        there = self._held is None or _content(self._source, self._expected) is not None
        held = None if there else self._held
        return {"source": self._source, "sha256": self._expected, "held": held}

    def __deepcopy__(self, memo: dict[int, Any]) -> GraphSession:
        """Share it: nothing of it changes, and a copy would read the file anew."""
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def run(self, outputs: list[str], feeds: dict[str, Any]) -> list[NDArray[np.float32]]:
        """Run the graph."""
        return list(self._open().run(outputs, feeds))

    @property
    def bytes(self) -> bytes:
        """The serialised model.

        Raises:
            ArtifactError: If its file is gone or is not the expected one any more.
        """
        if isinstance(self._source, bytes):
            return self._source
        if (held := self._held) is not None:
            return held
        if (found := _content(self._source, self._expected)) is None:
            raise ArtifactError(f"{self._source}: replaced since it was loaded; load it again.")
        return found

    def release(self) -> None:
        """Hold no more what a file has: the session is open."""
        if _content(self._source, self._expected) is not None:
            self._held = None

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the serialised model."""
        return self._expected or hashlib.sha256(self.bytes).hexdigest()

    def _open(self) -> Any:
        if self._session is None or self._process != os.getpid():
            with opening():
                if self._session is None or self._process != os.getpid():
                    self._session = _shared_session(self)
                    self._process = os.getpid()
        return self._session


def _content(source: Path | bytes, sha256: str | None) -> bytes | None:
    """Read a model; `None` where its file is not the expected one any more."""
    if isinstance(source, bytes):
        return source
    try:
        found = source.read_bytes()
    except OSError:
        return None
    return found if sha256 in (None, hashlib.sha256(found).hexdigest()) else None


def _shared_session(wanted: GraphSession) -> Any:
    """Take the process's session of a model, or open it; a model is read and checked each time."""
    model = wanted.bytes
    key = (hashlib.sha256(model).hexdigest(), os.getpid())
    session = _OPEN.get(key)
    if session is None:
        session = _OPEN[key] = _new_session(model)
    wanted.release()
    return session


def _new_session(model: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class GraphScorer:
    """A router's graph at work; the tokens it reads bound its time."""

    bounded = True
    takes_tasks = True

    session: GraphSession
    tokens: Tokens
    reference: NDArray[np.float32] | None = field(default=None, repr=False)
    """Reference embeddings as the graph takes them, shape (d, n), where neighbours are a part."""
    tasks: TaskNames = field(default_factory=TaskNames)
    """Labels that change its scores, and tasks it tells by the text."""
    fact_means: tuple[float, ...] = ()
    """Training means of the facts of retrieval it sees, for calls that bring none; empty where it
    sees none."""
    reads_terms: bool = False
    """Whether the words of the text are a part, as `hashed_terms` gives them."""

    @property
    def takes_retrieval(self) -> bool:
        """Whether facts of retrieval move its scores."""
        return bool(self.fact_means)

    def score(
        self,
        texts: Sequence[str],
        progress: Callable[[int], None] | None = None,
        tasks: Sequence[str | None] | None = None,
        retrieval: Sequence[RetrievalFacts | None] | None = None,
    ) -> NDArray[np.float32]:
        """Score texts, each alone.

        Args:
            texts: The queries.
            progress: Called with the number of texts just done.
            tasks: A label per text; one it does not know changes nothing.
            retrieval: What was retrieved for each text, where known.

        Returns:
            float32 of shape (n, k - 1).
        """
        under = None if tasks is None else [[task] for task in tasks]
        rows = [found[0] for found in self.run(["score"], texts, progress, under, retrieval)]
        return np.concatenate(rows) if rows else np.empty((0, 0), dtype=np.float32)

    def score_and_embed(
        self,
        texts: Sequence[str],
        progress: Callable[[int], None] | None = None,
        retrieval: Sequence[RetrievalFacts | None] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Score texts and return their embeddings too, shapes (n, k - 1) and (n, d)."""
        rows = list(self.run(["score", "embedding"], texts, progress, None, retrieval))
        return np.concatenate([row[0] for row in rows]), np.concatenate([row[1] for row in rows])

    def told(self, shares: NDArray[np.float32]) -> str:
        """Name the task that a row of the graph's `task_shares` makes likeliest."""
        return self.tasks.told[int(np.argmax(shares))]

    def run(
        self,
        outputs: list[str],
        texts: Sequence[str],
        progress: Callable[[int], None] | None = None,
        under: Sequence[Sequence[str | None]] | None = None,
        retrieval: Sequence[RetrievalFacts | None] | None = None,
    ) -> Iterator[list[NDArray[np.float32]]]:
        """Run the graph on each text alone.

        Args:
            outputs: Names of the outputs wanted.
            texts: The queries.
            progress: Called with the number of texts just done.
            under: Per text the labels to score it under, one row of `score` each; the encoder
                runs once for all.
            retrieval: What was retrieved for each text, where known.

        Yields:
            The outputs of one text.
        """

        def one(at: int) -> list[NDArray[np.float32]]:
            labels = under[at] if under is not None else ()
            facts = retrieval[at] if retrieval is not None else None
            with native_work():
                return self.session.run(outputs, self._feeds(texts[at], labels, facts))

        yield from map_texts(one, range(len(texts)), progress)

    def _feeds(
        self, text: str, labels: Sequence[str | None], facts: RetrievalFacts | None
    ) -> dict[str, Any]:
        feeds: dict[str, Any] = self.tokens.encode(text)
        feeds["features"] = feature_matrix([text], [facts], self.fact_means)
        if self.reference is not None:
            feeds["reference"] = self.reference
        if self.reads_terms:
            terms = hashed_terms(text)
            feeds |= {"terms": terms.buckets[None], "term_weights": terms.weights[None]}
        if labels and self.tasks.labels:
            feeds["task"] = np.stack([self.tasks.row(label) for label in labels])
        return feeds


def map_texts(
    one: Callable[[S], T], texts: Sequence[S], progress: Callable[[int], None] | None = None
) -> Iterator[T]:
    """Apply a function to each text, on as many threads as there are cores, in order."""
    if len(texts) < 2:
        yield from _counted(map(one, texts), progress)
        return
    with ThreadPoolExecutor(workers(), thread_name_prefix="hybrid-llm") as pool:
        yield from _counted(_pooled(pool, one, texts), progress)


def _pooled(pool: ThreadPoolExecutor, one: Callable[[S], T], texts: Sequence[S]) -> Iterator[T]:
    """Work on a few texts ahead of who asks: whoever leaves in the middle waits for no more."""
    ahead: deque[Future[T]] = deque()
    for text in texts:
        try:
            ahead.append(pool.submit(one, text))
        except RuntimeError:  # the process is ending, and no pool takes more
            yield from (each.result() for each in ahead)
            ahead.clear()
            yield one(text)
        if len(ahead) > AHEAD * workers():
            yield ahead.popleft().result()
    yield from (each.result() for each in ahead)


def _counted(results: Iterable[T], progress: Callable[[int], None] | None) -> Iterator[T]:
    for result in results:
        if progress is not None:
            progress(1)
        yield result
