"""Guards: rules that decide before any score is looked at."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from shared_router.deciding.guarantee import CONVERSATION, KIND_OF_CALL
from shared_router.errors import CandidateError
from shared_router.options import CallOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared_router.deciding.conversation import Conversation
    from shared_router.deciding.guarantee import Claim, Limit
    from shared_router.records import AnswerSettings, Candidate, Reason, RoutingQuery


@dataclass(frozen=True, kw_only=True)
class RoutingRequest:
    """One call, as the core sees it."""

    query: RoutingQuery | None = None
    """What to score; `None` where the call has no text to score."""
    options: CallOptions = field(default_factory=CallOptions)
    """Dial, forced route and task of this call."""
    needs_tools: bool = False
    """Whether the call binds tools."""
    needs_structured_output: bool = False
    """Whether the call asks for an answer in a schema."""
    holds_tool_calls: bool = False
    """Whether a tool was called earlier in the conversation that the call continues."""
    unable: frozenset[int] = frozenset()
    """Positions of candidates that do not understand what the call brings, such as a keyword or a
    tool of another provider's."""
    has_pictures: bool = False
    """Whether the call holds pictures, or other content that is no text."""
    is_step: bool = False
    """Whether a pipeline makes the call for a step of its own, such as choosing among sources:
    whoever measured answers measured none of these."""
    later_turn: bool = False
    """Whether the user has spoken before in the conversation that the call continues."""
    input_tokens: int | None = None
    """Estimated tokens of the whole input; `None` skips the context-window guard."""
    sticky_to: str | None = None
    """Name of the candidate whose open tool calls this call answers."""
    sticky_claim: Claim | None = None
    """What held of the decision that chose it, where that is known."""
    sticky_limit: Limit | None = None
    """The limit that was promised there, if one was."""
    without_query_to: str | None = None
    """Name of the candidate for a call that has no query; the reference where `None`."""
    settings: AnswerSettings | None = None
    """How the cheapest candidate's answer would be made; read only where answers are looked at."""
    streams: bool = False
    """Whether the caller wants a stream."""
    conversation: Conversation | None = None
    """The conversation it continues, or opens; `None` where it is of none."""

    @property
    def task(self) -> str | None:
        """The task label: the call's option, else the one stated with the query."""
        return self.options.task or (self.query.task if self.query else None)


def unmeasured(
    request: RoutingRequest, *, kept: bool = False, by_conversation: bool = False
) -> str | None:
    """Say why a call is of none of the kinds that a calibration holds.

    Args:
        request: The call.
        kept: Whether the model is kept that a conversation began with.
        by_conversation: Whether whole conversations were measured, and not single questions.
    """
    if not kept if by_conversation else request.later_turn:
        return CONVERSATION
    other = request.needs_tools or request.has_pictures or request.is_step
    return KIND_OF_CALL if other else None


@dataclass(frozen=True)
class Allowed:
    """Candidates that can serve a call."""

    indices: tuple[int, ...]
    """Positions, in order; never empty."""
    reason: Reason | None
    """Why others were left out; `None` where none was."""


def position_of(name: str, candidates: Sequence[Candidate], option: str = "route") -> int:
    """Find a candidate by name, by alias, or as `small` (the first) or `large` (the last).

    Args:
        name: The name.
        candidates: All candidates.
        option: What names it, for the message.

    Raises:
        CandidateError: If no candidate answers to the name.
    """
    own = (i for i, candidate in enumerate(candidates) if candidate.name == name)
    others = (i for i, candidate in enumerate(candidates) if candidate.answers_to(name))
    index = next(own, None)
    index = next(others, None) if index is None else index
    if index is not None:
        return index
    if name in ("small", "large"):
        return 0 if name == "small" else len(candidates) - 1
    names = ", ".join(repr(candidate.name) for candidate in candidates)
    raise CandidateError(
        f"{option}={name!r} names no candidate; there are {names}, small and large."
    )


def allowed_candidates(request: RoutingRequest, candidates: Sequence[Candidate]) -> Allowed:
    """Leave out candidates that cannot serve the call: capability first, then context window.

    Where none can, the reference stands: its own error says more than ours would.
    """
    reference = len(candidates) - 1
    able = tuple(i for i, candidate in enumerate(candidates) if _can(request, i, candidate))
    if not able:
        if request.holds_tool_calls:  # nobody reads them: they can be told in text
            return allowed_candidates(replace(request, holds_tool_calls=False), candidates)
        return Allowed((reference,), "capability")
    fits = tuple(i for i in able if _fits(request, candidates[i]))
    if len(fits) < len(able):
        return Allowed(fits or (_widest(able, candidates),), "context_window")
    return Allowed(able, None if len(able) == len(candidates) else "capability")


def _can(request: RoutingRequest, index: int, candidate: Candidate) -> bool:
    tools = request.needs_tools or request.holds_tool_calls
    lacks_tools = tools and candidate.supports_tools is False
    lacks_schema = request.needs_structured_output and candidate.supports_structured_output is False
    return not (index in request.unable or lacks_tools or lacks_schema)


def _fits(request: RoutingRequest, candidate: Candidate) -> bool:
    if request.input_tokens is None or candidate.context_window is None:
        return True
    return request.input_tokens <= candidate.context_window


def _widest(able: tuple[int, ...], candidates: Sequence[Candidate]) -> int:
    """The widest window; of equal ones the one nearest the reference."""
    return max(able, key=lambda i: (candidates[i].context_window or 0, i))
