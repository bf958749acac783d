"""Routing by task, end to end: calibrating, deciding, measuring, keeping and showing."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner

from shared_router import Candidate, Dial, Router, RoutingEngine, RoutingQuery, hybrid_options
from shared_router.cli.commands import app
from shared_router.context import current_options
from shared_router.deciding.guards import RoutingRequest
from shared_router.errors import ConfigurationError, NotCalibratedError
from shared_router.options import CallOptions
from shared_router.router.card import model_card
from shared_router.testing import fixed_router
from tests.engine.calling import made
from tests.material import PAIR, by_task, dataset, known_truth, record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

TEXT = "please today no. 3"
DIAL = {"max_quality_drop": 0.1, "confidence": "estimate"}


@pytest.fixture(scope="module")
def fitted(fitted_by_task: Router) -> Router:
    return fitted_by_task


@pytest.fixture(scope="module")
def router(calibrated_by_task: Router) -> Router:
    """Calibrated: both made tasks have over 100 queries, the rare one has 40."""
    return calibrated_by_task


@pytest.fixture
def run() -> Callable[..., Any]:
    return lambda *args: CliRunner().invoke(app, [str(arg) for arg in args])


def test_a_calibration_says_which_tasks_it_holds_within(router: Router) -> None:
    tasks = router.task_curves
    assert tasks is not None
    assert set(tasks.curves) == {"made/good", "made/bad", "made"}
    assert tasks.too_few == {"other/rare": 40, "other": 40}
    facts = router.facts["calibration"]["tasks"]
    assert facts["calibrated"]["made/good"] + facts["calibrated"]["made/bad"] == 280
    assert facts["too_few"] == tasks.too_few


def test_a_dial_holds_within_each_task(router: Router) -> None:
    """The small model loses 5 % in one task and 60 % in the other."""
    fresh = by_task(400, split="fresh", seed=2)
    for task, least, most in (("made/good", 0.5, 1.0), ("made/bad", 0.0, 0.35)):
        rows = fresh.task(task)
        chosen = [router.decide(q, task=task, **DIAL).index for q in rows.queries]
        quality = rows.quality(PAIR)
        got = quality[np.arange(len(rows)), chosen].mean()
        assert least <= np.mean(np.array(chosen) == 0) <= most
        assert 1 - got / quality[:, 1].mean() < 0.2


def test_one_threshold_for_all_does_not(router: Router) -> None:
    """Without labels the text tells nothing, so that both tasks fare alike."""
    fresh = by_task(400, split="fresh", seed=2)
    found = router.evaluate(fresh, resamples=20, **DIAL).dial
    assert found is not None
    one, own = found["tasks"]["one_threshold"], found["tasks"]["by_task"]
    assert own["tasks"]["made/good"]["cost_advantage"] > 0.5
    assert own["tasks"]["made/bad"]["cost_advantage"] < 0.35
    assert own["cost_advantage"] > one["cost_advantage"]
    assert set(own["tasks"]) == {"made/good", "made/bad", "other/rare"}
    assert own["tasks"]["other/rare"]["cost_advantage"] == pytest.approx(
        one["tasks"]["other/rare"]["cost_advantage"]
    )
    assert own["intervals"]["quality_drop"] is not None
    apart = found["tasks"]["difference"]["quality_drop"]
    assert apart["made/bad"][0] < apart["made/bad"][1]
    assert apart["other/rare"] == (0.0, 0.0)


@pytest.mark.parametrize(
    ("task", "calibrated", "because"),
    [
        ("made/good", "made/good", None),
        ("made", "made", None),
        ("made/new", "made", "unknown_task"),
        ("other/rare", None, "too_few"),
        ("elsewhere", None, "unknown_task"),
        (None, None, "no_task"),
    ],
)
def test_a_decision_says_whose_calibration_served(
    router: Router, task: str | None, calibrated: str | None, because: str | None
) -> None:
    found = router.decide(TEXT, task=task, **DIAL)
    assert (found.task, found.calibrated_task, found.wider_because) == (task, calibrated, because)
    assert found.task_source == (None if task is None else "given")
    assert found.threshold == router.threshold_of(task=task, **DIAL)
    assert ("within" in found.summary()) == (calibrated is not None)
    overall = router.threshold_of(**DIAL)
    assert (found.threshold == overall) == (calibrated is None)


def test_what_a_call_scores_is_what_was_calibrated(router: Router) -> None:
    """Where all tasks together serve, the label changes no score: the calibration had none."""
    plain = router.decide(TEXT, **DIAL).scores
    assert router.decide(TEXT, task="other/rare", **DIAL).scores == plain
    assert router.decide(TEXT, task="elsewhere", **DIAL).scores == plain
    assert router.decide(TEXT, task="made/good", **DIAL).scores != plain
    assert router.decide(TEXT, task="other/rare", threshold=0.0).scores != plain


def test_the_default_dial_holds_within_each_task_too(fitted: Router) -> None:
    router = fitted.calibrate(by_task(600, split="validation", seed=1))
    found = router.decide(TEXT, task="made/good")
    assert (found.dial, found.calibrated_task) == ("max_quality_drop", "made/good")
    assert found.guarantee == "promised"


def test_tasks_can_be_left_off(fitted: Router) -> None:
    data = by_task(320, split="validation", seed=1)
    off = fitted.calibrate(data, by_task="off")
    assert off.task_curves is None
    assert off.decide(TEXT, task="made/good", **DIAL).wider_because == "unknown_task"
    assert off.decide(TEXT, **DIAL).wider_because is None
    unnamed = dataset(*(one.model_copy(update={"task": None}) for one in data))
    assert fitted.calibrate(unnamed).task_curves is None


def test_fewer_queries_can_be_enough(fitted: Router) -> None:
    data = by_task(320, split="validation", seed=1)
    assert "other/rare" in fitted.calibrate(data, least_per_task=40).task_curves.curves
    none = fitted.calibrate(data, least_per_task=1000).task_curves
    assert none.curves == {}
    assert none.too_few["made"] == 280


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"by_task": "guess"}, "by_task is one of given, predicted, off; got 'guess'"),
        ({"least_per_task": 1}, "least_per_task is at least 2 queries; got 1"),
    ],
)
def test_wrong_options_of_a_calibration_are_refused(
    fitted: Router, options: dict[str, Any], rule: str
) -> None:
    with pytest.raises(ConfigurationError, match=rule):
        fitted.calibrate(by_task(20, split="v"), **options)


def test_a_router_that_tells_no_tasks_cannot_predict_them() -> None:
    with pytest.raises(ConfigurationError, match="tells no tasks by the text"):
        fixed_router(0.0).calibrate(by_task(20), by_task="predicted")


def test_a_predicted_task_keys_calls_without_a_label(
    tiny_encoder: str, in_tiny_cache: Path
) -> None:
    fitted = Router.fit(known_truth(150), PAIR, encoder=tiny_encoder)
    router = fitted.calibrate(
        known_truth(200, split="validation", seed=1), by_task="predicted", least_per_task=50
    )
    found = router.decide("prove the theorem 17 today with care no. 5", **DIAL)
    assert (found.task, found.task_source) == ("made/hard", "predicted")
    assert found.calibrated_task == "made/hard"
    given = router.decide("prove the theorem 17 today", task="made/easy", **DIAL)
    assert (given.task, given.task_source, given.calibrated_task) == (
        "made/easy",
        "given",
        "made/easy",
    )
    limit = {"max_quality_drop": 0.4}
    assert router.decide("prove the theorem 17 today", **limit).guarantee == "promised"
    named = router.decide("prove the theorem 17 today", task="made/easy", **limit)
    assert (named.candidate, named.guarantee, named.guarantee_reason) == (
        "large", "void", "unknown task",
    )  # fmt: skip
    report = router.evaluate(known_truth(100, split="v2", seed=4), resamples=2, **DIAL)
    assert set(report.dial["tasks"]["by_task"]["tasks"]) == {"made/easy", "made/hard"}


def test_it_is_kept_in_its_folder(router: Router, tmp_path: Path) -> None:
    router.save_pretrained(tmp_path / "r")
    again = Router.from_pretrained(tmp_path / "r")
    assert again.task_curves.too_few == router.task_curves.too_few
    assert (again.task_curves.by, again.task_curves.least) == ("given", 100)
    for task in ("made/good", "made/bad", "made", "other/rare", None):
        first, second = (one.decide(TEXT, task=task, **DIAL) for one in (router, again))
        assert (first.scores, first.threshold) == (second.scores, second.threshold)


def test_the_card_says_within_which_tasks_a_dial_holds(router: Router, fitted: Router) -> None:
    card = model_card(router)
    assert "| `made/good` |" in card
    assert "their suite or all tasks together serve: `other` (40), `other/rare` (40)" in card
    assert "By task" not in model_card(fitted)


def engine_of(router: Router, **options: Any) -> RoutingEngine:
    return RoutingEngine(router, [Candidate(name) for name in PAIR], **options)


def test_every_way_of_naming_a_task_counts(router: Router) -> None:
    engine = engine_of(router, dial=Dial("max_quality_drop", 0.1), confidence="estimate")
    with hybrid_options(task="made/good"):
        option = RoutingRequest(query=RoutingQuery(text=TEXT), options=current_options())
    stated = RoutingRequest(query=RoutingQuery(text=TEXT, task="made/good"))
    keyword = RoutingRequest(query=RoutingQuery(text=TEXT), options=CallOptions(task="made/good"))
    decisions = [engine.decide(each) for each in (option, stated, keyword)]
    decisions.append(asyncio.run(engine.adecide(keyword)))
    assert {one.calibrated_task for one in decisions} == {"made/good"}
    assert len({one.scores for one in decisions}) == 1


def test_an_unknown_task_is_said_once_in_the_log(
    router: Router, caplog: pytest.LogCaptureFixture
) -> None:
    engine = engine_of(router, dial=Dial("max_quality_drop", 0.1))
    request = RoutingRequest(query=RoutingQuery(text=TEXT, task="a secret label"))
    with caplog.at_level(logging.WARNING, "hybrid_llm"):
        for _ in range(3):
            made(engine, request, lambda step: step.decision)
    (said,) = [one.getMessage() for one in caplog.records]
    assert "not calibrated for" in said
    assert "secret" not in said


class LabelScorer:
    """A scorer of one's own that reads labels: 1 in good tasks, 0 in others."""

    takes_tasks = True

    def score(
        self, texts: Sequence[str], tasks: Sequence[str | None] | None = None
    ) -> NDArray[np.float32]:
        labels = tasks or [None] * len(texts)
        return np.array([[float((label or "").endswith("good"))] for label in labels], np.float32)


