"""Sums in a text: those that come out, and those that do not."""

from __future__ import annotations

import re
from operator import add, mul, sub, truediv
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MOST = 12
"""Operators of a sum that is read: a longer one is no sum that people write."""
_NUMBER = r"\d[\d,]*(?:\.\d+)?%?"
# A number starts where none is under way, an operator stands between two, and there are few of
# them: reading a text takes no longer than its length.
_SUM = re.compile(
    rf"(?<![\w.,])({_NUMBER}(?:\s?[-+*/x×÷]\s?\$?{_NUMBER}){{1,{MOST}}})\s?=\s?"
    rf"(?:<<[^<>]{{0,80}}>>)?\s?\$?(-?\d[\d,]*(?:\.\d+)?)"
)
_PART = re.compile(rf"{_NUMBER}|[-+*/x×÷]")
_FIRST: dict[str, Callable[[float, float], float]] = {
    "*": mul,
    "x": mul,
    "×": mul,
    "/": truediv,
    "÷": truediv,
}
_THEN: dict[str, Callable[[float, float], float]] = {"+": add, "-": sub}
NEAR = 0.01
"""Share by which a sum may be off: results are rounded."""


def count_sums(text: str) -> tuple[int, int]:
    """Count the sums of a text, such as `3 * 4 = 12`, and those of them that do not come out."""
    found = [(_value(left), _number(right)) for left, right in _SUM.findall(text)]
    known = [(value, told) for value, told in found if value is not None]
    wrong = sum(abs(value - told) > NEAR * max(1.0, abs(value)) for value, told in known)
    return len(known), wrong


def _value(left: str) -> float | None:
    """Work a sum out; `None` where it divides by nothing."""
    parts = _PART.findall(left)
    values, signs = [_number(part) for part in parts[::2]], parts[1::2]
    try:
        for operators in (_FIRST, _THEN):
            values, signs = _worked(values, signs, operators)
    except (ZeroDivisionError, OverflowError):
        return None
    return values[0]


def _worked(
    values: list[float], signs: list[str], operators: dict[str, Callable[[float, float], float]]
) -> tuple[list[float], list[str]]:
    """Work out what stands between these operators, from left to right."""
    kept, left = [values[0]], []
    for sign, value in zip(signs, values[1:], strict=True):
        if sign in operators:
            kept[-1] = operators[sign](kept[-1], value)
        else:
            kept.append(value)
            left.append(sign)
    return kept, left


def _number(text: str) -> float:
    plain = text.replace(",", "")
    return float(plain[:-1]) / 100 if plain.endswith("%") else float(plain)
