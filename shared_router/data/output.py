"""Writing files whole or not at all, and never over what is not ours."""

from __future__ import annotations

import glob
import gzip
import os
import zlib
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

from shared_router.data.schema import open_text
from shared_router.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

START_AGAIN = "Make room or give permission, and start the same command again."


def failures_path(out: Path) -> Path:
    """Say where the failures of a run are listed."""
    return out.with_name(out.name + ".failed.jsonl")


@contextmanager
def replacing(path: Path, way_out: str = START_AGAIN) -> Iterator[IO[str]]:
    """Write beside `path` and put it there when complete and on disk; nothing where it is empty.

    Args:
        path: The file to write, gzip where it ends in `.gz`.
        way_out: What to tell a user whose disk is full or closed.

    Raises:
        DataError: If it cannot be written; an older file is left as it was.
    """
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        _clear_left_behind(path)
        with open_text(beside, "w") as lines:
            yield lines
            empty = lines.tell() == 0
        if not empty:
            with beside.open("rb") as written:
                os.fsync(written.fileno())
            beside.replace(path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror or error}). {way_out}"
        ) from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def _clear_left_behind(path: Path) -> None:
    """Remove what processes that were killed in the middle have left beside `path`."""
    for left in path.parent.glob(f".*.{glob.escape(path.name)}"):
        process = left.name[1 : -len(path.name) - 1]
        if process.isdigit() and not _running(int(process)):
            left.unlink(missing_ok=True)


def _running(process: int) -> bool:
    if os.name == "nt":  # there, signal 0 is no question
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # someone else's
        return True
    return True


def check_folder(out: Path) -> None:
    """Check that the folder of an output is there.

    Raises:
        DataError: If it is not.
    """
    try:
        if not out.parent.is_dir():
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


def check_new(out: Path) -> None:
    """Check that `out` is not there yet, or is empty.

    Raises:
        DataError: If it is, so that nothing that was measured is overwritten.
    """
    check_folder(out)
    try:
        there = out.exists() and (not out.is_file() or out.stat().st_size > 0)
    except OSError as error:
        raise DataError(f"{out}: cannot be reached ({error.strerror}); give permission.") from error
    if there:
        raise DataError(f"{out}: exists; it is not overwritten. Give another, or move it away.")


def check_replaceable(
    out: Path, sources: Sequence[Path], is_ours: Callable[[str], bool], what: str
) -> None:
    """Check that `out` is new, or an earlier output of the same kind.

    Args:
        out: The file to be written.
        sources: Files that are read; none of them may be `out`.
        is_ours: Tells by its first line whether a file is such an output.
        what: What such an output is called.

    Raises:
        DataError: If it is anything else, so that nothing of value is overwritten.
    """
    check_folder(out)
    try:
        if not out.exists():
            return
        for source in sources:
            if source.exists() and out.samefile(source):
                raise DataError(f"{out}: is the file that is read; give another output.")
        ours = out.is_file() and _first_line_is(out, is_ours)
    except OSError as error:
        raise DataError(f"{out}: cannot be reached ({error.strerror}); give permission.") from error
    if not ours:
        raise DataError(
            f"{out}: exists and is no {what}; it is not overwritten. Give another output, or move "
            "it away."
        )


def _first_line_is(path: Path, is_ours: Callable[[str], bool]) -> bool:
    try:
        with open_text(path, "r") as lines:
            first = lines.readline()
    except (EOFError, ValueError, zlib.error, gzip.BadGzipFile):  # not text, or broken gzip
        return False
    return not first or is_ours(first)
