"""Judge recorded responses, for the first time or anew, and write a data file of the qualities."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from shared_router.bulk.judge_store import RowsWithVerdicts, Verdicts
from shared_router.bulk.judge_work import JudgeWork, is_asked
from shared_router.bulk.meter import Meter
from shared_router.bulk.rows import RecordRows
from shared_router.bulk.runner import LocalRunner
from shared_router.bulk.steady import Reading, SteadyRows
from shared_router.collecting.calls import Limits
from shared_router.collecting.right_answers import AnswersFile, NoTexts
from shared_router.data.journal import journal_path
from shared_router.data.output import check_regular, failures_path, replacing
from shared_router.data.targets import check_failures, check_output
from shared_router.errors import DataError, JudgeError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    from shared_router.bulk.meter import Told
    from shared_router.bulk.runner import Row, Runner
    from shared_router.collecting.right_answers import ReferenceTexts
    from shared_router.data.answers import Judge

GIVE_UP_AFTER = 20
"""Failures in a row of a judge that is asked, nonsense apart, after which a run stops."""
NONSENSE = JudgeError.__name__


@dataclass(frozen=True, kw_only=True)
class JudgeReport:
    """What a run left behind."""

    out: Path | None
    """The data file; `None` where no response could be judged, or the run stopped early."""
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
    """What the judge cost in US dollars, earlier starts included; 0 where no price is known."""
    seconds: float
    """Time the run took, the check of the input included."""
    earlier: int = 0
    """Verdicts of earlier starts that were taken up, of those in `responses`."""
    stopped: str | None = None
    """Why the run stopped early; `None` where it is complete."""

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
    runner: Runner | None = None,
    concurrency: int = 8,
    timeout_s: float | None = 120.0,
    retries: int = 4,
    max_usd: float | None = None,
    force: bool = False,
    progress: Told | None = None,
) -> JudgeReport:
    """Judge the recorded responses of a data file, in bounded memory.

    The input is read twice: once to check and count it, and once to judge it. What cannot be
    judged is left out and listed in `OUT.failed.jsonl`, one JSON object per failure.

    A judge that is asked (its `score` is async) may cost money: each of its verdicts is on disk in
    `OUT.journal` at once. A run that was broken off, however it was, is gone on with by the same
    call, which asks what is missing. On a cluster verdicts are kept as they reach this process.

    Args:
        data: A data file with responses.
        out: The data file to write, whole or not at all; gzip where it ends in `.gz`.
        make: Makes the judge, once here and once per worker: a metric's class, or a `JudgeSpec`.
        texts: Where right answers come from; see `reference_texts`.
        runner: Where the work is done; in threads of this process by default.
        concurrency: Records in work at once per worker, where the judge is a model that is asked.
        timeout_s: Seconds one question to such a judge may take; `None` for no limit.
        retries: Further attempts after a failure of such a judge that may pass.
        max_usd: Ask nothing more once so much is spent, by the costs that all verdicts of a judge
            that is asked must carry; only in this process.
        force: Whether a file that stands under `out` may be replaced; never the input.
        progress: Called now and then, and first where a journal goes on.

    Returns:
        What was done.

    Raises:
        ConfigurationError: If an argument is wrong, the judge cannot be made or loaded, or
            `max_usd` is given and a verdict has no cost.
        DataError: If the input breaks a rule or changes meanwhile, nothing in it can be judged,
            `out` is the input, is there already or cannot be written, the journal is of another
            run, or the judge failed `GIVE_UP_AFTER` times in a row.
        MissingExtraError: If the judge, or the runner, needs an extra that is not installed.
    """
    started_s = time.monotonic()
    source, target, judge = Path(data), Path(out), make()
    check_regular(source)
    limits, asked = _limits(concurrency, timeout_s, retries, max_usd), is_asked(judge)
    read = [source, *([texts.path] if isinstance(texts, AnswersFile) else [])]
    check = partial(check_output, target, read, force=force)
    check_list = partial(check_failures, target, read, force=force)
    check()
    check_list()
    rows = _checked(RecordRows(source, texts or NoTexts()), judge)
    path, stopped = journal_path(target), None
    with Verdicts(path, judge=judge.name) if asked else nullcontext() as journal:
        tally = _Tally(rows.first.rows, progress, journal)
        work = JudgeWork(make, limits, concurrency if asked else 1, journal)
        known = RowsWithVerdicts(rows, journal) if journal else rows
        try:
            with (
                listing(failures_path(target), check_list) as failures,
                replacing(target, about_to=lambda _: check()) as lines,
                closing((runner or LocalRunner()).map(work, known, rows.first.rows)) as judged,
            ):
                for some in judged:
                    tally.add(some, lines, failures)
                if tally.spent:
                    raise _NotWhole
        except _NotWhole:
            stopped = f"${tally.spent_usd:.4f} are spent of max_usd={max_usd:g}"
    return JudgeReport(
        out=target if tally.records and not stopped else None,
        judge=judge.name,
        records=tally.records,
        responses=tally.judged.total(),
        failed=failures.count,
        failures=failures.path if failures.count else None,
        quality={name: tally.sums[name] / n for name, n in tally.judged.items()},
        spent_usd=tally.spent_usd,
        seconds=time.monotonic() - started_s,
        earlier=tally.earlier,
        stopped=stopped,
    )


class _NotWhole(Exception):  # noqa: N818  no error: nothing is put in place, and all is kept
    """The run is over before its end."""


def _limits(
    concurrency: int, timeout_s: float | None, retries: int, max_usd: float | None
) -> Limits:
    return Limits(
        samples=1,
        concurrency=concurrency,
        requests_per_minute=None,
        timeout_s=timeout_s,
        retries=retries,
        max_usd=max_usd,
        give_up_after=1,
    )


def _checked(rows: RecordRows, judge: Judge) -> SteadyRows:
    """Read everything once, before any work.

    Returns:
        The same rows, to be read again.
    """
    records = with_responses = with_both = 0
    reading = Reading(rows.path)
    for row in rows():
        reading.add(row)
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
    return SteadyRows(rows, reading.read())


class Failures:
    """The list of what failed, written whole or not at all."""

    def __init__(self, path: Path, stack: ExitStack, check: Callable[[], None]) -> None:
        self.path, self.count = path, 0
        self._stack, self._check = stack, check
        self._lines: IO[str] | None = None

    def add(self, failures: Sequence[Row]) -> None:
        """List failures."""
        for failure in failures:
            if self._lines is None:
                kept = replacing(self.path, about_to=lambda _: self._check())
                self._lines = self._stack.enter_context(kept)
            self._lines.write(json.dumps(failure) + "\n")
            self.count += 1


@contextmanager
def listing(path: Path, check: Callable[[], None]) -> Iterator[Failures]:
    """List failures in a file; where there are none at the end, no list of an earlier run is left.

    Args:
        path: The file.
        check: Checks, at the end, that it may be replaced.
    """
    with ExitStack() as stack:
        failures = Failures(path, stack, check)
        yield failures
    if not failures.count:
        with suppress(DataError):  # another's file, which stays
            check()
            path.unlink(missing_ok=True)


class _Tally:
    """What came back."""

    def __init__(self, total: int, told: Told | None, journal: Verdicts | None) -> None:
        self.journal = journal
        """There is one where the judge is a model that is asked: only such a one can be dead."""
        self.judged: Counter[str] = Counter()
        self.sums: defaultdict[str, float] = defaultdict(float)
        self.records = self.in_a_row = 0
        """Responses in a row: that the judge failed on since it last judged one."""
        self.earlier = 0
        self.spent_usd = journal.spent_usd if journal else 0.0
        self.spent = False
        self.meter = Meter(total, told, journal.earlier if journal else 0)
        if journal and journal.earlier:
            self.meter.add(0, spent_usd=self.spent_usd)

    def add(self, rows: list[Row], lines: IO[str], failures: Failures) -> None:
        """Take finished records: keep their verdicts, write them, count them."""
        if self.journal is not None:
            self.journal.add(
                [verdict for row in rows for verdict in row["verdicts"]],
                [usd for row in rows for usd in row["lost_usd"]],
            )
        for row in rows:
            failures.add(row["failures"])
            self.spent_usd += row["spent_usd"]
            self.earlier += row["earlier"]
            self.spent |= row["spent"]
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
        if self.journal is None:
            return
        failed = [f for f in row["failures"] if f["stage"] == "judge" and f["error"] != NONSENSE]
        self.in_a_row = 0 if row["line"] is not None else self.in_a_row + len(failed)
        if self.in_a_row >= GIVE_UP_AFTER:
            raise DataError(
                f"The judge failed {self.in_a_row} times in a row ({failed[-1]['error']}). Mend "
                "it, and start the same command again: all verdicts so far are kept, and it goes "
                "on from here."
            )
