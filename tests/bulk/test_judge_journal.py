"""A judge that is paid: every verdict is kept, nothing is asked twice, and dollars have a limit."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from contextlib import closing

import pytest

from shared_router import RoutingDataset
from shared_router.bulk.judge import judge_file
from shared_router.bulk.judge_store import JournalError, Verdicts
from shared_router.bulk.runner import LocalRunner
from shared_router.data.answers import Judgement
from shared_router.data.journal import journal_path
from shared_router.data.output import failures_path
from shared_router.errors import ConfigurationError, DataError
from tests.bulk.conftest import failed, lines_of
from tests.bulk.judging import CONCURRENCY, USD, Paid, asked_in, material, quality_of
from tests.bulk.killing import complete, judge_through_kills, start

COUNT = 30
RESPONSES = COUNT * 3


@pytest.fixture
def data(tmp_path):
    return material(tmp_path, COUNT)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.jsonl"


@pytest.fixture
def notes(tmp_path):
    return tmp_path / "notes"


def judged(data, out, notes, fail=None, **options):
    options = {"concurrency": CONCURRENCY, "retries": 0, **options}
    return judge_file(data, out, lambda: Paid(notes, fail), **options)


def test_a_judge_that_dies_loses_no_verdict(data, out, notes):
    with pytest.raises(DataError, match="all verdicts so far are kept, and it goes on from here"):
        judged(data, out, notes, lambda times: ConnectionError() if times > 40 else None)
    assert not out.exists()
    before = asked_in(notes)
    notes.unlink()
    told = []
    report = judged(data, out, notes, progress=told.append)
    assert report.earlier == told[0].earlier > 40 - CONCURRENCY
    assert sum(asked_in(notes).values()) == RESPONSES - report.earlier
    assert sum(before.values()) > 40
    assert report.spent_usd == RESPONSES * USD
    assert (report.responses, report.failed, report.stopped) == (RESPONSES, 0, None)
    complete(out, COUNT)


def test_broken_off_it_goes_on(data, out, notes):
    def interrupt(now):
        if now.done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judged(data, out, notes, progress=interrupt)
    report = judged(data, out, notes)
    assert report.earlier >= 24
    assert sum(asked_in(notes).values()) - RESPONSES <= CONCURRENCY
    complete(out, COUNT)


def test_dollars_have_a_limit_and_a_higher_one_goes_on(data, out, notes):
    report = judged(data, out, notes, max_usd=10.0)
    assert report.stopped == f"${report.spent_usd:.4f} are spent of max_usd=10"
    assert 10.0 <= report.spent_usd < 10.0 + CONCURRENCY * USD
    assert (report.out, out.exists()) == (None, False)
    assert sum(asked_in(notes).values()) == report.spent_usd / USD
    assert judged(data, out, notes, max_usd=10.0).spent_usd == report.spent_usd
    assert judged(data, out, notes, max_usd=RESPONSES * USD).stopped is None
    assert set(asked_in(notes).values()) == {1}
    complete(out, COUNT)


def test_what_failures_cost_counts(data, out, notes):
    class PaidError(Exception):
        cost_usd = 1.0

    report = judged(data, out, notes, lambda times: PaidError() if times <= 10 else None,
                    max_usd=500.0, concurrency=1, runner=LocalRunner(1))  # fmt: skip
    assert (report.failed, report.spent_usd) == (10, 10 + (RESPONSES - 10) * USD)
    assert judged(data, out, notes, force=True).spent_usd == 10 + RESPONSES * USD


def test_a_quality_that_is_none_is_paid_all_the_same(data, out, notes):
    class Nan(Paid):
        async def score(self, query, response, answer):
            found = await super().score(query, response, answer)
            return Judgement(float("nan"), found.usage) if query == "question 3?" else found

    report = judge_file(data, out, lambda: Nan(notes))
    assert (report.responses, report.failed) == (RESPONSES - 3, 3)
    assert report.spent_usd == RESPONSES * USD


def test_a_limit_needs_costs(data, out, notes):
    class Free(Paid):
        async def score(self, query, response, answer):
            return Judgement(1.0)

    with pytest.raises(ConfigurationError, match="max_usd needs the cost of every call"):
        judge_file(data, out, lambda: Free(notes), max_usd=1.0)
    with pytest.raises(ConfigurationError, match="max_usd is a finite number above 0"):
        judged(data, out, notes, max_usd=0.0)


def test_the_journal_of_another_run_is_refused(data, out, notes):
    judged(data, out, notes)
    out.unlink()

    class Other(Paid):
        name = "other"

    with pytest.raises(DataError, match=r"journal of another run, with other judge \(paid there"):
        judge_file(data, out, lambda: Other(notes))
    assert sum(asked_in(notes).values()) == RESPONSES


def older(journal, data):
    """Say of a journal what older versions said."""
    with closing(sqlite3.connect(journal)) as db, db:
        db.execute("INSERT INTO run VALUES ('data', ?)", [data])


def test_other_data_take_up_the_verdicts_on_what_they_share(data, out, notes):
    judged(data, out, notes)
    older(journal_path(out), "0123456789abcdef")
    first, *rest = lines_of(data)
    added = {**first, "id": "new", "split": "train"}
    mended = {**first, "task": "mended", "split": "test"}
    data.write_text("".join(json.dumps(row) + "\n" for row in [*rest[1:], mended, added]))
    report = judged(data, out, notes, force=True)
    assert (report.responses, report.earlier) == (RESPONSES, RESPONSES - 3)
    assert sum(asked_in(notes).values()) == RESPONSES + 3
    assert report.spent_usd == (RESPONSES + 3) * USD


@pytest.mark.skipif(os.name == "nt", reason="no such limit there")
@pytest.mark.parametrize("more", [[], [("c", "m", 0, "d", 0.5, 2.0)]])
def test_what_comes_back_while_the_disk_is_full_is_written_later(tmp_path, more):
    import resource

    path, limits = tmp_path / "out.journal", resource.getrlimit(resource.RLIMIT_FSIZE)
    with Verdicts(path, judge="paid") as journal:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        try:
            for query in "ab":
                with pytest.raises(JournalError, match="cannot be written"):
                    journal.add([(query, "m", 0, "d", 0.5, 2.0)], [1.0])
            with pytest.raises(JournalError, match="cannot be written"):
                journal.check()  # before the next verdict is paid for
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        journal.add(more)
    with Verdicts(path, judge="paid") as journal:
        assert journal.earlier == 2 + len(more)
        assert journal.spent_usd == 6.0 + 2.0 * len(more)


def test_a_journal_that_is_closed_says_so(tmp_path):
    with Verdicts(tmp_path / "out.journal", judge="paid") as journal:
        pass
    with pytest.raises(JournalError, match="closed"):
        journal.of("a")


def test_what_came_to_stand_there_meanwhile_stays(data, out, notes):
    with pytest.raises(DataError, match=r"holds a file of another kind.*made is in .*out-1\.jsonl"):
        judged(data, out, notes, progress=lambda _: out.write_text("theirs"))
    assert out.read_text() == "theirs"
    complete(out.with_name("out-1.jsonl"), COUNT)


@pytest.mark.parametrize("fails", [False, True])
def test_what_came_to_stand_meanwhile_where_failures_are_listed_stays(data, out, notes, fails):
    def run():
        judged(data, out, notes, lambda times: OSError() if fails and times < 9 else None,
               progress=lambda _: failures_path(out).write_text("theirs"))  # fmt: skip

    if fails:
        with pytest.raises(DataError, match=r"made is in .*out\.jsonl\.failed-1\.jsonl"):
            run()
    else:
        run()
    assert failures_path(out).read_text() == "theirs"


def test_a_finished_output_is_refused_and_judged_anew_for_nothing(data, out, notes):
    judged(data, out, notes)
    with pytest.raises(DataError, match="holds a data file; it is not replaced"):
        judged(data, out, notes)
    assert judged(data, out, notes, force=True).earlier == RESPONSES
    assert set(asked_in(notes).values()) == {1}
    complete(out, COUNT)


def test_data_edited_between_the_readings_poisons_nothing(data, out, notes):
    class Meddling(LocalRunner):
        def map(self, work, rows, total):
            data.write_text(held.replace("small 3, first", "small 3, other"))
            os.utime(data, ns=(was.st_atime_ns, was.st_mtime_ns))
            yield from super().map(work, rows, total)

    held, was = data.read_text(), data.stat()
    with pytest.raises(DataError, match=r"data\.jsonl: changed while it was read"):
        judged(data, out, notes, runner=Meddling(1))
    assert asked_in(notes)["question 3? | small 3, other"] == 1
    data.write_text(held)
    judged(data, out, notes)
    complete(out, COUNT)


def test_two_at_once_on_one_output(data, out, notes):
    seen = []

    def second(now):
        if not seen:
            seen.append(now)
            with pytest.raises(DataError, match="another judge is at work on this output"):
                judged(data, out, notes)

    judged(data, out, notes, progress=second)
    assert seen


def test_a_full_disk_loses_nothing(data, out, notes):
    process = start(data, out, notes, 40_000)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 1
    assert "journal: cannot be written" in said
    assert "make room or give permission, and start the same command again" in said
    process = start(data, out, notes)
    assert process.communicate(timeout=120)[1] == ""
    assert sum(asked_in(notes).values()) <= RESPONSES + CONCURRENCY
    complete(out, COUNT)


def test_killed_and_started_again_nothing_is_asked_twice(tmp_path):
    judge_through_kills(tmp_path, COUNT, kills=3)


MODULE = """
from shared_router.data.answers import Answer
from shared_router.records import Usage

