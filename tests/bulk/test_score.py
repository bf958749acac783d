"""Scoring a log, on one machine: the same scores and decisions as serving, whole or not at all."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from shared_router import Dial, Router
from shared_router.bulk.runner import AHEAD, LocalRunner, map_in_order
from shared_router.bulk.runners import runner_named
from shared_router.bulk.score import score_file
from shared_router.collecting.sources import stream_queries
from shared_router.errors import ConfigurationError, DataError, NotCalibratedError
from shared_router.serving.scorer import GraphScorer
from shared_router.testing import fixed_router
from tests.bulk.conftest import failed, lines_of
from tests.bulk.killing import score_through_kills
from tests.material import write_lines

DIALS = [
    Dial("threshold", -0.1),
    Dial("cost_advantage", 0.5),
    Dial("max_quality_drop", 0.05),
    Dial("max_quality_drop_absolute", 0.03),
    Dial("threshold", float("inf")),
]


class Silent(GraphScorer):
    """A router's graph that must not be asked."""

    def score(self, texts, progress=None):
        raise AssertionError("scored")


def fields_of(scorer):
    return {name.name: getattr(scorer, name.name) for name in dataclasses.fields(scorer)}


def only(candidate, rows):
    return [row["id"] for row in rows if row["candidate"] == candidate]


@pytest.mark.parametrize("dial", DIALS, ids=lambda dial: f"{dial.name}={dial.value:g}")
def test_every_query_is_decided_as_it_would_be_served(calibrated, log, tmp_path, dial):
    report = score_file(calibrated, log, tmp_path / "out.jsonl", dial=dial)
    queries, rows = list(stream_queries(log)), lines_of(tmp_path / "out.jsonl")
    assert [row["id"] for row in rows] == [query.id for query in queries]
    for query, row in zip(queries, rows, strict=True):
        served = calibrated.decide(query.text, **{dial.name: dial.value})
        assert row["candidate"] == served.candidate
        assert (np.float32(row["scores"]["small"]),) == served.scores
        assert row["length"] == served.query_length
        assert row["router"] == served.router_version
    assert report.threshold == served.threshold
    assert report.chosen == {name: len(only(name, rows)) for name in ("small", "large")}


def test_the_router_s_own_dial_is_said_and_text_is_kept_only_on_demand(run, router_folder, log):
    out = log.parent / "out.jsonl"
    result = run("score", router_folder, log, out)
    assert result.exit_code == 0, result.output
    assert "using the router's own, max_quality_drop=0.05" in result.stderr
    assert "Scored 90 queries" in result.stdout
    always = {"id", "candidate", "scores", "length", "guarantee", "router"}
    assert set(lines_of(out)[0]) == always
    result = run("score", router_folder, log, out, "--text", "--threshold", "0", "--force")
    assert result.stderr == ""
    assert lines_of(out)[0]["text"] == next(stream_queries(log)).text


def test_json_and_gzip(run, router_folder, log):
    out = log.parent / "out.jsonl.gz"
    result = run("score", router_folder, log, out, "--cost-advantage", "0.5", "--json")
    found = json.loads(result.stdout)
    rows = lines_of(out)
    assert (found["queries"], found["scored"], found["failed"]) == (90, 90, 0)
    assert (found["dial"], found["dial_value"]) == ("cost_advantage", 0.5)
    assert found["chosen"]["small"] == len(only("small", rows))
    assert found["out"] == str(out)


@pytest.mark.parametrize("ending", ["txt", "csv", "jsonl", "txt.gz"])
def test_a_log_in_any_format(calibrated, tmp_path, ending):
    texts = {
        "txt": "please prove the theorem 17\nname the capital city\n",
        "csv": 'query,user\n"please prove the theorem 17",me\nname the capital city,me\n',
        "jsonl": '{"query": "please prove the theorem 17"}\n{"query": "name the capital city"}\n',
    }
    log, text = tmp_path / f"log.{ending}", texts[ending.removesuffix(".gz")]
    log.write_bytes(gzip.compress(text.encode()) if ending.endswith("gz") else text.encode())
    report = score_file(calibrated, log, tmp_path / "out.jsonl")
    assert (report.queries, report.failed) == (2, 0)
    expected = calibrated.score(["please prove the theorem 17", "name the capital city"])[:, 0]
    found = [row["scores"]["small"] for row in lines_of(tmp_path / "out.jsonl")]
    np.testing.assert_array_equal(np.array(found, dtype=np.float32), expected)


