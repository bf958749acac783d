"""Real prose to ask about: the interpreter's own documentation, cut into sentences.

The language reference that `help()` shows, and the docstrings of the standard library. Which text
that is depends on the interpreter: the figures in the docs are of Python 3.11.7.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sysconfig
import warnings
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LEAST_WORDS, MOST_WORDS = 9, 32
_LEFT_OUT = {"test", "tests", "idle_test", "lib2to3", "site-packages", "idlelib", "pydoc_data"}
_WORD = re.compile(r"[a-z0-9_]+|[^\sa-z0-9_]")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"*])")


@dataclass(frozen=True)
class Sentence:
    """One retrievable node."""

    section: str
    """The topic or module it stands in."""
    words: tuple[str, ...]
    """Lower case; signs are words of their own."""

    @property
    def text(self) -> str:
        """Words joined by blanks."""
        return " ".join(self.words)

    @property
    def held_out(self) -> bool:
        """Whether questions about it measure, rather than train: a fifth of all sections."""
        return hashlib.blake2b(self.section.encode(), digest_size=2).digest()[0] % 5 == 0


def sentences() -> list[Sentence]:
    """Return every distinct sentence of prose, in a fixed order."""
    found: dict[tuple[str, ...], Sentence] = {}
    for section, text in [*_reference(), *_docstrings()]:
        for paragraph in re.split(r"\n\s*\n", text):
            for sentence in _SENTENCE_END.split(" ".join(paragraph.split())):
                words = tuple(_WORD.findall(sentence.lower()))
                if _is_prose(words):
                    found.setdefault(words, Sentence(section, words))
    return list(found.values())


def is_word(word: str) -> bool:
    """Tell a word from a sign."""
    return word.isalpha()


def _is_prose(words: tuple[str, ...]) -> bool:
    if not LEAST_WORDS <= len(words) <= MOST_WORDS or words[-1] != ".":
        return False
    return sum(map(is_word, words)) >= 0.75 * len(words) and " ".join(words).isascii()


def _reference() -> Iterator[tuple[str, str]]:
    yield from sorted(topics.items())


def _docstrings() -> Iterator[tuple[str, str]]:
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        module = path.relative_to(root)
        if _LEFT_OUT & set(module.parts):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node)
                if text:
                    yield str(module), text
