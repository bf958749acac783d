"""What is scored of a turn, and who answers it: remembered by keys that say nothing."""

from __future__ import annotations

import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from shared_router.asking.questions import final_question, is_summary, without_harness
from shared_router.asking.turns import (
    MOST_CHARACTERS,
    TURNS_BACK,
    TurnMemory,
    in_context,
    query_in_context,
)
from shared_router.asking.weights import LONG, weigh
from shared_router.records import RoutingQuery
from tests.benchmarks.turn_texts import ANSWER, FOLLOW_UPS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared_router.asking.turns import Role


def test_a_turn_is_recalled_by_its_first_known_key() -> None:
    memory = TurnMemory()
    exact, loose = memory.key(["a", "dial"]), memory.key(["a"])
    assert memory.recall([exact, loose]) is None
    memory.remember([loose], "large")
    assert memory.recall([exact, loose]) == "large"
    memory.remember([exact], "small")
    assert memory.recall([exact, loose]) == "small"
    assert memory.recall([]) is None


def test_keys_tell_what_was_said_apart() -> None:
    memory = TurnMemory()
    keys = {memory.key(parts) for parts in (["ab"], ["a", "b"], ["b", "a"], ["", "ab"], [])}
    assert len(keys) == 5
    assert memory.key(["a"]) == memory.key(["a"])
    assert memory.key(["a\ud800"])
    assert TurnMemory().key(["a"]) != memory.key(["a"])


def test_the_longest_unmet_is_forgotten_first() -> None:
    memory = TurnMemory(most=2)
    first, second, third = (memory.key([text]) for text in "abc")
    memory.remember([first], "small")
    memory.remember([second], "small")
    memory.remember([first], "large")
    memory.remember([third], "small")
    assert len(memory) == 2
    assert memory.recall([second]) is None
    assert memory.recall([first]) == "large"


def test_a_copy_starts_afresh() -> None:
    memory = TurnMemory(most=3)
    memory.remember([memory.key(["a secret"])], "small")
    dumped = pickle.dumps(memory)
    assert b"secret" not in dumped
    copy = pickle.loads(dumped)  # noqa: S301
    assert len(copy) == 0
    assert copy.recall([memory.key(["a secret"])]) is None


def test_threads_share_it() -> None:
    memory = TurnMemory(most=50)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: memory.remember([memory.key([str(i)])], "small"), range(500)))
    assert len(memory) == 50


# -- what is scored -------------------------------------------------------------------------------

HARD = "Prove that every bounded entire function on the complex plane is constant."
EASY = "Which city is the capital of Denmark?"
OFFER = "That was the sketch.\n\nShall I write out the estimate on a large circle with Cauchy?"


def scored(*said: str) -> str | None:
    """Return what is scored of a conversation in which the user begins."""
    roles = ("user", "assistant")
    turns = [(roles[at % 2], text) for at, text in enumerate(said)]
    found = in_context(reversed(turns))  # type: ignore[arg-type]
    return None if found is None else found.text


@pytest.mark.parametrize("text", [HARD, EASY, "yes", "why?", "explain step 3", "hi", "x" * 45])
def test_a_first_turn_is_scored_as_it_is(text: str) -> None:
    found = in_context([("user", text)])
    assert found is not None
    assert (found.text, found.earlier) == (text, False)


def test_nobody_said_anything() -> None:
    assert in_context([]) is None
    assert in_context([("assistant", "Hello.")]) is None
    assert in_context([("user", "  "), ("user", "Observation: 42")]) is None


@pytest.mark.parametrize("opener", [HARD, EASY])
@pytest.mark.parametrize("text", ["yes", "why?", "explain step 3", "and in French?", "继续", "ja"])
def test_what_says_nothing_is_scored_as_its_question(text: str, opener: str) -> None:
    assert scored(opener, "An answer.", text) == opener
    assert scored(opener, "An answer.", "go on", "More.", text) == opener


def test_what_says_a_little_is_scored_with_its_question() -> None:
    text = "what about a workflow for this?"
    assert scored(HARD, "An answer.", text) == f"{HARD}\n{text}"
    assert scored(HARD, "An answer.", text, "Here.", "and then?") == f"{HARD}\n{text}"


def test_what_was_said_before_is_nothing_new() -> None:
    assert scored(HARD, "By the Dirichlet kernel.", "explain that kernel") == HARD
    assert scored(HARD, "By magic.", "explain that kernel") == f"{HARD}\nexplain that kernel"


@pytest.mark.parametrize("text", [EASY, "x" * 400, "x" * (LONG + 1), "a\nb\nc"])
def test_a_question_stands_by_itself(text: str) -> None:
    assert scored(HARD, "An answer.", text) in (text, f"{HARD}\n{text}")
    assert scored(HARD, "An answer.", EASY) == EASY
    assert scored(EASY, "Copenhagen.", HARD, "An answer.", "yes") == HARD


