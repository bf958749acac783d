"""One start of a collect: what is left to do, the workers, the tally."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import inspect
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from shared_router.collecting.calls import Caller, judged
from shared_router.collecting.output import write_data, write_failures
from shared_router.collecting.reasons import OF_THE_QUERY, told
from shared_router.collecting.report import CollectProgress, CollectReport, ModelTally
from shared_router.data.answers import Answer, as_judgement
from shared_router.data.output import failures_path
from shared_router.data.schema import storable
from shared_router.errors import ConfigurationError, HybridRoutingError, MissingExtraError
from shared_router.support.model_errors import error_kind, status_of
from shared_router.support.model_names import told_names

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
    from pathlib import Path

    from shared_router.collecting.calls import Limits
    from shared_router.collecting.sources import SourceQuery
    from shared_router.collecting.store import Journal, Key
    from shared_router.data.answers import AskModel, Judge, Judgement
    from shared_router.records import Usage


PROBES = 3
"""Queries to try before a model that refuses each of them is taken for one that does not answer."""


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
        unheard = iter(await self._unheard(answered))
        await self._together(lambda: self._prober(unheard, answered))
        left = self._left(answered, to_judge)
        await self._together(lambda: self._worker(left))

    async def _together(self, worker: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run as many workers as calls may be in flight, until all is done or one fails."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._limits.concurrency):
                    group.create_task(worker())
        except* HybridRoutingError as errors:
            raise errors.exceptions[0] from None

    async def _unheard(self, answered: set[Key]) -> list[list[_Work]]:
        """List the first calls to each model that has never answered, a query each."""
        heard = await self._journal.heard()
        first = [
            [
                _Work(key, query, False)
                for query in self._queries
                if (key := (query.id, model, 0)) not in answered
            ][:PROBES]
            for model in self._models
            if model not in heard
        ]
        return [items for items in first if items]

    async def _prober(self, unheard: Iterator[list[_Work]], answered: set[Key]) -> None:
        while self._stopped is None and (items := next(unheard, None)) is not None:
            await self._probe(items, answered)

    async def _probe(self, items: list[_Work], answered: set[Key]) -> None:
        """Ask a model for the first time; whether it answers is known before the rest is asked.

        What it answers is recorded like any answer. That it does not is no failure of a query:
        the same command asks again.
        """
        failed: list[tuple[_Work, Exception]] = []
        for item in items:
            try:
                answer = await self._call(item)
            except MissingExtraError:
                raise
            except Exception as error:  # noqa: BLE001  a model may raise anything
                failed.append((item, error))
                if status_of(error) not in OF_THE_QUERY:
                    break
            else:
                for refused in failed:
                    await self._note_unanswered(*refused)
                    self._count()
                await self._finish(item, await self._note_answer(item, answer))
                answered.update(done.key for done, _ in [*failed, (item, None)])
                return
        silent = f"model {items[0].key[1]!r} does not answer ({told(failed[-1][1])})"
        self._stopped = f"{self._stopped}; {silent}" if self._stopped else silent

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
            await self._finish(item, response)

    async def _finish(self, item: _Work, response: str | None) -> None:
        if response is not None and self._judge is not None:
            await self._score(self._judge, item, response)
        self._count()

    async def _ask(self, item: _Work) -> str | None:
        try:
            answer = await self._call(item)
        except MissingExtraError:
            raise
        except Exception as error:  # noqa: BLE001  a model may raise anything; it is recorded
            await self._note_unanswered(item, error)
            return None
        return await self._note_answer(item, answer)

    async def _call(self, item: _Work) -> Any:
        _, model, sample = item.key
        self._calls += 1
        return await self._callers[model].call(self._models[model], item.query.text, sample)

    async def _note_unanswered(self, item: _Work, error: Exception) -> None:
        await self._journal.add_answer(item.key, None, None, None, None, told(error))
        self._note_failure(f"model {item.key[1]!r}", error_kind(error))

    async def _note_answer(self, item: _Work, answer: Any) -> str:
        model = item.key[1]
        if not isinstance(answer, Answer) or not isinstance(answer.text, str):
            got = answer.text if isinstance(answer, Answer) else answer
            raise ConfigurationError(
                f"Model {model!r}: an async callable returns an Answer with a text; got "
                f"{type(got).__name__}."
            )
        text, used = storable(answer.text), answer.usage
        self._journal.add_names(model, told_names(*answer.names))
        self._journal.add_made(item.key, answer)
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
            await record(item.key, judge.name, None, cost_usd, told(error))
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

    def _count(self) -> None:
        self._done += 1
        self._finished += 1
        self._tell()

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
        failed = await write_failures(out, self._journal, name, force=force)
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
            models=await self._tallies(name),
        )

    async def _tallies(self, judge: str | None) -> dict[str, ModelTally]:
        """Tell how each model did, those that never answered included."""
        found = {
            model: ModelTally(
                answered=answered, failed=failed, with_logprobs=known, quality=quality
            )
            for model, answered, failed, known, quality in await self._journal.tallies(judge)
        }
        return {name: found.get(name, ModelTally()) for name in self._models}
