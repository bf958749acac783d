"""The second look: the closed form of two models, and what becomes of one call among several."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_router.deciding.looks import (
    Band,
    Plan,
    effective_scores,
    follow,
    looks_curve,
)
from shared_router.deciding.rule import Rule

SCORE = st.integers(-40, 40).map(lambda x: x / 40)
PAIR = Band(0.2, (1.0, 0.0), 1.1)


@given(
    score=SCORE,
    answer=SCORE,
    at=st.integers(-60, 60),
    width=st.integers(0, 40).map(lambda x: x / 40),
    after=st.sampled_from([1.0, 1.05, 1.25, 2.0]),
)
def test_of_two_models_the_answer_is_given_up_to_the_effective_score(
    score: float, answer: float, at: int, width: float, after: float
) -> None:
    threshold = at / 40 + 1 / 97  # on no score, as thresholds lie between them
    band = Band(width, (1.0, 0.0), after)
    plan = band.plan([score], threshold, (0, 1))
    given_by = plan.index
    if plan.looks:
        given_by = 0 if band.after_look(0, answer, [score], threshold, (0, 1)) is None else 1
    scores, answers = np.array([[score]]), np.array([[answer]])
    effective = effective_scores(band, scores, answers)[0, 0]
    assert (given_by == 0) == (threshold <= effective)
    followed = follow(band, scores, answers, threshold)
    assert followed.choice[0] == given_by
    assert followed.looked[0] == plan.looks
    assert followed.thrown_away[0] == (plan.looks and given_by == 1)


@given(score=SCORE, at=st.integers(-60, 60))
def test_a_width_of_nothing_is_the_line_without_looks(score: float, at: int) -> None:
    threshold = at / 40 + 1 / 97
    band = Band(0.0, (1.0, 0.0))
    assert band.plan([score], threshold, (0, 1)) == Plan(0 if score >= threshold else 1, False)


def test_all_reference_accepts_nothing_and_all_cheapest_everything() -> None:
    assert PAIR.plan([1.0], math.inf, (0, 1)) == Plan(1, looks=False)
    assert PAIR.plan([-1.0], -math.inf, (0, 1)) == Plan(0, looks=False)


def test_what_accepting_saves_counts_more_once_the_answer_is_paid_for() -> None:
    band = Band(1.0, (1.0, 0.0), 1.25)
    assert band.after_look(0, -0.12, [0.0], -0.1, (0, 1)) is None
    assert band.after_look(0, -0.13, [0.0], -0.1, (0, 1)) == Plan(1, looks=False)


def test_looks_up_the_line_of_candidates() -> None:
    band, scores = Band(0.3, (1.0, 0.6, 0.0), 1.1), [-0.1, -0.05]
    assert band.plan(scores, 0.0, (0, 1, 2)) == Plan(0, looks=True)
    assert band.after_look(0, 0.1, scores, 0.0, (0, 1, 2)) is None
    assert band.after_look(0, -0.5, scores, 0.0, (0, 1, 2)) == Plan(1, looks=True)
    assert band.after_look(1, -0.5, scores, 0.0, (0, 1, 2)) == Plan(2, looks=False)


def test_who_cannot_serve_is_not_asked() -> None:
    band = Band(0.3, (1.0, 0.6, 0.0))
    assert band.plan([0.0, 0.0], 0.0, (1, 2)) == Plan(1, looks=True)
    assert band.plan([0.0, 0.0], 0.0, (0,)) == Plan(0, looks=False)


@pytest.mark.parametrize("k", [2, 4])
def test_many_queries_are_followed_as_each_alone(k: int) -> None:
    rng = np.random.default_rng(k)
    scores, answers = rng.normal(size=(2, 300, k - 1)) * 0.3
    band = Band(0.25, tuple(np.linspace(1, 0, k)), 1.2)
    able = tuple(range(k))
    for threshold in (-0.4, -0.1, 0.0, 0.2):
        followed = follow(band, scores, answers, threshold)
        for row in range(300):
            own, asked, looked = list(scores[row]), set(), False
            plan: Plan | None = band.plan(own, threshold, able)
            choice = -1
            while plan is not None:
                choice, looked = plan.index, looked or plan.looks
                asked.add(choice)
                answer = float(answers[row, choice]) if plan.looks else math.inf
                plan = band.after_look(choice, answer, own, threshold, able) if plan.looks else None
            assert followed.choice[row] == choice
            assert followed.looked[row] == looked
            assert set(np.flatnonzero(followed.asked[row])) == asked


@pytest.mark.parametrize("k", [2, 3])
def test_the_curve_is_a_line_from_all_reference_to_all_cheapest(k: int) -> None:
    rng = np.random.default_rng(0)
    scores, answers = rng.normal(size=(2, 400, k - 1)) * 0.3
    quality = (rng.random((400, k)) < np.linspace(0.5, 0.9, k)).astype(float)
    rule = Rule("gap", np.linspace(1, 0, k))
    curve = looks_curve(rule, Band(0.2, tuple(rule.savings), 1.1), scores, answers, quality)
    assert curve.cost_advantage[0] == 0
    assert curve.cost_advantage[-1] == 1
    assert curve.quality[0] == pytest.approx(quality[:, -1].mean())
    assert curve.quality[-1] == pytest.approx(quality[:, 0].mean())
