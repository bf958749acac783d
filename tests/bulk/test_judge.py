"""Judging recorded responses: new qualities, what fails listed, whole or not at all."""

from __future__ import annotations

import asyncio
import json
import math
import sys
import threading

import pytest

from shared_router import RoutingDataset
from shared_router.bulk.judge import judge_file
from shared_router.bulk.runner import LocalRunner
from shared_router.collecting.collect import collect
from shared_router.collecting.judges import JudgeSpec, metric_named
from shared_router.collecting.right_answers import AnswersFile, FirstResponseOf, read_answers
from shared_router.data.answers import Answer, Judgement
from shared_router.errors import ConfigurationError, DataError, MissingExtraError
from shared_router.judging.metric import AnswerMetric
from shared_router.judging.overlap import RougeL
from shared_router.records import Usage
from tests.bulk.conftest import failed, lines_of, row
from tests.material import write_lines


class Length:
    """Scores the length of a response, without bounds; needs no answer."""

    name, needs_answer, range = "length", False, (0.0, math.inf)

    def score(self, query, response, answer):
        return float(len(response))


class Choosy(Length):
    """Fails on some responses, in each way that a judge can."""

    def score(self, query, response, answer):
        if response == "no idea":
            raise RuntimeError("the text of a response")
        return math.nan if query == "question 3?" else 1.0


def test_new_qualities_by_a_real_metric(answered, answers, tmp_path):
    out = tmp_path / "out.jsonl.gz"
    report = judge_file(answered, out, RougeL, texts=AnswersFile(answers))
    metric = RougeL()
    before, after = RoutingDataset.load(answered), RoutingDataset.load(out)
    assert after.ids == before.ids
    for i, (old, new) in enumerate(zip(before, after, strict=True)):
        assert (new.query, new.task, new.split) == (old.query, old.task, old.split)
        for name, outcome in new.outcomes.items():
            assert outcome.response == old.outcomes[name].response
            assert outcome.cost_usd == old.outcomes[name].cost_usd
            expected = [metric.score("", text, f"the answer is {i}") for text in outcome.response]
            assert list(outcome.quality) == expected
    means = after.quality(["small", "large"])
    assert report.quality["large"] == pytest.approx(means[:, 1].mean())
    assert (report.records, report.responses, report.failed) == (30, 90, 0)
    assert report.judge == "rouge-l"


def test_on_the_command_line(run, answered, answers, tmp_path):
    out = tmp_path / "out.jsonl"
    result = run("judge", answered, out, "--judge", "numeric", "--answers", answers)
    assert result.exit_code == 0, result.output
    assert "Judged 90 responses to 30 queries by numeric" in result.stdout
    assert "1.0000  large" in result.stdout
    assert f"Next: hybrid-llm fit {out} --candidates small,large --out my-router" in result.stdout
    found = [record.outcomes["small"].quality for record in RoutingDataset.load(out)]
    assert found == [(float(i % 3 == 0), 0.0) for i in range(30)]
    again = run("judge", out, tmp_path / "2.jsonl", "--judge", "exact", "--answers", answers,
                "--json")  # fmt: skip
    shown = json.loads(again.stdout)
    assert (shown["judge"], shown["quality"]["large"], shown["failures"]) == ("exact", 1.0, None)


def test_against_another_model(answered, tmp_path):
    out = tmp_path / "out.jsonl"
    report = judge_file(answered, out, RougeL, texts=FirstResponseOf("large"))
    assert report.quality["large"] == 1.0  # its own first response, compared with itself
    small = [record.outcomes["small"].quality[0] for record in RoutingDataset.load(out)]
    assert small == [1.0 if i % 3 == 0 else 0.75 for i in range(30)]


def test_answers_by_the_words_of_the_query(answered, tmp_path):
    lines = [{"query": f"question  {i}? ", "answer": i} for i in range(30)]
    path = write_lines(tmp_path / "a.jsonl", lines)
    report = judge_file(answered, tmp_path / "out.jsonl", lambda: metric_named("numeric"),
                        texts=AnswersFile(path))  # fmt: skip
    assert report.quality == {"small": pytest.approx(1 / 6), "large": 1.0}


