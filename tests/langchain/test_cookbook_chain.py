"""The recipe of a routed chain runs offline and shows what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def printed(repository: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(repository / "cookbook" / "routed_chain.py")],
        env=os.environ | {"PYTHONWARNINGS": "error", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_answer_comes_from_the_model_it_names(printed: str) -> None:
    shown = re.findall(
        r"^  (\w+) \(score\), score (\S+), threshold (\S+), .*\n.*\n(.*)$", printed, re.M
    )
    assert len(shown) == 16
    for name, score, threshold, answer in shown:
        assert f"answer of the {name} model" in answer
        assert (float(score) >= float(threshold)) == (name == "small")


def test_the_router_tells_the_two_kinds_apart(printed: str) -> None:
    assert "wrong answer" not in printed
    assert re.search(
        r"^(8|7) of 16 calls went to the small model: 0\.0\d+ instead of 0\.0640", printed, re.M
    )


def test_the_dials_are_shown(printed: str) -> None:
    assert "in a config:       large (score)" in printed
    assert "dial cost_advantage=0.0" in printed
    assert "in hybrid_options: large (forced)" in printed
    assert "a preview:         small (score)" in printed
