"""What the picture of a report shows, as numbers: the curve, its band, and settings on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from shared_router.measuring.bootstrap import LEVEL, resampled_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from shared_router.deciding.walk import Walk

Kind = Literal["promised", "estimated", "asked", "candidate", "mix"]
SHOWN = 101
"""Points of the curve."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One setting, model or mix."""

    name: str
    """What it is."""
    kind: Kind
    """What it is drawn as."""
    cost_advantage: float
    """Share of calls kept from the reference."""
    drop: float
    """Drop in quality."""
    usd_per_1000: float | None = None
    """Dollars per 1,000 calls, where known."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """The router's line over some queries; drops as fractions, or in the metric's units."""

    shares: NDArray[np.float64] = field(repr=False)
    """Shares of calls kept from the reference, shape (m,), from 0 to 1."""
    drop: NDArray[np.float64] = field(repr=False)
    """The drop there, shape (m,)."""
    low: NDArray[np.float64] = field(repr=False)
    """Lower end of its 95 % bootstrap interval, shape (m,)."""
    high: NDArray[np.float64] = field(repr=False)
    """Upper end, shape (m,)."""
    relative: bool
    """Whether drops are told relative to the reference's mean."""
    points: tuple[Point, ...] = ()
    """What is shown beside the line."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON-ready values."""
        lines = ("shares", "drop", "low", "high")
        return {name: getattr(self, name).tolist() for name in lines} | {
            "relative": self.relative,
            "points": [vars(point) for point in self.points],
        }


def picture_of(
    walk: Walk, resamples: int, *, relative: bool, points: Sequence[Point] = ()
) -> Picture:
    """Measure a router's line and its band, on the same resamples as all figures.

    Args:
        walk: The router's line over the queries.
        resamples: Bootstrap resamples behind the band.
        relative: Whether drops are told relative to the reference's mean.
        points: What is shown beside it.

    Returns:
        The picture.
    """
    shares = np.linspace(0, 1, SHOWN)

    def drops(weights: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        known, quality = walk.line(weights)
        scale = abs(float(quality[0])) if relative and quality[0] else 1.0
        return np.asarray(np.interp(shares, known, (quality[0] - quality) / scale))

    tail = (1 - LEVEL) / 2
    drawn = [drops(weights) for weights in resampled_weights(walk.n, resamples)]
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0) if drawn else (drops(), drops())
    return Picture(
        shares=shares,
        drop=drops(),
        low=low,
        high=high,
        relative=relative,
        points=tuple(points),
    )
