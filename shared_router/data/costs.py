"""What a call of each candidate costs: given, measured in the data, or reckoned from prices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from shared_router.errors import CandidateError
from shared_router.records import Candidate
from shared_router.support.names import check_candidate_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared_router.data.dataset import RoutingDataset

CostSource = Literal["given", "measured", "prices", "unknown"]

CHARACTERS_PER_TOKEN = 4
"""A rough rule, for texts whose tokens nobody counted."""
TYPICAL_INPUT_TOKENS, TYPICAL_OUTPUT_TOKENS = 750, 250
"""A call where no answers were recorded: three tokens read for one written. Only the ratio
matters to routing, which compares candidates."""


@dataclass(frozen=True)
class CallCosts:
    """Mean cost of one call per candidate."""

    usd: tuple[float | None, ...]
    """US dollars, the reference last; `None` where unknown."""
    source: CostSource
    """Where they come from."""


def names_of(candidates: Sequence[str | Candidate]) -> list[str]:
    """Return the names of candidates given by name or as `Candidate`.

    Raises:
        CandidateError: If one string is given for the list.
    """
    if isinstance(candidates, str):
        check_candidate_names(candidates)
    return [c.name if isinstance(c, Candidate) else c for c in candidates]


def call_costs(
    candidates: Sequence[str | Candidate],
    data: RoutingDataset,
    given: Mapping[str, float] | None = None,
) -> CallCosts:
    """Find what a call of each candidate costs.

    Args:
        candidates: Names, or `Candidate` with prices; the reference last.
        data: Queries with outcomes of all of them.
        given: Mean cost of one call in US dollars by name; comes before all else.

    Returns:
        The given costs, else those the data measured, else those reckoned from prices and the
        lengths of the recorded answers, else unknown ones.

    Raises:
        CandidateError: If costs are given for some candidates alone, negative or not finite; or
            if there are three or more candidates and the data or the prices tell of some alone.
    """
    names = names_of(candidates)
    if given is not None:
        return CallCosts(given_costs(names, given), "given")
    measured = tuple(data.mean_costs_usd(names))
    if None not in measured:
        return CallCosts(measured, "measured")
    reckoned = _reckoned(candidates, data)
    if None not in reckoned:
        return CallCosts(reckoned, "prices")
    for found, what in ((measured, f"{data.name} has costs"), (reckoned, "prices are given")):
        _check_whole(found, names, what)
    return CallCosts(measured, "unknown")


def given_costs(names: Sequence[str], costs_usd: Mapping[str, float]) -> tuple[float, ...]:
    """Check costs that a caller gives, one for each name.

    Raises:
        CandidateError: If one is missing, of no candidate, negative or not finite.
    """
    strange = sorted(set(costs_usd) - set(names))
    missing = [name for name in names if name not in costs_usd]
    if strange or missing:
        seen = f"none for {missing[0]!r}" if missing else f"one for {strange[0]!r}"
        raise CandidateError(
            f"costs_usd has one cost for each candidate ({', '.join(names)}); got {seen}."
        )
    for name in names:
        cost = costs_usd[name]
        if isinstance(cost, bool) or not isinstance(cost, int | float) or not 0 <= cost < math.inf:
            raise CandidateError(
                f"costs_usd[{name!r}] is the mean cost of a call in US dollars, finite and at "
                f"least 0; got {cost!r}."
            )
    return tuple(float(costs_usd[name]) for name in names)


def typical_costs(candidates: Sequence[Candidate]) -> tuple[float | None, ...]:
    """Reckon the cost of a typical call from prices; `None` where a price is missing."""
    return tuple(
        candidate.call_usd(TYPICAL_INPUT_TOKENS, TYPICAL_OUTPUT_TOKENS) for candidate in candidates
    )


def _reckoned(
    candidates: Sequence[str | Candidate], data: RoutingDataset
) -> tuple[float | None, ...]:
    known = [c if isinstance(c, Candidate) else Candidate(c) for c in candidates]
    answers = [_mean_answer_tokens(data, candidate.name) for candidate in known]
    if any(tokens is None for tokens in answers):
        return typical_costs(known)
    asked = float(np.mean([len(query) for query in data.queries])) / CHARACTERS_PER_TOKEN
    return tuple(c.call_usd(asked, tokens or 0.0) for c, tokens in zip(known, answers, strict=True))


def _mean_answer_tokens(data: RoutingDataset, name: str) -> float | None:
    lengths = [
        len(text) for record in data for text in record.outcomes[name].response or ()
    ]  # every sampled answer
    return float(np.mean(lengths)) / CHARACTERS_PER_TOKEN if lengths else None


def _check_whole(found: Sequence[float | None], names: Sequence[str], what: str) -> None:
    """With two candidates costs change no decision; with more, a gap in them would."""
    unknown = [name for name, cost in zip(names, found, strict=True) if cost is None]
    if len(names) > 2 and 0 < len(unknown) < len(names):
        raise CandidateError(
            f"{what}, but none for {', '.join(map(repr, unknown))}: routing between "
            f"{len(names)} candidates weighs their costs, so give costs_usd= for all of them."
        )
