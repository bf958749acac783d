"""What escalation buys and costs, on answers whose truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shared_router import RoutingDataset
from shared_router.data.schema import Outcome, RoutingRecord
from shared_router.errors import ConfigurationError, DataError
from shared_router.measuring.escalation import measure_escalation
from shared_router.testing import fixed_router

PAIR = ("small", "large")


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
    assert report.quality["with"].value == 1.0
    assert report.cost["with"].value == 3.0


def test_data_without_responses_and_unknown_checks_are_refused() -> None:
    outcomes = {"small": Outcome(quality=(0.0,)), "large": Outcome(quality=(1.0,))}
    bare = made(RoutingRecord(id="1", query="q", split="v", outcomes=outcomes))
    with pytest.raises(DataError, match="small has outcomes without `response`"):
        measured(bare, "empty")
    with pytest.raises(ConfigurationError, match="did you mean 'empty'"):
        measured(EMPTY_IS_WRONG, "emty")


def test_a_routers_dial_says_who_is_asked_first() -> None:
    router = fixed_router(lambda text: float(int(text[1:]) < 20))
    report = router.evaluate_escalation(EMPTY_IS_WRONG, ["empty"], resamples=20, threshold=0.5)
    assert report.quality["without"].value == 0.75
    assert report.quality["with"].value == 0.875
    assert report.escalated.value == 0.25
    assert set(report.to_dict()) >= {"quality", "cost", "gain", "escalated", "precision"}
