"""What a finished collect writes: the data file, and the list of what failed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from shared_router.data.output import check_folder, failures_path, replacing
from shared_router.data.reasons import fields_of
from shared_router.data.schema import Outcome, RoutingRecord, storable
from shared_router.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from shared_router.data.collect_source import SourceQuery
    from shared_router.data.collect_store import Journal, StoredCall

IN_JOURNAL = (
    "The answers are safe in the journal: make room or give permission, and start the same "
    "command again."
)


def journal_path(out: Path) -> Path:
    """Say where the journal of a run lies."""
    return out.with_name(out.name + ".journal")


async def write_data(
    out: Path, queries: Sequence[SourceQuery], models: Sequence[str], journal: Journal, judge: str
) -> int:
    """Write the data file at once or not at all.

    A query with no judged answer of any model has no outcome and stands in the failures alone.

    Returns:
        The number of records written.
    """
    written, aliases = 0, await journal.aliases()
    with replacing(out, IN_JOURNAL) as lines:
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
    )


async def write_failures(out: Path, journal: Journal, judge: str | None) -> int:
    """List what failed for good, one JSON object a line; no file where nothing did.

    Returns:
        The number of failures.
    """
    path = failures_path(out)
    failed = await journal.select(
        "SELECT query, model, sample, 'ask', error FROM answers WHERE error IS NOT NULL UNION ALL "
        "SELECT query, model, sample, 'judge', error FROM judgements WHERE error IS NOT NULL "
        "AND judge = ? ORDER BY 1, 2, 3",
        judge or "",
    )
    if not failed:
        path.unlink(missing_ok=True)
        return 0
    with replacing(path, IN_JOURNAL) as lines:
        for *row, error in failed:
            fields = dict(zip(("id", "model", "sample", "stage"), row, strict=True))
            lines.write(json.dumps(fields | fields_of(error)) + "\n")
    return len(failed)


def check_output(out: Path) -> None:
    """Check that `out` is new or of a run with a journal.

    Raises:
        DataError: If its folder is missing, or it exists and no journal says whose it is.
    """
    check_folder(out)
    try:
        there, known = out.exists(), journal_path(out).exists()
    except OSError as error:
        raise DataError(f"{out}: cannot be reached ({error.strerror}); give permission.") from error
    if there and not known:
        raise DataError(
            f"{out}: exists, and no journal ({journal_path(out).name}) beside it says that it is "
            "of this run; it is not overwritten. Give another --out, or move it away."
        )
