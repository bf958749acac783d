"""The journal of a judge that is asked: every verdict, durable at once; what it cost."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sqlite3
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from shared_router.data.journal import JournalFile
from shared_router.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from shared_router.bulk.runner import Row
    from shared_router.bulk.steady import SteadyRows

TABLES = """
CREATE TABLE IF NOT EXISTS verdicts (
    query TEXT, model TEXT, sample INTEGER, asked TEXT, quality REAL, cost_usd REAL,
    PRIMARY KEY (query, model, sample, asked)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failed (cost_usd REAL);
"""
VERDICT = "INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?, ?, ?)"
FAILED = "INSERT INTO failed VALUES (?)"

Verdict = tuple[str, str, int, str, float, float | None]
"""Query id, model name, sample from 0, digest of what was asked, quality, dollars."""
Known = list[tuple[str, int, str, float]]
"""Verdicts of one query: model name, sample, digest of what was asked, quality."""


class JournalError(DataError):
    """The journal fails, and with it the run: it is no failure of one response."""


def asked_digest(query: str, response: str, answer: str | None) -> str:
    """Tell by a few letters what was asked: a verdict holds for nothing else."""
    asked = json.dumps([query, response, answer]).encode()
    return hashlib.sha256(asked).hexdigest()[:16]


class Verdicts:
    """An SQLite file beside the output; one process at a time, any of its threads."""

    def __init__(self, path: Path, *, judge: str) -> None:
        self._file = JournalFile(path, "judge", "OUT", JournalError)
        run = {"format": "judge 1", "judge": judge}
        self._lock = threading.Lock()
        self._broken: DataError | None = None
        self._verdicts: list[Verdict] = []
        self._lost_usd: list[float] = []
        """What is not on disk yet: it came back while the disk was full."""
        # A verdict holds for what was asked, whatever else stands in the data by now.
        self._db, _ = self._file.open(TABLES, run, any_thread=True, older=["data"])
        ((self.earlier, known),) = self._select("SELECT COUNT(*), TOTAL(cost_usd) FROM verdicts")
        ((lost,),) = self._select("SELECT TOTAL(cost_usd) FROM failed")
        self.spent_usd: float = known + lost

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # After a full disk the clean-up fails too; the error that matters is on its way.
        with self._lock:
            with suppress(sqlite3.Error):
                self._write()
            try:
                self._db.close()
            except sqlite3.Error as failed:
                if error is None:
                    raise self._file.explained(failed) from failed

    def add(self, verdicts: Sequence[Verdict], lost_usd: Sequence[float] = ()) -> None:
        """Keep verdicts, and what failures cost; on disk when this returns.

        Raises:
            JournalError: If the disk fails; they are written with what comes next, or at the end.
        """
        if not verdicts and not lost_usd:
            return
        with self._lock:
            self._verdicts += verdicts
            self._lost_usd += lost_usd
            self.spent_usd += sum(lost_usd) + sum(verdict[-1] or 0.0 for verdict in verdicts)
            try:
                self._write()
            except sqlite3.Error as error:
                self._broken = self._file.explained(error)
                raise self._broken from error

    def _write(self) -> None:
        if not self._verdicts and not self._lost_usd:
            return
        try:
            self._db.execute("BEGIN")
            self._db.executemany(VERDICT, self._verdicts)
            self._db.executemany(FAILED, [(usd,) for usd in self._lost_usd])
            self._db.execute("COMMIT")
        except sqlite3.Error:
            with suppress(sqlite3.Error):  # most often it is rolled back already
                self._db.execute("ROLLBACK")
            raise
        self._verdicts, self._lost_usd = [], []

    def check(self) -> None:
        """Check that a verdict could be kept, before one is paid for.

        Raises:
            JournalError: If the disk failed before.
        """
        if self._broken is not None:
            raise self._broken

    def of(self, query: str) -> Known:
        """Read what is known of one query."""
        return self._select(
            "SELECT model, sample, asked, quality FROM verdicts WHERE query = ?", query
        )

    def snapshot(self) -> Snapshot:
        """Read everything, for a process that cannot open this."""
        held: dict[str, Known] = {}
        for query, *known in self._select(
            "SELECT query, model, sample, asked, quality FROM verdicts"
        ):
            held.setdefault(query, []).append(tuple(known))
        return Snapshot(held)

    def _select(self, statement: str, *values: Any) -> list[Any]:
        with self._lock:
            try:
                return self._db.execute(statement, values).fetchall()
            except sqlite3.Error as error:
                raise self._file.explained(error) from error


@dataclass(frozen=True)
class Snapshot:
    """What was known at one moment, in memory."""

    held: dict[str, Known] = dataclasses.field(default_factory=dict, repr=False)

    def of(self, query: str) -> Known:
        """Return what is known of one query."""
        return self.held.get(query, [])

    def snapshot(self) -> Snapshot:
        """Return the same."""
        return self


class Knows(Protocol):
    """Verdicts by query."""

    def of(self, query: str) -> Known:
        """Return what is known of one query."""
        ...

    def snapshot(self) -> Snapshot:
        """Return the same, to be sent to another process."""
        ...


@dataclass(frozen=True)
class RowsWithVerdicts:
    """Records, each with the verdicts that earlier starts had on it, as `known`."""

    rows: SteadyRows
    verdicts: Knows

    def portable(self) -> RowsWithVerdicts:
        """Hold the verdicts themselves, for a process that cannot open the journal."""
        return RowsWithVerdicts(self.rows.portable(), self.verdicts.snapshot())

    def __call__(self) -> Iterator[Row]:
        """Read the records."""
        for row in self.rows():
            yield row | {"known": self.verdicts.of(row["record"]["id"])}
