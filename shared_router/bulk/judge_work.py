"""Judging one record: each of its responses, what fails kept apart."""

from __future__ import annotations

import asyncio
import inspect
import threading
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shared_router.data.answers import as_judgement
from shared_router.data.collect_calls import Caller, judged
from shared_router.data.reasons import fields_of, told
from shared_router.data.schema import Outcome, RoutingRecord
from shared_router.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from shared_router.bulk.engine import Row
    from shared_router.data.answers import Judge, Judgement
    from shared_router.data.collect_calls import Limits

    Scored = Callable[[str, str, str | None], float | Judgement]

NOT_OF_ONE_RESPONSE = (ConfigurationError, MissingExtraError)
"""Errors of the judge as a whole: going on with the next response would meet them again."""


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

    def portable(self) -> JudgeWork:
        """Return the same: the judge is made where it works."""
        return self

    @contextmanager
    def open(self) -> Iterator[Callable[[Row], Row]]:
        """Make the judge, and give the function of one record."""
        judge: Any = self.make()
        if not is_asked(judge):
            yield lambda row: judged_row(row, judge.score, needs_answer=judge.needs_answer)
            return
        caller = Caller(self.limits)
        with _loop() as run:

            def ask(*asked: str | None) -> Any:
                return run(judged(caller, judge.score, *asked))

            yield lambda row: judged_row(row, ask, needs_answer=judge.needs_answer)


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


def judged_row(row: Row, score: Scored, *, needs_answer: bool) -> Row:
    """Judge one record.

    Args:
        row: `record`, and `answer`: what its responses are compared with.
        score: Scores one response.
        needs_answer: Whether `answer` must be there.

    Returns:
        `line`, the record with its new qualities, `None` where no response could be judged;
        `quality` per model, `failures` and `spent_usd`.
    """
    record, answer = RoutingRecord.model_validate(row["record"]), row["answer"]
    made = _Judged(record)
    if needs_answer and answer is None:
        made.fail(None, None, "answer", "no right answer")
    else:
        for name, outcome in record.outcomes.items():
            made.judge(name, outcome, answer, score)
    return made.row()


@dataclass
class _Judged:
    record: RoutingRecord
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    failures: list[Row] = field(default_factory=list)
    spent_usd: float = 0.0

    def judge(self, name: str, outcome: Outcome, answer: str | None, score: Scored) -> None:
        if outcome.response is None:
            self.fail(name, None, "response", "no recorded response")
            return
        kept: list[tuple[float, str]] = []
        for sample, response in enumerate(outcome.response):
            try:
                found = as_judgement(score(self.record.query, response, answer))
            except NOT_OF_ONE_RESPONSE:
                raise
            except Exception as error:  # noqa: BLE001  a judge may raise anything; it is recorded
                self.spent_usd += getattr(error, "cost_usd", None) or 0.0
                self.fail(name, sample, "judge", told(error))
            else:
                self.spent_usd += found.usage.cost_usd or 0.0
                kept.append((found.quality, response))
        if kept:
            quality, responses = zip(*kept, strict=True)
            changed = {"quality": quality, "response": responses}
            self.outcomes[name] = outcome.model_copy(update=changed)

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
        }
