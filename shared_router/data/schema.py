"""The format of a data file: one validated JSON object a line."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator  # noqa: TC003  (pydantic reads it)
from typing import IO, TYPE_CHECKING, Annotated, Any, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared_router.errors import DataError
from shared_router.records import AnswerSettings  # noqa: TC001  (pydantic reads it)
from shared_router.retrieval import RetrievalFacts  # noqa: TC001  (pydantic reads it)
from shared_router.support.names import check_name

if TYPE_CHECKING:
    from pathlib import Path


LARGEST_QUALITY = 1e30
"""Of an absolute value; a gap of qualities still fits a float32, and a sum of many a float64."""

ABOVE_0 = 1e-6
"""By which rounding may lift a log-probability above 0."""


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


def _quality(value: float) -> float:
    if abs(_finite(value)) > LARGEST_QUALITY:
        raise ValueError(f"must lie between {-LARGEST_QUALITY:g} and {LARGEST_QUALITY:g}")
    return value


def _cost(value: float) -> float:
    if _finite(value) < 0:
        raise ValueError("must be at least 0")
    return value


def _logprob(value: float) -> float:
    """Check the natural logarithm of a probability; rounding may lift it above 0 by a hair."""
    if _finite(value) > ABOVE_0:
        raise ValueError("must be the logarithm of a probability, at most 0")
    return min(value, 0.0)


# Strict: neither text nor true is a number.
Quality = Annotated[float, Field(strict=True), AfterValidator(_quality)]
Cost = Annotated[float, Field(strict=True), AfterValidator(_cost)]
Logprob = Annotated[float, Field(strict=True), AfterValidator(_logprob)]


class Outcome(BaseModel):
    """What one model answered to one query, and how good it was."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True)

    quality: Annotated[tuple[Quality, ...], Field(min_length=1)]
    """One number per sampled response, higher is better."""
    response: tuple[str, ...] | None = Field(default=None, repr=False)
    """The sampled responses, in the order of `quality`."""
    cost_usd: Cost | None = None
    """Cost of one call in US dollars."""
    aliases: tuple[Annotated[str, AfterValidator(check_name)], ...] | None = None
    """Other names of the model, such as its provider's: by them it binds to a router."""
    logprobs: tuple[tuple[Logprob, ...], ...] | None = Field(default=None, repr=False)
    """Natural log-probabilities of the tokens of each response, in the order of `response`; an
    empty list where a response came without."""
    settings: AnswerSettings | None = None
    """How the responses were made, where that is known."""

    @model_validator(mode="after")
    def _logprobs_of_each_response(self) -> Outcome:
        if self.logprobs is None:
            return self
        wanted = len(self.response) if self.response is not None else 0
        if len(self.logprobs) != wanted:
            raise ValueError(
                f"has logprobs of {len(self.logprobs)} responses for {wanted} responses; give one "
                "list per response, an empty one where it has none, or leave logprobs out"
            )
        return self

    @model_validator(mode="after")
    def _one_response_per_quality(self) -> Outcome:
        if self.response is not None and len(self.response) != len(self.quality):
            raise ValueError(
                f"has {len(self.response)} responses for {len(self.quality)} quality values; "
                "give one response per value, or none"
            )
        return self

    @property
    def mean_quality(self) -> float:
        """Mean of the sampled qualities."""
        return math.fsum(self.quality) / len(self.quality)


class RoutingRecord(BaseModel):
    """One query with the outcomes of the models that answered it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(min_length=1)]
    """Unique within the file."""
    query: str = Field(repr=False)
    """What the user asked."""
    task: str | None = None
    """Task label, `suite/task`."""
    split: str = "train"
    """Any name; `train` and `validation` are the usual ones."""
    retrieval: RetrievalFacts | None = None
    """What was retrieved for the query, where the models answered from it."""
    conversation: Annotated[str, Field(min_length=1)] | None = None
    """Names the conversation that the query is a turn of; its turns stand in their order. Then
    calibrations measure whole conversations: one label each, the mean of its turns."""
    outcomes: dict[str, Outcome]
    """Model name to outcome."""


def storable(text: str) -> str:
    """Replace halves of surrogate pairs, as in half an emoji, which no UTF-8 file can hold."""
    return text.encode(errors="replace").decode()


def open_text(path: Path, mode: str) -> IO[str]:
    """Open a plain or gzip text file by its ending; a mark at its start, as Excel's, is no text."""
    encoding = "utf-8-sig" if mode == "r" else "utf-8"
    if path.suffix == ".gz":
        return cast("IO[str]", gzip.open(path, mode + "t", encoding=encoding))
    return path.open(mode, encoding=encoding)


def read_records(path: Path) -> Iterator[RoutingRecord]:
    """Stream the records of one file.

    Args:
        path: JSON lines, plain or gzip (`.gz`).

    Yields:
        One validated record per non-empty line.

    Raises:
        DataError: Names the file, line, field and rule of the first bad line.
    """
    number = 0
    try:
        with open_text(path, "r") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield parse_record(line, f"{path}, line {number}")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such data file.") from error
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path}, after line {number}: cannot be read ({error}).") from error


def parse_record(line: str, where: str) -> RoutingRecord:
    """Validate one line.

    Raises:
        DataError: With `where`, the field and the rule; the line itself is not quoted.
    """
    try:
        return RoutingRecord.model_validate_json(line)
    except ValidationError as error:
        raise DataError(f"{where}: {_first_problem(error)}") from None


def _first_problem(error: ValidationError) -> str:
    first: Any = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "the line"
    seen = first.get("input")
    shown = f"; got {seen!r}" if isinstance(seen, int | float | None) else ""
    more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"field {place}: {first['msg'].removeprefix('Value error, ')}{shown}{more}."
