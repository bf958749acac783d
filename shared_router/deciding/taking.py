"""The looks that one call takes: whom to ask, what to score, what becomes of an answer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared_router.deciding.looks import LookAt, Plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared_router.deciding.escalation import Answer
    from shared_router.deciding.looks import Looking

LOOKED = "second_look"
"""What a record calls a rejection by the score of an answer."""
NO_LOGPROBS = "no_logprobs"
"""What a record says where an answer came without the log-probabilities that its scorer needs."""
UNREADABLE = "unreadable"
"""What it says where the host's answer could not be read."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What came of looking at one answer."""

    passed_on: bool
    """Whether a dearer candidate is asked."""
    score: float | None = None
    """The answer's score; `None` where it has none."""
    error: str | None = None
    """Why it could not be scored."""


class Looks:
    """Where one call stands among its looks.

    Args:
        looking: What its looks need.
        first: Position of the candidate that is asked first.
        able: Positions of the candidates that can serve, the last one the dearest.
    """

    def __init__(self, looking: Looking, first: int, able: Sequence[int]) -> None:
        self.looking, self.able = looking, able
        self.plan = Plan(first, looks=True)

    def at(self, index: int) -> bool:
        """Tell whether a candidate's answer is looked at."""
        return self.plan.looks and self.plan.index == index and index < self.able[-1]

    def asked(self, index: int, answer: Answer | None) -> LookAt | Taken:
        """Return what is to be scored of an answer, or what came of it where nothing is.

        Args:
            index: Whose it is.
            answer: What was read of it; `None` where it could not be.
        """
        if answer is None:
            return self.failed(UNREADABLE)
        known = answer.logprobs if are_numbers(answer.logprobs) else None
        if self.looking.needs_logprobs and known is None:
            return self.failed(NO_LOGPROBS)
        text = answer.text if answer.text.strip() else " ".join(answer.tool_calls)
        return LookAt(self.looking.text, text, known, index, self.looking.retrieval)

    def scored(self, index: int, score: Any) -> Taken:
        """Accept an answer by its score, or pass it on; one that is no number is passed on."""
        found = as_number(score)
        if found is None:
            return self.failed("ScoringError")
        return Taken(passed_on=self._passes_on(index, found), score=found)

    def rejected(self, index: int) -> Taken:
        """Pass an answer on that a check rejected: as one with a score of minus infinity."""
        return Taken(passed_on=self._passes_on(index, -math.inf))

    def failed(self, why: str) -> Taken:
        """Pass an answer on to the reference that could not be scored."""
        self.plan = Plan(self.able[-1], looks=False)
        return Taken(passed_on=True, error=why)

    def _passes_on(self, index: int, score: float) -> bool:
        own = self.looking
        plan = own.band.after_look(index, score, own.scores, own.threshold, self.able)
        if plan is not None:
            self.plan = plan
        return plan is not None


def are_numbers(logprobs: Any) -> bool:
    """Tell whether log-probabilities are finite numbers, one at least."""
    return bool(logprobs) and all(as_number(each) is not None for each in logprobs)


def as_number(value: Any) -> float | None:
    """Take a finite number; `None` for anything else."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None
