"""`hybrid-llm collect --temperature --seed`: how they reach a model; samples that are all alike."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shared_router.cli.commands import app
from shared_router.collecting import specs as collect_specs
from shared_router.collecting.collect import collect
from shared_router.collecting.judges import JudgeSpec
from shared_router.collecting.specs import resolve_spec
from shared_router.data.answers import Answer, Sampling
from shared_router.errors import ConfigurationError

LANGCHAIN = "langchain_hybrid.models:resolve"
MODULE = """
from langchain_core.language_models import BaseChatModel, FakeListLLM
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableLambda
from shared_router.data.answers import Answer

async def deaf(query, sample):
    return Answer("the same")

async def seeded(query, sample, *, temperature=None, seed=None):
    return Answer(f"temperature {temperature}, seed {seed}")

class Keywords(BaseChatModel):
    '''Says which keywords a call brings.'''

    @property
    def _llm_type(self):
        return "keywords"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        told = f"temperature {kwargs.get('temperature')}, seed {kwargs.get('seed')}"
        return ChatResult(generations=[ChatGeneration(message=AIMessage(told))])

class Fields(Keywords):
    '''Says which fields it has, and refuses keywords, as some clients do.'''

    temperature: float = 0.5
    seed: int | None = None

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        if kwargs:
            raise TypeError("unexpected keyword")
        told = f"temperature {self.temperature}, seed {self.seed}"
        return ChatResult(generations=[ChatGeneration(message=AIMessage(told))])

class Telling(Keywords):
    '''Tells log-probabilities where it is asked for them.'''

    logprobs: bool | None = None
    gives: bool = True

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        told = {"logprobs": {"content": [{"logprob": -0.25}]}}
        asked = self.logprobs and self.gives
        reply = AIMessage(f"asked {self.logprobs}", response_metadata=told if asked else {})
        return ChatResult(generations=[ChatGeneration(message=reply)])

class Refusing(Telling):
    '''Refuses them.'''

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        if self.logprobs:
            raise TypeError("unexpected keyword argument 'logprobs'")
        return super()._generate(messages, stop, run_manager, **kwargs)

telling, refusing, silent = Telling(), Refusing(), Telling(gives=False)
completing = FakeListLLM(responses=["4"])
keywords, fields = Keywords(), Fields()
retried = fields.with_retry()
fallen = fields.with_fallbacks([keywords])
bound = keywords.bind(temperature=0.1)
chain = RunnableLambda(str) | fields
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Work in a folder with a module of models, which LangChain's adapter may read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "sampled_models", raising=False)
    monkeypatch.setattr(
        collect_specs,
        "entry_points",
        lambda group: [EntryPoint("langchain", LANGCHAIN, collect_specs.GROUP)],
    )
    (tmp_path / "sampled_models.py").write_text(MODULE)
    (tmp_path / "q.csv").write_text("query,answer\none,1\ntwo,2\n")
    return tmp_path


def asked(name, sample=0, **sampling):
    ask = resolve_spec(f"sampled_models:{name}", Sampling(**sampling))
    return asyncio.run(ask("q", sample)).text


@pytest.mark.parametrize("name", ["seeded", "keywords", "fields", "retried", "fallen", "bound"])
def test_temperature_and_seed_reach_the_model(folder, name):
    assert asked(name, temperature=1.5, seed=7) == "temperature 1.5, seed 7"
    assert asked(name, 3, temperature=0.0, seed=7) == "temperature 0.0, seed 10"


def test_without_them_each_model_keeps_its_own(folder):
    assert asked("fields") == "temperature 0.5, seed None"
    assert asked("bound") == "temperature 0.1, seed None"
    assert asked("fields", temperature=2.0) == "temperature 2.0, seed None"
    assert asked("deaf") == "the same"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("deaf", "a function of your own without the keyword temperature"),
        ("chain", "here is a RunnableSequence around one"),
    ],
)
def test_what_they_cannot_reach_is_refused_before_any_call(folder, name, said):
    with pytest.raises(ConfigurationError, match=said):
        resolve_spec(f"sampled_models:{name}", Sampling(temperature=1.0))


