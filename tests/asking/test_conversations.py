"""Where a call stands in its conversation, and how long that is."""

from __future__ import annotations

import pytest

from shared_router.asking.conversations import (
    USUAL_ANSWER_TOKENS,
    Said,
    Sizes,
    Standing,
    opening_of,
    parts_of,
    sizes_of,
    standing,
    tokens_of,
)
from shared_router.asking.texts import MAX_CHARACTERS

ROLES = {"u": "user", "a": "assistant", "t": "tool", "s": "system"}


def said(*lines: str) -> list[Said]:
    """Write a conversation down: `u hello` is what a user says."""
    return [Said(role=ROLES[line[0]], text=line[2:]) for line in lines]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["u a"], Standing(0, 0, False)),
        (["s x", "u a", "u b"], Standing(2, 0, False)),
        (["u a", "a b"], Standing(0, 1, False, 0, 1)),
        (["u a", "a b", "t c"], Standing(0, 1, True)),
        (["u a", "a b", "t c", "a d", "t e"], Standing(0, 2, True)),
        (["u a", "a b", "u c"], Standing(2, 0, False, 0, 1)),
        (["u a", "a b", "t c", "a d", "u e", "u f"], Standing(5, 0, False, 0, 2)),
        (["u a", "a b", "t c", "s stop now"], Standing(0, 1, True)),
        (["u a", "t c"], Standing(0, 0, False)),
        # What a harness says within a tool loop opens no turn.
        (["u a", "a b", "t c", "u d"], Standing(0, 1, True)),
        (["u a", "a b", "t c", "u d", "a e", "t f"], Standing(0, 2, True)),
        (["u a", "a b", "t c", "u d", "a e", "u f"], Standing(5, 0, False, 0, 2)),
    ],
)
def test_a_turn_lasts_until_a_model_has_answered(lines: list[str], found: Standing) -> None:
    assert standing(said(*lines)) == found


def test_nobody_asked() -> None:
    assert standing([]) is None
    assert standing(said("s x", "a y")) is None
    assert opening_of(said("s x", "a y")) is None


def test_a_turn_is_told_by_what_was_said_up_to_its_question() -> None:
    assert parts_of(said("s x", "u a", "u a"), 2) == parts_of(said("u a", "a b"), 0) == ["user: a"]
    other = said("u b", "a b", "u a")
    assert parts_of(other, 2) == ["user: b", "assistant: b", "user: a"]


def test_a_long_message_stands_by_its_length_and_its_ends() -> None:
    ends = "w" * MAX_CHARACTERS
    texts = [f"{ends}{middle}{ends}" for middle in ("", "a", "ab", "a" * 10**6)]
    lines = [parts_of(said(f"u {text}"), 0)[0] for text in texts]
    assert len(set(lines)) == 4
    assert max(map(len, lines)) < MAX_CHARACTERS + 100
    assert parts_of(said("u x" + texts[3]), 0) != parts_of(said("u y" + texts[3]), 0)


def test_the_opening_is_the_first_row_of_the_users_messages() -> None:
    lines = said("s x", "u a", "s y", "u b", "a c", "u d")
    assert opening_of(lines) == "a\nb"


def test_sizes_are_reckoned_where_providers_do_not_tell() -> None:
    assert sizes_of(said("u " + "x" * 40)) == Sizes(0, 10, USUAL_ANSWER_TOKENS)
    lines = said("s " + "x" * 40, "u " + "x" * 40, "a " + "x" * 80, "u " + "x" * 8)
    assert sizes_of(lines) == Sizes(40, 2, 20)
    lines[2] = Said(role="assistant", text="x" * 80, tokens=900)
    assert sizes_of(lines) == Sizes(900, 2, 20)


def test_a_turn_is_likely_to_take_the_calls_that_turns_took() -> None:
    tool = "t " + "x" * 80
    lines = said("u a", "a b", tool, "a c", tool, "a d", "u e", "a f", tool, "a g", "u h")
    found = sizes_of(lines)
    assert (found.calls, found.new) == (2.5, 1 + 60 // 2)
    assert sizes_of(said("u a", "a b", tool)).calls == 1.0


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [("word " * 100, 100, 130), ("这是一个关于路由的文档" * 10, 42, 90), ("", 0, 0)],
)
def test_tokens_are_in_the_right_region(text: str, least: int, most: int) -> None:
    """One to 2.4 characters a token in Chinese, as providers count."""
    assert least <= tokens_of(text) <= most
