"""What escalation buys and costs, on recorded responses: each is checked as at a call.

Where a check rejects a candidate's response, the next dearer one's outcome counts and both are paid
for, up to the reference, whose response stands. Beside it: no escalation, as many escalations that
look at no answer, and the best coin of the same cost, which asks one candidate a question.

Source: cascades as in FrugalGPT (arXiv 2305.05176).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.deciding.escalation import CHECKS, Answer, checks_from, first_rejection
from shared_router.errors import ConfigurationError, DataError
from shared_router.measuring.agreement import AGREEMENT, what_is_given
from shared_router.measuring.bootstrap import RESAMPLES, interval, resampled_weights
from shared_router.measuring.static_mix import best_mix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from shared_router.data.dataset import RoutingDataset
    from shared_router.data.schema import Outcome
    from shared_router.deciding.escalation import Check
    from shared_router.measuring.bootstrap import Interval

WAYS = ("reference", "without", "with", "random", "coin")
"""What stands side by side."""
OF_TEXTS = ("empty", "refused", "tool_text")
"""The checks that read a text alone; data files tell no more of an answer."""


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
    """Mean quality: `reference`, `without`, `with` escalation, `random`; in dollars `coin` too."""
    cost: dict[str, Figure]
    """Mean cost of a question, likewise; `agreement` pays for every sample it looks at."""
    gain: Figure
    """Quality with less without."""
    over_random: Figure
    """Quality with less that of as many escalations at random."""
    over_coin: Figure
    """Quality with less that of the best coin of the same cost; `None` where costs are unknown."""
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
    usual_usd: Sequence[float | None] | None = None,
) -> EscalationReport:
    """Measure what checks on answers buy and cost.

    Args:
        data: Queries with outcomes of all candidates, and responses of all but the reference.
        candidates: Names, from the cheapest to the reference.
        choice: Position of the candidate that the router chose for each query, shape (n,).
        checks: Names of checks, functions of a response's text, or `agreement`.
        resamples: Bootstrap resamples behind the intervals.
        usual_usd: Mean cost of a call of each candidate, for data that record none.

    Raises:
        DataError: If there is no query, or a response is missing.
        ConfigurationError: If a check is unknown, or reads more than a text.
    """
    if not data.records:
        raise DataError(f"{data.name}: empty; there is nothing to check answers of.")
    agreeing, named = AGREEMENT in checks, checks_of_texts(checks)
    quality = data.quality(candidates)
    answers = [_outcomes(data, name) for name in candidates[:-1]]
    if agreeing:
        _check_several(answers, data.name)
    seen = [
        _seen(answers[position], quality[:, position + 1], named, agreeing=agreeing)
        for position in range(len(answers))
    ]
    costs, unit = _costs(data, candidates, usual_usd)
    looked = costs * _samples(data, candidates) if agreeing else costs
    lines = _lines(quality, seen, costs, looked, choice)
    if unit == "usd":
        lines |= _coin(quality, costs, float(lines["cost with"].mean()))
    told = (*([AGREEMENT] if agreeing else []), *(check.name for check in named))
    return _report(lines, told, unit, resamples)


def checks_of_texts(given: Sequence[Any]) -> tuple[Check, ...]:
    """Make checks of what `measure_escalation` is given, all but `agreement`.

    Raises:
        ConfigurationError: If one is unknown, or would reject nothing as data files do not tell
            what it reads.
    """
    checks = checks_from([check for check in given if check != AGREEMENT])
    for check in checks:
        if check in CHECKS.values() and check.name not in OF_TEXTS:
            raise ConfigurationError(
                f"On recorded responses, escalate takes what reads texts: {', '.join(OF_TEXTS)}, "
                f"{AGREEMENT} and functions; data files do not tell what {check.name!r} reads."
            )
    return checks


def _outcomes(data: RoutingDataset, name: str) -> list[Outcome]:
    found = [record.outcomes[name] for record in data]
    if any(outcome.response is None for outcome in found):
        raise DataError(
            f"{data.name}: escalation looks at answers, and {name} has outcomes without "
            "`response`: collect them with their responses, as `hybrid-llm collect` does."
        )
    return found


def _check_several(answers: Sequence[Sequence[Outcome]], name: str) -> None:
    if all(len(outcome.quality) < 2 for column in answers for outcome in column):
        raise DataError(
            f"{name}: agreement compares several responses to a query, and each has one: collect "
            "several, as `hybrid-llm collect --samples 10` does."
        )


def _seen(
    outcomes: Sequence[Outcome],
    dearer: NDArray[np.float64],
    checks: Sequence[Check],
    *,
    agreeing: bool,
) -> _Seen:
    rows = [
        _checked(outcome, above, checks, agreeing=agreeing)
        for outcome, above in zip(outcomes, dearer, strict=True)
    ]
    return _Seen(*np.array(rows, dtype=np.float64).reshape(-1, 3).T)


def _checked(
    outcome: Outcome, above: float, checks: Sequence[Check], *, agreeing: bool
) -> tuple[float, float, float]:
    """Check one query's responses: shares of what would be given; see `_Seen`."""
    texts = outcome.response or ()
    given, torn = what_is_given(texts) if agreeing else ([True] * len(texts), False)
    told = [
        (quality, torn or _is_rejected(text, checks))
        for text, quality in compress(zip(texts, outcome.quality, strict=True), given)
    ]
    rejected = [quality for quality, no in told if no]
    kept = sum(quality for quality, no in told if not no)
    better = sum(quality < above for quality in rejected)
    return len(rejected) / len(told), kept / len(told), better / len(told)


