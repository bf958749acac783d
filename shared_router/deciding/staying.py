"""The rules of staying with a model, for one router over its candidates; see `conversation`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shared_router.deciding.conversation import prices_of, weigh
from shared_router.deciding.guards import Allowed, unmeasured
from shared_router.deciding.stickiness import sticky_position
from shared_router.options import AUTO
from shared_router.support.processes import cached_property

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared_router.deciding.conversation import Prices
    from shared_router.deciding.guards import RoutingRequest
    from shared_router.options import ConversationMode
    from shared_router.records import Candidate, Move


@dataclass(frozen=True)
class Staying:
    """Which model goes on with a conversation."""

    candidates: tuple[Candidate, ...]
    """As bound, the reference last."""
    costs_usd: Sequence[float | None] | None = None
    """Measured costs of a call, where prices are not known."""
    default: ConversationMode = AUTO
    """Where a call does not say."""
    by_conversation: bool = False
    """Whether whole conversations were measured."""

    def mode(self, request: RoutingRequest) -> ConversationMode:
        """Return which model goes on with the conversation of a call."""
        return request.options.conversation or self.default

    def by_its_opening(self, request: RoutingRequest) -> RoutingRequest:
        """Decide a later turn as the conversation was decided, where nobody knows by whom.

        So another process keeps the model too, though no message says who answered.
        """
        so_far = request.conversation
        if so_far is None or not so_far.is_later or self.mode(request) != "keep":
            return request
        unknown = self.answering(request) is None and so_far.opening is not None
        return replace(request, query=so_far.opening) if unknown else request

    def unmeasured(self, request: RoutingRequest) -> str | None:
        """Say why a call is of none of the kinds that were measured."""
        kept = self.mode(request) == "keep"
        return unmeasured(request, kept=kept, by_conversation=self.by_conversation)

    def answering(self, request: RoutingRequest, allowed: Allowed | None = None) -> int | None:
        """Find the candidate that answers so far, if it is known and can serve the call."""
        so_far = request.conversation
        if so_far is None or so_far.answering is None:
            return None
        among = allowed or Allowed(tuple(range(len(self.candidates))), None)
        return sticky_position(so_far.answering.candidate, among, self.candidates)

    def kept(self, request: RoutingRequest, allowed: Allowed) -> int | None:
        """Find the candidate that a conversation keeps, whatever the score says."""
        return self.answering(request, allowed) if self.mode(request) == "keep" else None

    def dearer(self, request: RoutingRequest, wanted: int, allowed: Allowed) -> int | None:
        """Find the dearer candidate to stay with, as a switch to the wanted one does not pay."""
        now = self.answering(request, allowed) if self.mode(request) == "auto" else None
        so_far = request.conversation
        if now is None or so_far is None or now <= wanted:
            return None
        return None if weigh(self._prices[now], self._prices[wanted], so_far).pays else now

    def moved(
        self, request: RoutingRequest, index: int, wanted: int | None
    ) -> tuple[Move | None, float | None]:
        """Say what a decision does in its conversation, and what a switch costs in dollars.

        Args:
            request: The call.
            index: Position of the chosen candidate.
            wanted: That of the one that the score asks for, where another one is kept.
        """
        so_far, now = request.conversation, self.answering(request)
        if so_far is None:
            return None, None
        if now is None:
            return "started", None
        other = index if now != index else self._next_to(now) if wanted is None else wanted
        cost = weigh(self._prices[now], self._prices[other], so_far).cost_usd
        return ("kept" if now == index else "switched"), cost

    def _next_to(self, now: int) -> int:
        return now + 1 if now < len(self.candidates) - 1 else now - 1

    @cached_property
    def _prices(self) -> tuple[Prices, ...]:
        return prices_of(self.candidates, self.costs_usd)
