"""The order of the rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from shared_router import Candidate, Dial, RoutingQuery
from shared_router.deciding.drivers import drive
from shared_router.deciding.guards import RoutingRequest
from shared_router.deciding.policy import Policy
from shared_router.deciding.rule import Rule, savings_from_costs
from shared_router.deciding.settings import Dialling
from shared_router.options import Asked, CallOptions

# -- the order of rules -------------------------------------------------------------------------
if TYPE_CHECKING:
    from collections.abc import Callable


THREE = (
    Candidate("nano", supports_tools=False),
    Candidate("mini", context_window=100),
    Candidate("maxi"),
)


def fail(error: Exception) -> Callable[[Any], Any]:
    def raising(_: Any) -> Any:
        raise error

    return raising


def at_threshold(candidates: tuple[Candidate, ...], threshold: float) -> Policy:
    """A policy that nothing was calibrated for."""
    rule = Rule("gap", savings_from_costs(None, len(candidates)))
    return Policy(candidates, rule, Dialling(curve=None), Asked(Dial("threshold", threshold)))


def verdict(request: RoutingRequest, scores: Any = (0.5, 0.4), threshold: float = 0.0) -> Any:
    """Drive a policy over three candidates with fixed scores."""

    def score(_: str) -> Any:
        if isinstance(scores, Exception):
            raise scores
        return scores

    return drive(at_threshold(THREE, threshold).deciding(request), score)


def asking(text: str = "q", *, route: str | None = None, **how: Any) -> RoutingRequest:
    return RoutingRequest(query=RoutingQuery(text=text), options=CallOptions(route=route), **how)


def test_forced_is_before_capability_and_stickiness() -> None:
    found = verdict(asking(route="small", needs_tools=True, sticky_to="mini"))
    assert (found.index, found.reason) == (0, "forced")


def test_capability_is_before_stickiness() -> None:
    found = verdict(asking(needs_tools=True, input_tokens=500, sticky_to="mini"))
    assert (found.index, found.reason) == (2, "context_window")


def test_stickiness_is_before_the_score() -> None:
    found = verdict(asking(sticky_to="maxi"))
    assert (found.index, found.reason, found.scores) == (2, "sticky", None)


@pytest.mark.parametrize("query", [None, RoutingQuery(text=""), RoutingQuery(text=" \n\t")])
def test_no_query_goes_to_the_reference(query: RoutingQuery | None) -> None:
    found = verdict(RoutingRequest(query=query))
    assert (found.index, found.reason, found.error) == (2, "no_query", None)


def test_no_query_goes_where_it_was_told_to_if_that_one_can_serve() -> None:
    assert verdict(RoutingRequest(without_query_to="small")).index == 0
    found = verdict(RoutingRequest(without_query_to="nano", needs_tools=True))
    assert (found.index, found.reason) == (2, "no_query")
    assert verdict(asking(without_query_to="nano")).reason == "score"


def test_the_score_decides_otherwise() -> None:
    assert verdict(asking()).index == 0
    assert verdict(asking(), threshold=1.0).index == 2
    assert verdict(asking(), (-0.5, 0.4)).index == 1


def test_the_score_decides_among_those_that_can_serve() -> None:
    found = verdict(asking(needs_tools=True))
    assert (found.index, found.reason) == (1, "score")


def test_a_reference_that_cannot_serve_yields_to_the_best_that_can() -> None:
    small, large = Candidate("small"), Candidate("large", supports_tools=False)
    policy = at_threshold((small, Candidate("middle"), large), 5.0)
    found = drive(policy.deciding(asking(needs_tools=True)), lambda _: (0.1, 0.3))
    assert (found.index, found.reason) == (1, "capability")


@pytest.mark.parametrize(
    ("scores", "error"),
    [
        (OSError("secret query"), "OSError"),
        ((0.1, float("nan")), "ScoringError"),
        ((0.1, float("inf")), "ScoringError"),
        ((0.1,), "ScoringError"),
        (np.zeros((2, 2)), "ScoringError"),
        ("words", "ValueError"),
        (None, "ScoringError TypeError"),
    ],
)
def test_a_router_that_fails_sends_to_the_reference(scores: Any, error: str) -> None:
    found = verdict(asking(), scores)
    assert (found.index, found.reason, found.scores) == (2, "router_error", None)
    assert found.error in error.split()


def test_a_router_that_fails_never_sends_where_the_call_cannot_be_served() -> None:
    policy = at_threshold((Candidate("small"), Candidate("large", supports_tools=False)), 0.0)
    found = drive(policy.deciding(asking(needs_tools=True)), fail(OSError()))
    assert found.index == 0
