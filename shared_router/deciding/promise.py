"""The promise: settings whose quality drop is bounded, with a stated confidence.

A grid of settings is fixed before any outcome of the calibration is read. It is walked from
all-reference on, each setting tested at the full error, and the walk stops at the first that is not
shown to hold. So the settings passed hold together with the stated confidence (a fixed sequence of
tests).

Source: Angelopoulos et al., Learn then Test (Ann. Appl. Stat. 2025), section 3.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from shared_router.deciding.bets import Losses, upper_means
from shared_router.deciding.checks import (
    check_array,
    check_count,
    check_finite,
    check_rule,
    check_thresholds,
)
from shared_router.deciding.evidence import METHODS, absolute_range
from shared_router.deciding.paired_test import (
    CriticalValues,
    absolute_pairs,
    relative_pairs,
    upper_drops,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared_router.deciding.evidence import Evidence, Method
    from shared_router.options import Dial

CONFIDENCES = (0.8, 0.85, 0.9, 0.95, 0.975, 0.99, 0.999)
"""Confidences that are computed; one that is asked between two takes the greater."""
FIRST_LOOK = 0.95
"""Share of the error that the first look at labels has; each later one has half of what is left."""
LAST_BITS = 1e-9
"""Part of a limit by which rounding may miss it."""
MOST_SETTINGS = 100
"""Settings of a grid."""
OWNER = "A promise"
ROUNDED_TO = 1e-4
"""Part of the scores' spread to which they are rounded before they are compared."""


