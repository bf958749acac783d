"""Writing files whole or not at all, and never over what is not ours."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from shared_router.data.schema import open_text
from shared_router.data.scratch import free_names, is_left_behind, scratch_name, scratches_of
from shared_router.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

START_AGAIN = "Make room or give permission, and start the same command again."


def failures_path(out: Path) -> Path:
    """Say where the failures of a run are listed."""
    return out.with_name(out.name + ".failed.jsonl")


@contextmanager
def replacing(
    path: Path,
    way_out: str = START_AGAIN,
    *,
    even_empty: bool = False,
    about_to: Callable[[Path], None] | None = None,
) -> Iterator[IO[str]]:
    """Write beside `path` and put it there when complete and on disk; nothing where it is empty.

    Args:
        path: The file to write, gzip where it ends in `.gz`.
        way_out: What to tell a user whose disk is full or closed.
        even_empty: Whether an empty file is put there too.
        about_to: Called with the complete file before it is put in place. Where it refuses with a
            `DataError`, the file is kept beside `path`, under a name that is free.

    Raises:
        DataError: If it cannot be written; an older file is left as it was.
    """
    with _placing(path, way_out, about_to) as place:
        with open_text(place.beside, "w") as lines:
            yield lines
            empty = lines.seekable() and lines.tell() == 0
        place.wanted = even_empty or not empty


def write_whole(path: Path, content: bytes) -> None:
    """Write a file at once or not at all.

    Raises:
        DataError: If it cannot be written; an older file is left as it was.
    """
    with placing(path) as beside:
        beside.write_bytes(content)


@contextmanager
def placing(path: Path, way_out: str = START_AGAIN) -> Iterator[Path]:
    """Give the name of a file to write; what is written there takes the place of `path`.

    A link stays, and what it points at is replaced; a device or a pipe is written to.

    Raises:
        DataError: If it cannot be written, or nothing was; an older file is left as it was.
    """
    with _placing(path, way_out) as place:
        yield place.beside


@dataclass
class _Place:
    """Where to write, and whether it is to be put in place."""

    beside: Path
    wanted: bool = True


@contextmanager
def _placing(
    path: Path, way_out: str, about_to: Callable[[Path], None] | None = None
) -> Iterator[_Place]:
    try:
        if path.exists() and not path.is_file():
            yield _Place(path)
            return
        target = Path(os.path.realpath(path))
        _check_writable(target)
        _clear_left_behind(target)
        with scratch_name(target) as beside:
            try:
                yield (place := _Place(beside))
                if place.wanted:
                    _settle(beside, target, about_to)
            finally:
                with suppress(OSError):
                    beside.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror or error}). {way_out}"
        ) from error


def _check_writable(target: Path) -> None:
    """Heed a file's write protection, which putting another in its place would pass by."""
    own = os.access in os.supports_effective_ids
    if target.exists() and not os.access(target, os.W_OK, effective_ids=own):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _settle(beside: Path, target: Path, about_to: Callable[[Path], None] | None) -> None:
    if not beside.exists():
        raise FileNotFoundError(errno.ENOENT, f"another program removed {beside.name} meanwhile")
    sync(beside)
    if about_to is not None:
        try:
            about_to(beside)
        except DataError as refused:
            raise DataError(f"{refused} What was made is in {_kept(beside, target)}.") from refused
    if target.exists():
        keep_owner(target, beside)
    beside.replace(target)
    sync_folder(target.parent)


def _kept(beside: Path, target: Path) -> Path:
    """Keep a complete file under a name that is free."""
    gzipped = target.suffix if target.suffix == ".gz" else ""
    ending = Path(target.name.removesuffix(gzipped)).suffix + gzipped
    for free in free_names(target, ending):
        with suppress(FileExistsError):
            free.touch(exist_ok=False)
            beside.replace(free)
            sync_folder(free.parent)
            return free
    raise AssertionError


def keep_owner(old: Path, new: Path) -> None:
    """Give what replaces a file or a folder its permissions, and where possible its owner."""
    was, now = old.stat(), new.stat()
    with suppress(OSError, AttributeError):  # no chown on Windows
        if (was.st_uid, was.st_gid) != (now.st_uid, now.st_gid):
            os.chown(new, was.st_uid, was.st_gid)
    with suppress(OSError):
        new.chmod(stat.S_IMODE(was.st_mode))


def sync(path: Path) -> None:
    """Have a file on disk."""
    with path.open("rb") as written:
        os.fsync(written.fileno())


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on disk, where the system can."""
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def _clear_left_behind(target: Path) -> None:
    """Remove what writers of a file that were killed in the middle have left."""
    for scratch in scratches_of(target):
        with suppress(OSError):
            if scratch.is_file() and is_left_behind(scratch):
                scratch.unlink(missing_ok=True)


def check_folder(out: Path) -> None:
    """Check that the folder of an output is there.

    Raises:
        DataError: If it is not.
    """
    try:
        if not Path(os.path.realpath(out)).parent.is_dir():
            raise DataError(f"{out}: its folder does not exist; make it first.")
    except OSError as error:
        raise DataError(f"{out}: cannot be reached ({error.strerror}); give permission.") from error


def check_regular(source: Path) -> None:
    """Check that a file can be read twice; that it exists is left to its reader.

    Raises:
        DataError: If it is a folder, a pipe or a device.
    """
    if source.exists() and not source.is_file():
        raise DataError(f"{source}: is no regular file, and it is read twice; write it to one.")
