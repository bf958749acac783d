"""What escalation buys and costs, on recorded responses: each is checked as at a call.

Where a check rejects a candidate's response, the next dearer one's outcome counts and both are paid
for, up to the reference, whose response stands. Beside it: no escalation, and as many escalations
that look at no answer.

Source: cascades as in FrugalGPT (arXiv 2305.05176); agreement of samples as in BEST-Route (arXiv
2506.22716), which draws several answers of the cheaper model.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.data.costs import call_costs
from shared_router.deciding.escalation import Answer, checks_from, first_rejection
from shared_router.errors import DataError
from shared_router.measuring.bootstrap import RESAMPLES, interval, resampled_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from shared_router.data.dataset import RoutingDataset
    from shared_router.data.schema import Outcome
    from shared_router.deciding.escalation import Check
    from shared_router.measuring.bootstrap import Interval

AGREEMENT = "agreement"
"""Rejects where too few of a model's sampled responses say the same."""
LEAST_AGREEING = 0.6
"""Share of the samples that must agree."""
_SPACE = re.compile(r"\W+")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure and its 95 % bootstrap interval."""

    value: float | None
    """`None` where it is undefined, as the precision of no rejection."""
    interval: Interval | None


@dataclass(frozen=True, kw_only=True)
class EscalationReport:
    """What escalation buys and costs on n queries."""

    n: int
    """Queries with responses of all candidates but the reference."""
    checks: tuple[str, ...]
    """What looked at the responses."""
    unit: str
    """`usd` a call, or `calls`: calls made a question, where costs are unknown."""
    quality: dict[str, Figure]
    """Mean quality: `reference`, `without`, `with` escalation, and `random`."""
    cost: dict[str, Figure]
    """Mean cost of a question, likewise; `agreement` pays for every sample it looks at."""
    gain: Figure
    """Quality with less without."""
    over_random: Figure
    """Quality with less that of as many escalations at random."""
    escalated: Figure
    """Share of the questions that were escalated, of those sent to a cheaper candidate."""
    precision: Figure
    """Share of the rejected responses than which the next dearer candidate's was better."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True)
class _Seen:
    """One candidate's responses as checked; each of shape (n,)."""

    rejected: NDArray[np.float64]
    """Share of a query's responses that are rejected."""
    kept: NDArray[np.float64]
    """Quality of those that are not, summed and divided by all."""
    better: NDArray[np.float64]
    """Share that is rejected, and than which the next dearer mean quality is better."""


def measure_escalation(
    data: RoutingDataset,
    candidates: Sequence[str],
    choice: NDArray[np.intp],
    checks: Sequence[Any],
    resamples: int = RESAMPLES,
) -> EscalationReport:
    """Measure what checks on answers buy and cost.

    Args:
        data: Queries with outcomes of all candidates, and responses of all but the reference.
        candidates: Names, from the cheapest to the reference.
        choice: Position of the candidate that the router chose for each query, shape (n,).
        checks: Names of checks, functions of a response's text, or `agreement`.
        resamples: Bootstrap resamples behind the intervals.

    Raises:
        DataError: If a response is missing.
        ConfigurationError: If a check is unknown.
    """
    agreeing = AGREEMENT in checks
    named = checks_from([check for check in checks if check != AGREEMENT])
    quality = data.quality(candidates)
    seen = [
        _seen(_outcomes(data, name), quality[:, position + 1], named, agreeing=agreeing)
        for position, name in enumerate(candidates[:-1])
    ]
    costs, unit = _costs(data, candidates)
    looked = costs * _samples(data, candidates) if agreeing else costs
    lines = _lines(quality, seen, costs, looked, choice)
    told = (*([AGREEMENT] if agreeing else []), *(check.name for check in named))
    return _report(lines, told, unit, resamples)


def _outcomes(data: RoutingDataset, name: str) -> list[Outcome]:
    found = [record.outcomes[name] for record in data]
    if any(outcome.response is None for outcome in found):
        raise DataError(
            f"{data.name}: escalation looks at answers, and {name} has outcomes without "
            "`response`: collect them with their responses, as `hybrid-llm collect` does."
        )
    return found


def _seen(
    outcomes: Sequence[Outcome],
    dearer: NDArray[np.float64],
    checks: Sequence[Check],
    *,
    agreeing: bool,
) -> _Seen:
    rows = []
    for outcome, above in zip(outcomes, dearer, strict=True):
        texts, qualities = outcome.response or (), outcome.quality
        told = _rejections(texts, checks, agreeing=agreeing)
        n = len(texts)
        kept = sum(q for q, no in zip(qualities, told, strict=True) if not no)
        better = sum(no and q < above for q, no in zip(qualities, told, strict=True))
        rows.append((sum(told) / n, kept / n, better / n))
    return _Seen(*np.array(rows, dtype=np.float64).reshape(-1, 3).T)


