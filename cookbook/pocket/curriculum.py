"""Which kinds and difficulties a training run draws: the ones it gets wrong, once it is ready."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cookbook.pocket.questions import CELLS, Cell, Question, draw

if TYPE_CHECKING:
    import random

OUTSIDE = 0.01
"""Weight of a cell outside the syllabus."""
_DECAY = 0.97
_FLOOR = 0.15
"""The least weight of a mastered cell."""
_UNREADY = 0.5
"""The least weight left to a cell whose easier sibling is not mastered."""


@dataclass
class Curriculum:
    """Draws training questions by how often each cell was answered rightly of late."""

    syllabus: tuple[Cell, ...] = CELLS
    """Cells of full weight."""
    accuracy: dict[Cell, float] = field(default_factory=lambda: dict.fromkeys(CELLS, 0.0))

    def weights(self) -> list[float]:
        """Return each cell's weight: its error, held back until the easier one is known."""
        return [self._weight(cell) for cell in CELLS]

    def _weight(self, cell: Cell) -> float:
        wanted = self._readiness(cell) * (1.0 if cell in self.syllabus else OUTSIDE)
        return (_FLOOR + 1 - self.accuracy[cell]) * wanted

    def draw(self, rng: random.Random, count: int) -> list[Question]:
        """Draw a pool of training questions at the weights of the moment."""
        return [draw(rng, cell, "train") for cell in rng.choices(CELLS, self.weights(), k=count)]

    def record(self, cells: list[Cell], right: list[bool]) -> None:
        """Learn from one batch which questions came out exactly right."""
        for cell, hit in zip(cells, right, strict=True):
            self.accuracy[cell] += (1 - _DECAY) * (hit - self.accuracy[cell])

    def _readiness(self, cell: Cell) -> float:
        kind, difficulty = cell
        return 1.0 if difficulty == 1 else max(_UNREADY, self.accuracy[kind, difficulty - 1])

    def state(self) -> list[float]:
        """Return the accuracies in the order of the cells, for a checkpoint."""
        return [self.accuracy[cell] for cell in CELLS]

    def restore(self, state: list[float]) -> None:
        """Take up a checkpoint's accuracies."""
        self.accuracy = dict(zip(CELLS, state, strict=True))
