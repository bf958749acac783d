"""A seeded generator of questions in words, of eight kinds and three difficulties.

Words are invented from syllables, so that their number has no practical limit. A question
belongs to the `train` or to the `fresh` split by a hash of its text: no seed can mix the two.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Split = Literal["train", "fresh"]
Cell = tuple[str, int]
"""A kind and a difficulty."""

DIFFICULTIES = (1, 2, 3)
FRESH_SHARE = 0.2
"""Share of all texts that no training run may see."""

_NAMES = ("Ann", "Bob", "Cal", "Dee", "Eli", "Fay", "Gus", "Ida", "Jon", "Kim", "Lou", "May")
_ORDINALS = ("first", "second", "third", "fourth", "fifth")
_CONSONANTS = "bcdfghjklmnprstvwz"
_VOWELS = "aeiou"


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question with its one right answer."""

    id: str
    """The first 16 hex digits of the text's SHA-256."""
    text: str
    answer: str
    kind: str
    difficulty: int
    """1 (easy) to 3 (hard), within its kind."""


def split_of(text: str) -> Split:
    """Say which split a question's text belongs to, whatever seed produced it."""
    share = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32
    return "fresh" if share < FRESH_SHARE else "train"


def draw(rng: random.Random, cell: Cell, split: Split) -> Question:
    """Draw one question of a kind and difficulty from a split."""
    kind, difficulty = cell
    while True:
        text, answer = _MAKERS[kind](rng, difficulty)
        if split_of(text) == split:
            identity = hashlib.sha256(text.encode()).hexdigest()[:16]
            return Question(id=identity, text=text, answer=answer, kind=kind, difficulty=difficulty)


def questions(count: int, *, seed: int, split: Split = "fresh") -> list[Question]:
    """Return distinct questions, every kind and difficulty equally likely."""
    stream = _stream(random.Random(seed), split)  # noqa: S311 - a seeded generator is the point
    found: dict[str, Question] = {}
    while len(found) < count:
        question = next(stream)
        found.setdefault(question.text, question)
    return list(found.values())


def _stream(rng: random.Random, split: Split) -> Iterator[Question]:
    while True:
        yield draw(rng, rng.choice(CELLS), split)


def _asked(rng: random.Random, *frames: str) -> str:
    """Choose a wording; half of them come from somebody with a name."""
    frame = rng.choice(frames)
    if rng.random() < 0.5:
        return frame
    return f"{rng.choice(_NAMES)} asks: {frame[0].lower()}{frame[1:]}"


def _word(rng: random.Random, shortest: int, longest: int) -> str:
    """Invent a word of alternating consonants and vowels."""
    length = rng.randint(shortest, longest)
    start = rng.random() < 0.7
    return "".join(
        rng.choice(_CONSONANTS if (place % 2 == 0) == start else _VOWELS) for place in range(length)
    )


def _addition(rng: random.Random, difficulty: int) -> tuple[str, str]:
    first, second = rng.randint(0, 9), rng.randint(0, 9)
    if difficulty == 1:
        second = rng.randint(0, 9 - first)
    elif difficulty == 3:
        first = rng.randint(10, 99)
    text = _asked(
        rng,
        f"Add {first} and {second}.",
        f"What is the sum of {first} and {second}?",
        f"How much is {first} and {second}?",
    )
    return text, str(first + second)


def _subtraction(rng: random.Random, difficulty: int) -> tuple[str, str]:
    second = rng.randint(0, 9)
    lowest, highest = {1: (second, 9), 2: (10, 19), 3: (20, 99)}[difficulty]
    first = rng.randint(lowest, highest)
    text = _asked(
        rng,
        f"What is {first} minus {second}?",
        f"How much is {first} minus {second}?",
        f"Work out {first} minus {second}.",
    )
    return text, str(first - second)


def _comparison(rng: random.Random, difficulty: int) -> tuple[str, str]:
    pool = range(10, 100) if difficulty == 3 else range(10)
    numbers = rng.sample(pool, 3 if difficulty == 2 else 2)
    listed = ", ".join(map(str, numbers[:-1])) + f" or {numbers[-1]}"
    wants_most = rng.random() < 0.5
    most, least = ("largest", "biggest", "highest"), ("smallest", "least", "lowest")
    adjective = rng.choice(most if wants_most else least)
    text = _asked(rng, f"Which is {adjective}, {listed}?", f"Name the {adjective}, {listed}.")
    return text, str(max(numbers) if wants_most else min(numbers))


def _letter(rng: random.Random, difficulty: int) -> tuple[str, str]:
    word = _word(rng, 4, 7)
    ordinal, place = {1: ("last", -1), 2: ("first", 0), 3: ("second", 1)}[difficulty]
    text = _asked(
        rng,
        f"What is the {ordinal} letter of {word}?",
        f"Give the {ordinal} letter of {word}.",
        f"Which is the {ordinal} letter of {word}?",
    )
    return text, word[place]


def _reversing(rng: random.Random, difficulty: int) -> tuple[str, str]:
    word = _word(rng, *{1: (3, 4), 2: (5, 6), 3: (7, 7)}[difficulty])
    text = _asked(
        rng,
        f"Reverse the word {word}.",
        f"Spell backwards {word}.",
        f"What is the reverse of {word}?",
    )
    return text, word[::-1]


def _sorting(rng: random.Random, difficulty: int) -> tuple[str, str]:
    word = _word(rng, *{1: (3, 3), 2: (4, 4), 3: (5, 6)}[difficulty])
    text = _asked(
        rng,
        f"Sort the letters of {word}.",
        f"Put in alphabetical order {word}.",
        f"What are the sorted letters of {word}?",
    )
    return text, "".join(sorted(word))


def _counting(rng: random.Random, difficulty: int) -> tuple[str, str]:
    letter = rng.choice(_CONSONANTS + _VOWELS * 2)
    base = _word(rng, *{1: (3, 3), 2: (4, 5), 3: (6, 7)}[difficulty])
    places = set(rng.sample(range(len(base)), rng.randint(0, 3)))
    word = "".join(letter if place in places else old for place, old in enumerate(base))
    text = _asked(
        rng,
        f"How many times is the letter {letter} in {word}?",
        f"Count the letter {letter} in {word}.",
        f"How often is the letter {letter} in {word}?",
    )
    return text, str(word.count(letter))


def _lookup(rng: random.Random, difficulty: int) -> tuple[str, str]:
    entries = rng.sample(range(10), rng.randint(*{1: (3, 3), 2: (4, 5), 3: (6, 7)}[difficulty]))
    place = rng.randrange(difficulty + 2)
    listed, ordinal = ", ".join(map(str, entries)), _ORDINALS[place]
    text = _asked(
        rng,
        f"Of {listed}, which is {ordinal}?",
        f"Which is {ordinal} in the list {listed}?",
        f"Take the {ordinal} entry of {listed}.",
    )
    return text, str(entries[place])


_MAKERS: dict[str, Callable[[random.Random, int], tuple[str, str]]] = {
    "addition": _addition,
    "subtraction": _subtraction,
    "comparison": _comparison,
    "letter": _letter,
    "reversing": _reversing,
    "sorting": _sorting,
    "counting": _counting,
    "lookup": _lookup,
}
KINDS = tuple(_MAKERS)
CELLS: tuple[Cell, ...] = tuple((kind, difficulty) for kind in KINDS for difficulty in DIFFICULTIES)
