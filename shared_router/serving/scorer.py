"""Serving: one ONNX graph, one query at a time, no torch.

Every query is scored alone by one-thread sessions, so that a score never depends on its
neighbours in a batch; many queries are spread over a pool of threads.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from shared_router.errors import ConfigurationError
from shared_router.serving.features import feature_matrix
from shared_router.serving.task_names import TaskNames
from shared_router.serving.terms import hashed_terms
from shared_router.support.processes import native_work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from shared_router.retrieval import RetrievalFacts
    from shared_router.serving.session import GraphSession
    from shared_router.serving.tokens import Tokens

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


@dataclass(frozen=True)
class GraphScorer:
    """A router's graph at work; the tokens it reads bound its time."""

    bounded = True
    takes_tasks = True

    session: GraphSession
    tokens: Tokens
    train_embeddings: NDArray[np.float32] | None = field(default=None, repr=False)
    """Those of the train memory, float32 (d, n) as the graph takes them, where neighbours are a
    part."""
    tasks: TaskNames = field(default_factory=TaskNames)
    """Labels that change its scores, and tasks it tells by the text."""
    retrieval_means: tuple[float, ...] = ()
    """Training means of the facts of retrieval it sees, for calls that bring none; empty where it
    sees none."""
    reads_terms: bool = False
    """Whether the words of the text are a part, as `hashed_terms` gives them."""

    @property
    def takes_retrieval(self) -> bool:
        """Whether facts of retrieval move its scores."""
        return bool(self.retrieval_means)

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

    def score_and_tell(
        self,
        texts: Sequence[str],
        progress: Callable[[int], None] | None = None,
        retrieval: Sequence[RetrievalFacts | None] | None = None,
    ) -> tuple[NDArray[np.float32], list[str]]:
        """Score texts and tell the task of each, of those it tells; see `telling`."""
        rows = list(self.run(["score", "task_shares"], texts, progress, None, retrieval))
        return np.concatenate([row[0] for row in rows]), [self.told(row[1]) for row in rows]

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
        feeds["features"] = feature_matrix([text], [facts], self.retrieval_means)
        if self.train_embeddings is not None:
            feeds["reference"] = self.train_embeddings
        if self.reads_terms:
            terms = hashed_terms(text)
            feeds |= {"terms": terms.buckets[None], "term_weights": terms.weights[None]}
        if labels and self.tasks.labels:
            feeds["task"] = np.stack([self.tasks.row(label) for label in labels])
        return feeds


def telling(scorer: Scorer, router_name: str) -> GraphScorer:
    """Take a scorer that tells tasks by the text.

    Args:
        scorer: The scorer.
        router_name: Whose it is, for the message.

    Raises:
        ConfigurationError: If it tells none.
    """
    if isinstance(scorer, GraphScorer) and scorer.tasks.told:
        return scorer
    raise ConfigurationError(
        f"Router {router_name!r} tells no tasks by the text: its training data name fewer than "
        "two, or it is a fine-tuned encoder alone (blend=False). Calibrate with "
        'by_task="given", or fit otherwise.'
    )


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
