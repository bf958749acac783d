"""Scoring answers: a second graph of the same router, one answer at a time.

Inputs: `input_ids` and `attention_mask` (int64, (1, tokens)) of the answer, `query` (float32,
(1, d)) and `before` (float32, (1, k - 1)), the embedding and the scores that the router's first
graph gives the query, and `numbers` (float32, (1, m)), see `answer_numbers`. Output: `score`
(float32, (1, k - 1)), of which the column of the candidate counts whose answer it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from shared_router.errors import ScoringError
from shared_router.serving.answer_numbers import answer_numbers
from shared_router.serving.scorer import map_texts
from shared_router.support.processes import native_work

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from shared_router.retrieval import RetrievalFacts
    from shared_router.serving.scorer import GraphScorer
    from shared_router.serving.session import GraphSession
    from shared_router.serving.tokens import Tokens


@dataclass(frozen=True)
class Answered:
    """One answer to be scored."""

    query: str = field(repr=False)
    answer: str = field(repr=False)
    logprobs: tuple[float, ...] | None = field(default=None, repr=False)
    """Natural log-probabilities of its tokens, where they are known."""
    retrieval: RetrievalFacts | None = None
    """What was retrieved for the query, where known."""


class AnswerScorer(Protocol):
    """Anything that scores answers; higher = less need of the reference's."""

    @property
    def needs_logprobs(self) -> bool:
        """Whether an answer without log-probabilities cannot be scored."""
        ...

    def score(self, answers: Sequence[Answered]) -> NDArray[np.float32]:
        """Return float32 of shape (n, k - 1): a column per candidate whose answer it may be."""
        ...


@dataclass(frozen=True)
class GraphAnswerScorer:
    """A router's second graph at work; the tokens it reads bound its time."""

    session: GraphSession
    tokens: Tokens
    """How an answer is read: a long one at head and tail."""
    queries: GraphScorer
    """The router's scorer of queries, whose embedding and scores are inputs."""
    needs_logprobs: bool = False

    def score(
        self, answers: Sequence[Answered], progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Score answers, each alone.

        Args:
            answers: The answers.
            progress: Called with the number of answers just done.

        Returns:
            float32 of shape (n, k - 1).

        Raises:
            ScoringError: If log-probabilities are needed and one has none.
        """
        rows = list(map_texts(self._one, answers, progress))
        return np.concatenate(rows) if rows else np.empty((0, 0), dtype=np.float32)

    def _one(self, given: Answered) -> NDArray[np.float32]:
        if self.needs_logprobs and not given.logprobs:
            raise ScoringError("This scorer reads log-probabilities, and the answer has none.")
        facts = None if given.retrieval is None else [given.retrieval]
        before, query = next(
            self.queries.run(["score", "embedding"], [given.query], retrieval=facts)
        )
        feeds: dict[str, Any] = self.tokens.encode(given.answer)
        feeds |= {"query": query, "before": before, "numbers": self._numbers(given)[None]}
        with native_work():
            return self.session.run(["score"], feeds)[0]

    def _numbers(self, given: Answered) -> NDArray[np.float32]:
        return answer_numbers(
            given.query, given.answer, given.logprobs, with_logprobs=self.needs_logprobs
        )