def _rejections(texts: Sequence[str], checks: Sequence[Check], *, agreeing: bool) -> list[bool]:
    if agreeing and _agreement(texts) < LEAST_AGREEING:
        return [True] * len(texts)
    return [first_rejection(Answer(text=text, native=text), checks) is not None for text in texts]


def _agreement(texts: Sequence[str]) -> float:
    """Return the share of the texts that say the same, but for case, marks and spaces."""
    said = Counter(_SPACE.sub(" ", text).strip().lower() for text in texts)
    return max(said.values()) / len(texts)


def _costs(data: RoutingDataset, candidates: Sequence[str]) -> tuple[NDArray[np.float64], str]:
    """Return what one answer of each candidate costs, and in which unit."""
    found = call_costs(candidates, data)
    known = None not in found.usd
    costs = np.array(found.usd if known else [1.0] * len(candidates), dtype=np.float64)
    return costs, "usd" if known else "calls"


def _samples(data: RoutingDataset, candidates: Sequence[str]) -> NDArray[np.float64]:
    """Return how many answers agreement pays for; of the reference it draws one."""
    drawn = [np.mean([len(r.outcomes[name].quality) for r in data]) for name in candidates[:-1]]
    return np.array([*drawn, 1.0], dtype=np.float64)


def _lines(
    quality: NDArray[np.float64],
    seen: Sequence[_Seen],
    costs: NDArray[np.float64],
    looked: NDArray[np.float64],
    choice: NDArray[np.intp],
) -> dict[str, NDArray[np.float64]]:
    """Follow each query up the line of candidates; all of shape (n,)."""
    n, reference = quality.shape[0], quality.shape[1] - 1
    rows = np.arange(n)
    value, cost = quality.copy(), np.tile(looked, (n, 1))
    unseen = np.tile(costs, (n, 1))
    at_random, rejected, better = quality.copy(), np.zeros((n, reference + 1)), np.zeros_like(value)
    for position in range(reference - 1, -1, -1):
        found = seen[position]
        here = choice == position
        share = float(found.rejected[here].mean()) if here.any() else 0.0
        value[:, position] = found.kept + found.rejected * value[:, position + 1]
        cost[:, position] = looked[position] + found.rejected * cost[:, position + 1]
        unseen[:, position] = costs[position] + share * unseen[:, position + 1]
        own, above = quality[:, position], at_random[:, position + 1]
        at_random[:, position] = (1 - share) * own + share * above
        rejected[:, position], better[:, position] = found.rejected, found.better
    return {
        "reference": quality[:, reference],
        "without": quality[rows, choice],
        "with": value[rows, choice],
        "random": at_random[rows, choice],
        "cost without": costs[choice],
        "cost with": cost[rows, choice],
        "cost random": unseen[rows, choice],
        "cost reference": np.full(n, costs[reference]),
        "rejected": rejected[rows, choice],
        "better": better[rows, choice],
        "cheaper": (choice < reference).astype(np.float64),
    }


def _report(
    lines: dict[str, NDArray[np.float64]], checks: tuple[str, ...], unit: str, resamples: int
) -> EscalationReport:
    n = len(lines["with"])
    weights = [np.ones(n), *resampled_weights(n, resamples)]

    def mean(name: str, w: NDArray[np.float64]) -> float:
        return float(w @ lines[name] / w.sum())

    def figure(of: Any) -> Figure:
        values = [of(w) for w in weights]
        return Figure(value=values[0], interval=interval(values[1:]))

    def ratio(top: str, below: str) -> Figure:
        return figure(
            lambda w: float(w @ lines[top] / total) if (total := w @ lines[below]) else None
        )

    def difference(one: str, other: str) -> Figure:
        return figure(lambda w: mean(one, w) - mean(other, w))

    ways = ("reference", "without", "with", "random")
    return EscalationReport(
        n=n,
        checks=checks,
        unit=unit,
        quality={way: figure(lambda w, way=way: mean(way, w)) for way in ways},
        cost={way: figure(lambda w, way=way: mean(f"cost {way}", w)) for way in ways},
        gain=difference("with", "without"),
        over_random=difference("with", "random"),
        escalated=ratio("rejected", "cheaper"),
        precision=ratio("better", "rejected"),
    )
