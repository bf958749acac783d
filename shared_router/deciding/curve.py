"""The calibrated line: from a dial in the user's units to the rule's threshold.

Calibration scores a set of queries with known outcomes and walks the rule's line once, from
all-reference to all-cheapest. What it measures at each step is stored, so that a dial is
resolved per call by binary search.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from shared_router.deciding.checks import ROUNDING, check_curve
from shared_router.deciding.walk import Walk, one_sign
from shared_router.errors import ConfigurationError, DialError, NotCalibratedError
from shared_router.support.processes import cached_property

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared_router.deciding.rule import Rule
    from shared_router.options import Dial


@dataclass(frozen=True, kw_only=True)
class CalibrationCurve:
    """Quality and cost measured along a rule's line; m + 1 points for m distinct thresholds.

    Point 0 is all-reference. Source: Hybrid LLM (Ding et al., ICLR 2024), section 4.3, which
    searches a grid; here every distinct threshold is a point.
    """

    thresholds: NDArray[np.float64] = field(repr=False)
    """Falling, shape (m + 1,): infinite, then midway between neighbouring distinct scores,
    then minus infinite for all-cheapest."""
    cost_advantage: NDArray[np.float64] = field(repr=False)
    """Share of calls not sent to the reference, shape (m + 1,), rising from 0."""
    quality: NDArray[np.float64] = field(repr=False)
    """Mean quality, shape (m + 1,), in the metric's units."""
    quality_range: tuple[float, float]
    """Least and greatest quality of any candidate on any calibration query."""
    n: int
    """Number of calibration queries."""
    scores: NDArray[np.float64] | None = field(default=None, repr=False)
    """Scores of the calibration queries, shape (n, k - 1), to walk another line over them."""
    outcomes: NDArray[np.float64] | None = field(default=None, repr=False)
    """Their mean qualities, shape (n, k)."""

    def __post_init__(self) -> None:
        check_curve(
            self.thresholds,
            self.cost_advantage,
            self.quality,
            self.quality_range,
            self.n,
            self.scores,
            self.outcomes,
        )

    def check_walk(self, rule: Rule) -> None:
        """Check that the line is the one that the rule walks over the kept queries.

        Raises:
            ConfigurationError: If it is another one, or the queries are of other candidates.
        """
        if self.scores is None or self.outcomes is None:  # older calibrations kept none
            return
        if self.outcomes.shape[1] != len(rule.savings):
            raise ConfigurationError(
                f"A calibration's outcomes have a column per candidate, {len(rule.savings)}; got "
                f"{self.outcomes.shape[1]}."
            )
        walked = self.under(rule)
        room = ROUNDING * max(map(abs, walked.quality_range))
        for name, near in (
            ("thresholds", 0.0),
            ("cost_advantage", ROUNDING),
            ("quality", room),
            ("quality_range", room),
        ):
            kept, found = np.asarray(getattr(self, name)), np.asarray(getattr(walked, name))
            if kept.shape != found.shape or not np.allclose(kept, found, ROUNDING, near):
                raise ConfigurationError(
                    f"A calibration's {name} is what its own scores and outcomes give; got another."
                )

    def under(self, rule: Rule) -> CalibrationCurve:
        """Walk another rule over the same queries, such as one of other costs.

        Raises:
            NotCalibratedError: If the calibration kept none of its queries' scores.
        """
        if self.scores is None or self.outcomes is None:
            raise NotCalibratedError(
                "This calibration kept no scores, so that other costs need a new one: call "
                "router.calibrate(data, costs_usd=...)."
            )
        return calibration_curve(rule, self.scores, self.outcomes)

    @property
    def reference_quality(self) -> float:
        """Mean quality where every call goes to the reference."""
        return float(self.quality[0])

    @property
    def one_sign(self) -> bool:
        """Whether all qualities have one sign, so that a relative drop has a meaning."""
        return one_sign(self.quality_range)

    @cached_property
    def _least_drop_from(self) -> NDArray[np.float64]:
        """Least absolute drop at this point or any cheaper one; rises along the line."""
        drop = self.reference_quality - self.quality
        return np.minimum.accumulate(drop[::-1])[::-1]

    def resolve(self, dial: Dial) -> float:
        """Find the threshold of a dial in O(log m).

        `cost_advantage` takes the first point that reaches the share; a quality dial the last
        (cheapest) point whose measured drop is within the limit, as in the paper.

        Args:
            dial: Any dial.

        Returns:
            The rule's threshold; infinite for all-reference.

        Raises:
            DialError: If a relative drop is asked of qualities that span zero.
        """
        if dial.name == "threshold":
            return dial.value
        if dial.name == "cost_advantage":
            at = int(np.searchsorted(self.cost_advantage, dial.value - 1e-12, side="left"))
            return float(self.thresholds[min(at, len(self.thresholds) - 1)])
        allowed = self._allowed_drop(dial)
        at = int(np.searchsorted(self._least_drop_from, allowed + 1e-12, side="right")) - 1
        return float(self.thresholds[max(at, 0)])

    def cost_advantage_at(self, dial: Dial) -> float:
        """Return the cost advantage measured at a dial's setting."""
        threshold = self.resolve(dial)
        # The line is at the last point whose threshold is at least the asked one.
        at = int(np.searchsorted(-self.thresholds, -threshold, side="right")) - 1
        return float(self.cost_advantage[max(at, 0)])

    def _allowed_drop(self, dial: Dial) -> float:
        if dial.name == "max_quality_drop_absolute":
            return dial.value
        if not self.one_sign:
            low, high = self.quality_range
            raise DialError(
                "A relative quality drop needs qualities of one sign; the calibration data range "
                f"from {low:g} to {high:g}. Use max_quality_drop_absolute instead."
            )
        return dial.value * abs(self.reference_quality)


def resolve_dial(dial: Dial, curve: CalibrationCurve | None) -> float:
    """Find the threshold of a dial, with or without a calibration.

    Raises:
        NotCalibratedError: If the dial needs a calibration and there is none.
    """
    if dial.name == "threshold":
        return dial.value
    if curve is None:
        raise NotCalibratedError(
            f"{dial.name} needs a calibrated router, and this one is not calibrated: call "
            "router.calibrate(data) with outcomes it was not fitted on, or give a threshold."
        )
    return curve.resolve(dial)


def calibration_curve(
    rule: Rule, scores: NDArray[np.floating], quality: NDArray[np.float64]
) -> CalibrationCurve:
    """Walk the rule's line over queries with known outcomes.

    Args:
        rule: The rule.
        scores: Shape (n, k - 1).
        quality: Mean quality per query and candidate, shape (n, k).

    Returns:
        The curve.
    """
    walk = Walk(rule, scores, quality)
    shares, means = walk.line()
    return CalibrationCurve(
        thresholds=walk.thresholds,
        cost_advantage=shares,
        quality=means,
        quality_range=walk.quality_range,
        n=walk.n,
        scores=np.asarray(scores, dtype=np.float64),
        outcomes=np.asarray(quality, dtype=np.float64),
    )
