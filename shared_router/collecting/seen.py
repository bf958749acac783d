"""Ids seen so far, counted in bounded memory."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

CACHE_KIB = 64 * 1024
"""Memory kept for ids; what is beyond goes to a temporary file."""


class SeenIds:
    """Counts how often each id was added, in `CACHE_KIB` of memory."""

    def __init__(self) -> None:
        # An empty name is a private database: in memory while it is small, then on disk.
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("CREATE TABLE seen (id BLOB PRIMARY KEY, times INTEGER) WITHOUT ROWID")
        self._db.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._db.close()

    def add(self, id_: str) -> int:
        """Add an id.

        Returns:
            How often it was added, this time included.
        """
        key = (id_.encode("utf-8", "surrogatepass"),)
        if self._db.execute("INSERT OR IGNORE INTO seen VALUES (?, 1)", key).rowcount:
            return 1
        self._db.execute("UPDATE seen SET times = times + 1 WHERE id = ?", key)
        return int(self._db.execute("SELECT times FROM seen WHERE id = ?", key).fetchone()[0])
