"""Rules: one-parameter families of decisions, ordered from all-reference to all-cheapest.

A rule turns scores and one threshold into choices. As the threshold falls, each query leaves the
reference for cheaper and cheaper candidates, at thresholds that depend on its scores alone. So
every dial is a point on one line, and re-deciding never re-scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from shared_router.errors import CandidateError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

RuleName = Literal["gap", "probability"]


def savings_from_costs(
    costs: Sequence[float | None] | None, n: int, names: Sequence[str] | None = None
) -> NDArray[np.float64]:
    """Compute each candidate's saving: 0 at the reference, 1 at the cheapest.

    `saving_j = (c_ref - c_j) / (c_ref - c_min)`; evenly spaced in the given order where a cost is
    not known or all cost the same.

    Args:
        costs: Mean cost of one call per candidate, the reference last; `None` where unknown.
        n: Number of candidates, at least 2.
        names: Their names, for messages.

    Returns:
        Array of shape (n,), each in [0, 1].

    Raises:
        CandidateError: If a cost is negative or not finite, or a candidate is dearer than the
            reference.
    """
    if costs is None or any(cost is None for cost in costs):
        return np.linspace(1.0, 0.0, n)
    known = np.asarray(costs, dtype=np.float64)
    if not np.all(np.isfinite(known)) or (known < 0).any():
        raise CandidateError(f"Costs are finite and at least 0; got {known.tolist()}.")
    reference = known[-1]
    if (known == reference).all():  # nothing to save, such as models that cost nothing
        return np.linspace(1.0, 0.0, n)
    if (known[:-1] > reference).any():
        at = int(np.argmax(known[:-1]))
        dear, last = (repr(names[at]), repr(names[-1])) if names else (str(at), str(n - 1))
        raise CandidateError(
            f"Candidate {dear} costs {known[at]:.3g} USD a call, the reference {last} only "
            f"{reference:.3g}: list the dearest model last, or leave the dearer candidate out."
        )
    saving: NDArray[np.float64] = (reference - known) / (reference - known.min())
    return saving


@dataclass(frozen=True)
class Rule:
    """A one-parameter rule over k candidates, the reference last."""

    name: RuleName
    """`gap`: `argmax_j (score_j - threshold * saving_j)`, the reference standing at 0;
    `probability`: the cheapest candidate with `score_j >= threshold`."""
    savings: NDArray[np.float64]
    """Saving per candidate, shape (k,), the reference's 0."""

    def entry(self, scores: NDArray[np.float64], current: NDArray[np.intp]) -> NDArray[np.float64]:
        """Compute the threshold at which each candidate overtakes the current one.

        Args:
            scores: Scores with the reference's column, shape (n, k).
            current: Current choice per query, shape (n,).

        Returns:
            Array of shape (n, k); minus infinity where a candidate saves no more than the
            current one.
        """
        step = self.savings[None, :] - self.savings[current][:, None]
        if self.name == "probability":
            at = scores
        else:
            here = np.take_along_axis(scores, current[:, None], axis=1)
            with np.errstate(divide="ignore", invalid="ignore"):
                at = (scores - here) / step
        return np.where(step > 0, at, -np.inf)

    def choose(
        self, scores: NDArray[np.floating], threshold: float | NDArray[np.float64]
    ) -> NDArray[np.intp]:
        """Choose a candidate for each query.

        Args:
            scores: Shape (n, k - 1), higher = less need of the reference.
            threshold: The rule's parameter, one for all or one per query; infinite is
                all-reference.

        Returns:
            Indices of candidates, shape (n,).
        """
        choice = np.full(len(scores), len(self.savings) - 1)
        for at, chosen, moved in self._steps(scores):
            go = moved & (at >= threshold)
            choice = np.where(go, chosen, choice)
        return choice

    def choose_one(self, scores: Sequence[float], threshold: float) -> int:
        """Choose for one query; with two candidates the line is a comparison.

        Args:
            scores: k - 1 numbers; minus infinite keeps a candidate out.
            threshold: The rule's parameter.

        Returns:
            The candidate's index.
        """
        if len(scores) == 1:
            return 0 if -math.inf < scores[0] >= threshold else 1
        return int(self.choose(np.array([scores]), threshold)[0])

    def events(
        self, scores: NDArray[np.floating]
    ) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """List every change of choice along the line.

        Args:
            scores: Shape (n, k - 1).

        Returns:
            Four arrays of one length, in no order: the threshold of the change, the query's
            index, the candidate it leaves and the candidate it goes to.
        """
        before = np.full(len(scores), len(self.savings) - 1)
        found: list[
            tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]
        ]
        found = []
        for at, chosen, moved in self._steps(scores):
            where = np.flatnonzero(moved)
            found.append((at[where], where, before[where], chosen[where]))
            before = np.where(moved, chosen, before)
        columns = zip(*found, strict=True)
        at, query, source, target = (np.concatenate(column) for column in columns)
        return at, query, source, target

    def _steps(
        self, scores: NDArray[np.floating]
    ) -> list[tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.bool_]]]:
        """Walk every query from the reference to its cheapest candidate, one overtaking a step."""
        full = np.hstack([np.asarray(scores, dtype=np.float64), np.zeros((len(scores), 1))])
        current = np.full(len(full), full.shape[1] - 1)
        steps = []
        for _ in range(full.shape[1] - 1):
            entry = self.entry(full, current)
            at = entry.max(axis=1)
            # Of those that overtake at once, the one that saves most stands after it.
            tied = entry >= at[:, None]
            chosen = np.argmax(np.where(tied, self.savings[None, :], -np.inf), axis=1)
            moved = np.isfinite(at)
            current = np.where(moved, chosen, current)
            steps.append((at, current, moved))
        return steps


def rule_of(labels: str, costs_usd: Sequence[float | None] | None, names: Sequence[str]) -> Rule:
    """Make the rule of a router.

    Args:
        labels: What its scores mean; `gap`, or one of the paper's labels.
        costs_usd: Mean cost of one call per candidate, the reference last.
        names: The candidates.

    Raises:
        CandidateError: If a cost is wrong, or a candidate is dearer than the reference.
    """
    savings = savings_from_costs(costs_usd, len(names), names)
    return Rule("gap" if labels == "gap" else "probability", savings)
