"""What the task input and output of a graph are called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shared_router.asking.task_labels import labels_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class TaskNames:
    """What the columns of a graph's task input and output are called."""

    labels: tuple[str, ...] = ()
    """Labels a call can give: tasks and suites."""
    told: tuple[str, ...] = ()
    """Tasks the graph tells by the text."""

    def known(self, task: str | None) -> str | None:
        """Find the narrowest known label that a task answers to."""
        return next((label for label in labels_of(task) if label in self.labels), None)

    def row(self, task: str | None) -> NDArray[np.float32]:
        """Mark the narrowest known label that a task answers to, shape (len(labels),)."""
        row = np.zeros(len(self.labels), dtype=np.float32)
        known = self.known(task)
        if known is not None:
            row[self.labels.index(known)] = 1.0
        return row
