"""Queries whose outcomes are all known, to draw calibrations from again and again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from shared_router.deciding.evidence import Evidence, is_coarse
from shared_router.support.processes import cached_property
from tests.benchmarks.out_of_fold import out_of_fold

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from shared_router.deciding.evidence import Method

PAIRS = {
    "mmlu": ("routellm_mmlu", "mixtral-8x7b", "gpt-4-1106"),
    "mmlu_pro": ("mmlu_pro", "llama-3.1-8b-instruct", "llama-3.1-70b-instruct"),
    "graded": ("routerdc_seven_models", "zephyr-7b-beta", "dolphin-2.9-llama3-8b"),
    "gsm8k": ("routellm_gsm8k", "mixtral-8x7b", "gpt-4-1106"),
    "routerbench": ("routerbench_zeroshot", "gpt-3.5-turbo-1106", "gpt-4-1106-preview"),
}
"""Data file, small and large model."""


@dataclass(frozen=True)
class Population:
    """All queries there are."""

    name: str
    scores: NDArray[np.float64]
    """Scores by routers that have not seen them, shape (N,)."""
    quality: NDArray[np.float64]
    """Of the small and the large model, shape (N, 2), each in [0, 1]."""
    method: Method
    """How they are tested."""

    @cached_property
    def reference(self) -> float:
        """Mean quality of the large model."""
        return float(self.quality[:, 1].mean())

    @cached_property
    def _line(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scores, falling, and the drop where so many of the highest are routed."""
        order = np.argsort(-self.scores, kind="stable")
        lost = (self.quality[:, 1] - self.quality[:, 0])[order]
        drops = np.concatenate([[0.0], np.cumsum(lost)]) / (len(lost) * self.reference)
        return self.scores[order], drops

    def measure(
        self, thresholds: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the share that each threshold routes, and its relative drop."""
        falling, drops = self._line
        routed = np.searchsorted(-falling, -thresholds, side="right")
        return routed / len(falling), drops[routed]

    def rows(self, rng: np.random.Generator, n: int) -> NDArray[np.intp]:
        """Draw queries with replacement."""
        return rng.integers(0, len(self.scores), n)

    def evidence(self, rng: np.random.Generator, rows: NDArray[np.intp]) -> Evidence:
        """Take drawn queries for evidence, each for itself; the exact test rounds their quality."""
        quality, ones = self.quality[rows], np.ones(len(rows))
        if self.method == "paired":
            quality = (rng.uniform(size=(len(rows), 1)) < quality).astype(np.float64)
        small, large = quality.T
        return Evidence(self.scores[rows], large - small, large, ones, (0.0, 1.0), self.method)

    def by_bets(self) -> Population:
        """Take the same queries, tested by bets."""
        return replace(self, name=f"{self.name}, bets", method="bets")


def first(evidence: Evidence, n: int) -> Evidence:
    """Take the first n."""
    names = ("scores", "losses", "reference", "weights")
    return replace(evidence, **{name: getattr(evidence, name)[:n] for name in names})


def measured(folder: Path, name: str) -> Population:
    """Score a pair's queries by routers that have not seen them."""
    file, *pair = PAIRS[name]
    found = out_of_fold(str(folder / f"{file}.jsonl.gz"), pair)
    exact = np.isin(found.quality, (0.0, 1.0)).all() or is_coarse(found.quality, (0.0, 1.0))
    scores = found.plain[:, 0].astype(np.float64)
    return Population(name, scores, found.quality, "paired" if exact else "bets")


def on_the_limit(limit: float, gains: float, *, graded: bool, n: int = 40_000) -> Population:
    """Make queries of which the better half loses nothing, and all of them just above the limit.

    Args:
        limit: The relative limit.
        gains: Share of all queries that gain.
        graded: Whether quality is graded: then a loss or a gain is 0.35 of a reference that is
            0.4 on average; right or wrong, the reference is right on 80 %.
        n: How many to make, at least.
    """
    size, reference = (0.35, 0.4) if graded else (1.0, 0.8)
    lost, gained = round((limit * reference / size + gains) * n) + 1, round(gains * n)
    large = np.where(np.arange(n) % 5 < 4, 1.0, 0.0)  # right on 80 % of either half
    if graded:
        large = 0.4 + 0.05 * np.where(np.arange(n) % 2, 1, -1)
    small, lower = large.copy(), np.arange(n) >= n // 2
    small[np.flatnonzero(lower & (large >= 0.35))[:lost]] -= size
    still = lower & (small == large) & (large < 0.5 if graded else large == 0)
    small[np.flatnonzero(still)[:gained]] += size
    name = f"{'graded' if graded else 'right'} {gains:g}"
    quality = np.stack([small, large], axis=1)
    return Population(name, np.where(lower, 0.0, 1.0), quality, "bets" if graded else "paired")
