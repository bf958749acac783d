"""What a calibration promises: over all queries, within tasks, look after look, and when not."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from shared_router import Dial, Router, RoutingDataset
from shared_router.bulk.score import score_file
from shared_router.deciding.guarantee import OTHER_ARITHMETIC
from shared_router.errors import ArtifactError, CandidateError, ConfigurationError, DataError
from shared_router.retrieval import RetrievalFacts
from shared_router.router.promising import CUT_BY_LEAST, MOST_TASKS
from shared_router.serving.probes import PROBES
from shared_router.testing import fixed_router
from tests.material import (
    PAIR,
    SeeingScorer,
    by_retrieval,
    by_task,
    dataset,
    known_truth,
    record,
    rewrite,
    three_models,
    write_lines,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEXT = "please today no. 3"


@pytest.fixture(scope="module")
def task_fitted(tiny_encoder: str, tiny_cache: Path) -> Router:
    """Fitted where a task tells all and the text nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYBRID_LLM_CACHE", str(tiny_cache))
        return Router.fit(by_task(240), PAIR, encoder=tiny_encoder)


@pytest.fixture(scope="module")
def by_tasks(task_fitted: Router) -> Router:
    """Calibrated with over 200 queries of both made tasks, and 100 of the rare one."""
    return task_fitted.calibrate(by_task(800, split="validation", seed=1))


def lengths(n: int, *, split: str = "v", lost: int = 4, **more: Any) -> RoutingDataset:
    """Queries of many lengths; the small model is right on all but the longest quarter."""
    rows = (
        record(
            f"{split}{i}", f"{i:04d}" + "x" * (i % 40), split, "any", large=1.0,
            small=float(i % 40 < 40 - 40 // lost), **more,
        )
        for i in range(n)
    )  # fmt: skip
    return dataset(*rows, name=split)


def by_length() -> Router:
    return fixed_router(lambda text: 50.0 - len(text))


def claimed(router: Router, **options: Any) -> tuple[str, str | None]:
    found = router.decide(TEXT, **options)
    return found.guarantee, found.guarantee_reason


# -- over all queries ---------------------------------------------------------------------------


def test_a_limit_is_promised_where_labels_show_it() -> None:
    router = by_length().calibrate(lengths(600))
    found = router.decide("x" * 10, max_quality_drop=0.05)
    assert (found.candidate, found.guarantee, found.confidence) == ("small", "promised", 0.9)
    assert found.guarantee_reason is None
    surer = router.decide("x" * 10, max_quality_drop=0.05, confidence=0.999)
    assert found.threshold is not None
    assert surer.threshold is not None
    assert surer.threshold >= found.threshold


def test_a_limit_that_cannot_be_promised_keeps_calls_at_the_reference() -> None:
    router = by_length().calibrate(lengths(200))
    found = router.decide("x", max_quality_drop=0.001)
    assert (found.candidate, found.reason) == ("large", "no_promise")
    assert (found.guarantee, found.guarantee_reason) == ("none", "no promise")
    estimate = router.decide("x", max_quality_drop=0.001, confidence="estimate")
    assert (estimate.candidate, estimate.reason) == ("small", "score")
    assert (estimate.guarantee, estimate.guarantee_reason) == ("estimated", "confidence='estimate'")
    assert estimate.confidence is None


def test_the_stored_default_follows_its_estimate_where_it_is_not_promised() -> None:
    router = by_length().calibrate(lengths(75))
    assert router.dial == Dial("max_quality_drop", 0.05)
    found = router.decide("x")
    assert (found.candidate, found.guarantee, found.guarantee_reason) == (
        "small", "estimated", "not promised",
    )  # fmt: skip
    assert router.decide("x", max_quality_drop=0.05).reason == "no_promise"


def test_a_relative_and_an_absolute_limit_are_both_promised() -> None:
    router = by_length().calibrate(lengths(600))
    assert claimed(router, max_quality_drop=0.05) == ("promised", None)
    assert claimed(router, max_quality_drop_absolute=0.05) == ("promised", None)
    assert claimed(router, cost_advantage=0.5) == ("none", "no quality dial")
    assert claimed(router, threshold=0.5) == ("none", "no quality dial")


def test_where_no_unseen_scores_are_known_a_part_of_the_queries_cuts_the_grid() -> None:
    router = by_length().calibrate(lengths(600))
    assert router.out_of_fold is None
    assert router.promises is not None
    assert router.promises.whole.n == 600 - 60
    few = by_length().calibrate(lengths(200)).promises
    assert few is not None
    assert few.whole.n == 200 - CUT_BY_LEAST


def test_the_training_out_of_fold_cuts_it_otherwise(calibrated: Router) -> None:
    assert calibrated.out_of_fold is not None
    assert calibrated.out_of_fold.scores.shape == (150, 1)
    assert calibrated.promises is not None
    assert calibrated.promises.whole.n == 120
    assert calibrated.estimate is not None
    assert calibrated.estimate.n == 150 + 120


def test_repeated_texts_count_as_one() -> None:
    once = lengths(300)
    twice = dataset(*once, *lengths(300, split="again").records, name="twice")
    found = by_length().calibrate(twice).promises
    assert found is not None
    assert found.whole.n < 300


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (lengths(60), "too few queries: 10 to test on"),
        (lengths(20), "too few queries: 0 to test on"),
        (
            dataset(*(record(f"q{i}", "x" * i, small=float(i), large=40.0) for i in range(1, 41))),
            "quality without bounds",
        ),
    ],
    ids=["ten tested", "none tested", "unbounded"],
)
def test_why_nothing_can_be_promised_is_kept(data: RoutingDataset, why: str) -> None:
    router = by_length().calibrate(data)
    assert router.promises is None
    assert why in router.facts["calibration"]["no_promise"]
    assert router.decide("x", max_quality_drop=0.9).reason == "no_promise"
    assert router.decide("x", max_quality_drop=0.9, confidence="estimate").reason == "score"


