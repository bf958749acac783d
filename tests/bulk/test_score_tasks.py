"""Tasks in a log: every query is decided within its own, as serving would decide it."""

from __future__ import annotations

import dataclasses
import json
import pickle
from typing import TYPE_CHECKING

import numpy as np
import pytest

from shared_router import Dial, Router
from shared_router.bulk.rows import QueryRows
from shared_router.bulk.runner import LocalRunner
from shared_router.bulk.score import ScoreWork, score_file
from shared_router.collecting.sources import stream_queries
from shared_router.errors import DataError
from shared_router.options import Asked
from shared_router.testing import fixed_router
from tests.bulk.conftest import failed, lines_of
from tests.material import by_task, write_lines

if TYPE_CHECKING:
    from pathlib import Path

LABELS = ("made/good", "made/bad", "other/rare", "made", "elsewhere/new", None)
QUALITY, LESS = Dial("max_quality_drop", 0.1), Dial("cost_advantage", 0.3)
BY_THRESHOLD = Dial("threshold", -0.1)
DIALS = pytest.mark.parametrize("dial", [QUALITY, LESS, BY_THRESHOLD], ids=lambda dial: dial.name)


@pytest.fixture(scope="module")
def given(calibrated_by_task: Router) -> Router:
    return calibrated_by_task


