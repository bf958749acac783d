"""Drawing calibrations: what is promised, beside the central limit theorem and the old rule."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from shared_router.deciding.curve import calibration_curve
from shared_router.deciding.paired_test import CriticalValues
from shared_router.deciding.pooling import OutOfFold, pooled_curve
from shared_router.deciding.promise import (
    FIRST_LOOK,
    Promise,
    cut_grid,
    error_of_look,
    errors_of,
    take_look,
)
from shared_router.deciding.rule import Rule
from shared_router.options import Dial
from tests.statistical.populations import first

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from shared_router.deciding.curve import CalibrationCurve
    from shared_router.deciding.promise import Look
    from tests.statistical.populations import Population

LIMITS, CONFIDENCES, SIZES = (0.01, 0.02, 0.05, 0.1), (0.8, 0.9, 0.95), (130, 500, 1276, 5000)
CUTTING = 4000
"""Training queries, drawn anew each time: their out-of-fold scores cut the grid."""
PAIR = Rule("gap", np.array([1.0, 0.0]))


@cache
def critical_values_of(n: int, error_share: float) -> CriticalValues:
    """Keep the critical values of about so many queries, over all populations."""
    return CriticalValues(errors_of(error_share))


def dial(limit: float) -> Dial:
    return Dial("max_quality_drop", limit)


@dataclass(frozen=True)
class Cell:
    """One setting of the cross, over all its calibrations."""

    of: str
    n: int
    limit: float
    confidence: float
    calibrations: int
    promised: float
    """Mean share of queries routed under the promise."""
    broken: int
    """Calibrations whose promise is broken."""
    refused: float
    """Share of calibrations that promise nothing."""
    clt: float
    """Mean share routed where the central limit theorem is believed."""
    clt_broken: float
    old_broken: float
    """Share of calibrations in which the cheapest point that fits breaks the limit."""
    old_drop: float
    """Mean drop at that point."""

    @property
    def power(self) -> float:
        """The share promised as a part of the central limit theorem's."""
        return self.promised / self.clt if self.clt else 1.0


def simulate(
    population: Population, n: int, calibrations: int, limits: Sequence[float] = LIMITS
) -> list[Cell]:
    """Calibrate again and again; all limits and confidences come out of each calibration."""
    rng, cross = np.random.default_rng(n), list(product(limits, CONFIDENCES))
    found = np.array([_calibrated(population, rng, n, cross) for _ in range(calibrations)])
    broken = found[:, :, 1].sum(axis=0).astype(int).tolist()
    cells = zip(cross, found.mean(axis=0).tolist(), broken, strict=True)
    return [
        Cell(population.name, n, limit, confidence, calibrations, mean[0], many, *mean[2:])
        for (limit, confidence), mean, many in cells
    ]


def _calibrated(
    population: Population,
    rng: np.random.Generator,
    n: int,
    cross: Sequence[tuple[float, float]],
) -> NDArray[np.float64]:
    """Calibrate once; per limit and confidence, what a cell takes the mean of."""
    grid, rows = cut_grid(population.scores[population.rows(rng, CUTTING)]), population.rows(rng, n)
    evidence, allowed = population.evidence(rng, rows), np.array([limit for limit, _ in cross])
    look = take_look(grid, evidence, relative=True, critical=critical_values_of(n, FIRST_LOOK))
    promise = promise_of(population, grid, [look])
    steps = np.array([promise.step(dial(limit), confidence) for limit, confidence in cross])
    graded = population.quality[rows]
    believed = [clt_step(grid, evidence.scores, graded, *cell) for cell in cross]
    curve = calibration_curve(PAIR, population.scores[rows, None], graded)
    share, drop = population.measure(grid[steps])
    clt, clt_drop = population.measure(grid[believed])
    old = population.measure(np.array([curve.resolve(dial(limit)) for limit in allowed]))[1]
    return np.stack(
        [share, drop > allowed, steps == 0, clt, clt_drop > allowed, old > allowed, old], axis=1
    )


def promise_of(population: Population, grid: NDArray[np.float64], looks: Sequence[Look]) -> Promise:
    return Promise(
        thresholds=grid,
        shares=population.measure(grid)[0],
        looks=tuple(looks),
        method=population.method,
    )


