"""Task labels: `suite/task`, and every suite by the part before a slash."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def labels_of(task: str | None) -> tuple[str, ...]:
    """List the labels a task answers to, narrowest first.

    Args:
        task: `suite/task`, `suite`, or `None`.

    Returns:
        The label itself, then each suite around it; nothing for `None` or an empty label.
    """
    if not task:
        return ()
    parts = task.split("/")
    return tuple("/".join(parts[:end]) for end in range(len(parts), 0, -1))


def answers_to(task: str | None, label: str) -> bool:
    """Tell whether a task is this label, or belongs to this suite."""
    return task is not None and (task == label or task.startswith(label + "/"))


def count_labels(tasks: Iterable[str | None]) -> Counter[str]:
    """Count the queries of every label, suites included."""
    return Counter(label for task in tasks for label in labels_of(task))
