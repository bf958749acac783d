"""Collect: ask every model every query several times, judge the answers, keep all of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from shared_router.collecting.calls import Limits
from shared_router.collecting.output import check_before, check_own
from shared_router.collecting.report import CollectProgress, CollectReport
from shared_router.collecting.run import CollectRun
from shared_router.collecting.sources import SourceQuery, as_queries
from shared_router.collecting.store import Journal, fingerprint
from shared_router.data.answers import Sampling
from shared_router.data.journal import journal_path
from shared_router.data.schema import storable
from shared_router.errors import ConfigurationError, DataError
from shared_router.support.names import check_name

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from shared_router.data.answers import AskModel, Judge

__all__ = ["CollectProgress", "CollectReport", "SourceQuery", "collect"]


async def collect(
    queries: Sequence[SourceQuery | str],
    models: Mapping[str, AskModel],
    out: str | os.PathLike[str],
    samples: int = 10,
    judge: Judge | None = None,
    *,
    concurrency: int = 8,
    requests_per_minute: float | None = None,
    timeout_s: float | None = 120.0,
    retries: int = 4,
    max_usd: float | None = None,
    give_up_after: int = 50,
    retry_failed: bool = False,
    specs: Mapping[str, str] | None = None,
    sampling: Sampling | None = None,
    split: str | None = None,
    force: bool = False,
    progress: Callable[[CollectProgress], None] | None = None,
) -> CollectReport:
    """Ask, judge and write a data file; may be killed and started again at any moment.

    Finished calls are on disk in `OUT.journal`: a second start asks only what is missing.

    Args:
        queries: What to ask; strings get an id from their words.
        models: Name to async callable, the large model last.
        out: The data file to write, gzip where it ends in `.gz`.
        samples: Responses per query and model.
        judge: What scores the responses; a later start may bring one, or another one.
        concurrency: Calls in flight, all models together.
        requests_per_minute: Calls started per model and minute, repeated attempts included.
        timeout_s: Seconds one attempt may take; `None` for no limit.
        retries: Further attempts after a failure that may pass.
        max_usd: Start no call once so much is spent, by the costs that all calls must carry.
        give_up_after: Stop once so many calls of one model failed in a row.
        retry_failed: Try again what failed for good at an earlier start.
        specs: Model name to what it stands for: a start with other ones is another run.
        sampling: How the callables sample, and whether they ask for log-probabilities. They do so
            by themselves; it is recorded, and a start with another one is another run. What their
            answers tell of their tokens and of how they were made goes into the data file.
        split: The split that all queries fall into; each one's own where `None`. A later start
            may name another one.
        force: Whether a file under `out` that this run did not write may be replaced.
        progress: Called after each finished call, and first where a journal goes on.

    Returns:
        What was done, and why the run stopped early if it did: each model is asked one query
        before the rest, and the run stops where one does not answer.

    Raises:
        ConfigurationError: If an argument is wrong, or `max_usd` is given and a call has no cost.
        DataError: If the queries break a rule, the output is of another run or was changed by
            another hand, or the disk fails.
    """
    limits = Limits(
        samples=samples,
        concurrency=concurrency,
        requests_per_minute=requests_per_minute,
        timeout_s=timeout_s,
        retries=retries,
        max_usd=max_usd,
        give_up_after=give_up_after,
    )
    asked, target = _in_split(_checked(queries, models, judge), split), Path(out)
    check_before(target, force=force)
    run = fingerprint(asked, list(models), samples, specs or {}, sampling or Sampling())
    with Journal(journal_path(target), run) as journal:
        await check_own(target, journal, force=force)
        at_work = CollectRun(asked, models, judge, journal, limits, progress)
        await at_work.work(retry_failed=retry_failed)
        return await at_work.finish(target, force=force)


def _checked(
    queries: Sequence[SourceQuery | str], models: Mapping[str, AskModel], judge: Judge | None
) -> list[SourceQuery]:
    if not models:
        raise ConfigurationError("collect asks at least one model; got none.")
    for name in models:
        check_name(name, "A model", ConfigurationError)
    asked = _listed(queries)
    _check_answers(asked, judge)
    return asked


def _in_split(queries: list[SourceQuery], split: str | None) -> list[SourceQuery]:
    if split is None:
        return queries
    if not split.strip():
        raise ConfigurationError(f"split is a name that is not empty, or none; got {split!r}.")
    return [replace(query, split=storable(split)) for query in queries]


def _listed(queries: Sequence[SourceQuery | str]) -> list[SourceQuery]:
    texts = [(i, {"query": query}) for i, query in enumerate(queries, 1) if isinstance(query, str)]
    if texts and len(texts) < len(queries):
        raise ConfigurationError("queries are all strings or all SourceQuery; got both.")
    if texts:
        return as_queries(texts, "queries")
    made = [query for query in queries if isinstance(query, SourceQuery)]
    if len({query.id for query in made}) < len(made) or not made:
        raise DataError("queries: give at least one, each with an id of its own.")
    return made


def _check_answers(queries: Sequence[SourceQuery], judge: Judge | None) -> None:
    if judge is None or not judge.needs_answer:
        return
    lacking = [query.id for query in queries if query.answer is None]
    if lacking:
        raise DataError(
            f"judge {judge.name!r} compares with the right answer, and {len(lacking)} of "
            f"{len(queries)} queries have none (the first is {lacking[0]!r}); give a column "
            "'answer', or another judge."
        )