def clt_step(
    grid: NDArray[np.float64],
    scores: NDArray[np.float64],
    quality: NDArray[np.float64],
    limit: float,
    confidence: float,
) -> int:
    """Walk the same grid, believing that a mean over its standard error is normal."""
    routed_by = np.searchsorted(-grid[1:], -scores, side="left")
    lost, part, n = quality[:, 1] - quality[:, 0], limit * quality[:, 1], len(quality)

    def routed(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.cumsum(np.bincount(routed_by, values, len(grid))[: len(grid) - 1]) / n

    mean = routed(lost) - part.mean()
    square = routed(lost**2) - 2 * routed(lost * part) + (part**2).mean()
    error = np.sqrt(np.maximum(square - mean**2, 0) / n)
    failed = np.flatnonzero(mean > NormalDist().inv_cdf(1 - confidence) * error)
    return int(failed[0]) if len(failed) else len(grid) - 1


def looked_at_six_times(
    population: Population, calibrations: int, sizes: Sequence[int]
) -> dict[tuple[float, float], float]:
    """Look at growing labels; the share of calibrations in which any promise in force is broken."""
    rng = np.random.default_rng(6)
    criticals = [
        critical_values_of(n, error_of_look(look)) for look, n in enumerate(sizes, start=1)
    ]
    broken = dict.fromkeys(product(LIMITS, CONFIDENCES), 0)
    for _ in range(calibrations):
        grid = cut_grid(population.scores[population.rows(rng, CUTTING)])
        everything = population.evidence(rng, population.rows(rng, sizes[-1]))
        looks, drops = [], population.measure(grid)[1]
        in_force = dict.fromkeys(broken, 0)
        for n, critical in zip(sizes, criticals, strict=True):
            evidence = first(everything, n)
            looks.append(take_look(grid, evidence, relative=True, critical=critical))
            promise = promise_of(population, grid, looks)
            for limit, confidence in broken:
                step = promise.step(dial(limit), confidence)
                in_force[limit, confidence] |= bool(drops[step] > limit)
        for key, any_broken in in_force.items():
            broken[key] += any_broken
    return {key: count / calibrations for key, count in broken.items()}


def estimated(
    population: Population, n: int, calibrations: int
) -> dict[float, tuple[float, float]]:
    """Follow the estimate, of training and calibration queries drawn anew each time.

    Returns:
        Per limit, the mean relative drop, and the mean share routed.
    """
    rng, found = np.random.default_rng(n), []
    for _ in range(calibrations):
        curve = estimate(population, population.rows(rng, CUTTING), population.rows(rng, n))
        at = np.array([curve.resolve(dial(limit)) for limit in LIMITS])
        found.append(population.measure(at)[::-1])
    drops, shares = np.mean(found, axis=0)
    return dict(zip(LIMITS, zip(drops.tolist(), shares.tolist(), strict=True), strict=True))


def estimate(
    population: Population, training: NDArray[np.intp], rows: NDArray[np.intp]
) -> CalibrationCurve:
    """Measure the line on both, the training queries as they are scored out of fold."""
    scores, quality = population.scores[:, None], population.quality
    curve = calibration_curve(PAIR, scores[rows], quality[rows])
    return pooled_curve(PAIR, curve, OutOfFold(scores[training], quality[training]))


@dataclass(frozen=True)
class Followed:
    """What a stored default came to, over all calibrations."""

    promised: float
    """Share of calibrations that promise it; the others follow the estimate."""
    share: float
    """Mean share routed."""
    drop: float
    """Mean relative drop."""
    broken: float
    """Share of the promises that are broken."""


def follow_default(
    population: Population, n: int, calibrations: int, limit: float, confidence: float
) -> Followed:
    """Take the promise where there is one, else the estimate."""
    rng, critical = np.random.default_rng(n), critical_values_of(n, FIRST_LOOK)
    found = np.zeros((calibrations, 4))
    for own in found:
        training, rows = population.rows(rng, CUTTING), population.rows(rng, n)
        grid = cut_grid(population.scores[training])
        look = take_look(grid, population.evidence(rng, rows), relative=True, critical=critical)
        step = promise_of(population, grid, [look]).step(dial(limit), confidence)
        at = grid[step]
        if step == 0:
            at = estimate(population, training, rows).resolve(dial(limit))
        share, drop = population.measure(np.array([at]))
        own[:] = step > 0, share[0], drop[0], step > 0 and drop[0] > limit
    promised, share, drop, broken = found.mean(axis=0).tolist()
    return Followed(promised, share, drop, broken / promised if promised else 0.0)
