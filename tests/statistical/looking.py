"""Routers with both lines in use, calibrated on queries and answers whose truth is known.

The scorers are the fakes of `shared_router.testing`: both read the number of a query of the
population, the one in the query, the other in the answer. All else is the path of a user's router.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from shared_router import Router
from shared_router.data.schema import Outcome, RoutingRecord
from shared_router.deciding.looks import Band, effective_scores
from shared_router.deciding.pooling import OutOfFold
from shared_router.options import Asked, Dial
from shared_router.serving.second_look import Pairs, SecondLook
from shared_router.testing import FixedAnswerScorer, FixedScorer
from tests.material import PAIR, dataset
from tests.statistical.populations import Population
from tests.statistical.simulating import CONFIDENCES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from shared_router import RoutingDataset

LIMITS, SIZES = (0.01, 0.02, 0.05), (200, 1000, 4000)
TRAINING = 2000
"""Training queries, whose pairs cut both grids; drawn once, as a router is fitted once."""
SAVINGS, AFTER = (1.0, 0.0), 1.05


@dataclass(frozen=True)
class Answering:
    """All queries there are, with what the small model answers to each."""

    name: str
    before: NDArray[np.float64]
    """Scores of the queries, shape (N,)."""
    answers: NDArray[np.float64]
    """Scores of the answers, shape (N,)."""
    right: NDArray[np.float64]
    """Chance that the small and the large model are right, shape (N, 2); 0 or 1 is certain."""
    width: float
    """Of the band."""

    @property
    def plain(self) -> Population:
        """The line without looks."""
        return Population(self.name, self.before, self.right, "paired")

    @property
    def looked(self) -> Population:
        """The line with looks."""
        band = Band(self.width, SAVINGS, AFTER)
        own = effective_scores(band, self.before[:, None], self.answers[:, None])
        return Population(self.name, own[:, 0], self.right, "paired")

    def router(self, rng: np.random.Generator) -> Router:
        """Make a router that scores both, its grids cut by training queries."""
        rows = rng.integers(0, len(self.before), TRAINING)
        scores, answers = self.before[rows, None], self.answers[rows, None]
        quality = _drawn(rng, self.right[rows])
        looks = SecondLook(
            scorer=FixedAnswerScorer(lambda text: float(self.answers[_row(text)])),
            width=self.width,
            after=AFTER,
            pays=True,
            pairs=Pairs(scores, answers, quality),
        )
        return Router(
            candidates=PAIR,
            scorer=FixedScorer(lambda text: float(self.before[_row(text)])),
            second_look=looks,
            out_of_fold=OutOfFold(scores, quality),
        )

    def draw(self, rng: np.random.Generator, n: int) -> RoutingDataset:
        """Draw queries with their answers and outcomes, each a text of its own."""
        rows = rng.integers(0, len(self.before), n)
        quality = _drawn(rng, self.right[rows]).tolist()
        told = enumerate(zip(rows.tolist(), quality, strict=True))
        return dataset(*(_record(at, row, own) for at, (row, own) in told))


def _row(text: str) -> int:
    return int(text.rpartition(" ")[2])


def _drawn(rng: np.random.Generator, chance: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(rng.random(chance.shape) < chance, dtype=np.float64)


def _record(at: int, row: int, quality: Sequence[float]) -> RoutingRecord:
    small = Outcome(quality=(quality[0],), response=(f"the answer to {row}",))
    outcomes = {"small": small, "large": Outcome(quality=(quality[1],))}
    return RoutingRecord(id=f"{at}", query=f"question {at} of {row}", outcomes=outcomes)


def telling(known: float, *, n: int = 40_000, seed: int = 0) -> Answering:
    """Make queries of which the answer tells a part of what the query leaves open.

    Args:
        known: How much of the small model's chance the answer's score tells, from 0 to 1; the rest
            of that score is noise.
        n: How many to make.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    seen, unseen = rng.uniform(-1, 1, (2, n))
    chance = np.clip(0.6 + 0.3 * seen + 0.6 * unseen, 0.02, 0.99)
    before = np.clip(0.6 + 0.3 * seen, 0, 1) - 0.95
    told = known * unseen + (1 - known) * rng.uniform(-1, 1, n)
    answers = np.clip(0.6 + 0.3 * seen + 0.6 * told, 0, 1) - 0.95
    right = np.stack([chance, np.full(n, 0.95)], axis=1)
    return Answering(f"told {known:g}", before, answers, right, width=0.2)


