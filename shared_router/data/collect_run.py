"""One start of a collect: what is left to do, the workers, the tally."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import inspect
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from shared_router.data.answers import Answer, as_judgement
from shared_router.data.collect_calls import Caller, error_kind, judged
from shared_router.data.collect_output import write_data, write_failures
from shared_router.data.output import failures_path
from shared_router.data.schema import storable
from shared_router.errors import ConfigurationError, HybridRoutingError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from shared_router.data.answers import AskModel, Judge, Judgement
    from shared_router.data.collect_calls import Limits
    from shared_router.data.collect_source import SourceQuery
    from shared_router.data.collect_store import Journal, Key
    from shared_router.records import Usage


@dataclass(frozen=True, kw_only=True)
class CollectProgress:
    """How far a run is."""

    done: int
    """Calls finished, those of earlier starts included."""
    total: int
    """Calls of the whole run: queries x models x samples."""
    failed: int
    """Calls that failed for good since this start, judgements included."""
    calls_per_second: float
    """Rate since this start."""
    eta_s: float | None
    """Seconds left at this rate; `None` before the first call."""
    spent_usd: float
    """Dollars so far, those of earlier starts included; 0 where no price is known."""
    earlier: int = 0
    """Calls of earlier starts that are taken up."""


@dataclass(frozen=True, kw_only=True)
class CollectReport:
    """What a run left behind."""

    out: Path | None
    """The data file; `None` where the run stopped early, has no judge or no good answer."""
    records: int
    """Queries in the data file."""
    calls: int
    """Calls made since this start."""
    failed: int
    """Calls and judgements that failed for good, listed in `failures`."""
    failures: Path | None
    """The list of failures, JSON lines; `None` where nothing failed."""
    spent_usd: float
    """Dollars of the whole run, judging included."""
    stopped: str | None
    """Why the run stopped early; `None` where it is complete."""
    unvaried: tuple[str, ...] = ()
    """Models of a complete run whose samples of a query were all alike, on every query."""
    earlier: int = 0
    """Calls of earlier starts that were taken up."""


class _Work(NamedTuple):
    key: Key
    query: SourceQuery
    answered: bool


class CollectRun:
    """One start of a run: what is left to do, and the tally."""

    def __init__(
        self,
        queries: Sequence[SourceQuery],
        models: Mapping[str, AskModel],
        judge: Judge | None,
        journal: Journal,
        limits: Limits,
        progress: Callable[[CollectProgress], None] | None,
    ) -> None:
        self._queries, self._models, self._limits = queries, models, limits
        self._judge, self._journal, self._progress = judge, journal, progress
        self._callers = {name: Caller(limits) for name in models}
        self._judging = Caller(dataclasses.replace(limits, requests_per_minute=None))
        self._in_a_row: Counter[str] = Counter()
        self._total = len(queries) * len(models) * limits.samples
        self._calls = self._failed = self._done = self._finished = self._earlier = 0
        self._spent_usd = 0.0
        self._stopped: str | None = None

    async def work(self, *, retry_failed: bool) -> None:
        """Do what is left, several calls at a time."""
        if retry_failed:
            await self._journal.forget_failures(self._judge.name if self._judge else None)
        answered = await self._journal.answered()
        to_judge = await self._journal.to_judge(self._judge.name) if self._judge else set()
        self._done = len(answered - to_judge)
        self._earlier = len(answered)
        self._spend(await self._journal.spent_usd())
        self._started_s = time.monotonic()
        if self._earlier:
            self._tell()
        left = self._left(answered, to_judge)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._limits.concurrency):
                    group.create_task(self._worker(left))
        except* HybridRoutingError as errors:
            raise errors.exceptions[0] from None

    def _left(self, answered: set[Key], to_judge: set[Key]) -> Iterator[_Work]:
        for query in self._queries:
            for model in self._models:
                for sample in range(self._limits.samples):
                    key = (query.id, model, sample)
                    if key not in answered or key in to_judge:
                        yield _Work(key, query, key in answered)

    async def _worker(self, left: Iterator[_Work]) -> None:
        while self._stopped is None and (item := next(left, None)) is not None:
            response = await (
                self._journal.response(item.key) if item.answered else self._ask(item)
            )
            if response is not None and self._judge is not None:
                await self._score(self._judge, item, response)
            self._done += 1
            self._finished += 1
            self._tell()

    async def _ask(self, item: _Work) -> str | None:
        _, model, sample = item.key
        self._calls += 1
        try:
            answer = await self._callers[model].call(self._models[model], item.query.text, sample)
        except MissingExtraError:
            raise
        except Exception as error:  # noqa: BLE001  a model may raise anything; it is recorded
            await self._journal.add_answer(item.key, None, None, None, None, error_kind(error))
            self._note_failure(f"model {model!r}", error_kind(error))
            return None
        if not isinstance(answer, Answer) or not isinstance(answer.text, str):
            got = answer.text if isinstance(answer, Answer) else answer
            raise ConfigurationError(
                f"Model {model!r}: an async callable returns an Answer with a text; got "
                f"{type(got).__name__}."
            )
        text, used = storable(answer.text), answer.usage
        await self._journal.add_answer(
            item.key, text, used.input_tokens, used.output_tokens, used.cost_usd, None
        )
        self._in_a_row[f"model {model!r}"] = 0
        self._check_priced(f"model {model!r}", used)
        self._spend(used.cost_usd)
        return text

    def _note_failure(self, who: str, kind: str) -> None:
        self._failed += 1
        self._in_a_row[who] += 1
        if self._in_a_row[who] >= self._limits.give_up_after:
            self._stopped = f"{who} failed {self._in_a_row[who]} times in a row ({kind})"

    async def _score(self, judge: Judge, item: _Work, response: str) -> None:
        record = functools.partial(
            self._journal.add_judgement, wait=inspect.iscoroutinefunction(judge.score)
        )
        try:
            made = await self._judged(judge, item.query, response)
        except (ConfigurationError, MissingExtraError):
            raise
        except Exception as error:  # noqa: BLE001  a judge may raise anything; it is recorded
            self._note_failure("the judge", error_kind(error))
            cost_usd = getattr(error, "cost_usd", None)
            await record(item.key, judge.name, None, cost_usd, error_kind(error))
        else:
            self._in_a_row["the judge"] = 0
            cost_usd = made.usage.cost_usd
            await record(item.key, judge.name, made.quality, cost_usd, None)
            if made.usage.input_tokens or made.usage.output_tokens:
                self._check_priced("the judge", made.usage)
        self._spend(cost_usd)

    async def _judged(self, judge: Judge, query: SourceQuery, response: str) -> Judgement:
        asked = (query.text, response, query.answer)
        if inspect.iscoroutinefunction(judge.score):
            return await judged(self._judging, judge.score, *asked)
        found: Any = await asyncio.to_thread(judge.score, *asked)
        return as_judgement(found)

    def _check_priced(self, who: str, used: Usage) -> None:
        if used.cost_usd is None and self._limits.max_usd is not None:
            raise ConfigurationError(
                f"max_usd needs the cost of every call, and {who} tells none: give its price "
                "(--price NAME=INPUT,OUTPUT in dollars per million tokens), and ask through a "
                "client that counts tokens; or leave max_usd out."
            )

    def _spend(self, cost_usd: float | None) -> None:
        self._spent_usd += cost_usd or 0.0
        most = self._limits.max_usd
        if most is not None and self._spent_usd >= most:
            self._stopped = f"${self._spent_usd:.4f} are spent of max_usd={most:g}"

    def _tell(self) -> None:
        if self._progress is None:
            return
        rate = self._finished / max(time.monotonic() - self._started_s, 1e-9)
        self._progress(
            CollectProgress(
                done=self._done,
                total=self._total,
                failed=self._failed,
                calls_per_second=rate,
                eta_s=(self._total - self._done) / rate if self._finished else None,
                spent_usd=self._spent_usd,
                earlier=self._earlier,
            )
        )

    async def finish(self, out: Path, *, force: bool = False) -> CollectReport:
        """Write what there is to write, and report."""
        await self._journal.flush()
        name = self._judge.name if self._judge else None
        failed = await write_failures(out, self._journal, name)
        records = 0
        unvaried: list[str] = []
        if self._done >= self._total:
            self._stopped = None  # the last dollar was spent on the last call
            unvaried = await self._journal.unvaried()
            if name is not None:
                records = await write_data(
                    out,
                    self._queries,
                    list(self._models),
                    self._journal,
                    name,
                    force=force,
                )
        return CollectReport(
            out=out if records else None,
            records=records,
            calls=self._calls,
            failed=failed,
            failures=failures_path(out) if failed else None,
            spent_usd=self._spent_usd,
            stopped=self._stopped,
            unvaried=tuple(unvaried),
            earlier=self._earlier,
        )