def test_an_adapter_that_knows_no_sampling(folder, monkeypatch):
    (folder / "old_adapter.py").write_text("def resolve(spec):\n    raise AssertionError\n")
    point = EntryPoint("old", "old_adapter:resolve", collect_specs.GROUP)
    monkeypatch.setattr(collect_specs, "entry_points", lambda group: [point])
    with pytest.raises(ConfigurationError, match="old_adapter does not"):
        resolve_spec("openai:gpt-5.5", Sampling(seed=1))


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1}, {"temperature": float("nan")}, {"seed": -1}]
)
def test_numbers_out_of_range(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Sampling(**wrong)


def run(*args, models=("fields",)):
    chosen = [part for name in models for part in ("--model", f"{name}=sampled_models:{name}")]
    shared = ["--judge", "exact", "--out", "d.jsonl", *(["--one-model"] * (len(models) == 1))]
    return CliRunner().invoke(app, ["collect", "q.csv", *chosen, *shared, *map(str, args)])


def journal():
    with contextlib.closing(sqlite3.connect("d.jsonl.journal")) as db:
        return db.execute("SELECT sample, response FROM answers ORDER BY sample").fetchall()


def test_the_command_passes_them_on_and_a_resumed_run_keeps_them(folder):
    result = run("--samples", 2, "--temperature", 0.7, "--seed", 40)
    assert result.exit_code == 0, result.output
    assert journal() == [
        (sample, f"temperature 0.7, seed {40 + sample}") for sample in (0, 0, 1, 1)
    ]
    assert "warning" not in result.stderr
    for other, said in (
        (("--temperature", 0.7), "seed (40 there, none now)"),
        (("--temperature", 0.9, "--seed", 40), "temperature (0.7 there, 0.9 now)"),
        ((), "seed (40 there, none now), temperature (0.7 there, none now)"),
    ):
        again = run("--samples", 2, *other)
        assert again.exit_code == 1
        assert said in again.stderr


def test_samples_that_are_all_alike_are_told_in_one_line(folder):
    result = run("--samples", 2, models=("deaf", "seeded"))
    (told,) = [line for line in result.stderr.splitlines() if line.startswith("warning")]
    assert told == (
        "warning: all samples of a query were the same, on every query, for deaf, seeded: one "
        "tells as much. A higher --temperature may vary them, where the provider heeds it."
    )
    assert "warning" not in run("--samples", 1, "--out", "e.jsonl", models=("deaf",)).stderr


async def test_one_query_that_differs_is_enough(tmp_path):
    async def ask(query, sample):
        return Answer(f"{sample}" if query == "two" else "same")

    report = await collect(["one", "two"], {"m": ask}, tmp_path / "d.jsonl", 3)
    assert report.unvaried == ()
    report = await collect(["one", "three"], {"m": ask}, tmp_path / "e.jsonl", 3)
    assert report.unvaried == ("m",)


def test_json_names_them_too(folder):
    result = run("--samples", 2, "--json", models=("deaf",))
    assert json.loads(result.stdout)["unvaried"] == ["deaf"]


def logprobs():
    lines = map(json.loads, Path("d.jsonl").read_text().splitlines())
    return [told.get("logprobs") for line in lines for told in line["outcomes"].values()]


@pytest.mark.parametrize(
    ("option", "model", "expected"),
    [
        ((), "telling", [[-0.25]]),
        (("--logprobs",), "telling", [[-0.25]]),
        (("--no-logprobs",), "telling", None),
        ((), "refusing", None),
        (("--no-logprobs",), "refusing", None),
        ((), "fields", None),
        ((), "deaf", None),
        (("--no-logprobs",), "deaf", None),
    ],
)
def test_log_probabilities_are_asked_of_who_gives_them(folder, option, model, expected):
    result = run("--samples", 1, *option, models=(model,))
    assert result.exit_code == 0, result.output
    assert "warning" not in result.stderr
    assert logprobs() == [expected, expected]


def test_a_model_that_must_give_them_and_refuses_does_not_answer(folder):
    result = run("--samples", 1, "--logprobs", models=("refusing",))
    assert result.exit_code == 1
    assert "model 'refusing' does not answer (TypeError)" in result.stderr


def test_models_that_were_asked_in_vain_are_told(folder):
    result = run("--samples", 1, "--logprobs", models=("silent", "deaf", "telling"))
    assert "warning: silent, deaf told no log-probabilities; an answer" in result.stderr


@pytest.mark.parametrize(
    ("name", "kind"), [("chain", "RunnableSequence"), ("completing", "FakeListLLM")]
)
def test_who_cannot_be_asked_for_them(folder, name, kind):
    with pytest.raises(ConfigurationError, match=f"asked of chat models; here is a {kind}. Leave"):
        resolve_spec(f"sampled_models:{name}", Sampling(logprobs=True))
    assert asked(name)


def test_an_adapter_that_knows_no_sampling_asks_for_none(folder, monkeypatch):
    (folder / "older_adapter.py").write_text("def resolve(spec):\n    return spec.upper\n")
    point = EntryPoint("old", "older_adapter:resolve", collect_specs.GROUP)
    monkeypatch.setattr(collect_specs, "entry_points", lambda group: [point])
    for harmless in (None, Sampling(), Sampling(logprobs=False)):
        assert resolve_spec("a:b", harmless)
    with pytest.raises(ConfigurationError, match=r"seed or log-probabilities.*older_adapter does"):
        resolve_spec("a:b", Sampling(logprobs=True))


def test_a_judge_is_not_asked_for_them(folder):
    judge = JudgeSpec("llm=sampled_models:telling")()
    answer = asyncio.run(judge.ask("q", 0))
    assert (answer.text, answer.logprobs) == ("asked None", None)
