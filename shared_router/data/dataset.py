"""RoutingDataset: queries with measured outcomes, in the order of their files."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shared_router.asking.task_labels import answers_to
from shared_router.data.output import replacing
from shared_router.data.schema import Outcome, RoutingRecord, read_records
from shared_router.errors import CandidateError, DataError
from shared_router.support.names import check_candidate_names
from shared_router.support.user_warnings import warn

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from shared_router.retrieval import RetrievalFacts

__all__ = ["Outcome", "RoutingDataset", "RoutingRecord", "SplitLeakWarning"]

SAVE_AGAIN = "Make room or give permission, and save again."


class SplitLeakWarning(UserWarning):
    """A query stands in two splits, so that one leaks into the other."""


@dataclass(frozen=True)
class RoutingDataset:
    """An immutable sequence of `RoutingRecord`.

    Build one with `load` or from records; narrow it with `split`, `task` and `candidates`.
    """

    records: tuple[RoutingRecord, ...]
    """The records, in order."""
    name: str = "data"
    """Where they came from, for messages and model cards."""

    @classmethod
    def load(cls, *paths: str | os.PathLike[str]) -> RoutingDataset:
        """Read one or more data files.

        Args:
            *paths: JSON lines, plain or gzip.

        Returns:
            All records, file after file.

        Raises:
            DataError: If a line breaks a rule of the format, an id stands twice, or all files
                are empty.

        Warns:
            SplitLeakWarning: If a query stands in two splits.
        """
        files = [Path(path) for path in paths]
        records: list[RoutingRecord] = []
        for path in files:
            records += read_records(path)
        data = cls(tuple(records), name=", ".join(path.name for path in files))
        data._check()
        return data

    @classmethod
    def stream(cls, path: str | os.PathLike[str]) -> Iterator[RoutingRecord]:
        """Read one file a record at a time, in constant memory."""
        return read_records(Path(path))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the records as JSON lines, gzip where the name ends in `.gz`.

        An older file is replaced, at once or not at all.

        Raises:
            DataError: If it cannot be written; an older file is left as it was.
        """
        with replacing(Path(path), SAVE_AGAIN, even_empty=True) as out:
            for record in self.records:
                out.write(record.model_dump_json(exclude_none=True) + "\n")

    def _check(self) -> None:
        if not self.records:
            raise DataError(f"{self.name}: empty; a data set needs at least one record.")
        twice = [id_ for id_, n in Counter(record.id for record in self).items() if n > 1]
        if twice:
            raise DataError(
                f"{self.name}: id {twice[0]!r} stands more than once ({len(twice)} such ids); ids "
                "are unique within the files loaded together."
            )
        leaks = self.leaks()
        if leaks:
            shown = ", ".join("/".join(ids[:2]) for ids in leaks[:3])
            warn(
                f"{self.name}: {len(leaks)} queries stand in two splits (ids {shown}): figures "
                "measured on one of them are flattered.",
                SplitLeakWarning,
            )

    def leaks(self) -> list[tuple[str, ...]]:
        """List the ids of each query that stands in more than one split."""
        seen: dict[str, list[RoutingRecord]] = defaultdict(list)
        for record in self.records:
            seen[" ".join(record.query.split())].append(record)
        return [
            tuple(record.id for record in same)
            for same in seen.values()
            if len({record.split for record in same}) > 1
        ]

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[RoutingRecord]:
        return iter(self.records)

    def __repr__(self) -> str:
        return f"RoutingDataset({self.name!r}, {len(self)} queries, splits={sorted(self.splits)})"

    def where(self, keep: Callable[[RoutingRecord], bool]) -> RoutingDataset:
        """Keep the records for which `keep` is true; possibly none."""
        return RoutingDataset(tuple(filter(keep, self.records)), self.name)

    def take(self, indices: Iterable[int]) -> RoutingDataset:
        """Keep the records at these positions."""
        return RoutingDataset(tuple(self.records[i] for i in indices), self.name)

    @cached_property
    def splits(self) -> Counter[str]:
        """Records per split."""
        return Counter(record.split for record in self.records)

    @cached_property
    def tasks(self) -> Counter[str]:
        """Records per task label."""
        return Counter(record.task for record in self.records if record.task is not None)

    @cached_property
    def models(self) -> tuple[str, ...]:
        """Every model with an outcome, in order of first appearance."""
        return tuple(dict.fromkeys(name for record in self.records for name in record.outcomes))

    def split(self, name: str) -> RoutingDataset:
        """Keep one split.

        Raises:
            DataError: If no record is in it.
        """
        found = self.where(lambda record: record.split == name)
        if not found.records:
            raise DataError(f"{self.name}: no split {name!r}; there are {_listed(self.splits)}.")
        return found

    def task(self, name: str) -> RoutingDataset:
        """Keep one task, or a whole suite by the part before the slash.

        Raises:
            DataError: If no record is in it.
        """
        found = self.where(lambda record: answers_to(record.task, name))
        if not found.records:
            raise DataError(f"{self.name}: no task {name!r}; there are {_listed(self.tasks)}.")
        return found

    def candidates(self, names: Sequence[str]) -> RoutingDataset:
        """Keep the records in which each of these models has an outcome.

        Args:
            names: At least two model names, the reference last.

        Returns:
            The complete records; how many were left out is said in a warning.

        Raises:
            CandidateError: If fewer than two or a name twice is given, or one is in no record.
            DataError: If no record has them all.
        """
        check_candidate_names(names)
        for name in names:
            if name not in self.models:
                raise CandidateError(
                    f"{self.name}: no outcomes of candidate {name!r}; there are "
                    f"{_listed(self.models)}."
                )
        found = self.where(lambda record: all(name in record.outcomes for name in names))
        if not found.records:
            raise DataError(f"{self.name}: no query has outcomes of all of {', '.join(names)}.")
        if len(found) < len(self):
            warn(
                f"{self.name}: {len(self) - len(found)} of {len(self)} queries lack an outcome of "
                f"{', '.join(names)} and are left out.",
                UserWarning,
            )
        return found

    def aliases(self, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Return what else each of these models is called, as the outcomes tell."""
        found: dict[str, dict[str, None]] = {name: {} for name in names}
        for record in self.records:
            for name, others in found.items():
                if name in record.outcomes:
                    others.update(dict.fromkeys(record.outcomes[name].aliases or ()))
        return {name: tuple(n for n in others if n != name) for name, others in found.items()}

    @property
    def ids(self) -> tuple[str, ...]:
        """The records' ids."""
        return tuple(record.id for record in self.records)

    @property
    def queries(self) -> list[str]:
        """The records' queries."""
        return [record.query for record in self.records]

    @property
    def retrieval(self) -> list[RetrievalFacts | None]:
        """The records' facts of retrieval; `None` where one has none."""
        return [record.retrieval for record in self.records]

    def quality(self, names: Sequence[str]) -> NDArray[np.float64]:
        """Return the mean quality, shape (n, k): one column per name."""
        rows = [[record.outcomes[name].mean_quality for name in names] for record in self.records]
        return np.array(rows, dtype=np.float64).reshape(len(self), len(names))

    def samples(self, name: str) -> list[NDArray[np.float64]]:
        """Return every sampled quality of one model, one array per query."""
        return [np.array(record.outcomes[name].quality) for record in self.records]

    def costs_usd(self, names: Sequence[str]) -> NDArray[np.float64] | None:
        """Return the cost of each call, shape (n, k); `None` where a record does not tell one."""
        rows = [[record.outcomes[name].cost_usd for name in names] for record in self.records]
        if any(cost is None for row in rows for cost in row):
            return None
        return np.array(rows, dtype=np.float64).reshape(len(self), len(names))

    def mean_costs_usd(self, names: Sequence[str]) -> list[float | None]:
        """Return the mean cost of one call per name; `None` where no record tells.

        The means are of the records that tell the costs of all, so that they compare the same
        queries; where there is none, each is of the records that tell its own.
        """
        whole = [record for record in self.records if all(_priced(record, n) for n in names)]
        return [self._mean_cost(name, whole or self.records) for name in names]

    def _mean_cost(self, name: str, records: Iterable[RoutingRecord]) -> float | None:
        known = [r.outcomes[name].cost_usd for r in records if _priced(r, name)]
        return float(np.mean(known)) if known else None  # type: ignore[arg-type]


def _priced(record: RoutingRecord, name: str) -> bool:
    return name in record.outcomes and record.outcomes[name].cost_usd is not None


def _listed(names: Iterable[str], most: int = 12) -> str:
    listed = [repr(name) for name in sorted(names)]
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" * (len(listed) > most))
