"""Every model is asked one question before the rest; what it is called is written down."""

from __future__ import annotations

import json
import urllib.error

import pytest

from shared_router import RoutingDataset
from shared_router.collecting.collect import collect
from shared_router.collecting.reasons import error_reason, fields_of, told
from shared_router.collecting.sources import SourceQuery
from shared_router.data.answers import Answer
from tests.collecting.material import Right
from tests.collecting.test_collect import Model, StatusError

QUERIES = ["one", "two", "three", "four"]


@pytest.fixture
def pair():
    return {"small": Model("small"), "large": Model("large")}


@pytest.fixture
def out(tmp_path):
    return tmp_path / "d.jsonl"


async def test_where_one_does_not_answer_nothing_more_is_asked(pair, out):
    pair["large"].fail = lambda *_: ConnectionRefusedError("to me:secret@host")
    report = await collect(QUERIES, pair, out, 5, Right(), retries=0)
    assert report.stopped == (
        "model 'large' does not answer (ConnectionRefusedError: connection refused)"
    )
    assert [model.asked.total() for model in pair.values()] == [1, 1]
    pair["large"].fail = lambda *_: None
    report = await collect(QUERIES, pair, out, 5, Right())
    assert (report.stopped, report.failed, report.calls) == (None, 0, 39)
    assert set(pair["small"].asked.values()) == {1}


async def test_a_resumed_run_asks_first_only_those_never_heard(pair, out):
    await collect(QUERIES, pair, out, 1)
    pair["small"].fail = pair["large"].fail = lambda *_: StatusError(401)
    report = await collect(QUERIES, pair, out, 1, Right(), retry_failed=True)
    assert (report.stopped, report.calls) == (None, 0)


async def test_a_first_query_that_is_refused_is_no_dead_model(pair, out):
    pair["small"].fail = lambda query, *_: StatusError(400) if query == "one" else None
    report = await collect(QUERIES, pair, out, 1, Right())
    assert (report.stopped, report.failed, report.records) == (None, 1, 4)
    assert pair["small"].asked == {(query, 0): 1 for query in QUERIES}
    pair["small"].fail = lambda *_: StatusError(422)
    report = await collect(QUERIES, pair, out.with_name("other"), 1, Right())
    assert "'small' does not answer (StatusError (422): the request was refused)" in report.stopped


async def test_what_models_are_called_is_written_down(out):
    async def dated(query, sample):
        return Answer("4", names=("nano", f"nano-2025-0{1 + sample}-01", "http://me:secret@h"))

    models = {"small": dated, "large": Model("large")}
    await collect(QUERIES[:1], models, out, 2, Right(), specs={"small": "http://me:secret@h#m"})
    row = json.loads(out.read_text())["outcomes"]
    assert row["small"]["aliases"] == ["nano", "nano-2025-01-01", "nano-2025-02-01"]
    assert "aliases" not in row["large"]
    assert RoutingDataset.load(out).aliases(["small"])["small"][0] == "nano"


def test_reasons_quote_nothing():
    def caused(cause):
        error = RuntimeError("quotes the query")
        error.__cause__ = ExceptionGroup("all", [OSError("quotes"), cause])
        return error

    assert error_reason(caused(ConnectionRefusedError())) == "connection refused"
    assert error_reason(caused(urllib.error.URLError("quotes"))) is None
    assert error_reason(StatusError(500)) is None
    assert error_reason(TimeoutError()) == "no answer in time"
    assert fields_of(told(StatusError(404))) == {
        "error": "StatusError (404)",
        "reason": "no such model, or no such address",
    }


async def test_a_journal_without_an_answer_becomes_that_of_the_run_that_opens_it(tmp_path):
    """A mistyped SPEC, corrected, is no other run: nothing was asked under it yet."""

    async def dead(query, sample):
        raise ConnectionError

    async def alive(query, sample):
        return Answer("yes")

    out, queries = tmp_path / "d.jsonl", [SourceQuery(id="1", text="a?", answer="yes")]
    for ask, spec in ((dead, "typo"), (alive, "right")):
        models = {"small": ask, "large": alive if spec == "right" else dead}
        report = await collect(
            queries, models, out, 1, Right(), specs={"small": spec, "large": spec}, retries=0
        )
    assert report.records == 1


def test_of_a_long_chain_of_causes_the_first_ones_are_looked_at():
    error = deepest = ConnectionRefusedError()
    for _ in range(100):
        error, error.__cause__ = Exception(), error
    assert error_reason(deepest) == "connection refused"
    assert error_reason(error) is None
