"""Reading, writing and narrowing data sets."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_router import RoutingDataset
from shared_router.data.dataset import SplitLeakWarning
from shared_router.data.schema import Outcome, RoutingRecord
from shared_router.errors import CandidateError, DataError
from shared_router.records import AnswerSettings
from tests.material import dataset, record, write_lines

if TYPE_CHECKING:
    from pathlib import Path

GOOD = {"id": "a", "query": "hello", "outcomes": {"m": {"quality": [1.0]}}}

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
outcomes = st.builds(
    Outcome,
    quality=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=3).map(tuple),
    cost_usd=st.none() | st.floats(0, 10),
)
records = st.lists(
    st.builds(
        RoutingRecord,
        id=texts.filter(bool),
        query=texts,
        task=st.none() | texts,
        split=st.just("train"),
        outcomes=st.dictionaries(texts, outcomes, min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda made: made.id,
)


@pytest.mark.parametrize("name", ["data.jsonl", "data.jsonl.gz"])
@given(made=records)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, name: str, made: list[RoutingRecord]
) -> None:
    path = tmp_path_factory.mktemp("round") / name
    RoutingDataset(tuple(made)).save(path)
    assert RoutingDataset.load(path).records == tuple(made)
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == name.endswith(".gz")


def test_responses_survive_a_round_trip(tmp_path: Path) -> None:
    outcome = Outcome(quality=(1.0, 0.0), response=("yes", "né\u2028\n"), cost_usd=0.5)
    made = dataset(RoutingRecord(id="a", query="q", outcomes={"m": outcome}))
    made.save(tmp_path / "d.jsonl")
    assert RoutingDataset.load(tmp_path / "d.jsonl").records[0].outcomes["m"] == outcome


def test_how_responses_were_made_survives_a_round_trip(tmp_path: Path) -> None:
    told = {
        "quality": [1, 0],
        "response": ["yes", ""],
        "logprobs": [[-0.5, 1e-7], []],
        "settings": {"model": "nano", "temperature": 0.7, "logprobs": True},
    }
    path = write_lines(tmp_path / "d.jsonl", [GOOD | {"outcomes": {"m": told}}])
    data = RoutingDataset.load(path)
    outcome = data.records[0].outcomes["m"]
    assert outcome.logprobs == ((-0.5, 0.0), ())
    assert outcome.settings == AnswerSettings(model="nano", temperature=0.7, logprobs=True)
    assert "0.5" not in repr(outcome)
    data.save(tmp_path / "again.jsonl")
    assert RoutingDataset.load(tmp_path / "again.jsonl").records == data.records


def test_a_stream_reads_no_further_than_asked(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "d.jsonl", [GOOD, "broken"])
    stream = RoutingDataset.stream(path)
    assert next(stream).id == "a"
    with pytest.raises(DataError, match="line 2"):
        next(stream)


def test_files_are_joined_in_order_and_empty_lines_passed_over(tmp_path: Path) -> None:
    first = write_lines(tmp_path / "1.jsonl", [GOOD, "", "  "])
    second = write_lines(tmp_path / "2.jsonl", [GOOD | {"id": "b", "query": "other"}])
    data = RoutingDataset.load(first, second)
    assert data.ids == ("a", "b")
    assert data.name == "1.jsonl, 2.jsonl"


def outcome_line(**outcome: object) -> dict[str, object]:
    return GOOD | {"outcomes": {"m": {"quality": [1.0]} | outcome}}


BAD_LINES = {
    "not JSON": ("{oops", "the line", "Invalid JSON"),
    "not an object": ("[1]", "the line", "object"),
    "no query": ({"id": "a", "outcomes": {}}, "query", "Field required"),
    "query not text": (GOOD | {"query": 3}, "query", "valid string; got 3"),
    "empty id": (GOOD | {"id": ""}, "id", "at least 1 character"),
    "unknown field": (GOOD | {"answer": "x"}, "answer", "not permitted"),
    "unknown outcome field": (outcome_line(score=1), "outcomes.m.score", "not permitted"),
    "no quality": (GOOD | {"outcomes": {"m": {}}}, "outcomes.m.quality", "Field required"),
    "empty quality": (outcome_line(quality=[]), "outcomes.m.quality", "at least 1 item"),
    "quality null": (
        outcome_line(quality=[None]),
        "outcomes.m.quality.0",
        "number; got None",
    ),
    "quality true": (outcome_line(quality=[True]), "outcomes.m.quality.0", "number; got True"),
    "quality text": (outcome_line(quality=["1.5"]), "outcomes.m.quality.0", "valid number"),
    "cost true": (outcome_line(cost_usd=True), "outcomes.m.cost_usd", "number; got True"),
    "cost text": (outcome_line(cost_usd="0.1"), "outcomes.m.cost_usd", "valid number"),
    "nodes text": (
        GOOD | {"retrieval": {"nodes": "3", "context_tokens": 1}},
        "retrieval.nodes",
        "neither text nor true",
    ),
    "top score true": (
        GOOD | {"retrieval": {"nodes": 3, "context_tokens": 1, "top_score": True}},
        "retrieval.top_score",
        "neither text nor true",
    ),
    "deep": ("[" * 100_000, "the line", "recursion limit"),
    "quality NaN": (
        outcome_line(quality=[1.0, float("nan")]),
        "outcomes.m.quality.1",
        "must be a finite number; got nan",
    ),
    "quality infinite": (
        outcome_line(quality=[float("inf")]),
        "outcomes.m.quality.0",
        "must be a finite number; got inf",
    ),
    "negative cost": (outcome_line(cost_usd=-1.0), "outcomes.m.cost_usd", "at least 0; got -1.0"),
    "cost NaN": (outcome_line(cost_usd=float("nan")), "outcomes.m.cost_usd", "finite"),
    "responses": (
        outcome_line(response=["x", "y"]),
        "outcomes.m",
        "has 2 responses for 1 quality values",
    ),
    "logprobs of another number of responses": (
        outcome_line(response=["x"], logprobs=[[-1.0], [-2.0]]),
        "outcomes.m",
        "has logprobs of 2 responses for 1 responses; give one list per response",
    ),
    "logprobs without responses": (
        outcome_line(logprobs=[[-1.0]]),
        "outcomes.m",
        "has logprobs of 1 responses for 0 responses",
    ),
    "logprob NaN": (
        outcome_line(response=["x"], logprobs=[[-1.0, float("nan")]]),
        "outcomes.m.logprobs.0.1",
        "must be a finite number; got nan",
    ),
    "logprob of no probability": (
        outcome_line(response=["x"], logprobs=[[0.5]]),
        "outcomes.m.logprobs.0.0",
        "must be the logarithm of a probability, at most 0; got 0.5",
    ),
    "logprob text": (
        outcome_line(response=["x"], logprobs=[["-1"]]),
        "outcomes.m.logprobs.0.0",
        "valid number",
    ),
    "unknown setting": (
        outcome_line(settings={"top_k": 3}),
        "outcomes.m.settings.top_k",
        "not permitted; got 3",
    ),
}


@pytest.mark.parametrize("kind", BAD_LINES)
def test_a_bad_line_names_file_line_field_and_rule(tmp_path: Path, kind: str) -> None:
    line, field, rule = BAD_LINES[kind]
    path = write_lines(tmp_path / "bad.jsonl", [GOOD | {"id": "ok"}, line])
    with pytest.raises(DataError) as caught:
        RoutingDataset.load(path)
    message = str(caught.value)
    assert f"{path}, line 2: field {field}: " in message
    assert rule in message


def test_an_error_quotes_no_query(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "bad.jsonl", [{"id": "a", "query": "my secret", "outcomes": 1}])
    with pytest.raises(DataError) as caught:
        RoutingDataset.load(path)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def compressed(n: int = 2000) -> bytes:
    lines = [f'{{"id":"{i}","query":"{i * 7919}","outcomes":{{}}}}\n' for i in range(n)]
    return gzip.compress("".join(lines).encode())


@pytest.mark.parametrize("kind", ["truncated", "corrupt", "garbled", "not gzip"])
def test_a_broken_gzip_file_is_a_data_error(tmp_path: Path, kind: str) -> None:
    whole = compressed()
    middle = len(whole) // 2
    broken = {
        "truncated": whole[:middle],
        "corrupt": whole[:middle] + b"\xff" * 200 + whole[middle + 200 :],
        "garbled": whole[:10] + b"\xff" * 20 + whole[30:],
        "not gzip": b"plain text\n",
    }
    path = tmp_path / "d.jsonl.gz"
    path.write_bytes(broken[kind])
    with pytest.raises(DataError, match=r"d\.jsonl\.gz, (after )?line \d+: "):
        RoutingDataset.load(path)


def test_bytes_that_are_no_text_are_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read"):
        RoutingDataset.load(tmp_path / "d.jsonl")


def test_a_missing_file_and_a_folder_are_data_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such data file"):
        RoutingDataset.load(tmp_path / "nowhere.jsonl")
    with pytest.raises(DataError, match="cannot be read"):
        RoutingDataset.load(tmp_path)


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_is_a_data_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "d.jsonl").write_text(content)
    with pytest.raises(DataError, match=r"d\.jsonl: empty"):
        RoutingDataset.load(tmp_path / "d.jsonl")


def test_an_id_that_stands_twice_is_a_data_error(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "d.jsonl", [GOOD, GOOD])
    with pytest.raises(DataError, match="id 'a' stands more than once"):
        RoutingDataset.load(path)


def test_a_query_in_two_splits_is_reported(tmp_path: Path) -> None:
    other = GOOD | {"id": "b", "query": " hello\n", "split": "validation"}
    path = write_lines(tmp_path / "d.jsonl", [GOOD, other])
    with pytest.warns(SplitLeakWarning, match="1 queries stand in two splits.*a/b"):
        data = RoutingDataset.load(path)
    assert data.leaks() == [("a", "b")]


def test_a_query_twice_in_one_split_is_no_leak(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "d.jsonl", [GOOD, GOOD | {"id": "b"}])
    assert RoutingDataset.load(path).leaks() == []


def test_split_and_task_narrow() -> None:
    data = dataset(
        record("a", task="math/gsm8k", m=1),
        record("b", task="math/mmlu", split="validation", m=1),
        record("c", task="mathematics", m=1),
    )
    assert data.split("validation").ids == ("b",)
    assert data.task("math").ids == ("a", "b")
    assert data.task("math/gsm8k").ids == ("a",)
    with pytest.raises(DataError, match="no split 'test'; there are 'train', 'validation'"):
        data.split("test")
    with pytest.raises(DataError, match="no task 'code'"):
        data.task("code")


def test_rows_that_lack_a_candidate_are_left_out_with_a_warning() -> None:
    data = dataset(record("a", s=1, big=1), record("b", s=1), record("c", s=0, big=1))
    with pytest.warns(UserWarning, match="1 of 3 queries lack an outcome of s, big"):
        assert data.candidates(["s", "big"]).ids == ("a", "c")


def test_no_row_with_all_candidates_is_a_data_error() -> None:
    data = dataset(record("a", s=1), record("b", big=1))
    with pytest.raises(DataError, match="no query has outcomes of all of s, big"):
        data.candidates(["s", "big"])


@pytest.mark.parametrize(
    ("names", "rule"),
    [
        (["s", "gone"], "no outcomes of candidate 'gone'; there are 'big', 's'"),
        (["s"], "at least two candidates"),
        ([], "at least two candidates"),
        ("sb", "at least two candidates"),
        (["s", "big", "s"], "Each candidate is named once"),
    ],
)
def test_wrong_candidates_are_refused(names: list[str], rule: str) -> None:
    with pytest.raises(CandidateError, match=rule):
        dataset(record("a", s=1, big=1)).candidates(names)


def test_quality_arrays() -> None:
    data = dataset(record("a", s=[0, 1], big=1), record("b", s=[1, 1], big=0.5))
    np.testing.assert_array_equal(data.quality(["big", "s"]), [[1, 0.5], [0.5, 1]])
    np.testing.assert_array_equal(data.samples("s")[0], [0, 1])
    assert data.quality(["s", "big"]).dtype == np.float64


def test_mean_costs_are_over_the_records_that_tell() -> None:
    priced = Outcome(quality=(1.0,), cost_usd=0.2)
    data = dataset(
        RoutingRecord(id="a", query="q", outcomes={"s": priced, "big": priced}),
        record("b", s=1, big=1),
    )
    assert data.mean_costs_usd(["s", "big"]) == [0.2, 0.2]
    assert dataset(record("b", s=1)).mean_costs_usd(["s"]) == [None]


def test_mean_costs_are_of_the_same_queries_where_some_tell_all() -> None:
    short, long = (Outcome(quality=(1.0,), cost_usd=cost) for cost in (0.1, 0.9))
    whole = RoutingRecord(id="a", query="q", outcomes={"s": short, "big": short})
    dear = RoutingRecord(id="b", query="p", outcomes={"s": Outcome(quality=(1.0,)), "big": long})
    assert dataset(whole, dear).mean_costs_usd(["s", "big"]) == [0.1, 0.1]


def test_no_text_in_reprs() -> None:
    data = dataset(record("a", "my secret", s=1))
    assert "secret" not in repr(data)
    assert "secret" not in repr(data.records[0])


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "models"), [("routellm_gsm8k", 2), ("alpaca_eval", 13), ("routerbench_zeroshot", 11)]
)
def test_the_real_files_are_read(data_folder: Path, name: str, models: int) -> None:
    data = RoutingDataset.load(data_folder / f"{name}.jsonl.gz")
    assert len(data.models) == models
    assert set(data.splits) == {"train", "validation"}
    assert not data.leaks()


@pytest.mark.parametrize(
    ("outcome", "rule"),
    [
        ({"quality": [1.0], "aliases": [""]}, "needs a non-empty name"),
        ({"quality": [1.0], "aliases": ["gpt\n"]}, "aliases"),
        ({"quality": [1e300]}, "must lie between"),
    ],
)
def test_names_and_numbers_that_no_router_could_keep_are_refused(tmp_path, outcome, rule):
    line = {"id": "1", "query": "q", "outcomes": {"a": outcome}}
    with pytest.raises(DataError, match=rule):
        RoutingDataset.load(write_lines(tmp_path / "data.jsonl", [line]))
