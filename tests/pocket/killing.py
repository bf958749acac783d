"""`hybrid-llm collect` over the pocket server, killed at random moments and started again."""

from __future__ import annotations

import contextlib
import csv
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import httpx

from cookbook.pocket.answering import PocketModel
from cookbook.pocket.questions import questions
from cookbook.pocket.server import pocket_server
from shared_router import RoutingDataset
from shared_router.data.journal import journal_path
from tests.conftest import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

    from cookbook.pocket.questions import Question

SAMPLES, CONCURRENCY = 3, 4
TEMPERATURE, SEED = 0.8, 100
COLLECT = "from shared_router.cli.commands import main; main()"
STARTING_S, WORKING_S = 2.0, 0.25
"""How long after its start, or after its first call, a process is killed at most."""

Key = tuple[str, str, int]
"""Query id, model, sample."""


class Noted(PocketModel):
    """A pocket model that notes which samples it is asked for; the seed tells the sample."""

    def __init__(self, name: str, ids: dict[str, str], called: threading.Event) -> None:
        super().__init__(name)
        self.ids, self.called = ids, called
        self.asked: Counter[Key] = Counter()

    def answer(self, question, **settings):
        self.asked[self.ids[question], self.name, settings["seed"] - SEED] += 1
        self.called.set()
        return super().answer(question, **settings)


class Killed(NamedTuple):
    """What a run left that was killed and resumed."""

    out: Path
    said: str
    asked: Counter[Key]
    returncodes: list[int]
    in_flight: int
    """Calls that were asked and not recorded, summed over all kills."""


def collect_through_kills(folder: Path, count: int, kills: int) -> Killed:
    """Collect the samples of `count` questions, killed `kills` times; each start is checked.

    Every fourth process is killed while it starts, the others after their first call.
    """
    asked, moments = questions(count, seed=11), random.Random(7)  # noqa: S311
    ids, called = {question.text: question.id for question in asked}, threading.Event()
    models = [Noted(name, ids, called) for name in ("small", "large")]
    out, returncodes, in_flight = folder / "data.jsonl.gz", [], 0
    write_questions(folder / "questions.csv", asked)
    with pocket_server(models) as url:
        for i in range(kills):
            before, recorded = total(models), recorded_in(out)
            process = start(url, folder / "questions.csv", out, called)
            while i % 4 and not called.wait(0.01) and process.poll() is None:
                pass
            time.sleep(moments.uniform(0, WORKING_S if i % 4 else STARTING_S))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            returncodes.append(process.returncode)
            drain(url)
            in_flight += unrecorded(total(models) - before, recorded, recorded_in(out))
        before, recorded = total(models), recorded_in(out)
        process = start(url, folder / "questions.csv", out, called)
        said = process.communicate(timeout=300)[0]
        returncodes.append(process.returncode)
        assert unrecorded(total(models) - before, recorded, recorded_in(out)) == 0
    return Killed(out, said, total(models), returncodes, in_flight)


def drain(url: str) -> None:
    """Wait until the server has read what a killed process left in its connections.

    A request of our own is read after them, and fails where they are counted.
    """
    body = {"model": "nobody", "messages": [{"role": "user", "content": "?"}]}
    assert httpx.post(f"{url}/chat/completions", json=body, timeout=60).status_code == 404


def unrecorded(asked: Counter[Key], before: set[Key], after: set[Key]) -> int:
    """Count what one start asked and did not record, and check what it asked."""
    twice = [key for key, times in asked.items() if times > 1]
    assert not twice, f"one start asked twice: {twice}"
    assert not set(asked) & before, "a recorded call was repeated"
    assert after - before <= set(asked), "a call was recorded that nobody asked"
    return len(set(asked) - after)


def write_questions(path: Path, asked: list[Question]) -> None:
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "query", "answer", "task"])
        rows.writerows((each.id, each.text, each.answer, each.kind) for each in asked)


def start(url: str, source: Path, out: Path, called: threading.Event) -> subprocess.Popen[str]:
    called.clear()
    options = {
        "samples": SAMPLES, "judge": "normalised", "concurrency": CONCURRENCY,
        "temperature": TEMPERATURE, "seed": SEED, "out": out,
    }  # fmt: skip
    command = [sys.executable, "-c", COLLECT, "collect", str(source)]
    for name in ("small", "large"):
        command += ["--model", f"{name}={url}#pocket-{name}"]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    return subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def total(models: list[Noted]) -> Counter[Key]:
    return sum((model.asked for model in models), Counter())


def rows_in(out: Path) -> list[Key]:
    """List the calls that a journal holds; none where a process was killed before it made one."""
    if not journal_path(out).exists():
        return []
    with contextlib.closing(sqlite3.connect(journal_path(out))) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'answers'").fetchone():
            return []
        statement = "SELECT query, model, sample FROM answers WHERE error IS NULL"
        return [tuple(row) for row in db.execute(statement)]


def recorded_in(out: Path) -> set[Key]:
    return set(rows_in(out))


def check(found: Killed, count: int, kills: int) -> None:
    """Assert that every sample is recorded once, with the answer of an undisturbed run."""
    assert found.returncodes == [*[-signal.SIGKILL] * kills, 0], found.said
    calls = count * 2 * SAMPLES
    rows = rows_in(found.out)
    assert len(rows) == len(set(rows)) == calls
    assert set(found.asked) == set(rows)
    assert sum(found.asked.values()) - calls == found.in_flight <= kills * CONCURRENCY
    assert f"Saved {count} queries" in found.said
    data = RoutingDataset.load(found.out)
    expected = {question.text: question.answer for question in questions(count, seed=11)}
    assert set(data.queries) == set(expected)
    for name in ("small", "large"):
        model = PocketModel(name)
        for record in data:
            answers = tuple(sample(model, record.query, i) for i in range(SAMPLES))
            outcome = record.outcomes[name]
            assert outcome.response == answers
            right = expected[record.query].casefold()
            assert [q == 1 for q in outcome.quality] == [
                answer.strip().casefold() == right for answer in answers
            ]


def sample(model: PocketModel, text: str, number: int) -> str:
    *pieces, _ = model.answer(text, temperature=TEMPERATURE, seed=SEED + number)
    return "".join(piece.text for piece in pieces)
