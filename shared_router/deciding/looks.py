"""The second look: a cheaper model's own answer as a signal, under the same threshold. Pure.

Before a call `s_j` estimates `E[q_j - q_ref]` from the query; after it `a_j` estimates the same
from the query and the answer. What is clear before is decided before. Within a band around the
threshold the cheapest candidate that may do is asked, its answer is scored, and it is accepted or
passed on to the next dearer one.

With two models the line has a closed form: a call with the threshold t goes to the small model, or
its answer is accepted, exactly where `t <= e` with `e = clip(a / after, s - width, s + width)`. So
`e` takes the place of `s` in calibration, test and estimate, and a width of 0 is `s` itself.

Source: cascades as in FrugalGPT (arXiv 2305.05176), decided on the expected gap of Hybrid LLM (Ding
et al., ICLR 2024).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from shared_router.deciding.curve import CalibrationCurve, calibration_curve
from shared_router.deciding.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from shared_router.deciding.rule import Rule
    from shared_router.retrieval import RetrievalFacts

MOST_STEPS = 200
"""Points of a line with looks over three models or more, which is followed step by step."""


@dataclass(frozen=True)
class Plan:
    """Whom to ask, and whether to look at what it answers."""

    index: int
    looks: bool


@dataclass(frozen=True)
class Band:
    """Within which distance of the threshold an answer is looked at, and what it saves then."""

    width: float
    """In the units of the scores; 0 looks at nothing."""
    savings: tuple[float, ...]
    """What each candidate saves before a call, as in the rule; the reference's 0."""
    after: float = 1.0
    """What accepting an answer in hand saves, `c_ref / (c_ref - c_min)`: it is paid for, and all of
    the reference's cost is still to come."""

    def plan(self, scores: Sequence[float], threshold: float, able: Sequence[int]) -> Plan:
        """Choose whom to ask first.

        Args:
            scores: One per candidate but the reference.
            threshold: The rule's threshold.
            able: Positions of the candidates that can serve, at least one.
        """
        if math.isinf(threshold):
            return Plan(able[-1] if threshold > 0 else able[0], looks=False)
        return self._among(able, self._values(scores, threshold))

    def after_look(
        self,
        index: int,
        answer: float,
        scores: Sequence[float],
        threshold: float,
        able: Sequence[int],
    ) -> Plan | None:
        """Choose what becomes of an answer.

        Args:
            index: Whose answer it is.
            answer: Its score; minus infinite where a check rejected it.
            scores: As in `plan`.
            threshold: As in `plan`.
            able: As in `plan`.

        Returns:
            `None` where it is accepted; else whom to ask next.
        """
        dearer = [position for position in able if position > index]
        if not dearer:
            return None
        values = self._values(scores, threshold)
        best = max(values[position] for position in dearer)
        if answer - threshold * self.after >= best:
            return None
        return self._among(dearer, values)

    def _values(self, scores: Sequence[float], threshold: float) -> list[float]:
        pairs = zip(scores, self.savings, strict=False)
        return [*(score - threshold * saving for score, saving in pairs), 0.0]

    def _among(self, able: Sequence[int], values: Sequence[float]) -> Plan:
        """Take the cheapest that may be as good as the best, and look where a dearer one may be."""
        best = max(values[position] for position in able)
        index = next(position for position in able if values[position] >= best - self.width)
        dearer = (values[position] for position in able if position > index)
        return Plan(index, looks=max(dearer, default=-math.inf) > values[index] - self.width)


@dataclass(frozen=True)
class Looking:
    """What one call's looks need."""

    text: str = field(repr=False)
    """The text that was scored before the call."""
    scores: tuple[float, ...]
    threshold: float
    band: Band
    needs_logprobs: bool = False
    """Whether an answer without log-probabilities is passed on to the reference."""
    retrieval: RetrievalFacts | None = None
    """What was retrieved for the query, where known."""


@dataclass(frozen=True)
class LookAt:
    """Ask the driver to score an answer."""

    query: str = field(repr=False)
    answer: str = field(repr=False)
    logprobs: tuple[float, ...] | None = field(repr=False)
    index: int
    """Whose answer it is."""
    retrieval: RetrievalFacts | None = None