def test_stated_bounds_make_graded_quality_promisable() -> None:
    rows = (
        record(f"q{i}", f"{i:03d}" + "x" * (i % 40), large=4.0, small=float(4 - (i % 40 > 30) * 3))
        for i in range(500)
    )
    router = by_length().calibrate(dataset(*rows), quality_bounds=(1, 5))
    assert claimed(router, max_quality_drop=0.1) == ("promised", None)


@pytest.mark.parametrize(
    "bounds",
    [(1, 0), (0, 0), (0, math.inf), (math.nan, 1), (-1e308, 1e308), (None, 1), (1,), (0, 1, 2), 1],
)
def test_bounds_are_a_range(bounds: Any) -> None:
    with pytest.raises(ConfigurationError, match="least and the greatest quality"):
        by_length().calibrate(lengths(100), quality_bounds=bounds)


def test_bounds_that_the_data_break_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"are 0 to 0\.5, and the data hold"):
        by_length().calibrate(lengths(100), quality_bounds=(0, 0.5))


def test_of_more_than_two_models_the_estimate_is_said() -> None:
    router = Router(candidates=("nano", "mini", "maxi"), scorer=Two(), name="three")
    found = router.calibrate(three_models(200, split="v")).decide("q", max_quality_drop=0.05)
    assert (found.guarantee, found.guarantee_reason) == ("estimated", "more than two models")


class Two:
    """Two scores a text."""

    def score(self, texts: Any) -> Any:
        return np.array([[len(text), -len(text)] for text in texts], np.float32)


@pytest.mark.parametrize("confidence", [0.5, 1, 1.0, 0.0, 90, math.nan, True, "sure", "0.9"])
def test_a_confidence_out_of_range_is_refused(confidence: Any) -> None:
    router = by_length().calibrate(lengths(100))
    with pytest.raises(
        ConfigurationError, match=r"confidence is a number above 0\.5 and below 1, or 'estimate'"
    ):
        router.decide("x", confidence=confidence)


# -- within tasks -------------------------------------------------------------------------------


def test_tasks_with_enough_labels_have_promises_of_their_own(by_tasks: Router) -> None:
    promises = by_tasks.promises
    assert promises is not None
    assert set(promises.tasks) == {"made/good", "made/bad"}
    assert promises.rest is not None
    assert promises.rest.n == 100
    good, bad = (
        by_tasks.decide(TEXT, task=f"made/{kind}", max_quality_drop=0.15)
        for kind in ("good", "bad")
    )
    assert (good.guarantee, good.calibrated_task) == ("promised", "made/good")
    assert (bad.guarantee, bad.calibrated_task) == ("promised", "made/bad")
    assert good.threshold is not None
    assert good.threshold != bad.threshold
    limit = Dial("max_quality_drop", 0.15)
    shares = {label: own.shares[own.step(limit, 0.9)] for label, own in promises.tasks.items()}
    assert shares["made/good"] > 0.5 > shares["made/bad"] > 0


