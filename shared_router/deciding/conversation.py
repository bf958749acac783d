"""Stay or switch: which model goes on with a conversation, without I/O.

Within a turn nobody switches unless the model fails. At a new turn a dearer model is asked where
the score asks for it; a cheaper one only where that saves more than it costs to have the history
read anew, which the model that answers so far may hold in its provider's cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared_router.deciding.guarantee import Claim, Limit
    from shared_router.records import Candidate, RoutingQuery

CACHED_SHARE = 0.1
"""Price of a token that a provider's cache holds, as a share of a fresh one, where nobody says: so
the largest providers bill."""
LIFETIME_S = 300.0
"""How long a provider's cache holds what was read, where nobody says."""
LEAST_CACHED = 1024
"""Fewest tokens that providers' caches hold."""
WRITTEN_SHARE = 5.0
"""Price of a token written, in tokens read, where nobody says."""
CHEAPER_BY = 0.2
"""Price of a candidate in those of the next dearer one, where neither prices nor costs are
known."""
TURNS_AHEAD = 1
"""Turns that a switch to a cheaper model must pay itself within, the one it is made at included:
what follows may ask for the dearer one again."""


@dataclass(frozen=True, kw_only=True)
class Answering:
    """Who answers a conversation, and what held of the answer."""

    candidate: str
    """Name of the candidate, or its model's."""
    claim: Claim | None = None
    """What held of its last answer, where that is known."""
    limit: Limit | None = None
    """The limit that was promised there, if one was."""
    at_s: float | None = None
    """When it last answered, by this process's clock, where that is known."""


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """What a call carries of the conversation that it continues, or opens."""

    answering: Answering | None = None
    """Who has answered so far, where that is known."""
    is_later: bool = False
    """Whether a model has answered before."""
    in_turn: bool = False
    """Whether the call goes on with a turn."""
    history_tokens: int = 0
    """What was said before the turn."""
    new_tokens: int = 0
    """What was said since, and what tools are likely to say in the turn."""
    answer_tokens: int = 0
    """What an answer is likely to have."""
    calls: float = 1.0
    """How many calls of a model the turn is likely to take, each of which reads the history."""
    idle_s: float | None = None
    """Seconds since the last answer, where they are known."""
    opening: RoutingQuery | None = None
    """What the user opened it with."""


@dataclass(frozen=True)
class Prices:
    """Of one candidate, for a token; in dollars where it says so, else in units of its own."""

    read: float
    """A token read."""
    cached: float
    """A token read of the provider's cache."""
    written: float
    """A token written."""
    lifetime_s: float
    """How long the cache holds what was read; 0 where there is none."""
    in_usd: bool = True
    """Whether the candidate's own prices say it."""


def prices_of(
    candidates: Sequence[Candidate], costs: Sequence[float | None] | None
) -> tuple[Prices, ...]:
    """Price the candidates: by what they say, else by measured costs, else by their order.

    Args:
        candidates: From the cheapest to the reference.
        costs: Measured costs of a call.

    Returns:
        Prices that compare with each other.
    """
    said = all(each.call_usd(1, 1) is not None for each in candidates)
    known = costs is not None and all(cost is not None and cost > 0 for cost in costs)
    return tuple(
        _own(each)
        if said
        else _assumed(each, _relative(at, len(candidates), costs if known else None))
        for at, each in enumerate(candidates)
    )


def _relative(at: int, n: int, costs: Sequence[float | None] | None) -> float:
    cost = None if costs is None else costs[at]
    return CHEAPER_BY ** (n - 1 - at) if cost is None else cost


def _own(candidate: Candidate) -> Prices:
    read = (candidate.input_usd_per_million_tokens or 0.0) / 1e6
    written = (candidate.output_usd_per_million_tokens or 0.0) / 1e6
    cached = candidate.cached_input_usd_per_million_tokens
    return Prices(
        read, read * CACHED_SHARE if cached is None else cached / 1e6, written, _lifetime(candidate)
    )


def _assumed(candidate: Candidate, unit: float) -> Prices:
    written = unit * WRITTEN_SHARE
    return Prices(unit, unit * CACHED_SHARE, written, _lifetime(candidate), in_usd=False)


def _lifetime(candidate: Candidate) -> float:
    return LIFETIME_S if candidate.cache_lifetime_s is None else candidate.cache_lifetime_s


@dataclass(frozen=True)
class Weighed:
    """What a switch would cost, and save."""

    cost: float
    """Reading the history anew, above what the model that knows it takes; below 0 where the other
    one reads it anew for less."""
    saving: float
    """What the other one saves on what is new, on answers, and on reading all of it again for each
    further call."""
    in_usd: bool
    """Whether both are dollars."""

    @property
    def pays(self) -> bool:
        """Whether the switch saves more than it costs."""
        return self.saving > self.cost

    @property
    def cost_usd(self) -> float | None:
        """What it costs, in dollars where they are known."""
        return self.cost if self.in_usd else None


def weigh(
    now: Prices, other: Prices, so_far: Conversation, turns_ahead: int = TURNS_AHEAD
) -> Weighed:
    """Weigh a switch of models at a new turn.

    Args:
        now: Prices of the model that answers so far.
        other: Those of the other one.
        so_far: The conversation.
        turns_ahead: Turns that the switch must pay itself within.
    """
    history = so_far.history_tokens
    cost = history * (other.read - _reading(now, so_far))
    each = so_far.new_tokens * (now.read - other.read)
    each += so_far.calls * so_far.answer_tokens * (now.written - other.written)
    again = turns_ahead * so_far.calls - 1  # both have read it once
    each = turns_ahead * each + again * history * (now.cached - other.cached)
    return Weighed(cost, each, now.in_usd and other.in_usd)


def _reading(prices: Prices, so_far: Conversation) -> float:
    """Return what a token of the history costs the model that has read it before."""
    idle_s = 0.0 if so_far.idle_s is None else so_far.idle_s
    held = so_far.history_tokens >= LEAST_CACHED and idle_s < prices.lifetime_s
    return prices.cached if held else prices.read
