"""Collecting answers: resumable, exactly once, every failure recorded."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest

from shared_router import RoutingDataset
from shared_router.collecting.calls import may_pass
from shared_router.collecting.collect import collect
from shared_router.collecting.report import ModelTally
from shared_router.collecting.sources import SourceQuery, read_queries
from shared_router.collecting.store import Journal
from shared_router.data.answers import Answer, Judgement, priced
from shared_router.data.journal import journal_path
from shared_router.data.output import failures_path
from shared_router.errors import (
    ConfigurationError,
    DataError,
    HybridRoutingError,
    MissingExtraError,
)
from shared_router.records import Usage
from shared_router.support.model_errors import error_kind, retry_after_s
from tests.collecting.material import (
    CONCURRENCY,
    MODELS,
    QUERIES,
    SAMPLES,
    Right,
    over_http,
    serving,
    text_of,
)
from tests.material import write_lines


class Model:
    """An async callable that counts its calls and may fail."""

    def __init__(self, name: str = "small", *, cost_usd: float | None = 0.01, delay_s: float = 0):
        self.name, self.cost_usd, self.delay_s = name, cost_usd, delay_s
        self.asked: Counter[tuple[str, int]] = Counter()
        self.fail = lambda query, sample, times: None
        self.in_flight = self.most_in_flight = 0

    async def __call__(self, query: str, sample: int) -> Answer:
        self.asked[query, sample] += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.delay_s)
            error = self.fail(query, sample, self.asked[query, sample])
            if error:
                raise error
            return Answer(text_of(query, self.name, sample), Usage(cost_usd=self.cost_usd))
        finally:
            self.in_flight -= 1


class StatusError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__("the message quotes the query")
        self.status_code = status


@pytest.fixture
def pair():
    return {"small": Model("small"), "large": Model("large", cost_usd=0.1)}


@pytest.fixture
def out(tmp_path):
    return tmp_path / "data.jsonl.gz"


def complete(out: Path, queries=QUERIES, samples=SAMPLES) -> None:
    """Assert that every (query, model, sample) is recorded exactly once, in the data file too."""
    with contextlib.closing(sqlite3.connect(journal_path(out))) as db:
        rows = db.execute("SELECT query, model, sample FROM answers").fetchall()
    assert len(rows) == len(set(rows)) == len(queries) * 2 * samples
    data = RoutingDataset.load(out)
    assert sorted(data.queries) == sorted(queries)
    for record in data:
        for model in MODELS:
            expected = tuple(text_of(record.query, model, i) for i in range(samples))
            assert record.outcomes[model].response == expected


async def test_all_is_asked_judged_and_written(pair, out):
    told = []
    report = await collect(
        ["one", "two", "one"], pair, out, 3, Right(), concurrency=2, progress=told.append
    )
    assert (report.records, report.calls, report.failed, report.stopped) == (3, 18, 0, None)
    assert report.spent_usd == pytest.approx(9 * 0.11)
    assert [now.done for now in told] == list(range(1, 19))
    assert (told[-1].total, told[-1].eta_s) == (18, 0)
    data = RoutingDataset.load(out)
    assert data.mean_costs_usd(["small", "large"]) == pytest.approx([0.01, 0.1])
    assert len(set(data.ids)) == 3
    assert pair["large"].most_in_flight <= 2


async def test_split_is_by_the_words(pair, out):
    await collect([f"query {i}" for i in range(300)], pair, out, 1, Right())
    splits = RoutingDataset.load(out).splits
    assert 30 < splits["validation"] < 90
    assert SourceQuery(id="x", text=" a  b").split == SourceQuery(id="y", text="a b").split


async def test_a_second_start_asks_nothing(pair, out):
    await collect(["one"], pair, out, 2, Right())
    before = out.read_bytes()
    report = await collect(["one"], pair, out, 2, Right())
    assert (report.calls, report.records) == (0, 1)
    assert RoutingDataset.load(out).records
    assert len(before) > 0


async def test_judging_later_and_anew_asks_nothing(pair, out):
    first = await collect(["one"], pair, out, 2)
    assert first.out is None
    assert not out.exists()
    assert (await collect(["one"], pair, out, 2, Right())).calls == 0

    class Half(Right):
        name = "half"

        async def score(self, query, response, answer):
            return Judgement(0.5, Usage(cost_usd=1.0))

    report = await collect(["one"], pair, out, 2, Half())
    assert report.calls == 0
    assert report.spent_usd == pytest.approx(4.22)
    assert RoutingDataset.load(out).records[0].outcomes["small"].quality == (0.5, 0.5)


async def test_a_cancelled_run_goes_on(pair, out):
    pair["small"].delay_s = pair["large"].delay_s = 0.01
    running = asyncio.create_task(collect(QUERIES, pair, out, SAMPLES, Right(), concurrency=4))
    await asyncio.sleep(0.3)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await collect(QUERIES, pair, out, SAMPLES, Right(), concurrency=8)
    complete(out)
    calls = sum(sum(model.asked.values()) for model in pair.values())
    assert 400 <= calls <= 404


async def test_passing_failures_are_retried(pair, out):
    pair["small"].fail = lambda query, sample, times: StatusError(503) if times < 3 else None
    report = await collect(["one"], pair, out, 1, Right())
    assert report.failed == 0
    assert pair["small"].asked["one", 0] == 3


async def test_lasting_failures_are_recorded_and_tried_again_only_when_asked(pair, out):
    pair["small"].fail = lambda query, sample, times: StatusError(400) if sample else None
    report = await collect(["one", "two"], pair, out, 2, Right())
    assert (report.failed, report.failures) == (2, failures_path(out))
    assert pair["small"].asked["one", 1] == 1
    listed = [json.loads(line) for line in failures_path(out).read_text().splitlines()]
    keys = ("model", "sample", "stage", "error", "reason")
    assert {tuple(row[key] for key in keys) for row in listed} == {
        ("small", 1, "ask", "StatusError (400)", "the request was refused")
    }
    assert len(RoutingDataset.load(out).records[0].outcomes["small"].quality) == 1
    pair["small"].fail = lambda *_: None
    assert (await collect(["one", "two"], pair, out, 2, Right())).calls == 0
    again = await collect(["one", "two"], pair, out, 2, Right(), retry_failed=True)
    assert (again.calls, again.failed, failures_path(out).exists()) == (2, 0, False)
    complete(out, ["one", "two"], 2)


async def test_a_model_that_fails_after_its_first_answer(pair, out):
    pair["large"].fail = lambda query, sample, _: (
        StatusError(401) if (query, sample) > ("q0", 0) else None
    )
    report = await collect([f"q{i}" for i in range(5)], pair, out, 2, Right(), give_up_after=99)
    assert (report.failed, report.records) == (9, 5)
    assert report.models["large"] == ModelTally(answered=1, failed=9, quality=1.0)
    assert report.lacking(judged=True) == []


async def test_giving_up_after_many_failures_in_a_row(pair, out):
    first = QUERIES[0], 0
    pair["large"].fail = lambda query, sample, _: (
        None if (query, sample) == first else StatusError(401)
    )
    report = await collect(QUERIES, pair, out, 2, Right(), give_up_after=5, concurrency=1)
    assert report.stopped == "model 'large' failed 5 times in a row (StatusError (401))"
    assert (report.failed, out.exists()) == (5, False)


async def test_a_slow_call_times_out(pair, out):
    pair["small"].delay_s = 5
    report = await collect(["one"], pair, out, 1, Right(), timeout_s=0.05, retries=1)
    assert pair["small"].asked["one", 0] == 2
    assert report.stopped == "model 'small' does not answer (TimeoutError: no answer in time)"
    assert report.failed == 0


async def test_the_rate_limit_is_per_model(pair, out):
    started = time.monotonic()
    await collect(["one"], pair, out, 6, Right(), requests_per_minute=1200)
    assert 0.25 <= time.monotonic() - started < 2


async def test_max_usd_stops_and_a_higher_one_goes_on(pair, out):
    report = await collect(["one"], pair, out, 10, Right(), concurrency=1, max_usd=0.25)
    assert "max_usd=0.25" in report.stopped
    assert 0.25 <= report.spent_usd < 0.36
    assert not out.exists()
    still = await collect(["one"], pair, out, 10, Right(), max_usd=0.25)
    assert (still.calls, still.out) == (0, None)
    report = await collect(["one"], pair, out, 10, Right(), max_usd=9)
    assert (report.stopped, report.records) == (None, 1)


async def test_max_usd_needs_costs(pair, out):
    pair["small"].cost_usd = None
    with pytest.raises(ConfigurationError, match="max_usd needs the cost of every call"):
        await collect(["one"], pair, out, 1, Right(), max_usd=1)


async def test_prices_make_costs():
    async def ask(query, sample):
        return Answer("x", Usage(input_tokens=1000, output_tokens=10))

    dear = priced(ask, input_usd_per_million_tokens=2, output_usd_per_million_tokens=100)
    assert (await dear("q", 0)).usage.cost_usd == pytest.approx(0.003)


async def test_a_judge_that_answers_nonsense_is_recorded(pair, out):
    class Nonsense(Right):
        name = "nonsense"

        def score(self, query, response, answer):
            return float("nan") if "small" in response else "good"

    report = await collect(["one"], pair, out, 1, Nonsense())
    assert (report.failed, report.out) == (2, None)
    rows = [json.loads(line) for line in report.failures.read_text().splitlines()]
    assert {(row["stage"], row["error"]) for row in rows} == {("judge", "ValueError")}


async def test_a_callable_that_returns_no_answer(out):
    async def ask(query, sample):
        return "text"

    with pytest.raises(ConfigurationError, match="returns an Answer with a text; got str"):
        await collect(["one"], {"small": ask}, out, 1)


async def test_halves_of_surrogate_pairs_are_stored(out):
    async def ask(query, sample):
        return Answer("odd \ud83d, \x00 and \u2028")

    await collect(["one"], {"small": ask}, out, 1, Right())
    assert RoutingDataset.load(out).records[0].outcomes["small"].response == (
        "odd ?, \x00 and \u2028",
    )


@pytest.mark.parametrize(
    ("queries", "samples", "specs"),
    [(["other"], 2, {}), (["one"], 3, {}), (["one"], 2, {"small": "another:model"})],
)
async def test_the_output_of_another_run_is_refused(pair, out, queries, samples, specs):
    await collect(["one"], pair, out, 2, Right())
    before = out.read_bytes()
    with pytest.raises(DataError, match="journal of another run"):
        await collect(queries, pair, out, samples, Right(), specs=specs)
    assert out.read_bytes() == before


async def test_other_files_are_never_overwritten(pair, out):
    out.write_text("mine")
    with pytest.raises(DataError, match="is not replaced"):
        await collect(["one"], pair, out, 1, Right())
    out.unlink()
    journal_path(out).write_text("no database, and long enough to be told apart from one")
    with pytest.raises(DataError, match="no journal of a collect"):
        await collect(["one"], pair, out, 1, Right())
    with pytest.raises(DataError, match="folder does not exist"):
        await collect(["one"], pair, out.parent / "none" / "data.jsonl", 1, Right())


@pytest.mark.parametrize("journal", [None, "empty", "of a run without an output"])
async def test_what_this_run_did_not_write_is_replaced_only_when_told(pair, out, journal):
    if journal == "empty":
        journal_path(out).touch()
    elif journal:
        await collect(["one"], pair, out, 1)
    out.write_text("mine")
    with pytest.raises(DataError, match="it is not replaced"):
        await collect(["one"], pair, out, 1, Right())
    assert out.read_text() == "mine"
    report = await collect(["one"], pair, out, 1, Right(), force=True)
    assert (report.records, len(RoutingDataset.load(out))) == (1, 1)
    assert (await collect(["one"], pair, out, 1, Right())).earlier == 2


async def test_what_is_changed_while_it_works_stays(pair, out):
    await collect(["one"], pair, out, 1, Right())

    class Half(Right):
        name = "half"

        def score(self, query, response, answer):
            out.write_text("mine")
            return 0.5

    with pytest.raises(DataError, match="not write, or that was changed since"):
        await collect(["one"], pair, out, 1, Half())
    assert out.read_text() == "mine"


async def test_a_users_list_of_failures_stays(pair, out):
    failures_path(out).write_text("mine")
    with pytest.raises(DataError, match="where the failures are to be listed"):
        await collect(["one"], pair, out, 1, Right())
    assert failures_path(out).read_text() == "mine"


async def test_a_journal_of_an_older_version_goes_on(pair, out):
    await collect(["one"], pair, out, 2, Right())
    with contextlib.closing(sqlite3.connect(journal_path(out))) as db, db:
        db.execute("DROP TABLE written")
    out.write_bytes(gzip.compress(gzip.decompress(out.read_bytes())))
    assert (await collect(["one"], pair, out, 2, Right())).calls == 0
    out.write_text("mine")
    with pytest.raises(DataError, match="it is not replaced"):
        await collect(["one"], pair, out, 2, Right())


async def test_two_at_once_on_one_output(pair, out):
    pair["small"].delay_s = 1
    running = asyncio.create_task(collect(["one"], pair, out, 1, Right()))
    await asyncio.sleep(0.1)
    with pytest.raises(DataError, match="another collect is at work"):
        await collect(["one"], pair, out, 1, Right())
    await running


@pytest.fixture
def nobody():
    """Give up root's rights for the test: root may write everywhere."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(65534)
    yield
    os.seteuid(mine)


