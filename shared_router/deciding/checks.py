"""What a calibration and costs must be, wherever they come from: a broken one opens the dial."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.deciding.rule import savings_from_costs
from shared_router.errors import CandidateError, ConfigurationError
from shared_router.support.names import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

ROUNDING = 1e-6
"""Share of the greatest quality within which two means are one: sums differ in their last bits."""


def check_curve(
    thresholds: Any,
    cost_advantage: Any,
    quality: Any,
    quality_range: Any,
    n: Any,
    scores: Any,
    outcomes: Any,
) -> None:
    """Check that a curve is a line from all-reference to all-cheapest, in finite numbers.

    The fields are those of a `CalibrationCurve`.

    Raises:
        ConfigurationError: Names the field, the rule and what was seen.
    """
    _check_range(quality_range)
    check_count("n", n)
    check_thresholds(thresholds)
    _check_shares(cost_advantage, len(thresholds))
    _check_means(quality, len(thresholds), quality_range)
    _check_queries(scores, outcomes, n)


def check_array(name: str, found: Any, dimensions: int, owner: str = "A calibration") -> None:
    """Check that something is an array of floating-point numbers.

    Raises:
        ConfigurationError: If it is not.
    """
    fits = isinstance(found, np.ndarray) and found.dtype.kind == "f" and found.ndim == dimensions
    seen = (
        f"{found.dtype} of shape {found.shape}" if isinstance(found, np.ndarray) else shown(found)
    )
    text = f"is an array of floating-point numbers in {dimensions} dimensions"
    check_rule(fits, name, text, seen, owner)


def check_finite(name: str, found: NDArray[Any], owner: str = "A calibration") -> None:
    """Check that an array has no NaN and no infinite number.

    Raises:
        ConfigurationError: If it has.
    """
    finite = np.isfinite(found)
    if not finite.all():
        seen = f"{found[~finite][0]} among {found.size}"
        check_rule(False, name, "holds finite numbers alone", seen, owner)


def _check_range(found: Any) -> None:
    pair = isinstance(found, tuple | list) and len(found) == 2 and all(map(is_finite, found))
    fits = pair and found[0] <= found[1]
    check_rule(fits, "quality_range", "is its least and its greatest quality, finite", shown(found))


def check_count(name: str, found: Any, owner: str = "A calibration") -> None:
    """Check a number of queries.

    Raises:
        ConfigurationError: If it is none.
    """
    check_rule(_is_count(found), name, "is the number of its queries, 1 or more", found, owner)


def check_thresholds(found: Any, owner: str = "A calibration") -> None:
    """Check that thresholds fall from infinite to minus infinite.

    Raises:
        ConfigurationError: If they do not.
    """
    check_array("thresholds", found, 1, owner)
    ends = len(found) > 1 and found[0] == np.inf and found[-1] == -np.inf
    seen = f"{shown(found[:1].tolist())} to {shown(found[-1:].tolist())}"
    check_rule(ends, "thresholds", "fall from infinite to minus infinite", seen, owner)
    check_finite("thresholds, between its ends,", found[1:-1], owner)
    check_rule(_rises(-found[1:-1]), "thresholds", "fall", "one that rises", owner)


def _check_shares(found: Any, points: int) -> None:
    check_array("cost_advantage", found, 1)
    check_rule(len(found) == points, "cost_advantage", "has a share per threshold", len(found))
    check_finite("cost_advantage", found)
    ends = bool(found[0] == 0 and math.isclose(found[-1], 1, abs_tol=ROUNDING))
    check_rule(ends and _rises(found), "cost_advantage", "rises from 0 to 1", shown(found[[0, -1]]))


def _check_means(found: Any, points: int, quality_range: tuple[float, float]) -> None:
    check_array("quality", found, 1)
    check_rule(len(found) == points, "quality", "has a mean per threshold", len(found))
    check_finite("quality", found)
    (low, high), room = quality_range, ROUNDING * max(map(abs, quality_range))
    within = low - room <= found.min() and found.max() <= high + room
    check_rule(
        bool(within), "quality", f"lies within quality_range, {low:g} to {high:g}", shown(found)
    )


def _check_queries(scores: Any, outcomes: Any, n: int) -> None:
    if scores is None and outcomes is None:  # older calibrations kept none
        return
    for name, found in (("scores", scores), ("outcomes", outcomes)):
        check_array(name, found, 2)
        check_rule(len(found) == n, name, f"has a row per query, {n}", len(found))
        check_finite(name, found)
    columns = scores.shape[1]
    fits = columns > 0 and outcomes.shape[1] == columns + 1
    check_rule(fits, "outcomes", f"has a column more than scores, {columns + 1}", outcomes.shape[1])


def _rises(found: NDArray[Any]) -> bool:
    return bool((found[1:] >= found[:-1]).all())


def check_costs(costs_usd: Sequence[float | None] | None, names: Sequence[str]) -> None:
    """Check the mean costs of a call, one per candidate.

    Raises:
        CandidateError: If there are more or fewer, one is no amount, or a candidate is dearer than
            the reference.
    """
    if costs_usd is None:
        return
    if len(costs_usd) != len(names):
        raise CandidateError(
            f"costs_usd has a cost per candidate, {len(names)}; got {len(costs_usd)}."
        )
    for name, cost in zip(names, costs_usd, strict=True):
        if cost is not None and not (is_finite(cost) and cost >= 0):
            raise CandidateError(
                f"costs_usd of {name!r} is finite and at least 0, or None; got {shown(cost)}."
            )
    savings_from_costs(costs_usd, len(names), names)  # refuses one dearer than the reference


def is_finite(value: Any) -> bool:
    """Tell whether a value is a finite number; true and false are none."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) > 0


def check_rule(
    holds: bool, field: str, rule: str, seen: object, owner: str = "A calibration"
) -> None:
    """Refuse what breaks a rule.

    Raises:
        ConfigurationError: Names the owner, the field, the rule and what was seen.
    """
    if not holds:
        raise ConfigurationError(f"{owner}'s {field} {rule}; got {seen}.")
