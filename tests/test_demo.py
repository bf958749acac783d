"""The demo's figures are the library's."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from shared_router import Router, RoutingDataset, RoutingReport

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


@pytest.fixture(scope="module")
def report(router, held_out) -> RoutingReport:
    return router.evaluate(held_out, max_quality_drop=0.05)


@pytest.mark.parametrize("limit", [0.01, 0.05, 0.1])
@pytest.mark.parametrize("way", ["promised", "estimated"])
def test_limits_are_those_of_the_ladder(demo, report, limit, way):
    (rung,) = (rung for rung in report.ladder if rung["limit"] == limit)
    shown = figures(demo[1], f"router, max_quality_drop={limit:g}, {way}")
    assert shown[1:] == pytest.approx(
        [100 * rung[f"{way}_drop"], 100 * rung[f"{way}_share"]], abs=0.051
    )
    assert shown[0] == pytest.approx(
        report.quality["gpt-4-1106"] * (1 - rung[f"{way}_drop"]), abs=6e-4
    )


def test_a_share_is_that_of_evaluate(demo, router, held_out):
    found = router.evaluate(held_out, resamples=2, cost_advantage=0.5).dial
    expected = [found["quality"], 100 * found["quality_drop"], 100 * found["cost_advantage"]]
    assert figures(demo[1], "router, cost_advantage=0.5") == pytest.approx(expected, abs=0.051)


def test_what_is_learned_from_is_not_what_is_reported(router, held_out, report):
    seen = router.fitted_ids | router.calibrated_ids
    assert len(seen) == 796
    assert not seen & set(held_out.ids)
    assert report.verdict.n == report.n == len(held_out)


def test_it_ends_with_the_verdict(demo, report):
    printed = " ".join(demo[1].split())
    assert printed.endswith(f"Verdict. {report.verdict.sentence}")


def test_it_draws_a_picture_where_it_can(demo):
    pytest.importorskip("matplotlib")
    assert (demo[0] / ".demo" / "report.png").read_bytes().startswith(b"\x89PNG")
    assert "Picture: .demo/report.png" in demo[1]


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
