"""Judging one record: each of its responses, what fails kept apart."""

from __future__ import annotations

import asyncio
import inspect
import threading
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from shared_router.bulk.judge_store import JournalError, asked_digest
from shared_router.collecting.calls import Caller, judged
from shared_router.collecting.reasons import fields_of, told
from shared_router.data.answers import as_judgement
from shared_router.data.schema import Outcome, RoutingRecord
from shared_router.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from shared_router.bulk.judge_store import Verdict, Verdicts
    from shared_router.bulk.runner import Row
    from shared_router.collecting.calls import Limits
    from shared_router.data.answers import Judge, Judgement

    Scored = Callable[["Asked"], float | Judgement]

NOT_OF_ONE_RESPONSE = (ConfigurationError, MissingExtraError, JournalError)
"""Errors of the judge as a whole: going on with the next response would meet them again."""


class Asked(NamedTuple):
    """One response, and where it stands."""

    id: str
    model: str
    sample: int
    texts: tuple[str, str, str | None]
    """What the judge is given: query, response, answer."""

    def verdict(self, found: Judgement) -> Verdict:
        """Return what a journal keeps."""
        digest = asked_digest(*self.texts)
        return (self.id, self.model, self.sample, digest, found.quality, found.usage.cost_usd)


class Spent(Exception):  # noqa: N818  no error: the run ends as it was told to
    """The dollars are spent: nothing more is asked."""


def is_asked(judge: Judge) -> bool:
    """Tell whether a judge is mostly waiting, for a model that answers elsewhere."""
    return inspect.iscoroutinefunction(judge.score)


@dataclass(frozen=True)
class JudgeWork:
    """Judges the responses of one record."""

    make: Callable[[], Judge]
    """Makes the judge, once per worker."""
    limits: Limits
    """Time limit and retries of a judge that is asked."""
    concurrency: int = 1
    """Records in work at once per worker."""
    journal: Verdicts | None = None
    """Where verdicts are kept at once; without one they come back with their record."""

    def portable(self) -> JudgeWork:
        """Leave the journal here; the judge is made where it works.

        Raises:
            ConfigurationError: If there is a limit in dollars, which is kept in one process.
        """
        if self.limits.max_usd is not None:
            raise ConfigurationError(
                "max_usd is for --runner local: workers of a cluster know not what the others "
                "spend. A judge that is asked is waited for, and more machines are not faster."
            )
        return replace(self, journal=None)

    @contextmanager
    def open(self) -> Iterator[Callable[[Row], Row]]:
        """Make the judge, and give the function of one record."""
        judge: Any = self.make()
        if not is_asked(judge):
            yield lambda row: judged_row(
                row, lambda asked: judge.score(*asked.texts), needs_answer=judge.needs_answer
            )
            return
        caller, kept = Caller(self.limits), self.journal is None
        with _loop() as run:

            def ask(asked: Asked) -> Any:
                return run(self._ask(caller, judge, asked))

            yield lambda row: judged_row(row, ask, needs_answer=judge.needs_answer, keep=kept)

    async def _ask(self, caller: Caller, judge: Any, asked: Asked) -> Judgement:
        """Ask, and keep the verdict before anything else can happen: no await lies between."""
        if self.journal is None:
            return await judged(caller, judge.score, *asked.texts)
        self.journal.check()
        most = self.limits.max_usd
        if most is not None and self.journal.spent_usd >= most:
            raise Spent
        try:
            found = await judged(caller, judge.score, *asked.texts)
        except BaseException as error:  # broken off, it may have cost something too
            if cost_usd := getattr(error, "cost_usd", None):
                self.journal.add([], [cost_usd])
            raise
        self.journal.add([asked.verdict(found)])
        if most is not None and found.usage.cost_usd is None:
            raise ConfigurationError(
                "max_usd needs the cost of every call, and the judge tells none: give its price "
                "(--price judge=INPUT,OUTPUT in dollars per million tokens), and ask through a "
                "client that counts tokens; or leave max_usd out."
            )
        return found


