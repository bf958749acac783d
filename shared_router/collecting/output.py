"""What a finished collect writes: the data file, and the list of what failed."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from shared_router.collecting.reasons import fields_of
from shared_router.data.journal import journal_path
from shared_router.data.output import check_folder, failures_path, replacing
from shared_router.data.schema import Outcome, RoutingRecord, storable
from shared_router.data.targets import (
    DATA_FILE,
    check_failures,
    described,
    refuse_unless,
    stands,
    unreachable,
)
from shared_router.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from shared_router.collecting.sources import SourceQuery
    from shared_router.collecting.store import Journal, StoredCall

IN_JOURNAL = (
    "The answers are safe in the journal: make room or give permission, and start the same "
    "command again."
)


async def write_data(
    out: Path,
    queries: Sequence[SourceQuery],
    models: Sequence[str],
    journal: Journal,
    judge: str,
    *,
    force: bool = False,
) -> int:
    """Write the data file at once or not at all.

    A query with no judged answer of any model has no outcome and stands in the failures alone.

    Returns:
        The number of records written.

    Raises:
        DataError: If it cannot be written, or something else stands there since this start.
    """
    written, aliases = 0, await journal.aliases()
    known = await journal.written()

    def about_to(complete: Path) -> None:
        _check_own(out, known, force=force)
        journal.note_written(_sha256(complete))

    with replacing(out, IN_JOURNAL, about_to=about_to) as lines:
        for query in queries:
            record = _record(query, models, await journal.calls_of(query.id, judge), aliases)
            if record.outcomes:
                lines.write(record.model_dump_json(exclude_none=True) + "\n")
                written += 1
    return written


def _record(
    query: SourceQuery,
    models: Sequence[str],
    calls: Sequence[StoredCall],
    aliases: Mapping[str, tuple[str, ...]],
) -> RoutingRecord:
    good = {
        name: [call for call in calls if call.model == name and call.quality is not None]
        for name in models
    }
    return RoutingRecord(
        id=query.id,
        query=storable(query.text),
        task=query.task and storable(query.task),
        split=query.split,
        retrieval=query.retrieval,
        outcomes={n: _outcome(judged, aliases.get(n)) for n, judged in good.items() if judged},
    )


def _outcome(judged: Sequence[StoredCall], aliases: tuple[str, ...] | None) -> Outcome:
    known = [call.cost_usd for call in judged if call.cost_usd is not None]
    return Outcome(
        quality=tuple(call.quality for call in judged if call.quality is not None),
        response=tuple(call.response or "" for call in judged),
        cost_usd=sum(known) / len(known) if known else None,
        aliases=aliases,
        **_made(judged),
    )


def _made(judged: Sequence[StoredCall]) -> dict[str, Any]:
    """Tell how the answers of an outcome were made, where they were made alike."""
    known = tuple(call.logprobs or () for call in judged)
    made: dict[str, Any] = {"logprobs": known} if any(known) else {}
    first = judged[0].settings
    if first and all(call.settings and call.settings.alike(first) for call in judged):
        made["settings"] = first.model_copy(update={"logprobs": all(known)})
    return made


async def write_failures(
    out: Path, journal: Journal, judge: str | None, *, force: bool = False
) -> int:
    """List what failed for good, one JSON object a line; no file where nothing did.

    Returns:
        The number of failures.

    Raises:
        DataError: If it cannot be written, or something else stands there since this start.
    """
    check = partial(check_failures, out, (), force=force)
    path = failures_path(out)
    failed = await journal.select(
        "SELECT query, model, sample, 'ask', error FROM answers WHERE error IS NOT NULL UNION ALL "
        "SELECT query, model, sample, 'judge', error FROM judgements WHERE error IS NOT NULL "
        "AND judge = ? ORDER BY 1, 2, 3",
        judge or "",
    )
    if not failed:
        with suppress(DataError):  # another's file, which stays
            check()
            path.unlink(missing_ok=True)
        return 0
    with replacing(path, IN_JOURNAL, about_to=lambda _: check()) as lines:
        for *row, error in failed:
            fields = dict(zip(("id", "model", "sample", "stage"), row, strict=True))
            lines.write(json.dumps(fields | fields_of(error)) + "\n")
    return len(failed)


def check_before(out: Path, *, force: bool) -> None:
    """Check, before there is a journal, that an output may be of this run.

    Raises:
        DataError: If its folder is missing, or it exists and no journal says whose it is.
    """
    check_folder(out)
    check_failures(out, (), force=force)
    if stands(out) and not _exists(journal_path(out)):
        refuse_unless(force, out, f"{described(out)} that is not of this run")


def _exists(journal: Path) -> bool:
    try:
        return journal.exists()
    except OSError as error:
        raise unreachable(journal, error) from error


async def check_own(out: Path, journal: Journal, *, force: bool) -> None:
    """Check that what stands under `out` was written from this journal, as it is.

    Raises:
        DataError: If it was not: data corrected by hand would be lost.
    """
    _check_own(out, await journal.written(), force=force)


def _check_own(out: Path, written: set[str] | None, *, force: bool) -> None:
    if not stands(out):
        return
    held = described(out)
    ours = held == DATA_FILE if written is None else _sha256(out) in written
    if not ours:
        refuse_unless(force, out, f"{held} that this run did not write, or that was changed since")


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreachable(path, error) from error