def test_a_scorer_of_ones_own_may_read_labels() -> None:
    router = Router(candidates=PAIR, scorer=LabelScorer(), name="own")
    calibrated = router.calibrate(by_task(320, split="validation", seed=1))
    assert calibrated.decide("q", task="made/good", cost_advantage=1.0).scores == (1.0,)
    assert router.decide("q", task="made/good", threshold=0.5).candidate == "small"
    assert router.decide("q", threshold=0.5).candidate == "large"


def test_a_task_does_not_calibrate_an_uncalibrated_router() -> None:
    with pytest.raises(NotCalibratedError):
        fixed_router(0.0).decide("q", task="made/good", max_quality_drop=0.1)


# -- the command line ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(router: Router, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("by-task") / "router"
    router.save_pretrained(path)
    return path


def test_calibrate_shows_the_tasks(run: Callable[..., Any], folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "v.jsonl"
    by_task(320, split="validation", seed=1).save(data)
    result = run("calibrate", folder, data, "--out", tmp_path / "out")
    assert "made/good" in result.stdout
    assert "Fewer than 100 queries" in result.stdout
    assert "other/rare (40)" in result.stdout
    off = run("calibrate", folder, data, "--out", tmp_path / "off", "--by-task", "off")
    assert "No tasks told apart" in off.stdout
    few = run(
        "calibrate", folder, data, "--out", tmp_path / "few", "--least-per-task", 40, "--json"
    )
    assert '"other/rare"' in few.stdout.split('"too_few"')[0]


def test_evaluate_shows_the_dial_within_each_task(
    run: Callable[..., Any], folder: Path, tmp_path: Path
) -> None:
    data = tmp_path / "fresh.jsonl"
    by_task(120, split="validation", seed=3).save(data)
    result = run("evaluate", folder, data, "--max-quality-drop", 0.1, "--full")
    assert "max_quality_drop=0.1 within each task" in result.stdout
    assert "made/bad" in result.stdout


def test_route_takes_a_known_task_and_refuses_a_slip(run: Callable[..., Any], folder: Path) -> None:
    for task in ("made/good", "made"):
        limit = ("--max-quality-drop", 0.1, "--confidence", "estimate")
        shown = run("route", folder, TEXT, "--task", task, *limit).stdout
        assert f'"calibrated_task": "{task}"' in shown
    result = run("route", folder, TEXT, "--task", "made/goood")
    assert result.exit_code == 1
    assert "knows no task 'made/goood'" in result.stderr
    assert "'made/good'" in result.stderr


def test_an_unknown_task_of_data_is_refused(
    run: Callable[..., Any], folder: Path, tmp_path: Path
) -> None:
    data = tmp_path / "v.jsonl"
    by_task(20, split="validation", seed=1).save(data)
    for command in ("evaluate", "calibrate"):
        result = run(command, folder, data, "--task", "elsewhere")
        assert result.exit_code == 1
        assert "no task 'elsewhere'" in result.stderr


def test_calibration_queries_without_a_task_stand_beside_the_others(fitted: Router) -> None:
    data = (*by_task(240, split="v", seed=5), record("x", "no task", small=1.0, large=1.0))
    found = fitted.calibrate(dataset(*data))
    report = found.evaluate(dataset(*data), resamples=2, **DIAL)
    assert "(no task)" in report.dial["tasks"]["by_task"]["tasks"]
