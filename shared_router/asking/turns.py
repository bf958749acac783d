"""A turn in its conversation: what is scored of it, and who answered it.

What is scored is the last user turn with what it refers to. A question stands by itself; "yes",
"explain step 3" and "and in French?" say nothing of how hard they are to answer: what they refer to
does. Which of the two a turn is, is told by its words alone.

Where an assistant message carries no record of its model, a later step of the same turn (a tool's
answer) is known by the turn's own text: what was said up to the user's question.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from shared_router.asking.questions import (
    final_question,
    is_summary,
    is_tool_noise,
    query_of_message,
    without_harness,
)
from shared_router.asking.texts import text_ends
from shared_router.asking.weights import Weight, weigh
from shared_router.records import RoutingQuery
from shared_router.support.processes import ForkSafeLock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

V = TypeVar("V")
Role = Literal["user", "assistant"]
MOST_TURNS = 8192
"""Turns remembered; the ones not met for longest are forgotten first."""
TURNS_BACK = 32
"""Earlier turns that are looked at, the assistant's among them, and messages of a turn."""
TURNS_READ = 8
"""Earlier turns that are read, to see whether a follow-up says something new."""
MOST_JOINED = 3
"""Earlier follow-ups that are scored with a question and a later one."""
MOST_CHARACTERS = 1_000
"""Characters of a question that is scored together with follow-ups: about what is read of it."""


@dataclass(frozen=True)
class InContext:
    """What is scored of a conversation."""

    text: str = field(repr=False)
    """The text."""
    earlier: bool = False
    """Whether earlier turns have a say in it."""


def query_in_context(
    backwards: Iterable[tuple[Role, str]], ways: str, said: RoutingQuery | None = None
) -> RoutingQuery | None:
    """Make a query of the last user turn of a conversation; see `in_context`.

    Args:
        backwards: What was said, the newest first.
        ways: How to state the question instead, for the warning where it has to be guessed.
        said: What the user said last, where that is known better than by the last user turn.
    """
    found = in_context(backwards, said.text if said else None)
    if found is None or (said is not None and not found.earlier):
        return said
    if found.earlier:
        return RoutingQuery(text=found.text, source="conversation", ways=ways)
    return query_of_message(found.text, ways)


def in_context(backwards: Iterable[tuple[Role, str]], said: str | None = None) -> InContext | None:
    """Find what to score: the last user turn with what it refers to.

    A turn that stands by itself is scored alone. One that says nothing new ("yes", "why?") is
    scored as the question it refers to: the nearest earlier turn that stands by itself, with the
    follow-ups between that said something. One that says a little is scored with that question.
    Where nothing is denied or asked, and the assistant has just asked, what it offered counts too.

    Args:
        backwards: What was said, the newest first: only as much is drawn as is needed. User
            messages in a row are one turn; what an agent's harness says is left out.
        said: The last user turn, where that is known better.

    Returns:
        The text; `None` where no user said anything.
    """
    turns = _turns(backwards)
    last = next((text for role, text in turns if role == "user"), None)
    if last is None:
        return None
    last = last if said is None else said
    own = weigh(last)
    if own.stands_alone:
        return InContext(last)
    earlier = list(islice(turns, TURNS_BACK))
    referred = _referred(earlier)
    if not referred or not (own.points or referred[0].weight.stands_alone):
        return InContext(last)
    parts = [each.text for each in referred]
    offered = _offered(earlier) if own.approves else None
    parts += [offered] if offered else []
    if own.adds_to(text for _, text in earlier[:TURNS_READ]):
        parts.append(last)
    return InContext(parts[0] if len(parts) == 1 else _joined(parts), earlier=True)


@dataclass(frozen=True)
class _Turn:
    text: str
    weight: Weight


