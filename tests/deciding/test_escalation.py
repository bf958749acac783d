"""Checks on an answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_router.deciding.escalation import CHECKS, Answer, checks_from, first_rejection
from shared_router.errors import ConfigurationError


def rejected(name: str, **told: Any) -> bool:
    return first_rejection(Answer(**told), checks_from([name])) == name


def test_the_schema_is_what_the_front_says() -> None:
    assert rejected("schema", parsed_ok=False)
    assert not rejected("schema")


def test_empty_is_neither_text_nor_a_tool_call() -> None:
    assert rejected("empty", text=" \n")
    assert not rejected("empty", text="0")
    assert not rejected("empty", tool_calls=("look_up",))


@pytest.mark.parametrize("reason", ["length", "max_tokens", "MAX_TOKENS", "max_output_tokens"])
def test_cut_off(reason: str) -> None:
    assert rejected("length", text="and so", finish_reason=reason)
    assert not rejected("length", text="and so", finish_reason="stop")


@pytest.mark.parametrize("reason", ["content_filter", "SAFETY", "PROHIBITED_CONTENT"])
def test_filtered(reason: str) -> None:
    assert rejected("filtered", finish_reason=reason)
    assert not rejected("filtered", finish_reason="end_turn")


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I\u2019m sorry, but I can\u2019t assist with that request.",
        "I cannot answer this question.",
        "Sorry, I am unable to do that.",
        "As an AI language model, I have no opinions.",
        "Es tut mir leid, aber dabei kann ich nicht helfen.",
        "Lo siento, no puedo ayudar con eso.",
        "Je suis désolé, je ne peux pas répondre.",
        "抱歉，我无法回答这个问题。",
        "申し訳ありませんが、お答えできません。",
    ],
)
def test_refusals(text: str) -> None:
    assert rejected("refused", text=text)


@pytest.mark.parametrize(
    "text",
    [
        "I can do that: 4.",
        "Sorry for the delay! The answer is 4.",
        "The cat cannot fly, and I am sorry for it.",
        "I can't believe it: he walks behind me, and I cannot breathe.",
        "I cannot wait to see you!",
        "I cannot stress enough how well this works. " + "It works in each of the cases. " * 20,
        "",
    ],
)
def test_what_only_looks_like_a_refusal(text: str) -> None:
    assert not rejected("refused", text=text)


def test_a_marked_refusal_needs_no_words() -> None:
    assert rejected("refused", refusal="No.")
    assert rejected("refused", finish_reason="refusal")


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "look_up", "arguments": {"q": "rain"}}',
        '```json\n{"name": "look_up", "parameters": {}}\n```',
        '[{"function": {"name": "look_up", "arguments": "{}"}}]',
        '<tool_call>\n{"name": "look_up"}</tool_call>',
        "<function=look_up>{}</function>",
        "[TOOL_CALLS][{}]",
    ],
)
def test_a_tool_call_written_as_text(text: str) -> None:
    assert rejected("tool_text", text=text, tools_offered=True)
    assert not rejected("tool_text", text=text)
    assert not rejected("tool_text", text=text, tools_offered=True, tool_calls=("look_up",))


@pytest.mark.parametrize(
    "text", ['{"name": "Ann", "age": 3}', "[1, 2]", "[]", "a name", "{" * 5000]
)
def test_other_texts_are_no_tool_calls(text: str) -> None:
    assert not rejected("tool_text", text=text, tools_offered=True)


def test_a_tool_that_fails_again_and_again() -> None:
    failed = {"look_up": 3, "other": 1}
    assert rejected("repeated_tool", tool_calls=("look_up",), failed_tools=failed)
    assert not rejected("repeated_tool", tool_calls=("other",), failed_tools=failed)
    assert not rejected("repeated_tool", text="I give up", failed_tools=failed)


def test_a_users_function_sees_the_hosts_own_answer() -> None:
    def long_enough(answer: Any) -> bool | str | None:
        if answer == "none":
            return None
        return "too short" if answer == "short" else len(answer) > 20

    checks = checks_from([long_enough])
    told = [first_rejection(Answer(native=each), checks) for each in ("none", "short", "word")]
    assert told == [None, "too short", "long_enough"]
    assert first_rejection(Answer(native="word" * 9), checks) is None


def test_what_an_array_tells_counts_as_told() -> None:
    def whole(answer: Any) -> Any:
        return np.array([len(answer)]).max() > 3

    checks = checks_from([whole])
    assert first_rejection(Answer(native="no"), checks) == "whole"
    assert first_rejection(Answer(native="long"), checks) is None


def test_what_a_function_returns_that_tells_no_truth_rejects_nothing() -> None:
    checks = checks_from([lambda _: np.zeros(2)])
    assert first_rejection(Answer(), checks) is None


async def waits(_: Any) -> bool:
    return False


class Waits:
    async def __call__(self, _: Any) -> bool:
        return False


@pytest.mark.parametrize("check", [waits, Waits()])
def test_a_function_that_must_be_awaited_is_refused(check: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"'(w|W)aits' is `async def`"):
        checks_from([check])


def test_a_check_that_raises_rejects_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Any) -> bool:
        raise LookupError("a secret")

    checks = checks_from([broken, "empty"])
    assert first_rejection(Answer(), checks) == "empty"
    assert "broken raised LookupError" in caplog.text
    assert "secret" not in caplog.text
    first_rejection(Answer(), checks)
    assert caplog.text.count("LookupError") == 1


def test_wrong_checks_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'empty'"):
        checks_from(["emty"])
    with pytest.raises(ConfigurationError, match="names of checks and functions"):
        checks_from([3])


@given(st.text(max_size=300), st.lists(st.text(max_size=5), max_size=2), st.text(max_size=12))
def test_no_answer_breaks_a_check(text: str, tools: list[str], reason: str) -> None:
    answer = Answer(text=text, tool_calls=tuple(tools), finish_reason=reason, tools_offered=True)
    told = first_rejection(answer, tuple(CHECKS.values()))
    assert told is None or told in CHECKS
