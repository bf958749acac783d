"""Judge recorded responses, for the first time or anew, and write a data file of the qualities."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from shared_router.bulk.engine import LocalEngine
from shared_router.bulk.judge_work import JudgeWork, is_asked
from shared_router.bulk.meter import Meter
from shared_router.bulk.rows import RecordRows
from shared_router.data.collect_calls import Limits
from shared_router.data.output import (
    check_new,
    check_regular,
    check_replaceable,
    failures_path,
    replacing,
)
from shared_router.data.right_answers import NoTexts
from shared_router.errors import DataError, JudgeError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    from shared_router.bulk.engine import Engine, Row
    from shared_router.bulk.meter import Told
    from shared_router.data.answers import Judge
    from shared_router.data.right_answers import ReferenceTexts

GIVE_UP_AFTER = 20
"""Failures in a row of a judge that is asked, nonsense apart, after which a run stops."""
NONSENSE = JudgeError.__name__


@dataclass(frozen=True, kw_only=True)
class JudgeReport:
    """What a run left behind."""

    out: Path | None
    """The data file; `None` where no response could be judged."""
    judge: str
    """Name of the judge, its settings included."""
    records: int
    """Queries in the data file."""
    responses: int
    """Responses judged."""
    failed: int
    """Responses that could not be judged, listed in `failures`; so are records without an answer
    to compare with, and outcomes without a recorded response."""
    failures: Path | None
    """The list of failures, JSON lines; `None` where nothing failed."""
    quality: dict[str, float]
    """Model to the mean of its new qualities."""
    spent_usd: float
    """What the judge cost in US dollars; 0 where no price is known."""
    seconds: float
    """Time the run took, the check of the input included."""

    @property
    def responses_per_second(self) -> float:
        """Rate of the whole run."""
        return self.responses / max(self.seconds, 1e-9)


def judge_file(
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    make: Callable[[], Judge],
    *,
    texts: ReferenceTexts | None = None,
    engine: Engine | None = None,
    concurrency: int = 8,
    timeout_s: float | None = 120.0,
    retries: int = 4,
    progress: Told | None = None,
) -> JudgeReport:
    """Judge the recorded responses of a data file, in bounded memory.

    The input is read twice: once to check and count it, and once to judge it. What cannot be
    judged is left out and listed in `OUT.failed.jsonl`, one JSON object per failure.

    Args:
        data: A data file with responses.
        out: The data file to write, whole or not at all; gzip where it ends in `.gz`.
        make: Makes the judge, once here and once per worker: a metric's class, or a `JudgeSpec`.
        texts: Where right answers come from; see `reference_texts`.
        engine: Where the work is done; in threads of this process by default.
        concurrency: Records in work at once per worker, where the judge is a model that is asked.
        timeout_s: Seconds one question to such a judge may take; `None` for no limit.
        retries: Further attempts after a failure of such a judge that may pass.
        progress: Called now and then.

    Returns:
        What was done.

    Raises:
        ConfigurationError: If an argument is wrong, or the judge cannot be made or loaded.
        DataError: If the input breaks a rule, nothing in it can be judged, or `out` is the input,
            is there already or cannot be written, or the judge failed `GIVE_UP_AFTER` times in a
            row.
        MissingExtraError: If the judge, or the engine, needs an extra that is not installed.
    """
    started_s = time.monotonic()
    source, target, judge = Path(data), Path(out), make()
    check_regular(source)
    check_new(target)
    check_replaceable(failures_path(target), [source], _is_failure, "list of failures")
    rows = RecordRows(source, texts or NoTexts())
    total = _checked(rows, judge)
    limits = _limits(concurrency, timeout_s, retries)
    work = JudgeWork(make, limits, concurrency if is_asked(judge) else 1)
    tally = _Tally(Meter(total, progress), is_asked(judge))
    with (
        listing(failures_path(target)) as failures,
        replacing(target) as lines,
        closing((engine or LocalEngine()).map(work, rows, total)) as judged,
    ):
        for some in judged:
            tally.add(some, lines, failures)
    return JudgeReport(
        out=target if tally.records else None,
        judge=judge.name,
        records=tally.records,
        responses=tally.judged.total(),
        failed=failures.count,
        failures=failures.path if failures.count else None,
        quality={name: tally.sums[name] / n for name, n in tally.judged.items()},
        spent_usd=tally.spent_usd,
        seconds=time.monotonic() - started_s,
    )


def _limits(concurrency: int, timeout_s: float | None, retries: int) -> Limits:
    return Limits(
        samples=1,
        concurrency=concurrency,
        requests_per_minute=None,
        timeout_s=timeout_s,
        retries=retries,
        max_usd=None,
        give_up_after=1,
    )


def _is_failure(line: str) -> bool:
    try:
        row = json.loads(line)
    except ValueError:
        return False
    known = {"id", "model", "sample", "stage", "error"}
    return isinstance(row, dict) and known == set(row) - {"reason"}


def _checked(rows: RecordRows, judge: Judge) -> int:
    """Read everything once, before any work.

    Returns:
        The number of records.
    """
    records = with_responses = with_both = 0
    for row in rows():
        records += 1
        there = any("response" in outcome for outcome in row["record"]["outcomes"].values())
        with_responses += there
        with_both += there and row["answer"] is not None
    if not records:
        raise DataError(f"{rows.path}: empty; there is nothing to judge.")
    if not with_responses:
        raise DataError(
            f"{rows.path}: no recorded responses in {records} records, so nothing can be judged; "
            "outcomes need a field 'response', which collect writes."
        )
    if judge.needs_answer and not with_both:
        raise DataError(
            f"judge {judge.name!r} compares with the right answer, and none of the "
            f"{with_responses} records with responses has one; {rows.texts.hint}"
        )
    return records


class Failures:
    """The list of what failed, written whole or not at all."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.path, self.count = path, 0
        self._stack = stack
        self._lines: IO[str] | None = None

    def add(self, failures: Sequence[Row]) -> None:
        """List failures."""
        for failure in failures:
            if self._lines is None:
                self._lines = self._stack.enter_context(replacing(self.path))
            self._lines.write(json.dumps(failure) + "\n")
            self.count += 1


