"""What is read, record by record: queries, scored queries, recorded answers."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared_router.collecting.seen import SeenIds
from shared_router.collecting.sources import stream_queries, stream_rows
from shared_router.data.schema import read_records
from shared_router.deciding.checks import is_finite
from shared_router.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from shared_router.bulk.runner import Row
    from shared_router.collecting.right_answers import ReferenceTexts
    from shared_router.router.state import RouterState


OF_TASKS = ("task", "task_source", "scored_under")
"""Fields of a scored query that say what its scores rest on besides its text."""
KEPT = ("id", "scores", "length", *OF_TASKS, "with_retrieval", "text", "error")
"""Fields of a scored query that are read again."""


@dataclass(frozen=True)
class QueryRows:
    """Queries to score."""

    path: Path
    """A file as `stream_queries` reads it."""

    def portable(self) -> QueryRows:
        """Name the file for a process that stands in another folder."""
        return dataclasses.replace(self, path=self.path.absolute())

    def __call__(self) -> Iterator[Row]:
        """Read id, text, length in characters and, where known, task and facts of retrieval."""
        for query in stream_queries(self.path):
            row: Row = {"id": query.id, "text": query.text, "length": len(query.text)}
            if query.task:
                row["task"] = query.task
            if query.retrieval is not None:
                row["retrieval"] = query.retrieval.model_dump()
            yield row


@dataclass(frozen=True)
class ScoredRows:
    """An earlier output of `score_file`, whose scores are used again."""

    path: Path
    """JSON lines."""
    candidates: tuple[str, ...]
    """Names of the router's candidates, the reference last."""
    version: str
    """Version of the router that must have scored them."""

    def portable(self) -> ScoredRows:
        """Name the file for a process that stands in another folder."""
        return dataclasses.replace(self, path=self.path.absolute())

    def __call__(self) -> Iterator[Row]:
        """Read the lines.

        Raises:
            DataError: Names the file, line and rule of the first line that is something else.
        """
        for number, row in stream_rows(self.path):
            where = f"{self.path}, line {number}"
            self._check(row, where)
            yield {name: row[name] for name in KEPT if name in row}

    def _check(self, row: Mapping[str, Any], where: str) -> None:
        if row.get("router") != self.version:
            raise DataError(
                f"{where}: scored by router {row.get('router')!r}, and this is {self.version!r}: "
                "score the queries themselves with this router."
            )
        if not isinstance(row.get("id"), str) or type(row.get("length")) is not int:
            raise DataError(f"{where}: a scored query has an id and a length; got neither or one.")
        if not all(isinstance(row.get(name, ""), str) for name in OF_TASKS):
            raise DataError(f"{where}: fields {', '.join(OF_TASKS)}: text, or left out.")
        scores = row.get("scores")
        if scores is None and "scores" in row:
            return  # its scoring failed
        wanted = self.candidates[:-1]
        if (
            not isinstance(scores, dict)
            or set(scores) != set(wanted)
            or not all(map(is_finite, scores.values()))
        ):
            raise DataError(
                f"{where}: field scores: a finite number for each of {', '.join(wanted)}, or null."
            )


def score_rows(path: Path, router: RouterState) -> QueryRows | ScoredRows:
    """Tell by its first line whether a file holds queries, or queries that are scored already."""
    _, first = next(stream_rows(path), (0, {}))
    if {"scores", "router"} <= set(first):
        return ScoredRows(path, router.candidates, router.version)
    return QueryRows(path)


@dataclass(frozen=True)
class RecordRows:
    """Records with recorded responses, each with the text they are compared with."""

    path: Path
    """A data file."""
    texts: ReferenceTexts
    """Where the reference texts come from."""

    def portable(self) -> RecordRows:
        """Name the file for a process that stands in another folder."""
        return RecordRows(self.path.absolute(), self.texts.portable())

    def __call__(self) -> Iterator[Row]:
        """Read the records.

        Raises:
            DataError: If a line breaks a rule of the format, or an id stands twice.
        """
        text_of = self.texts.load()
        with SeenIds() as seen:
            for record in read_records(self.path):
                if seen.add(record.id) > 1:
                    raise DataError(f"{self.path}: id {record.id!r} stands twice; ids are unique.")
                yield {
                    "record": record.model_dump(mode="json", exclude_none=True),
                    "answer": text_of(record),
                }
