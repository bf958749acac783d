"""Files that are read twice, and must be the same both times."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from shared_router.bulk.runner import Rows
from shared_router.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from shared_router.bulk.runner import Row


class OfFile(Rows, Protocol):
    """Rows that come from one file."""

    @property
    def path(self) -> Path:
        """Return the file."""
        ...


@dataclass(frozen=True)
class Read:
    """What was seen when a file was read."""

    rows: int
    """Number of rows."""
    digest: str
    """SHA-256 of all rows."""
    size: int
    inode: int
    mtime_ns: int


@dataclass(frozen=True)
class SteadyRows:
    """Rows that were read before, and are to be the same again.

    What is read is compared, and what the system says of the file: a log may be appended to, cut,
    edited in place or rotated at any moment.
    """

    rows: OfFile
    first: Read

    def portable(self) -> SteadyRows:
        """Return the same, for a process that stands in another folder."""
        return dataclasses.replace(self, rows=self.rows.portable())

    def __call__(self) -> Iterator[Row]:
        """Read the rows again.

        Raises:
            DataError: If they are others, or the file is.
        """
        now = _stat(self.rows.path)
        if now != (self.first.size, self.first.inode, self.first.mtime_ns):
            raise self._changed()
        digest = hashlib.sha256()
        try:
            for row in self.rows():
                digest.update(_bytes(row))
                yield row
        except DataError as error:  # there was none at the first time
            raise self._changed(f" ({error})") from error
        size, inode, _ = _stat(self.rows.path)
        same = (digest.hexdigest(), size, inode)
        if same != (self.first.digest, self.first.size, self.first.inode):
            raise self._changed()

    def _changed(self, seen: str = "") -> DataError:
        return DataError(
            f"{self.rows.path}: changed while it was read{seen}; it is read twice and must stay as "
            "it is, so nothing was written. Make a copy of a file that others write to, and start "
            "again on that."
        )


def read_once(rows: OfFile) -> SteadyRows:
    """Read everything a first time: every row is checked, nothing is held.

    Raises:
        DataError: If a row breaks a rule.
    """
    return SteadyRows(rows, Reading(rows.path).whole(rows))


class Reading:
    """A first reading, under way."""

    def __init__(self, path: Path) -> None:
        self._count, self._digest = 0, hashlib.sha256()
        self._stat = _stat(path)

    def whole(self, rows: OfFile) -> Read:
        """Read to the end."""
        for row in rows():
            self.add(row)
        return self.read()

    def add(self, row: Row) -> None:
        """Take note of a row."""
        self._count += 1
        self._digest.update(_bytes(row))

    def read(self) -> Read:
        """Return what was seen."""
        return Read(self._count, self._digest.hexdigest(), *self._stat)


def _bytes(row: Row) -> bytes:
    return json.dumps(row).encode() + b"\n"


def _stat(path: Path) -> tuple[int, int, int]:
    """Return size, inode and time of change; none of them where the file is gone."""
    try:
        found = path.stat()
    except OSError:
        return -1, -1, -1
    return found.st_size, found.st_ino, found.st_mtime_ns
