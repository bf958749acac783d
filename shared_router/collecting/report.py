"""What a collect tells: how far it is, and what it left behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class CollectProgress:
    """How far a run is."""

    done: int
    """Calls finished, those of earlier starts included."""
    total: int
    """Calls of the whole run: queries x models x samples."""
    failed: int
    """Calls that failed for good since this start, judgements included."""
    calls_per_second: float
    """Rate since this start."""
    eta_s: float | None
    """Seconds left at this rate; `None` before the first call."""
    spent_usd: float
    """Dollars so far, those of earlier starts included; 0 where no price is known."""
    earlier: int = 0
    """Calls of earlier starts that are taken up."""


@dataclass(frozen=True, kw_only=True)
class ModelTally:
    """How one model did in a run."""

    answered: int = 0
    """Calls that were answered."""
    failed: int = 0
    """Calls, and judgements of its answers, that failed for good."""
    with_logprobs: int = 0
    """Calls whose answer told the log-probabilities of its tokens."""
    quality: float | None = None
    """Mean quality over the queries, the mean of its samples each; `None` where nothing is
    judged."""


@dataclass(frozen=True, kw_only=True)
class CollectReport:
    """What a run left behind."""

    out: Path | None
    """The data file; `None` where the run stopped early, has no judge or no good answer."""
    records: int
    """Queries in the data file."""
    calls: int
    """Calls made since this start."""
    failed: int
    """Calls and judgements that failed for good, listed in `failures`."""
    failures: Path | None
    """The list of failures, JSON lines; `None` where nothing failed."""
    spent_usd: float
    """Dollars of the whole run, judging included."""
    stopped: str | None
    """Why the run stopped early; `None` where it is complete."""
    unvaried: tuple[str, ...] = ()
    """Models of a complete run whose samples of a query were all alike, on every query."""
    earlier: int = 0
    """Calls of earlier starts that were taken up."""
    models: dict[str, ModelTally] = field(default_factory=dict)
    """How each model did, earlier starts included."""

    def lacking(self, *, judged: bool) -> list[str]:
        """List the models without an answer, or without a judged one."""
        return [
            name
            for name, tally in self.models.items()
            if not tally.answered or (judged and tally.quality is None)
        ]
