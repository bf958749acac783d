"""What escalation buys and costs, on answers whose truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_router import RoutingDataset
from shared_router.data.schema import Outcome, RoutingRecord
from shared_router.errors import ConfigurationError, DataError
from shared_router.measuring.escalation import measure_escalation
from shared_router.testing import fixed_router

PAIR = ("small", "large")
USD = {"small": 0.001, "large": 0.02}


def row(number: int, response: tuple[str, ...], quality: tuple[float, ...], **costs: Any) -> Any:
    small = Outcome(quality=quality, response=response, cost_usd=costs.get("small"))
    large = Outcome(quality=(1.0,), cost_usd=costs.get("large"))
    outcomes = {"small": small, "large": large}
    return RoutingRecord(id=f"{number}", query=f"q{number}", split="v", outcomes=outcomes)


def made(*rows: Any) -> RoutingDataset:
    return RoutingDataset(rows, name="made")


def measured(data: RoutingDataset, *checks: Any, first: int = 0) -> Any:
    choice = np.full(len(data), first, dtype=np.intp)
    return measure_escalation(data, PAIR, choice, checks, resamples=50)


EMPTY_IS_WRONG = made(
    *(row(i, ("" if i % 4 == 0 else "four",), (float(i % 4 > 1),)) for i in range(40))
)


def test_a_check_that_finds_what_is_wrong_is_worth_its_calls() -> None:
    report = measured(EMPTY_IS_WRONG, "empty")
    assert (report.quality["without"].value, report.quality["with"].value) == (0.5, 0.75)
    assert report.quality["random"].value == pytest.approx(0.625)
    assert report.gain.value == 0.25
    assert report.over_random.value == pytest.approx(0.125)
    assert (report.escalated.value, report.precision.value) == (0.25, 1.0)
    assert report.unit == "calls"
    assert report.cost["with"].value == report.cost["random"].value == 1.25
    assert report.gain.interval[0] > 0


def test_what_went_to_the_reference_is_not_checked() -> None:
    report = measured(EMPTY_IS_WRONG, "empty", first=1)
    assert report.quality["with"].value == 1.0
    assert report.cost["with"].value == 1.0
    assert (report.escalated.value, report.precision.value) == (None, None)


def test_dollars_where_they_are_measured() -> None:
    rows = (row(i, ("",), (0.0,), small=0.001, large=0.02) for i in range(10))
    report = measured(made(*rows), "empty")
    assert report.unit == "usd"
    assert report.cost["with"].value == pytest.approx(0.021)
    assert report.cost["without"].value == pytest.approx(0.001)


def test_agreement_draws_every_sample() -> None:
    agreeing = row(0, ("4", "4.", " 4"), (1.0, 1.0, 1.0))
    torn = row(1, ("4", "5", "6"), (1.0, 0.0, 0.0))
    report = measured(made(agreeing, torn), "agreement")
    assert report.quality["with"].value == 1.0
    assert report.escalated.value == 0.5
    assert report.cost["without"].value == 1.0
    assert report.cost["with"].value == 3.5


def test_where_samples_agree_one_of_them_is_given() -> None:
    report = measured(made(row(0, ("4", "4", "5"), (1.0, 1.0, 0.0))), "agreement")
    assert report.escalated.value == 0.0
    assert report.quality["without"].value == pytest.approx(2 / 3)
    assert report.quality["with"].value == 1.0


def test_agreement_of_single_samples_is_refused() -> None:
    with pytest.raises(DataError, match="each has one: collect several"):
        measured(EMPTY_IS_WRONG, "agreement")


def test_each_answer_costs_what_it_cost() -> None:
    cheap = (row(i, ("four",), (1.0,), small=0.001, large=0.02) for i in range(5))
    dear = (row(5 + i, ("",), (0.0,), small=0.003, large=0.06) for i in range(5))
    report = measured(made(*cheap, *dear), "empty")
    assert report.cost["with"].value == pytest.approx((0.001 + 0.063) / 2)
    assert report.cost["random"].value == pytest.approx(0.002 + 0.5 * 0.04)


def test_beside_it_stands_a_coin_of_the_same_cost() -> None:
    rows = (row(i, ("" if i < 5 else "four",), (float(i >= 5),), **USD) for i in range(10))
    report = measured(made(*rows), "empty")
    assert report.quality["with"].value == 1.0
    assert report.cost["coin"].value == pytest.approx(0.011) == report.cost["with"].value
    assert report.quality["coin"].value == pytest.approx(0.5 + 0.5 * 10 / 19)
    assert report.over_coin.value == pytest.approx(0.5 * 9 / 19)
    assert measured(EMPTY_IS_WRONG, "empty").over_coin.value is None


def test_the_routers_costs_where_the_data_tell_none() -> None:
    usual: list[Any] = [(0.001, 0.02), (0.001, None), None]
    choice = np.zeros(40, dtype=np.intp)
    told = [
        measure_escalation(EMPTY_IS_WRONG, PAIR, choice, ["empty"], 5, each).cost["with"].value
        for each in usual
    ]
    assert told == pytest.approx([0.006, 1.25, 1.25])


def test_each_sample_is_checked_by_itself() -> None:
    report = measured(made(row(0, ("", "four"), (0.0, 1.0))), "empty")
    assert report.quality["with"].value == 1.0
    assert report.escalated.value == 0.5


def test_a_function_sees_the_text() -> None:
    report = measured(EMPTY_IS_WRONG, lambda text: text != "four")
    assert report.checks == ("<lambda>",)
    assert report.escalated.value == 0.75


def test_three_candidates_go_up_one_by_one() -> None:
    outcomes = {
        "nano": Outcome(quality=(0.0,), response=("",)),
        "mini": Outcome(quality=(0.5,), response=("",)),
        "maxi": Outcome(quality=(1.0,)),
    }
    data = RoutingDataset((RoutingRecord(id="1", query="q", outcomes=outcomes),), name="made")
    choice = np.zeros(1, dtype=np.intp)
    report = measure_escalation(data, ("nano", "mini", "maxi"), choice, ["empty"], resamples=5)
    assert report.quality["with"].value == report.quality["random"].value == 1.0
    assert report.cost["with"].value == report.cost["random"].value == 3.0


def test_data_without_responses_and_unknown_checks_are_refused() -> None:
    outcomes = {"small": Outcome(quality=(0.0,)), "large": Outcome(quality=(1.0,))}
    bare = made(RoutingRecord(id="1", query="q", split="v", outcomes=outcomes))
    with pytest.raises(DataError, match="small has outcomes without `response`"):
        measured(bare, "empty")
    with pytest.raises(ConfigurationError, match="did you mean 'empty'"):
        measured(EMPTY_IS_WRONG, "emty")
    with pytest.raises(ConfigurationError, match="do not tell what 'length' reads"):
        measured(EMPTY_IS_WRONG, "length")
    with pytest.raises(DataError, match="empty; there is nothing"):
        measured(made(), "empty")


def test_a_tool_call_written_as_text_is_found() -> None:
    told = '<tool_call>{"name": "look_up"}</tool_call>'
    assert measured(made(row(0, (told,), (0.0,))), "tool_text").escalated.value == 1.0


def test_a_routers_dial_says_who_is_asked_first() -> None:
    router = fixed_router(lambda text: float(int(text[1:]) < 20))
    report = router.evaluate_escalation(EMPTY_IS_WRONG, ["empty"], resamples=20, threshold=0.5)
    assert report.quality["without"].value == 0.75
    assert report.quality["with"].value == 0.875
    assert report.escalated.value == 0.25
    assert set(report.to_dict()) >= {"quality", "cost", "gain", "escalated", "precision"}


# -- whatever the outcomes ------------------------------------------------------------------------

QUALITY = st.floats(0, 1)
SAMPLES = st.lists(st.tuples(st.sampled_from(["", "four"]), QUALITY), min_size=1, max_size=4)
ROWS = st.lists(st.tuples(SAMPLES, SAMPLES, QUALITY, st.integers(0, 2)), min_size=1, max_size=6)


def three(rows: Any) -> tuple[RoutingDataset, Any]:
    """Make outcomes of three candidates, and the positions of those asked first."""
    records = []
    for number, (nano, mini, maxi, _) in enumerate(rows):
        outcomes = {
            name: Outcome(quality=tuple(q for _, q in drawn), response=tuple(t for t, _ in drawn))
            for name, drawn in (("nano", nano), ("mini", mini))
        }
        outcomes["maxi"] = Outcome(quality=(maxi,))
        records.append(RoutingRecord(id=f"{number}", query="q", outcomes=outcomes))
    return made(*records), np.array([first for *_, first in rows], dtype=np.intp)


def walked(row: Any, position: int) -> tuple[float, float]:
    """Reckon the mean quality and calls of one question by hand, over all draws of samples."""
    if position == 2:
        return row[2], 1.0
    ends = [
        (walked(row, position + 1) if text == "" else (quality, 0.0))
        for text, quality in row[position]
    ]
    value, calls = np.mean(ends, axis=0)
    return float(value), 1.0 + float(calls)


@given(ROWS)
def test_it_is_what_walking_up_each_question_gives(rows: Any) -> None:
    data, choice = three(rows)
    report = measure_escalation(data, ("nano", "mini", "maxi"), choice, ["empty"], resamples=2)
    value, calls = np.mean([walked(each, each[3]) for each in rows], axis=0)
    assert report.quality["with"].value == pytest.approx(value)
    assert report.cost["with"].value == pytest.approx(calls)


@given(ROWS)
def test_none_rejected_is_no_escalation_and_all_rejected_is_the_reference(rows: Any) -> None:
    data, choice = three(rows)
    names = ("nano", "mini", "maxi")
    none = measure_escalation(data, names, choice, [lambda _: True], resamples=2)
    assert none.gain.value == none.over_random.value == pytest.approx(0)
    assert none.cost["with"].value == none.cost["random"].value == 1.0
    every = measure_escalation(data, names, choice, [lambda _: False], resamples=2)
    for way in ("with", "random"):
        assert every.quality[way].value == pytest.approx(every.quality["reference"].value)
        assert every.cost[way].value == pytest.approx(1.0 + np.mean(2 - choice))
