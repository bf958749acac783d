"""What an answer tells beside its words: form, likeness to the question, log-probabilities.

Cheap, computed from the text alone; a long one is read at head and tail.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from shared_router.asking.texts import text_ends
from shared_router.deciding.escalation import Answer, is_refusal
from shared_router.serving.sums import count_sums

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

FORM_NAMES = (
    "log_characters",
    "log_words",
    "log_length_ratio",
    "digit_share",
    "numbers",
    "lines",
    "list_items",
    "code",
    "refusal",
    "hedging",
    "ends_in_question",
    "ends_whole",
    "repeated_share",
    "words_of_query",
    "query_words_said",
    "numbers_of_query",
    "sums",
    "wrong_sums",
    "any_wrong_sum",
)
"""Names of the numbers of an answer's text, in the order of the columns."""
LOGPROB_NAMES = (
    "mean_logprob",
    "least_logprob",
    "lowest_tenth",
    "first_logprob",
    "last_logprob",
    "unsure_share",
    "log_tokens",
)
"""Names of the numbers of its log-probabilities; those a provider cuts off count as the least."""
LEAST_LOGPROB = -20.0
UNSURE = -0.7
"""A token below it, of a probability under a half, had a rival."""

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_ITEM = re.compile(r"^[^\S\n]*(?:[-*•]|\d+[.)])[^\S\n]", re.MULTILINE)
_CODE = re.compile(r"```|\bdef \w|\bimport \w|\breturn\b|[;{}]\s*$", re.MULTILINE)
_HEDGE = re.compile(
    r"\b(?:might|maybe|perhaps|possibly|probably|likely|unsure|not sure|uncertain|it depends|"
    r"i think|i believe|seems?|appears?|approximately|roughly|without (?:more|further))\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"\w+")
_WHOLE = (".", "!", "?", "`", ")", "]", "}", '"', "'", "。", "！", "？", "*")


def number_names(*, with_logprobs: bool) -> tuple[str, ...]:
    """Name what a scorer of answers sees beside the words."""
    return FORM_NAMES + LOGPROB_NAMES if with_logprobs else FORM_NAMES


def answer_numbers(
    query: str, answer: str, logprobs: Sequence[float] | None = None, *, with_logprobs: bool
) -> NDArray[np.float32]:
    """Compute the numbers of one answer.

    Args:
        query: What was asked.
        answer: What was answered; may be empty.
        logprobs: Natural log-probabilities of its tokens; needed `with_logprobs`.
        with_logprobs: Whether these are a part.

    Returns:
        Shape (len(number_names(...)),), finite.
    """
    found = _form(text_ends(query), text_ends(answer), len(answer), len(query))
    if with_logprobs:
        found += _of_logprobs(logprobs or (LEAST_LOGPROB,))
    return np.array(found, dtype=np.float32)


def _form(query: str, answer: str, length: int, asked: int) -> list[float]:
    words, known = _words(answer), set(_words(query))
    distinct = set(words)
    numbers, given = _NUMBER.findall(answer), set(_NUMBER.findall(query))
    ends, (sums, wrong) = answer.rstrip(), count_sums(answer)
    return [
        float(np.log1p(length)),
        float(np.log1p(len(words))),
        float(np.log1p(length) - np.log1p(asked)),
        sum(map(str.isdigit, answer)) / max(len(answer), 1),
        len(numbers) ** 0.5,
        answer.count("\n") ** 0.5,
        len(_ITEM.findall(answer)) ** 0.5,
        float(bool(_CODE.search(answer))),
        float(is_refusal(Answer(text=answer))),
        len(_HEDGE.findall(answer)) ** 0.5,
        float(ends.endswith("?")),
        float(ends.endswith(_WHOLE)),
        1 - len(distinct) / max(len(words), 1),
        len(distinct & known) / max(len(distinct), 1),
        len(distinct & known) / max(len(known), 1),
        len(given.intersection(numbers)) / max(len(set(numbers)), 1),
        sums**0.5,
        wrong**0.5,
        float(wrong > 0),
    ]


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _of_logprobs(logprobs: Sequence[float]) -> list[float]:
    known = np.clip(np.asarray(logprobs, dtype=np.float64), LEAST_LOGPROB, 0.0)
    lowest = np.sort(known)[: max(1, len(known) // 10)]
    return [
        float(known.mean()),
        float(known.min()),
        float(lowest.mean()),
        float(known[0]),
        float(known[-1]),
        float((known < UNSURE).mean()),
        float(np.log1p(len(known))),
    ]