def both_on_the_limit(limit: float, gains: float = 0.02, *, n: int = 40_000) -> Answering:
    """Make queries on which both lines just break the limit at their first setting, each elsewhere.

    Each line routes a half first. Where the two halves do not overlap, so many lose that the half
    breaks the limit; where they do nobody loses. So what luck hides from one line it does not hide
    from the other: they are wrong independently.

    Args:
        limit: The relative limit.
        gains: Share of all queries that gain, in each of the two parts.
        n: How many to make, divisible by 4.
    """
    quarter, reference = n // 4, 0.8
    part = np.arange(n) // quarter  # 0: both route it, 1: the one without, 2: that with, 3: neither
    large = (np.arange(n) % 5 < 4).astype(np.float64)
    small = large.copy()
    lost, gained = round((limit * reference + gains) * n) + 1, round(gains * n)
    for own in (1, 2):
        small[np.flatnonzero((part == own) & (large == 1))[:lost]] = 0.0
        small[np.flatnonzero((part == own) & (large == 0))[:gained]] = 1.0
    small[part == 3] = 0.0
    before, answers = (np.isin(part, own).astype(np.float64) for own in ((0, 1), (0, 2)))
    right = np.stack([small, large], axis=1)
    return Answering(f"both on {limit:.0%}", before, answers * AFTER, right, width=2.0)


@dataclass(frozen=True)
class Cell:
    """One setting of the cross, over all its calibrations."""

    of: str
    n: int
    limit: float
    confidence: float
    calibrations: int
    broken: int
    """Calibrations in which either line breaks the limit."""
    broken_plain: int
    broken_looked: int
    plain: float
    """Mean share of queries that the line without looks keeps from the reference."""
    looked: float
    """The same with looks."""


def simulate(
    of: Answering,
    n: int,
    calibrations: int,
    limits: Sequence[float] = LIMITS,
    *,
    apart: bool = False,
) -> list[Cell]:
    """Calibrate again and again; all limits and confidences come out of each calibration.

    Args:
        of: The queries.
        n: Calibration queries.
        calibrations: How many.
        limits: Relative limits.
        apart: Whether each line is told that it serves alone, so that it has the whole error; then
            both together are wrong more often than was promised of either.
    """
    rng, cross = np.random.default_rng(n), list(product(limits, CONFIDENCES))
    router, lines = of.router(rng), (of.plain, of.looked)
    found = np.zeros((calibrations, len(cross), 2, 2))
    for own in found:
        thresholds = np.array(_thresholds(router, of.draw(rng, n), cross, apart=apart))
        for line, population in enumerate(lines):
            share, drop = population.measure(thresholds[line])
            own[:, line] = np.stack([share, drop > [limit for limit, _ in cross]], axis=1)
    return [
        Cell(
            of.name,
            n,
            limit,
            confidence,
            calibrations,
            int(found[:, at, :, 1].any(axis=1).sum()),
            *found[:, at, :, 1].sum(axis=0).astype(int).tolist(),
            *found[:, at, :, 0].mean(axis=0).tolist(),
        )
        for at, (limit, confidence) in enumerate(cross)
    ]


def _thresholds(
    router: Router, data: RoutingDataset, cross: Sequence[tuple[float, float]], *, apart: bool
) -> list[list[float]]:
    """Calibrate, and resolve each limit as a call does that writes it: on both lines."""
    plain = looked = router.calibrate(data)
    if apart:
        plain, looked = (router.calibrate(data, second_look=serves) for serves in (False, True))
    rules = looked.look_rules()
    assert rules is not None
    lines = plain.dialling(), rules.dialling
    asked = [Asked(Dial("max_quality_drop", limit), True, sure) for limit, sure in cross]
    return [[line.resolve(each).threshold for each in asked] for line in lines]