def test_other_tasks_share_one_promise_over_their_mix(by_tasks: Router) -> None:
    found = by_tasks.decide(TEXT, task="other/rare", max_quality_drop=0.9)
    assert (found.guarantee, found.calibrated_task) == ("promised", None)
    assert found.wider_because == "too_few"


def test_an_unseen_task_is_promised_nothing(by_tasks: Router) -> None:
    found = by_tasks.decide(TEXT, task="elsewhere", max_quality_drop=0.9)
    assert (found.candidate, found.reason) == ("large", "no_promise")
    assert (found.guarantee, found.guarantee_reason) == ("void", "unknown task")
    default = by_tasks.decide(TEXT, task="elsewhere")
    assert (default.reason, default.guarantee) == ("score", "void")


def test_a_task_whose_promise_is_over_the_mix_says_so(task_fitted: Router) -> None:
    """With 100 to 199 labels a task has an estimate of its own, and no promise."""
    router = task_fitted.calibrate(by_task(320, split="validation", seed=1))
    assert router.promises is not None
    assert not router.promises.tasks
    estimate = router.decide(TEXT, task="made/good", max_quality_drop=0.2, confidence="estimate")
    assert estimate.calibrated_task == "made/good"
    promised = router.decide(TEXT, task="made/good", max_quality_drop=0.5)
    assert (promised.guarantee, promised.calibrated_task) == ("promised", None)
    assert promised.wider_because == "too_few"


def tagged(n: int, task: str | None, *, lost: int = 40) -> RoutingDataset:
    """Queries of one task; the small model is right on all but the longest part."""
    one = lengths(n, split=f"{task}-", lost=lost)
    return dataset(*(each.model_copy(update={"task": task}) for each in one))


def test_a_suite_that_holds_promised_tasks_is_promised_nothing_itself() -> None:
    """The rest was tested without them, and each of them only alone."""
    parts = tagged(300, "made/good"), tagged(300, "made/bad", lost=1), tagged(100, "other/rare")
    router = by_length().calibrate(dataset(*(one for part in parts for one in part)))
    assert claimed(router, task="other", max_quality_drop=0.3) == ("promised", None)
    found = router.decide(TEXT, task="made", max_quality_drop=0.3)
    assert (found.reason, found.guarantee) == ("no_promise", "none")
    assert claimed(router, task="made") == ("estimated", "not promised")


def test_a_task_with_a_promise_and_no_curve_goes_by_its_promise() -> None:
    parts = tagged(600, "a"), tagged(300, "b", lost=1), tagged(100, "c")
    data = dataset(*(one for part in parts for one in part))
    router = by_length().calibrate(data, least_per_task=500)
    found = router.decide("x" * 30, task="b", max_quality_drop=0.3)
    assert (found.candidate, found.guarantee) == ("large", "promised")
    assert (found.calibrated_task, found.wider_because) == ("b", None)


def test_too_few_queries_of_other_tasks_are_promised_nothing() -> None:
    parts = tagged(400, "a"), tagged(300, "b"), tagged(15, "c", lost=1)
    router = by_length().calibrate(dataset(*(one for part in parts for one in part)))
    assert router.promises is not None
    assert router.promises.rest is None
    assert router.decide(TEXT, task="c", max_quality_drop=0.3).reason == "no_promise"
    assert claimed(router, max_quality_drop=0.3) == ("promised", None)


def test_tasks_have_promises_of_their_own_only_where_every_query_names_one() -> None:
    """Else calls without a task would go by a promise over a mix that they are not."""
    parts = tagged(700, "a"), tagged(300, "b"), tagged(500, None, lost=1)
    router = by_length().calibrate(dataset(*(one for part in parts for one in part)))
    assert router.promises is not None
    assert not router.promises.tasks
    settings = {
        router.decide(TEXT, task=task, max_quality_drop=0.3).threshold for task in ("a", "b", None)
    }
    assert len(settings) == 1


def test_at_most_ten_tasks_share_the_error() -> None:
    many = MOST_TASKS + 2
    rows = (
        record(f"q{i}", f"{i:05d}", "v", f"suite/{i % many}", small=1.0, large=1.0)
        for i in range(240 * many)
    )
    router = by_length().calibrate(dataset(*rows))
    assert router.promises is not None
    assert len(router.promises.tasks) == MOST_TASKS
    assert router.promises.rest is not None


