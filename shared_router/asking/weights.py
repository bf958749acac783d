"""How much a turn says by itself: told by its words, without a model."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from shared_router.asking.turn_words import (
    ASKING,
    DENIALS,
    KOREAN,
    KOREAN_WORDS,
    LANGUAGES,
    UNSPACED,
    folded,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

LONG = 400
"""Characters from which on a turn stands by itself, whatever its words."""
LINES = 3
"""Lines from which on it does: options, code, a text that is brought."""
NUMBERS = 3
"""Numbers from which on they are what a turn is about: one names a step."""
ENOUGH = 3
"""Words of its own that a turn has at least, to stand by itself."""
ENOUGH_ASKED = 2
"""The same, where it begins with a question word: it is a whole sentence then."""
ENOUGH_WITH_MARK = 4
"""The same, where it begins by pointing at something said before."""
ENOUGH_UNKNOWN = 5
"""The same, where no word of its language is known here."""
ENOUGH_UNSPACED = 3
"""The same in Chinese, Japanese and Korean, where words are not told apart as well."""
NOUNS = 2
"""Words of its own after which a pronoun means these."""
BROUGHT = 12
"""Characters behind a colon from which on they are a text that a turn brings."""
MOST_READ = 1_000
"""Characters read of each earlier turn, to see whether a word was met before."""

_WORD = re.compile(r"\w+")
_NAME = re.compile(r"(?<=[^\W_] )[A-Z]\w+")
"""A word that begins with a capital within a sentence: it says more than another."""
_ASIAN = re.compile(r"[\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]")
_HANGUL = re.compile(r"[\uac00-\ud7a3]+")
_HIRAGANA = re.compile(r"[\u3040-\u309f]+")
_QUESTION = ("?", "？", "؟")


@dataclass(frozen=True)
class Weight:
    """What a turn says by itself."""

    content: frozenset[str] = field(default=frozenset(), repr=False)
    """Its own words, folded: those that say what it is about."""
    points: bool = False
    """Whether it points at something said before, or says nothing else."""
    stands_alone: bool = False
    """Whether it is a question by itself."""
    approves: bool = False
    """Whether it may be a yes: it neither asks nor denies."""

    def adds_to(self, earlier: Iterable[str]) -> bool:
        """Tell whether it has a word that was not said before."""
        if not self.content:
            return False
        met = "\n".join(folded(text[:MOST_READ]) for text in earlier)
        return any(word not in met for word in self.content)


def weigh(text: str) -> Weight:
    """Weigh a turn by its words.

    Args:
        text: What a user said; a long text is not looked at.

    Returns:
        What it says by itself.
    """
    if len(text) > LONG or text.strip().count("\n") + 1 >= LINES:
        return Weight(stands_alone=True)
    words = _WORD.findall(folded(text))
    language = max(LANGUAGES, key=lambda each: sum(word in each.light for word in words))
    content: dict[str, None] = {}
    # A text that is brought is what is pointed at.
    brings = len(text.partition(":")[2]) >= BROUGHT
    marked = not language.first.isdisjoint((*words[:1], "_".join(words[:2])))
    known = False
    for word, following in pairwise([*words, ""]):
        if word not in language.light:
            content.update(dict.fromkeys(_own_parts(word)))
            continue
        known = True
        # A pronoun after a noun or two means these, not what was said before.
        if len(content) < NOUNS and not brings:
            marked = marked or language.points(word, following)
    numbers = [word for word in words if word.isnumeric()]
    content.update(dict.fromkeys(numbers if len(numbers) >= NUMBERS else ()))
    names = 0 if marked else sum(folded(name) in content for name in _NAME.findall(text))
    asked = known and not ASKING.isdisjoint(words[:1])
    enough = _enough(text, marked=marked, known=known, asked=asked)
    return Weight(
        content=frozenset(content),
        points=marked or not content,
        stands_alone=len(content) + names >= enough,
        approves=not text.rstrip().endswith(_QUESTION) and DENIALS.isdisjoint(words),
    )


def _enough(text: str, *, marked: bool, known: bool, asked: bool) -> int:
    if marked:
        return ENOUGH_WITH_MARK
    if _ASIAN.search(text):
        return ENOUGH_UNSPACED
    if asked:
        return ENOUGH_ASKED
    return ENOUGH if known else ENOUGH_UNKNOWN


def _own_parts(word: str) -> Iterable[str]:
    """Return what of a word, or of a run of characters without blanks, says something."""
    if not _ASIAN.search(word):
        return () if word.isnumeric() else (word,)
    if _HANGUL.search(word):
        bare = word.lstrip("0123456789")
        light = bare in KOREAN_WORDS or bare.startswith(KOREAN)
        return () if light or not bare else (bare,)
    bare = _HIRAGANA.sub(" ", UNSPACED.sub(" ", word))
    runs = [run for run in bare.split() if not run.isnumeric()]
    return [run[at : at + 2] for run in runs for at in range(0, len(run), 2)]
