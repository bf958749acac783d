"""`evaluate`: the verdict first, then the ladder and what needs no router; pictures."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from shared_router import Router, RoutingDataset
from shared_router.cli.commands import app
from tests.material import known_truth, with_costs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any


def invoke(*args: Any) -> Any:
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def folder(calibrated: Router, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("router") / "calibrated"
    calibrated.save_pretrained(out)
    return out


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "fresh.jsonl"
    made = known_truth(150, split="test", seed=21)
    with_costs(made, small=0.001, large=0.01).save(path)
    return path


@pytest.fixture(scope="module")
def judged(folder: Path, fresh: Path) -> Callable[..., Any]:
    """Evaluate on fresh queries."""
    return lambda *more: invoke("evaluate", folder, fresh, "--split", "test", *more)


def in_one_line(text: str) -> str:
    return " ".join(text.split())


def test_the_first_sentence_is_the_verdict(judged, folder, fresh):
    report = Router.from_pretrained(folder).evaluate(
        RoutingDataset.load(fresh), max_quality_drop=0.2
    )
    printed = in_one_line(judged("--max-quality-drop", "0.2").stdout)
    assert report.verdict is not None
    assert report.verdict.n == 150
    assert printed.startswith(in_one_line(report.verdict.sentence))


def test_below_it_stand_the_ladder_and_what_needs_no_router(judged):
    result = judged("--max-quality-drop", "0.03")
    assert result.exit_code == 0
    printed = in_one_line(result.stdout)
    for words in ("promised share", "estimated share", "$ per 1,000", "3 %", "10 %", "20 %"):
        assert words in printed
    for words in ("best model alone: large", "coin of the same cost", "router's lead"):
        assert words in printed
    assert "APGR" not in printed
    assert "--full" in printed


def test_a_limit_that_cannot_be_promised_is_trivially_held(judged):
    printed = in_one_line(judged("--max-quality-drop", "0.0001").stdout)
    assert printed.startswith(
        "Trivially held at confidence 0.9: max_quality_drop=0.0001 (no promise) was asked, and on "
        "150 queries that nobody fitted or calibrated on all goes to large"
    )


def test_without_a_dial_the_routers_own_is_judged(judged):
    assert "max_quality_drop=0.05" in in_one_line(judged().stdout)[:80]


def test_confidence_estimate_is_judged_too(judged):
    result = judged("--max-quality-drop", "0.05", "--confidence", "estimate", "--json")
    verdict = json.loads(result.stdout)["verdict"]
    assert (verdict["guarantee"], verdict["confidence"]) == ("estimated", 0.9)
    assert verdict["state"] in ("held", "not shown", "broken")


def test_calibration_queries_alone_judge_nothing(folder, calibrated, tmp_path):
    calibrated_on = known_truth(400, split="validation", seed=1)
    seen = calibrated_on.where(lambda record: record.id in calibrated.calibrated_ids)
    seen.save(tmp_path / "seen.jsonl")
    printed = in_one_line(invoke("evaluate", folder, tmp_path / "seen.jsonl").stdout)
    assert "no query is left that nobody fitted or calibrated on" in printed
    assert "of the calibration" in printed


def test_json_holds_the_verdict_and_all_that_is_drawn(judged):
    found = json.loads(judged("--max-quality-drop", "0.1", "--json").stdout)
    assert found["verdict"]["sentence"].endswith(".")
    low, high = found["verdict"]["drop_interval"]
    assert low <= found["verdict"]["drop"] <= high
    assert [rung["limit"] for rung in found["ladder"]] == [0.01, 0.02, 0.05, 0.1, 0.2]
    for rung in found["ladder"]:
        assert rung["promised_share"] <= rung["estimated_share"] + 0.05
        assert rung["promised_usd_per_1000"] <= 10 + 1e-9
    assert found["single_models"]["best"]["name"] == "large"
    assert sum(found["static_mix"]["shares"].values()) == pytest.approx(1)
    assert len(found["picture"]["shares"]) == len(found["picture"]["high"]) == 101
    kinds = [point["kind"] for point in found["picture"]["points"]]
    assert kinds == ["promised", "estimated", "candidate", "candidate", "mix"]


@pytest.mark.parametrize("name", ["report.png", "report.svg"])
def test_plot_draws_the_report(judged, tmp_path, name):
    result = judged("--max-quality-drop", "0.1", "--plot", tmp_path / name)
    assert result.exit_code == 0
    assert f"Drawn in {tmp_path / name}." in result.stderr
    drawn = (tmp_path / name).read_bytes()
    assert drawn.startswith(b"\x89PNG") or b"<svg" in drawn[:1000]


def test_plot_and_json_go_together(judged, tmp_path):
    result = judged("--plot", tmp_path / "report.svg", "--json")
    assert json.loads(result.stdout)["verdict"]["n"] == 150


def test_a_picture_is_replaced_only_when_told(judged, tmp_path):
    mine = tmp_path / "mine.png"
    mine.write_text("mine")
    result = judged("--plot", mine)
    assert (result.exit_code, mine.read_text()) == (1, "mine")
    assert "--force" in result.stderr
    assert judged("--plot", mine, "--force").exit_code == 0
    assert mine.read_bytes().startswith(b"\x89PNG")


def test_a_picture_of_another_kind_is_refused_before_any_work(judged, tmp_path):
    result = judged("--plot", tmp_path / "report.pdf")
    assert result.exit_code == 1
    assert "ends in .png or .svg; got 'report.pdf'" in result.stderr


def test_without_matplotlib_the_extra_is_named(judged, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = judged("--plot", tmp_path / "report.png")
    assert result.exit_code == 1
    assert "hybrid-llm[plot]" in result.stderr
    assert judged("--json").exit_code == 0


# -- escalation -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def answered(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same outcomes with responses: empty where the small model is wrong."""
    made = RoutingDataset.load(fresh)

    def with_responses(record: Any) -> Any:
        told = {
            name: each.model_copy(
                update={"response": tuple("four" * (q > 0) for q in each.quality)}
            )
            for name, each in record.outcomes.items()
        }
        return record.model_copy(update={"outcomes": told})

    path = tmp_path_factory.mktemp("data") / "answered.jsonl"
    RoutingDataset(tuple(map(with_responses, made)), name="answered").save(path)
    return path


