"""Which split a query falls into: as its row says, as the run says, else by its words."""

from __future__ import annotations

import pytest

from shared_router import RoutingDataset
from shared_router.cli.console import read_data
from shared_router.collecting.collect import collect
from shared_router.collecting.sources import read_queries
from shared_router.data.answers import Answer
from shared_router.errors import ConfigurationError
from tests.collecting.material import Right
from tests.material import dataset, known_truth, record, write_lines


async def answering(query, sample):
    return Answer("4")


def splits(path):
    return [query.split for query in read_queries(path)]


def test_a_column_of_splits_is_honoured(tmp_path):
    (tmp_path / "q.csv").write_text("query,split\na,test\nb, dev \nc,\nd,train\n")
    dealt = read_queries(write_lines(tmp_path / "bare.txt", ["c"]))[0].split
    assert splits(tmp_path / "q.csv") == ["test", "dev", dealt, "train"]
    rows = [{"query": "a", "split": "test"}, {"query": "c", "split": None}, {"query": "c"}]
    assert splits(write_lines(tmp_path / "q.jsonl", rows)) == ["test", dealt, dealt]


async def test_a_run_may_put_all_into_one_split(tmp_path):
    out, pair = tmp_path / "d.jsonl", {"small": answering, "large": answering}
    report = await collect(["a", "b"], pair, out, 1, Right(), split="test")
    assert dict(RoutingDataset.load(out).splits) == {"test": 2}
    again = await collect(["a", "b"], pair, out, 1, Right(), split="dev")
    assert (report.calls, again.calls) == (4, 0)
    assert dict(RoutingDataset.load(out).splits) == {"dev": 2}
    with pytest.raises(ConfigurationError, match="split is a name that is not empty"):
        await collect(["a"], pair, out, 1, split=" ")


def test_all_names_every_split_unless_one_is_called_so(tmp_path):
    both = dataset(record("1", "a", small=1.0), record("2", "b", split="test", small=1.0))
    both.save(tmp_path / "d.jsonl")
    assert len(read_data([tmp_path / "d.jsonl"], "all", None, usual="train")) == 2
    dataset(*both, record("3", "c", split="all", small=1.0)).save(tmp_path / "d.jsonl")
    assert read_data([tmp_path / "d.jsonl"], "all", None, usual="train").ids == ("3",)


def test_what_was_seen_can_be_left_out(calibrated, in_tiny_cache):
    train, own = known_truth(150), known_truth(120, split="validation", seed=1)
    fresh = known_truth(30, split="test", seed=5)
    with pytest.raises(ValueError, match=r"skip_seen=True \(--skip-seen\)"):
        calibrated.evaluate(dataset(*train, *own))
    report = calibrated.evaluate(dataset(*train, *own), skip_seen=True, max_quality_drop=0.1)
    assert (report.n, report.left_out) == (120, 150)
    assert "one half" in report.dial["method"]
    every = dataset(*train, *own, *fresh)
    report = calibrated.evaluate(every, skip_seen=True, max_quality_drop=0.1)
    assert (report.n, report.to_dict()["left_out"]) == (30, 270)
    assert report.dial["method"] == "calibrated on other queries"
    with pytest.raises(ValueError, match="all 150 queries were fitted on"):
        calibrated.evaluate(train, skip_seen=True)
