"""Sums in a text: counted, and worked out."""

from __future__ import annotations

import pytest

from shared_router.serving.answer_numbers import answer_numbers, number_names
from shared_router.serving.sums import count_sums


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("", (0, 0)),
        ("She has 3 * 4 = 12 apples.", (1, 0)),
        ("3 * 4 = 13", (1, 1)),
        ("2 + 3 * 4 = 14, not 2 + 3 * 4 = 20", (2, 1)),
        ("$1,200 - $200 = $1,000", (1, 0)),
        ("5*3=<<5*3=15>>15", (1, 0)),
        ("20% x 50 = 10", (1, 0)),
        ("10 / 3 = 3.33", (1, 0)),
        ("7 / 0 = 3", (0, 0)),
        ("x = 3 and y = 4", (0, 0)),
        ("8 - 10 = -2", (1, 0)),
    ],
)
def test_sums_are_counted_and_worked_out(text: str, counted: tuple[int, int]) -> None:
    assert count_sums(text) == counted


@pytest.mark.parametrize("part", ["1+", "1,", "9" * 50 + " ", "1 + 1 = ", "<<", "=", "1.1.1"])
def test_a_long_text_is_read_to_its_end(part: str) -> None:
    assert count_sums(part * 5_000 + " so 3 * 4 = 13 in all") >= (1, 1)


@pytest.mark.parametrize("text", ["", "no", "12 " * 400_000, "\x00", "é" * 10])
def test_numbers_of_any_answer_are_finite(text: str) -> None:
    for logprobs in (None, (), (-0.1,), (float("-inf"), -0.2)):
        found = answer_numbers("why?", text, logprobs, with_logprobs=True)
        assert found.shape == (len(number_names(with_logprobs=True)),)
        assert all(abs(each) < 1e9 for each in found)
