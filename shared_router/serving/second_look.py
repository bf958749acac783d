"""What a router knows of second looks: its scorer of answers, the band, and the line with looks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shared_router.deciding.checks import check_array, check_finite
from shared_router.deciding.looks import Band, effective_scores
from shared_router.deciding.pooling import OutOfFold
from shared_router.errors import ConfigurationError
from shared_router.support.names import shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from shared_router.deciding.by_task import TaskCurves
    from shared_router.deciding.curve import CalibrationCurve
    from shared_router.deciding.rule import Rule
    from shared_router.deciding.settings import Promises
    from shared_router.records import AnswerSettings
    from shared_router.serving.answers import AnswerScorer
    from shared_router.serving.probes import Probes

OWNER = "A second look"


@dataclass(frozen=True)
class Pairs:
    """Training queries with both their scores, by heads that had seen neither query nor answer."""

    scores: NDArray[np.float64] = field(repr=False)
    """Before the call, shape (m, k - 1)."""
    answers: NDArray[np.float64] = field(repr=False)
    """Of the answer of each candidate that was drawn, shape (m, k - 1)."""
    outcomes: NDArray[np.float64] = field(repr=False)
    """Quality of the very answers that were scored, and of the reference, shape (m, k)."""

    def __post_init__(self) -> None:
        for name in ("scores", "answers", "outcomes"):
            check_array(name, getattr(self, name), 2, OWNER)
            check_finite(name, getattr(self, name), OWNER)
        rows, columns = self.scores.shape
        if self.answers.shape != (rows, columns) or self.outcomes.shape != (rows, columns + 1):
            raise ConfigurationError(
                f"{OWNER}'s pairs have a score and an answer per query and candidate, "
                f"{self.scores.shape}, and a column more of outcomes; got {self.answers.shape} "
                f"and {self.outcomes.shape}."
            )


@dataclass(frozen=True, kw_only=True)
class LooksLine:
    """The calibration of the line with looks."""

    curve: CalibrationCurve
    """Over all queries; of two models its scores are the effective ones."""
    task_curves: TaskCurves | None = None
    """Within each task that has enough."""
    promises: Promises | None = None
    """What it can promise."""


@dataclass(frozen=True, kw_only=True)
class SecondLook:
    """A router's second looks.

    Raises:
        ConfigurationError: If the band is none.
    """

    scorer: AnswerScorer
    """Scores answers."""
    width: float
    """Of the band, in the units of the scores; fixed by the training queries alone."""
    after: float = 1.0
    """What accepting an answer in hand saves, over what the cheapest candidate saves before it."""
    pays: bool = False
    """Whether looks cost fewer dollars at equal quality, on the training queries out of fold."""
    settings: AnswerSettings | None = None
    """How the answers were made; `None` where the data did not tell, or not alike."""
    pairs: Pairs | None = field(default=None, repr=False)
    """The training queries, which cut the grid of what is promised."""
    probes: Probes | None = field(default=None, repr=False)
    """Answers with their scores, which tell another machine's arithmetic apart."""
    line: LooksLine | None = None
    """The calibration; `None` before, and where the calibration's data had no answers."""
    facts: dict[str, Any] = field(default_factory=dict, repr=False)
    """Measured facts, for the card."""

    def __post_init__(self) -> None:
        for name, least in (("width", 0.0), ("after", 1.0)):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= least):
                raise ConfigurationError(
                    f"{OWNER}'s {name} is a finite number of at least {least:g}; got "
                    f"{shown(value)}."
                )

    def band(self, rule: Rule) -> Band:
        """Return the band under a rule."""
        return Band(self.width, tuple(map(float, rule.savings)), self.after)

    def out_of_fold(self, rule: Rule) -> OutOfFold | None:
        """Return the training queries by their effective scores, of two models."""
        if self.pairs is None or self.pairs.scores.shape[1] != 1:
            return None
        own = effective_scores(self.band(rule), self.pairs.scores, self.pairs.answers)
        return OutOfFold(own, self.pairs.outcomes)