def test_escalation_is_measured_on_recorded_responses(folder, answered):
    done = invoke("evaluate", folder, answered, "--split", "test", "--escalate", "empty,refused")
    assert done.exit_code == 0, done.output
    printed = in_one_line(done.stdout)
    assert "Escalation by empty, refused, on 150 queries with recorded responses" in printed
    assert "as many at random" in printed
    assert "a coin of the same cost" in printed
    assert "$ per 1,000" in printed
    asked = ["--cost-advantage", "0.5", "--json", "--escalate", "empty"]
    found = json.loads(invoke("evaluate", folder, answered, "--split", "test", *asked).stdout)
    assert found["escalation"]["gain"]["value"] > 0
    assert found["escalation"]["checks"] == ["empty"]


def test_a_function_of_the_users_checks_too(folder, answered, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_own_checks.py").write_text("def says_four(text): return text == 'four'\n")
    asked = ["--split", "test", "--escalate", "my_own_checks:says_four"]
    printed = in_one_line(invoke("evaluate", folder, answered, *asked).stdout)
    assert "Escalation by says_four" in printed


@pytest.mark.parametrize(
    ("checks", "said"),
    [
        ("emty", "did you mean 'empty'"),
        ("length", "do not tell what 'length' reads"),
        ("no_such_module:f", "cannot be imported"),
        ("json:no_such_name", "cannot be imported"),
    ],
)
def test_wrong_checks_are_refused_before_any_work(folder, answered, checks, said):
    done = invoke("evaluate", folder, answered, "--split", "test", "--escalate", checks)
    assert done.exit_code == 1
    assert said in in_one_line(done.output)


def test_data_without_responses_say_so(judged):
    done = judged("--escalate", "empty")
    assert done.exit_code == 1
    assert "outcomes without `response`" in in_one_line(done.output)
