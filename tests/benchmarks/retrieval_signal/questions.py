"""Cloze questions about the passages, and what MiniLM retrieves for each.

A question is a few words around a gap, some of them dropped, so that retrieval fails at times:
"returns a tuple ___ the decoded string". Its answer is the missing word; readers write it with the
words beside it.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shared_router.training.embedding import embed
from shared_router.training.encoder import load_encoder
from tests.benchmarks.retrieval_signal.passages import Sentence, is_word

if TYPE_CHECKING:
    from collections.abc import Sequence

GAP = "___"
MOST_NODES = 5
COMMON_WORDS = 150
"""So many of the most frequent words are never asked for."""
LEAST_LETTERS = 4
DROPPED = (0.0, 0.1, 0.2, 0.4)
"""Shares of the words around the gap that a question leaves out."""
_BESIDE = 2
"""Words of the answer on either side of the missing one."""


@dataclass(frozen=True)
class Question:
    """One question."""

    source: int
    """Number of the sentence it was cut from."""
    words: tuple[str, ...]
    """With `GAP` among them."""
    missing: str
    """The word asked for."""
    answer: tuple[str, ...]
    """What a reader should write: the missing word between its neighbours."""

    @property
    def text(self) -> str:
        """What the user asks, and the router reads."""
        return " ".join(self.words)


@dataclass(frozen=True)
class Retrieved:
    """What was found for every question, best first."""

    nodes: np.ndarray
    """Numbers of sentences, shape (n, MOST_NODES)."""
    scores: np.ndarray
    """Cosines, the same shape."""


def ask(sentences: Sequence[Sentence], numbers: Sequence[int], n: int, seed: int) -> list[Question]:
    """Draw n distinct questions about the sentences of these numbers."""
    counts = Counter(word for sentence in sentences for word in sentence.words)
    common = {word for word, _ in counts.most_common(COMMON_WORDS)}
    rng = random.Random(seed)  # noqa: S311 - seeded on purpose
    found: dict[str, Question] = {}
    while len(found) < n:
        number = rng.choice(numbers)
        question = _cut(sentences[number].words, number, common, rng)
        if question is not None:
            found.setdefault(question.text, question)
    return list(found.values())


def retrieve(sentences: Sequence[Sentence], questions: Sequence[Question]) -> Retrieved:
    """Find the nearest sentences to every question among all of them."""
    encoder = load_encoder("minilm")
    index = embed(encoder, [sentence.text for sentence in sentences])
    asked = embed(encoder, [question.text for question in questions])
    nodes, scores = [], []
    for rows in np.array_split(asked, max(1, len(asked) // 1000)):
        cosines = rows @ index.T
        best = np.argsort(-cosines, axis=1, kind="stable")[:, :MOST_NODES]
        nodes.append(best)
        scores.append(np.take_along_axis(cosines, best, axis=1))
    return Retrieved(np.concatenate(nodes), np.concatenate(scores))


def _cut(
    words: tuple[str, ...], number: int, common: set[str], rng: random.Random
) -> Question | None:
    """Take a window around an informative word, and drop some of the others."""
    places = [
        place
        for place, word in enumerate(words)
        if len(word) >= LEAST_LETTERS and is_word(word) and word not in common
    ]
    if not places:
        return None
    place = rng.choice(places)
    start = max(0, place - rng.randint(3, 9))
    end = min(len(words), place + 1 + rng.randint(3, 9))
    share = rng.choice(DROPPED)
    kept = [GAP if i == place else words[i] for i in range(start, end)
            if i == place or rng.random() >= share]  # fmt: skip
    if len(kept) < 4 or words[place] in kept:
        return None
    answer = words[max(0, place - _BESIDE) : place + 1 + _BESIDE]
    return Question(number, tuple(kept), words[place], answer)
