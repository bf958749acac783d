"""Rules that decide before any score is looked at."""

from __future__ import annotations

import pytest

from shared_router import Candidate
from shared_router.deciding.guards import (
    RoutingRequest,
    allowed_candidates,
    position_of,
    unmeasured,
)
from shared_router.deciding.stickiness import sticky_position
from shared_router.errors import CandidateError

NANO = Candidate("nano", supports_tools=False, context_window=100)
MINI = Candidate("mini", supports_structured_output=False, context_window=1000)
MAXI = Candidate("maxi", aliases=("openai:maxi",), context_window=1000)
ALL = (NANO, MINI, MAXI)


@pytest.mark.parametrize(
    ("name", "position"),
    [("nano", 0), ("mini", 1), ("maxi", 2), ("openai:maxi", 2), ("small", 0), ("large", 2)],
)
def test_a_candidate_is_found_by_name_alias_or_size(name: str, position: int) -> None:
    assert position_of(name, ALL) == position


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (RoutingRequest(), None),
        (RoutingRequest(needs_structured_output=True, input_tokens=5000), None),
        (RoutingRequest(needs_tools=True), "kind of call"),
        (RoutingRequest(has_pictures=True), "kind of call"),
        (RoutingRequest(is_step=True), "kind of call"),
        (RoutingRequest(later_turn=True), "conversation"),
        (RoutingRequest(later_turn=True, needs_tools=True), "conversation"),
    ],
)
def test_calibrations_hold_answers_to_single_questions(
    request_: RoutingRequest, why: str | None
) -> None:
    assert unmeasured(request_) == why


def test_a_candidate_named_small_is_itself() -> None:
    assert position_of("small", [Candidate("a"), Candidate("small")]) == 1


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(CandidateError, match="route='giga' names no candidate; there are 'nano'"):
        position_of("giga", ALL)


@pytest.mark.parametrize(
    ("request_", "indices", "reason"),
    [
        (RoutingRequest(), (0, 1, 2), None),
        (RoutingRequest(needs_tools=True), (1, 2), "capability"),
        (RoutingRequest(needs_structured_output=True), (0, 2), "capability"),
        (RoutingRequest(needs_tools=True, needs_structured_output=True), (2,), "capability"),
        (RoutingRequest(input_tokens=100), (0, 1, 2), None),
        (RoutingRequest(input_tokens=101), (1, 2), "context_window"),
        (RoutingRequest(input_tokens=101, needs_tools=True), (1, 2), "capability"),
    ],
)
def test_candidates_that_cannot_serve_are_left_out(
    request_: RoutingRequest, indices: tuple[int, ...], reason: str | None
) -> None:
    allowed = allowed_candidates(request_, ALL)
    assert (allowed.indices, allowed.reason) == (indices, reason)


def test_where_nothing_fits_the_widest_nearest_the_reference_stands() -> None:
    allowed = allowed_candidates(RoutingRequest(input_tokens=5000), ALL)
    assert (allowed.indices, allowed.reason) == ((2,), "context_window")


def test_where_none_is_able_the_reference_stands() -> None:
    unable = [Candidate("a", supports_tools=False), Candidate("b", supports_tools=False)]
    allowed = allowed_candidates(RoutingRequest(needs_tools=True), unable)
    assert (allowed.indices, allowed.reason) == ((1,), "capability")


def test_unknown_capabilities_and_windows_leave_nobody_out() -> None:
    request = RoutingRequest(needs_tools=True, needs_structured_output=True, input_tokens=10**9)
    assert allowed_candidates(request, [Candidate("a"), Candidate("b")]).indices == (0, 1)


def test_a_tool_answer_stays_with_the_model_that_asked() -> None:
    everyone = allowed_candidates(RoutingRequest(), ALL)
    assert sticky_position("mini", everyone, ALL) == 1
    assert sticky_position("openai:maxi", everyone, ALL) == 2


def test_stickiness_yields_to_capability_and_to_unknown_names() -> None:
    with_tools = allowed_candidates(RoutingRequest(needs_tools=True), ALL)
    assert sticky_position("nano", with_tools, ALL) is None
    assert sticky_position("another", with_tools, ALL) is None
    assert sticky_position(None, with_tools, ALL) is None
