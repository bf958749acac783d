"""Telling whoever waits how far long work is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, what is done of it, and its total."""


def counter(progress: Progress | None, stage: str, total: int) -> Callable[[int], None] | None:
    """Turn a stage's progress into a function that is told of increments."""
    if progress is None:
        return None
    done = 0

    def advance(n: int) -> None:
        nonlocal done
        done += n
        progress(stage, done, total)

    return advance
