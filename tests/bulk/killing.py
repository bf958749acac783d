"""`judge` and `score`, killed at random moments and started again."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from shared_router import RoutingDataset
from tests.bulk.conftest import lines_of
from tests.bulk.judging import CONCURRENCY, asked_in, material, quality_of

if TYPE_CHECKING:
    from pathlib import Path

STARTING_S, WORKING_S = 1.0, 0.06
LONGEST_S = 120.0


def start(*args: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.bulk.judging", *map(str, args)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def complete(out: Path, count: int) -> None:
    """Assert that every response has its own verdict."""
    data = RoutingDataset.load(out)
    assert len(data) == count
    for record in data:
        for outcome in record.outcomes.values():
            assert outcome.quality == tuple(
                quality_of(record.query, response) for response in outcome.response
            )


def judge_through_kills(folder: Path, count: int, kills: int) -> None:
    """Judge through kills: whole at the end, nothing asked twice but what was in flight."""
    data, out, notes = material(folder, count), folder / "out.jsonl", folder / "notes"
    moments = random.Random(7)  # noqa: S311
    for i in range(kills):
        before = sum(asked_in(notes).values())
        process = start(data, out, notes)
        more = partial(asked_more_than, notes, before)
        wait_until(more, process, skip=not i % 4)
        time.sleep(moments.uniform(0, WORKING_S if i % 4 else STARTING_S))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not out.exists()
    process = start(data, out, notes)
    said = process.communicate(timeout=LONGEST_S)[1]
    assert process.returncode == 0, said
    asked = asked_in(notes)
    assert len(asked) == count * 3
    assert sum(asked.values()) <= count * 3 + kills * CONCURRENCY
    complete(out, count)
    assert {path.name for path in folder.iterdir()} == {
        "data.jsonl", "out.jsonl", "out.jsonl.journal", "notes"
    }  # fmt: skip


def asked_more_than(notes: Path, before: int) -> bool:
    return sum(asked_in(notes).values()) > before


def wait_until(begun, process: subprocess.Popen[str], *, skip: bool) -> None:
    """Wait until a process is at work; it may be killed while it starts."""
    end_s = time.monotonic() + LONGEST_S
    while not skip and not begun() and process.poll() is None and time.monotonic() < end_s:
        time.sleep(0.005)


SCORE = """
import sys, time
from shared_router.bulk.runner import LocalRunner
from shared_router.bulk.score import score_file
from shared_router.testing import fixed_router

def score(text):
    time.sleep(0.002)
    return len(text) / 100

score_file(fixed_router(score), sys.argv[1], sys.argv[2], runner=LocalRunner(1))
"""


def score_through_kills(folder: Path, count: int, kills: int) -> None:
    """Score through kills: nothing under the final name before the end, nothing left beside."""
    log, out = folder / "log.txt", folder / "out.jsonl"
    log.write_text("".join(f"question {i * i}\n" for i in range(count)))
    moments, command = random.Random(7), [sys.executable, "-c", SCORE, log, out]  # noqa: S311
    for i in range(kills):
        process = subprocess.Popen(command)
        half = f".hybrid-llm-*~{process.pid}~*"
        wait_until(lambda half=half: list(folder.glob(half)), process, skip=not i % 4)
        time.sleep(moments.uniform(0, WORKING_S if i % 4 else STARTING_S))
        process.kill()
        process.wait()
        assert process.returncode == -signal.SIGKILL
        assert not out.exists()
    subprocess.run(command, check=True)
    assert [row["length"] for row in lines_of(out)] == [
        len(f"question {i * i}") for i in range(count)
    ]
    assert {path.name for path in folder.iterdir()} == {"log.txt", "out.jsonl"}