def test_deciding_anew_scores_nothing(calibrated, log, tmp_path):
    first, again, direct = (tmp_path / name for name in ("1.jsonl.gz", "2.jsonl", "3.jsonl"))
    score_file(calibrated, log, first, dial=Dial("threshold", float("inf")))
    silent = dataclasses.replace(calibrated, scorer=Silent(**fields_of(calibrated.scorer)))
    report = score_file(silent, first, again, dial=Dial("cost_advantage", 0.4))
    assert (report.queries, report.scored) == (90, 0)
    score_file(calibrated, log, direct, dial=Dial("cost_advantage", 0.4))
    assert again.read_bytes() == direct.read_bytes()


def test_three_candidates(log, tmp_path):
    def score(text):
        return [len(text) % 7 / 7 - 0.5, len(text) % 5 / 5 - 0.5]

    router = fixed_router(score, candidates=("tiny", "small", "large"))
    score_file(router, log, tmp_path / "out.jsonl", dial=Dial("threshold", 0.1))
    rows = lines_of(tmp_path / "out.jsonl")
    for query, row in zip(stream_queries(log), rows, strict=True):
        assert row["candidate"] == router.decide(query.text, threshold=0.1).candidate
        assert list(row["scores"]) == ["tiny", "small"]
    again = tmp_path / "again.jsonl"
    score_file(router, tmp_path / "out.jsonl", again, dial=Dial("threshold", -0.3))
    chosen = [router.decide(q.text, threshold=-0.3).candidate for q in stream_queries(log)]
    assert [row["candidate"] for row in lines_of(again)] == chosen
    assert len(set(chosen)) > 1


def test_what_cannot_be_scored_goes_to_the_reference_and_is_recorded(log, tmp_path):
    def score(text):
        if "no. 3" in text:
            raise RuntimeError("the text of a query")
        return float("nan") if "no. 4" in text else 0.5

    report = score_file(fixed_router(score), log, tmp_path / "out.jsonl")
    rows = lines_of(tmp_path / "out.jsonl")
    bad = [row for row in rows if row["scores"] is None]
    assert report.failed == len(bad) == 22
    assert {row["candidate"] for row in bad} == {"large"}
    assert {row["error"] for row in bad} == {"RuntimeError", "ScoringError"}
    again = score_file(fixed_router(), tmp_path / "out.jsonl", tmp_path / "again.jsonl")
    assert again.failed == 22
    assert lines_of(tmp_path / "again.jsonl") == rows


