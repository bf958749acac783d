"""What every metric promises: a name, a range, a score."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from shared_router.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared_router.data.answers import Judgement

Range = tuple[float, float]
"""Lowest and highest score; an end is infinite where there is none."""
SHARE: Range = (0.0, 1.0)


@runtime_checkable
class QualityMetric(Protocol):
    """Scores one response; higher is better."""

    @property
    def name(self) -> str:
        """Name the metric, its settings included: scores under one name are comparable."""
        ...

    @property
    def range(self) -> Range:
        """State the lowest and the highest score."""
        ...

    @property
    def needs_answer(self) -> bool:
        """Tell whether a right answer (or tests, or a reference text) is needed."""
        ...

    def score(
        self, query: str, response: str, answer: str | None, /
    ) -> float | Judgement | Awaitable[float | Judgement]:
        """Score a response within `range`.

        Raises:
            DataError: If an answer is needed and absent, or cannot be read.
        """
        ...


class AnswerMetric:
    """A metric that compares the response with the right answer by a pure function."""

    needs_answer = True

    def __init__(
        self, name: str, compare: Callable[[str, str], float], range: Range = SHARE
    ) -> None:
        self.name, self.range = name, range
        self._compare = compare

    def score(self, query: str, response: str, answer: str | None, /) -> float:
        """Score `response` beside `answer`."""
        return self._compare(response, required(answer, self.name))

    def __repr__(self) -> str:
        return f"AnswerMetric({self.name!r}, range={self.range})"


def required(answer: str | None, name: str) -> str:
    """Return the answer.

    Raises:
        DataError: If there is none.
    """
    if answer is None:
        raise DataError(f"metric {name!r} compares with the right answer; this query has none.")
    return answer


class Clipped:
    """A metric cut off at both ends, which the caller chooses: no default suits all.

    Args:
        metric: A metric whose score is sync.
        low: What lower scores become.
        high: What higher scores become.

    Raises:
        ConfigurationError: If `low` is not below `high`, or either is not finite.
    """

    def __init__(self, metric: QualityMetric, low: float, high: float) -> None:
        if not -math.inf < low < high < math.inf:
            raise ConfigurationError(
                f"A metric is clipped between two finite numbers, the lower first; got {low}, "
                f"{high}."
            )
        self.name = f"{metric.name} clipped to [{low:g}, {high:g}]"
        self.range: Range = (low, high)
        self.needs_answer = metric.needs_answer
        self._metric = metric

    def score(self, query: str, response: str, answer: str | None, /) -> float:
        """Score, and cut off."""
        found = self._metric.score(query, response, answer)
        if not isinstance(found, int | float):
            raise ConfigurationError(
                f"Only metrics with a plain score are clipped; {self._metric.name!r} returns "
                f"{type(found).__name__}."
            )
        return min(max(float(found), self.range[0]), self.range[1])