def test_promises_within_tasks_are_kept_in_the_folder(by_tasks: Router, tmp_path: Path) -> None:
    by_tasks.save_pretrained(tmp_path / "r")
    again = Router.from_pretrained(tmp_path / "r")
    for task in ("made/good", "made/bad", "other/rare", "elsewhere", None):
        for limit in (0.02, 0.1, 0.5):
            one, two = (
                each.decide(TEXT, task=task, max_quality_drop=limit) for each in (by_tasks, again)
            )
            assert one.threshold == two.threshold
            assert one.guarantee == two.guarantee
    assert again.promises is not None
    assert by_tasks.promises is not None
    assert (again.promises.look, again.promises.labels) == (1, by_tasks.promises.labels)


# -- look after look ----------------------------------------------------------------------------


def test_a_superset_is_a_further_look_along_the_same_grid() -> None:
    first = by_length().calibrate(lengths(300))
    second = first.calibrate(lengths(600))
    assert first.promises is not None
    assert second.promises is not None
    one, two = first.promises.whole, second.promises.whole
    assert second.facts["calibration"]["promise"]["looks"] == 2
    np.testing.assert_array_equal(one.thresholds, two.thresholds)
    for name in ("upper", "upper_relative"):
        np.testing.assert_array_equal(getattr(two.looks[0], name), getattr(one.looks[0], name))
    at_once = by_length().calibrate(lengths(600)).promises
    assert at_once is not None
    limit = Dial("max_quality_drop", 0.02)
    share = two.shares[two.step(limit, 0.9)], at_once.whole.shares[at_once.whole.step(limit, 0.9)]
    assert share[0] <= share[1]
    assert one.step(limit, 0.9) <= two.step(limit, 0.9)


def test_other_queries_are_a_first_look() -> None:
    first = by_length().calibrate(lengths(300))
    other = first.calibrate(lengths(300, split="w")).promises
    assert other is not None
    assert (other.look, len(other.whole.looks)) == (1, 1)


def test_other_labels_of_the_same_queries_end_the_former_promise() -> None:
    first = by_length().calibrate(lengths(600))
    worse = first.calibrate(lengths(600, lost=1))
    assert first.decide("x", max_quality_drop=0.05).guarantee == "promised"
    assert worse.promises is not None
    assert (worse.promises.look, len(worse.promises.whole.looks)) == (2, 1)
    limit = Dial("max_quality_drop", 0.05)
    share = [
        each.promises.whole.shares[each.promises.whole.step(limit, 0.9)] for each in (first, worse)
    ]
    assert share[0] > 0.7
    assert share[1] < 0.05
    third = worse.calibrate(lengths(600)).promises
    assert third is not None
    assert third.look == 3


@pytest.mark.parametrize("dial", ["max_quality_drop", "max_quality_drop_absolute"])
def test_more_labels_of_queries_that_lose_more_end_what_the_first_showed(dial: str) -> None:
    limit = {dial: 0.02}
    first = by_length().calibrate(lengths(600, lost=40))
    both = first.calibrate(dataset(*lengths(600, lost=40), *lengths(600, split="w", lost=1)))
    assert both.promises is not None
    assert both.promises.look == 2
    query = "x" * 25
    assert first.decide(query, **limit).candidate == "small"
    assert both.decide(query, **limit).candidate == "large"


def retagged(data: RoutingDataset) -> RoutingDataset:
    other = {"a": "b", "b": "a"}
    return dataset(*(one.model_copy(update={"task": other[str(one.task)]}) for one in data))


def reworded(data: RoutingDataset) -> RoutingDataset:
    return dataset(*(one.model_copy(update={"query": f"{one.query} again"}) for one in data))


@pytest.mark.parametrize("change", [retagged, reworded])
def test_other_tasks_or_texts_of_the_same_queries_end_the_former_promise(
    change: Callable[[RoutingDataset], RoutingDataset],
) -> None:
    data = dataset(*tagged(300, "a"), *tagged(300, "b", lost=1))
    again = by_length().calibrate(data).calibrate(change(data)).promises
    assert again is not None
    parts = [again.whole, *again.tasks.values()]
    assert [len(part.looks) for part in parts] == [1, 1, 1]
    assert again.look == 2


def test_other_bounds_end_the_former_promise() -> None:
    first = by_length().calibrate(lengths(300))
    more = dataset(*lengths(300), *(record(f"m{i}", "x", small=9.0, large=9.0) for i in range(30)))
    again = first.calibrate(more, quality_bounds=(0, 10)).promises
    assert again is not None
    assert (again.look, len(again.whole.looks)) == (2, 1)


