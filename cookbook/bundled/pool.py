"""One pool of questions: what models of the small tier make of them, and a frontier model.

Sources are named after their files. RouterDC measured no frontier model: there its quality is
unknown (NaN), and imputed for training alone. Ids are unique across the files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shared_router import RoutingDataset
from shared_router.data.schema import Outcome, RoutingRecord
from shared_router.serving.features import feature_matrix
from shared_router.training.embedding import embed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from shared_router.training.encoder import ExportedEncoder

CANDIDATES = ("small-tier", "frontier")


@dataclass(frozen=True)
class Source:
    """One public data set."""

    file: str
    licence: str
    small: tuple[str, ...]
    """Models of the small tier; none where every model of the file is one."""
    frontier: str | None


SOURCES = (
    Source("routellm_mmlu", "MIT", ("mixtral-8x7b",), "gpt-4-1106"),
    Source("routellm_gsm8k", "MIT", ("mixtral-8x7b",), "gpt-4-1106"),
    Source(
        "routerbench_zeroshot",
        "as carried by RouterDC",
        (
            "mistral-7b-chat",
            "wizardlm-13b-v1.2",
            "code-llama-instruct-34b-chat",
            "llama-2-70b-chat",
            "mixtral-8x7b-chat",
            "yi-34b-chat",
            "gpt-3.5-turbo-1106",
            "claude-instant-v1",
        ),
        "gpt-4-1106-preview",
    ),
    Source("routerdc_seven_models", "as published by RouterDC", (), None),
)


@dataclass(frozen=True)
class Pool:
    """Questions with both tiers' qualities, row by row."""

    ids: NDArray[np.str_]
    queries: NDArray[np.object_]
    sources: NDArray[np.str_]
    splits: NDArray[np.str_]
    small: NDArray[np.float64]
    """Mean quality over the small tier's models, shape (n,)."""
    frontier: NDArray[np.float64]
    """NaN where it was not measured, shape (n,)."""
    embeddings: NDArray[np.float32]
    """Shape (n, d)."""
    features: NDArray[np.float32]
    """Shape (n, f)."""

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Where a frontier model was measured."""
        return ~np.isnan(self.frontier)

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> Pool:
        """Keep these rows."""
        return Pool(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def dataset(self) -> RoutingDataset:
        """Return the rows with a frontier quality as a data set of both tiers."""
        return RoutingDataset(
            tuple(self._record(row) for row in np.flatnonzero(self.known)), name="the pool"
        )

    def _record(self, row: int) -> RoutingRecord:
        qualities = (float(self.small[row]), float(self.frontier[row]))
        return RoutingRecord(
            id=str(self.ids[row]),
            query=self.queries[row],
            split=str(self.splits[row]),
            outcomes={
                name: Outcome(quality=(quality,))
                for name, quality in zip(CANDIDATES, qualities, strict=True)
            },
        )


CHAT = Source(
    "alpaca_eval",
    "never trained on",
    (
        "vicuna-7b-v1.5",
        "vicuna-13b-v1.5",
        "gpt-3.5-turbo-1106",
        "claude-instant-1.2",
        "qwen-14b-chat",
        "gemma-7b-it",
    ),
    "gpt-4-turbo",
)
"""Open-ended instructions: measured only. Their answers' licence forbids more."""


def read_pool(folder: Path, encoder: ExportedEncoder, sources: Sequence[Source] = SOURCES) -> Pool:
    """Read and embed sources.

    Args:
        folder: Holds their files, `.jsonl.gz`.
        encoder: Embeds the questions.
        sources: What to read; never `CHAT` for training.
    """
    rows: list[tuple[str, str, str, str, float, float]] = []
    for source in sources:
        data = RoutingDataset.load(folder / f"{source.file}.jsonl.gz")
        rows += [row for record in data if (row := _row(source, record)) is not None]
    ids, queries, sources, splits, small, frontier = zip(*rows, strict=True)
    return Pool(
        np.array(ids),
        np.array(queries, dtype=object),
        np.array(sources),
        np.array(splits),
        np.array(small),
        np.array(frontier),
        embed(encoder, queries),
        feature_matrix(queries),
    )


def _row(source: Source, record: RoutingRecord) -> tuple[str, str, str, str, float, float] | None:
    """Return one row; nothing where the tiers were not both measured as the source promises."""
    small = _qualities(record, source.small or tuple(record.outcomes))
    frontier = [np.nan] if source.frontier is None else _qualities(record, (source.frontier,))
    if not small or not frontier:
        return None
    return record.id, record.query, source.file, record.split, float(np.mean(small)), frontier[0]


def _qualities(record: RoutingRecord, models: Sequence[str]) -> list[float]:
    return [record.outcomes[m].mean_quality for m in models if m in record.outcomes]