@dataclass(frozen=True)
class Followed:
    """Queries followed along the line at one threshold."""

    choice: NDArray[np.intp]
    """Whose answer is given, shape (n,)."""
    asked: NDArray[np.bool_]
    """Who was asked, shape (n, k)."""
    looked: NDArray[np.bool_]
    """Whether an answer was looked at, shape (n,)."""

    def costs(self, per_call: NDArray[np.float64]) -> NDArray[np.float64]:
        """Add up what was paid for each query, thrown-away answers included, shape (n,).

        Args:
            per_call: Cost of a call, shape (k,) or (n, k).
        """
        return np.asarray((self.asked * per_call).sum(axis=1), dtype=np.float64)

    @property
    def thrown_away(self) -> NDArray[np.bool_]:
        """Whether an answer was paid for and not given, shape (n,)."""
        return np.asarray(self.asked.sum(axis=1) > 1)


def follow(
    band: Band,
    scores: NDArray[np.floating],
    answers: NDArray[np.floating],
    threshold: float,
) -> Followed:
    """Follow many queries at one threshold, as `Band` follows one.

    Args:
        band: The band.
        scores: Before the call, shape (n, k - 1).
        answers: Of each candidate's answer, shape (n, k - 1).
        threshold: The rule's threshold.
    """
    n, k = len(scores), scores.shape[1] + 1
    asked, looked = np.zeros((n, k), dtype=bool), np.zeros(n, dtype=bool)
    if math.isinf(threshold):
        choice = np.full(n, k - 1 if threshold > 0 else 0)
        asked[np.arange(n), choice] = True
        return Followed(choice, asked, looked)
    values = np.zeros((n, k))
    values[:, :-1] = np.asarray(scores, np.float64) - threshold * np.asarray(band.savings[:-1])
    # The best of those from each position on; nothing comes after the reference.
    best = np.maximum.accumulate(values[:, ::-1], axis=1)[:, ::-1]
    best = np.hstack([best, np.full((n, 1), -np.inf)])
    choice, active = np.full(n, k - 1), np.ones(n, dtype=bool)
    for position in range(k):
        here = active & (values[:, position] >= best[:, position] - band.width)
        asked[here, position] = True
        looks = here & (best[:, position + 1] > values[:, position] - band.width)
        given = here & ~looks
        if position < k - 1:
            looked |= looks
            worth = np.asarray(answers, np.float64)[:, position] - threshold * band.after
            given |= looks & (worth >= best[:, position + 1])
        choice[given] = position
        active &= ~given
    return Followed(choice, asked, looked)


def effective_scores(
    band: Band, scores: NDArray[np.floating], answers: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the greatest threshold at which the small model's answer is given, of two models.

    Args:
        band: The band.
        scores: Before the call, shape (n, 1).
        answers: Of the small model's answer, shape (n, 1).

    Returns:
        Shape (n, 1).
    """
    known = np.asarray(scores, dtype=np.float64)
    worth = np.asarray(answers, dtype=np.float64) / band.after
    return np.clip(worth, known - band.width, known + band.width)


def looks_curve(
    rule: Rule,
    band: Band,
    scores: NDArray[np.floating],
    answers: NDArray[np.floating],
    quality: NDArray[np.float64],
) -> CalibrationCurve:
    """Measure the line with looks on queries with known outcomes.

    Args:
        rule: The rule.
        band: The band.
        scores: Before the call, shape (n, k - 1).
        answers: Of each candidate's answer, shape (n, k - 1).
        quality: Of the answers that were scored, and of the reference, shape (n, k).
    """
    if quality.shape[1] == 2:
        return calibration_curve(rule, effective_scores(band, scores, answers), quality)
    thresholds = _steps(rule, scores, answers)
    rows, reference = np.arange(len(quality)), quality.shape[1] - 1
    found = [follow(band, scores, answers, threshold).choice for threshold in thresholds]
    shares = np.array([(choice != reference).mean() for choice in found])
    return CalibrationCurve(
        thresholds=thresholds,
        cost_advantage=np.maximum.accumulate(shares),
        quality=np.array([quality[rows, choice].mean() for choice in found]),
        quality_range=(float(quality.min()), float(quality.max())),
        n=len(quality),
    )


def _steps(
    rule: Rule, scores: NDArray[np.floating], answers: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Choose thresholds that move choices, from all-reference to all-cheapest."""
    nothing = np.zeros((len(scores), scores.shape[1] + 1))
    own = [Walk(rule, found, nothing).thresholds[1:-1] for found in (scores, answers)]
    every = np.unique(np.concatenate(own))
    inner = np.unique(np.quantile(every, np.linspace(0, 1, MOST_STEPS))) if len(every) else every
    return np.concatenate([[np.inf], inner[::-1], [-np.inf]])