def test_a_rest_that_lost_a_task_is_tested_anew() -> None:
    """What was shown of `b` and `c` together says nothing of `c` alone."""
    parts = [*tagged(300, "a"), *tagged(150, "b"), *tagged(40, "c", lost=1)]
    first = by_length().calibrate(dataset(*parts))
    assert claimed(first, task="c", max_quality_drop=0.4) == ("promised", None)
    second = first.calibrate(dataset(*parts, *lengths(150, split="more-").records)).promises
    assert second is not None
    assert second.rest is not None
    assert len(second.rest.looks) == 2
    grown = [one.model_copy(update={"id": f"+{one.id}"}) for one in tagged(150, "b")]
    third = first.calibrate(dataset(*parts, *grown))
    assert third.promises is not None
    assert set(third.promises.tasks) == {"a", "b"}
    assert third.promises.rest is not None
    assert len(third.promises.rest.looks) == 1
    assert third.decide(TEXT, task="c", max_quality_drop=0.4).candidate == "large"


def test_looks_are_kept_in_the_folder(calibrated: Router, tmp_path: Path) -> None:
    more = known_truth(240, split="validation", seed=1)
    both = calibrated.calibrate(more)
    both.save_pretrained(tmp_path / "r")
    again = Router.from_pretrained(tmp_path / "r").promises
    assert again is not None
    assert again.look == 2
    assert [look.n for look in again.whole.looks] == [120, 240]


# -- what ends a promise ------------------------------------------------------------------------


def test_other_arithmetic_voids_it(calibrated: Router) -> None:
    assert calibrated.probes is not None
    assert len(calibrated.probes.scores) == len(PROBES)
    assert calibrated.void is None
    off = dataclasses.replace(calibrated.probes, scores=calibrated.probes.scores + 0.5)
    moved = dataclasses.replace(calibrated, probes=off)
    assert moved.void == OTHER_ARITHMETIC
    assert claimed(moved, max_quality_drop=0.5) == ("void", "other arithmetic")
    last_digits = dataclasses.replace(calibrated.probes, scores=calibrated.probes.scores + 1e-7)
    assert dataclasses.replace(calibrated, probes=last_digits).void is None


FACTS = RetrievalFacts.of([0.9], context_tokens=100)


def seeing(data: RoutingDataset) -> Router:
    return Router(candidates=PAIR, scorer=SeeingScorer(), name="seeing").calibrate(data)


@pytest.mark.parametrize("measured", [True, False])
def test_calls_with_facts_of_retrieval_and_without_are_different_calls(measured: bool) -> None:
    """Scored at the means, every call would pass a threshold that facts had set."""
    router = seeing(by_retrieval(400, split="v") if measured else lengths(400))
    for facts in (FACTS, None):
        found = router.decide(TEXT, retrieval=facts, max_quality_drop=0.9)
        like = (facts is not None) == measured
        wanted = ("promised", None) if like else ("void", "retrieval")
        assert (found.guarantee, found.guarantee_reason) == wanted


def test_where_both_were_measured_both_are_promised() -> None:
    both = [by_retrieval(300, split=f"v{facts}", facts=facts).records for facts in (True, False)]
    router = seeing(dataset(*both[0], *both[1]))
    for facts in (FACTS, None):
        found = router.decide(TEXT, retrieval=facts, max_quality_drop=0.9)
        assert found.guarantee == "promised"


def test_a_router_that_sees_no_facts_cares_for_none() -> None:
    router = by_length().calibrate(lengths(600))
    found = router.decide("x", retrieval=FACTS, max_quality_drop=0.05)
    assert found.guarantee == "promised"


def test_a_log_says_which_of_its_calls_are_like_those_measured(tmp_path: Path) -> None:
    router = seeing(by_retrieval(400, split="v"))
    rows = [
        {"id": "with", "query": TEXT, "retrieval": FACTS.model_dump()},
        {"id": "without", "query": TEXT},
    ]
    source = write_lines(tmp_path / "log.jsonl", rows)
    limit = Dial("max_quality_drop", 0.9)
    score_file(router, source, tmp_path / "scored.jsonl", dial=limit)
    score_file(router, tmp_path / "scored.jsonl", tmp_path / "again.jsonl", dial=limit)
    for name in ("scored", "again"):
        lines = (tmp_path / f"{name}.jsonl").read_text().splitlines()
        assert [json.loads(line)["guarantee"] for line in lines] == ["promised", "void"]