def test_unbounded_scores_are_clipped_only_when_told(run, answered, tmp_path):
    free = judge_file(answered, tmp_path / "1.jsonl", Length)
    assert free.quality["small"] == pytest.approx((15 * 30 + 7 * 30 + 20) / 60, abs=0.2)
    clipped = JudgeSpec("rouge-l", clip=(0.2, 0.8))
    report = judge_file(answered, tmp_path / "2.jsonl", clipped, texts=FirstResponseOf("large"))
    found = RoutingDataset.load(tmp_path / "2.jsonl").records[1].outcomes
    assert (found["small"].quality, found["large"].quality) == ((0.75, 0.2), (0.8,))
    assert report.judge == "rouge-l clipped to [0.2, 0.8]"
    result = run("judge", answered, tmp_path / "3.jsonl", "--judge", "rouge-l",
                 "--against", "large", "--clip=0.2,0.8")  # fmt: skip
    assert result.exit_code == 0
    assert (tmp_path / "3.jsonl").read_bytes() == (tmp_path / "2.jsonl").read_bytes()


def test_what_fails_is_listed_and_the_rest_is_kept(answered, tmp_path):
    out = tmp_path / "out.jsonl"
    report = judge_file(answered, out, Choosy)
    listed = lines_of(tmp_path / "out.jsonl.failed.jsonl")
    assert report.failures == tmp_path / "out.jsonl.failed.jsonl"
    assert report.failed == len(listed) == 32
    assert {"id": "q0", "model": "small", "sample": 1, "stage": "judge",
            "error": "RuntimeError"} in listed  # fmt: skip
    assert {"id": "q3", "model": "large", "sample": 0, "stage": "judge",
            "error": "ValueError"} in listed  # fmt: skip
    kept = RoutingDataset.load(out)
    assert "q3" not in kept.ids
    assert (len(kept), report.records) == (29, 29)
    assert kept.records[0].outcomes["small"].response == ("the answer is 0",)
    out.unlink()
    assert judge_file(answered, out, Length).failures is None
    assert not (tmp_path / "out.jsonl.failed.jsonl").exists()


def test_records_without_answer_or_response_are_listed(answered, answers, tmp_path):
    rows = lines_of(answered)
    del rows[0]["outcomes"]["large"]["response"]
    write_lines(answered, rows)
    text = answers.read_text().splitlines()
    answers.write_text("\n".join(text[:-1]) + "\n")
    report = judge_file(answered, tmp_path / "out.jsonl", RougeL, texts=AnswersFile(answers))
    assert lines_of(report.failures) == [
        {"id": "q0", "model": "large", "sample": None, "stage": "response",
         "error": "no recorded response"},
        {"id": "q29", "model": None, "sample": None, "stage": "answer", "error": "no right answer"},
    ]  # fmt: skip
    kept = RoutingDataset.load(tmp_path / "out.jsonl")
    assert len(kept) == 29
    assert list(kept.records[0].outcomes) == ["small"]


def test_where_nothing_can_be_judged_nothing_is_written(run, answered, tmp_path):
    answers = write_lines(tmp_path / "a.jsonl", [{"id": f"q{i}", "answer": "?"} for i in range(30)])
    result = run("judge", answered, tmp_path / "out.jsonl", "--judge", "numeric",
                 "--answers", answers)  # fmt: skip
    failed(result, "no response could be judged; nothing is written")
    assert not (tmp_path / "out.jsonl").exists()
    assert len(lines_of(tmp_path / "out.jsonl.failed.jsonl")) == 90


# -- judges that are models -----------------------------------------------------------------------

