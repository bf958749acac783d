"""Queries to collect answers for: text, CSV or JSON lines."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared_router.data.schema import open_text
from shared_router.errors import DataError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

VALIDATION_PERCENT = 20
"""Share of the queries that fall into the `validation` split."""


@dataclass(frozen=True, kw_only=True)
class SourceQuery:
    """One query to ask the models."""

    id: str
    """Unique in the run."""
    text: str = field(repr=False)
    """What is asked."""
    task: str | None = None
    """Task label, `suite/task`."""
    answer: str | None = field(default=None, repr=False)
    """The right answer, the tests or the reference text: what the judge compares with."""

    @property
    def split(self) -> str:
        """`train` or `validation`, by a hash of the words: the same question, the same side."""
        return "validation" if int(_digest(self.text), 16) % 100 < VALIDATION_PERCENT else "train"


def _digest(text: str) -> str:
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()


def read_queries(path: str | os.PathLike[str]) -> list[SourceQuery]:
    """Read queries by the file's ending; each may be gzip (`.gz`).

    Args:
        path: `.csv` with a column `query`; `.jsonl`, `.ndjson` or `.json` with one object a
            line and a field `query`; anything else is text with one query a line. CSV and JSON
            lines may give `id`, `task` and `answer` too; other columns are left alone.

    Returns:
        At least one query. Where no id is given it is a hash of the words.

    Raises:
        DataError: Names the file, line and rule of the first bad row.
    """
    source = Path(path)
    try:
        rows = list(_rows(source))
    except FileNotFoundError as error:
        raise DataError(f"{source}: no such file of queries.") from error
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{source}: cannot be read ({error}).") from error
    return as_queries(rows, str(source))


def as_queries(rows: Sequence[tuple[int, Mapping[str, Any]]], name: str) -> list[SourceQuery]:
    """Check numbered rows and give each an id.

    Raises:
        DataError: If there is none, one breaks a rule, or an id stands twice.
    """
    made: list[SourceQuery] = []
    seen: Counter[str] = Counter()
    for number, row in rows:
        query = _query(row, f"{name}, line {number}", seen)
        made.append(query)
    if not made:
        raise DataError(f"{name}: empty; give at least one query.")
    return made


def _rows(source: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    kind = Path(source.stem).suffix if source.suffix == ".gz" else source.suffix
    if kind == ".csv":
        yield from _csv_rows(source)
        return
    with open_text(source, "r") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            if kind in {".jsonl", ".ndjson", ".json"}:
                yield number, _json_row(line, f"{source}, line {number}")
            else:
                yield number, {"query": line.strip()}


def _csv_rows(source: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with open_text(source, "r") as lines:
        reader = csv.DictReader(lines, strict=True)
        if "query" not in (reader.fieldnames or ()):
            raise DataError(
                f"{source}, line 1: a CSV file needs a column 'query'; got "
                f"{', '.join(reader.fieldnames or ()) or 'no columns'}."
            )
        for row in reader:
            if None in row:
                raise DataError(
                    f"{source}, line {reader.line_num}: more fields than columns; quote a text "
                    "that holds a comma."
                )
            yield reader.line_num, {key: value for key, value in row.items() if value}


def _json_row(line: str, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not JSON ({error.msg} at column {error.colno}).") from None
    if not isinstance(row, dict):
        raise DataError(
            f"{where}: each line is an object with a field 'query'; got {type(row).__name__}."
        )
    return row


def _query(row: Mapping[str, Any], where: str, seen: Counter[str]) -> SourceQuery:
    text = _text(row, "query", where)
    if text is None or not text.strip():
        raise DataError(f"{where}: field query: every row needs a non-empty query; got none.")
    given = _text(row, "id", where)
    id_ = given or _digest(text)[:16]
    seen[id_] += 1
    if seen[id_] > 1 and given:
        raise DataError(f"{where}: id {id_!r} stands twice; ids are unique.")
    return SourceQuery(
        id=id_ if seen[id_] == 1 else f"{id_}-{seen[id_]}",
        text=text,
        task=_text(row, "task", where),
        answer=_text(row, "answer", where),
    )


def _text(row: Mapping[str, Any], name: str, where: str) -> str | None:
    value = row.get(name)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and name != "query":
        return str(value)  # an answer of 42 and an id of 7 are meant as written
    raise DataError(f"{where}: field {name}: must be text; got {type(value).__name__}.")
