"""Limits on the command line: what is promised, what is said where nothing is, bad options."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from shared_router.cli.commands import app
from tests.material import known_truth, write_lines

if TYPE_CHECKING:
    from pathlib import Path

    from shared_router import Router

LIMIT = ("--max-quality-drop", 0.3)
TIGHT = ("--max-quality-drop", 0.001)


@pytest.fixture(scope="module")
def folder(calibrated: Router, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("promises") / "router"
    calibrated.save_pretrained(path)
    return path


def run(*args: object) -> Any:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def test_route_tells_the_promise(folder: Path) -> None:
    promised = json.loads(run("route", folder, "greet the visitor", *LIMIT).stdout)
    assert (promised["guarantee"], promised["confidence"]) == ("promised", 0.9)
    asked = ("--confidence", "estimate")
    estimated = json.loads(run("route", folder, "greet the visitor", *LIMIT, *asked).stdout)
    assert (estimated["guarantee"], estimated["confidence"]) == ("estimated", None)


def test_a_limit_that_is_not_promised_is_said_before_its_calls_cost(
    folder: Path, tmp_path: Path
) -> None:
    log = write_lines(tmp_path / "log.jsonl", [{"query": "greet the visitor"}, {"query": "prove"}])
    for command in (("route", folder, "greet"), ("score", folder, log, tmp_path / "out.jsonl")):
        refused = run(*command, *TIGHT)
        assert refused.exit_code == 0
        assert "warning: max_quality_drop=0.001 cannot be promised at confidence" in refused.stderr
        assert "more labels would promise" in refused.stderr
    assert "2 none" in refused.stdout
    asked = ("--confidence", "estimate", "--force")
    estimated = run("score", folder, log, tmp_path / "out.jsonl", *TIGHT, *asked)
    assert "warning" not in estimated.stderr
    assert "2 estimated" in estimated.stdout


@pytest.mark.parametrize("confidence", ["0.5", "1", "1.5", "-1", "nan", "sure"])
@pytest.mark.parametrize("command", ["route", "score", "evaluate"])
def test_a_confidence_out_of_range_is_refused(
    folder: Path, tmp_path: Path, command: str, confidence: str
) -> None:
    data = tmp_path / "data.jsonl"
    known_truth(30, split="v", seed=3).save(data)
    more = {"route": ["q"], "score": [data, tmp_path / "out"], "evaluate": [data]}[command]
    refused = run(command, folder, *more, *LIMIT, "--confidence", confidence)
    assert refused.exit_code == 1
    assert "confidence is a number above 0.5 and below 1, or 'estimate'" in refused.stderr


@pytest.mark.parametrize("bounds", ["1", "1,0", "a,b", "0,nan", "0,1,2"])
def test_bounds_that_are_no_range_are_refused(folder: Path, tmp_path: Path, bounds: str) -> None:
    data = tmp_path / "data.jsonl"
    known_truth(60, split="v", seed=3).save(data)
    refused = run("calibrate", folder, data, "--out", tmp_path / "out", "--quality-bounds", bounds)
    assert refused.exit_code == 1
    assert "quality" in refused.stderr


def test_calibrate_shows_what_is_promised_beside_the_estimate(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    known_truth(300, split="validation", seed=3).save(data)
    shown = run("calibrate", folder, data, "--out", tmp_path / "out").stdout
    assert "promised share" in shown
    assert "estimated drop" in shown
    steps = json.loads(run("calibrate", folder, data, "--out", tmp_path / "more", "--json").stdout)[
        "dials"
    ]
    for step in steps:
        assert step["promised"] <= step["cost_advantage"] + 0.05
        low, high = step["drop_interval"]
        assert low <= step["drop"] <= high