MODULE = """
import itertools
from shared_router.data.answers import Answer
from shared_router.records import Usage

asked = itertools.count()
USED = Usage(input_tokens=1000, output_tokens=100)

async def judge(query, sample):
    if next(asked) == 5:
        raise ConnectionError("try again")
    if '"answer"' in query:
        return Answer('{"score": 0.25}', USED)
    return Answer('{"better": "tie"}', USED)

async def nonsense(query, sample):
    return Answer("well...", USED)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "own_judge", raising=False)
    (tmp_path / "own_judge.py").write_text(MODULE)


def test_a_model_as_the_judge(run, answered, answers, module):
    told = ("--judge", "llm=own_judge:judge", "--price", "judge=1,10", "--json")
    found = json.loads(run("judge", answered, "single.jsonl", *told).stdout)
    assert found["quality"] == {"small": 0.25, "large": 0.25}
    assert found["spent_usd"] == pytest.approx(90 * 0.002)
    found = json.loads(run("judge", answered, "pair.jsonl", *told, "--answers", answers).stdout)
    assert found["quality"] == {"small": 0.5, "large": 0.5}
    assert found["spent_usd"] == pytest.approx(180 * 0.002)


def test_a_judge_that_answers_nonsense(run, answered, module):
    told = ("--judge", "llm=own_judge:nonsense", "--price", "judge=1,10", "--json")
    result = run("judge", answered, "out.jsonl", *told)
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert (found["out"], found["failed"]) == (None, 90)
    assert found["spent_usd"] == pytest.approx(90 * 3 * 0.002)
    assert {row["error"] for row in lines_of(answered.parent / "out.jsonl.failed.jsonl")} == {
        "JudgeError"
    }


def test_a_dead_judge_ends_the_run(answered, tmp_path):
    class Dead(Length):
        async def score(self, query, response, answer):
            raise ConnectionError

    with pytest.raises(DataError, match=r"judge failed 2\d times in a row \(ConnectionError\)"):
        judge_file(answered, tmp_path / "out.jsonl", Dead, retries=0)
    assert not (tmp_path / "out.jsonl").exists()


def test_breaking_off_waits_for_no_judge(answered, tmp_path):
    begun = threading.Event()

    class Slow(Length):
        async def score(self, query, response, answer):
            begun.set()
            await asyncio.sleep(3600)

    def broken_off(told):
        raise KeyboardInterrupt

    class Quick(Slow):
        async def score(self, query, response, answer):
            return 1.0 if query == "question 0?" else await super().score(query, response, answer)

    with pytest.raises(KeyboardInterrupt):
        judge_file(answered, tmp_path / "out.jsonl", Quick, progress=broken_off, timeout_s=None)
    assert not (tmp_path / "out.jsonl").exists()


def test_several_requests_are_in_flight(answered, tmp_path):
    class Waiting:
        name, needs_answer = "waiting", False
        most = now = 0

        async def score(self, query, response, answer):
            Waiting.now += 1
            Waiting.most = max(Waiting.most, Waiting.now)
            await asyncio.sleep(0.01)
            Waiting.now -= 1
            return Judgement(1.0, Usage(cost_usd=0.5))

    report = judge_file(answered, tmp_path / "out.jsonl", Waiting, concurrency=6)
    assert (report.responses, report.spent_usd) == (90, 45.0)
    assert 3 <= Waiting.most <= 6


def test_the_judge_is_made_once_per_worker(answered, tmp_path):
    made = []

    def make():
        made.append(1)
        return Length()

    judge_file(answered, tmp_path / "out.jsonl", make, runner=LocalRunner(4))
    assert len(made) == 2  # once to check, once for all threads


def test_named_models(tiny_encoder, in_tiny_cache, answered, tmp_path):
    make = JudgeSpec(f"similarity={tiny_encoder}")
    report = judge_file(answered, tmp_path / "out.jsonl", make, texts=FirstResponseOf("large"))
    assert report.judge == f"similarity:{tiny_encoder}"
    assert report.quality["large"] == pytest.approx(1.0)
    assert report.quality["small"] < 1.0


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--judge", "vibes"), "No metric 'vibes'"),
        (("--judge", "exact=model"), "No metric 'exact=model'"),
        (("--judge", "rouge-l"), "give --answers FILE, or --against MODEL"),
        (("--judge", "rouge-l", "--against", "huge"), "no recorded responses of 'huge'"),
        (("--judge", "rouge-l", "--against", "small", "--answers", "a.csv"), "give one of"),
        (("--judge", "exact", "--rubric", "data.jsonl"), "--rubric is for --judge llm=SPEC"),
        (("--judge", "llm=own_judge:judge", "--rubric", "none"), "--rubric none: cannot be read"),
        (("--judge", "llm=own_judge:judge", "--clip=0,1"), "scores between 0 and 1"),
        (("--judge", "exact", "--clip", "low"), "--clip is LOW,HIGH"),
        (("--judge", "exact", "--clip=1,0"), "two finite numbers"),
        (("--judge", "exact", "--price", "small=1,1"), "no model of that name"),
        (("--judge", "exact", "--workers", "-1"), "workers is at least 1"),
        (("--judge", "llm=own_judge:judge", "--concurrency", "0"), "concurrency is at least 1"),
    ],
)
def test_wrong_options(run, answered, module, args, said):
    failed(run("judge", answered, "out.jsonl", *args), said)
    assert not (answered.parent / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "empty"),
        ([{"id": "a", "query": "q", "outcomes": {"m": {"quality": [1]}}}], "no recorded responses"),
        ([row(1), row(1)], "id 'q1' stands twice"),
        ([row(1), {"id": "b"}], "line 2: field query"),
    ],
)
def test_data_that_cannot_be_judged(tmp_path, rows, said):
    data = write_lines(tmp_path / "bad.jsonl", rows)
    with pytest.raises(DataError) as caught:
        judge_file(data, tmp_path / "out.jsonl", Length)
    assert said in str(caught.value)
    assert "bad.jsonl" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "answer\n4\n", "needs a column 'id' or 'query'; got answer"),
        ("a.csv", "id,right\nq1,4\n", "no answers"),
        ("a.txt", "4\n5\n", "no answers"),
        ("a.jsonl", '{"answer": "4"}\n', "line 1: an answer needs the id or the query"),
        ("a.csv", "id,answer\nq1,4\nq1,5\n", "line 3: another answer"),
        ("a.csv", "query,answer\nq 1,4\nq  1,5\n", "line 3: another answer"),
        ("a.jsonl", '{"id": "q1", "answer": [4]}\n', "field answer: must be text"),
        ("a.jsonl", "", "no answers"),
    ],
)
def test_answers_that_cannot_be_used(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as caught:
        read_answers(tmp_path / name)
    assert said in str(caught.value)


def test_answers_that_belong_elsewhere(run, answered, tmp_path):
    (tmp_path / "a.csv").write_text("id,answer\nz1,4\n")
    told = ("--judge", "exact", "--answers", tmp_path / "a.csv")
    failed(run("judge", answered, tmp_path / "out.jsonl", *told), "neither ids nor words match")
    told = ("--judge", "exact", "--answers", tmp_path / "none.csv")
    failed(run("judge", answered, tmp_path / "out.jsonl", *told), "no such file")


def test_outputs_of_another_kind(run, answered, tmp_path):
    told = ("--judge", "exact", "--against", "large")
    for more in ((), ("--force",)):
        failed(run("judge", answered, answered, *told, *more), "is the file that is read")
    (tmp_path / "notes.txt").write_text("mine")
    failed(run("judge", answered, tmp_path / "notes.txt", *told), "it is not replaced")
    (tmp_path / "out.jsonl.failed.jsonl").write_text("mine")
    failed(run("judge", answered, tmp_path / "out.jsonl", *told), "failures are to be listed")
    failed(run("judge", answered, tmp_path / "none" / "o.jsonl", *told), "folder does not exist")
    failed(run("judge", tmp_path / "none.jsonl", tmp_path / "o.jsonl", *told), "no such data file")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_judge_that_cannot_work_at_all_ends_the_run(answered, answers, tmp_path, monkeypatch):
    spec = JudgeSpec(f"bartscore={tmp_path}")
    with pytest.raises(ConfigurationError, match="neither the folder"):
        judge_file(answered, tmp_path / "out.jsonl", spec, texts=AnswersFile(answers))

    def needs_more(response, answer):
        raise MissingExtraError("pip install more")

    with pytest.raises(MissingExtraError, match="pip install more"):
        judge_file(answered, tmp_path / "out.jsonl", lambda: AnswerMetric("more", needs_more),
                   texts=AnswersFile(answers))  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.csv", "data.jsonl"]


async def test_what_collect_wrote_is_judged_alike(tmp_path):
    async def model(query, sample):
        return Answer(f"it is {len(query) + sample}", Usage(cost_usd=0.5))

    queries = [f"question {'x' * i}" for i in range(12)]
    await collect(queries, {"m": model}, tmp_path / "d.jsonl", 3, Length())
    report = judge_file(tmp_path / "d.jsonl", tmp_path / "again.jsonl", Length)
    assert report.responses == 36
    assert (tmp_path / "again.jsonl").read_text() == (tmp_path / "d.jsonl").read_text()
