"""The demo without arguments: the whole path on the pocket pair, and figures that hold together."""

import re
import subprocess
import sys

import pytest

from shared_router import Router, RoutingDataset

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def demo(repository, tmp_path_factory):
    """Run a short demo; returns its folder and what it printed."""
    folder = tmp_path_factory.mktemp("pocket-demo")
    done = subprocess.run(
        [sys.executable, "-m", "cookbook.pocket.demo", "--known", "800", "--fresh", "120",
         "--folder", str(folder)],
        cwd=repository, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def row(printed, name):
    """Read right, drop, cost advantage and, where it stands there, compute saved."""
    (line,) = [line for line in printed.splitlines() if line.strip().startswith(name)]
    return [float(cell) for cell in re.findall(r"-?\d+\.\d+", line.replace(name, ""))]


def test_all_small_and_all_large_frame_the_table(demo):
    small, large = row(demo[1], "all to small"), row(demo[1], "all to large")
    assert large[0] > small[0]
    assert large[1:4] == [0, 0, 0]
    assert small[2] == 100
    assert small[1] == pytest.approx(100 * (1 - small[0] / large[0]), abs=0.2)
    assert small[3] > 85  # at most a tenth of the compute


@pytest.mark.parametrize(
    "dial",
    ["max_quality_drop=0.05, promised", "max_quality_drop=0.05, estimated", "cost_advantage=0.6"],
)
def test_each_dial_saves_compute_in_step_with_calls(demo, dial):
    right, drop, share, saved, _ = row(demo[1], f"hybrid, {dial}")
    small, large = row(demo[1], "all to small")[0], row(demo[1], "all to large")[0]
    assert drop == pytest.approx(100 * (1 - right / large), abs=0.2)
    assert 0 < saved < share <= 100
    following = demo[1].split(f"hybrid, {dial}")[1].split("random, same share")[1].split()
    chance = share / 100 * small + (1 - share / 100) * large
    assert float(following[0]) == pytest.approx(chance, abs=0.002)


def test_examples_show_both_models_and_the_reason(demo):
    decisions = [line for line in demo[1].splitlines() if line.strip().startswith("->")]
    assert all("max_quality_drop=0.05, promised" in line for line in decisions)
    assert {line.split()[1] for line in decisions} == {"pocket-small", "pocket-large"}


def test_it_leaves_outcomes_a_router_and_a_picture(demo):
    folder, _ = demo
    data = RoutingDataset.load(folder / "outcomes.jsonl.gz")
    assert len(data) == 800
    assert set(data.splits) == {"train", "validation"}
    router = Router.from_pretrained(folder / "router")
    assert router.candidates == ("small", "large")
    assert router.curve.n == data.splits["validation"]
    assert (folder / "report.png").read_bytes().startswith(b"\x89PNG")


def test_the_promised_setting_keeps_less_than_the_estimate(demo):
    promised, estimated = (
        row(demo[1], f"hybrid, max_quality_drop=0.05, {way}") for way in ("promised", "estimated")
    )
    assert 0 < promised[2] <= estimated[2]


def test_it_ends_with_the_verdict_on_the_new_questions(demo):
    verdict = " ".join(demo[1].split()).split("Verdict. ")[1]
    promised = row(demo[1], "hybrid, max_quality_drop=0.05, promised")
    assert "max_quality_drop=0.05 (promised) was asked, and on 120 queries" in verdict
    assert f"the drop is {promised[1]:.1f} %" in verdict
    assert f"{promised[2]:.1f} % [" in verdict
