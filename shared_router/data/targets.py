"""The one rule for what stands where something is to be written: replaced only when told to."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import TYPE_CHECKING

from shared_router.data.output import check_folder, failures_path
from shared_router.data.schema import open_text
from shared_router.errors import DataError, HybridRoutingError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

DATA_FILE, FAILURES = "a data file", "a list of failures"
KINDS = {
    frozenset({"id", "query", "outcomes"}): DATA_FILE,
    frozenset({"id", "candidate", "scores", "router"}): "an output of score",
    frozenset({"id", "model", "sample", "stage", "error"}): FAILURES,
}
"""Fields of a line that tell what wrote it."""


def refuse_unless(
    force: bool, target: Path, held: str, error: type[HybridRoutingError] = DataError
) -> None:
    """Refuse to replace what stands there, unless told to.

    Args:
        force: Whether the user said so.
        target: The file or folder to be written.
        held: What it holds.
        error: The error to raise.

    Raises:
        HybridRoutingError: If not told to.
    """
    if not force:
        raise error(
            f"{target}: holds {held}; it is not replaced. Give another output, or replace it with "
            "--force (force=True)."
        )


def check_output(out: Path, sources: Iterable[Path], *, force: bool, devices: bool = False) -> None:
    """Check that a file may be written: it is new or empty, or may be replaced.

    Args:
        out: The file.
        sources: Files that are read, none of which may be `out`, whatever is told.
        force: Whether what stands there may be replaced.
        devices: Whether it may be a device or a pipe, which is written to.

    Raises:
        DataError: If it may not, so that nothing of value is overwritten.
    """
    if devices and _is_device(out):
        return
    check_folder(out)
    if stands(out):
        check_not_read(out, sources)
        refuse_unless(force, out, described(out))


def _is_device(out: Path) -> bool:
    try:
        return out.exists() and not out.is_file() and not out.is_dir()
    except OSError as error:
        raise unreachable(out, error) from error


def check_failures(out: Path, sources: Iterable[Path], *, force: bool) -> None:
    """Check that the list of failures beside an output may be written or removed.

    Raises:
        DataError: If something else stands there.
    """
    path = failures_path(out)
    if stands(path) and (held := described(path)) != FAILURES:
        check_not_read(path, sources)
        refuse_unless(force, path, f"{held}, where the failures are to be listed")


def check_not_read(out: Path, sources: Iterable[Path]) -> None:
    """Check that an output is none of the files that are read.

    Raises:
        DataError: If it is one, by whatever name.
    """
    for source in sources:
        try:
            same = source.exists() and out.exists() and out.samefile(source)
        except OSError as error:
            raise unreachable(out, error) from error
        if same:
            raise DataError(f"{out}: is the file that is read; give another output.")


def stands(out: Path) -> bool:
    """Tell whether a file stands there that is not empty.

    Raises:
        DataError: If it is a folder or a device, or cannot be reached.
    """
    try:
        if not out.exists():
            return False
        if out.is_file():
            return out.stat().st_size > 0
    except OSError as error:
        raise unreachable(out, error) from error
    raise DataError(f"{out}: is no regular file; give another output.")


def unreachable(out: Path, error: OSError) -> DataError:
    """Say that a file cannot be looked at."""
    return DataError(f"{out}: cannot be reached ({error.strerror}); give permission.")


def described(path: Path) -> str:
    """Say in words what a file holds, by its first line."""
    try:
        with open_text(path, "r") as lines:
            row = json.loads(lines.readline())
    except (OSError, EOFError, ValueError, RecursionError, zlib.error, gzip.BadGzipFile):
        return "a file of another kind"
    if isinstance(row, dict):
        for fields, kind in KINDS.items():
            if fields <= set(row):
                return kind
    return "a file of another kind"
