"""The golden path over HTTP: collect, fit, calibrate, and both fronts, with the models measured."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import openai
import pytest
from typer.testing import CliRunner

pytest.importorskip("langchain_openai")
pytest.importorskip("llama_index.llms.openai_like")

from langchain_openai import ChatOpenAI
from llama_index.llms.openai_like import OpenAILike

from cookbook.pocket.questions import questions
from langchain_hybrid import HybridChatModel
from llamaindex_hybrid import HybridLLM
from shared_router import Router, RoutingDataset
from shared_router.cli.commands import app

if TYPE_CHECKING:
    from pathlib import Path

PAIR = ("small", "large")
ASKED = "Reverse the word bakolit."


def run(*args):
    result = CliRunner().invoke(app, [str(each) for each in args])
    assert result.exit_code == 0, result.output
    assert "warning" not in result.output
    return result.stdout


@pytest.fixture(scope="module")
def served(url):
    """Let `openai:...` reach the pair."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "none")
        patch.setenv("OPENAI_API_BASE", url)
        yield url


@pytest.fixture(scope="module", params=["url", "provider"])
def collected(request, served, tmp_path_factory) -> Path:
    """Return what `collect` wrote of the pair, named by its URL, or as `openai:...`."""
    folder = tmp_path_factory.mktemp(request.param)
    with (folder / "q.csv").open("w") as file:
        rows = csv.writer(file)
        rows.writerow(("query", "answer"))
        rows.writerows((each.text, each.answer) for each in questions(60, seed=21))
    specs = {name: f"{served.replace('//', '//me:secret@')}#pocket-{name}" for name in PAIR}
    if request.param == "provider":
        specs = {name: f"openai:pocket-{name}" for name in PAIR}
    models = [part for name in PAIR for part in ("--model", f"{name}={specs[name]}")]
    out = folder / "data.jsonl"
    said = run("collect", folder / "q.csv", *models, "--samples", 1, "--judge", "chrf",
               "--out", out)  # fmt: skip
    assert "small, 60 answered" in said
    assert "Next: hybrid-llm fit" in said
    assert "secret" not in out.read_text()
    return out


@pytest.fixture(scope="module")
def router(collected, tiny_encoder, tiny_cache) -> Router:
    """Return the router of the pair, as it comes back from its folder."""
    folder = collected.parent / "router"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYBRID_LLM_CACHE", str(tiny_cache))
        run("fit", collected, "--candidates", "small,large", "--encoder", tiny_encoder,
            "--out", folder)  # fmt: skip
        run("calibrate", folder, collected)
    return Router.from_pretrained(folder)


@pytest.fixture
def connections():
    """Return connections that are closed with the test."""
    with openai.DefaultHttpxClient(timeout=60) as sync_one:
        yield {"http_client": sync_one}


def test_the_data_tell_how_the_models_are_called(collected):
    data = RoutingDataset.load(collected)
    told = data.aliases(PAIR)
    assert all(f"pocket-{name}" in told[name] for name in PAIR)
    assert not any("secret" in name or "//" in name for names in told.values() for name in names)


def test_langchain_binds_the_models_measured(router, served, connections):
    small, large = (
        ChatOpenAI(model=f"pocket-{name}", base_url=served, api_key="none", **connections)
        for name in PAIR
    )
    model = HybridChatModel(small=small, large=large, router=router)
    assert model.route(ASKED).guarantee == "estimated"
    by_score = model.model_copy(update={"threshold": 0.0}).route(ASKED)
    assert by_score.guarantee_reason == "no quality dial"
    reply = model.invoke(ASKED, route="large")
    assert reply.response_metadata["hybrid_routing"]["guarantee"] == "estimated"
    assert reply.response_metadata["model_name"] == "pocket-large"


def test_the_same_specs_bind(router, served):
    specs = {name: f"openai:pocket-{name}" for name in PAIR}
    model = HybridChatModel(**specs, router=router)
    assert model.route(ASKED).guarantee == "estimated"
    assert model.route(ASKED, route="small").index == 0
    with pytest.raises(ValueError, match="swap them"):
        HybridChatModel(small=specs["large"], large=specs["small"], router=router)


def test_llamaindex_binds_the_models_measured(router, served, connections):
    made = {"api_base": served, "api_key": "none", "is_chat_model": True, **connections}
    small, large = (OpenAILike(model=f"pocket-{name}", **made) for name in PAIR)
    llm = HybridLLM(small=small, large=large, router=router)
    assert llm.route(ASKED).guarantee == "estimated"
    answer = llm.complete(ASKED, route="large")
    assert answer.additional_kwargs["hybrid_routing"]["guarantee"] == "estimated"