def _referred(earlier: list[tuple[Role, str]]) -> list[_Turn]:
    """Return what a follow-up refers to, oldest first: a question, and what was added since."""
    added: list[_Turn] = []
    for role, text in earlier:
        if role != "user":
            continue
        turn = _Turn(text, weigh(text))
        if turn.weight.stands_alone:
            return [turn, *reversed(added[:MOST_JOINED])]
        if turn.weight.content:
            added.append(turn)
    return added[: -MOST_JOINED - 1 : -1]


def _offered(earlier: list[tuple[Role, str]]) -> str | None:
    """Return what the assistant asked at the end of its answer, where that says something."""
    role, text = earlier[0] if earlier else ("user", "")
    asked = text.rstrip().rpartition("\n\n")[2] if role == "assistant" else ""
    if not asked.endswith(("?", "？", "؟")):
        return None
    asked = asked[-MOST_CHARACTERS // 2 :]
    return asked if len(weigh(asked).content) > 1 else None


def _joined(parts: list[str]) -> str:
    """Put a question and its follow-ups into one paragraph, so that it is read as one."""
    question = parts[0]
    if len(question) > MOST_CHARACTERS:
        question = final_question(text_ends(question, between="\n\n"))
        half = MOST_CHARACTERS // 2
        if len(question) > MOST_CHARACTERS:
            question = f"{question[:half]}\n{question[-half:]}"
    return "\n".join([question, *parts[1:]])


def _turns(backwards: Iterable[tuple[Role, str]]) -> Iterator[tuple[Role, str]]:
    """Join messages in a row to turns, the newest first."""
    who: Role | None = None
    parts: list[str] = []
    for role, said in backwards:
        text = without_harness(said) if role == "user" else said
        if role == "user" and (not text.strip() or is_tool_noise(text)):
            continue
        if who is not None and (role != who or is_summary(text)):
            yield who, _in_a_row(parts)
            parts = []
        who = role
        # A retry repeats what was said.
        if text.strip() and text not in parts[-1:] and len(parts) < TURNS_BACK:
            parts.append(text)
    if who is not None:
        yield who, _in_a_row(parts)


def _in_a_row(parts: list[str]) -> str:
    """Join messages, given the newest first; one that says little hangs on what is before it."""
    whole = ""
    for part in reversed(parts):
        between = "" if not whole else "\n\n" if weigh(part).stands_alone else "\n"
        whole += between + part
    return whole


class TurnMemory(Generic[V]):
    """Remembers who answers recent turns, by keyed hashes that never leave the process.

    Args:
        most: How many turns to remember.
    """

    def __init__(self, most: int = MOST_TURNS) -> None:
        self._most = most
        self._secret = secrets.token_bytes(32)
        self._lock = ForkSafeLock()
        self._answering: OrderedDict[bytes, V] = OrderedDict()

    def __reduce__(self) -> tuple[type[TurnMemory[V]], tuple[int]]:
        return TurnMemory, (self._most,)  # a copy starts afresh

    def __len__(self) -> int:
        return len(self._answering)

    def key(self, parts: Iterable[str]) -> bytes:
        """Hash a turn: what was said, in order."""
        return self.keys(parts, ())[0]

    def keys(self, parts: Iterable[str], *endings: Iterable[str]) -> tuple[bytes, ...]:
        """Hash a turn with each of several endings; what was said is hashed once."""
        whole = hashlib.blake2b(key=self._secret, digest_size=16)
        _add(whole, parts)
        return tuple(_add(whole.copy(), ending).digest() for ending in endings)

    def remember(self, keys: Iterable[bytes], answering: V) -> None:
        """Note who answers a turn."""
        with self._lock:
            for key in keys:
                self._answering[key] = answering
                self._answering.move_to_end(key)
            while len(self._answering) > self._most:
                self._answering.popitem(last=False)

    def recall(self, keys: Iterable[bytes]) -> V | None:
        """Return who answers a turn, by the first key that is known."""
        with self._lock:
            return next((self._answering[key] for key in keys if key in self._answering), None)


def _add(whole: hashlib.blake2b, parts: Iterable[str]) -> hashlib.blake2b:
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        whole.update(len(encoded).to_bytes(8, "big") + encoded)
    return whole
