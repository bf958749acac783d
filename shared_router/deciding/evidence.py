"""What a promise is tested on: one loss per distinct text, and how it may be tested."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from shared_router.deciding.walk import one_sign

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Method = Literal["paired", "bets"]
"""The exact paired test of right-or-wrong quality, or of quality rounded to it; or a mixture of
bets."""
METHODS: tuple[Method, ...] = get_args(Method)
UNIT = (0.0, 1.0)
"""Bounds of a quality that states none and lies within."""
COARSE = 3.0
"""Mean size of a loss over its mean square, up to which rounded quality, tested exactly, promises
more than bets: rounding makes the variance so many times as great."""


@dataclass(frozen=True)
class Evidence:
    """What is tested, in an order that ids alone decide.

    Queries for the exact test; for bets texts, with how often each came.
    """

    scores: NDArray[np.float64]
    """Scores, shape (n,)."""
    losses: NDArray[np.float64]
    """Quality of the reference less that of the other candidate, shape (n,), in the range's parts:
    each in [-1, 1]."""
    reference: NDArray[np.float64]
    """Absolute quality of the reference, shape (n,), from 0 at the least there can be to 1."""
    weights: NDArray[np.float64]
    """How often each came, shape (n,); the exact test takes each query for itself."""
    bounds: tuple[float, float]
    """Least and greatest quality there can be."""
    method: Method
    """How they are tested; fixed by what is measured and how often, never by what came out."""
    counts: float = 1.0
    """What a query counts in the exact test: 1, and less where texts repeat."""

    @property
    def n(self) -> int:
        """Queries, or texts, that count."""
        return counted(len(self.losses), self.counts)

    @property
    def span(self) -> float:
        """The range's width, in the metric's units."""
        return self.bounds[1] - self.bounds[0]


def counted(count: int, counts: float, *, up: bool = False) -> int:
    """Count queries where each counts so much, rounded down unless told otherwise."""
    return math.ceil(count * counts - 1e-9) if up else math.floor(count * counts + 1e-9)


def absolute_range(bounds: tuple[float, float]) -> tuple[float, float]:
    """Return the least and the greatest absolute value within bounds."""
    low, high = sorted(map(abs, bounds))
    return (low, high) if one_sign(bounds) else (0.0, high)


def quality_bounds(
    qualities: Sequence[NDArray[np.floating]], given: tuple[float, float] | None
) -> tuple[float, float] | None:
    """Return the bounds of a quality: as stated, or 0 and 1 where all lies within; else `None`."""
    if given is not None:
        return given
    least = min(float(each.min()) for each in qualities)
    most = max(float(each.max()) for each in qualities)
    return UNIT if least >= UNIT[0] and most <= UNIT[1] else None


def gather_evidence(
    ids: Sequence[str],
    texts: Sequence[str],
    scores: NDArray[np.floating],
    samples: tuple[Sequence[NDArray[np.floating]], Sequence[NDArray[np.floating]]],
    bounds: tuple[float, float],
    *,
    rounding: bool = False,
) -> Evidence:
    """Gather the losses of queries, in an order that their ids alone decide.

    Copies of a text are one cluster: for bets they are one loss, which weighs as much as they are.
    For the exact test the number of queries is divided by the design effect of the copies, as if a
    text lost all of its copies or none (Korn and Graubard, Survey Methodology 24 (1998): exact
    intervals at an effective sample size). With n texts that came twice each, n count.

    For the exact test a quality between the bounds counts as right with the chance that it is of
    the way from the one to the other. Both models' are rounded by one number, drawn by the query's
    id, so that equal qualities stay equal and no mean changes.

    Args:
        ids: Ids of the queries.
        texts: Their texts; repeated ones are one cluster.
        scores: Their scores, shape (n,).
        samples: Sampled qualities of each query, of the other candidate and of the reference.
        bounds: Least and greatest quality there can be.
        rounding: Whether graded quality is rounded, as `is_coarse` says; else it is bet on.

    Returns:
        The evidence.
    """
    low, high = bounds
    every = np.concatenate([np.concatenate(list(own)) for own in samples])
    clusters = _clusters(ids, texts)
    if rounding or bool(np.isin(every, bounds).all()):
        method: Method = "paired"
        first = np.array(sorted(range(len(ids)), key=lambda row: _hashed(ids[row])), dtype=np.intp)
        weights, counts = np.ones(len(ids)), _design(clusters)
        small, large = ([_rounded(own[row], ids[row], bounds) for row in first] for own in samples)
    else:
        method, counts = "bets", 1.0
        first = np.array([rows[0] for rows in clusters], dtype=np.intp)
        weights = np.array([len(rows) for rows in clusters], dtype=np.float64)
        small, large = ([_mean(own, rows) for rows in clusters] for own in samples)
    q_small, q_large = np.array(small, dtype=np.float64), np.array(large, dtype=np.float64)
    least, most = absolute_range(bounds)
    return Evidence(
        np.asarray(scores, dtype=np.float64)[first],
        (q_large - q_small) / (high - low),
        (np.abs(q_large) - least) / (most - least),
        weights,
        bounds,
        method,
        counts,
    )


def _clusters(ids: Sequence[str], texts: Sequence[str]) -> list[list[int]]:
    """Find the rows of each text, in the order of their ids' hashes."""
    found: dict[str, list[int]] = defaultdict(list)
    for row, text in enumerate(texts):
        found[" ".join(text.split())].append(row)
    members = [sorted(rows, key=lambda row: _hashed(ids[row])) for rows in found.values()]
    return sorted(members, key=lambda rows: _hashed(ids[rows[0]]))


def _design(clusters: Sequence[Sequence[int]]) -> float:
    """Compute the inverse of the design effect of clusters whose members all fare alike."""
    sizes = [len(rows) for rows in clusters]
    return sum(sizes) / sum(size**2 for size in sizes)


def is_coarse(quality: NDArray[np.floating], bounds: tuple[float, float]) -> bool:
    """Tell whether graded quality is better rounded than bet on, by queries that are not tested.

    Args:
        quality: Of the other candidate and of the reference, shape (m, 2).
        bounds: Least and greatest quality there can be.
    """
    losses = (quality[:, 1] - quality[:, 0]) / (bounds[1] - bounds[0])
    return float(np.abs(losses).mean()) <= COARSE * float((losses**2).mean())


def _rounded(samples: NDArray[np.floating], id_: str, bounds: tuple[float, float]) -> float:
    """Round a query's mean quality to one of the bounds, by its id."""
    low, high = bounds
    return high if _uniform(id_, "drawn") < (float(samples.mean()) - low) / (high - low) else low


def _mean(samples: Sequence[NDArray[np.floating]], rows: Sequence[int]) -> float:
    return float(np.mean([samples[row].mean() for row in rows]))


def cutters(ids: Sequence[str], least: int, share: float) -> NDArray[np.bool_]:
    """Choose queries whose scores alone cut a grid, by a hash of their ids.

    Args:
        ids: Ids of the queries.
        least: Fewest of them.
        share: Share of all queries.
    """
    order = sorted(range(len(ids)), key=lambda row: _hashed(ids[row]))
    chosen = np.zeros(len(ids), dtype=bool)
    chosen[order[: max(least, int(len(ids) * share))]] = True
    return chosen


def _hashed(id_: str, purpose: str = "") -> bytes:
    return hashlib.blake2b(
        id_.encode("utf-8", "surrogatepass"), digest_size=8, person=purpose.encode()
    ).digest()


def _uniform(id_: str, purpose: str) -> float:
    """Draw a number in [0, 1) by an id."""
    return int.from_bytes(_hashed(id_, purpose), "big") / 2**64
