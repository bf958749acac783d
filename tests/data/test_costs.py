"""What a call costs: given, measured, or reckoned from prices."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from shared_router import Candidate
from shared_router.data.costs import call_costs, given_costs, typical_costs
from shared_router.data.schema import Outcome, RoutingRecord
from shared_router.errors import CandidateError
from tests.material import dataset, three_models, with_costs

if TYPE_CHECKING:
    from shared_router import RoutingDataset

NAMES = ("nano", "mini", "maxi")
MEASURED = three_models(10)
UNPRICED = three_models(10, costs=False)


def priced(nano: Any = (0.1, 0.4), mini: Any = (1.0, 4.0), maxi: Any = (5.0, 20.0)) -> list[Any]:
    return [
        Candidate(name, None, *prices) if prices else Candidate(name)
        for name, prices in zip(NAMES, (nano, mini, maxi), strict=True)
    ]


def answered(**answers: str) -> RoutingDataset:
    """One query of 40 characters, with these answers."""
    outcomes = {name: Outcome(quality=(1.0,), response=(text,)) for name, text in answers.items()}
    return dataset(RoutingRecord(id="q", query="x" * 40, outcomes=outcomes))


def test_given_costs_come_first() -> None:
    found = call_costs(NAMES, MEASURED, {"maxi": 3, "nano": 1, "mini": 2.5})
    assert (found.usd, found.source) == ((1.0, 2.5, 3.0), "given")


def test_measured_costs_come_before_prices() -> None:
    found = call_costs(priced(), MEASURED)
    assert found.usd == pytest.approx((0.001, 0.004, 0.01))
    assert found.source == "measured"


def test_prices_count_where_the_data_have_no_costs() -> None:
    data = answered(nano="y" * 400, mini="y" * 40, maxi="y" * 4)
    found = call_costs(priced(), data)
    assert found.source == "prices"
    assert found.usd == pytest.approx(
        ((0.1 * 10 + 0.4 * 100) / 1e6, (1 * 10 + 4 * 10) / 1e6, (5 * 10 + 20 * 1) / 1e6)
    )


def test_without_recorded_answers_a_typical_call_is_reckoned() -> None:
    plain = dataset(
        RoutingRecord(id="q", query="x", outcomes={n: Outcome(quality=(1.0,)) for n in NAMES})
    )
    assert call_costs(priced(), plain).usd == pytest.approx(typical_costs(priced()))
    assert typical_costs(priced())[0] == pytest.approx((0.1 * 750 + 0.4 * 250) / 1e6)
    assert typical_costs([Candidate("a", None, 1.0)]) == (None,)


def test_nothing_known_is_no_error() -> None:
    found = call_costs(NAMES, UNPRICED)
    assert (found.usd, found.source) == ((None, None, None), "unknown")


def test_costs_of_some_alone_are_refused_among_three() -> None:
    some = with_costs(UNPRICED, nano=0.1, maxi=1.0)
    with pytest.raises(CandidateError, match=r"has costs, but none for 'mini': .*give costs_usd="):
        call_costs(NAMES, some)
    with pytest.raises(CandidateError, match="prices are given, but none for 'nano'"):
        call_costs(priced(nano=None), UNPRICED)
    assert call_costs(("nano", "mini"), some).usd == (0.1, None)  # a pair weighs no costs


@pytest.mark.parametrize(
    ("costs", "rule"),
    [
        ({"nano": 1, "mini": 1}, "one cost for each candidate .*; got none for 'maxi'"),
        ({"nano": 1, "mini": 1, "maxi": 1, "huge": 2}, "got one for 'huge'"),
        ({"nano": -1, "mini": 1, "maxi": 1}, r"costs_usd\['nano'\] is .* at least 0; got -1"),
        ({"nano": math.nan, "mini": 1, "maxi": 1}, "finite"),
        ({"nano": "1", "mini": 1, "maxi": 1}, "got '1'"),
        ({"nano": True, "mini": 1, "maxi": 1}, "got True"),
    ],
)
def test_wrong_costs_are_refused(costs: dict[str, Any], rule: str) -> None:
    with pytest.raises(CandidateError, match=rule):
        given_costs(NAMES, costs)


def test_one_string_is_no_list_of_candidates() -> None:
    with pytest.raises(CandidateError, match="at least two candidates"):
        call_costs("nano", MEASURED)
