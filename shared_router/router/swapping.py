"""Putting a folder in the place of another, so that readers see the old one or the new one.

Where the system can, two names are exchanged at once. Elsewhere the old folder is moved away
first; what a writer leaves that is killed right then is put in place by the next one who looks.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import re
import shutil
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from shared_router.data.output import running, sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PREFIX = ".hybrid-llm-"
_SCRATCH = re.compile(re.escape(PREFIX) + r"(\d+)~\d+\.(.+)", re.DOTALL)
"""A writer's folder: its process, its how many-th, and the name of the folder it writes."""
OF_OLDER_VERSIONS = re.compile(re.escape(PREFIX) + r"[a-z0-9_]{8}")
OLD_S = 3600.0
"""Seconds after which such a folder, which names no process, is of a dead one."""
NEW, OLD = "new", "old"
_NUMBERS = itertools.count()
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_CANNOT = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EXDEV, errno.EPERM)
MOST_SWAPS = 100
WAIT_S = 0.01


@contextmanager
def scratch_beside(folder: Path) -> Iterator[Path]:
    """Give an empty folder on the same disk, removed at the end; leftovers are removed first."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    clear_left_behind(folder.parent)
    scratch = folder.with_name(f"{PREFIX}{os.getpid()}~{next(_NUMBERS)}.{folder.name}")
    scratch.mkdir(mode=0o700)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def put_in_place(scratch: Path, folder: Path) -> None:
    """Put `new` of a scratch folder in the place of a folder, which need not be there.

    Raises:
        OSError: If it cannot be done; the folder is as it was.
    """
    new = scratch / NEW
    for _ in range(MOST_SWAPS):  # others may save here at the same time
        try:
            if not folder.exists():
                new.replace(folder)
            elif not exchanged(new, folder):
                _swap_in_two_steps(scratch, folder)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            sync_folder(folder.parent)
            return
    raise OSError(errno.EBUSY, "others write there all the time")


def _swap_in_two_steps(scratch: Path, folder: Path) -> None:
    old = scratch / OLD
    folder.replace(old)
    try:
        (scratch / NEW).replace(folder)
    except OSError:
        with suppress(OSError):  # where another writer was quicker, its folder stays
            old.replace(folder)
        shutil.rmtree(old, ignore_errors=True)
        raise


def exchanged(one: Path, other: Path) -> bool:
    """Exchange two names at once; `False` where the system cannot.

    Raises:
        OSError: If it can, and does not.
    """
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if _linux() else None
    if call is None:
        return False
    names = os.fsencode(one), os.fsencode(other)
    if call(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number), str(other))


def _linux() -> bool:
    return sys.platform == "linux"


def clear_left_behind(parent: Path) -> None:
    """Remove what killed writers have left, after putting in place what they were about to."""
    with suppress(OSError):  # a folder that may be written to and not listed
        for scratch in sorted(parent.glob(f"{PREFIX}*")):
            if _is_left_behind(scratch) and not _recovered(scratch) and _is_worthless(scratch):
                shutil.rmtree(scratch, ignore_errors=True)


def _is_left_behind(scratch: Path) -> bool:
    if found := _SCRATCH.fullmatch(scratch.name):
        return not running(int(found[1]))
    named = OF_OLDER_VERSIONS.fullmatch(scratch.name) is not None
    return named and time.time() - scratch.stat().st_mtime > OLD_S


def _recovered(scratch: Path) -> bool:
    """Finish what a writer was killed at between its two steps."""
    found = _SCRATCH.fullmatch(scratch.name)
    if found is None or not (scratch / NEW).is_dir() or not (scratch / OLD).is_dir():
        return False
    folder = scratch.with_name(found[2])
    if folder.exists():
        return False
    with suppress(OSError):  # a reader may not write here
        (scratch / NEW).replace(folder)
        shutil.rmtree(scratch, ignore_errors=True)
    return True


def _is_worthless(scratch: Path) -> bool:
    """Tell whether it holds no router that is nowhere else: older versions name no folder."""
    both = (scratch / NEW).is_dir() and (scratch / OLD).is_dir()
    return not both or _SCRATCH.fullmatch(scratch.name) is not None


def found_again(folder: Path) -> bool:
    """Tell whether a folder is there, if a writer is at it between two steps or was killed."""
    for _ in range(MOST_SWAPS):
        if folder.exists():
            return True
        writers = [
            scratch
            for scratch in folder.parent.glob(f"{PREFIX}*")
            if (of := _SCRATCH.fullmatch(scratch.name)) and of[2] == folder.name
        ]
        if not any((scratch / OLD).is_dir() for scratch in writers):
            return folder.exists()
        if not any(_is_left_behind(scratch) and _recovered(scratch) for scratch in writers):
            time.sleep(WAIT_S)
    return folder.exists()
