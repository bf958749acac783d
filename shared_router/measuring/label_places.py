"""Where labels stand in a picture: beside their points, on no other label, on lines if they must.

Pure geometry in pixels; each label takes the place that costs least, one after another, and again
when all the others stand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Offset = tuple[float, float]
"""From a point to the middle of its label, in typographic points."""
AIR, MARK = 6.0, 15.0
"""Pixels that a label leaves free around itself, and around a point's mark."""
ROUNDS = 3
"""How often each label is placed."""
CLOSE = 9.0
"""Typographic points from a point to the nearest edge of its label."""
ON_LABEL, ON_MARK, ON_LEVEL, ON_LINE, CROSSING, FAR = 10.0, 8000.0, 1500.0, 250.0, 1500.0, 12.0
"""What it costs: a square pixel on another label or off the page, a mark, a level, a point of a
line, a point of a leader on a label, a typographic point of distance."""


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    x0: float
    y0: float
    x1: float
    y1: float

    def padded(self, by: float) -> Box:
        """Widen it on all sides."""
        return Box(self.x0 - by, self.y0 - by, self.x1 + by, self.y1 + by)

    def shared(self, other: Box) -> float:
        """Area that both cover."""
        wide = min(self.x1, other.x1) - max(self.x0, other.x0)
        high = min(self.y1, other.y1) - max(self.y0, other.y0)
        return max(0.0, wide) * max(0.0, high)

    @property
    def area(self) -> float:
        """Its area."""
        return (self.x1 - self.x0) * (self.y1 - self.y0)

    def holds(self, points: NDArray[np.float64]) -> int:
        """Count the points, shape (m, 2), that lie within."""
        x, y = points[:, 0], points[:, 1]
        inside = (x >= self.x0) & (x <= self.x1) & (y >= self.y0) & (y <= self.y1)
        return int(inside.sum())


@dataclass(frozen=True)
class Page:
    """What is drawn before any label."""

    edge: Box
    """What labels stay within."""
    lines: NDArray[np.float64]
    """Points along lines, shape (p, 2)."""
    marks: NDArray[np.float64]
    """Points that have a label or a mark, shape (m, 2)."""
    levels: Sequence[float]
    """Heights of horizontal lines."""
    per_point: float
    """Pixels in a typographic point."""


def places(
    at: NDArray[np.float64],
    sizes: Sequence[tuple[float, float]],
    page: Page,
    taken: Sequence[Box] = (),
) -> list[Offset]:
    """Place labels.

    Args:
        at: The points they belong to, shape (l, 2).
        sizes: Width and height of each label in pixels.
        page: What is drawn already.
        taken: Other words.

    Returns:
        The offset of each label.
    """
    found: dict[int, tuple[Offset, Box]] = {}
    for turn in range(ROUNDS * len(sizes)):
        mine = turn % len(sizes)
        others = [(other, box) for other, (_, box) in found.items() if other != mine]
        boxes = [*taken, *(box for _, box in others)]
        leaders = [_leader(at[other], box) for other, box in others]
        found[mine] = _best(at[mine], sizes[mine], page, boxes, leaders)
    return [found[label][0] for label in range(len(sizes))]


def _best(
    point: NDArray[np.float64],
    size: tuple[float, float],
    page: Page,
    taken: Sequence[Box],
    leaders: Sequence[NDArray[np.float64]],
) -> tuple[Offset, Box]:
    """Find the cheapest place of one label."""
    choices = {offset: _box(point, offset, size, page) for offset in _offsets(size, page)}
    costs = {
        offset: _cost(box, offset, taken, page)
        + _crossing(point, box, taken, leaders)
        + _over_marks(point, box, page)
        for offset, box in choices.items()
    }
    best = min(costs, key=costs.__getitem__)
    return best, choices[best]


def _offsets(size: tuple[float, float], page: Page) -> list[Offset]:
    """List offsets, near ones first, that leave the point itself free."""
    wide, high = (length / 2 / page.per_point for length in size)
    across = [
        0.0,
        *(way * (wide + gap) for gap in (-30, CLOSE, 25, 50, 85, 130) for way in (1, -1)),
    ]
    up = [0.0, *(way * (high + gap) for gap in (-6, CLOSE, 22, 40, 65, 95, 130) for way in (1, -1))]
    return [(x, y) for y in up for x in across if abs(x) >= wide + CLOSE or abs(y) >= high + CLOSE]


def _box(point: NDArray[np.float64], offset: Offset, size: tuple[float, float], page: Page) -> Box:
    x, y = point + np.array(offset) * page.per_point
    wide, high = size
    return Box(x - wide / 2, y - high / 2, x + wide / 2, y + high / 2)


def _cost(box: Box, offset: Offset, taken: Sequence[Box], page: Page) -> float:
    wider = box.padded(AIR)
    over = sum(wider.shared(other) for other in taken)
    off = wider.area - wider.shared(page.edge)
    on_levels = sum(wider.y0 <= level <= wider.y1 for level in page.levels)
    return (
        ON_LABEL * (over + off)
        + ON_MARK * box.padded(MARK).holds(page.marks)
        + ON_LINE * wider.holds(page.lines)
        + ON_LEVEL * on_levels
        + FAR * (abs(offset[0]) + abs(offset[1]))
    )


def _leader(point: NDArray[np.float64], box: Box) -> NDArray[np.float64]:
    """Return points along the line from a point to its label."""
    end = np.array([(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2])
    along: NDArray[np.float64] = point + np.linspace(0, 1, 40)[:, None] * (end - point)
    return along


def _crossing(
    point: NDArray[np.float64],
    box: Box,
    taken: Sequence[Box],
    leaders: Sequence[NDArray[np.float64]],
) -> float:
    """Tell how bad it is that a leader crosses other labels, or lies under this one."""
    line, near = _leader(point, box), box.padded(AIR / 2)
    crossed = sum(other.padded(AIR / 2).holds(line) for other in taken)
    return CROSSING * (crossed + sum(near.holds(other) for other in leaders))


def _over_marks(point: NDArray[np.float64], box: Box, page: Page) -> float:
    """Tell how bad it is that a leader runs over other marks."""
    others = page.marks[np.abs(page.marks - point).max(axis=1) > 1]
    apart = np.abs(others[:, None] - _leader(point, box)[None]).max(axis=2)
    return ON_MARK * float((apart.min(axis=1, initial=np.inf) < MARK).sum())