def cut_grid(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Cut a grid of thresholds from scores, none of them the calibration's own.

    Args:
        scores: Shape (n,).

    Returns:
        Falling, infinite first and minus infinite last: settings that send 0, 1, ..., 100 % of such
        queries to the other candidate. Each lies halfway between two rounded scores, so that
        comparing a score is comparing its rounded value.
    """
    shares = np.arange(1, MOST_SETTINGS) / MOST_SETTINGS
    known = np.asarray(scores, dtype=np.float64)
    spread = float(known.max() - known.min())
    if not spread > 0:
        return np.array([np.inf, -np.inf])
    step = 10.0 ** math.floor(math.log10(spread * ROUNDED_TO))
    halfway = (np.floor(np.quantile(known, 1 - shares) / step) + 0.5) * step
    return np.concatenate([[np.inf], np.unique(halfway)[::-1], [-np.inf]])


def error_of_look(look: int) -> float:
    """Return the share of the error that a look at growing labels has; all of them add up to 1."""
    return FIRST_LOOK if look == 1 else (1 - FIRST_LOOK) * 0.5 ** (look - 1)


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one look at labels shows: bounds that hold together, one column per confidence."""

    n: int
    """Queries, or texts, that it was tested on."""
    upper: NDArray[np.float64] = field(repr=False)
    """Upper bound of the absolute drop at a setting and all before it, shape (m + 1, c)."""
    upper_relative: NDArray[np.float64] = field(repr=False)
    """The same of the relative drop; infinite past setting 0 where it has no meaning."""

    def __post_init__(self) -> None:
        check_count("n", self.n, OWNER)
        columns = len(CONFIDENCES)
        for name in ("upper", "upper_relative"):
            bounds = getattr(self, name)
            check_array(name, bounds, 2, OWNER)
            sound = bool(np.all(bounds[0] == 0) and np.all(bounds[1:] >= bounds[:-1]))
            check_rule(
                bounds.shape[1] == columns and sound and not np.isnan(bounds).any(),
                name,
                f"rises from 0 in {columns} columns",
                f"shape {bounds.shape}",
                OWNER,
            )


@dataclass(frozen=True, kw_only=True)
class Promise:
    """Settings along a fixed grid, and what can be promised at each."""

    thresholds: NDArray[np.float64] = field(repr=False)
    """The grid, falling from infinite to minus infinite, shape (m + 1,)."""
    shares: NDArray[np.float64] = field(repr=False)
    """Share of calls kept from the reference at each, shape (m + 1,), as measured."""
    looks: tuple[Look, ...]
    """The looks at labels, the last one the newest."""
    method: Method
    """The test."""

    def __post_init__(self) -> None:
        check_thresholds(self.thresholds, OWNER)
        points = len(self.thresholds)
        check_array("shares", self.shares, 1, OWNER)
        check_finite("shares", self.shares, OWNER)
        check_rule(len(self.shares) == points, "shares", "has one per threshold", points, OWNER)
        check_rule(self.method in METHODS, "method", f"is one of {METHODS}", self.method, OWNER)
        fits = all(len(look.upper) == len(look.upper_relative) == points for look in self.looks)
        check_rule(bool(self.looks) and fits, "looks", f"bound {points} settings", points, OWNER)

    def step(self, dial: Dial, confidence: float) -> int:
        """Find the cheapest setting that can be promised; 0 is all-reference, which always holds.

        Args:
            dial: A quality dial.
            confidence: In (0.5, 1).
        """
        column = next((i for i, known in enumerate(CONFIDENCES) if known >= confidence), None)
        if column is None:
            return 0
        return max(_step(look, dial, column) for look in self.looks)

    def share_within(self, dial: Dial, confidence: float) -> float:
        """Return the share of calls kept from the reference within a limit that is promised.

        Args:
            dial: A quality dial.
            confidence: In (0.5, 1).
        """
        return float(self.shares[self.step(dial, confidence)])

    @property
    def n(self) -> int:
        """Queries, or texts, that the newest look tested."""
        return self.looks[-1].n


def _step(look: Look, dial: Dial, column: int) -> int:
    bounds = look.upper if dial.name == "max_quality_drop_absolute" else look.upper_relative
    limit = dial.value * (1 + LAST_BITS)
    return max(0, int(np.searchsorted(bounds[:, column], limit, side="right")) - 1)


def take_look(
    thresholds: NDArray[np.float64],
    evidence: Evidence,
    *,
    relative: bool,
    error_share: float = FIRST_LOOK,
    critical: CriticalValues | None = None,
) -> Look:
    """Test every setting of a grid.

    Args:
        thresholds: The grid.
        evidence: What it is tested on; none of it cut the grid.
        relative: Whether a relative drop has a meaning.
        error_share: Share of the error this look has.
        critical: Critical values of `errors_of(error_share)`; found where not given.
    """
    known = critical or CriticalValues(errors_of(error_share))
    absolute = _absolute_drops(thresholds[1:], evidence, known) * evidence.span
    of_reference = np.full_like(absolute, np.inf)
    if relative:
        of_reference = _relative_drops(thresholds[1:], evidence, known)
    return Look(n=evidence.n, upper=_along(absolute), upper_relative=_along(of_reference))


def lift_look(
    look: Look, thresholds: NDArray[np.float64], evidence: Evidence, *, relative: bool
) -> Look:
    """Lift the bounds of an earlier look to what later labels measure, where that is more.

    More labels like the first leave the bounds as they are, but for chance. Where they are of
    queries on which more is lost, what the first showed does not hold of all of them.

    Args:
        look: The earlier look.
        thresholds: Its grid.
        evidence: The later labels, those of the look among them.
        relative: Whether a relative drop has a meaning.
    """
    routed = evidence.scores[None, :] >= thresholds[:, None]
    lost = routed @ (evidence.losses * evidence.weights) * (evidence.span / evidence.weights.sum())
    upper = np.maximum(look.upper, lost[:, None])
    of_reference = look.upper_relative
    if relative:
        whole = float(np.average(_absolute_quality(evidence), weights=evidence.weights))
        share = lost / whole if whole > 0 else np.where(lost > 0, np.inf, 0.0)
        of_reference = np.maximum(of_reference, share[:, None])
    return Look(n=look.n, upper=_along(upper[1:]), upper_relative=_along(of_reference[1:]))


def errors_of(error_share: float) -> tuple[float, ...]:
    """Return the error of a look's tests, per confidence."""
    return tuple((1 - confidence) * error_share for confidence in CONFIDENCES)


def _along(bounds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Make bounds of a setting and all before it, all-reference first."""
    start = np.zeros((1, bounds.shape[1]))
    return np.vstack([start, np.maximum.accumulate(bounds, axis=0)])


def _absolute_drops(
    thresholds: NDArray[np.float64], evidence: Evidence, critical: CriticalValues
) -> NDArray[np.float64]:
    """Bound the absolute drop, in parts of the range."""
    if evidence.method == "bets":
        losses = _losses(thresholds, evidence, np.ones(len(evidence.losses)))
        return upper_means(losses, critical.errors)
    routed = evidence.scores[None, :] >= thresholds[:, None]
    return upper_drops(absolute_pairs(evidence.losses, routed, evidence.counts), critical)


def _relative_drops(
    thresholds: NDArray[np.float64], evidence: Evidence, critical: CriticalValues
) -> NDArray[np.float64]:
    """Bound the drop as a part of the reference's mean quality."""
    if evidence.method == "bets" or evidence.bounds[0] != 0:
        losses = _losses(thresholds, evidence, _absolute_quality(evidence) / evidence.span)
        return upper_means(losses, critical.errors)
    routed = evidence.scores[None, :] >= thresholds[:, None]
    pairs = relative_pairs(evidence.losses, evidence.reference == 1, routed, evidence.counts)
    return upper_drops(pairs, critical)


def _absolute_quality(evidence: Evidence) -> NDArray[np.float64]:
    """Return the reference's absolute quality, in the metric's units."""
    least, most = absolute_range(evidence.bounds)
    return least + (most - least) * evidence.reference


def _losses(
    thresholds: NDArray[np.float64], evidence: Evidence, unit: NDArray[np.float64]
) -> Losses:
    first = np.searchsorted(-thresholds, -evidence.scores, side="left")
    return Losses(evidence.losses, unit, evidence.weights, first, len(thresholds))
