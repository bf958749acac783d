"""The journal of a collect: every finished call, durable at once, so that a run can be resumed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from shared_router.data.answers import AUTO, kept_logprobs
from shared_router.data.journal import JournalFile
from shared_router.records import AnswerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from shared_router.collecting.sources import SourceQuery
    from shared_router.data.answers import Answer, Sampling
    from shared_router.errors import DataError

TABLES = """
CREATE TABLE IF NOT EXISTS answers (
    query TEXT, model TEXT, sample INTEGER, response TEXT, input_tokens INTEGER,
    output_tokens INTEGER, cost_usd REAL, error TEXT, PRIMARY KEY (query, model, sample));
CREATE TABLE IF NOT EXISTS judgements (
    query TEXT, model TEXT, sample INTEGER, judge TEXT, quality REAL, cost_usd REAL, error TEXT,
    PRIMARY KEY (query, model, sample, judge));
CREATE TABLE IF NOT EXISTS forgotten (cost_usd REAL);
CREATE TABLE IF NOT EXISTS written (sha256 TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS names (model TEXT, name TEXT, PRIMARY KEY (model, name));
CREATE TABLE IF NOT EXISTS made (
    query TEXT, model TEXT, sample INTEGER, logprobs TEXT, settings TEXT,
    PRIMARY KEY (query, model, sample));
"""
"""What came later has a table of its own: a journal of an older version gets it when it is opened,
and an older version goes on with a newer one's journal."""
JUDGED = (
    "answers a LEFT JOIN judgements j ON j.query = a.query AND j.model = a.model "
    "AND j.sample = a.sample AND j.judge = ? "
    "LEFT JOIN made m ON m.query = a.query AND m.model = a.model AND m.sample = a.sample"
)
"""Each answer with one judge's judgement of it, and with how it was made."""
ANSWER = "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
JUDGEMENT = "INSERT INTO judgements VALUES (?, ?, ?, ?, ?, ?, ?)"
MADE = "INSERT INTO made VALUES (?, ?, ?, ?, ?)"
NAME = "INSERT OR IGNORE INTO names VALUES (?, ?)"

Key = tuple[str, str, int]
"""Query id, model name, sample from 0."""


@dataclass(frozen=True, kw_only=True)
class StoredCall:
    """One row of the journal: a sampled response and how good it is."""

    model: str
    """Name of the model."""
    sample: int
    """Number of the sample, from 0."""
    response: str | None = field(repr=False)
    """The response; `None` where the call failed for good."""
    cost_usd: float | None
    """Cost of the call; `None` where unknown."""
    ask_error: str | None
    """Kind of the error that ended the call."""
    quality: float | None
    """The judge's score; `None` where it failed or has not judged yet."""
    judge_error: str | None
    """Kind of the error that ended the judging."""
    logprobs: tuple[float, ...] | None = field(repr=False)
    """Natural log-probabilities of the response's tokens; `None` where it came without."""
    settings: AnswerSettings | None
    """How the response was made; `None` where that is unknown."""


def fingerprint(
    queries: Sequence[SourceQuery],
    models: Sequence[str],
    samples: int,
    specs: Mapping[str, str],
    sampling: Sampling,
) -> dict[str, str]:
    """Say which run this is: what must be equal for answers to belong together."""
    asked = [[query.id, query.text, query.task, query.answer] for query in queries]
    return {
        "format": "1",
        "queries": _sha256(asked),
        "models": ", ".join(models),
        "samples": str(samples),
        # Hashed: a SPEC may hold a URL with a password.
        "specs": _sha256([specs.get(name) for name in models]),
        **{name: str(value) for name, value in sampling.keywords(0).items()},
        # As it was before there was a choice, where none is made.
        **({} if sampling.logprobs == AUTO else {"logprobs": str(sampling.logprobs)}),
    }


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


class Journal:
    """An SQLite file beside the output; one process at a time.

    Reads and writes happen in one thread of its own, and concurrent writes share one commit.
    """

    def __init__(self, path: Path, run: Mapping[str, str]) -> None:
        self._file = JournalFile(path, "collect")
        self.new = True
        """Whether it was made by this start."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="collect-journal")
        self._waiting: list[tuple[str, Sequence[Any]]] = []
        self._added = self._written = 0
        self._named: set[tuple[str, str]] = set()
        self._turn = asyncio.Lock()
        self._broken: DataError | None = None
        try:
            self._db: sqlite3.Connection = self._thread.submit(self._open, run).result()
        except BaseException:
            self._thread.shutdown()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A full disk fails the clean-up too; the error that matters is already on its way.
        self._thread.submit(self._close).result()
        self._thread.shutdown()

    def _close(self) -> None:
        try:
            self._db.close()
        except sqlite3.Error:
            if self._broken is None:
                raise

    def _open(self, run: Mapping[str, str]) -> sqlite3.Connection:
        db, self.new = self._file.open(TABLES, run)
        if self.new:  # journals of older versions note nothing
            db.execute("INSERT OR IGNORE INTO written VALUES ('')")
        return db

    async def add_answer(self, key: Key, *values: Any) -> None:
        """Record a finished call: response, input and output tokens, dollars, error kind."""
        self._add(ANSWER, (*key, *values))
        await self.flush()

    def add_made(self, key: Key, answer: Answer) -> None:
        """Record how an answer was made and how likely its tokens were, with the next row."""
        known = kept_logprobs(answer.logprobs)
        settings = answer.settings
        if known is None and settings is None:
            return
        told = settings.model_copy(update={"logprobs": known is not None}) if settings else None
        logprobs = json.dumps(known) if known else None
        made = told.model_dump_json(exclude_none=True) if told else None
        self._add(MADE, (*key, logprobs, made))

    def add_names(self, model: str, names: Sequence[str]) -> None:
        """Record what else a model is called, with the next row that is written."""
        for name in names:
            if (model, name) not in self._named:
                self._named.add((model, name))
                self._add(NAME, (model, name))

    async def add_judgement(self, key: Key, *values: Any, wait: bool) -> None:
        """Record a finished judging: judge, quality, dollars, error kind.

        Without `wait` it is written with the next row: what costs nothing may be judged again.
        """
        self._add(JUDGEMENT, (*key, *values))
        if wait:
            await self.flush()

    async def flush(self) -> None:
        """Write what waits.

        Raises:
            DataError: If the disk fails, now or before.
        """
        mine = self._added
        async with self._turn:  # whoever has the turn commits the rows of all who wait
            if self._written < mine and self._broken is None:
                rows, self._waiting, upto = self._waiting, [], self._added
                await self._run(self._commit, rows)
                self._written = upto
        if self._broken is not None:
            raise self._broken

    def _add(self, statement: str, values: Sequence[Any]) -> None:
        self._waiting.append((statement, values))
        self._added += 1

    def _commit(self, rows: Sequence[tuple[str, Sequence[Any]]]) -> None:
        try:
            self._db.execute("BEGIN")
            for statement, values in rows:
                self._db.execute(statement, values)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._broken = self._file.explained(error)
            raise self._broken from error

    async def _run(self, work: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    async def select(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Read rows."""
        return list(await self._run(lambda: self._db.execute(statement, values).fetchall()))

    async def forget_failures(self, judge: str | None) -> None:
        """Drop what failed for good, so that it is tried again."""
        await self._run(self._forget, judge or "")

    def _forget(self, judge: str) -> None:
        """Drop failures, and keep what they cost: it counts towards a limit in dollars."""
        failed = {
            "answers WHERE error IS NOT NULL": (),
            "judgements WHERE error IS NOT NULL AND judge = ?": (judge,),
        }
        self._db.execute("BEGIN")
        for rows, values in failed.items():
            self._db.execute(f"INSERT INTO forgotten SELECT TOTAL(cost_usd) FROM {rows}", values)  # noqa: S608
            self._db.execute(f"DELETE FROM {rows}", values)  # noqa: S608
        self._db.execute("COMMIT")

    async def answered(self) -> set[Key]:
        """List the calls that are finished, well or badly."""
        return set(await self.select("SELECT query, model, sample FROM answers"))

    async def to_judge(self, judge: str) -> set[Key]:
        """List the answers that this judge has not seen."""
        rows = await self.select(
            "SELECT query, model, sample FROM answers WHERE error IS NULL EXCEPT "
            "SELECT query, model, sample FROM judgements WHERE judge = ?",
            judge,
        )
        return set(rows)

    async def response(self, key: Key) -> str:
        """Read one recorded response."""
        statement = "SELECT response FROM answers WHERE query = ? AND model = ? AND sample = ?"
        ((text,),) = await self.select(statement, *key)
        return str(text)

    async def spent_usd(self) -> float:
        """Sum the dollars of all calls and judgements, those of earlier starts included."""
        tables = ("answers", "judgements", "forgotten")
        sums = [await self.select(f"SELECT TOTAL(cost_usd) FROM {name}") for name in tables]  # noqa: S608
        return float(sum(rows[0][0] for rows in sums))

    async def aliases(self) -> dict[str, tuple[str, ...]]:
        """Read what else each model is called, in the order in which it was told."""
        found: dict[str, tuple[str, ...]] = {}
        for model, name in await self.select("SELECT model, name FROM names ORDER BY rowid"):
            found[model] = (*found.get(model, ()), name)
        return found

    async def heard(self) -> set[str]:
        """List the models that have answered at least once."""
        rows = await self.select("SELECT DISTINCT model FROM answers WHERE error IS NULL")
        return {str(name) for (name,) in rows}

    async def tallies(self, judge: str | None) -> list[tuple[Any, ...]]:
        """Count each model's answers and failures, and average its qualities query by query."""
        return await self.select(
            "SELECT model, SUM(answered), SUM(failed), SUM(known), AVG(quality) FROM ("  # noqa: S608
            "SELECT a.model AS model, COUNT(a.response) AS answered, "
            "COUNT(a.error) + COUNT(j.error) AS failed, COUNT(m.logprobs) AS known, "
            f"AVG(j.quality) AS quality FROM {JUDGED} GROUP BY a.query, a.model) GROUP BY model",
            judge or "",
        )

    async def unvaried(self) -> list[str]:
        """List the models whose samples of a query were all alike, on every query."""
        rows = await self.select(
            "SELECT model FROM (SELECT model, COUNT(*) AS samples, COUNT(DISTINCT response) AS "
            "kinds FROM answers WHERE error IS NULL GROUP BY query, model) GROUP BY model "
            "HAVING MAX(kinds) = 1 AND MAX(samples) > 1 ORDER BY model"
        )
        return [str(name) for (name,) in rows]

    async def written(self) -> set[str] | None:
        """List the digests of the data files that were written from this journal.

        `None` where it is of a version that did not note them.
        """
        found = {str(digest) for (digest,) in await self.select("SELECT sha256 FROM written")}
        return found or None

    def note_written(self, sha256: str) -> None:
        """Note a data file before it is put in place; for callers outside of the journal."""
        row = ("INSERT OR IGNORE INTO written VALUES (?)", (sha256,))
        self._thread.submit(self._commit, [row]).result()

    async def calls_of(self, query: str, judge: str) -> list[StoredCall]:
        """Read all calls of one query, samples in order."""
        rows = await self.select(
            "SELECT a.model, a.sample, a.response, a.cost_usd, a.error, j.quality, j.error, "  # noqa: S608
            f"m.logprobs, m.settings FROM {JUDGED} WHERE a.query = ? ORDER BY a.sample",
            judge,
            query,
        )
        return [_stored(*row) for row in rows]


def _stored(*row: Any) -> StoredCall:
    *columns, logprobs, settings = row
    told = [
        tuple(json.loads(logprobs)) if logprobs else None,
        AnswerSettings.model_validate_json(settings) if settings else None,
    ]
    names = StoredCall.__dataclass_fields__
    return StoredCall(**dict(zip(names, [*columns, *told], strict=True)))
