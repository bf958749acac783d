"""Probes: a few texts with their scores, which tell another machine's arithmetic apart.

An int8 graph scores a little differently on processors with other instructions (a hundredth of the
scores' spread, measured), and a promise was tested on the scores of one. Where the probes come out
otherwise, the promise is void.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from shared_router.serving.answers import Answered, GraphAnswerScorer
from shared_router.serving.scorer import GraphScorer
from shared_router.support.processes import native_work

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from shared_router.serving.answers import AnswerScorer
    from shared_router.serving.scorer import Scorer

PROBES = (
    "What is the capital of France?",
    "Prove that the square root of two is irrational, step by step.",
    "def add(a, b): return a - b  # What is wrong here?",
    "A train leaves at 9:40 and arrives at 13:05. How long does it travel?",
)
"""Texts of our own: a probe tells nothing of anybody's queries."""
NEAR = 1e-3
"""Part of the scores' spread by which a probe may differ: other libraries move the last digits."""


@dataclass(frozen=True)
class Probes:
    """Scores of the probes where a router was calibrated."""

    scores: NDArray[np.float32] = field(repr=False)
    """Shape (probes, k - 1)."""
    spread: float
    """Spread of the calibration's scores: standard deviation, the least over columns."""


PROBE_LOGPROBS = (-0.1, -0.5, -0.02, -1.5)
"""Log-probabilities that a probe of an answer has, where its scorer reads them."""


def probe_answers(scorer: AnswerScorer, served: NDArray[np.floating]) -> Probes | None:
    """Score the probes as answers to each other; `None` for a scorer that is no graph.

    Args:
        scorer: The scorer of answers.
        served: Its scores of the calibration's answers, shape (n, k - 1).
    """
    if not isinstance(scorer, GraphAnswerScorer):
        return None
    return Probes(_answers_scored(scorer), float(np.std(served, axis=0).min()))


def _answers_scored(scorer: GraphAnswerScorer) -> NDArray[np.float32]:
    pairs = zip(PROBES, reversed(PROBES), strict=True)
    return np.vstack([scorer.score([Answered(*pair, PROBE_LOGPROBS)]) for pair in pairs])


def same_answers(probes: Probes | None, scorer: AnswerScorer) -> bool:
    """Tell whether a scorer of answers scores here as where it was calibrated."""
    if probes is None or not isinstance(scorer, GraphAnswerScorer):
        return True
    return _comes_out(probes, lambda: _answers_scored(scorer))


def probe(scorer: Scorer, served: NDArray[np.floating]) -> Probes | None:
    """Score the probes; `None` for a scorer that is no graph.

    Args:
        scorer: The scorer.
        served: Its scores of the calibration queries, shape (n, k - 1).
    """
    if not isinstance(scorer, GraphScorer):
        return None
    return Probes(_scored(scorer), float(np.std(served, axis=0).min()))


def _scored(scorer: GraphScorer) -> NDArray[np.float32]:
    with native_work():
        return np.vstack([scorer.score([text]) for text in PROBES])


def same_arithmetic(probes: Probes | None, scorer: Scorer) -> bool:
    """Tell whether a scorer scores here as it did where it was calibrated; unknown is the same."""
    if probes is None or not isinstance(scorer, GraphScorer):
        return True
    return _comes_out(probes, lambda: _scored(scorer))


def _comes_out(probes: Probes, scored: Callable[[], NDArray[np.float32]]) -> bool:
    """Tell whether the probes come out as they were kept."""
    try:
        found = scored()
    except Exception:  # noqa: BLE001  (a graph that fails says so where it decides)
        return False
    if found.shape != probes.scores.shape:
        return False
    return bool(np.abs(found - probes.scores).max() <= NEAR * probes.spread)