@contextmanager
def listing(path: Path) -> Iterator[Failures]:
    """List failures in a file; where there are none at the end, no file is left."""
    with ExitStack() as stack:
        failures = Failures(path, stack)
        yield failures
    if not failures.count:
        path.unlink(missing_ok=True)


@dataclass
class _Tally:
    meter: Meter
    asked: bool
    """Whether the judge is a model that is asked: only such a one can be dead."""
    judged: Counter[str] = field(default_factory=Counter)
    sums: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    records: int = 0
    spent_usd: float = 0.0
    in_a_row: int = 0
    """Responses that the judge failed on since it last judged one."""

    def add(self, rows: list[Row], lines: IO[str], failures: Failures) -> None:
        for row in rows:
            failures.add(row["failures"])
            self.spent_usd += row["spent_usd"]
            self._check_alive(row)
            if row["line"] is not None:
                self.records += 1
                lines.write(row["line"] + "\n")
            for name, qualities in row["quality"].items():
                self.judged[name] += len(qualities)
                self.sums[name] += sum(qualities)
        self.meter.add(len(rows), failed=failures.count, spent_usd=self.spent_usd)

    def _check_alive(self, row: Row) -> None:
        """Stop where the judge is dead: every response would fail, after all its retries."""
        if not self.asked:
            return
        failed = [f for f in row["failures"] if f["stage"] == "judge" and f["error"] != NONSENSE]
        self.in_a_row = 0 if row["line"] is not None else self.in_a_row + len(failed)
        if self.in_a_row >= GIVE_UP_AFTER:
            raise DataError(
                f"The judge failed {self.in_a_row} times in a row ({failed[-1]['error']}); nothing "
                "was written. Mend it, and start the same command again."
            )