def test_no_permission(pair, nobody):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o500)
        with pytest.raises(DataError, match="cannot be written"):
            asyncio.run(collect(["one"], pair, folder / "data.jsonl", 1, Right()))
        folder.chmod(0)
        with pytest.raises(DataError, match="cannot be reached"):
            asyncio.run(collect(["one"], pair, folder / "data.jsonl", 1, Right()))
    assert not pair["small"].asked


@pytest.mark.parametrize(
    "wrong",
    [{"samples": 0}, {"concurrency": 0}, {"retries": -1}, {"timeout_s": 0}, {"max_usd": -1},
     {"requests_per_minute": float("nan")}],
)  # fmt: skip
async def test_numbers_out_of_range(pair, out, wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        await collect(["one"], pair, out, **wrong)


async def test_a_judge_that_needs_answers_says_so_before_any_call(pair, out):
    class Needs(Right):
        needs_answer = True

    with pytest.raises(DataError, match="1 of 1 queries have none"):
        await collect(["one"], pair, out, 1, Needs())
    assert not pair["small"].asked


# -- over HTTP ------------------------------------------------------------------------------------


async def test_retry_after_is_honoured(out):
    with serving() as server:
        server.refuse = lambda key, times: (429, {"Retry-After": "1"}) if times == 1 else None
        started = time.monotonic()
        models = {name: over_http(server.port, name) for name in MODELS}
        await collect(["one"], models, out, 2, Right())
        assert 1.0 <= time.monotonic() - started < 5
        assert set(server.asked.values()) == {2}
    complete(out, ["one"], 2)


async def test_server_errors_pass_and_refusals_stay(out):
    with serving() as server:
        server.refuse = lambda key, times: (
            (403, {}) if key[1] == "large" else (500, {}) if times == 1 else None
        )
        models = {name: over_http(server.port, name) for name in MODELS}
        report = await collect(["one"], models, out, 1, Right())
        assert (server.asked["one", "small", 0], server.asked["one", "large", 0]) == (2, 1)
        assert (
            "'large' does not answer (HTTPError (403): not allowed with this key)" in report.stopped
        )
        server.refuse = lambda key, times: (403, {}) if key[0] == "two" else None
        report = await collect(["one", "two"], models, out.parent / "other", 1, Right())
    assert report.failed == 2
    failed = json.loads(report.failures.read_text().splitlines()[0])
    assert (failed["error"], failed["reason"]) == ("HTTPError (403)", "not allowed with this key")


def test_errors_are_read_without_their_message():
    error = StatusError(429)
    error.headers = {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}
    assert retry_after_s(error) == 0
    error.headers = {"retry-after": "soon"}
    assert retry_after_s(error) is None
    assert error_kind(error) == "StatusError (429)"
    assert [may_pass(each) for each in (error, StatusError(404), TypeError(), TimeoutError())] == [
        True, False, False, True,
    ]  # fmt: skip


def start(*args: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.collecting.material", *map(str, args)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_killed_twenty_times_every_call_is_recorded_exactly_once(out):
    moments = random.Random(7)  # noqa: S311
    kills = 20
    with serving(delay_s=0.02) as server:
        at_kill = []
        for i in range(kills):
            server.first.clear()
            process = start(server.port, out)
            if i % 4:  # the others are killed while they start
                server.first.wait(20)
            time.sleep(moments.uniform(0, 0.12 if i % 4 else 0.5))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            at_kill.append(process.returncode)
        process = start(server.port, out)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
        calls = sum(server.asked.values())
    assert at_kill == [-signal.SIGKILL] * kills
    assert 400 <= calls <= 400 + kills * CONCURRENCY
    complete(out)


def test_a_full_disk_loses_nothing(out):
    with serving() as server:
        process = start(server.port, out, 60_000)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 1
        assert said.startswith("DataError: ")
        assert "make room or give permission" in said
        assert "Traceback" not in said
        process = start(server.port, out)
        process.communicate(timeout=60)
        assert sum(server.asked.values()) <= 400 + CONCURRENCY
    complete(out)


# -- queries --------------------------------------------------------------------------------------


def test_queries_from_text_csv_and_json_lines(tmp_path):
    (tmp_path / "q.txt").write_text("first\n\n second \nfirst\n")
    found = read_queries(tmp_path / "q.txt")
    assert [query.text for query in found] == ["first", "second", "first"]
    assert found[2].id == found[0].id + "-2"
    (tmp_path / "q.csv").write_text('id,query,task,answer,more\n7,"a, b",m/x,4,z\n8,c,,,\n')
    found = read_queries(tmp_path / "q.csv")
    assert found[0] == SourceQuery(id="7", text="a, b", task="m/x", answer="4")
    assert (found[1].task, found[1].answer) == (None, None)
    path = write_lines(tmp_path / "q.jsonl", [{"query": "a", "answer": 42}, {"query": "b"}])
    assert [query.answer for query in read_queries(path)] == ["42", None]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("q.txt", "\n\n", "empty"),
        ("q.csv", "question\nx\n", "line 1: a CSV file needs a column 'query'; got question"),
        ("q.csv", "query,answer\na,b,c\n", "line 2: more fields than columns"),
        ("q.csv", "query,answer\n,4\n", "line 2: field query"),
        ("q.jsonl", '{"query": "a"}\n{"query": ', "line 2: not JSON"),
        ("q.jsonl", "[1]\n", "line 1: each line is an object"),
        ("q.jsonl", "[" * 100_000, "line 1: numbers of thousands of digits, or brackets nested"),
        ("q.jsonl", '{"query": "a", "id": ' + "9" * 5_000 + "}", "line 1: numbers of thousands"),
        ("q.jsonl", '{"query": "a", "retrieval": {"nodes": true, "context_tokens": 1}}', "nodes"),
        ("q.jsonl", '{"query": 3}\n', "field query: must be text; got int"),
        ("q.jsonl", '{"query": "a", "answer": ["b"]}\n', "field answer: must be text; got list"),
        ("q.jsonl", '{"id": "x", "query": "a"}\n{"id": "x", "query": "b"}\n', "'x' stands twice"),
    ],
)
def test_malformed_queries(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as caught:
        read_queries(tmp_path / name)
    assert said in str(caught.value)


def test_unreadable_queries(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_queries(tmp_path / "none.txt")
    (tmp_path / "q.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read"):
        read_queries(tmp_path / "q.txt")


@pytest.mark.parametrize(
    ("queries", "rule"),
    [
        ([], "give at least one"),
        (["one", SourceQuery(id="x", text="two")], "all strings or all SourceQuery"),
        ([SourceQuery(id="x", text="one"), SourceQuery(id="x", text="two")], "an id of its own"),
    ],
)
async def test_wrong_queries_are_refused(pair, out, queries, rule):
    with pytest.raises(HybridRoutingError, match=rule):
        await collect(queries, pair, out, 1, Right())


async def test_without_a_model_there_is_nothing_to_ask(out):
    with pytest.raises(ConfigurationError, match="at least one model; got none"):
        await collect(["one"], {}, out, 1, Right())


async def test_a_model_that_is_not_installed_ends_the_run(pair, out):
    pair["large"].fail = lambda *_: MissingExtraError("The large model", ["its-package"])
    with pytest.raises(MissingExtraError, match="its-package"):
        await collect(QUERIES, pair, out, 1, Right())
    assert not out.exists()


@pytest.mark.skipif(os.name == "nt", reason="no such limit there")
async def test_nothing_is_asked_once_the_disk_is_full(tmp_path):
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal(tmp_path / "out.journal", {"format": "1"}) as journal:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        try:
            with pytest.raises(DataError, match="cannot be written"):
                await journal.add_answer(("q", "small", 0), "answer", 1, 1, 0.1, None)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        with pytest.raises(DataError, match="cannot be written"):
            await journal.flush()  # the run has broken off by then


async def test_a_model_that_counts_no_tokens_has_no_cost():
    async def ask(query, sample):
        return Answer("yes", Usage(input_tokens=10 * sample, output_tokens=sample))

    asking = priced(ask, input_usd_per_million_tokens=1.0, output_usd_per_million_tokens=2.0)
    assert (await asking("q", 0)).usage.cost_usd is None
    assert (await asking("q", 1)).usage.cost_usd == pytest.approx(12e-6)
