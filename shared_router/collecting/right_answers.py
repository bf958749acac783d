"""Where the text comes from that a recorded response is compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from shared_router.collecting.sources import stream_rows, text_field, words_digest
from shared_router.data.schema import RoutingRecord
from shared_router.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    from pathlib import Path

Finder = Callable[[RoutingRecord], str | None]
"""Returns the text that the responses of a record are compared with; `None` where there is none."""


class ReferenceTexts(Protocol):
    """Says where right answers, tests or reference texts come from."""

    @property
    def hint(self) -> str:
        """Say what to look at where no record has a text."""
        ...

    def portable(self) -> Self:
        """Return the same, for a process that stands in another folder."""
        ...

    def load(self) -> Finder:
        """Read what is to be read."""
        ...


@dataclass(frozen=True)
class NoTexts:
    """No reference texts: for metrics that look at the response alone."""

    hint = "give --answers FILE, or --against MODEL to compare with another model's responses."

    def portable(self) -> NoTexts:
        """Return the same."""
        return self

    def load(self) -> Finder:
        """Find nothing."""
        return lambda record: None


@dataclass(frozen=True)
class FirstResponseOf:
    """The first recorded response of one model stands in for a right answer.

    That model's own first response is compared with itself.
    """

    model: str
    """Name of the model."""

    @property
    def hint(self) -> str:
        """Say that the model has no responses."""
        return f"there are no recorded responses of {self.model!r}: give --against another model."

    def portable(self) -> FirstResponseOf:
        """Return the same."""
        return self

    def load(self) -> Finder:
        """Find the response of that model."""

        def find(record: RoutingRecord) -> str | None:
            outcome = record.outcomes.get(self.model)
            return outcome.response[0] if outcome and outcome.response else None

        return find


@dataclass(frozen=True)
class AnswersFile:
    """Right answers by the id of the query, or by its words where the file gives no id."""

    path: Path
    """A file as `read_answers` reads it."""

    @property
    def hint(self) -> str:
        """Say that ids and words do not match."""
        return f"neither ids nor words match those of {self.path}: give the file that belongs here."

    def portable(self) -> AnswersFile:
        """Name the file for a process that stands in another folder."""
        return AnswersFile(self.path.absolute())

    def load(self) -> Finder:
        """Read the file."""
        by_id, by_words = read_answers(self.path)

        def find(record: RoutingRecord) -> str | None:
            found = by_id.get(record.id)
            return by_words.get(words_digest(record.query)) if found is None else found

        return find


def read_answers(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Read right answers; all of them are held in memory.

    Args:
        path: CSV or JSON lines, plain or gzip, with `answer` and one of `id` and `query`, or
            both. Rows without an answer are passed over.

    Returns:
        The answers of rows with an id by their id, and those of the others by the hash of the
        query's words.

    Raises:
        DataError: Names the file, line and rule of the first bad row, such as a second answer to
            one query that differs.
    """
    by_id: dict[str, str] = {}
    by_words: dict[str, str] = {}
    for number, row in stream_rows(path, ("id", "query")):
        where = f"{path}, line {number}"
        id_, query, answer = (text_field(row, name, where) for name in ("id", "query", "answer"))
        if answer is None:
            continue
        if not id_ and not query:
            raise DataError(f"{where}: an answer needs the id or the query that it belongs to.")
        if id_:
            _keep(by_id, id_, answer, where)
        elif query:
            _keep(by_words, words_digest(query), answer, where)
    if not by_id and not by_words:
        raise DataError(
            f"{path}: no answers; give CSV or JSON lines with a field 'answer' and one of 'id' "
            "and 'query'."
        )
    return by_id, by_words


def _keep(answers: dict[str, str], key: str, answer: str, where: str) -> None:
    if answers.setdefault(key, answer) != answer:
        raise DataError(f"{where}: another answer to the same query stands above; give one.")


def reference_texts(answers: Path | None, against: str | None) -> ReferenceTexts:
    """Choose where reference texts come from: a file, a model's responses, or nowhere.

    Raises:
        ConfigurationError: If both are given.
    """
    if answers is not None and against is not None:
        raise ConfigurationError(
            "Right answers come from a file or from another model's responses; give one of "
            "--answers and --against."
        )
    if against is not None:
        return FirstResponseOf(against)
    return NoTexts() if answers is None else AnswersFile(answers)
