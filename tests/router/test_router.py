"""Router: fit, calibrate, score, decide, evaluate, and every error on the way."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from shared_router import Dial, Router, RoutingDataset
from shared_router.data.labels import DegenerateLabelWarning
from shared_router.deciding.by_task import TaskCurves
from shared_router.errors import (
    CandidateError,
    ConfigurationError,
    DataError,
    DialError,
    LabelError,
    NotCalibratedError,
    ScoringError,
)
from shared_router.testing import FixedScorer, fixed_router
from tests.material import (
    EASY,
    HARD,
    PAIR,
    calibrated_router,
    dataset,
    known_truth,
    record,
    with_costs,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("in_tiny_cache")
FEW = known_truth(30)


def length_router() -> Router:
    """A router that sends short queries to the small model."""
    return fixed_router(lambda text: 10.0 - len(text))


def ladder(n: int = 20) -> RoutingDataset:
    """Queries of length 1 to n; the small model is right on the shorter half."""
    rows = (
        record(f"v{i}", "x" * i, "validation", small=float(i <= n // 2), large=1.0)
        for i in range(1, n + 1)
    )
    return dataset(*rows, name="ladder")


def test_a_fitted_router_says_what_it_is(fitted: Router, calibrated: Router) -> None:
    assert (fitted.candidates, fitted.labels, fitted.name) == (PAIR, "gap", "small-vs-large")
    assert repr(fitted) == "Router('small-vs-large', [small, large], labels='gap', not calibrated)"
    assert repr(calibrated).endswith("calibrated on 120)")
    assert len(fitted.version) == 12
    assert fitted_ids(fitted) == known_truth(150).ids


def fitted_ids(router: Router) -> tuple[str, ...]:
    return tuple(sorted(router.fitted_ids, key=lambda id_: int(id_.rsplit("-", 1)[1])))


def test_a_router_never_changes(fitted: Router, calibrated: Router) -> None:
    assert fitted.curve is None
    assert calibrated.curve is not None
    assert calibrated.version == fitted.version
    with pytest.raises(AttributeError):
        fitted.name = "another"  # type: ignore[misc]


def test_facts_are_measured(calibrated: Router) -> None:
    facts = calibrated.facts["training"]
    quality = known_truth(150).quality(PAIR).mean(axis=0)
    assert list(facts["mean_quality"].values()) == pytest.approx(quality)
    assert (facts["n"], facts["splits"], facts["labels"]) == (150, {"train": 150}, "gap")
    assert calibrated.facts["calibration"]["n"] == 120


@pytest.mark.parametrize("labels", ["gap", "det", "prob", "trans"])
def test_every_label_kind_fits_and_ranks(tiny_encoder: str, labels: str) -> None:
    rng = np.random.default_rng(0)
    rows = (
        record(
            one.id,
            one.query,
            small=np.clip(rng.normal(0.8 if one.task == "made/easy" else 0.4, 0.1, 4), 0, 1),
            large=np.clip(rng.normal(0.9, 0.1, 4), 0, 1),
        )
        for one in known_truth(80)
    )
    router = Router.fit(dataset(*rows), PAIR, labels=labels, encoder=tiny_encoder)  # type: ignore[arg-type]
    assert router.score(EASY).mean() > router.score(HARD).mean()
    assert (router.facts["training"]["t"] is not None) == (labels == "trans")
    if labels != "gap":
        assert ((router.score(EASY) >= 0) & (router.score(EASY) <= 1)).all()
        assert router.dial == Dial("threshold", 0.5)


def test_three_candidates_share_one_router(tiny_encoder: str) -> None:
    rows = (
        record(
            one.id,
            one.query,
            nano=one.outcomes["small"].mean_quality,
            mini=0.5,
            maxi=one.outcomes["large"].mean_quality,
        )
        for one in FEW
    )
    data = with_costs(dataset(*rows), nano=0.1, mini=0.4, maxi=1.0)
    router = Router.fit(data, ["nano", "mini", "maxi"], encoder=tiny_encoder)
    assert router.score(EASY).shape == (len(EASY), 2)
    np.testing.assert_allclose(router.rule.savings, [1, 2 / 3, 0])
    assert router.decide(EASY[0], threshold=-math.inf).candidate == "nano"
    assert router.decide(EASY[0], threshold=math.inf).candidate == "maxi"


@pytest.mark.parametrize("name", ["train_memory", "reference"])
def test_without_a_train_memory_there_are_no_neighbours(tiny_encoder: str, name: str) -> None:
    router = Router.fit(FEW, PAIR, encoder=tiny_encoder, **{name: False})
    assert router.train_memory is None
    assert "neighbours" not in router.facts["training"]["parts"]
    found = router.evaluate(known_truth(20, split="v", seed=3), resamples=2)
    assert "nearest_neighbours" not in found.baselines


# -- deciding -----------------------------------------------------------------------------------


def test_the_older_name_of_the_train_memory_says_the_newer(fitted: Router) -> None:
    with pytest.warns(DeprecationWarning, match=r"use Router\.train_memory") as told:
        assert fitted.reference is fitted.train_memory
    assert told[0].filename == __file__


def test_before_calibration_the_best_expected_quality_is_sought() -> None:
    router = length_router()
    assert router.dial == Dial("threshold", 0.0)
    assert router.decide("short").candidate == "small"
    assert router.decide("a much longer query").candidate == "large"


def test_a_decision_says_everything_but_the_text() -> None:
    found = length_router().decide("my secret", threshold=3.0, task="math")
    assert (found.candidate, found.index, found.reason) == ("large", 1, "score")
    assert (found.scores, found.threshold, found.dial, found.dial_value) == (
        (1,),
        3,
        "threshold",
        3,
    )
    assert (found.query_source, found.task, found.query_length) == ("explicit", "math", 9)
    assert (found.router_name, found.router_version) == ("fixed", "custom")
    assert found.latency_ms > 0
    assert "secret" not in found.model_dump_json()


def test_a_dial_of_the_call_replaces_the_default() -> None:
    router = length_router().calibrate(ladder())
    assert router.decide("x" * 15).candidate == "large"
    assert router.decide("x" * 15, cost_advantage=1.0).candidate == "small"
    assert router.decide("x" * 2, cost_advantage=0.0).candidate == "large"


def test_the_default_dial_is_fixed_by_the_number_of_queries() -> None:
    assert length_router().calibrate(ladder()).dial == Dial("max_quality_drop", 0.05)
    assert fixed_router().calibrate(known_truth(999)).dial == Dial("max_quality_drop", 0.05)
    assert fixed_router().calibrate(known_truth(1000)).dial == Dial("max_quality_drop", 0.02)
    mixed = dataset(record("a", "q", small=-1, large=1), record("b", "qq", small=0, large=1))
    assert length_router().calibrate(mixed).dial == Dial("cost_advantage", 0.5)
    chosen = Dial("cost_advantage", 0.25)
    assert length_router().calibrate(ladder(), default=chosen).dial == chosen


def test_dials_resolve_to_what_was_measured() -> None:
    router = length_router().calibrate(ladder())
    at = partial(router.threshold_of, confidence="estimate")
    assert at(max_quality_drop=0.0) == pytest.approx(-0.5)
    assert at(cost_advantage=0.25) == pytest.approx(4.5)
    assert at(max_quality_drop_absolute=0.1) == pytest.approx(-2.5)
    assert router.threshold_of() == at(max_quality_drop=0.05)
    assert router.threshold_of(max_quality_drop=0.05) == math.inf


def test_a_route_can_be_forced() -> None:
    for route, chosen in [("small", "small"), ("large", "large")]:
        found = length_router().decide("q", route=route)
        assert (found.candidate, found.reason, found.scores) == (chosen, "forced", None)


@pytest.mark.parametrize("query", ["", "  \n"])
def test_an_empty_query_goes_to_the_reference(query: str) -> None:
    found = length_router().decide(query)
    assert (found.candidate, found.reason) == ("large", "no_query")


@pytest.mark.parametrize("trouble", [OSError("secret"), math.nan, [1.0, 2.0]])
def test_a_scorer_that_fails_sends_to_the_reference(trouble: object) -> None:
    found = fixed_router(trouble).decide("q")  # type: ignore[arg-type]
    assert (found.candidate, found.reason) == ("large", "router_error")
    assert "secret" not in found.model_dump_json()


def test_half_an_emoji_is_scored_like_any_text(fitted: Router) -> None:
    assert fitted.decide("\ud800 what").reason == "score"


# -- errors -------------------------------------------------------------------------------------


def test_fitting_on_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="made: empty; a router is fitted on at least one query"):
        Router.fit(dataset(), PAIR)


@pytest.mark.parametrize(
    ("candidates", "rule"),
    [
        (["small", "giant"], "no outcomes of candidate 'giant'; there are 'large', 'small'"),
        (["small"], "chooses between at least two candidates"),
        (["small", "small"], "Each candidate is named once"),
    ],
)
def test_fitting_wrong_candidates_is_refused(candidates: list[str], rule: str) -> None:
    with pytest.raises(CandidateError, match=rule):
        Router.fit(FEW, candidates)


def test_a_router_of_one_candidate_is_refused() -> None:
    with pytest.raises(CandidateError, match="at least two candidates"):
        fixed_router(candidates=["only"])


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"name": 5}, "A router needs a non-empty name; got 5"),
        ({"name": "a\x1bb"}, "A router's name holds no control characters"),
        ({"candidates": ("a\r", "b")}, "A candidate's name holds no control characters"),
        ({"candidates": (1, 2)}, "A candidate needs a non-empty name; got 1"),
        ({"labels": "soft"}, "labels is one of gap, det, prob, trans; got 'soft'"),
        ({"tiers": "yes"}, "tiers is True or False; got 'yes'"),
        ({"costs_usd": ("a", "b")}, "costs_usd of 'small' is finite"),
        ({"costs_usd": (math.nan, None)}, "costs_usd of 'small' is finite"),
        ({"costs_usd": (1.0,)}, "a cost per candidate, 2; got 1"),
        ({"facts": []}, r"facts is a dict; got \[\]"),
        ({"default_dial": Dial("max_quality_drop", 0.1)}, "needs a calibrated router"),
        ({"curve": calibrated_router([1, 1], "abc").curve}, "a column per candidate, 2; got 3"),
        ({"task_curves": TaskCurves(curves={}, too_few={})}, "needs the one over all queries"),
    ],
)
def test_a_router_made_by_hand_keeps_the_rules(fields: dict[str, Any], rule: str) -> None:
    made = {"candidates": PAIR, "scorer": FixedScorer()}
    with pytest.raises(ConfigurationError, match=rule):
        Router(**made | fields)


def test_a_task_whose_qualities_leave_the_range_of_all_is_refused() -> None:
    whole = calibrated_router()
    mixed = dataset(record("a", small=-1, large=1), record("b", small=1, large=1))
    own = fixed_router().calibrate(mixed, default=Dial("threshold", 0)).curve
    assert own is not None
    tasks = TaskCurves(curves={"a/b": own}, too_few={})
    with pytest.raises(ConfigurationError, match="task 'a/b' lies within that of all tasks, 1 to"):
        dataclasses.replace(whole, task_curves=tasks)


def test_a_preview_of_an_uncalibrated_router_estimates_nothing() -> None:
    found = fixed_router().decide("q")
    assert (found.guarantee, found.guarantee_reason) == ("none", "not calibrated")
    assert calibrated_router().decide("q").guarantee == "estimated"


def test_a_candidate_dearer_than_the_reference_is_refused_by_name() -> None:
    dear = with_costs(FEW, small=2.0, large=1.0)
    with pytest.raises(
        CandidateError, match=r"'small' costs 2 USD a call, .* 'large' only 1: list the d"
    ):
        Router.fit(dear, PAIR)


def test_labels_of_one_value_are_refused() -> None:
    same = dataset(record("a", small=1, large=1), record("b", small=1, large=1))
    with pytest.raises(LabelError, match="nothing to learn"):
        Router.fit(same, PAIR)


def test_an_unknown_encoder_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="neither a folder nor reachable"):
        Router.fit(FEW, PAIR, encoder="nobody/no-such-encoder")


def test_prob_of_single_samples_warns(tiny_encoder: str) -> None:
    with pytest.warns(DegenerateLabelWarning, match="same as `det`"):
        Router.fit(FEW, PAIR, labels="prob", encoder=tiny_encoder)


@pytest.mark.parametrize(
    ("options", "error", "rule"),
    [
        ({"cost_advantage": 1.5}, DialError, "between 0 and 1"),
        ({"threshold": 0, "cost_advantage": 0.5}, DialError, "One dial at a time"),
        ({"quality": 0.5}, ConfigurationError, "Unknown routing option 'quality'"),
        ({"max_quality_drop": 0.01}, NotCalibratedError, "needs a calibrated router"),
        ({"cost_advantage": 0.5}, NotCalibratedError, "needs a calibrated router"),
        ({"route": "medium"}, CandidateError, "names no candidate"),
    ],
)
def test_wrong_options_of_a_decision_are_refused(
    options: dict[str, object], error: type[Exception], rule: str
) -> None:
    with pytest.raises(error, match=rule):
        length_router().decide("q", **options)


def test_a_dial_misspelt_is_not_passed_over() -> None:
    router = length_router().calibrate(ladder())
    with pytest.raises(DialError, match="got 'max_drop'"):
        router.evaluate(ladder(), max_drop=0.1)
    with pytest.raises(DialError, match="got 'max_drop'"):
        router.threshold_of(max_drop=0.1)


def test_a_relative_dial_over_mixed_signs_is_refused_at_calibration() -> None:
    mixed = dataset(record("a", "q", small=-1, large=1), record("b", "qq", small=0, large=1))
    with pytest.raises(DialError, match="Use max_quality_drop_absolute"):
        length_router().calibrate(mixed, default=Dial("max_quality_drop", 0.1))


def test_calibrating_on_fitted_queries_is_refused(fitted: Router) -> None:
    mixed = RoutingDataset((*known_truth(1), *known_truth(5, split="v", seed=4)), "mixed")
    with pytest.raises(DataError, match=r"mixed: 1 of 6 queries were fitted on \(id 'train-0-0'\)"):
        fitted.calibrate(mixed)


def test_evaluating_on_fitted_queries_is_refused(fitted: Router) -> None:
    with pytest.raises(DataError, match=r"10 of 10 queries were fitted on .*: evaluate on others"):
        fitted.evaluate(known_truth(10))


@pytest.mark.parametrize("n", [0, 1])
def test_calibrating_on_too_little_is_refused(n: int) -> None:
    with pytest.raises(DataError, match=f"{n} queries; a calibration needs at least 2"):
        length_router().calibrate(ladder().take(range(n)))


def test_evaluating_on_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="empty; there is nothing to evaluate on"):
        length_router().evaluate(dataset())


def test_evaluating_at_a_quality_dial_needs_a_calibration() -> None:
    with pytest.raises(NotCalibratedError, match="needs a calibrated router"):
        length_router().evaluate(ladder(), max_quality_drop=0.1)


def test_calibrating_without_a_candidates_outcomes_is_refused() -> None:
    with pytest.raises(CandidateError, match="no outcomes of candidate 'small'"):
        length_router().calibrate(dataset(record("a", other=1, large=1)))


@pytest.mark.parametrize("act", ["calibrate", "evaluate"])
def test_scores_that_are_no_numbers_are_refused(act: str) -> None:
    router = fixed_router(lambda text: math.nan if len(text) == 3 else 1.0)
    with pytest.raises(ScoringError, match=r"ladder: .*no finite score to 1 of 20"):
        getattr(router, act)(ladder())


def test_scoring_one_string_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="takes a list of texts"):
        length_router().score("text")


def test_saving_a_scorer_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"Only a fitted router can be saved; .*FixedScorer"
    ):
        length_router().save_pretrained(tmp_path / "router")
    assert not (tmp_path / "router").exists()


@pytest.mark.data
def test_real_queries_route_better_than_at_random(data_folder: Path, tiny_encoder: str) -> None:
    """Even the tiny random encoder learns something; `make bench` reports the real figures."""
    data = RoutingDataset.load(data_folder / "routellm_mmlu.jsonl.gz")
    train, fresh = (data.split(name).take(range(600)) for name in ("train", "validation"))
    router = Router.fit(train, ["mixtral-8x7b", "gpt-4-1106"], encoder=tiny_encoder)
    found = router.calibrate(fresh).evaluate(fresh, resamples=50, max_quality_drop=0.05)
    assert found.router["apgr"] > 0.5
    assert found.dial is not None
    assert found.dial["quality_drop"] == pytest.approx(0.05, abs=0.05)