def test_half_an_emoji_is_a_query(calibrated, tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text('{"query": "half an emoji \\ud83d"}\n')
    score_file(calibrated, log, tmp_path / "out.jsonl", keep_text=True)
    assert lines_of(tmp_path / "out.jsonl")[0]["text"] == "half an emoji \ud83d"


def test_little_is_read_ahead_and_the_order_is_kept():
    read = []

    def rows():
        for i in range(10_000):
            read.append(i)
            yield {"i": i}

    results = map_in_order(lambda row: {"twice": 2 * row["i"]}, rows(), threads=3)
    assert [next(results)["twice"] for _ in range(5)] == [0, 2, 4, 6, 8]
    assert len(read) <= 3 * AHEAD + 5
    results.close()


def test_reading_a_log_holds_little_of_it(tmp_path):
    log = tmp_path / "log.txt"
    log.write_text("a query\n" * 50_000)
    queries = stream_queries(log)
    assert next(queries).text == "a query"
    log.write_text("")  # what was not read yet cannot have been held
    assert sum(1 for _ in queries) < 5_000


# -- what is refused ------------------------------------------------------------------------------


def test_a_malformed_row_is_told_before_the_work(run, router_folder, tmp_path):
    good = [{"query": f"question {i}"} for i in range(500)]
    log = write_lines(tmp_path / "log.jsonl", [*good, '{"query": 3}'])
    out = tmp_path / "out.jsonl"
    failed(run("score", router_folder, log, out), "log.jsonl, line 501", "must be text; got int")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b'{"query": "a"}\nnot json\n', "line 2: not JSON"),
        (b'{"query": "a"}\n{"text": "b"}\n', "line 2: field query"),
        (b'{"id": "x", "query": "a"}\n{"id": "x", "query": "b"}\n', "line 2: id 'x' stands twice"),
        (b'{"query": "a"}\n\xff\xfe', "cannot be read"),
        (b"[" * 100_000, "line 1: numbers of thousands of digits"),
    ],
)
def test_malformed_logs(run, router_folder, tmp_path, content, said):
    (tmp_path / "log.jsonl").write_bytes(content)
    failed(run("score", router_folder, tmp_path / "log.jsonl", tmp_path / "out.jsonl"),
           "log.jsonl", said)  # fmt: skip
    assert not (tmp_path / "out.jsonl").exists()


def test_gzip_cut_short_and_corrupt(run, router_folder, tmp_path):
    log = tmp_path / "log.txt.gz"
    whole = gzip.compress(b"".join(f"question {i * i}\n".encode() for i in range(5000)))
    for content in (whole[:-3000], whole[:2000] + b"\0" * 500 + whole[2500:]):
        log.write_bytes(content)
        result = run("score", router_folder, log, tmp_path / "out.jsonl")
        failed(result, "log.txt.gz, after line", "cannot be read")


def test_a_log_that_is_missing_or_no_file(run, router_folder, tmp_path):
    out = tmp_path / "out.jsonl"
    failed(run("score", router_folder, tmp_path / "none.txt", out), "none.txt: no such file")
    failed(run("score", router_folder, tmp_path, out), "no regular file")
    os.mkfifo(tmp_path / "pipe")
    failed(run("score", router_folder, tmp_path / "pipe", out), "no regular file")


def test_an_unreadable_router(run, log, tmp_path):
    out = tmp_path / "out.jsonl"
    failed(run("score", tmp_path / "none", log, out), "no such folder")
    (tmp_path / "empty").mkdir()
    failed(run("score", tmp_path / "empty", log, out), "empty")
    assert not out.exists()


def test_a_router_replaced_while_it_works(calibrated, log, tmp_path):
    folder = tmp_path / "router"
    calibrated.save_pretrained(folder)
    router = Router.from_pretrained(folder)
    (folder / "graph.onnx").write_bytes(b"another")
    score_file(router, log, tmp_path / "out.jsonl")
    score_file(calibrated, log, tmp_path / "same.jsonl")
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "same.jsonl").read_bytes()


def test_the_log_is_not_overwritten(run, router_folder, log, tmp_path):
    before = log.read_bytes()
    failed(run("score", router_folder, log, log), "is the file that is read")
    (tmp_path / "link.jsonl").symlink_to(log)
    failed(run("score", router_folder, log, tmp_path / "link.jsonl"), "is the file that is read")
    scored = tmp_path / "scored.jsonl"
    assert run("score", router_folder, log, scored).exit_code == 0
    failed(run("score", router_folder, scored, scored), "is the file that is read")
    assert log.read_bytes() == before


@pytest.mark.parametrize("content", [b"my notes\n", b'{"id": "1"}\n', b"\x1f\x8b\0\xff", b"[1]\n"])
def test_another_kind_of_file_is_not_overwritten(run, router_folder, log, tmp_path, content):
    out = tmp_path / "mine.jsonl"
    out.write_bytes(content)
    failed(run("score", router_folder, log, out), "holds a file of another kind", "not replaced")
    assert out.read_bytes() == content