def _is_rejected(text: str, checks: Sequence[Check]) -> bool:
    answer = Answer(text=text, native=text, tools_offered=True)
    return first_rejection(answer, checks) is not None


def _costs(
    data: RoutingDataset, candidates: Sequence[str], usual: Sequence[float | None] | None
) -> tuple[NDArray[np.float64], str]:
    """Return what each answer costs, shape (n, k), and in which unit."""
    recorded = data.costs_usd(candidates)
    if recorded is not None:
        return recorded, "usd"
    shape = len(data), len(candidates)
    for means in (data.mean_costs_usd(candidates), usual):
        if means is not None and None not in means:
            return np.broadcast_to(np.array(means, dtype=np.float64), shape), "usd"
    return np.ones(shape), "calls"


def _samples(data: RoutingDataset, candidates: Sequence[str]) -> NDArray[np.float64]:
    """Return how many answers agreement pays for, shape (n, k); of the reference it draws one."""
    drawn = [[len(each.outcomes[name].quality) for name in candidates[:-1]] for each in data]
    return np.column_stack([np.array(drawn, dtype=np.float64), np.ones(len(data))])


def _shares(seen: Sequence[_Seen], choice: NDArray[np.intp]) -> list[float]:
    """Return the share rejected of the answers that each candidate is asked for."""
    asked, shares = np.zeros(len(choice)), []
    for position, found in enumerate(seen):
        asked = asked + (choice == position)
        rejected = asked * found.rejected
        shares.append(float(rejected.sum() / asked.sum()) if asked.any() else 0.0)
        asked = rejected
    return shares


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
    value, cost, unseen, at_random = quality.copy(), looked.copy(), costs.copy(), quality.copy()
    rejected, better = np.zeros_like(value), np.zeros_like(value)
    shares = _shares(seen, choice)
    for position in range(reference - 1, -1, -1):
        found, share = seen[position], shares[position]
        value[:, position] = found.kept + found.rejected * value[:, position + 1]
        cost[:, position] += found.rejected * cost[:, position + 1]
        unseen[:, position] += share * unseen[:, position + 1]
        own, above = quality[:, position], at_random[:, position + 1]
        at_random[:, position] = (1 - share) * own + share * above
        rejected[:, position], better[:, position] = found.rejected, found.better
    return {
        "reference": quality[:, reference],
        "without": quality[rows, choice],
        "with": value[rows, choice],
        "random": at_random[rows, choice],
        "cost without": costs[rows, choice],
        "cost with": cost[rows, choice],
        "cost random": unseen[rows, choice],
        "cost reference": costs[:, reference],
        "rejected": rejected[rows, choice],
        "better": better[rows, choice],
        "cheaper": (choice < reference).astype(np.float64),
    }


def _coin(
    quality: NDArray[np.float64], costs: NDArray[np.float64], budget: float
) -> dict[str, NDArray[np.float64]]:
    shares = best_mix(costs.mean(axis=0), quality.mean(axis=0), budget)
    return {"coin": quality @ shares, "cost coin": costs @ shares}


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

    def over(other: str) -> Figure:
        return figure(lambda w: mean("with", w) - mean(other, w))

    ways = [way for way in WAYS if way in lines]
    return EscalationReport(
        n=n,
        checks=checks,
        unit=unit,
        quality={way: figure(lambda w, way=way: mean(way, w)) for way in ways},
        cost={way: figure(lambda w, way=way: mean(f"cost {way}", w)) for way in ways},
        gain=over("without"),
        over_random=over("random"),
        over_coin=over("coin") if "coin" in lines else Figure(value=None, interval=None),
        escalated=ratio("rejected", "cheaper"),
        precision=ratio("better", "rejected"),
    )
