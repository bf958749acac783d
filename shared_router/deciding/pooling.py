"""The estimate. Every label counts: those of the training queries by their out-of-fold scores."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from shared_router.deciding.checks import check_array, check_finite
from shared_router.deciding.curve import calibration_curve
from shared_router.errors import ConfigurationError
from shared_router.options import USUAL_CONFIDENCE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared_router.deciding.curve import CalibrationCurve
    from shared_router.deciding.rule import Rule
    from shared_router.options import Dial

OWNER = "An out-of-fold table"


@dataclass(frozen=True)
class OutOfFold:
    """Training queries as they were scored by heads that had not seen them."""

    scores: NDArray[np.float64] = field(repr=False)
    """Shape (m, k - 1)."""
    outcomes: NDArray[np.float64] = field(repr=False)
    """Their mean qualities, shape (m, k)."""

    def __post_init__(self) -> None:
        for name, found in (("scores", self.scores), ("outcomes", self.outcomes)):
            check_array(name, found, 2, OWNER)
            check_finite(name, found, OWNER)
        rows, columns = self.scores.shape
        if not rows or self.outcomes.shape != (rows, columns + 1):
            raise ConfigurationError(
                f"{OWNER}'s outcomes have a row per score and a column more, ({rows}, "
                f"{columns + 1}); got {self.outcomes.shape}."
            )


def carried(unseen: NDArray[np.floating], served: NDArray[np.floating]) -> NDArray[np.float64]:
    """Carry out-of-fold scores to the served router's scale, by rank.

    Heads fitted on four folds score on another scale than those fitted on all. A query that stands
    at some share of the one takes the served score at the same share.

    Args:
        unseen: Out-of-fold scores, shape (m, k - 1).
        served: The served router's scores of other queries, shape (n, k - 1).

    Returns:
        Shape (m, k - 1).
    """
    columns = [_by_rank(own, other) for own, other in zip(unseen.T, served.T, strict=True)]
    return np.stack(columns, axis=1)


def _by_rank(unseen: NDArray[np.floating], served: NDArray[np.floating]) -> NDArray[np.float64]:
    ordered = np.sort(unseen)
    below = np.searchsorted(ordered, unseen, side="left")
    through = np.searchsorted(ordered, unseen, side="right")
    shares = (below + through) / (2 * len(unseen))
    known = np.sort(np.asarray(served, dtype=np.float64))
    return np.interp(shares, (np.arange(len(known)) + 0.5) / len(known), known)


def pooled_curve(rule: Rule, curve: CalibrationCurve, unseen: OutOfFold | None) -> CalibrationCurve:
    """Walk the line over all labels: the calibration's, and the training's out of fold.

    Args:
        rule: The rule.
        curve: The calibration.
        unseen: The training queries; `None` where they are not known.

    Returns:
        The curve of the estimate; the calibration itself where there is nothing to add.
    """
    if unseen is None or curve.scores is None or curve.outcomes is None:
        return curve
    scores = np.vstack([curve.scores, carried(unseen.scores, curve.scores)])
    return calibration_curve(rule, scores, np.vstack([curve.outcomes, unseen.outcomes]))


@dataclass(frozen=True)
class Estimate:
    """What a dial is estimated to give."""

    share: float
    """Share of calls kept from the reference."""
    drop: float
    """The drop in quality: relative, unless the dial is absolute or relative has no meaning."""
    interval: tuple[float, float]
    """Both ends of the drop, by the central limit theorem: no promise."""
    n: int
    """Labels it rests on."""


def estimate_at(
    rule: Rule, curve: CalibrationCurve, dial: Dial, confidence: float = USUAL_CONFIDENCE
) -> Estimate | None:
    """Estimate what a dial gives, with an interval.

    Args:
        rule: The rule.
        curve: The curve of the estimate.
        dial: The dial.
        confidence: That the interval holds the drop at a setting. As the setting is chosen on the
            same labels, it is a little optimistic where they are few.

    Returns:
        The estimate; `None` where an older calibration kept no scores.
    """
    if curve.scores is None or curve.outcomes is None:
        return None
    choice = rule.choose(curve.scores, curve.resolve(dial))
    reference = curve.outcomes[:, -1]
    lost = reference - np.take_along_axis(curve.outcomes, choice[:, None], axis=1)[:, 0]
    whole, n = abs(float(reference.mean())), len(lost)
    relative = dial.name != "max_quality_drop_absolute" and curve.one_sign and whole > 0
    drop = float(lost.mean()) / (whole if relative else 1.0)
    spread = lost - drop * np.abs(reference) if relative else lost
    error = float(spread.std()) / math.sqrt(n) / (whole if relative else 1.0)
    wide = NormalDist().inv_cdf((1 + confidence) / 2) * error
    share = float((choice != curve.outcomes.shape[1] - 1).mean())
    return Estimate(share, drop, (drop - wide, drop + wide), n)


def check_out_of_fold(unseen: OutOfFold | None, k: int) -> None:
    """Check that an out-of-fold table is of k candidates.

    Raises:
        ConfigurationError: If it is not.
    """
    if unseen is not None and unseen.outcomes.shape[1] != k:
        raise ConfigurationError(
            f"{OWNER}'s outcomes have a column per candidate, {k}; got {unseen.outcomes.shape[1]}."
        )
