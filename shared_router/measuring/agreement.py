"""Whether several sampled answers of one model say the same.

Source: agreement of samples (self-consistency, arXiv 2203.11171) as a sign of how sure a model is;
BEST-Route (arXiv 2506.22716) draws several answers of the cheaper model.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

AGREEMENT = "agreement"
"""The check: rejects where too few of a model's sampled responses say the same; else one of those
that do is given."""
LEAST_AGREEING = 0.6
"""Share of the samples that must agree."""
MOST_WORDS = 8
"""Words of a short answer, which agrees with those that are the same."""
LEAST_OVERLAP = 0.6
"""Of two longer ones that agree: the F1 of their words."""

_WORDS = re.compile(r"[-+\u2212]?\d+(?:[.,]\d+)*|[\u3040-\u30ff\u4e00-\u9fff]|\w+")


def what_is_given(texts: Sequence[str]) -> tuple[list[bool], bool]:
    """Find the answers of which one would be given.

    Returns:
        For each whether it may be, and whether too few agree: then any of them would be.
    """
    group = largest_group(texts)
    torn = sum(group) / len(texts) < LEAST_AGREEING
    return ([True] * len(texts) if torn else group), torn


def largest_group(texts: Sequence[str]) -> list[bool]:
    """Find the answers that agree with the one that most agree with, the first of several such.

    Args:
        texts: Sampled answers of one model to one query, at least one.

    Returns:
        For each whether it belongs to them.
    """
    words = [_words(text) for text in texts]
    groups = [[_agree(one, other) for other in words] for one in words]
    return max(groups, key=sum)


def _words(text: str) -> Counter[str]:
    """Count the words of an answer, but for case and marks; a sign belongs to its number."""
    found = _WORDS.findall(text.lower().replace("\u2212", "-"))
    return Counter(word.replace(",", "") if word[-1].isdigit() else word for word in found)


def _agree(one: Counter[str], other: Counter[str]) -> bool:
    if one == other:
        return True
    total = one.total() + other.total()
    if min(one.total(), other.total()) <= MOST_WORDS:
        return False
    return 2 * (one & other).total() / total >= LEAST_OVERLAP
