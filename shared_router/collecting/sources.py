"""Queries to collect answers for: text, CSV or JSON lines."""

from __future__ import annotations

import csv
import hashlib
import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from shared_router.collecting.seen import SeenIds
from shared_router.data.schema import open_text, storable
from shared_router.errors import DataError
from shared_router.retrieval import RetrievalFacts

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence

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
    retrieval: RetrievalFacts | None = None
    """What was retrieved for it, in numbers."""
    split: str = ""
    """Any name; where none is given `train` or `validation`, by a hash of the words: the same
    question, the same side."""

    def __post_init__(self) -> None:
        if not self.split:
            object.__setattr__(self, "split", split_by_words(self.text))


def split_by_words(text: str) -> str:
    """Deal a text to `train` or `validation`."""
    dealt = int(words_digest(text), 16) % 100
    return "validation" if dealt < VALIDATION_PERCENT else "train"


def words_digest(text: str) -> str:
    """Hash the words of a text, however they are spaced."""
    # Half a surrogate pair, as in half an emoji, has bytes too.
    return hashlib.sha256(" ".join(text.split()).encode("utf-8", "surrogatepass")).hexdigest()


def read_queries(path: str | os.PathLike[str]) -> list[SourceQuery]:
    """Read queries by the file's ending; see `stream_queries`."""
    return list(stream_queries(path))


def stream_queries(path: str | os.PathLike[str]) -> Iterator[SourceQuery]:
    """Read queries one at a time, by the file's ending; each may be gzip (`.gz`).

    Memory stays bounded however long the file is: the ids seen go to a temporary file.

    Args:
        path: `.csv` with a column `query`; `.jsonl`, `.ndjson` or `.json` with one object a
            line and a field `query`; anything else is text with one query a line. CSV and JSON
            lines may give `id`, `task`, `answer` and `split` too, JSON lines `retrieval`; other
            columns are left alone.

    Yields:
        At least one query. Where no id is given it is a hash of the words.

    Raises:
        DataError: Names the file, line and rule of the first bad row.
    """
    yield from _queries(stream_rows(path), str(path))


def as_queries(rows: Iterable[tuple[int, Mapping[str, Any]]], name: str) -> list[SourceQuery]:
    """Check numbered rows and give each an id.

    Raises:
        DataError: If there is none, one breaks a rule, or an id stands twice.
    """
    return list(_queries(rows, name))


def _queries(rows: Iterable[tuple[int, Mapping[str, Any]]], name: str) -> Iterator[SourceQuery]:
    number = 0
    with SeenIds() as seen:
        for number, row in rows:
            yield _query(row, f"{name}, line {number}", seen)
    if not number:
        raise DataError(f"{name}: empty; give at least one query.")


def stream_rows(
    path: str | os.PathLike[str], columns: Sequence[str] = ("query",)
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Read numbered rows by the file's ending; see `stream_queries`.

    Args:
        path: CSV, JSON lines, or text.
        columns: A CSV file has at least one of these columns.

    Yields:
        The number of the line and its fields.

    Raises:
        DataError: Names the file, line and rule of the first bad row.
    """
    source, number = Path(path), 0
    try:
        for number, row in _rows(source, columns):
            yield number, row
    except FileNotFoundError as error:
        raise DataError(f"{source}: no such file of queries.") from error
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as error:
        after = f", after line {number}" if number else ""
        raise DataError(f"{source}{after}: cannot be read ({error}).") from error


def _rows(source: Path, columns: Sequence[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    kind = Path(source.stem).suffix if source.suffix == ".gz" else source.suffix
    if kind == ".csv":
        yield from _csv_rows(source, columns)
        return
    with open_text(source, "r") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            if kind in {".jsonl", ".ndjson", ".json"}:
                yield number, _json_row(line, f"{source}, line {number}")
            else:
                yield number, {"query": _text_row(line.strip(), f"{source}, line {number}")}


def _csv_rows(source: Path, columns: Sequence[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with open_text(source, "r") as lines:
        reader = csv.DictReader(lines, strict=True)
        if not set(columns).intersection(reader.fieldnames or ()):
            needed = " or ".join(map(repr, columns))
            raise DataError(
                f"{source}, line 1: a CSV file needs a column {needed}; got "
                f"{', '.join(reader.fieldnames or ()) or 'no columns'}."
            )
        for row in reader:
            if None in row:
                raise DataError(
                    f"{source}, line {reader.line_num}: more fields than columns; quote a text "
                    "that holds a comma."
                )
            yield reader.line_num, {key: value for key, value in row.items() if value}


def _text_row(line: str, where: str) -> str:
    """Take a line of a text file; one that is an object of JSON stands in the wrong file."""
    if line.startswith('{"') and line.endswith("}"):
        try:
            json.loads(line)
        except (ValueError, RecursionError):
            return line
        raise DataError(
            f"{where}: a text file has one query a line, and this is an object of JSON: name the "
            "file .jsonl, or .jsonl.gz."
        )
    return line


def _json_row(line: str, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not JSON ({error.msg} at column {error.colno}).") from None
    except (ValueError, RecursionError):  # valid JSON, but for us
        raise DataError(
            f"{where}: numbers of thousands of digits, or brackets nested as deep; write such a "
            "number as text."
        ) from None
    if not isinstance(row, dict):
        raise DataError(
            f"{where}: each line is an object with named fields; got {type(row).__name__}."
        )
    return row


def _query(row: Mapping[str, Any], where: str, seen: SeenIds) -> SourceQuery:
    text = text_field(row, "query", where)
    if text is None or not text.strip():
        raise DataError(f"{where}: field query: every row needs a non-empty query; got none.")
    given = text_field(row, "id", where)
    id_ = given or words_digest(text)[:16]
    if id_ != storable(id_):
        raise DataError(f"{where}: field id: half a surrogate pair, which no file can hold.")
    times = seen.add(id_)
    if times > 1 and given:
        raise DataError(f"{where}: id {id_!r} stands twice; ids are unique.")
    return SourceQuery(
        id=id_ if times == 1 else f"{id_}-{times}",
        text=text,
        task=text_field(row, "task", where),
        answer=text_field(row, "answer", where),
        retrieval=_facts(row.get("retrieval"), where),
        split=storable((text_field(row, "split", where) or "").strip()),
    )


def _facts(value: Any, where: str) -> RetrievalFacts | None:
    if value is None or isinstance(value, str):  # a CSV column of that name is the user's own
        return None
    try:
        return RetrievalFacts.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, ("retrieval", *first["loc"])))
        raise DataError(f"{where}: field {place}: {first['msg']}.") from None


def text_field(row: Mapping[str, Any], name: str, where: str) -> str | None:
    """Take a field that is text, or a number meant as written.

    Raises:
        DataError: If it is something else.
    """
    value = row.get(name)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and name != "query":
        return str(value)  # an answer of 42 and an id of 7 are meant as written
    raise DataError(f"{where}: field {name}: must be text; got {type(value).__name__}.")
