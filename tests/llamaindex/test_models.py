"""SPECs of `hybrid-llm collect` that name LlamaIndex models."""

from __future__ import annotations

import json
import sys
from importlib.metadata import EntryPoint
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from llamaindex_hybrid.models import resolve
from shared_router.cli.commands import app
from shared_router.collecting import specs as collect_specs
from shared_router.collecting.specs import resolve_spec
from shared_router.data.answers import Sampling
from shared_router.errors import ConfigurationError
from tests.llamaindex.fakes import FakeLLM, PlainLLM

if TYPE_CHECKING:
    from pathlib import Path

POINTS = [
    EntryPoint("llamaindex", "llamaindex_hybrid.models:resolve", collect_specs.GROUP),
    EntryPoint("langchain", "langchain_hybrid.models:resolve", collect_specs.GROUP),
]


@pytest.fixture(autouse=True)
def own_models(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("own_llms")
    module.chat = FakeLLM(name="chat", answer=lambda question: f"to {question}")
    module.plain = PlainLLM(name="plain", chat_model=False, answer="4")
    module.broken = FakeLLM(name="broken", fail_after=0)
    module.number = 4
    monkeypatch.setitem(sys.modules, "own_llms", module)
    monkeypatch.setattr(collect_specs, "entry_points", lambda group: POINTS)


@pytest.mark.parametrize(("name", "expected"), [("chat", "to q"), ("plain", "4")])
async def test_an_attribute_that_is_an_llm_is_asked(name: str, expected: str) -> None:
    answer = await resolve_spec(f"own_llms:{name}")("q", 0)
    assert answer.text == expected
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (10, 5)
    assert answer.usage.cost_usd is None


@pytest.mark.parametrize(
    "raw", [{"model": "nano-2025-08-07"}, SimpleNamespace(model="nano-2025-08-07")]
)
async def test_an_answer_tells_what_the_model_is_called(raw: Any) -> None:
    class Dated(FakeLLM):
        def _raw(self) -> Any:
            return raw

    sys.modules["own_llms"].chat = Dated(name="nano", answer="4")  # type: ignore[attr-defined]
    answer = await resolve_spec("own_llms:chat")("q", 0)
    assert answer.names == ("nano", "nano-2025-08-07")


async def test_a_model_that_tells_no_usage_is_asked_too() -> None:
    class Silent(FakeLLM):
        def _raw(self) -> Any:
            return None

    class Odd(FakeLLM):
        def _raw(self) -> Any:
            return {"usage": 7}

    for kind in (Silent, Odd):
        sys.modules["own_llms"].chat = kind(name="x", answer="4")  # type: ignore[attr-defined]
        answer = await resolve_spec("own_llms:chat")("q", 0)
        assert (answer.text, answer.usage.input_tokens) == ("4", 0)


async def test_temperature_and_seed_reach_the_model() -> None:
    class Warm(FakeLLM):
        temperature: float = 0.1

        def _reply(self, messages: Any, kwargs: Any) -> Any:
            kwargs["field"] = self.temperature
            return super()._reply(messages, kwargs)

    module: Any = sys.modules["own_llms"]
    module.warm = Warm(name="warm")
    sampling = Sampling(temperature=0.7, seed=3)
    for name in ("chat", "plain", "warm"):
        ask = resolve_spec(f"own_llms:{name}", sampling)
        for sample in (0, 1):
            await ask("q", sample)
    for name in ("chat", "plain"):
        asked = getattr(module, name).requests
        assert [(each["temperature"], each["seed"]) for each in asked] == [(0.7, 3), (0.7, 4)]
    assert [(each["field"], each["seed"]) for each in module.warm.requests] == [(0.7, 3), (0.7, 4)]
    assert module.warm.temperature == 0.1


@pytest.mark.parametrize(
    "spec", ["own_llms:number", "own_llms:nothing", "openai:gpt-5.5", "http://127.0.0.1:9/v1#m"]
)
def test_what_is_no_llm_of_llamaindexs_is_left_to_others(spec: str) -> None:
    assert resolve(spec) is None


async def test_a_models_error_is_collects_to_handle() -> None:
    with pytest.raises(ConnectionError):
        await resolve_spec("own_llms:broken")("q", 0)
    with pytest.raises(ConfigurationError, match="fails on import"):
        resolve("tests.llamaindex.broken_module:llm")


def test_collect_asks_them(tmp_path: Path) -> None:
    questions = tmp_path / "questions.csv"
    questions.write_text("query,answer\nWhat is 2 + 2?,4\nWhat is 3 + 3?,6\n")
    out = tmp_path / "outcomes.jsonl"
    given = ["--model", "small=own_llms:plain", "--model", "large=own_llms:chat"]
    arguments = [
        "collect",
        str(questions),
        *given,
        "--judge",
        "exact",
        "--samples",
        "1",
        "--out",
        str(out),
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [record["outcomes"]["small"]["quality"] for record in records] == [[1.0], [0.0]]
    assert records[0]["outcomes"]["large"]["response"] == ["to What is 2 + 2?"]