async def judge(query, sample):
    return Answer('{"score": 0.25}', Usage(input_tokens=1000, output_tokens=100))
"""


def test_on_the_command_line(run, data, out, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "paid_judge", raising=False)
    (tmp_path / "paid_judge.py").write_text(MODULE)
    told = ("judge", data, out, "--judge", "llm=paid_judge:judge")
    failed(run(*told, "--max-usd", 0.1), "--price judge=INPUT,OUTPUT")
    priced = (*told, "--price", "judge=1,10")
    failed(run(*priced, "--max-usd", 0.1), "stopped: $0.1", "goes on from here")
    result = run(*priced, "--max-usd", 9)
    assert result.exit_code == 0, result.output
    assert "verdicts of an earlier start are taken up" in result.stderr
    assert "Judged 90 responses" in result.stdout
    failed(run(*priced), "it is not replaced", "--force")
    found = json.loads(run(*priced, "--force", "--json").stdout)
    assert (found["earlier"], found["stopped"]) == (90, None)


def test_no_secret_and_no_text_stands_in_the_journal(data, out, notes):
    judged(data, out, notes)
    held = journal_path(out).read_bytes()
    for record in lines_of(data):
        assert record["query"].encode() not in held
        assert b"small 1, first" not in held


def test_qualities_are_of_their_responses(data, out, notes):
    judged(data, out, notes)
    for record in RoutingDataset.load(out):
        for outcome in record.outcomes.values():
            expected = [quality_of(record.query, text) for text in outcome.response]
            assert list(outcome.quality) == expected
