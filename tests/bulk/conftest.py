"""A saved router, a log of queries, and a data file with responses."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from shared_router.cli.commands import app
from shared_router.data.schema import open_text
from tests.material import known_truth, write_lines

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def router_folder(calibrated, tmp_path_factory) -> Path:
    """Save the calibrated tiny router."""
    folder = tmp_path_factory.mktemp("routers") / "tiny"
    calibrated.save_pretrained(folder)
    return folder


@pytest.fixture
def log(tmp_path) -> Path:
    """Write a log of queries with ids."""
    rows = known_truth(90, seed=7)
    return write_lines(tmp_path / "log.jsonl", [{"id": r.id, "query": r.query} for r in rows])


@pytest.fixture
def run(in_tiny_cache):
    """Run a command in this process."""
    return lambda *args: CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def answered(tmp_path) -> Path:
    """Write a data file: two models, the responses known, the qualities of another judge."""
    return write_lines(tmp_path / "data.jsonl", [row(i) for i in range(30)])


@pytest.fixture
def answers(tmp_path) -> Path:
    """Write the right answers to it, by id."""
    path = tmp_path / "answers.csv"
    path.write_text("id,answer\n" + "".join(f"q{i},the answer is {i}\n" for i in range(30)))
    return path


@pytest.fixture
def nobody():
    """Give up root's rights for the test: root may write everywhere."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(65534)
    yield
    os.seteuid(mine)


def row(i: int) -> dict[str, Any]:
    """Make a record: the large model is right, the small one every third time."""
    small = {"quality": [0.5, 0.5], "response": [f"the answer is {i + i % 3}", "no idea"]}
    large = {"quality": [0.5], "response": [f"the answer is {i}"], "cost_usd": 0.01}
    outcomes = {"small": small, "large": large}
    return {"id": f"q{i}", "query": f"question {i}?", "task": "made/up", "split": "validation",
            "outcomes": outcomes}  # fmt: skip


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines, plain or gzip."""
    with open_text(path, "r") as lines:
        return [json.loads(line) for line in lines]


def failed(result: Any, *said: str, code: int = 1) -> None:
    """Assert one clear error at the end of stderr, nothing on stdout, no traceback."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "unexpected" not in last
    for words in said:
        assert words in last
