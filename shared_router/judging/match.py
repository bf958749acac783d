"""Metrics that read the final answer out of a response: right is 1, wrong is 0."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal

from shared_router.errors import DataError
from shared_router.judging.metric import AnswerMetric

ARTICLES = re.compile(r"\b(a|an|the)\b")
NUMBER = re.compile(
    r"(?<![\w.])[-+\u2212]?[$\u20ac\u00a3]?\s?"
    r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:(?<=\d)\.\d+|(?<!\d)\.\d+)?"
    r"(?:[eE][-+]?\d+)?(?:\s?/\s?\d+)?"
)
STATED = re.compile(
    r"(?:answer|choice|option)\b\s*(?:is|:|=)?\s*(?:option|choice)?\s*\**\(?([A-Z])\b",
    re.IGNORECASE,
)
ALONE = re.compile(r"(?<![A-Za-z'])\(?([A-Z])(?:\)|\.|:|\b)(?![A-Za-z'])")
AFTER_MARK = re.compile(r"(?:####|\\boxed\{|(?:final )?answer(?: is)?\s*[:=]?)", re.IGNORECASE)
TOLERANCE = Decimal("1e-6")
"""Relative difference up to which two numbers are equal."""


def exact(response: str, answer: str) -> float:
    """Compare character by character, blanks at the ends aside."""
    return float(response.strip() == answer.strip())


def normalised(response: str, answer: str) -> float:
    """Compare words: case, punctuation, articles and blanks aside."""
    return float(normalise(response) == normalise(answer))


def normalise(text: str) -> str:
    """Fold case, drop punctuation and articles, and join words by one blank."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = "".join(" " if unicodedata.category(sign)[0] == "P" else sign for sign in folded)
    return " ".join(ARTICLES.sub(" ", kept).split())


def choice(response: str, answer: str) -> float:
    """Compare the letter chosen: the last one stated as the answer, else the last one alone.

    Raises:
        DataError: If the right answer holds no letter.
    """
    wanted = chosen_letter(answer)
    if wanted is None:
        raise DataError("multiple choice: the right answer is a letter, such as B or (B).")
    return float(chosen_letter(response) == wanted)


def chosen_letter(text: str) -> str | None:
    """Find the letter a text settles on."""
    bare = text.strip().strip("().:* ")
    if len(bare) == 1 and bare.isascii() and bare.isalpha():
        return bare.upper()
    stated = [found for found in STATED.findall(text) if found.isupper()]
    # "I" and "A" are words too: alone they count only where nothing else does.
    alone = [found for found in ALONE.findall(text) if found != "I"]
    sure = [found for found in alone if found != "A"] or alone
    found: list[str] = stated or sure
    return found[-1] if found else None


def numeric(response: str, answer: str) -> float:
    """Compare the last number (after a mark such as `####` or "answer is", where one stands).

    Raises:
        DataError: If the right answer holds no number.
    """
    wanted = final_number(answer)
    if wanted is None:
        raise DataError("numeric answer: the right answer holds a number; got none.")
    found = final_number(response)
    if found is None:
        return 0.0
    return float(abs(found - wanted) <= TOLERANCE * max(abs(found), abs(wanted)))


def final_number(text: str) -> Decimal | None:
    """Find the number a text settles on."""
    marks = list(AFTER_MARK.finditer(text))
    if marks:
        after = _numbers(text[marks[-1].end() :])
        if after:
            return after[0]
    found = _numbers(text)
    return found[-1] if found else None


def _numbers(text: str) -> list[Decimal]:
    read = [_decimal(match.group()) for match in NUMBER.finditer(text)]
    return [number for number in read if number is not None]


def _decimal(written: str) -> Decimal | None:
    plain = re.sub(r"[\s,$\u20ac\u00a3]", "", written).replace("\u2212", "-")
    above, _, below = plain.partition("/")
    try:
        number = Decimal(above) / Decimal(below or 1)
    except ArithmeticError:  # no number, a division by zero, or beyond all bounds
        return None
    return number if number.is_finite() else None


EXACT = AnswerMetric("exact", exact)
NORMALISED = AnswerMetric("normalised", normalised)
CHOICE = AnswerMetric("choice", choice)
NUMERIC = AnswerMetric("numeric", numeric)
