"""What is said in the log once in a process, however often what says it is made again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

MOST_SAID = 1024
"""Messages remembered; past it, all are forgotten."""
_said: set[str] = set()


def warn_once(log: logging.Logger, message: str) -> None:
    """Log a warning, unless this process has logged the same one.

    An application is often built anew, as by a config that changes one of its fields: nothing
    new is told then.

    Args:
        log: The log.
        message: What is said.
    """
    if message in _said:
        return
    if len(_said) >= MOST_SAID:
        _said.clear()
    _said.add(message)
    log.warning("%s", message)


def forget_said() -> None:
    """Forget what was said, as a new process would."""
    _said.clear()
