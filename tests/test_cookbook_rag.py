"""The RAG recipes of both fronts run offline and show what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

RECIPES = ("rag_langchain", "rag_llamaindex")
ROW = re.compile(
    r"^  (\w+) \(score\), score (\S+), threshold (\S+), .*, by (\w+)\n    (.+)\n"
    r"    scored (\d+) characters, beside (\d+) of: (.+)\n    -> (.+)$",
    re.MULTILINE,
)


@pytest.fixture(scope="module", params=RECIPES)
def ran(request: pytest.FixtureRequest, repository: Path) -> tuple[str, str]:
    """Run one recipe; returns its name and what it printed."""
    done = subprocess.run(
        [sys.executable, str(repository / "cookbook" / f"{request.param}.py")],
        env=os.environ
        | {
            "PYTHONWARNINGS": "error",
            "PYTHONPATH": str(repository),
            "HF_HUB_OFFLINE": "1",
            "http_proxy": "http://127.0.0.1:9",  # whoever asks the network fails
            "https_proxy": "http://127.0.0.1:9",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return request.param, done.stdout


def test_each_answer_is_routed_by_the_question_alone(ran: tuple[str, str]) -> None:
    name, printed = ran
    rows = ROW.findall(printed)
    assert len(rows) == 8
    for model, score, threshold, source, question, scored, read, found, answer in rows:
        assert (float(score) >= float(threshold)) == (model == "small")
        assert source == ("prompt_variable" if name == "rag_llamaindex" else "explicit")
        assert int(scored) == len(question)
        assert int(read) > 5 * len(question)
        assert ".md: " in found
        assert answer == f"right answer of the {model} model"


def test_the_small_model_answers_what_can_be_looked_up(ran: tuple[str, str]) -> None:
    _, printed = ran
    assert "wrong answer" not in printed
    assert re.search(
        r"^4 of 8 calls went to the small model: 0\.0164 instead of 0\.0320", printed, re.M
    )
    for model, *_, question, _, _, _, _ in ROW.findall(printed):
        assert (model == "small") == (len(question.split()) < 8)


def test_the_dials_are_shown(ran: tuple[str, str]) -> None:
    name, printed = ran
    assert "in hybrid_options: large (" in printed
    assert re.search(r"a preview:         (small \(score\)|large \(forced\))", printed)
    if name == "rag_llamaindex":
        assert re.search(r"condense: small \(no_query\), .*, by none", printed)
        assert re.search(r"condense: large \(score\), .*, by span", printed)
        assert len(re.findall(r"answer: large \(score\), .*, by conversation", printed)) == 2