def test_an_earlier_output_is_replaced_only_when_told(run, router_folder, log, tmp_path):
    out = tmp_path / "out.jsonl"
    out.touch()
    assert run("score", router_folder, log, out, "--threshold", "inf").exit_code == 0
    failed(run("score", router_folder, log, out, "--threshold=-inf"),
           "holds an output of score; it is not replaced", "--force")  # fmt: skip
    assert only("small", lines_of(out)) == []
    assert run("score", router_folder, log, out, "--threshold=-inf", "--force").exit_code == 0
    assert len(only("small", lines_of(out))) == 90
    failed(run("score", router_folder, out, out, "--force"), "is the file that is read")


class Meddling(LocalRunner):
    """Lets someone change the log between its two readings."""

    def __init__(self, act):
        super().__init__()
        object.__setattr__(self, "act", act)

    def map(self, work, rows, total):
        self.act()
        yield from super().map(work, rows, total)


def appended(log):
    with log.open("a") as lines:
        lines.writelines(f'{{"query": "late {i}"}}\n' for i in range(25))


def edited(log):
    was, text = log.stat(), log.read_text()
    log.write_text(text.replace("0", "1"))
    os.utime(log, ns=(was.st_atime_ns, was.st_mtime_ns))


def rotated(log):
    log.replace(log.with_name("log.1"))
    log.write_text('{"query": "a new day"}\n')


CHANGES = {
    "appended to": appended,
    "cut": lambda log: log.write_text("".join(log.read_text().splitlines(keepends=True)[:40])),
    "cut within a line": lambda log: os.truncate(log, log.stat().st_size - 5),
    "edited in place": edited,
    "rotated": rotated,
    "copied and cut": lambda log: os.truncate(log, 0),
    "removed": Path.unlink,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_log_that_changes_between_its_readings_is_told(log, tmp_path, change):
    out, engine = tmp_path / "out.jsonl", Meddling(lambda: CHANGES[change](log))
    with pytest.raises(DataError, match=r"log\.jsonl: changed while it was read.*nothing was"):
        score_file(fixed_router(), log, out, runner=engine)
    assert not out.exists()


def test_a_log_that_grows_while_it_is_scored_is_told(log, tmp_path):
    with pytest.raises(DataError, match="changed while it was read"):
        score_file(fixed_router(), log, tmp_path / "out.jsonl", runner=LocalRunner(1),
                   progress=lambda now: now.done == 50 and appended(log))  # fmt: skip
    assert not (tmp_path / "out.jsonl").exists()


def test_what_came_to_stand_there_meanwhile_stays(log, tmp_path):
    out = tmp_path / "out.jsonl"
    with pytest.raises(DataError, match=r"it is not replaced.*What was made is in .*out-1\.jsonl"):
        score_file(fixed_router(), log, out, progress=lambda _: out.write_text("theirs"))
    assert out.read_text() == "theirs"
    assert len(lines_of(tmp_path / "out-1.jsonl")) == 90


@pytest.mark.skipif(os.name == "nt", reason="no such device there")
@pytest.mark.parametrize("to", ["a pipe", "a file"])
def test_standard_output_is_an_output(router_folder, log, tmp_path, in_tiny_cache, to):
    held = tmp_path / "held.jsonl"
    code = "from shared_router.cli import app; app()"
    command = [sys.executable, "-c", code, "score", router_folder, log, "/dev/stdout"]
    with held.open("wb") as file:
        done = subprocess.run(command, stdout=subprocess.PIPE if to == "a pipe" else file,
                              stderr=subprocess.PIPE, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    if to == "a pipe":
        held.write_text(done.stdout)
    assert len(lines_of(held)) == 90
    assert "Saved in /dev/stdout" in done.stderr


def test_an_output_that_cannot_be_written(run, router_folder, log, tmp_path):
    result = run("score", router_folder, log, tmp_path / "none" / "out.jsonl")
    failed(result, "its folder does not exist")
    failed(run("score", router_folder, log, tmp_path), "is no regular file")


def test_no_permission(calibrated, nobody):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "log.txt").write_text("a query\n")
        folder.chmod(0o500)
        with pytest.raises(DataError, match="cannot be written"):
            score_file(calibrated, folder / "log.txt", folder / "out.jsonl")
        folder.chmod(0o700)


def test_scores_of_another_router(run, router_folder, log, tmp_path):
    scored = tmp_path / "scored.jsonl"
    score_file(fixed_router(), log, scored)
    result = run("score", router_folder, scored, tmp_path / "out.jsonl")
    failed(result, "line 1: scored by router 'custom'", "score the queries themselves")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"scores": {"other": 1.0}}, "a finite number for each of small"),
        ({"scores": {"small": "high"}}, "a finite number for each of small"),
        ({"scores": {"small": True}}, "a finite number for each of small"),
        ({"length": True}, "has an id and a length"),
        ({"scores": {"small": float("inf")}}, "a finite number for each of small"),
        ({"scores": [1.0]}, "a finite number for each of small"),
        ({"id": 3}, "has an id and a length"),
        ({"length": None}, "has an id and a length"),
    ],
)
def test_scores_that_were_edited(log, tmp_path, changed, said):
    scored = tmp_path / "scored.jsonl"
    score_file(fixed_router(), log, scored)
    rows = lines_of(scored)
    write_lines(scored, [rows[0], rows[1] | changed])
    with pytest.raises(DataError, match="line 2") as caught:
        score_file(fixed_router(), scored, tmp_path / "out.jsonl")
    assert said in str(caught.value)


