"""Work and records that travel to other processes: what comes back is the same."""

from __future__ import annotations

import pickle
from functools import partial

import pytest

from shared_router.bulk.judge import judge_file
from shared_router.bulk.runner import LocalRunner
from shared_router.bulk.score import score_file
from shared_router.collecting.right_answers import FirstResponseOf
from shared_router.errors import ConfigurationError
from shared_router.judging.overlap import RougeL
from shared_router.options import Dial
from tests.bulk.judging import USD, Paid, asked_in, material
from tests.bulk.killing import complete


class Elsewhere(LocalRunner):
    """Works on what is left of work and records when they have been sent to another process."""

    def map(self, work, rows, total):
        sent = pickle.dumps((work.portable(), rows.portable()))
        yield from super().map(*pickle.loads(sent), total)  # noqa: S301


def test_decisions_are_the_same(calibrated, log, tmp_path):
    for name, runner in {"here": LocalRunner(), "there": Elsewhere()}.items():
        scored = tmp_path / f"{name}.jsonl"
        score_file(calibrated, log, scored, runner=runner)
        score_file(
            calibrated, scored, tmp_path / f"{name}-anew.jsonl", dial=Dial("threshold", 0.1),
            runner=runner,
        )  # fmt: skip
    for ending in (".jsonl", "-anew.jsonl"):
        here, there = ((tmp_path / f"{name}{ending}").read_bytes() for name in ("here", "there"))
        assert here == there


def test_qualities_are_the_same(answered, tmp_path):
    for name, runner in {"here": LocalRunner(), "there": Elsewhere()}.items():
        texts = FirstResponseOf("large")
        judge_file(answered, tmp_path / name, RougeL, texts=texts, runner=runner)
    assert (tmp_path / "here").read_bytes() == (tmp_path / "there").read_bytes()


def test_verdicts_are_kept_as_they_come_back(tmp_path):
    data, notes, out = material(tmp_path, 20), tmp_path / "notes", tmp_path / "out.jsonl"
    make = partial(Paid, notes)

    def interrupt(now):
        if now.done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge_file(data, out, make, runner=Elsewhere(), concurrency=2, progress=interrupt)
    report = judge_file(data, out, make, runner=Elsewhere(), concurrency=2)
    assert report.earlier >= 8 * 3
    assert report.spent_usd == 60 * USD
    assert sum(asked_in(notes).values()) >= 60
    complete(out, 20)


def test_dollars_are_counted_in_one_process_alone(tmp_path):
    data, make = material(tmp_path, 3), partial(Paid, tmp_path / "notes")
    with pytest.raises(ConfigurationError, match="max_usd is for --runner local"):
        judge_file(data, tmp_path / "out.jsonl", make, runner=Elsewhere(), max_usd=1.0)
    assert not asked_in(tmp_path / "notes")
