"""SPECs of `hybrid-llm collect` that name LlamaIndex models."""

from __future__ import annotations

import json
import sys
from importlib.metadata import EntryPoint
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import openai
import pytest
from llama_index.llms.openai_like import OpenAILike
from typer.testing import CliRunner

from llamaindex_hybrid.models import asking, resolve
from shared_router.cli.commands import app
from shared_router.collecting import specs as collect_specs
from shared_router.collecting.specs import resolve_spec
from shared_router.data.answers import Sampling
from shared_router.errors import ConfigurationError
from shared_router.records import AnswerSettings
from tests.llamaindex.fakes import FakeLLM, PlainLLM
from tests.llamaindex.openai_server import ANSWER, INVALID, REFUSAL, SAMPLED, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.llamaindex.openai_server import Server

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


# -- log-probabilities, and how an answer was made ------------------------------------------------


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def client(server: Server, connections: dict[str, Any], **how: Any) -> OpenAILike:
    fixed = {"model": "small", "api_base": server.url, "api_key": "none", "max_retries": 0}
    return OpenAILike(**fixed, **connections, **{"is_chat_model": True, **how})


def requested(server: Server) -> list[Any]:
    return [each.get("logprobs") for each in server.asked]


@pytest.mark.parametrize("logprobs", ["auto", True])
@pytest.mark.parametrize("is_chat_model", [True, False])
async def test_openais_clients_tell_the_tokens_that_were_sampled(
    server: Server, connections: dict[str, Any], is_chat_model: bool, logprobs: Any
) -> None:
    model = client(server, connections, is_chat_model=is_chat_model, max_tokens=30)
    sampling = Sampling(temperature=0.5, seed=2, logprobs=logprobs)
    answer = await asking(model, sampling)("q", 1)
    assert (answer.text, answer.logprobs) == (ANSWER, (SAMPLED,) * len(ANSWER.split()))
    assert answer.settings == AnswerSettings(
        model="small", temperature=0.5, max_tokens=30, logprobs=True
    )
    assert [(each["temperature"], each["seed"]) for each in server.asked] == [(0.5, 3)]
    assert model.logprobs is None


@pytest.mark.parametrize("refusal", [REFUSAL, INVALID])
async def test_a_refused_request_is_sent_once_more_without(
    server: Server, connections: dict[str, Any], refusal: dict[str, Any]
) -> None:
    server.refuses = refusal
    model = client(server, connections)
    ask = asking(model)
    for sample in range(2):
        answer = await ask("q", sample)
        assert (answer.text, answer.logprobs) == (ANSWER, None)
        assert answer.settings == AnswerSettings(model="small", temperature=model.temperature)
    assert requested(server) == [True, None, None]
    with pytest.raises(openai.BadRequestError):
        await asking(model, Sampling(logprobs=True))("q", 0)
    assert (await asking(model, Sampling(logprobs=False))("q", 0)).text == ANSWER
    assert requested(server)[3:] == [True, None]


async def test_what_a_user_has_said_of_them_stands(
    server: Server, connections: dict[str, Any]
) -> None:
    assert (await asking(client(server, connections, logprobs=False))("q", 0)).logprobs is None
    told = client(server, connections, logprobs=True, top_logprobs=3)
    assert (await asking(told)("q", 0)).logprobs
    assert [each.get("top_logprobs") for each in server.asked] == [None, 3]


async def test_a_model_that_knows_no_such_keyword_is_asked_without() -> None:
    class Strict(FakeLLM):
        def _reply(self, messages: Any, kwargs: Any) -> Any:
            if "logprobs" in kwargs:
                raise TypeError("unexpected keyword argument 'logprobs'")
            return super()._reply(messages, kwargs)

    model = Strict(name="strict", answer="4")
    assert (await asking(model)("q", 0)).text == "4"
    assert [set(each) for each in model.requests] == [{"messages"}]


async def test_a_completion_model_is_not_asked_for_them() -> None:
    plain = PlainLLM(name="plain", chat_model=False, answer="4")
    answer = await asking(plain)("q", 0)
    assert (answer.text, answer.logprobs) == ("4", None)
    assert "logprobs" not in plain.requests[0]
    with pytest.raises(ConfigurationError, match="asked of chat models; PlainLLM is none"):
        asking(plain, Sampling(logprobs=True))