def test_wrong_options(run, router_folder, log, fitted, tmp_path):
    out = tmp_path / "out.jsonl"
    two = ("--threshold", "0", "--cost-advantage", "0.5")
    failed(run("score", router_folder, log, out, *two), "One dial at a time")
    failed(run("score", router_folder, log, out, "--workers", 0), "workers is at least 1")
    failed(run("score", router_folder, log, out, "--ray-address", "auto"), "is for --runner ray")
    assert run("score", router_folder, log, out, "--runner", "spark").exit_code == 2
    with pytest.raises(ConfigurationError, match="one of local, ray; got 'spark'"):
        runner_named("spark")
    with pytest.raises(NotCalibratedError):
        score_file(fitted, log, out, dial=Dial("cost_advantage", 0.5))
    assert not out.exists()


def test_the_older_name_of_the_runner_says_the_newer(run, router_folder, log, tmp_path):
    result = run("score", router_folder, log, tmp_path / "out.jsonl", "--engine", "local")
    assert result.exit_code == 0
    assert "warning: --engine is deprecated: use --runner." in result.stderr
    failed(
        run("score", router_folder, log, tmp_path / "2.jsonl", "--engine", "ray",
            "--ray-address", "ray://head:10001"),
        "--ray-address is 'auto' or HOST:PORT",
    )  # fmt: skip


def test_the_number_of_workers_changes_nothing(calibrated, log, tmp_path):
    for workers in (1, 5):
        out = tmp_path / f"{workers}.jsonl"
        score_file(calibrated, log, out, runner=LocalRunner(workers))
    assert (tmp_path / "1.jsonl").read_bytes() == (tmp_path / "5.jsonl").read_bytes()


def test_a_run_that_breaks_leaves_the_older_output(calibrated, log, tmp_path):
    out = tmp_path / "out.jsonl"
    score_file(calibrated, log, out)
    before = out.read_bytes()

    def interrupt(now):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_file(calibrated, log, out, dial=Dial("threshold", 9.0), progress=interrupt,
                   force=True)  # fmt: skip
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl", "out.jsonl"]


def test_killed_and_started_again_nothing_half_is_left(tmp_path):
    score_through_kills(tmp_path, count=200, kills=3)


def test_what_is_wrong_with_more_than_one_query_ends_the_run(log, tmp_path):
    router = fixed_router(ConfigurationError("the scorer lacks its words"))
    with pytest.raises(ConfigurationError, match="lacks its words"):
        score_file(router, log, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()
