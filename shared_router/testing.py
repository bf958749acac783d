"""Fakes that users get too: test a chain's routing without a trained router or a network."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shared_router.router.router import Router
from shared_router.serving.second_look import SecondLook

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from shared_router.serving.answers import Answered


@dataclass(frozen=True)
class FixedScorer:
    """Scores by a constant, or by a function of the text.

    A list gives several columns; an exception is raised; `delay_s` waits first.
    """

    value: float | Sequence[float] | Exception | Callable[[str], float | Sequence[float]] = 0.0
    """The score, the scores, what to raise, or a function that gives the score of a text."""
    delay_s: float = 0.0
    """Seconds to wait before each score."""

    @property
    def bounded(self) -> bool:
        """Whether its time is bounded: not where it waits, or calls a function."""
        return not self.delay_s and not callable(self.value)

    def score(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Score texts; shape (n, k - 1)."""
        return np.array([self._one(text) for text in texts], dtype=np.float32)

    def _one(self, text: str) -> list[float]:
        if self.delay_s:
            time.sleep(self.delay_s)
        if isinstance(self.value, Exception):
            raise self.value
        found = self.value(text) if callable(self.value) else self.value
        return [float(found)] if isinstance(found, int | float) else [float(x) for x in found]


@dataclass(frozen=True)
class FixedAnswerScorer:
    """Scores answers by a constant, or by a function of the answer's text.

    A list gives several columns; an exception is raised; `delay_s` waits first.
    """

    value: float | Sequence[float] | Exception | Callable[[str], float | Sequence[float]] = 0.0
    """The score, the scores, what to raise, or a function that gives the score of an answer."""
    needs_logprobs: bool = False
    """Whether it says that it reads log-probabilities."""
    delay_s: float = 0.0
    """Seconds to wait before each score."""

    def score(self, answers: Sequence[Answered]) -> NDArray[np.float32]:
        """Score answers; shape (n, k - 1)."""
        return FixedScorer(self.value, self.delay_s).score([each.answer for each in answers])


def fixed_router(
    value: float | Sequence[float] | Exception | Callable[[str], float | Sequence[float]] = 0.0,
    *,
    candidates: Sequence[str] = ("small", "large"),
    delay_s: float = 0.0,
    answers: FixedAnswerScorer | None = None,
    width: float = 0.1,
) -> Router:
    """Make a router that scores by a constant or a function.

    Its dial is `threshold=0`: a score of 0 or more goes to the small model.

    Args:
        value: As in `FixedScorer`.
        candidates: Names, the reference last.
        delay_s: Seconds each score takes.
        answers: Scores answers: then those are looked at whose query scores within `width` of the
            threshold.
        width: Of the band within which answers are looked at.

    Returns:
        An uncalibrated router.
    """
    return Router(
        candidates=tuple(candidates),
        scorer=FixedScorer(value, delay_s),
        name="fixed",
        second_look=None if answers is None else SecondLook(scorer=answers, width=width, pays=True),
    )
