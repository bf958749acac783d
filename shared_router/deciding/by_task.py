"""Calibration by task: a setting holds within each task that has enough calibration queries.

Every other call is decided on the overall curve, and its decision says why.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from shared_router.asking.task_labels import labels_of
from shared_router.deciding.curve import resolve_dial
from shared_router.deciding.guarantee import UNCALIBRATED
from shared_router.errors import ConfigurationError
from shared_router.support.names import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared_router.deciding.curve import CalibrationCurve
    from shared_router.deciding.guarantee import Claim
    from shared_router.options import Dial
    from shared_router.records import WiderBecause

ByTask = Literal["given", "predicted", "off"]
"""What keys a calibration: the label a call gives, the label its text tells, or neither."""
BY_TASK: tuple[ByTask, ...] = get_args(ByTask)

LEAST_PER_TASK = 100
"""Fewest calibration queries for which a task gets a curve of its own."""


@dataclass(frozen=True, kw_only=True)
class TaskCurves:
    """The curves of the tasks and suites that had enough calibration queries."""

    curves: Mapping[str, CalibrationCurve] = field(repr=False)
    """Label to curve."""
    too_few: Mapping[str, int]
    """Labels seen in calibration with too few queries, and how many those were."""
    least: int = LEAST_PER_TASK
    """Fewest queries of a curve."""
    by: ByTask = "given"
    """`given`, or `predicted` where the text's own task keys calls without a label."""

    def find(self, label: str | None) -> tuple[str | None, WiderBecause | None]:
        """Find the narrowest calibrated label that a label answers to.

        Returns:
            The calibrated task or suite, `None` where the overall curve must serve; and why it is
            not the label's own, where it is not.
        """
        if label is None:
            return None, "no_task"
        if label in self.curves:
            return label, None
        found = next((name for name in labels_of(label) if name in self.curves), None)
        return found, "too_few" if label in self.too_few else "unknown_task"


def check_calibration(whole: CalibrationCurve | None, tasks: TaskCurves | None, k: int) -> None:
    """Check that a calibration and those by task belong together, and to k candidates.

    Raises:
        ConfigurationError: If they do not.
    """
    if tasks is not None and whole is None:
        raise ConfigurationError("A calibration by task needs the one over all queries; got none.")
    if whole is None:
        return
    _check_width(whole, k)
    low, high = whole.quality_range
    for label, own in tasks.curves.items() if tasks is not None else ():
        _check_width(own, k)
        if own.quality_range[0] < low or own.quality_range[1] > high:
            raise ConfigurationError(
                f"The quality_range of task {shown(label)} lies within that of all tasks, {low:g} "
                f"to {high:g}; got {shown(own.quality_range)}."
            )


def _check_width(curve: CalibrationCurve, k: int) -> None:
    if curve.outcomes is not None and curve.outcomes.shape[1] != k:
        raise ConfigurationError(
            f"A calibration's outcomes have a column per candidate, {k}; got "
            f"{curve.outcomes.shape[1]}."
        )


@dataclass(frozen=True)
class Setting:
    """A dial resolved for one call."""

    threshold: float
    """The rule's threshold."""
    task: str | None = None
    """The task or suite whose own calibration gave it; `None` for the overall one."""
    because: WiderBecause | None = None
    """Why a wider calibration than the task's own served, where the router has calibrations by
    task or a task was given."""
    claim: Claim = UNCALIBRATED
    """What holds of decisions by score at it."""
    confidence: float | None = None
    """How sure the limit is, where it is promised."""
    refused: bool = False
    """Whether the limit was written and cannot be promised: calls go to the reference."""


def resolve_setting(
    dial: Dial, overall: CalibrationCurve | None, tasks: TaskCurves | None, label: str | None
) -> Setting:
    """Resolve a dial within a task, where its calibration is known.

    Args:
        dial: The dial in force.
        overall: The curve over all calibration queries.
        tasks: The curves by task, where there are any.
        label: The call's task.

    Returns:
        The setting. An unknown label is no error: labels come with the data of each call, and
        the overall calibration serves.

    Raises:
        NotCalibratedError: If the dial needs a calibration and there is none.
    """
    threshold = resolve_dial(dial, overall)
    if dial.name == "threshold":
        return Setting(threshold)
    if tasks is None:
        return Setting(threshold, because="unknown_task" if label else None)
    key, because = tasks.find(label)
    own = threshold if key is None else tasks.curves[key].resolve(dial)
    return Setting(own, key, because)
