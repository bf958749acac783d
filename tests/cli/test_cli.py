"""The command line, end to end on small real routers."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

import pytest
from typer.testing import CliRunner

from shared_router import Router, RoutingDataset
from shared_router.cli.commands import LabelName, app
from shared_router.cli.console import progress_line, strict, working
from shared_router.cli.tables import int8_line
from shared_router.collecting.report import CollectProgress
from shared_router.data.labels import LABEL_KINDS
from tests.material import by_retrieval, dataset, known_truth, record, with_costs, write_lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

QUERY = "please prove the theorem 17 today"


@pytest.fixture
def run(in_tiny_cache: Path) -> Callable[..., Any]:
    """Run a command in this process."""
    return lambda *args: CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a data file with both splits."""
    path = tmp_path_factory.mktemp("data") / "outcomes.jsonl.gz"
    both = (*known_truth(120), *known_truth(80, split="validation", seed=1))
    with_costs(RoutingDataset(both), small=0.001, large=0.01).save(path)
    return path


@pytest.fixture(scope="module")
def uncalibrated(
    data: Path, tiny_encoder: str, tiny_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Fit through the command line."""
    out = tmp_path_factory.mktemp("routers") / "fitted"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYBRID_LLM_CACHE", str(tiny_cache))
        args = ["fit", data, "--candidates", "small,large", "--out", out, "--encoder", tiny_encoder]
        result = CliRunner().invoke(app, list(map(str, args)))
    assert result.exit_code == 0, result.output
    assert f"Next: hybrid-llm calibrate {out} {data}" in result.stdout
    assert "120 queries" in result.stdout
    return out


@pytest.fixture(scope="module")
def folder(uncalibrated: Path, data: Path) -> Path:
    """Calibrate through the command line, into another folder."""
    out = uncalibrated.parent / "calibrated"
    result = CliRunner().invoke(app, ["calibrate", str(uncalibrated), str(data), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "max_quality_drop=0.05" in result.stdout
    return out


def test_fit_can_fine_tune(
    run: Callable[..., Any], data: Path, tiny_encoder: str, tmp_path: Path
) -> None:
    out = tmp_path / "tuned"
    common = ["fit", data, "--candidates", "small,large", "--encoder", tiny_encoder]
    result = run(*common, "--out", out, "--finetune", "--epochs", 1)
    assert result.exit_code == 0, result.output
    assert "fine-tuned" in result.stdout
    assert "dev loss" in result.stdout
    training = Router.from_pretrained(out).facts["training"]
    assert training["finetuning"]["settings"]["epochs"] == 1
    assert "tuned" in training["parts"]


def test_settings_of_fine_tuning_need_it(
    run: Callable[..., Any], data: Path, tmp_path: Path
) -> None:
    result = run("fit", data, "--candidates", "small,large", "--out", tmp_path / "r", "--epochs", 2)
    failed(result, "--epochs belongs to --finetune")


def test_fit_can_leave_out_facts_of_retrieval(
    run: Callable[..., Any], tiny_encoder: str, tmp_path: Path
) -> None:
    path, out = tmp_path / "mixed.jsonl", tmp_path / "router"
    rest = by_retrieval(40, seed=1, facts=False)
    dataset(*by_retrieval(60), *rest).save(path)
    fit = ["fit", path, "--candidates", "small,large", "--encoder", tiny_encoder, "--out", out]
    failed(run(*fit), "60 of 100 queries have facts of retrieval", "--no-retrieval")
    assert run(*fit, "--no-retrieval").exit_code == 0
    assert not Router.from_pretrained(out).sees_retrieval


def strict_json(text: str) -> dict:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def failed(result: Any, *said: str, code: int = 1) -> None:
    """Assert one clear line on stderr, nothing on stdout, no traceback."""
    assert result.exit_code == code
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert all(line.startswith(("error: ", "warning: ")) for line in lines), result.stderr
    for words in said:
        assert words in lines[-1]


def test_fit_json(run, data, tiny_encoder, tmp_path):
    args = ("--candidates", "small, large", "--encoder", tiny_encoder, "--name", "mine")
    more = ("--labels", "det", "--no-train-memory", "--seed", 3, "--task", "made", "--json")
    result = run("fit", data, *args, *more, "--out", tmp_path / "r")
    found = strict_json(result.stdout)
    assert set(found) == {"saved_in", "name", "version", "candidates", "labels", "training"}
    assert (found["name"], found["labels"], found["training"]["n"]) == ("mine", "det", 120)
    assert Router.from_pretrained(tmp_path / "r").train_memory is None


def test_the_older_name_of_an_option_says_the_newer(run, data, tiny_encoder, tmp_path):
    args = ("--candidates", "small,large", "--encoder", tiny_encoder, "--no-reference")
    result = run("fit", data, *args, "--out", tmp_path / "r")
    assert result.exit_code == 0
    assert "warning: --[no-]reference is deprecated: use --[no-]train-memory." in result.stderr
    assert Router.from_pretrained(tmp_path / "r").train_memory is None
    assert "--no-reference" not in run("fit", "--help").stdout


def test_calibrate_into_the_same_folder(run, uncalibrated, data, tmp_path):
    folder = tmp_path / "router"
    Router.from_pretrained(uncalibrated).save_pretrained(folder)
    found = strict_json(run("calibrate", folder, data, "--json").stdout)
    assert found["calibration"]["n"] == 80
    assert found["default_dial"] == {"name": "max_quality_drop", "value": 0.05}
    assert Router.from_pretrained(folder).curve.n == 80
    assert found["dials"][-1]["cost_advantage"] >= found["dials"][0]["cost_advantage"]


def test_evaluate_json_has_the_documented_keys(run, folder, data):
    found = strict_json(run("evaluate", folder, data, "--json").stdout)
    keys = {"n", "split", "candidates", "quality", "router", "baselines", "cost_quality"}
    first = {"verdict", "ladder", "single_models", "static_mix", "picture"}
    assert set(found) == keys | first
    assert set(found["baselines"]) == {"random", "query_length", "nearest_neighbours", "oracle"}
    for figures in (found["router"], *found["baselines"].values()):
        assert {"apgr", "cpt50", "cpt80"} <= set(figures)
        assert set(figures["cost_advantage_at_drop"]) == {"0", "0.01", "0.05"}
        assert set(figures["quality_drop_at_cost_advantage"]) == {"0.1", "0.2", "0.4"}
    assert (found["n"], found["split"]) == (80, "validation")


def test_evaluate_equals_the_library(run, folder, data):
    found = strict_json(run("evaluate", folder, data, "--json", "--cost-advantage", "0.4").stdout)
    held_out = RoutingDataset.load(data).split("validation")
    report = Router.from_pretrained(folder).evaluate(held_out, cost_advantage=0.4)
    assert found == json.loads(json.dumps(report.to_dict()))


def test_evaluate_prints_a_table_and_the_dial(run, folder, data):
    short = run("evaluate", folder, data, "--max-quality-drop", "0.05")
    assert "APGR" not in short.stdout
    result = run("evaluate", folder, data, "--max-quality-drop", "0.05", "--full")
    assert result.exit_code == 0
    assert result.stdout.startswith(short.stdout[:200])
    for words in ("APGR", "router's lead", "oracle", "CPT 80 %", "At max_quality_drop=0.05"):
        assert words in result.stdout
    assert "large (reference)" in result.stdout


def test_infinite_threshold_is_strict_json(run, folder, data):
    found = strict_json(run("evaluate", folder, data, "--json", "--threshold", "-inf").stdout)
    assert found["dial"]["threshold"] == "-Infinity"
    assert found["dial"]["cost_advantage"] == 1.0
    decision = strict_json(run("route", folder, QUERY, "--threshold", "inf").stdout)
    assert (decision["candidate"], decision["threshold"]) == ("large", "Infinity")


@pytest.mark.parametrize(
    "dial",
    ["--threshold=-0.1", "--max-quality-drop=0.1", "--max-quality-drop-absolute=0.1",
     "--cost-advantage=0.5"],
)  # fmt: skip
def test_route_takes_every_dial(run, folder, dial):
    result = run("route", folder, QUERY, dial)
    decision = strict_json(result.stdout)
    assert decision["dial"] == dial[2:].split("=")[0].replace("-", "_")
    assert decision["reason"] == "score"
    assert result.stderr == ""


def test_route_says_which_dial_is_used_when_none_is_given(run, folder):
    result = run("route", folder, QUERY, "--task", "made/hard")
    assert "max_quality_drop=0.05" in result.stderr
    assert strict_json(result.stdout)["task"] == "made/hard"


def test_route_can_be_forced(run, folder):
    decision = strict_json(run("route", folder, QUERY, "--route", "small").stdout)
    assert (decision["candidate"], decision["reason"]) == ("small", "forced")


def test_the_sole_split_is_used_and_said(run, folder, tmp_path):
    only = tmp_path / "only.jsonl"
    known_truth(40, split="dev", seed=5).save(only)
    result = run("evaluate", folder, only, "--json")
    assert strict_json(result.stdout)["split"] == "dev"
    assert result.stderr.splitlines() == [
        "only.jsonl: no split 'validation'; using the sole one present, 'dev'."
    ]


def test_an_absent_split_among_several_is_an_error(run, folder, data):
    result = run("evaluate", folder, data, "--split", "dev")
    failed(result, "no split 'dev'", "'train', 'validation'")


def test_evaluate_on_every_split_leaves_out_what_was_seen(
    run: Callable[..., Any], folder: Path, data: Path
) -> None:
    refused = run("evaluate", folder, data, "--split", "all")
    assert refused.exit_code == 1
    assert "--skip-seen" in refused.stderr
    result = run("evaluate", folder, data, "--split", "all", "--skip-seen", "--json")
    assert "Left out 120 queries that the router has seen; 80 remain." in result.stderr
    assert json.loads(result.stdout)["n"] == 80


def test_warnings_are_one_line_each(run, folder, tmp_path):
    leaking = tmp_path / "leaking.jsonl"
    rows = known_truth(30, split="validation", seed=6).records
    extra = record("x", rows[0].query, "train", small=1, large=1)
    dataset(*rows, extra, record("y", "lacks one", "validation", large=1)).save(leaking)
    lines = run("evaluate", folder, leaking).stderr.splitlines()
    assert len(lines) == 2
    assert "stand in two splits" in lines[0]
    assert "1 of 31 queries lack an outcome" in lines[1]
    assert all(line.startswith("warning: leaking.jsonl: ") for line in lines)


def test_a_missing_file(run, folder):
    failed(run("evaluate", folder, "nowhere.jsonl"), "nowhere.jsonl: no such data file")


def test_a_bad_line_names_file_line_field_and_rule(run, folder, tmp_path):
    bad = {"id": "b", "query": "q", "outcomes": {"small": {"quality": []}}}
    path = write_lines(tmp_path / "bad.jsonl", [bad])
    said = ("bad.jsonl, line 1", "outcomes.small.quality", "at least 1")
    failed(run("evaluate", folder, path), *said)


@pytest.mark.parametrize("command", ["evaluate", "route"])
def test_two_dials(run, folder, data, command):
    what = data if command == "evaluate" else QUERY
    result = run(command, folder, what, "--threshold", "0", "--cost-advantage", "0.5")
    failed(result, "One dial at a time", "threshold=0.0, cost_advantage=0.5")


@pytest.mark.parametrize("value", ["1.5", "-0.1", "nan"])
def test_a_dial_out_of_range(run, folder, value):
    failed(run("route", folder, QUERY, "--max-quality-drop", value), "between 0 and 1", value)


def test_a_quality_dial_needs_a_calibration(run, uncalibrated, data):
    dial = ("--max-quality-drop", "0.05")
    failed(run("route", uncalibrated, QUERY, *dial), "not calibrated")
    failed(run("evaluate", uncalibrated, data, *dial), "not calibrated")


@pytest.mark.parametrize(
    ("names", "said"),
    [("small,huge", "no outcomes of candidate 'huge'"), ("large", "at least two candidates"),
     ("large,large", "named once")],
)  # fmt: skip
def test_wrong_candidates(run, data, tmp_path, names, said):
    result = run("fit", data, "--candidates", names, "--out", tmp_path / "r")
    failed(result, said)
    assert not (tmp_path / "r").exists()


def test_a_target_that_is_no_router_is_refused_before_work(run, data, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for out in (tmp_path, tmp_path / "notes.txt"):
        failed(run("fit", data, "--candidates", "small,large", "--out", out), "empty folder")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_calibrated_router_is_replaced_only_when_told(run, folder, data, tiny_encoder, tmp_path):
    out = tmp_path / "router"
    Router.from_pretrained(folder).save_pretrained(out)
    fit = ("fit", data, "--candidates", "small,large", "--encoder", tiny_encoder, "--out", out)
    failed(run(*fit), "holds a router calibrated on 80 queries; it is not replaced", "--force")
    failed(run("calibrate", folder, data, "--out", out), "calibrated on 80 queries", "--force")
    assert Router.from_pretrained(out).curve is not None
    assert run(*fit, "--force").exit_code == 0
    assert Router.from_pretrained(out).curve is None
    failed(run(*fit), "holds a router not calibrated; it is not replaced")
    assert run("calibrate", folder, data, "--out", out, "--force").exit_code == 0


def test_force_deletes_no_file_that_is_no_router_s(run, folder, data, tmp_path):
    out = tmp_path / "router"
    Router.from_pretrained(folder).save_pretrained(out)
    (out / "notes.txt").write_text("mine")
    args = ("fit", data, "--candidates", "small,large", "--force", "--out")
    failed(run(*args, out), "notes.txt", "would be deleted")
    failed(run(*args, data), "a file; choose a new or an empty folder")
    assert (out / "notes.txt").read_text() == "mine"


def after(monkeypatch, method, act):
    """Let something happen while a command is at its work."""
    work = getattr(Router, method)

    def longer(*args, **options):
        made = work(*args, **options)
        act()
        return made

    monkeypatch.setattr(Router, method, staticmethod(longer) if method == "fit" else longer)


@pytest.mark.parametrize("theirs", ["router", "notes.txt", ""])
def test_what_came_to_stand_there_meanwhile_stays_and_the_router_is_kept(
    run, folder, data, tiny_encoder, tmp_path, monkeypatch, theirs
):
    out = tmp_path / "router"
    there = Router.from_pretrained(folder)

    def act():
        if theirs == "router":
            there.save_pretrained(out)
        elif theirs:
            out.mkdir()
            (out / theirs).write_text("mine")
        else:
            out.write_text("mine")

    after(monkeypatch, "fit", act)
    fit = ("fit", data, "--candidates", "small,large", "--encoder", tiny_encoder, "--out", out)
    failed(run(*fit), f"{out}: ", f"What was made is in {out}-1.")
    assert Router.from_pretrained(f"{out}-1").curve is None
    if theirs == "router":
        assert Router.from_pretrained(out).version == there.version
    assert sorted(left.name for left in tmp_path.iterdir()) == ["router", "router-1"]


def test_what_came_to_stand_there_while_calibrating_elsewhere_stays(
    run, uncalibrated, data, tmp_path, monkeypatch
):
    out, other = tmp_path / "router", Router.from_pretrained(uncalibrated)
    after(monkeypatch, "calibrate", lambda: other.save_pretrained(out))
    said = "holds a router not calibrated; it is not replaced"
    failed(run("calibrate", uncalibrated, data, "--out", out), said, f"{out}-1.")
    assert Router.from_pretrained(out).version == other.version
    assert Router.from_pretrained(f"{out}-1").curve is not None


def test_a_router_that_was_replaced_while_it_was_calibrated_stays(
    run, folder, uncalibrated, data, tmp_path, monkeypatch
):
    out, other = tmp_path / "router", Router.from_pretrained(folder)
    Router.from_pretrained(uncalibrated).save_pretrained(out)
    after(monkeypatch, "calibrate", lambda: replace(other, name="new").save_pretrained(out))
    said = "holds another router than the one that was read; it is not replaced"
    failed(run("calibrate", out, data), said, f"What was made is in {out}-1.")
    assert Router.from_pretrained(out).name == "new"
    assert Router.from_pretrained(f"{out}-1").curve is not None
    assert run("calibrate", out, data, "--force").exit_code == 0


def test_calibrating_a_folder_goes_on_and_says_so(run, uncalibrated, data, tmp_path):
    out = tmp_path / "router"
    Router.from_pretrained(uncalibrated).save_pretrained(out)
    assert run("calibrate", out, data).stderr == ""
    said = f"Replacing the calibration on 80 queries that {out} holds."
    assert said in run("calibrate", out, data).stderr
    assert said in run("calibrate", out, data, "--out", out, "--json").stderr


def test_corrupt_and_missing_routers(run, folder, tmp_path):
    broken = tmp_path / "broken"
    Router.from_pretrained(folder).save_pretrained(broken)
    (broken / "graph.onnx").write_bytes(b"short")
    failed(run("route", broken, QUERY), "graph.onnx", "corrupt")
    failed(run("route", tmp_path / "none", QUERY), "no such folder")


def test_calibrating_on_fitted_queries_is_refused(run, uncalibrated, data):
    failed(run("calibrate", uncalibrated, data, "--split", "train"), "were fitted on")


@pytest.mark.parametrize(
    "args",
    [("fit",), ("nonsense",), ("route", "r"), ("route", "r", "q", "--threshold", "many"),
     ("fit", "d", "--candidates", "a,b", "--out", "o", "--labels", "soft")],
)  # fmt: skip
def test_usage_errors_exit_with_2(run, args):
    result = run(*args)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_interrupting_exits_with_130(run, folder, monkeypatch):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Router, "from_pretrained", interrupt)
    result = run("route", folder, QUERY)
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")


def test_an_unexpected_error_is_one_line_too(run, folder, monkeypatch):
    def break_down(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Router, "from_pretrained", break_down)
    failed(run("route", folder, QUERY), "unexpected RuntimeError: a bug", "--debug")


@pytest.mark.parametrize("where", ["option first", "option last", "environment"])
def test_debug_shows_the_traceback(tmp_path, where):
    args = ["route", str(tmp_path), QUERY]
    args = {"option first": ["--debug", *args], "option last": [*args, "--debug"]}.get(where, args)
    result = CliRunner(env={"HYBRID_LLM_DEBUG": "1"} if where == "environment" else {}).invoke(
        app, args
    )
    assert type(result.exception).__name__ == "ArtifactError"


def test_a_query_that_looks_like_an_option(run, folder):
    result = run("route", folder, "--threshold", "0", "--", "--debug")
    assert strict_json(result.stdout)["query_length"] == len("--debug")


def test_version_and_help(run):
    assert run("--version").stdout.startswith("hybrid-llm 0.")
    for args in ((), ("fit",), ("calibrate",), ("evaluate",), ("route",), ("score",), ("judge",)):
        assert run(*args, "--help").exit_code == 0


def test_importing_the_command_line_is_light():
    code = (
        "import sys, shared_router.cli; heavy = {'torch', 'transformers', 'onnxruntime', 'numpy', "
        "'scipy', 'langchain_core'}; sys.exit(str(heavy & set(sys.modules) or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_label_names_are_those_of_the_library():
    assert get_args(LabelName) == LABEL_KINDS


def test_strict_replaces_what_json_lacks():
    inf, nan = float("inf"), float("nan")
    assert strict({1: (inf, -inf, nan, 0.5), "b": None}) == {
        "1": ["Infinity", "-Infinity", None, 0.5],
        "b": None,
    }


def test_progress_is_shown_only_on_a_terminal(monkeypatch, capsys):
    with working("fitting") as progress:
        assert progress is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with working("fitting") as progress:
        progress("embed", 3, 10)
        progress("embed", 10, 10)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "3/9, 1.5/s"),
        ({"eta_s": 61.0}, "3/9, 1.5/s, 0:01:01 left"),
        ({"spent_usd": 0.25, "failed": 2}, "3/9, 1.5/s, $0.2500, 2 failed"),
    ],
)
def test_progress_in_one_line(more, said):
    now = CollectProgress(
        **{"done": 3, "total": 9, "calls_per_second": 1.5, "eta_s": None, "spent_usd": 0.0,
           "failed": 0} | more
    )  # fmt: skip
    assert progress_line(now) == said


def test_a_split_called_test_is_not_learned_from_unasked(run, uncalibrated, tmp_path):
    path, out = tmp_path / "test.jsonl", tmp_path / "out"
    known_truth(90, split="test", seed=5).save(path)
    failed(run("calibrate", uncalibrated, path, "--out", out), "'test' alone is kept for evaluate")
    assert run("calibrate", uncalibrated, path, "--out", out, "--split", "test").exit_code == 0


def test_a_router_of_probabilities_says_what_its_scores_mean(run, data, tiny_encoder, tmp_path):
    args = ("--candidates", "small,large", "--encoder", tiny_encoder, "--labels", "det")
    result = run("fit", data, *args, "--no-int8", "--out", tmp_path / "r")
    assert "serving" not in result.stdout
    result = run("route", tmp_path / "r", "greet the visitor")
    assert result.exit_code == 0


def test_what_int8_does_is_said():
    assert (
        int8_line({"spearman": None, "n": 3}) == "float32 (too few queries to compare int8 on: 3)"
    )
    assert int8_line({"spearman": 0.99, "kept": True}).startswith("int8 (rank correlation")


def test_under_torchrun_the_first_process_alone_saves(
    run, data, tiny_encoder, tmp_path, monkeypatch
):
    monkeypatch.setenv("RANK", "1")
    args = ("--candidates", "small,large", "--encoder", tiny_encoder, "--out", tmp_path / "r")
    result = run("fit", data, *args)
    assert (result.exit_code, result.stdout) == (0, "")
    assert not (tmp_path / "r").exists()


def test_a_figure_that_is_undefined_says_why(run, folder, tmp_path):
    rows = [record(r.id, r.query, small=1.0, large=0.5) for r in known_truth(60, split="v", seed=9)]
    dataset(*rows).save(tmp_path / "data.jsonl")
    result = run("evaluate", folder, tmp_path / "data.jsonl", "--split", "all", "--full")
    assert "undefined, " in result.stdout
