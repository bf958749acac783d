"""`save_pretrained` and `RoutingDataset.save`, killed at random moments while others read."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from shared_router import Router, RoutingDataset
from tests.material import known_truth

if TYPE_CHECKING:
    from pathlib import Path

SAVE = """
import itertools, sys
from dataclasses import replace
from shared_router import Router
from shared_router.router import swap as swapping

router = Router.from_pretrained(sys.argv[1])
if sys.argv[2] == "True":
    swapping._linux = lambda: False
for i in itertools.count():
    replace(router, name=f"number {i}").save_pretrained(sys.argv[1])
    print(i, flush=True)
"""
SAVE_DATA = """
import itertools, sys
from shared_router import RoutingDataset
data = RoutingDataset.load(sys.argv[1])
for i in itertools.count():
    data.save(sys.argv[1])
    print(i, flush=True)
"""
WORKING_S = 0.1


def killed_at_work(code: str, *args: object) -> None:
    """Start a process that saves again and again, and kill it after its first time."""
    command = [sys.executable, "-c", code, *map(str, args)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(random.uniform(0, WORKING_S))  # noqa: S311
    process.kill()
    _, said = process.communicate()
    assert first == "0\n", said


def save_through_kills(folder: Path, kills: int, *, two_steps: bool = False) -> None:
    """Kill savers: after each kill the folder holds a whole router, and saving clears up."""
    for _ in range(kills):
        killed_at_work(SAVE, folder, two_steps)
        router = Router.from_pretrained(folder)
        assert router.score(["a query"]).size
    Router.from_pretrained(folder).save_pretrained(folder)


def saved_through_kills(folder: Path, kills: int) -> None:
    """Kill savers of a data file: it is whole after each kill, and saving clears up."""
    path, data = folder / "data.jsonl.gz", known_truth(2_000)
    data.save(path)
    for _ in range(kills):
        killed_at_work(SAVE_DATA, path)
        assert RoutingDataset.load(path).records == data.records
    data.save(path)
    assert list(folder.iterdir()) == [path]
