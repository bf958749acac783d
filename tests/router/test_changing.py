"""What turns one router into another: other costs, other models, one model more."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from shared_router import Candidate, Dial, FineTuning, Router, RoutingEngine
from shared_router.errors import CandidateError, ConfigurationError, DataError, LabelError
from shared_router.router.card import model_card
from shared_router.testing import fixed_router
from tests.material import EASY, HARD, by_task, dataset, record, three_models, with_costs

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("in_tiny_cache")
THREE = ("nano", "mini", "maxi")
TRAIN = three_models(160)
VALIDATION = three_models(120, split="validation", seed=1)
QUERIES = [*EASY, *HARD]


@pytest.fixture(scope="module")
def fitted(fitted_three: Router) -> Router:
    return fitted_three


@pytest.fixture(scope="module")
def pair(tiny_encoder: str, tiny_cache: Path) -> Router:
    """A router of nano and maxi, to which mini is added."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYBRID_LLM_CACHE", str(tiny_cache))
        return Router.fit(TRAIN, ["nano", "maxi"], encoder=tiny_encoder)


@pytest.fixture(scope="module")
def grown(pair: Router) -> Router:
    return pair.add_candidate("mini", three_models(80, split="new", seed=2))


# -- costs --------------------------------------------------------------------------------------


def test_measured_costs_weigh_the_candidates(fitted: Router) -> None:
    np.testing.assert_allclose(fitted.rule.savings, [1, 2 / 3, 0])
    assert fitted.facts["training"]["costs"] == "measured"


def test_given_costs_and_prices_weigh_them_where_given(tiny_encoder: str) -> None:
    costs = {"nano": 1.0, "mini": 1.9, "maxi": 2.0}
    router = Router.fit(TRAIN, THREE, encoder=tiny_encoder, costs_usd=costs)
    np.testing.assert_allclose(router.rule.savings, [1, 0.1, 0])
    priced = [
        Candidate("nano", None, 0, 0),
        Candidate("mini", None, 3, 3),
        Candidate("maxi", None, 4, 4),
    ]
    by_price = Router.fit(three_models(60, costs=False), priced, encoder=tiny_encoder)
    assert by_price.candidates == THREE
    assert by_price.facts["training"]["costs"] == "prices"
    assert by_price.rule.savings[1] == pytest.approx(0.25, abs=0.02)
    assert "Costs: reckoned from prices" in model_card(by_price)


def test_other_costs_walk_the_calibration_anew(fitted: Router, tmp_path: Path) -> None:
    calibrated = fitted.calibrate(VALIDATION, least_per_task=40)
    costs = {"nano": 0.001, "mini": 0.0011, "maxi": 0.01}
    direct = fitted.calibrate(VALIDATION, least_per_task=40, costs_usd=costs)
    walked = calibrated.with_costs(costs)
    assert walked.costs_usd == direct.costs_usd == (0.001, 0.0011, 0.01)
    np.testing.assert_array_equal(walked.curve.thresholds, direct.curve.thresholds)
    np.testing.assert_array_equal(walked.curve.quality, direct.curve.quality)
    for label, own in direct.task_curves.curves.items():
        np.testing.assert_array_equal(walked.task_curves.curves[label].quality, own.quality)
    assert not np.array_equal(calibrated.curve.quality, walked.curve.quality)
    calibrated.save_pretrained(tmp_path / "r")
    kept = Router.from_pretrained(tmp_path / "r").with_costs(costs)
    np.testing.assert_array_equal(kept.curve.thresholds, direct.curve.thresholds)


def test_a_calibration_can_bring_the_costs_of_its_data(tiny_encoder: str) -> None:
    router = Router.fit(three_models(60, costs=False), THREE, encoder=tiny_encoder)
    np.testing.assert_allclose(router.rule.savings, [1, 0.5, 0])
    assert router.calibrate(VALIDATION).costs_usd == pytest.approx((0.001, 0.004, 0.01))