@contextmanager
def _loop() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Run coroutines from any thread in one event loop: clients keep their connections there."""
    loop, closing = asyncio.new_event_loop(), threading.Event()
    thread = threading.Thread(target=loop.run_forever, name="hybrid-llm-judge", daemon=True)
    thread.start()

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        if closing.is_set():
            coroutine.close()
            raise Stopped
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, loop).result()
        except CancelledError as error:
            raise Stopped from error

    try:
        yield run
    finally:
        closing.set()
        asyncio.run_coroutine_threadsafe(_cancel_others(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _cancel_others() -> None:
    """End the calls that are under way when a run is broken off."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class Stopped(BaseException):
    """The run is over: no response is judged any more."""


def judged_row(row: Row, score: Scored, *, needs_answer: bool, keep: bool = False) -> Row:
    """Judge one record.

    Args:
        row: `record`, `answer`: what its responses are compared with, and perhaps `known`, the
            verdicts of earlier starts.
        score: Scores one response.
        needs_answer: Whether `answer` must be there.
        keep: Whether verdicts come back, to be kept by who receives them.

    Returns:
        `line`, the record with its new qualities, `None` where no response could be judged;
        `quality` per model, `failures`, `spent_usd`, whether the dollars were `spent` before its
        end, how many verdicts are `earlier` ones, and `verdicts` and `lost_usd` to be kept.
    """
    record, answer = RoutingRecord.model_validate(row["record"]), row["answer"]
    known = {(model, i, asked): quality for model, i, asked, quality in row.get("known", ())}
    made = _Judged(record, known, keep)
    if needs_answer and answer is None:
        made.fail(None, None, "answer", "no right answer")
    else:
        for name, outcome in record.outcomes.items():
            made.judge(name, outcome, answer, score)
    return made.row()


@dataclass
class _Judged:
    record: RoutingRecord
    known: dict[tuple[str, int, str], float]
    keep: bool
    spent: bool = False
    verdicts: list[Verdict] = field(default_factory=list)
    lost_usd: list[float] = field(default_factory=list)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    failures: list[Row] = field(default_factory=list)
    spent_usd: float = 0.0
    earlier: int = 0

    def judge(self, name: str, outcome: Outcome, answer: str | None, score: Scored) -> None:
        if outcome.response is None:
            self.fail(name, None, "response", "no recorded response")
            return
        kept: list[tuple[float, str]] = []
        for sample, response in enumerate(outcome.response):
            asked = Asked(self.record.id, name, sample, (self.record.query, response, answer))
            found = self._quality(asked, score)
            if found is not None:
                kept.append((found, response))
        if kept:
            quality, responses = zip(*kept, strict=True)
            changed = {"quality": quality, "response": responses}
            self.outcomes[name] = outcome.model_copy(update=changed)

    def _quality(self, asked: Asked, score: Scored) -> float | None:
        if self.known:
            known = self.known.get((asked.model, asked.sample, asked_digest(*asked.texts)))
            if known is not None:
                self.earlier += 1
                return known
        try:
            found = as_judgement(score(asked))
        except NOT_OF_ONE_RESPONSE:
            raise
        except Spent:
            self.spent = True
            return None
        except Exception as error:  # noqa: BLE001  a judge may raise anything; it is recorded
            lost_usd = getattr(error, "cost_usd", None) or 0.0
            self.spent_usd += lost_usd
            self.lost_usd += [lost_usd] if self.keep and lost_usd else []
            self.fail(asked.model, asked.sample, "judge", told(error))
            return None
        self.spent_usd += found.usage.cost_usd or 0.0
        self.verdicts += [asked.verdict(found)] if self.keep else []
        return found.quality

    def fail(self, model: str | None, sample: int | None, stage: str, error: str) -> None:
        about = {"id": self.record.id, "model": model, "sample": sample, "stage": stage}
        self.failures.append(about | fields_of(error))

    def row(self) -> Row:
        judged = self.record.model_copy(update={"outcomes": self.outcomes})
        return {
            "line": judged.model_dump_json(exclude_none=True) if self.outcomes else None,
            "quality": {name: outcome.quality for name, outcome in self.outcomes.items()},
            "failures": self.failures,
            "spent_usd": self.spent_usd,
            "spent": self.spent,
            "earlier": self.earlier,
            "verdicts": self.verdicts,
            "lost_usd": self.lost_usd,
        }
