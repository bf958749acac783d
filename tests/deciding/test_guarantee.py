"""What a decision says of its quality: the table of states, cell by cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import pytest

from shared_router.deciding.guarantee import (
    ESTIMATED,
    NO_PROMISE,
    NO_QUALITY_DIAL,
    NOT_PROMISED,
    OTHER_ARITHMETIC,
    OTHER_CANDIDATES,
    OTHER_SETTINGS,
    PROMISED,
    SEVERAL_MODELS,
    UNCALIBRATED,
    UNKNOWN_TASK,
    UNRESOLVED,
    Claim,
    claim_of,
    void,
)
from shared_router.records import GUARANTEES, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

LIMITS = [
    PROMISED,
    ESTIMATED,
    NOT_PROMISED,
    SEVERAL_MODELS,
    NO_PROMISE,
    UNRESOLVED,
    void(OTHER_CANDIDATES),
    void(OTHER_ARITHMETIC),
    void(UNKNOWN_TASK),
]
"""What a dial that limits quality can claim."""
NO_LIMITS = [UNCALIBRATED, NO_QUALITY_DIAL]
BY_OTHERS: list[Reason] = [
    "forced", "capability", "context_window", "cap", "no_query", "fallback", "drift",
    "router_error",
]  # fmt: skip
"""Rules that choose otherwise than the calibration did."""
AS_MEASURED: list[Reason] = ["score", "no_promise", "second_look"]


def test_every_reason_stands_in_the_table() -> None:
    assert {*BY_OTHERS, *AS_MEASURED, "sticky"} == set(get_args(Reason))


@pytest.mark.parametrize("claimed", LIMITS, ids=str)
@pytest.mark.parametrize("reason", AS_MEASURED)
def test_what_chooses_as_was_measured_keeps_the_dials_claim(reason: Reason, claimed: Claim) -> None:
    assert claim_of(reason, claimed, to_reference=False) == claimed


@pytest.mark.parametrize("claimed", LIMITS, ids=str)
@pytest.mark.parametrize("reason", [*BY_OTHERS, *AS_MEASURED, "sticky"])
def test_to_the_reference_nothing_changes(reason: Reason, claimed: Claim) -> None:
    """It adds no loss."""
    assert claim_of(reason, claimed, to_reference=True) == claimed


@pytest.mark.parametrize("claimed", LIMITS, ids=str)
@pytest.mark.parametrize("reason", [*BY_OTHERS, "sticky"])
def test_another_rule_to_a_cheaper_model_is_void_and_named(reason: Reason, claimed: Claim) -> None:
    assert claim_of(reason, claimed, to_reference=False) == Claim("void", reason)


@pytest.mark.parametrize("claimed", LIMITS, ids=str)
@pytest.mark.parametrize("kept_from", [PROMISED, ESTIMATED, void("forced"), NO_PROMISE], ids=str)
@pytest.mark.parametrize("to_reference", [True, False])
def test_what_sticks_claims_what_it_is_kept_from(
    claimed: Claim, kept_from: Claim, to_reference: bool
) -> None:
    found = claim_of("sticky", claimed, to_reference=to_reference, kept_from=kept_from)
    assert found == kept_from


@pytest.mark.parametrize("reason", [*BY_OTHERS, *AS_MEASURED])
def test_nothing_else_is_kept(reason: Reason) -> None:
    with_it = claim_of(reason, ESTIMATED, to_reference=False, kept_from=PROMISED)
    assert with_it == claim_of(reason, ESTIMATED, to_reference=False)


@pytest.mark.parametrize("reason", AS_MEASURED)
def test_an_answer_under_other_settings_is_void(reason: Reason) -> None:
    found = claim_of(reason, PROMISED, to_reference=False, other_settings=True)
    assert found == Claim("void", OTHER_SETTINGS)
    assert claim_of(reason, PROMISED, to_reference=True, other_settings=True) == PROMISED


@pytest.mark.parametrize("claimed", NO_LIMITS, ids=str)
@pytest.mark.parametrize("reason", get_args(Reason))
@pytest.mark.parametrize("to_reference", [True, False])
def test_without_a_limit_nothing_is_claimed_or_void(
    claimed: Claim, reason: Reason, to_reference: bool
) -> None:
    found = claim_of(reason, claimed, to_reference=to_reference, kept_from=PROMISED)
    assert found == claimed


@pytest.mark.parametrize("claim", [*LIMITS, *NO_LIMITS], ids=str)
def test_every_claim_but_a_promise_says_why(claim: Claim) -> None:
    assert claim.guarantee in GUARANTEES
    assert (claim.reason is None) == (claim.guarantee == "promised")


@pytest.mark.parametrize(
    ("carried", "expected"),
    [
        ({"guarantee": "promised"}, PROMISED),
        ({"guarantee": "void", "guarantee_reason": "forced"}, void("forced")),
        ({"guarantee": "void", "guarantee_reason": 5}, Claim("void")),
        ({"guarantee": "sworn"}, None),
        ({"guarantee": None}, None),
        ({}, None),
    ],
)
def test_a_claim_is_read_from_what_a_message_carries(
    carried: Mapping[str, object], expected: Claim | None
) -> None:
    assert Claim.read(carried) == expected
