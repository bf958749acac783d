"""What a router's report begins with: the verdict on fresh queries, and what stands beside it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from shared_router.measuring.cost_quality import CostQuality
from shared_router.testing import fixed_router
from tests.material import dataset, known_truth, record, with_costs

if TYPE_CHECKING:
    from shared_router import Router, RoutingDataset
    from shared_router.measuring.verdict import Verdict

FRESH = known_truth(150, split="test", seed=21)
NAMES = ("small", "medium", "large")


def by_number(text: str) -> float:
    """Score by the number that a text ends with."""
    return float(text.split()[-1]) / 1000


def numbered(n: int, at: int = 0, low: float = 0.0, high: float = 1.0, step: int = 7) -> Any:
    """Make queries of which the small model loses every seventh with a low number."""
    rows = []
    for i in range(at, at + n):
        number = (i * 619) % 1000
        small = low if number < 500 and i % step == 0 else high
        rows.append(record(f"q{i}", f"query {i} with {number}", "s", small=small, large=high))
    return dataset(*rows)


def verdict(router: Router, data: RoutingDataset, **asked: Any) -> Verdict:
    found = router.evaluate(data, resamples=2, **asked).verdict
    assert found is not None
    return found


def test_a_perfect_router_holds_and_one_without_a_limit_promises_nothing():
    router = fixed_router(by_number).calibrate(numbered(400))
    fresh = numbered(400, at=400)
    held = verdict(router, fresh, max_quality_drop=0.05)
    assert (held.state, held.guarantee, held.n) == ("held", "promised", 400)
    assert held.cost_advantage >= 0.5
    assert verdict(router, fresh, cost_advantage=0.5).state is None
    assert verdict(router, fresh, threshold=0.9).dial == "threshold"


def test_a_worse_world_breaks_the_limit():
    router = fixed_router(by_number).calibrate(numbered(400))
    worse = numbered(400, at=400, step=1)
    broken = verdict(router, worse, max_quality_drop=0.05)
    assert broken.state == "broken"
    assert broken.drop_interval[0] > 0.05
    assert "Broken at confidence 0.9" in broken.sentence


def test_it_rests_on_what_was_not_calibrated_on():
    router = fixed_router(by_number).calibrate(numbered(300))
    both = numbered(500)
    found = router.evaluate(both, resamples=2, max_quality_drop=0.05)
    alone = router.evaluate(numbered(200, at=300), resamples=2, max_quality_drop=0.05)
    assert (found.n, found.verdict.n) == (500, 200)
    assert found.verdict == alone.verdict
    assert found.ladder == alone.ladder
    assert verdict(router, numbered(300), max_quality_drop=0.05).n == 0


def test_the_ladder_is_what_evaluate_measures_at_each_limit(calibrated: Router):
    priced = with_costs(FRESH, small=0.001, large=0.01)
    report = calibrated.evaluate(priced, resamples=2, max_quality_drop=0.03)
    assert [rung["limit"] for rung in report.ladder] == [0.01, 0.02, 0.03, 0.05, 0.1, 0.2]
    for rung in report.ladder:
        for way, sure in (("promised", 0.9), ("estimated", "estimate")):
            asked = {"max_quality_drop": rung["limit"], "confidence": sure}
            found = calibrated.evaluate(priced, resamples=2, **asked).dial
            assert rung[f"{way}_share"] == pytest.approx(found["cost_advantage"])
            assert rung[f"{way}_drop"] == pytest.approx(found["quality_drop"])
            paid = 10 * (1 - found["cost_saved"])
            assert rung[f"{way}_usd_per_1000"] == pytest.approx(paid)


def test_a_router_without_a_calibration_has_no_ladder():
    report = fixed_router(by_number).evaluate(numbered(50), resamples=2)
    assert report.ladder == ()
    assert "ladder" not in report.to_dict()
    assert report.verdict.sentence.startswith("Nothing is promised: threshold=0 was asked")
    assert report.picture.points[0].kind == "asked"


def test_quality_that_spans_zero_is_judged_by_absolute_limits():
    router = fixed_router(by_number).calibrate(
        numbered(400, low=-1.0), quality_bounds=(-1.0, 1.0), by_task="off"
    )
    fresh = numbered(400, at=400, low=-1.0)
    report = router.evaluate(fresh, resamples=2, max_quality_drop_absolute=0.2)
    assert report.verdict.method == "paired"
    assert report.verdict.state == "held"
    assert {rung["dial"] for rung in report.ladder} == {"max_quality_drop_absolute"}
    assert [rung["limit"] for rung in report.ladder] == pytest.approx([0.02, 0.04, 0.1, 0.2, 0.4])
    assert not report.picture.relative
    json.dumps(report.verdict.to_dict() | report.picture.to_dict(), allow_nan=False)


def test_bounds_that_the_calibration_was_told_serve_the_verdict(tmp_path):
    known, fresh = numbered(400, low=1.0, high=10.0), numbered(400, at=400, low=1.0, high=10.0)
    told = fixed_router(by_number).calibrate(known, quality_bounds=(0.0, 10.0))
    assert verdict(told, fresh, max_quality_drop=0.1).drop_interval is not None
    untold = fixed_router(by_number).calibrate(known)
    unknown = verdict(untold, fresh, max_quality_drop=0.1, confidence="estimate")
    assert (unknown.state, unknown.drop_interval) == ("not shown", None)
    assert "quality without known bounds" in unknown.sentence


@pytest.mark.parametrize(("worst", "method"), [(0.1, "paired"), (0.9, "bets")])
def test_graded_quality_is_tested_as_other_queries_say(worst, method):
    """Losses that are near all or nothing are rounded; small ones are bet on."""
    data = numbered(400, low=worst, high=0.95)
    router = fixed_router(by_number).calibrate(data)
    fresh = numbered(400, at=400, low=worst, high=0.95)
    assert verdict(router, fresh, max_quality_drop=0.1, confidence="estimate").method == method


def test_of_three_models_the_choice_is_judged_against_the_reference():
    rng = np.random.default_rng(0)

    def three(n: int, at: int) -> RoutingDataset:
        right = rng.random((n, 3)) < (0.5, 0.85, 0.95)
        rows = (
            record(
                f"t{at + i}",
                f"query {at + i} with {i}",
                "s",
                **dict(zip(NAMES, map(float, own), strict=True)),
            )
            for i, own in enumerate(right)
        )
        return with_costs(dataset(*rows), small=0.001, medium=0.004, large=0.01)

    router = fixed_router(
        lambda text: [by_number(text) - 0.2, by_number(text)], candidates=NAMES
    ).calibrate(three(300, 0))
    report = router.evaluate(three(300, 300), resamples=2, max_quality_drop=0.2)
    assert report.verdict.guarantee == "estimated"
    assert report.verdict.drop_interval is not None
    mix, found = report.static_mix, report.cost_quality["candidates"]
    hull = CostQuality.of(
        np.array([found[name]["cost"] for name in NAMES]),
        np.array([found[name]["quality"] for name in NAMES]),
    )
    assert mix["quality"] == pytest.approx(hull.at(mix["cost"]))
    assert report.single_models["best"]["name"] == "large"
    assert sum(point.kind == "candidate" for point in report.picture.points) == 3


def test_a_coin_that_is_one_model_is_not_drawn_twice():
    router = fixed_router(by_number).calibrate(numbered(400))
    report = router.evaluate(numbered(100, at=400), resamples=2, max_quality_drop=0.0)
    assert report.verdict.always_reference
    assert report.static_mix["shares"] == {"large": 1.0}
    assert "mix" not in {point.kind for point in report.picture.points}


def test_a_report_made_by_hand_draws_nothing():
    from dataclasses import replace

    from shared_router.errors import ConfigurationError

    report = fixed_router(by_number).evaluate(numbered(50), resamples=2)
    with pytest.raises(ConfigurationError, match=r"Router\.evaluate makes one"):
        replace(report, picture=None).plot()
