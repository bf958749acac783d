"""Putting a folder in the place of another, so that readers see the old one or the new one.

Where the system can, two names are exchanged at once. Elsewhere the old folder is moved away
first; what a writer leaves that is killed right then is put in place by the next one who looks.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from shared_router.data.output import sync_folder
from shared_router.data.scratch import (
    is_left_behind,
    is_of_the_dead,
    scratch_name,
    scratches_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NEW, OLD = "new", "old"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_CANNOT = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EXDEV, errno.EPERM)
MOST_SWAPS = 100
WAIT_S = 0.01
QUIET = 3
"""How often in a row nobody is seen at a folder, where nobody is: writers come one by one."""


@contextmanager
def scratch_beside(folder: Path) -> Iterator[Path]:
    """Give an empty folder on the same disk, removed at the end; leftovers are removed first."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    clear_left_behind(folder)
    with scratch_name(folder) as scratch:
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
            if scratch.exists() and not new.exists():
                pass  # a reader elsewhere has put it in place, between two steps
            elif not folder.exists():
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


def clear_left_behind(folder: Path) -> None:
    """Remove what killed writers of a folder have left, after finishing what they were at."""
    for scratch in scratches_of(folder):
        if scratch.is_dir() and is_left_behind(scratch) and not _recovered(scratch, folder):
            shutil.rmtree(scratch, ignore_errors=True)


def _recovered(scratch: Path, folder: Path) -> bool:
    """Finish what a writer was killed at between its two steps."""
    if not (scratch / NEW).is_dir() or not (scratch / OLD).is_dir() or folder.exists():
        return False
    with suppress(OSError):  # a reader may not write here
        (scratch / NEW).replace(folder)
        if is_left_behind(scratch):
            shutil.rmtree(scratch, ignore_errors=True)
    return True


def found_again(folder: Path) -> bool:
    """Tell whether a folder is there, if a writer is at it between two steps or was killed."""
    quiet = 0
    for _ in range(MOST_SWAPS):
        if folder.exists():
            return True
        at_it = [scratch for scratch in scratches_of(folder) if (scratch / OLD).is_dir()]
        quiet = 0 if at_it else quiet + 1
        if quiet == QUIET:
            break
        for scratch in at_it:
            if is_of_the_dead(scratch) is not False:  # nor harm done where it is alive elsewhere
                _recovered(scratch, folder)
        time.sleep(WAIT_S / 10 if quiet else WAIT_S)
    return folder.exists()