def test_a_candidate_dearer_than_the_reference_is_refused_everywhere(
    fitted: Router, tiny_encoder: str
) -> None:
    dear = {"nano": 0.1, "mini": 3.0, "maxi": 2.0}
    rule = "'mini' costs 3 USD a call, .* list the dearest model last, or leave the dearer"
    for act in (
        lambda: Router.fit(TRAIN, THREE, encoder=tiny_encoder, costs_usd=dear),
        lambda: fitted.calibrate(VALIDATION, costs_usd=dear),
        lambda: fitted.calibrate(VALIDATION).with_costs(dear),
    ):
        with pytest.raises(CandidateError, match=rule):
            act()
    prices = [
        Candidate("nano", None, 1, 1),
        Candidate("mini", None, 9, 9),
        Candidate("maxi", None, 2, 2),
    ]
    with pytest.raises(CandidateError, match=r"'mini' costs .* list the dearest model last"):
        Router.fit(three_models(60, costs=False), prices, encoder=tiny_encoder)


@pytest.mark.parametrize("act", ["fit", "calibrate", "with_costs"])
@pytest.mark.parametrize(
    ("costs", "rule"),
    [
        ({"nano": 1.0, "maxi": 2.0}, "got none for 'mini'"),
        ({"nano": -1.0, "mini": 1.0, "maxi": 2.0}, "at least 0; got -1.0"),
    ],
)
def test_costs_missing_or_negative_are_refused(
    fitted: Router, act: str, costs: dict[str, float], rule: str
) -> None:
    acts: dict[str, Any] = {
        "fit": lambda: Router.fit(TRAIN, THREE, costs_usd=costs),
        "calibrate": lambda: fitted.calibrate(VALIDATION, costs_usd=costs),
        "with_costs": lambda: fitted.with_costs(costs),
    }
    with pytest.raises(CandidateError, match=rule):
        acts[act]()


def test_costs_of_some_models_alone_are_refused(tiny_encoder: str) -> None:
    some = with_costs(TRAIN, nano=0.1, maxi=1.0)
    with pytest.raises(CandidateError, match="none for 'mini'"):
        Router.fit(some, THREE, encoder=tiny_encoder)


def bound(*prices: Any, names: tuple[str, ...] = THREE) -> list[Candidate]:
    return [
        Candidate(name, None, *(price or ())) for name, price in zip(names, prices, strict=True)
    ]


def test_prices_of_bound_models_weigh_them_where_no_costs_are_known() -> None:
    router = fixed_router([0.0, 0.0], candidates=THREE)
    engine = RoutingEngine(router, bound((0, 0), (3, 3), (4, 4)))
    np.testing.assert_allclose(engine.router.rule.savings, [1, 0.25, 0])
    same = RoutingEngine(router, bound(None, None, None)).router.rule.savings
    np.testing.assert_allclose(same, [1, 0.5, 0])


def test_known_costs_come_before_prices(fitted: Router) -> None:
    engine = RoutingEngine(fitted, bound((9, 9), (9, 9), (1, 1)))
    np.testing.assert_allclose(engine.router.rule.savings, [1, 2 / 3, 0])


def test_wrong_prices_of_bound_models_are_refused() -> None:
    router = fixed_router([0.0, 0.0], candidates=THREE)
    with pytest.raises(CandidateError, match="give both prices of 'mini' too, or of none"):
        RoutingEngine(router, bound((1, 1), None, (2, 2)))
    with pytest.raises(CandidateError, match=r"'nano' costs .* list the dearest model last"):
        RoutingEngine(router, bound((9, 9), (1, 1), (2, 2)))
    swapped = bound((9, 9), (1, 1), names=("small", "large"))
    with pytest.raises(CandidateError, match="'small' costs"):
        RoutingEngine(fixed_router(0.0), swapped)


# -- one more -----------------------------------------------------------------------------------


def test_a_candidate_is_added_and_the_others_stay(pair: Router, grown: Router) -> None:
    assert grown.candidates == THREE
    assert grown.costs_usd == pytest.approx((0.001, 0.004, 0.01))
    np.testing.assert_array_equal(grown.score(QUERIES)[:, 0], pair.score(QUERIES)[:, 0])
    assert grown.score(EASY)[:, 1].mean() > grown.score(HARD)[:, 1].mean()
    assert grown.curve is None
    assert pair.candidates == ("nano", "maxi")
    assert (pair.name, grown.name) == ("nano-vs-maxi", "nano-vs-mini-vs-maxi")
    (added,) = grown.facts["training"]["added"]
    assert (added["candidate"], added["n"]) == ("mini", 80)
    assert "- `mini`: 80 queries of three-new" in model_card(grown)


