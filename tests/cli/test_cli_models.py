"""The command line with three models and more, with other models, and with costs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from shared_router import Router
from shared_router.cli.commands import app
from shared_router.cli.models import known_tasks
from tests.material import dataset, three_models, with_costs, write_lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

QUERY = "please prove the theorem 17 today"


@pytest.fixture
def run(in_tiny_cache: Path) -> Callable[..., Any]:
    return lambda *args: CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("three") / "three.jsonl.gz"
    rows = (*three_models(140), *three_models(120, split="validation", seed=1))
    dataset(*rows, name="three").save(path)
    return path


@pytest.fixture(scope="module")
def folder(
    data: Path, tiny_encoder: str, tiny_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A router of nano and maxi, fitted and calibrated through the command line."""
    out = tmp_path_factory.mktemp("pair") / "router"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYBRID_LLM_CACHE", str(tiny_cache))
        for args in (
            ["fit", data, "--candidates", "nano,maxi", "--out", out, "--encoder", tiny_encoder],
            ["calibrate", out, data],
        ):
            result = CliRunner().invoke(app, list(map(str, args)))
            assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def three(folder: Path, data: Path, tiny_cache: Path) -> Path:
    """The same with mini added and calibrated."""
    out = folder.parent / "three"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYBRID_LLM_CACHE", str(tiny_cache))
        args = ["add-candidate", folder, data, "--candidate", "mini", "--out", out]
        result = CliRunner().invoke(app, list(map(str, args)))
        assert "Candidates now: nano, mini, maxi (reference last)" in result.stdout
        assert f"Next: hybrid-llm calibrate {out} {data}" in result.stdout
        assert CliRunner().invoke(app, ["calibrate", str(out), str(data)]).exit_code == 0
    return out


def failed(result: Any, *said: str) -> None:
    assert result.exit_code == 1, result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    for words in said:
        assert words in last


def test_add_candidate_json(run, folder, data, tmp_path):
    args = ("--candidate", "mini", "--before", "nano", "--cost-usd", 0.0001, "--json")
    found = json.loads(run("add-candidate", folder, data, *args, "--out", tmp_path / "r").stdout)
    assert found["candidates"] == ["mini", "nano", "maxi"]
    assert (found["added"]["candidate"], found["added"]["n"]) == ("mini", 140)
    assert Router.from_pretrained(tmp_path / "r").costs_usd[0] == 0.0001


def test_adding_replaces_a_router_only_when_told_and_never_the_one_it_reads(
    run, folder, data, tmp_path
):
    out = tmp_path / "r"
    Router.from_pretrained(folder).save_pretrained(out)
    args = ("add-candidate", folder, data, "--candidate", "mini", "--out")
    failed(run(*args, out), "holds a router calibrated on 120 queries", "--force")
    failed(run(*args, folder, "--force"), "is the router that is read")
    other = ("calibrate", folder, data, "--candidates", "mini,maxi", "--force", "--out", folder)
    failed(run(*other), "is the router that is read")
    assert run(*args, out, "--force").exit_code == 0
    assert "mini" in Router.from_pretrained(out).candidates
    assert Router.from_pretrained(folder).candidates == ("nano", "maxi")


def test_what_came_to_stand_there_meanwhile_stays_and_the_router_is_kept(
    run, folder, data, tmp_path, monkeypatch
):
    out, add = tmp_path / "r", Router.add_candidate
    there = Router.from_pretrained(folder)

    def longer(*args, **options):
        there.save_pretrained(out)
        return add(*args, **options)

    monkeypatch.setattr(Router, "add_candidate", longer)
    args = ("add-candidate", folder, data, "--candidate", "mini", "--out", out)
    failed(run(*args), "it is not replaced", f"What was made is in {out}-1.")
    assert Router.from_pretrained(out).version == there.version
    assert "mini" in Router.from_pretrained(f"{out}-1").candidates


def test_route_between_three(run, three):
    found = [run("route", three, QUERY, "--threshold", at).stdout for at in ("-inf", "inf")]
    low, high = map(json.loads, found)
    assert (low["candidate"], high["candidate"]) == ("nano", "maxi")
    assert len(low["scores"]) == 2
    forced = json.loads(run("route", three, QUERY, "--route", "mini").stdout)
    assert (forced["candidate"], forced["index"]) == ("mini", 1)


def test_evaluate_shows_quality_against_cost(run, three, data):
    result = run("evaluate", three, data, "--full")
    for words in ("AIQ", "Each candidate alone", "The router's curve", "USD a call", "singles"):
        assert words in result.stdout
    found = json.loads(run("evaluate", three, data, "--json").stdout)["cost_quality"]
    assert found["unit"] == "usd"
    assert set(found["candidates"]) == {"nano", "mini", "maxi"}
    assert found["range"] == pytest.approx([0.001, 0.01])
    assert found["router"]["aiq"] > found["baselines"]["random"]["aiq"]
    assert found["curve"][0]["cost_advantage"] == 0.0


