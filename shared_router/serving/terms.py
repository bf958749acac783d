"""The words of a query, hashed: what an embedding of its meaning leaves out.

Words and pairs of neighbouring words are hashed to buckets, so that no word stands in an artifact.
Saved routers depend on the hashing: a change of it makes another part, with another name.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from shared_router.asking.texts import text_ends
from shared_router.serving.tokens import readable

if TYPE_CHECKING:
    from numpy.typing import NDArray

BUCKETS = 1 << 17
"""A power of 2; with half as many, collisions begin to cost what the words bring."""
_WORD = re.compile(r"\w\w+")


@dataclass(frozen=True)
class Terms:
    """The terms of one text."""

    buckets: NDArray[np.int64]
    """Distinct, ascending, in [0, BUCKETS), shape (m,)."""
    weights: NDArray[np.float32]
    """`1 + log(count)`, shape (m,)."""


def hashed_terms(text: str) -> Terms:
    """Hash a text's words and pairs of neighbouring words; of a long text its head and tail.

    Args:
        text: The query; one without words has no terms.
    """
    words = [word.encode() for word in _WORD.findall(readable(text_ends(text)).lower())]
    pairs = (b"%b %b" % pair for pair in pairwise(words))
    counts = Counter(crc32(term) % BUCKETS for found in (words, pairs) for term in found)
    buckets = np.array(sorted(counts), dtype=np.int64)
    found = np.array([counts[bucket] for bucket in buckets.tolist()], dtype=np.float32)
    return Terms(buckets, 1 + np.log(found))
