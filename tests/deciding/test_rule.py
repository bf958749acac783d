"""The rule against its definition, and savings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shared_router.deciding.rule import Rule, RuleName, savings_from_costs
from shared_router.errors import CandidateError

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(2, 5)
NAMES: tuple[RuleName, ...] = ("gap", "probability")


def random_rule(name: RuleName, k: int, rng: np.random.Generator) -> tuple[Rule, np.ndarray]:
    costs = np.append(rng.permutation(np.linspace(0.1, 0.8, k - 1)), 1.0)
    scores = rng.uniform(0, 1, (30, k - 1)) - (0.6 if name == "gap" else 0)
    return Rule(name, savings_from_costs(costs.tolist(), k)), scores


def by_definition(rule: Rule, row: np.ndarray, threshold: float) -> int:
    """Choose as the rule's definition says, one query at a time."""
    reference = len(rule.savings) - 1
    if rule.name == "gap":
        return int(np.argmax(np.append(row, 0.0) - threshold * rule.savings))
    good = [j for j in range(reference) if row[j] >= threshold]
    return max(good, key=lambda j: rule.savings[j], default=reference)


def close_call(rule: Rule, scores: np.ndarray, threshold: float) -> bool:
    """Tell whether any choice hangs on the last bits."""
    if rule.name == "probability":
        return bool(np.abs(scores - threshold).min() < 1e-9)
    worth = np.hstack([scores, np.zeros((len(scores), 1))]) - threshold * rule.savings
    best = np.sort(worth, axis=1)
    return bool((best[:, -1] - best[:, -2]).min() < 1e-9)


@pytest.mark.parametrize("name", NAMES)
@given(seed=seeds, k=sizes, threshold=st.floats(-2, 2))
def test_choose_follows_the_definition(name: RuleName, seed: int, k: int, threshold: float) -> None:
    rule, scores = random_rule(name, k, np.random.default_rng(seed))
    assume(not close_call(rule, scores, threshold))
    expected = [by_definition(rule, row, threshold) for row in scores]
    assert rule.choose(scores, threshold).tolist() == expected


@pytest.mark.parametrize("name", NAMES)
@given(seed=seeds, k=sizes)
def test_the_ends_are_all_reference_and_all_cheapest(name: RuleName, seed: int, k: int) -> None:
    rule, scores = random_rule(name, k, np.random.default_rng(seed))
    assert set(rule.choose(scores, np.inf)) == {k - 1}
    assert set(rule.choose(scores, -np.inf)) == {int(np.argmax(rule.savings))}


@pytest.mark.parametrize("name", NAMES)
@given(seed=seeds, k=sizes)
def test_a_lower_threshold_never_brings_a_query_back(name: RuleName, seed: int, k: int) -> None:
    rule, scores = random_rule(name, k, np.random.default_rng(seed))
    saved = [rule.savings[rule.choose(scores, t)] for t in np.linspace(3, -3, 41)]
    assert (np.diff(np.array(saved), axis=0) >= 0).all()


@pytest.mark.parametrize("name", NAMES)
@given(seed=seeds, k=sizes, threshold=st.floats(-2, 2))
def test_events_replayed_are_choices(name: RuleName, seed: int, k: int, threshold: float) -> None:
    rule, scores = random_rule(name, k, np.random.default_rng(seed))
    choice = np.full(len(scores), k - 1)
    for at, query, source, target in sorted(zip(*rule.events(scores), strict=True), reverse=True):
        if at >= threshold:
            assert choice[query] == source
            choice[query] = target
    assert choice.tolist() == rule.choose(scores, threshold).tolist()


@given(score=st.floats(-1, 1), threshold=st.floats(-1, 1))
def test_with_two_models_both_rules_compare_the_score(score: float, threshold: float) -> None:
    for name in NAMES:
        rule = Rule(name, savings_from_costs(None, 2))
        assert int(rule.choose(np.array([[score]]), threshold)[0]) == (score < threshold)


def test_of_equally_cheap_candidates_the_better_is_chosen() -> None:
    for name in NAMES:
        rule = Rule(name, savings_from_costs([0.1, 0.1, 1.0], 3))
        assert rule.choose(np.array([[0.2, 0.6]]), 0.1).tolist() == [1]


def test_savings_lie_between_reference_and_cheapest() -> None:
    np.testing.assert_allclose(savings_from_costs([0.4, 0.1, 1.0], 3), [2 / 3, 1, 0])


@pytest.mark.parametrize("costs", [None, [None, 0.5, 1.0], [0.5, 0.1, None]])
def test_without_all_costs_savings_are_evenly_spaced(costs: list[float | None] | None) -> None:
    np.testing.assert_allclose(savings_from_costs(costs, 3), [1, 0.5, 0])


@pytest.mark.parametrize(
    ("costs", "rule"),
    [
        (
            [0.1, 3.0, 1.0],
            "Candidate 1 costs 3 USD a call, the reference 2 only 1: list the dearest",
        ),
        ([0.1, -1.0, 1.0], "finite and at least 0"),
        ([0.1, float("nan"), 1.0], "finite and at least 0"),
        ([0.1, float("inf"), 1.0], "finite and at least 0"),
    ],
)
def test_impossible_costs_are_refused(costs: list[float], rule: str) -> None:
    with pytest.raises(CandidateError, match=rule):
        savings_from_costs(costs, 3)


def test_models_that_all_cost_the_same_are_spaced_evenly():
    np.testing.assert_array_equal(savings_from_costs([0.0, 0.0, 0.0], 3), [1.0, 0.5, 0.0])
