"""The demo's figures are the library's."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from shared_router import Router, RoutingDataset

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def demo(measured_demo) -> tuple[Path, str]:
    """Return the demo's working folder and what it printed."""
    return measured_demo


@pytest.fixture(scope="module")
def router(remembering_router) -> Router:
    return remembering_router


@pytest.fixture(scope="module")
def held_out(measured_pair) -> RoutingDataset:
    return measured_pair


def figures(printed: str, name: str) -> list[float]:
    """Read quality, drop and cost advantage off the first row of this name."""
    (line,) = [line for line in printed.splitlines() if line.strip().startswith(name)]
    return [float(cell) for cell in re.findall(r"-?\d+\.\d+", line.replace(name, ""))]


def test_all_small_and_all_large(demo, router, held_out):
    small, large = held_out.quality(router.candidates).mean(axis=0)
    assert figures(demo[1], "all to gpt-4-1106") == [round(large, 3), 0.0, 0.0]
    expected = [round(small, 3), round(100 * (large - small) / large, 1), 100.0]
    assert figures(demo[1], "all to mixtral-8x7b") == expected


@pytest.mark.parametrize(
    "dial", [{"max_quality_drop": 0.01}, {"max_quality_drop": 0.05}, {"cost_advantage": 0.5}]
)
def test_dials_are_those_of_evaluate(demo, router, held_out, dial):
    ((name, value),) = dial.items()
    found = router.evaluate(held_out, resamples=2, **dial).dial
    expected = [found["quality"], 100 * found["quality_drop"], 100 * found["cost_advantage"]]
    shown = figures(demo[1], f"router, {name}={value:g}")
    assert shown == pytest.approx(expected, abs=0.051)


def test_what_is_tuned_on_is_not_what_is_reported(router, held_out):
    dial = router.evaluate(held_out, resamples=2, max_quality_drop=0.01).dial
    assert "calibrated on one half, measured on the other" in dial["method"]


def test_examples_and_next_steps(demo, router, held_out):
    printed = demo[1]
    decisions = [line for line in printed.splitlines() if line.strip().startswith("->")]
    assert 5 <= len(decisions) <= 6
    assert all("threshold" in line for line in decisions)
    decided = {router.decide(q, max_quality_drop=0.05).summary() for q in held_out.queries[:100]}
    assert {line.strip().removeprefix("-> ") for line in decisions} <= decided
    assert "HybridChatModel" in printed


def test_without_two_models_the_candidates_must_be_named(data_folder, repository, tmp_path):
    command = [sys.executable, repository / "cookbook" / "demo.py"]
    done = subprocess.run(
        [*command, data_folder / "routerbench_zeroshot.jsonl.gz"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Name two or more" in done.stderr
    assert "Traceback" not in done.stderr
