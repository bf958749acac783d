"""Who answers a conversation: by what its messages carry, else by what this process remembers.

The messages go first, as they are the same in another process. The memory serves hosts whose
messages cannot say it, and clients that drop what they say: a turn is known by all that was said up
to its question, a conversation by the name that the call gives it, or by how it began.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shared_router.asking.conversations import opening_of, parts_of, sizes_of, standing
from shared_router.asking.turns import TurnMemory
from shared_router.deciding.conversation import Answering, Conversation
from shared_router.deciding.guarantee import Claim, limit_of
from shared_router.records import RoutingQuery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from shared_router.asking.conversations import Said, Standing
    from shared_router.engine.calls import Call
    from shared_router.options import CallOptions
    from shared_router.records import Candidate

_LIMIT = ("dial", "dial_value", "confidence")


@dataclass(frozen=True)
class Place:
    """Where a call stands, for the memory of who answers."""

    conversation: Conversation | None = None
    """What the call carries of its conversation; `None` where it is of none."""
    answers: tuple[bytes, ...] = ()
    """Keys to remember this call's model by."""

    @property
    def sticky_to(self) -> Answering | None:
        """Who has begun the turn that the call goes on with."""
        found = self.conversation
        return found.answering if found is not None and found.in_turn else None


NOWHERE = Place()


class Conversations:
    """Tells who answers conversations, and remembers it.

    Args:
        clock: Tells the time, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._memory: TurnMemory[Answering] = TurnMemory()
        self._clock = clock

    def __reduce__(self) -> tuple[type[Conversations], tuple[()]]:
        return Conversations, ()  # a copy starts afresh

    def place(
        self,
        said: Sequence[Said],
        options: CallOptions,
        candidates: Sequence[Candidate],
        thread: str | None = None,
    ) -> Place:
        """Find where a call stands, and who has answered before.

        Args:
            said: The conversation, the call's own words last.
            options: The call's: two users may ask the same under different dials.
            candidates: The models, by whose names messages tell who made them.
            thread: Names the conversation where the call's options do not.
        """
        stands = standing(said)
        if stands is None:
            return NOWHERE
        told, name = repr(options), options.conversation_name
        now = str(stands.answers)
        answers = self._memory.keys(parts_of(said, stands.question), (now, told), (now,))
        named = self._named(name or thread, opening_of(said) or "")
        found = _carried(said, stands, candidates) or self._remembered(said, stands, told)
        later = any(each.role == "assistant" for each in said)
        # A thread's sub-agent begins with words of its own; and many begin alike.
        known = name is not None or (later and (thread is not None or not stands.in_turn))
        if found is None and known:
            found = self._memory.recall(named)
        return Place(self._conversation(said, stands, found, later), (*answers, *named))

    def remember(self, place: Place, call: Call) -> None:
        """Note who has answered a call, where somebody has."""
        if place.answers and call.attempts is not None and call.attempts.given is not None:
            told = call.stable()
            found = answering_of(told, call.answered_by)
            self._memory.remember(place.answers, replace(found, at_s=self._clock()))

    def _conversation(
        self, said: Sequence[Said], stands: Standing, found: Answering | None, later: bool
    ) -> Conversation:
        sizes, opening = sizes_of(said), opening_of(said)
        at = None if found is None else found.at_s
        return Conversation(
            answering=found,
            is_later=later,
            in_turn=stands.in_turn,
            history_tokens=sizes.history,
            new_tokens=sizes.new,
            answer_tokens=sizes.answer,
            calls=sizes.calls,
            idle_s=None if at is None else max(0.0, self._clock() - at),
            opening=RoutingQuery(text=opening, source="last_user_message") if opening else None,
        )

    def _named(self, name: str | None, opening: str) -> tuple[bytes, ...]:
        """Return the key of a conversation's name; else of how it began."""
        return self._memory.keys(("named", name) if name else ("opening", opening), ())

    def _remembered(self, said: Sequence[Said], stands: Standing, told: str) -> Answering | None:
        """Recall who answered the turn so far, or the turn before."""
        at, answers = stands.question, stands.answers
        if not stands.in_turn and stands.before is not None:
            at, answers = stands.before, stands.answers_before
        if answers == 0:
            return None
        before = str(answers - 1)
        return self._memory.recall(self._memory.keys(parts_of(said, at), (before, told), (before,)))


def _carried(
    said: Sequence[Said], stands: Standing, candidates: Sequence[Candidate]
) -> Answering | None:
    """Read who has answered out of the messages: the latest one that tells a candidate.

    Within a turn that is the last answer's, and no other.
    """
    answers: Iterator[Said] = (each for each in reversed(said) if each.role == "assistant")
    for each in answers:
        found = _answering(each, candidates)
        if found is not None or stands.in_turn:
            return found
    return None


def _answering(said: Said, candidates: Sequence[Candidate]) -> Answering | None:
    routed = said.routed or {}
    name = routed.get("answered_by") or routed.get("candidate") or said.model
    if not isinstance(name, str) or not any(each.answers_to(name) for each in candidates):
        return None
    return answering_of(routed, name)


def answering_of(told: Mapping[str, Any], name: str) -> Answering:
    """Read what a message carries of its decision, or a call tells.

    Args:
        told: The stable part of a decision, and who answered.
        name: Who answered.
    """
    limit = limit_of(*map(told.get, _LIMIT))
    return Answering(candidate=name, claim=Claim.read(told), limit=limit)
