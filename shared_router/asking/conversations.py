"""Where a call stands in its conversation: read of what was said, whatever the host.

A turn is what the user says, messages in a row being one, and all that is done about it until a
model has answered without calling a tool. What a harness says in the user's place within a tool
loop opens no turn.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from shared_router.asking.texts import MAX_CHARACTERS, text_ends

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Role = Literal["user", "assistant", "tool", "system"]
"""Who says something; what a harness says in the user's place is a `tool`'s."""

BYTES_PER_TOKEN = 4
"""Of UTF-8: a rough rule that does for scripts of several bytes a character too."""
USUAL_ANSWER_TOKENS = 300
"""Of an answer, where none was given yet."""
MOST_AVERAGED = 8
"""Answers whose length is averaged, the latest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One message, as far as routing reads it."""

    role: Role
    """Who says it."""
    text: str = field(repr=False)
    """What is said."""
    routed: Mapping[str, Any] | None = field(default=None, repr=False)
    """What it carries of the decision that it comes of."""
    model: str | None = None
    """The model that says it, as its provider names it."""
    tokens: int | None = None
    """Tokens read and written of the call that it comes of, where its provider told."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a call stands."""

    question: int
    """Position of the user's last words in the turn it belongs to."""
    answers: int
    """How often a model has answered in that turn."""
    in_turn: bool
    """Whether the call goes on with a turn: tools have answered, or a harness has spoken."""
    before: int | None = None
    """Position of the user's last words in the turn before."""
    answers_before: int = 0
    """How often a model answered in that one."""


def standing(said: Sequence[Said]) -> Standing | None:
    """Find where a call stands; `None` where nobody asked anything."""
    question = _question(said, len(said))
    if question is None:
        return None
    tail = [each.role for each in said[question + 1 :] if each.role != "system"]
    answers = tail.count("assistant")
    if answers > 0:  # a tool loop, or an answer that the model is to go on with
        in_turn = tail[-1] != "assistant"
        before, earlier = (None, 0) if in_turn else (question, answers)
        return Standing(question, answers, in_turn, before, earlier)
    before = _question(said, _row(said, question))
    if before is None:
        return Standing(question, 0, False)
    between = sum(each.role == "assistant" for each in said[before:question])
    return Standing(question, 0, False, before, between)


def _question(said: Sequence[Said], end: int) -> int | None:
    """Find the user's last words before a position, in a turn that began with them."""
    found = _last_user(said, end)
    while found is not None:
        row = _row(said, found)
        earlier = _last_user(said, row)
        if earlier is None or row == 0 or said[row - 1].role != "tool":
            return found
        found = earlier  # within a tool loop nobody but a harness speaks
    return None


def _last_user(said: Sequence[Said], end: int) -> int | None:
    return next((at for at in range(end - 1, -1, -1) if said[at].role == "user"), None)


def _row(said: Sequence[Said], last: int) -> int:
    """Find where a row of user messages begins."""
    while last > 0 and said[last - 1].role in ("user", "system"):
        last -= 1
    return last


def parts_of(said: Sequence[Said], question: int) -> list[str]:
    """Return what tells a turn from others: what was said up to its question.

    System messages are left out, as hosts put what they retrieve there; a long message stands by
    its length and its ends; a retry repeats the question.
    """
    lines = [_line(each) for each in said[: question + 1] if each.role != "system"]
    return [line for at, line in enumerate(lines) if at == 0 or line != lines[at - 1]]


def _line(said: Said) -> str:
    text = said.text
    if len(text) <= MAX_CHARACTERS:
        return f"{said.role}: {text}"
    return f"{said.role}, {len(text)} characters: {text_ends(text)}"


def opening_of(said: Sequence[Said]) -> str | None:
    """Return what the user said in the first turn; `None` where nobody asked anything."""
    first = next((at for at, each in enumerate(said) if each.role == "user"), None)
    if first is None:
        return None
    texts = []
    for each in said[first:]:
        if each.role not in ("user", "system"):
            break
        texts += [each.text] if each.role == "user" else []
    return "\n".join(texts)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How long a conversation is, in tokens."""

    history: int
    """What was said before the turn, which a model that answered it may have in its cache."""
    new: int
    """What was said since, and what tools are likely to say in a turn."""
    answer: int
    """What an answer is likely to have."""
    calls: float = 1.0
    """How many calls of a model a turn is likely to take."""


def sizes_of(said: Sequence[Said]) -> Sizes:
    """Reckon how long a conversation is; as providers told, where they did."""
    last = next((at for at in range(len(said) - 1, -1, -1) if said[at].role == "assistant"), -1)
    new = sum(tokens_of(each.text) for each in said[last + 1 :])
    answers = [tokens_of(each.text) for each in said if each.role == "assistant" and each.text]
    latest = answers[-MOST_AVERAGED:]
    answer = sum(latest) // len(latest) if latest else USUAL_ANSWER_TOKENS
    turns = max(1, _finished(said))
    calls = max(1.0, sum(each.role == "assistant" for each in said) / turns)
    tools = sum(tokens_of(each.text) for each in said[:last] if each.role == "tool")
    return Sizes(_history(said, last), new + tools // turns, answer, calls)


def _finished(said: Sequence[Said]) -> int:
    """Count the turns that ended with an answer: what comes next is the user's, or nothing."""
    roles = [each.role for each in said if each.role != "system"]
    return sum(
        role == "assistant" and following in ("user", None)
        for role, following in zip(roles, [*roles[1:], None], strict=True)
    )


def _history(said: Sequence[Said], last: int) -> int:
    told = said[last].tokens if last >= 0 else None
    return told or sum(tokens_of(each.text) for each in said[: last + 1])


def tokens_of(text: str) -> int:
    """Reckon a text's tokens, roughly."""
    length = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
    return -(-length // BYTES_PER_TOKEN)
