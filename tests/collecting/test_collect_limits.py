"""What collecting may cost and how long it waits; no dollar is forgotten."""

from __future__ import annotations

import json

import pytest

from shared_router import RoutingDataset
from shared_router.collecting.calls import LONGEST_WAIT_S, may_pass
from shared_router.collecting.collect import collect
from shared_router.collecting.sources import SourceQuery, read_queries
from shared_router.data import scratch
from shared_router.data.answers import Answer
from shared_router.data.output import failures_path, replacing
from shared_router.errors import ConfigurationError, DataError
from shared_router.judging.model_judge import LLMJudge
from shared_router.records import Usage
from tests.collecting.material import Right

PAID = Usage(input_tokens=10, output_tokens=1, cost_usd=1.0)


async def answering(query: str, sample: int) -> Answer:
    return Answer("4")


class Dear(Right):
    """A judge that is asked, paid, and says nonsense."""

    name = "dear"

    async def score(self, query, response, answer):
        return await LLMJudge(self.say, retries=0).score(query, response, None)

    async def say(self, prompt: str, sample: int) -> Answer:
        return Answer("well...", PAID)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.jsonl"


async def test_what_failures_cost_counts_though_they_are_forgotten(out):
    spent = [
        (await collect(["a", "b"], {"m": answering}, out, 1, Dear(), retry_failed=again)).spent_usd
        for again in (False, True, True)
    ]
    assert spent == [2.0, 4.0, 6.0]
    stopped = await collect(["a", "b"], {"m": answering}, out, 1, Dear(), retry_failed=True,
                            max_usd=7.0, concurrency=1)  # fmt: skip
    assert stopped.spent_usd == 7.0
    assert "of max_usd=7" in stopped.stopped


@pytest.mark.parametrize("name", ["", "a\x1b[2Jb", "a\nb"])
async def test_a_name_that_no_router_takes_costs_nothing(out, name):
    with pytest.raises(
        ConfigurationError, match=r"A model('s name holds no control| needs a non-e)"
    ):
        await collect(["a"], {name: answering}, out, 1, Right())
    assert not list(out.parent.iterdir())


async def test_verdicts_before_a_lost_connection_are_paid(out):
    class Flaky:
        """Pays for every first order, and loses the connection on the first second order."""

        asked = 0

        async def __call__(self, prompt: str, sample: int) -> Answer:
            self.asked += 1
            if self.asked == 2:
                raise ConnectionError
            return Answer('{"better": "tie"}', PAID)

    class Pairs(Right):
        name = "pairs"
        judge = LLMJudge(Flaky())

        async def score(self, query, response, answer):
            return await self.judge.score(query, response, "5")

    report = await collect(["a"], {"m": answering}, out, 1, Pairs())
    assert report.failed == 0
    assert report.spent_usd == 3.0  # one verdict before the loss, two after it


async def test_a_dead_judge_ends_the_run(out):
    class Dead(Right):
        name = "dead"

        async def score(self, query, response, answer):
            raise ConnectionError

    queries = [f"q{i}" for i in range(40)]
    report = await collect(queries, {"m": answering}, out, 1, Dead(), retries=0,
                           give_up_after=5, concurrency=1)  # fmt: skip
    assert report.stopped == "the judge failed 5 times in a row (ConnectionError)"
    assert report.calls == 5


async def test_a_judge_that_cannot_work_ends_the_run_with_its_message(out):
    class Unable(Right):
        name = "unable"

        def score(self, query, response, answer):
            raise ConfigurationError("no such folder: mend the path")

    with pytest.raises(ConfigurationError, match="mend the path"):
        await collect(["a"], {"m": answering}, out, 1, Unable())


def test_a_server_that_asks_for_too_long_a_wait_is_not_waited_for():
    class BusyError(Exception):
        status_code = 429
        retry_after = LONGEST_WAIT_S + 1

    assert not may_pass(BusyError())
    BusyError.retry_after = LONGEST_WAIT_S
    assert may_pass(BusyError())


async def test_half_a_surrogate_pair_in_a_query_loses_nothing(out):
    query = SourceQuery(id="a", text="bad \ud83d half", task="t \ud83d", answer="4")
    await collect([query], {"m": answering}, out, 1, Right())
    record = RoutingDataset.load(out).records[0]
    assert (record.query, record.task) == ("bad ? half", "t ?")


def test_half_a_surrogate_pair_in_an_id_is_refused(tmp_path):
    source = tmp_path / "q.jsonl"
    source.write_text('{"id": "\\ud83d", "query": "q"}\n')
    with pytest.raises(DataError, match="line 1: field id: half a surrogate pair"):
        read_queries(source)


def test_a_mark_at_the_start_of_a_file_is_no_text(tmp_path):
    source = tmp_path / "excel.csv"
    source.write_text("query,answer\nwhat?,4\n", encoding="utf-8-sig")
    assert read_queries(source)[0].answer == "4"


def test_json_lines_under_another_name_are_no_queries(tmp_path):
    source = tmp_path / "scored.out"
    source.write_text(json.dumps({"id": "a", "scores": [0.5]}) + "\n")
    with pytest.raises(DataError, match=r"line 1: a text file has one query a line.*name the file"):
        read_queries(source)
    source.write_text("{a set} of curly questions?\n")
    assert read_queries(source)[0].text == "{a set} of curly questions?"


async def test_an_answer_without_text_is_no_answer(out):
    async def empty(query, sample):
        return Answer(None)

    with pytest.raises(ConfigurationError, match="with a text; got NoneType"):
        await collect(["a"], {"m": empty}, out, 1)


def test_what_killed_processes_left_is_cleared(tmp_path):
    out = tmp_path / "out.jsonl"
    left, other = tmp_path / scratch._name(out, 999_999_999), tmp_path / ".7.out.jsonl"
    left.write_text("half")
    other.write_text("mine")
    with replacing(out) as lines:
        lines.write("whole\n")
    assert not left.exists()
    assert other.exists()
    assert out.read_text() == "whole\n"
    assert not failures_path(out).exists()