def test_the_grown_router_is_calibrated_kept_and_measured(grown: Router, tmp_path: Path) -> None:
    router = grown.calibrate(VALIDATION)
    router.save_pretrained(tmp_path / "r")
    again = Router.from_pretrained(tmp_path / "r")
    np.testing.assert_array_equal(again.score(QUERIES), router.score(QUERIES))
    report = again.evaluate(VALIDATION, resamples=2, cost_advantage=0.5)
    assert report.candidates == THREE
    assert "nearest_neighbours" not in report.baselines  # no gaps of mini are known there
    with pytest.raises(DataError, match="were fitted on"):
        again.calibrate(three_models(80, split="new", seed=2))


def test_a_column_is_what_a_router_of_its_own_would_score(tiny_encoder: str) -> None:
    data = three_models(80, split="new", seed=2)
    pair = Router.fit(TRAIN, ["nano", "maxi"], encoder=tiny_encoder, int8=False)
    own = Router.fit(data, ["mini", "maxi"], encoder=tiny_encoder, train_memory=False, int8=False)
    column = pair.add_candidate("mini", data).score(QUERIES)[:, 1]
    np.testing.assert_allclose(column, own.score(QUERIES)[:, 0], atol=1e-5)


TUNING = FineTuning(epochs=2, learning_rate=3e-3, batch_size=16, precision="float32")
SERVED: dict[str, dict[str, Any]] = {
    "float32": {"int8": False},
    "int8": {},
    "tuned, int8": {"finetune": TUNING},
    "tuned, float32": {"finetune": TUNING, "int8": False},
    "tuned alone": {"finetune": dataclasses.replace(TUNING, blend=False)},
}


@pytest.mark.parametrize("served", SERVED)
def test_a_candidate_is_added_however_a_router_is_made(
    tiny_encoder: str, served: str, tmp_path: Path
) -> None:
    made = Router.fit(TRAIN, ["nano", "maxi"], encoder=tiny_encoder, **SERVED[served])
    if "int8" in served:
        assert made.facts["training"]["int8"]["kept"]
    router = made.add_candidate("mini", three_models(120, split="new", seed=2))
    labels = [None, "made/easy", "made/hard", "unknown"] * 2
    for tasks in (None, labels):
        before, after = made.score(QUERIES, tasks), router.score(QUERIES, tasks)
        np.testing.assert_array_equal(after[:, 0], before[:, 0])
        assert after[: len(EASY), 1].mean() > after[len(EASY) :, 1].mean() + 0.1
    router.calibrate(VALIDATION).save_pretrained(tmp_path / "r")
    again = Router.from_pretrained(tmp_path / "r")
    np.testing.assert_array_equal(again.score(QUERIES, labels), router.score(QUERIES, labels))
    assert "- `mini`: 120 queries of three-new" in model_card(again)


def test_a_candidate_stands_where_it_is_put(pair: Router) -> None:
    data = three_models(60, split="new", seed=2)
    first = pair.add_candidate("mini", data, before="nano")
    last = pair.add_candidate("mini", data)
    assert first.candidates == ("mini", "nano", "maxi")
    np.testing.assert_array_equal(first.score(QUERIES), last.score(QUERIES)[:, ::-1])


def test_two_are_added_one_after_the_other(grown: Router) -> None:
    renamed = dataset(
        *(
            one.model_copy(update={"outcomes": {"tiny": one.outcomes["nano"], **one.outcomes}})
            for one in three_models(60, split="newer", seed=3)
        )
    )
    four = grown.add_candidate("tiny", renamed, before="nano", cost_usd=0.0001)
    assert four.candidates == ("tiny", *THREE)
    assert four.name == "tiny-and-2-others-vs-maxi"
    np.testing.assert_array_equal(four.score(QUERIES)[:, 1:], grown.score(QUERIES))
    assert four.costs_usd[0] == 0.0001
    assert [one["candidate"] for one in four.facts["training"]["added"]] == ["mini", "tiny"]
    assert four.calibrate(_with_tiny(VALIDATION)).decide(EASY[0]).reason == "score"


def _with_tiny(data: Any) -> Any:
    return dataset(
        *(
            one.model_copy(update={"outcomes": {"tiny": one.outcomes["nano"], **one.outcomes}})
            for one in data
        )
    )