@pytest.fixture(scope="module")
def predicted(fitted_by_task: Router) -> Router:
    data = by_task(320, split="validation", seed=1)
    return fitted_by_task.calibrate(data, by_task="predicted", least_per_task=20)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Write a log in which some queries name a task."""
    rows = [
        {"id": f"q{i}", "query": f"please no. {i}"} | ({"task": LABELS[i % 6]} if i % 6 < 5 else {})
        for i in range(60)
    ]
    return write_lines(tmp_path / "log.jsonl", rows)


def check_as_served(router: Router, log: Path, out: Path, dial: Dial) -> None:
    asked = {dial.name: dial.value, "confidence": "estimate"}
    for query, row in zip(stream_queries(log), lines_of(out), strict=True):
        served = router.decide(query.text, task=query.task, **asked)
        assert row["candidate"] == served.candidate
        assert (np.float32(row["scores"]["small"]),) == served.scores
        for name in ("task", "task_source", "calibrated_task"):
            assert row.get(name) == getattr(served, name)


@DIALS
def test_each_query_is_decided_within_its_task(
    given: Router, log: Path, tmp_path: Path, dial: Dial
) -> None:
    report = score_file(given, log, tmp_path / "out.jsonl", dial=dial, confidence="estimate")
    check_as_served(given, log, tmp_path / "out.jsonl", dial)
    rows = lines_of(tmp_path / "out.jsonl")
    within = {} if dial == BY_THRESHOLD else {"made": 10, "made/bad": 10, "made/good": 10}
    assert report.within == within
    assert {row.get("scored_under") for row in rows} >= {"made/good", "made/bad", None}
    if dial == QUALITY:
        small = [row.get("task") for row in rows if row["candidate"] == "small"]
        assert small.count("made/good") == 10
        assert small.count("made/bad") < 5


@pytest.mark.parametrize("limit", [0.001, 0.1, 0.5])
def test_a_log_says_what_is_promised_as_serving_does(
    limit: float, given: Router, log: Path, tmp_path: Path
) -> None:
    report = score_file(given, log, tmp_path / "out.jsonl", dial=Dial("max_quality_drop", limit))
    for query, row in zip(stream_queries(log), lines_of(tmp_path / "out.jsonl"), strict=True):
        served = given.decide(query.text, task=query.task, max_quality_drop=limit)
        assert (row["candidate"], row["guarantee"]) == (served.candidate, served.guarantee)
    claims = {0.001: {"none", "void"}, 0.1: {"promised", "void"}, 0.5: {"promised", "void"}}
    assert set(report.guarantees) == claims[limit]  # void: a task that nobody labelled


@DIALS
def test_the_task_a_text_tells(predicted: Router, log: Path, tmp_path: Path, dial: Dial) -> None:
    score_file(predicted, log, tmp_path / "out.jsonl", dial=dial, confidence="estimate")
    check_as_served(predicted, log, tmp_path / "out.jsonl", dial)
    sources = [row["task_source"] for row in lines_of(tmp_path / "out.jsonl")]
    assert (sources.count("given"), sources.count("predicted")) == (50, 10)


@pytest.mark.parametrize("by", ["given", "predicted"])
def test_deciding_anew_gives_what_scoring_gives(
    by: str, log: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    router: Router = request.getfixturevalue(by)
    first, again, direct = (tmp_path / name for name in ("1.jsonl", "2.jsonl", "3.jsonl"))
    score_file(router, log, first, dial=QUALITY, confidence="estimate")
    report = score_file(router, first, again, dial=LESS)
    assert report.scored == 0
    score_file(router, log, direct, dial=LESS)
    assert again.read_bytes() == direct.read_bytes()


def test_scores_under_another_label_are_not_taken_for_its_own(
    given: Router, log: Path, tmp_path: Path
) -> None:
    """`other/rare` has too few queries for a curve: a quality dial scores it without its label."""
    scored, out = tmp_path / "scored.jsonl", tmp_path / "out.jsonl"
    score_file(given, log, scored, dial=QUALITY, confidence="estimate")
    with pytest.raises(DataError, match=r"'q2': .* under the task None, and .* under 'other/rare'"):
        score_file(given, scored, out, dial=BY_THRESHOLD)
    assert not out.exists()


def test_a_log_scored_before_the_router_went_by_texts(
    given: Router, predicted: Router, tmp_path: Path
) -> None:
    log = write_lines(tmp_path / "log.jsonl", [{"id": "one", "query": "please no. 1"}])
    scored, told = tmp_path / "scored.jsonl", tmp_path / "told.jsonl"
    score_file(given, log, scored, dial=QUALITY, confidence="estimate")
    with pytest.raises(DataError, match="id 'one': scored before this router went by the task"):
        score_file(predicted, scored, told, dial=QUALITY, confidence="estimate")
    score_file(predicted, log, told, dial=QUALITY, confidence="estimate")
    assert lines_of(told)[0]["task_source"] == "predicted"
    score_file(given, told, tmp_path / "again.jsonl", dial=QUALITY, confidence="estimate")
    assert lines_of(tmp_path / "again.jsonl") == lines_of(scored)


def test_a_label_is_nothing_to_a_scorer_that_takes_none(log: Path, tmp_path: Path) -> None:
    router = fixed_router(0.1)
    score_file(router, log, tmp_path / "1.jsonl", dial=Dial("threshold", 0.2))
    assert not any("scored_under" in row for row in lines_of(tmp_path / "1.jsonl"))
    score_file(router, tmp_path / "1.jsonl", tmp_path / "2.jsonl", dial=Dial("threshold", 0.0))
    assert {row["candidate"] for row in lines_of(tmp_path / "2.jsonl")} == {"small"}


def test_a_failed_query_keeps_its_task(given: Router, log: Path, tmp_path: Path) -> None:
    def fail(text: str) -> float:
        raise RuntimeError(text)

    router = dataclasses.replace(given, scorer=fixed_router(fail).scorer)
    out, again = tmp_path / "out.jsonl", tmp_path / "again.jsonl"
    assert score_file(router, log, out, dial=QUALITY, confidence="estimate").failed == 60
    row = lines_of(out)[0]
    assert (row["task"], row["candidate"], row["error"]) == ("made/good", "large", "RuntimeError")
    score_file(router, out, again, dial=QUALITY, confidence="estimate")
    assert again.read_bytes() == out.read_bytes()


@pytest.mark.parametrize("by", ["given", "predicted"])
def test_the_work_travels_with_its_tasks(
    by: str, log: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    router: Router = request.getfixturevalue(by)
    work = ScoreWork(router, Asked(QUALITY, confidence="estimate"))
    sent = pickle.loads(pickle.dumps(work.portable()))  # noqa: S301  our own
    found = [row for some in LocalRunner().map(sent, QueryRows(log), 60) for row in some]
    score_file(router, log, tmp_path / "out.jsonl", dial=QUALITY, confidence="estimate")
    assert found == lines_of(tmp_path / "out.jsonl")


def test_on_the_command_line(given: Router, run, log: Path, tmp_path: Path) -> None:
    given.save_pretrained(tmp_path / "router")
    dial = ("--max-quality-drop", 0.1, "--confidence", "estimate")
    asked = ("score", tmp_path / "router", log, tmp_path / "out.jsonl", *dial)
    result = run(*asked)
    assert "Within their own task or suite (3 of them): 30" in result.stdout
    found = json.loads(run(*asked, "--json", "--force").stdout)
    assert found["within"] == {"made": 10, "made/bad": 10, "made/good": 10}
    rows = lines_of(tmp_path / "out.jsonl")
    edited = write_lines(tmp_path / "edited.jsonl", [rows[0] | {"scored_under": 3}])
    failed(run("score", tmp_path / "router", edited, tmp_path / "o.jsonl"), "line 1", "text, or")
    bad = write_lines(tmp_path / "bad.jsonl", [{"query": "please", "task": ["made"]}])
    failed(run("score", tmp_path / "router", bad, tmp_path / "o.jsonl"), "line 1: field task")
