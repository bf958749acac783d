"""A router tried on other models: what the report reads, refuses, and recommends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared_router.errors import CandidateError, DataError, DialError, NotCalibratedError
from shared_router.testing import fixed_router
from tests.material import PAIR, dataset, known_truth

if TYPE_CHECKING:
    from shared_router import Router, RoutingDataset

pytestmark = pytest.mark.usefixtures("in_tiny_cache")


def other_pair(
    n: int, *, seed: int = 0, noise: bool = False, shared: bool = True, split: str = "new"
) -> RoutingDataset:
    """Outcomes of another pair, as good and bad on the same queries, or with `noise` on others."""
    own = known_truth(n, split=split, seed=seed)
    new = known_truth(n, split=split, seed=seed + 50, noise=noise)
    rows = []
    for one, two in zip(own, new, strict=True):
        base = one if not noise else two
        source = _redrawn(one) if not noise else two
        renamed = {"mini": source.outcomes["small"], "maxi": source.outcomes["large"]}
        outcomes = {**renamed, **(one.outcomes if shared else {})}
        rows.append(base.model_copy(update={"outcomes": outcomes, "query": one.query}))
    return dataset(*rows, name="other")


def _redrawn(one):  # type: ignore[no-untyped-def]
    """The same outcome for every query of a kind: the small model fails the hard ones alone."""
    hard = one.task == "made/hard"
    small = one.outcomes["small"].model_copy(update={"quality": (0.0 if hard else 1.0,)})
    large = one.outcomes["large"].model_copy(update={"quality": (1.0,)})
    return one.model_copy(update={"outcomes": {"small": small, "large": large}})


def test_a_router_of_a_pair_alike_is_worth_reusing_or_recalibrating(calibrated: Router) -> None:
    found = calibrated.transfer_report(other_pair(250, seed=7), ["mini", "maxi"], resamples=50)
    assert found.candidates == ("mini", "maxi")
    assert found.router_candidates == PAIR
    assert (found.n, found.shared) == (250, 250)
    assert found.gap_correlation["pearson"] > 0.4
    assert found.score_correlation["pearson"] > 0.4
    assert found.recommendation in ("reuse", "recalibrate")
    assert found.dial["threshold"] == calibrated.threshold_of(confidence="estimate")


def test_a_router_of_a_pair_unlike_is_not(calibrated: Router) -> None:
    found = calibrated.transfer_report(
        other_pair(250, seed=7, noise=True), ["mini", "maxi"], resamples=50
    )
    assert found.recommendation == "retrain"
    assert abs(found.score_correlation["pearson"]) < 0.2


def test_without_shared_queries_scores_are_correlated(calibrated: Router) -> None:
    alone = other_pair(120, seed=7, shared=False)
    found = calibrated.transfer_report(alone, resamples=20)
    assert (found.shared, found.gap_correlation) == (0, None)
    assert found.score_correlation is not None


def test_queries_fitted_on_count_for_the_gaps_alone(calibrated: Router) -> None:
    seen = other_pair(100, split="train", seed=0)
    both = dataset(*seen, *other_pair(60, seed=7))
    found = calibrated.transfer_report(both, ["mini", "maxi"], resamples=20)
    assert (found.n, found.shared) == (60, 160)


def test_the_dial_of_the_question_is_the_one_asked(calibrated: Router) -> None:
    data = other_pair(60, seed=7)
    found = calibrated.transfer_report(data, ["mini", "maxi"], resamples=5, cost_advantage=0.4)
    assert (found.dial["name"], found.dial["value"]) == ("cost_advantage", 0.4)
    bare = calibrated.transfer_report(data, ["mini", "maxi"], resamples=5, threshold=0.0)
    assert bare.recalibrated is None


def test_the_recommended_calibration_is_made_of_the_same_outcomes(calibrated: Router) -> None:
    data = other_pair(120, seed=7)
    router = calibrated.for_candidates(["mini", "maxi"]).calibrate(data)
    easy, hard = data.task("made/easy").queries, data.task("made/hard").queries
    shares = [
        sum(router.decide(query, max_quality_drop=0.1).index == 0 for query in rows) / len(rows)
        for rows in (easy, hard)
    ]
    assert shares[0] > shares[1] + 0.2


def test_a_scorer_of_ones_own_has_no_embeddings_to_refit() -> None:
    router = fixed_router(lambda text: -float(len(text)))
    found = router.transfer_report(other_pair(60, seed=7), ["mini", "maxi"], resamples=5)
    assert set(found.gain) == {"router", "intervals"}


def test_what_cannot_be_reported_is_refused(calibrated: Router, fitted: Router) -> None:
    data = other_pair(60, seed=7)
    with pytest.raises(CandidateError, match=r"chooses between 2 candidates; got 4 .*candidates="):
        calibrated.transfer_report(data)
    with pytest.raises(CandidateError, match="no outcomes of candidate 'huge'"):
        calibrated.transfer_report(data, ["huge", "maxi"])
    with pytest.raises(DataError, match=r"29 queries with outcomes of mini, maxi .*at least 30"):
        calibrated.transfer_report(data.take(range(29)), ["mini", "maxi"])
    with pytest.raises(DataError, match=r"0 queries .* not fitted on"):
        calibrated.transfer_report(other_pair(100, split="train"), ["mini", "maxi"])
    with pytest.raises(NotCalibratedError):
        fitted.transfer_report(data, ["mini", "maxi"], max_quality_drop=0.01)
    with pytest.raises(DialError, match="got 'max_drop'"):
        calibrated.transfer_report(data, ["mini", "maxi"], max_drop=0.01)
