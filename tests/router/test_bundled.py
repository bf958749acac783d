"""The router that ships: small, offline, without torch, and the default where none is given."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import shared_router
from langchain_hybrid import HybridChatModel
from llamaindex_hybrid import HybridLLM
from shared_router import Candidate, Router
from shared_router.cli.commands import app
from shared_router.errors import ArtifactError, CandidateError
from tests.langchain.fakes import FakeChat
from tests.llamaindex.fakes import pair

FOLDER = Path(shared_router.__file__).parent / "bundled"
EASY = ["What is 2 + 3?", "What colour is the sky?", "Is ice cold?"]
PROJECTILE = (
    "A projectile is launched at 37 degrees with 120 m/s from a cliff of 85 m; taking air "
    "resistance proportional to the square of its speed into account, derive its range, then "
    "compute the share of kinetic energy lost in each of the first 3 seconds.\n"
    "A. 12 %, 9 %, 7 %\nB. 14 %, 10 %, 8 %\nC. 21 %, 17 %, 11 %\nD. none of these"
)
GROUPS = (
    "Statement 1 | Every free abelian group is torsion free. Statement 2 | Every finitely "
    "generated torsion-free abelian group is a free abelian group.\n"
    "A. True, True\nB. False, False\nC. True, False\nD. False, True"
)
HARD = [PROJECTILE, GROUPS]


@pytest.fixture(scope="module")
def router() -> Router:
    return Router.bundled()


def test_it_is_small_and_says_what_it_is(router):
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 25e6
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for told in ("What it is, and what not", "left out", "alpaca_eval", "How to replace it"):
        assert told in card
    assert router.facts["training"]["int8"]["spearman"] >= 0.99
    assert not any(name.startswith("alpaca") for name in router.fitted_ids | router.calibrated_ids)
    assert router.candidates == ("small-tier", "frontier")


def test_its_graph_holds_no_path_of_the_machine_it_was_made_on():
    graph = (FOLDER / "graph.onnx").read_bytes()
    assert b"site-packages" not in graph
    assert b".py" not in graph


def test_it_finds_short_plain_questions_easier(router):
    scores = router.score([*EASY, *HARD])[:, 0]
    assert scores[: len(EASY)].min() > scores[len(EASY) :].max()


def test_a_letter_of_several_tokens_counts_as_several(router):
    text = "\ud55c\uad6d\uc5b4 " * 60  # 240 characters, and more than 256 tokens
    assert router.decide(text).query_truncated


def test_its_dial_is_half_the_calls_and_no_promise(router):
    decided = router.decide(EASY[0])
    assert (decided.dial, decided.dial_value) == ("cost_advantage", 0.5)
    assert (decided.guarantee, decided.guarantee_reason) == ("none", "no quality dial")
    limited = router.decide(EASY[0], max_quality_drop=0.05)
    assert (limited.guarantee, limited.guarantee_reason) == ("void", "other candidates")


def test_it_needs_neither_torch_nor_a_network():
    code = (
        "import sys, socket\n"
        "socket.socket = None\n"
        "from shared_router import Router\n"
        "print(Router.bundled().decide('What is 2 + 3?').reason)\n"
        "print(sorted({'torch', 'transformers', 'onnx', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split("\n")[:2] == ["score", "[]"]


def test_a_chat_model_without_a_router_takes_it(caplog):
    with caplog.at_level(logging.WARNING, "hybrid_llm"):
        model = HybridChatModel(small=FakeChat(model="small"), large=FakeChat(model="large"))
    assert "the bundled one decides" in caplog.text
    easy, hard = model.route(EASY[0]), model.route(HARD[0])
    assert (easy.candidate, hard.candidate) == ("small", "large")
    assert easy.router_name == "bundled"
    assert easy.guarantee == "none"


def test_a_llama_index_model_without_a_router_takes_it():
    small, large = pair()
    llm = HybridLLM(small=small, large=large)
    assert llm.route(EASY[0]).candidate == "small"
    assert llm.route(HARD[0]).router_name == "bundled"


def test_three_models_need_a_router_of_their_own():
    models = [Candidate(name, FakeChat(model=name)) for name in "abc"]
    with pytest.raises(CandidateError, match="the bundled one chooses between two"):
        HybridChatModel(candidates=models)


def test_other_models_are_another_router(router):
    own = router.for_candidates(["mine", "theirs"])
    assert not own.tiers
    assert own.curve is None
    np.testing.assert_array_equal(own.score(EASY), router.score(EASY))


def test_its_name_is_taken(router, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError, match="names the router that ships"):
        router.save_pretrained("bundled")
    assert not (tmp_path / "bundled").exists()
    own = router.for_candidates(["mine", "theirs"])
    own.save_pretrained(tmp_path / "bundled")
    assert Router.from_pretrained(Path("bundled")).candidates == own.candidates
    assert Router.from_pretrained("bundled").candidates == router.candidates
    assert "Do not use it" in (tmp_path / "bundled" / "README.md").read_text(encoding="utf-8")


def test_the_command_line_knows_it_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    routed = CliRunner().invoke(app, ["route", "bundled", EASY[0], "--cost-advantage", "0.9"])
    assert json.loads(routed.stdout)["candidate"] == "small-tier"
    data = tmp_path / "data.jsonl"
    data.write_text("")
    refused = CliRunner().invoke(app, ["calibrate", "bundled", str(data)])
    assert refused.exit_code != 0
    assert "name a folder in --out" in " ".join(refused.output.split())
    assert not (tmp_path / "bundled").exists()


def test_a_few_hundred_outcomes_calibrate_it_for_a_pair(router, data_folder, tmp_path):
    data = str(data_folder / "routellm_gsm8k.jsonl.gz")
    pair = ["--candidates", "mixtral-8x7b,gpt-4-1106"]
    out = str(tmp_path / "own")
    done = CliRunner().invoke(app, ["calibrate", "bundled", data, *pair, "--out", out])
    assert done.exit_code == 0, done.output
    own = Router.from_pretrained(out)
    assert own.candidates == ("mixtral-8x7b", "gpt-4-1106")
    assert own.curve is not None
    assert own.version == router.version
