"""Names of files and folders in the making, which tell whose they are and what they become."""

from __future__ import annotations

import hashlib
import itertools
import os
import platform
import re
import secrets
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = ".hybrid-llm-"
_SCRATCH = re.compile(
    re.escape(PREFIX) + r"(?P<place>[0-9a-f]{8})~(?P<process>\d+)~[0-9a-f]{8}\.(?P<of>.+)"
    rf"|(?:{re.escape(PREFIX)}|\.)\d+~\d+\.(?P<older_of>.+)",
    re.DOTALL,
)
"""Where a process number means something, the number, a random one, and the name to be written;
older versions told the number alone, which may be of any place."""
LONGEST_NAME = 100
"""Bytes of a name that stand in such a name; some file systems know 143 for the whole."""
LONGEST_ENDING = 16
LONG_AGO_S = 7 * 24 * 3600.0
"""Seconds without a change after which what another machine or container writes is left behind."""
_MINE: set[str] = set()


@contextmanager
def scratch_name(target: Path) -> Iterator[Path]:
    """Give a name beside a target, for a file or folder that is to take its place."""
    beside = target.with_name(_name(target))
    _MINE.add(beside.name)
    try:
        yield beside
    finally:
        _MINE.discard(beside.name)


def _name(target: Path, process: int | None = None) -> str:
    number = os.getpid() if process is None else process
    return f"{PREFIX}{_place()}~{number}~{secrets.token_hex(4)}.{_short(target.name)}"


def _short(name: str) -> str:
    """Keep a name, or its digest where it is long, and its ending, which says how it is written."""
    written = os.fsencode(name)
    if len(written) <= LONGEST_NAME:
        return name
    ending = Path(name).suffix
    kept = ending if len(os.fsencode(ending)) <= LONGEST_ENDING else ""
    return hashlib.sha256(written).hexdigest()[:32] + kept


def _place() -> str:
    """Tell by a few letters where process numbers are ours: machine, its start, container."""
    known = [platform.node()]
    with suppress(OSError):
        known.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
    with suppress(OSError):
        known.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(known).encode(errors="replace")).hexdigest()[:8]


def scratches_of(target: Path) -> list[Path]:
    """List what is, or was, in the making for a target; nothing where it cannot be listed."""
    beside: list[Path] = []
    with suppress(OSError):
        beside = sorted(target.parent.iterdir())
    return [path for path in beside if _of(path) == _short(target.name)]


def _of(scratch: Path) -> str | None:
    found = _SCRATCH.fullmatch(scratch.name)
    return found and (found["of"] or found["older_of"])


def is_left_behind(scratch: Path) -> bool:
    """Tell whether nobody writes it any more: its process is over, or of elsewhere and long ago."""
    dead = is_of_the_dead(scratch)
    return _is_old(scratch) if dead is None else dead


def is_of_the_dead(scratch: Path) -> bool | None:
    """Tell whether its process is over; `None` where that cannot be told from here."""
    found = _SCRATCH.fullmatch(scratch.name)
    if found is None or found["place"] != _place():
        return None
    process = int(found["process"])
    if process == os.getpid():  # a container's first process has the same number each time
        return scratch.name not in _MINE
    return not running(process)


def _is_old(scratch: Path) -> bool:
    try:
        return time.time() - scratch.stat().st_mtime > LONG_AGO_S
    except OSError:
        return False


def running(process: int) -> bool:
    """Tell whether a process of this machine is at work still."""
    if os.name == "nt":  # there, signal 0 is no question
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # someone else's
        return True
    return True


def free_names(target: Path, ending: str = "") -> Iterator[Path]:
    """Number names beside a target, `NAME-1` and on, its ending kept."""
    stem = target.name.removesuffix(ending)
    while len(os.fsencode(stem)) > 255 - len(os.fsencode(ending)) - 8:
        stem = stem[:-1]
    for number in itertools.count(1):
        yield target.with_name(f"{stem}-{number}{ending}")