def test_a_copy_for_other_models_promises_nothing(calibrated: Router) -> None:
    changed = calibrated.for_candidates(["mini", "maxi"])
    assert (changed.promises, changed.probes, changed.out_of_fold) == (None, None, None)


def test_calibration_queries_are_none_that_it_was_fitted_on(calibrated: Router) -> None:
    with pytest.raises(DataError, match="fitted"):
        calibrated.calibrate(known_truth(150))


def test_data_of_other_candidates_are_refused() -> None:
    rows = (record(f"q{i}", "x" * i, mini=1.0, maxi=1.0) for i in range(1, 60))
    with pytest.raises(CandidateError, match="no outcomes of candidate 'small'"):
        by_length().calibrate(dataset(*rows))


# -- files from a stranger ----------------------------------------------------------------------


def spoil(folder: Path, name: str, value: Callable[[Any], Any]) -> None:
    arrays = load_file(folder / "calibration.safetensors")
    arrays[name] = value(arrays[name])
    rewrite(folder, "calibration.safetensors", save(arrays))


def nan_first(array: Any) -> Any:
    changed = array.copy()
    changed.flat[-1] = math.nan
    return changed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("promise 0/look 0/upper", nan_first),
        ("promise 0/look 0/upper_relative", nan_first),
        ("promise 0/look 0/upper", lambda array: -array),
        ("promise 0/look 0/upper", lambda array: array[::-1].copy()),
        ("promise 0/look 0/upper", lambda array: array[:, :2].copy()),
        ("promise 0/look 0/upper", lambda array: array[:-1].copy()),
        ("promise 0/thresholds", nan_first),
        ("promise 0/thresholds", lambda array: array[::-1].copy()),
        ("promise 0/shares", nan_first),
        ("promise 0/shares", lambda array: array[:-1].copy()),
        ("probes", nan_first),
        ("probes", lambda array: array[:, :0].copy()),
        ("quality", nan_first),
        ("scores", nan_first),
    ],
)
def test_a_spoilt_promise_is_refused(
    calibrated: Router, tmp_path: Path, name: str, value: Callable[[Any], Any]
) -> None:
    calibrated.save_pretrained(tmp_path / "r")
    spoil(tmp_path / "r", name, value)
    with pytest.raises(ArtifactError, match=r"calibration\.safetensors"):
        Router.from_pretrained(tmp_path / "r")


@pytest.mark.parametrize("name", ["promise 0/thresholds", "promise 0/look 0/upper", "probes"])
def test_a_missing_array_is_named(calibrated: Router, tmp_path: Path, name: str) -> None:
    calibrated.save_pretrained(tmp_path / "r")
    arrays = load_file(tmp_path / "r" / "calibration.safetensors")
    del arrays[name]
    rewrite(tmp_path / "r", "calibration.safetensors", save(arrays))
    with pytest.raises(ArtifactError, match=f"holds the array '{name}'; got none"):
        Router.from_pretrained(tmp_path / "r")


@pytest.mark.parametrize(
    "change",
    [
        {"parts": []},
        {"parts": [{"of": "rest", "method": "paired", "looks": [3]}]},
        {"parts": [{"of": "whole", "method": "faith", "looks": [3]}]},
        {"parts": [{"of": "whole", "method": "paired", "looks": []}]},
        {"parts": [{"of": "whole", "label": "a", "method": "paired", "looks": [3]}]},
    ],
)
def test_promises_that_make_no_sense_are_refused(
    calibrated: Router, tmp_path: Path, change: dict[str, Any]
) -> None:
    calibrated.save_pretrained(tmp_path / "r")
    settings = json.loads((tmp_path / "r" / "router.json").read_text())
    settings["calibration"]["promises"] |= change
    rewrite(tmp_path / "r", "router.json", json.dumps(settings).encode())
    with pytest.raises(ArtifactError, match=r"router\.json"):
        Router.from_pretrained(tmp_path / "r")


@pytest.mark.parametrize("name", ["scores", "outcomes"])
def test_a_spoilt_out_of_fold_table_is_refused(
    calibrated: Router, tmp_path: Path, name: str
) -> None:
    calibrated.save_pretrained(tmp_path / "r")
    arrays = load_file(tmp_path / "r" / "out_of_fold.safetensors")
    arrays[name] = nan_first(arrays[name])
    rewrite(tmp_path / "r", "out_of_fold.safetensors", save(arrays))
    with pytest.raises(ArtifactError, match=r"out_of_fold\.safetensors"):
        Router.from_pretrained(tmp_path / "r")
