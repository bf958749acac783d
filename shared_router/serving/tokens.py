"""What of a text is read: the encoder's tokens, from the head and the tail of a long one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.asking.texts import MAX_CHARACTERS, text_ends
from shared_router.support.processes import cached_property, opening

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEFAULT_MAX_TOKENS = 256
"""Tokens read of a text, where an encoder could read more."""


def readable(text: str) -> str:
    """Replace lone surrogates, as in half an emoji: a tokenizer refuses the whole text."""
    return text.encode("utf-8", "replace").decode("utf-8")


def tail_of(max_tokens: int) -> int:
    """Return how many of an encoder's tokens a long text's end gets: half."""
    return max_tokens // 2


@dataclass(frozen=True)
class Tokens:
    """Cuts texts into the encoder's tokens; of a long text the head and the tail are kept."""

    serialized: str = field(repr=False)
    """Contents of a `tokenizer.json`."""
    max_tokens: int
    """Tokens read, marks included; of a longer text the middle is left out."""
    tail_tokens: int = 0
    """How many of them the end of a long text gets; 0 keeps the head alone."""

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of what decides how a text is read."""
        lengths = f"{self.max_tokens} {self.tail_tokens} "
        return hashlib.sha256((lengths + self.serialized).encode()).hexdigest()

    @cached_property
    def _tokenizer(self) -> Any:
        with opening():
            from tokenizers import Tokenizer

            tokenizer = Tokenizer.from_str(self.serialized)
            tokenizer.no_padding()
            tokenizer.no_truncation()
            return tokenizer

    @cached_property
    def _marks(self) -> tuple[int, int]:
        """How many marks, such as [CLS] and [SEP], stand before and after a text."""
        mask = self._tokenizer.encode("a").special_tokens_mask
        texts = [at for at, mark in enumerate(mask) if not mark]
        return texts[0], len(mask) - 1 - texts[-1]

    def encode(self, text: str) -> dict[str, NDArray[np.int64]]:
        """Return `input_ids` and `attention_mask`, int64 of shape (1, tokens)."""
        ids = np.array([self.ids(text)], dtype=np.int64)
        return {"input_ids": ids, "attention_mask": np.ones_like(ids)}

    def ids(self, text: str) -> list[int]:
        """Return the ids of what is read of a text, at most `max_tokens`."""
        ends = text_ends(text, MAX_CHARACTERS // 2 if self.tail_tokens else 0)
        ids: list[int] = self._tokenizer.encode(readable(ends)).ids
        if len(ids) <= self.max_tokens:
            return ids
        before, after = self._marks
        tail = min(self.tail_tokens, self.max_tokens - before - after)
        head = self.max_tokens - after - tail
        return ids[:head] + ids[len(ids) - after - tail :]

    def exceeds(self, text: str) -> bool:
        """Tell whether a text has more tokens than the encoder reads."""
        if len(text) > MAX_CHARACTERS:
            return True
        # In ASCII a token is at least a character, and two are marks; a syllable may be more.
        if text.isascii() and len(text) < self.max_tokens - 2:
            return False
        return len(self._tokenizer.encode(readable(text)).ids) > self.max_tokens
