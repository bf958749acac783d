"""The report: what `evaluate --json` prints."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from shared_router import Dial, Router
from shared_router.deciding.curve import calibration_curve
from shared_router.deciding.rule import Rule, savings_from_costs
from shared_router.measuring.evaluation import OutcomeTable, figures_at_dial, figures_at_threshold
from shared_router.testing import fixed_router
from tests.material import dataset, known_truth, record, with_costs

RULE = Rule("gap", savings_from_costs(None, 2))
FIGURES = {"apgr", "cpt50", "cpt80", "cost_advantage_at_drop", "quality_drop_at_cost_advantage"}
OTHERS = known_truth(80, split="validation", seed=5)


def by_hardness(text: str) -> float:
    """Score as a router that knows the truth would."""
    return float(not any(sign.isdigit() for sign in text.split("no.")[0]))


@pytest.fixture(scope="module")
def report(calibrated: Router) -> dict[str, Any]:
    return calibrated.evaluate(OTHERS, resamples=50, max_quality_drop=0.05).to_dict()


def test_the_report_has_exactly_the_published_keys(report: dict[str, Any]) -> None:
    first = {"verdict", "ladder", "single_models", "static_mix", "picture"}
    rest = {"n", "split", "candidates", "quality", "router", "baselines", "dial"}
    assert set(report) == first | rest
    assert set(report["baselines"]) == {"random", "query_length", "nearest_neighbours", "oracle"}
    assert set(report["router"]) == FIGURES | {"intervals"}
    for found in report["baselines"].values():
        assert set(found) == FIGURES | {"intervals", "router_lead_apgr"}
    assert set(report["router"]["cost_advantage_at_drop"]) == {"0", "0.01", "0.05"}
    assert set(report["router"]["quality_drop_at_cost_advantage"]) == {"0.1", "0.2", "0.4"}
    assert set(report["router"]["intervals"]) == FIGURES


def test_the_report_is_plain_json(report: dict[str, Any]) -> None:
    again = json.loads(json.dumps(report, allow_nan=False))
    assert again["candidates"] == ["small", "large"]
    assert (again["n"], again["split"]) == (80, "validation")
    assert again["quality"] == dict(
        zip(("small", "large"), OTHERS.quality(["small", "large"]).mean(axis=0), strict=True)
    )


def test_without_a_dial_there_are_no_figures_of_one(calibrated: Router) -> None:
    assert "dial" not in calibrated.evaluate(OTHERS, resamples=2).to_dict()


def test_known_baselines(report: dict[str, Any]) -> None:
    assert report["baselines"]["random"]["apgr"] == 0.5
    assert report["baselines"]["oracle"]["apgr"] >= report["router"]["apgr"]


def test_undefined_figures_are_null_with_a_reason() -> None:
    data = dataset(
        *(record(f"{i}", f"q{i}", "validation", small=i % 3 - 1, large=0) for i in range(9))
    )
    found = fixed_router(len).evaluate(data, resamples=5).to_dict()["router"]
    assert (found["apgr"], found["cpt50"], found["intervals"]["apgr"]) == (None, None, None)
    assert set(found["cost_advantage_at_drop"].values()) == {None}
    assert "not better" in found["reasons"]["apgr"]
    assert set(found["reasons"]) == FIGURES


def test_figures_at_a_threshold_by_hand() -> None:
    quality = np.array([[1.0, 1.0], [0.0, 1.0], [0.5, 0.5]])
    outcomes = OutcomeTable(["a", "b", "c"], quality, np.array([0.1, 1.0]))
    found = figures_at_threshold(RULE, np.array([[0.3], [0.2], [-0.1]]), outcomes, 0.0)
    assert found == pytest.approx(
        {
            "quality": 0.5,
            "cost_advantage": 2 / 3,
            "quality_drop": 0.4,
            "quality_drop_absolute": 1 / 3,
            "cost_saved": 0.6,
        }
    )


def test_what_has_no_meaning_at_a_threshold_is_null() -> None:
    outcomes = OutcomeTable(["a", "b"], np.array([[-1.0, 1.0], [0.0, 1.0]]))
    found = figures_at_threshold(RULE, np.array([[0.3], [0.2]]), outcomes, 0.25)
    assert (found["quality_drop"], found["cost_saved"]) == (None, None)
    assert found["quality_drop_absolute"] == 1.0


def noisy(n: int, seed: int) -> tuple[np.ndarray, OutcomeTable]:
    rng = np.random.default_rng(seed)
    quality = np.stack([rng.random(n) < 0.6, rng.random(n) < 0.9], axis=1).astype(float)
    return rng.normal(size=(n, 1)), OutcomeTable([""] * n, quality)


def test_a_dial_calibrated_on_other_queries_is_measured_at_its_threshold() -> None:
    scores, outcomes = noisy(100, 0)
    others, other_outcomes = noisy(100, 1)
    curve = calibration_curve(RULE, others, other_outcomes.quality)
    dial = Dial("cost_advantage", 0.3)
    found = figures_at_dial(dial, curve, RULE, scores, outcomes)
    expected = figures_at_threshold(RULE, scores, outcomes, curve.resolve(dial))
    assert {name: found[name] for name in expected} == expected
    assert found["method"] == "calibrated on other queries"
    assert found["threshold"] == curve.resolve(dial)


def test_a_dial_on_the_calibration_queries_is_measured_on_halves() -> None:
    scores, outcomes = noisy(60, 0)
    peeking = calibration_curve(RULE, scores, outcomes.quality)
    dial = Dial("max_quality_drop", 0.02)
    found = figures_at_dial(dial, None, RULE, scores, outcomes)
    seen = figures_at_threshold(RULE, scores, outcomes, peeking.resolve(dial))
    assert "one half" in found["method"]
    assert "threshold" not in found
    assert found["quality_drop"] > seen["quality_drop"]


def test_a_router_evaluates_its_calibration_queries_by_halves_and_others_directly() -> None:
    known = known_truth(60, split="validation", seed=8)
    router = fixed_router(by_hardness).calibrate(known)
    on_known = router.evaluate(known, resamples=2, cost_advantage=0.5).dial or {}
    on_others = router.evaluate(OTHERS, resamples=2, cost_advantage=0.5).dial or {}
    assert "one half" in on_known["method"]
    assert on_others["method"] == "calibrated on other queries"
    assert on_known["cost_advantage"] == pytest.approx(0.5, abs=0.2)


def test_a_threshold_needs_no_calibration() -> None:
    found = fixed_router(by_hardness).evaluate(OTHERS, resamples=2, threshold=0.5).dial or {}
    easy = np.mean([by_hardness(query) for query in OTHERS.queries])
    assert found["method"] == "the threshold itself"
    assert found["cost_advantage"] == easy


def test_dollars_saved_where_costs_are_known(in_tiny_cache: object, tiny_encoder: str) -> None:
    data = with_costs(known_truth(40), small=0.01, large=0.1)
    router = Router.fit(data, ["small", "large"], encoder=tiny_encoder)
    found = router.evaluate(OTHERS, resamples=2, threshold=-1e9).dial or {}
    assert found["cost_advantage"] == 1.0
    assert found["cost_saved"] == pytest.approx(0.9)


def test_a_router_that_knows_beats_length_clearly() -> None:
    found = fixed_router(by_hardness).evaluate(known_truth(300, seed=9), resamples=100).to_dict()
    low, high = found["baselines"]["random"]["router_lead_apgr"]
    assert 0.15 < low < high < 0.6