def test_a_yes_approves_what_was_offered() -> None:
    offered = OFFER.rpartition("\n\n")[2]
    assert scored(HARD, OFFER, "yes, please") == f"{HARD}\n{offered}"
    for text in ("no", "why?", "that is wrong"):
        assert scored(HARD, OFFER, text) == HARD
    assert scored(HARD, "Done. Shall I go on?", "yes") == HARD


def test_nothing_is_referred_to_where_nothing_was_said() -> None:
    assert scored("hi", "Hello.", "thanks") == "thanks"
    assert scored("first", "ok", "last") == "last"
    assert scored("a hard one", "An answer.", "yes") == "a hard one"


def test_messages_in_a_row_are_one_turn() -> None:
    said = [("user", "please check it"), ("user", f"Here is a proof: {HARD}")]
    assert scored_backwards(said) == f"Here is a proof: {HARD}\nplease check it"
    assert scored_backwards([("user", EASY), ("user", HARD)]) == f"{HARD}\n\n{EASY}"
    assert scored_backwards([("user", EASY), ("user", EASY)]) == EASY


def scored_backwards(said: list[tuple[str, str]]) -> str | None:
    found = in_context(said)  # type: ignore[arg-type]
    return None if found is None else found.text


def test_a_long_turns_last_word_is_not_all_that_is_read_of_it() -> None:
    proof = "A paragraph of a proof.\n\n" * 50 + "So it follows."
    joined = scored_backwards([("user", "please check it"), ("user", proof)])
    assert final_question(joined or "") == "So it follows.\nplease check it"


def test_a_harness_is_no_user() -> None:
    reminder = "<system-reminder>\nKeep the list of tasks.\n</system-reminder>"
    assert without_harness(f"{reminder}\n{EASY}\n{reminder}") == EASY
    assert without_harness(f"<memory>\nAnn.\n</memory>\n{EASY}") == EASY
    for text in ("<memory> is a tag", "a </memory>", "<b>bold</b>", "", EASY, f"{EASY}</b>"):
        assert without_harness(text) == text
    assert scored(HARD, "An answer.", reminder) == HARD
    summary = "Here is a summary of the conversation to date:\n\nAnn asked for a proof."
    assert is_summary(summary)
    assert scored_backwards([("user", EASY), ("user", summary)]) == EASY
    assert scored_backwards([("user", "go on"), ("user", summary)]) == summary


def test_only_as_much_is_drawn_as_is_needed() -> None:
    def said() -> Iterator[tuple[Role, str]]:
        yield "user", EASY
        yield "assistant", "An answer."
        raise AssertionError("an earlier turn was drawn")

    assert in_context(said()) is not None


def test_the_text_is_bounded() -> None:
    long = "A sentence about entire functions. " * 500
    text = scored(long, "An answer.", "what about a workflow for this?")
    assert text is not None
    assert len(text) < MOST_CHARACTERS + 100
    far = [turn for _ in range(TURNS_BACK) for turn in ("yes", "More.")]
    assert scored(HARD, "An answer.", *far, "go on") == "go on"
    many = in_context([("user", f"{n} hard words") for n in range(10_000)])
    assert many is not None
    assert len(many.text) < TURNS_BACK * 20


def test_odd_turns_take_no_time() -> None:
    started = time.process_time()
    for text in ("<memory>" * 50_000, "</memory>" * 50_000, "<memory></memory>" * 50_000):
        without_harness(text)
    for text in ("\ud800", "\x00" * 400, "е́" * 200, "👍" * 400, "他" * 400, "ㅋ" * 400):
        weigh(text)
    assert time.process_time() - started < 5


def test_follow_ups_of_many_languages_are_told_from_questions() -> None:
    alone = [text for _, text in FOLLOW_UPS if scored(HARD, ANSWER, text) == text]
    assert len(alone) <= len(FOLLOW_UPS) // 20, alone


def test_a_query_tells_where_it_comes_from() -> None:
    said: list[tuple[Role, str]] = [("user", "why?"), ("assistant", "So."), ("user", HARD)]
    found = query_in_context(said, "ways")
    assert found == RoutingQuery(text=HARD, source="conversation", ways="ways")
    assert HARD not in repr(found)
    alone = query_in_context(said[2:], "ways")
    assert alone == RoutingQuery(text=HARD, source="last_user_message", ways="ways")
    variable = RoutingQuery(text=EASY, source="prompt_variable")
    assert query_in_context(said, "ways", variable) == variable
    assert query_in_context([], "ways", variable) == variable
    assert query_in_context([], "ways") is None