@pytest.mark.parametrize("labels", ["gap", "det"])
def test_labels_of_tasks_reach_an_added_column(tiny_encoder: str, labels: Any) -> None:
    data = by_task(200)
    router = Router.fit(data, ("small", "large"), labels, encoder=tiny_encoder)
    both = dataset(
        *(
            one.model_copy(update={"outcomes": {"other": one.outcomes["small"], **one.outcomes}})
            for one in by_task(200, split="new", seed=2)
        )
    )
    grown = router.add_candidate("other", both)
    good, bad = (grown.score(QUERIES, [f"made/{kind}"] * len(QUERIES)) for kind in ("good", "bad"))
    assert (good[:, 1] > bad[:, 1] + 0.1).all()
    np.testing.assert_array_equal(
        good[:, 0], router.score(QUERIES, ["made/good"] * len(QUERIES))[:, 0]
    )


@pytest.mark.parametrize(
    ("name", "options", "error", "rule"),
    [
        ("nano", {}, CandidateError, "has a candidate 'nano' already"),
        ("", {}, CandidateError, "non-empty name"),
        ("huge", {}, CandidateError, "no outcomes of candidate 'huge'"),
        ("mini", {"before": "huge"}, CandidateError, "before='huge' names no candidate"),
        ("mini", {"cost_usd": -1.0}, CandidateError, "at least 0; got -1.0"),
        (
            "mini",
            {"cost_usd": 5.0},
            CandidateError,
            "'mini' costs 5 USD a call, .* dearest model l",
        ),
    ],
)
def test_a_wrong_candidate_is_not_added(
    pair: Router, name: str, options: dict[str, Any], error: type[Exception], rule: str
) -> None:
    with pytest.raises(error, match=rule):
        pair.add_candidate(name, three_models(40, split="new", seed=2), **options)


def test_one_cost_alone_has_no_meaning(tiny_encoder: str) -> None:
    data = three_models(40, costs=False)
    pair = Router.fit(data, ["nano", "maxi"], encoder=tiny_encoder, int8=False)
    with pytest.raises(CandidateError, match="one of 'mini' alone has no meaning"):
        pair.add_candidate("mini", data, cost_usd=0.1)


def test_what_cannot_be_learned_from_is_not_added(pair: Router) -> None:
    with pytest.raises(DataError, match="empty; a candidate is added from its outcomes"):
        pair.add_candidate("mini", dataset())
    with pytest.raises(CandidateError, match=r"no costs of .mini.*give cost_usd="):
        pair.add_candidate("mini", three_models(40, split="new", seed=2, costs=False))
    same = dataset(*(record(f"n{i}", f"q {i}", mini=1, maxi=1) for i in range(30)))
    with pytest.raises(LabelError, match="nothing to learn"):
        pair.add_candidate("mini", with_costs(same, mini=0.002, maxi=0.01))
    with pytest.raises(ConfigurationError, match=r"added to a fitted router; .*FixedScorer"):
        fixed_router(0.0).add_candidate("mini", TRAIN)


# -- other models -------------------------------------------------------------------------------


def test_the_same_scores_serve_other_models(fitted: Router) -> None:
    renamed = dataset(
        *(
            one.model_copy(
                update={"outcomes": dict(zip(("a", "b", "c"), one.outcomes.values(), strict=True))}
            )
            for one in VALIDATION
        )
    )
    taken = fitted.calibrate(VALIDATION).for_candidates(["a", "b", "c"])
    assert (taken.curve, taken.costs_usd, taken.calibrated_ids) == (None, None, frozenset())
    np.testing.assert_array_equal(taken.score(QUERIES), fitted.score(QUERIES))
    again = taken.calibrate(renamed, default=Dial("cost_advantage", 0.5))
    assert again.decide(EASY[0]).candidate in ("a", "b", "c")
    assert "nearest_neighbours" not in again.evaluate(renamed, resamples=2).baselines
    assert "fitted for other models: nano, mini, maxi" in model_card(again)


def test_as_many_other_models_are_needed(fitted: Router) -> None:
    with pytest.raises(CandidateError, match="scores for 3 candidates"):
        fitted.for_candidates(["a", "b"])
    with pytest.raises(CandidateError, match="named once"):
        fitted.for_candidates(["a", "a", "b"])