def test_costs_are_given_by_name(run, data, tiny_encoder, tmp_path):
    args = ["fit", data, "--candidates", "nano,mini,maxi", "--encoder", tiny_encoder]
    costs = ("--cost", "nano=0", "--cost", "mini=0.5", "--cost", "maxi=2")
    assert run(*args, *costs, "--out", tmp_path / "r").exit_code == 0
    assert Router.from_pretrained(tmp_path / "r").costs_usd == (0.0, 0.5, 2.0)
    other = ("--cost", "nano=0", "--cost", "mini=1", "--cost", "maxi=2")
    run("calibrate", tmp_path / "r", data, *other)
    assert Router.from_pretrained(tmp_path / "r").costs_usd == (0.0, 1.0, 2.0)


@pytest.mark.parametrize(
    ("costs", "said"),
    [
        (["nano"], "--cost is NAME=USD"),
        (["nano=cheap"], "--cost is NAME=USD"),
        (["nano=1", "maxi=2"], "got none for 'mini'"),
        (["nano=1", "mini=-1", "maxi=2"], "at least 0; got -1.0"),
        (["nano=1", "mini=3", "maxi=2"], "list the dearest model last"),
    ],
)
def test_wrong_costs(run, data, tmp_path, costs, said):
    given = [part for cost in costs for part in ("--cost", cost)]
    args = ("fit", data, "--candidates", "nano,mini,maxi", "--out", tmp_path / "r")
    failed(run(*args, *given), said)


def test_costs_missing_in_the_data(run, tmp_path):
    some = tmp_path / "some.jsonl"
    with_costs(three_models(30), nano=0.1, maxi=1.0).save(some)
    args = ("fit", some, "--candidates", "nano,mini,maxi", "--out", tmp_path / "r")
    failed(run(*args), "none for 'mini'", "give costs_usd=")


def test_a_negative_cost_in_the_data_names_its_line(run, tmp_path):
    bad = tmp_path / "bad.jsonl"
    nano = {"quality": [1], "cost_usd": -1}
    write_lines(bad, [{"id": "a", "query": "q", "outcomes": {"nano": nano}}])
    args = ("fit", bad, "--candidates", "nano,maxi", "--out", tmp_path / "r")
    failed(run(*args), "bad.jsonl, line 1", "cost_usd", "at least 0")


def test_transfer_says_what_to_do_and_why(run, folder, data):
    result = run("transfer", folder, data, "--candidates", "mini,maxi")
    for words in (
        "gap correlation",
        "score correlation",
        "stored setting",
        "recalibrated",
        "Rule:",
    ):
        assert words in result.stdout
    assert "No dial given: using the router's own, max_quality_drop=0.05" in result.stderr
    args = ("--candidates", "mini,maxi", "--max-quality-drop", 0.1, "--json")
    found = json.loads(run("transfer", folder, data, *args).stdout)
    assert found["recommendation"] in ("reuse", "recalibrate", "retrain")
    assert found["candidates"] == ["mini", "maxi"]
    assert (found["n"], found["shared"]) == (120, 120)
    assert found["dial"]["value"] == 0.1


def test_a_wrong_transfer(run, folder, data):
    failed(run("transfer", folder, data), "chooses between 2 candidates; got 3")
    failed(
        run("transfer", folder, data, "--candidates", "huge,maxi"), "no outcomes of candidate 'h"
    )
    both = ("--threshold", 0, "--cost-advantage", 0.5, "--candidates", "mini,maxi")
    failed(run("transfer", folder, data, *both), "One dial at a time")


def test_a_router_is_calibrated_for_other_models(run, folder, data, tmp_path):
    args = ("calibrate", folder, data, "--candidates", "mini,maxi")
    assert run(*args, "--out", tmp_path / "r").exit_code == 0
    found = Router.from_pretrained(tmp_path / "r")
    assert found.candidates == ("mini", "maxi")
    assert found.curve is not None
    assert found.costs_usd == pytest.approx((0.004, 0.01))
    refused = run(*args)
    assert refused.exit_code == 2
    assert "--out" in refused.output
    assert Router.from_pretrained(folder).candidates == ("nano", "maxi")


def test_tasks_are_those_of_the_training_and_the_calibration(fitted):
    assert known_tasks(fitted) == ["made/easy", "made/hard"]
    assert known_tasks(Router.bundled()) == []  # it counts its sources there
