"""Whether sampled answers say the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_router.measuring.agreement import largest_group, what_is_given

LONG = "The train leaves the station at nine and arrives at noon in the old town"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("4", " 4."),
        ("Paris", "**paris**!"),
        ("1,000 euros", "1000 euros"),
        ("-4", "\u22124"),
        ("東京", "東京。"),
        ("", " \n"),
        (LONG, LONG.replace("leaves", "departs from")),
    ],
)
def test_the_same_in_other_words_or_marks(one: str, other: str) -> None:
    assert largest_group([one, other]) == [True, True]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("4", "-4"),
        ("3.5", "35"),
        ("the answer is 4", "the answer is 5"),
        ("", "4"),
        (LONG, "Nobody can say when it goes, as there has been none on Sundays for many years"),
        (LONG, "noon"),
    ],
)
def test_what_differs(one: str, other: str) -> None:
    assert largest_group([one, other]) == [True, False]


def test_most_of_them_count() -> None:
    assert what_is_given(["5", "4", "4.", " 4", "4"]) == ([False, True, True, True, True], False)
    assert what_is_given(["4", "4", "5", "6"]) == ([True] * 4, True)


@given(st.lists(st.text(max_size=60), min_size=1, max_size=6))
def test_a_group_is_never_empty_and_order_does_not_change_its_size(texts: list[str]) -> None:
    assert sum(largest_group(texts)) == sum(largest_group(texts[::-1])) >= 1
    assert largest_group(texts[:1] * 3) == [True] * 3
