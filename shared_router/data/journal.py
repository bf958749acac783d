"""What journals share: an SQLite file beside an output, of one run, for one process at a time."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared_router.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

RUN = "CREATE TABLE IF NOT EXISTS run (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"


def journal_path(out: Path) -> Path:
    """Say where the journal of a run lies."""
    return out.with_name(out.name + ".journal")


@dataclass(frozen=True)
class JournalFile:
    """Where a journal lies, and what to say of it."""

    path: Path
    work: str
    """Name of the command."""
    output: str = "--out"
    """What the command calls its output."""
    error: type[DataError] = DataError
    """What to raise where it cannot be read or written."""

    def open(
        self,
        tables: str,
        run: Mapping[str, str],
        *,
        any_thread: bool = False,
        older: Collection[str] = (),
    ) -> tuple[sqlite3.Connection, bool]:
        """Open or make it.

        Args:
            tables: Statements that make the tables, each ended by a semicolon.
            run: Says which run this is.
            any_thread: Whether other threads may use it; one at a time.
            older: What older versions said of a run besides, which no longer matters.

        Returns:
            The database, each statement a commit of its own, and whether it is new.

        Raises:
            DataError: If it is another run's, in use, or cannot be written.
        """
        try:
            db = sqlite3.connect(
                self.path, timeout=0.2, isolation_level=None, check_same_thread=not any_thread
            )
            try:
                return db, self._prepare(db, tables, run, older)
            except BaseException:
                db.close()
                raise
        except sqlite3.Error as error:
            raise self.explained(error) from error

    def _prepare(
        self,
        db: sqlite3.Connection,
        tables: str,
        run: Mapping[str, str],
        older: Collection[str],
    ) -> bool:
        # Exclusive: a second process at the same output would ask everything twice. The system
        # drops the lock with the process, however it ends.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("BEGIN EXCLUSIVE")
        for statement in (RUN + tables).split(";"):
            db.execute(statement)
        stored = dict(db.execute("SELECT key, value FROM run"))
        if not stored:
            db.executemany("INSERT INTO run VALUES (?, ?)", run.items())
        elif (told := {key: stored[key] for key in stored if key not in older}) != run:
            if _holds_anything(db):
                self._refuse(told, run)
            db.execute("DELETE FROM run")  # nothing was answered yet: it becomes this run's
            db.executemany("INSERT INTO run VALUES (?, ?)", run.items())
        db.execute("COMMIT")
        return not stored

    def _refuse(self, stored: Mapping[str, str], run: Mapping[str, str]) -> None:
        other = [key for key in {**run, **stored} if stored.get(key) != run.get(key)]
        shown = ", ".join(
            f"{key} ({stored.get(key, 'none')} there, {run.get(key, 'none')} now)" for key in other
        )
        raise DataError(
            f"{self.path}: this is the journal of another run, with other {shown}. Start that run "
            f"again as it was, give another {self.output}, or remove the journal to start anew."
        )

    def explained(self, error: sqlite3.Error) -> DataError:
        """Say what is wrong, and the way out."""
        if "locked" in str(error):
            return self.error(
                f"{self.path}: another {self.work} is at work on this output; let it finish, or "
                f"give another {self.output}."
            )
        if isinstance(error, sqlite3.OperationalError):
            return self.error(
                f"{self.path}: cannot be written ({error}). Everything recorded so far is safe: "
                "make room or give permission, and start the same command again."
            )
        return self.error(f"{self.path}: this is no journal of a {self.work} ({error}).")


def _holds_anything(db: sqlite3.Connection) -> bool:
    """Tell whether anything came back, in any table but those of the run and of its outputs."""
    tables = db.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT IN ('run', 'written')"
    )
    return any(
        db.execute(f'SELECT EXISTS (SELECT 1 FROM "{name}")').fetchone()[0]  # noqa: S608
        for (name,) in tables.fetchall()
    )
