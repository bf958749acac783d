"""A router that looks at answers: fitted, calibrated, look after look, and turned into others."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from shared_router import Router
from shared_router.data.draws import drawn
from shared_router.errors import ConfigurationError, DataError
from shared_router.options import Asked, Dial
from shared_router.router.looking import look_at
from shared_router.serving.answers import Answered
from shared_router.serving.second_look import SecondLook
from shared_router.testing import FixedAnswerScorer, FixedScorer
from tests.answering import SETTINGS, answered, changed, three_answered
from tests.material import PAIR, known_truth

if TYPE_CHECKING:
    from pathlib import Path

    from shared_router import RoutingDataset
    from shared_router.data.schema import Outcome

pytestmark = pytest.mark.usefixtures("in_tiny_cache")
LIMIT = Dial("max_quality_drop", 0.05)


def looks_of(router: Router) -> SecondLook:
    assert router.second_look is not None
    return router.second_look


def promised(router: Router, *, looks: bool, limit: Dial = LIMIT) -> float:
    """Return the share of calls that a line keeps from the reference within a limit."""
    line = looks_of(router).line if looks else None
    promises = line.promises if line else None if looks else router.promises
    assert promises is not None
    return promises.whole.share_within(limit, 0.9)


# -- fitted -------------------------------------------------------------------------------------


def test_what_answers_tell_is_learned_and_pays(
    fitted_looking: Router, measured_answers: RoutingDataset
) -> None:
    looks = looks_of(fitted_looking)
    assert looks.pays
    assert looks.width > 0
    assert looks.scorer.needs_logprobs
    assert looks.after == pytest.approx(0.1 / 0.09)
    assert looks.settings == SETTINGS.model_copy(update={"model": None})
    found = look_at(fitted_looking, looks, measured_answers).answers[:, 0]
    right = measured_answers.quality(["small"])[:, 0] > 0
    assert found[right].mean() > found[~right].mean() + 0.3


def test_the_card_has_the_facts(fitted_looking: Router) -> None:
    facts = fitted_looking.facts["training"]["second_look"]
    assert facts["logprobs"] is True
    assert facts["n"] == 300
    assert 0 < facts["share"] <= facts["look_share"]


@pytest.mark.parametrize(
    ("data", "how", "why"),
    [
        (known_truth(120), {}, "no `response`"),
        (answered(120), {"look_share": 0}, "look_share=0"),
        (answered(120), {"labels": "det"}, "labels='det'"),
        (answered(60), {}, "60 queries"),
    ],
)
def test_why_there_are_no_looks_is_kept(
    tiny_encoder: str, data: RoutingDataset, how: dict[str, Any], why: str
) -> None:
    router = Router.fit(data, PAIR, encoder=tiny_encoder, **how)
    assert router.second_look is None
    assert why in router.facts["training"]["second_look"]["why_not"]


@pytest.mark.parametrize("share", [-0.1, 1.1, "0.3", True, math.nan])
def test_a_share_of_looks_is_a_share(share: Any) -> None:
    with pytest.raises(ConfigurationError, match="look_share is a share"):
        Router.fit(answered(20), PAIR, look_share=share)


def without_logprobs(data: RoutingDataset, every: int) -> RoutingDataset:
    """Take the log-probabilities off each so manieth answer."""

    def take(at: int, outcome: Outcome) -> dict[str, Any]:
        return {"logprobs": ((),)} if at % every == 0 else {}

    return changed(data, take)


def test_log_probabilities_in_few_answers_are_left_out(tiny_encoder: str) -> None:
    looks = looks_of(Router.fit(without_logprobs(answered(200), 2), PAIR, encoder=tiny_encoder))
    assert not looks.scorer.needs_logprobs
    assert looks.pairs is not None
    assert len(looks.pairs.scores) == 200
    assert np.isfinite(looks.scorer.score([Answered("a query", "It is 7.")])).all()


def test_a_few_answers_without_log_probabilities_are_left_out(tiny_encoder: str) -> None:
    looks = looks_of(Router.fit(without_logprobs(answered(200), 20), PAIR, encoder=tiny_encoder))
    assert looks.scorer.needs_logprobs
    assert looks.pairs is not None
    assert len(looks.pairs.scores) == 190


def test_score_and_quality_are_of_the_same_sample(tiny_encoder: str) -> None:
    data = answered(200, samples=3)
    pairs = looks_of(Router.fit(data, PAIR, encoder=tiny_encoder)).pairs
    assert pairs is not None
    assert set(np.unique(pairs.outcomes[:, 0])) <= {0.0, 1.0}
    np.testing.assert_array_equal(pairs.outcomes, drawn(data, ["small"]).quality(PAIR))
    right = pairs.outcomes[:, 0] > 0
    assert pairs.answers[right, 0].mean() > pairs.answers[~right, 0].mean() + 0.3


# -- calibrated ---------------------------------------------------------------------------------


def test_both_lines_are_tested_at_half_of_the_error(
    fitted_looking: Router, measured_answers: RoutingDataset, calibrated_looking: Router
) -> None:
    alone = fitted_looking.calibrate(measured_answers, second_look=True)
    without = fitted_looking.calibrate(measured_answers, second_look=False)
    assert calibrated_looking.facts["calibration"]["second_look"]["both_lines_tested"] is True
    assert alone.facts["calibration"]["second_look"]["both_lines_tested"] is False
    assert alone.promises is None
    assert looks_of(without).line is None
    assert without.facts["calibration"]["second_look"]["why_not"] == "told that it does not serve"
    for both, whole in (
        (looks_of(calibrated_looking).line, looks_of(alone).line),
        (calibrated_looking, without),
    ):
        assert both is not None
        assert whole is not None
        assert both.promises is not None
        assert whole.promises is not None
        wider, own = both.promises.whole.looks[0], whole.promises.whole.looks[0]
        assert (wider.upper >= own.upper).all()
        assert (wider.upper > own.upper).any()


def test_the_line_with_looks_keeps_more_calls(calibrated_looking: Router) -> None:
    assert (
        promised(calibrated_looking, looks=True) > promised(calibrated_looking, looks=False) + 0.1
    )


def test_a_call_says_that_it_looks_first(calibrated_looking: Router) -> None:
    rules = calibrated_looking.look_rules()
    assert rules is not None
    threshold = rules.dialling.resolve(Asked(LIMIT, True, 0.9)).threshold
    looks, texts = looks_of(calibrated_looking), answered(80, split="w", seed=5).queries
    scores = calibrated_looking.score(texts)[:, 0]
    within = np.abs(scores - threshold) < looks.width * 0.99
    assert within.any()
    for text in np.array(texts)[within].tolist():
        decision = calibrated_looking.decide(text, max_quality_drop=LIMIT.value)
        assert (decision.reason, decision.candidate) == ("second_look", "small")
        assert decision.guarantee == "promised"


def test_a_calibration_without_answers_has_no_line_with_looks_and_says_so(
    fitted_looking: Router,
) -> None:
    plain = changed(
        answered(200, split="v", seed=2), lambda _at, _own: {"response": None, "logprobs": None}
    )
    router = fitted_looking.calibrate(plain)
    assert looks_of(router).line is None
    assert "no `response`" in router.facts["calibration"]["second_look"]["why_not"]
    assert router.promises is not None
    assert router.decide("a query", max_quality_drop=0.9).reason != "second_look"
    with pytest.raises(DataError, match="some outcomes have no `response`"):
        fitted_looking.calibrate(plain, second_look=True)


def test_one_answer_that_is_missing_is_enough(fitted_looking: Router) -> None:
    data = changed(
        answered(60, split="v", seed=2),
        lambda at, _own: {"response": None, "logprobs": None} if at == 7 else {},
    )
    assert looks_of(fitted_looking.calibrate(data)).line is None


def test_without_a_scorer_of_answers_looks_are_refused(measured_answers: RoutingDataset) -> None:
    router = Router(candidates=PAIR, scorer=FixedScorer(0.0))
    with pytest.raises(ConfigurationError, match="needs a router with a scorer of answers"):
        router.calibrate(measured_answers, second_look=True)


def test_looks_that_do_not_pay_are_calibrated_only_where_asked(
    fitted_looking: Router, measured_answers: RoutingDataset
) -> None:
    idle = replace(fitted_looking, second_look=replace(looks_of(fitted_looking), pays=False))
    router = idle.calibrate(measured_answers)
    assert looks_of(router).line is None
    assert "did not pay" in router.facts["calibration"]["second_look"]["why_not"]
    without = fitted_looking.calibrate(measured_answers, second_look=False)
    assert promised(router, looks=False) == promised(without, looks=False)  # the whole error
    assert looks_of(idle.calibrate(measured_answers, second_look=True)).line is not None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda at, _own: {"response": ("  ",)} if at % 4 == 0 else {},
        lambda at, _own: {"logprobs": ((),)} if at % 4 == 0 else {},
    ],
)
def test_answers_that_no_call_would_score_are_passed_on(
    fitted_looking: Router, measured_answers: RoutingDataset, spoil: Any
) -> None:
    data, looks = changed(measured_answers, spoil), looks_of(fitted_looking)
    found = look_at(fitted_looking, looks, data).answers[:, 0]
    np.testing.assert_array_equal(np.isinf(found), np.arange(len(data)) % 4 == 0)
    line = looks_of(fitted_looking.calibrate(data)).line
    assert line is not None
    assert line.curve.scores is not None
    before = fitted_looking.score(data.queries)[::4, 0].astype(np.float64)
    np.testing.assert_allclose(line.curve.scores[::4, 0], before - looks.width)


def test_all_answers_may_be_empty(fitted_looking: Router, measured_answers: RoutingDataset) -> None:
    router = fitted_looking.calibrate(
        changed(measured_answers, lambda _at, _own: {"response": ("",)})
    )
    line = looks_of(router).line
    assert line is not None
    assert line.curve.quality[0] == pytest.approx(measured_answers.quality(["large"]).mean())


def test_settings_are_those_of_the_calibration_where_all_answers_were_made_alike(
    fitted_looking: Router, measured_answers: RoutingDataset
) -> None:
    greedy = SETTINGS.model_copy(update={"temperature": 0.0})
    alike = changed(measured_answers, lambda _at, _own: {"settings": greedy})
    mixed = changed(measured_answers, lambda at, _own: {"settings": greedy} if at % 2 else {})
    own = looks_of(fitted_looking.calibrate(alike)).settings
    assert own is not None
    assert (own.temperature, own.model) == (0.0, None)
    assert looks_of(fitted_looking.calibrate(mixed)).settings is None


def test_of_several_samples_one_counts(fitted_looking: Router) -> None:
    data = answered(200, split="v", seed=3, samples=4)
    line = looks_of(fitted_looking.calibrate(data)).line
    assert line is not None
    assert line.curve.outcomes is not None
    np.testing.assert_array_equal(line.curve.outcomes, drawn(data, ["small"]).quality(PAIR))


# -- look after look ----------------------------------------------------------------------------


def fixed(**how: Any) -> Router:
    """Make a router whose scores are functions of the texts."""
    looks = SecondLook(
        scorer=FixedAnswerScorer(lambda text: 0.5 if "is 7." in text else -0.5),
        width=2.0,
        pays=True,
        **how,
    )
    return Router(
        candidates=PAIR, scorer=FixedScorer(lambda text: len(text) / 100), second_look=looks
    )


@pytest.mark.parametrize("serves", [None, True])
def test_more_labels_are_a_further_look_of_the_line_with_looks(serves: bool | None) -> None:
    data = answered(400, split="v", seed=1)
    first = fixed().calibrate(data.take(range(200)), second_look=serves)
    second = first.calibrate(data, second_look=serves)
    lines = [looks_of(each).line for each in (first, second)]
    one, two = (line.promises for line in lines if line)
    assert one is not None
    assert two is not None
    assert (one.look, two.look) == (1, 2)
    assert [look.n for look in two.whole.looks] == [one.whole.n, two.whole.n]
    np.testing.assert_array_equal(one.whole.thresholds, two.whole.thresholds)


@pytest.mark.parametrize(("then", "now"), [(True, False), (False, True), (True, None)])
def test_the_other_line_on_the_same_labels_is_a_further_look(
    then: bool | None, now: bool | None
) -> None:
    data = answered(300, split="v", seed=1)
    router = fixed().calibrate(data, second_look=then).calibrate(data, second_look=now)
    line = looks_of(router).line
    every = [router.promises, line.promises if line else None]
    assert {each.look for each in every if each} == {2}


def test_other_answers_to_the_same_queries_end_the_former_promise() -> None:
    data = answered(300, split="v", seed=1)
    other = changed(data, lambda _at, _own: {"response": ("It is 8.",)})
    first = fixed().calibrate(data)
    lines = [looks_of(first.calibrate(each)).line for each in (data, other)]
    same, ended = (line.promises for line in lines if line)
    assert same is not None
    assert ended is not None
    assert (same.look, len(same.whole.looks)) == (2, 2)
    assert (ended.look, len(ended.whole.looks)) == (2, 1)
    plain = first.calibrate(other).promises
    assert plain is not None
    assert len(plain.whole.looks) == 2  # its scores are those of the queries alone


# -- several models, and others of one ----------------------------------------------------------


@pytest.mark.parametrize("empty", [False, True])
def test_looks_up_the_line_of_three_models_go_by_the_estimate(
    three_looking: Router, tmp_path: Path, empty: bool
) -> None:
    looks = looks_of(three_looking)
    assert looks.pairs is not None
    assert looks.pairs.answers.shape[1] == 2
    data = three_answered(200, split="v", seed=1)
    if empty:
        data = changed(
            data, lambda at, _own: {"response": ("",)} if at % 3 == 0 else {}, name="nano"
        )
    router = three_looking.calibrate(data, second_look=True)
    line = looks_of(router).line
    assert line is not None
    assert line.promises is None
    assert not np.isnan(line.curve.thresholds).any()
    assert line.curve.cost_advantage[-1] == 1
    facts = router.facts["calibration"]["second_look"]
    assert "more than two models" in facts["no_promise"]
    decision = router.decide("greet the visitor", cost_advantage=0.5, second_look=True)
    assert decision.guarantee != "promised"
    router.save_pretrained(tmp_path / "router")
    read = looks_of(Router.from_pretrained(tmp_path / "router")).line
    assert read is not None
    np.testing.assert_array_equal(read.curve.thresholds, line.curve.thresholds)


def test_other_costs_follow_the_line_of_two_models(calibrated_looking: Router) -> None:
    dearer = calibrated_looking.with_costs({"small": 0.05, "large": 0.1})
    assert promised(dearer, looks=True) == promised(calibrated_looking, looks=True)
    assert looks_of(dearer).width == looks_of(calibrated_looking).width


def test_other_costs_of_three_models_end_the_line_with_looks(three_looking: Router) -> None:
    router = three_looking.calibrate(three_answered(120, split="v", seed=1), second_look=True)
    other = router.with_costs({"nano": 0.01, "mini": 0.02, "maxi": 0.1})
    assert looks_of(router).line is not None
    assert looks_of(other).line is None
    assert other.curve is not None


def test_other_candidates_have_no_looks(calibrated_looking: Router) -> None:
    other = calibrated_looking.for_candidates(["mini", "maxi"])
    assert other.second_look is None
    with pytest.raises(ConfigurationError, match="needs a router with a scorer of answers"):
        other.decide("a query", second_look=True)


def test_one_candidate_more_ends_looks(calibrated_looking: Router, tmp_path: Path) -> None:
    data = three_answered(120, split="w", seed=4)
    renamed = [
        record.model_copy(update={"outcomes": record.outcomes | {"large": record.outcomes["maxi"]}})
        for record in data
    ]
    more = type(data)(tuple(renamed), data.name)
    grown = calibrated_looking.add_candidate("mini", more)
    assert grown.second_look is None
    grown.save_pretrained(tmp_path / "router")
    assert Router.from_pretrained(tmp_path / "router").second_look is None
    assert not (tmp_path / "router" / "answer.onnx").exists()
