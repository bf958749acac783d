"""The calls of the chaos benchmark: each way of asking, each variant, and what came of it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

from langchain_hybrid import HybridChatModel
from langchain_hybrid.children import base_models
from llamaindex_hybrid import HybridLLM
from shared_router.records import ROUTING_KEY
from shared_router.testing import fixed_router
from tests.benchmarks.chaos.server import number_of, right_answer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MODELS = ("small", "large")


class Told(BaseModel):
    """What a right answer says."""

    model: str
    question: int
    digest: str


@tool
def tell(model: str, question: int, digest: str) -> str:
    """Tell who answered."""
    return f"{model} {question} {digest}"


TELL = FunctionTool.from_defaults(
    lambda model, question, digest: "", name="tell", description="Tell."
)
PROMPT = PromptTemplate("{query_str}")


def question_of(number: int, variant: str) -> str:
    """Write a question; its number and variant stand in it, for the servers."""
    return f"q={number}; variant={variant}; What do you make of it?"


def score(text: str) -> float:
    """Send every second question to the small model."""
    return number_of(text.partition(" variant")[0], "route") - 0.5


# -- servers --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Served:
    """The servers' addresses."""

    urls: dict[str, str]

    def asked(self) -> dict[str, dict[str, int]]:
        """Return how often each model was asked each question of each variant."""
        return {name: httpx.get(f"{url}/asked").json() for name, url in self.urls.items()}


@contextmanager
def serving(seed: int, share: float) -> Iterator[Served]:
    """Start a server a model, each in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.chaos.server"]
    how = ["--seed", str(seed), "--share", str(share)]
    started = {
        name: subprocess.Popen(
            [*command, "--model", name, *how], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for name in MODELS
    }
    try:
        ports = {name: int(p.stdout.readline()) for name, p in started.items() if p.stdout}
        yield Served({name: f"http://127.0.0.1:{port}/v1" for name, port in ports.items()})
    finally:
        for process in started.values():
            process.communicate(timeout=20)


# -- who is asked ---------------------------------------------------------------------------------


def chat_models(served: Served, timeout_s: float, retries: int) -> dict[str, ChatOpenAI]:
    """Make LangChain's clients."""
    how: dict[str, Any] = {"timeout": timeout_s, "max_retries": retries, "api_key": "none"}
    return {n: ChatOpenAI(model=n, base_url=served.urls[n], **how) for n in MODELS}


def llms(served: Served, timeout_s: float, retries: int) -> dict[str, OpenAILike]:
    """Make LlamaIndex's clients."""
    how: dict[str, Any] = {"timeout": timeout_s, "max_retries": retries, "api_key": "none"}
    able = {"is_chat_model": True, "is_function_calling_model": True}
    return {n: OpenAILike(model=n, api_base=served.urls[n], **how, **able) for n in MODELS}


def variants(
    served: Served, *, timeout_s: float, retries: int, call_timeout_s: float | None
) -> dict[str, dict[str, Any]]:
    """Return, for each variant, whom each front asks."""
    settings: dict[str, dict[str, Any]] = {
        "fallback, breaker on": {"call_timeout_s": call_timeout_s},
        "fallback, breaker off": {"call_timeout_s": call_timeout_s, "breaker": False},
        "fallback off": {"fallback": "off", "call_timeout_s": call_timeout_s},
    }
    made: dict[str, dict[str, Any]] = {}
    for name, how in settings.items():
        router: Any = {"router": fixed_router(score), "same_models": True, **how}
        made[name] = {
            "langchain": HybridChatModel(**chat_models(served, timeout_s, retries), **router),
            "llamaindex": HybridLLM(**llms(served, timeout_s, retries), **router),
        }
    plain = chat_models(served, timeout_s, retries)
    made["large.with_fallbacks([small])"] = {
        "langchain": plain["large"].with_fallbacks([plain["small"]])
    }
    return made


# -- how they are asked ---------------------------------------------------------------------------

Asked = Callable[[Any, str], Any]


def _text(answer: Any) -> Any:
    return json.loads(answer.content), answer.response_metadata.get(ROUTING_KEY)


def _streamed(chunks: Sequence[Any]) -> Any:
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    return _text(whole)


async def _drawn(chunks: Any) -> list[Any]:
    return [chunk async for chunk in chunks]


async def _ainvoke(model: Any, text: str) -> Any:
    return _text(await model.ainvoke(text))


async def _astream(model: Any, text: str) -> Any:
    return _streamed(await _drawn(model.astream(text)))


def _tools(model: Any, text: str) -> Any:
    answer = model.bind_tools([tell]).invoke(text)
    (call,) = answer.tool_calls
    return call["args"], answer.response_metadata.get(ROUTING_KEY)


def _structured(model: Any, text: str) -> Any:
    answer = model.with_structured_output(Told, method="json_schema").invoke(text)
    return answer.model_dump(), None


def _said(text: str) -> list[ChatMessage]:
    return [ChatMessage(role="user", content=text)]


def _response(answer: Any) -> Any:
    return json.loads(answer.message.content or ""), answer.additional_kwargs.get(ROUTING_KEY)


async def _achat(llm: Any, text: str) -> Any:
    return _response(await llm.achat(_said(text)))


async def _astream_chat(llm: Any, text: str) -> Any:
    return _response((await _drawn(await llm.astream_chat(_said(text))))[-1])


def _chat_with_tools(llm: Any, text: str) -> Any:
    answer = llm.chat_with_tools([TELL], user_msg=text)
    (call,) = llm.get_tool_calls_from_response(answer)
    return call.tool_kwargs, answer.additional_kwargs.get(ROUTING_KEY)


def _structured_predict(llm: Any, text: str) -> Any:
    return llm.structured_predict(Told, PROMPT, query_str=text).model_dump(), None


WAYS: dict[str, tuple[str, Asked]] = {
    "invoke": ("langchain", lambda m, t: _text(m.invoke(t))),
    "ainvoke": ("langchain", _ainvoke),
    "stream": ("langchain", lambda m, t: _streamed(list(m.stream(t)))),
    "astream": ("langchain", _astream),
    "tools": ("langchain", _tools),
    "structured": ("langchain", _structured),
    "chat": ("llamaindex", lambda m, t: _response(m.chat(_said(t)))),
    "achat": ("llamaindex", _achat),
    "stream_chat": ("llamaindex", lambda m, t: _response(list(m.stream_chat(_said(t)))[-1])),
    "astream_chat": ("llamaindex", _astream_chat),
    "chat_with_tools": ("llamaindex", _chat_with_tools),
    "structured_predict": ("llamaindex", _structured_predict),
}
"""Ways of asking: the front, and how; those that begin with `a` are awaited."""


@dataclass
class Outcome:
    """What came of one call."""

    way: str
    question: int
    seconds: float
    result: str
    """`right`, `error`, or what is wrong with the answer."""
    error: BaseException | None = field(default=None, repr=False)


def judged(way: str, question: int, text: str, found: Any) -> str:
    """Say what is wrong with an answer; `right` where nothing is."""
    told, routed = found
    named = str(told.get("model"))
    if told != right_answer(named, question, text) or named not in MODELS:
        return f"wrong answer in {way}"
    if routed is not None and routed["answered_by"] != named:
        return f"wrong name in {way}"
    return "right"


def run(
    models: dict[str, Any], variant: str, numbers: Sequence[int], workers: int
) -> list[Outcome]:
    """Make the calls of one variant, question by question in its own way."""
    ways = list(WAYS)
    jobs = [(ways[number % len(ways)], number) for number in numbers]
    jobs = [(way, number) for way, number in jobs if WAYS[way][0] in models]
    blocking = [job for job in jobs if not job[0].startswith("a")]
    awaited = [job for job in jobs if job[0].startswith("a")]
    with ThreadPoolExecutor(workers) as pool:
        done = list(pool.map(lambda job: _one(models, variant, *job), blocking))
    return done + asyncio.run(_all(models, variant, awaited, workers))


def _one(models: dict[str, Any], variant: str, way: str, number: int) -> Outcome:
    front, ask = WAYS[way]
    text, started = question_of(number, variant), time.monotonic()
    try:
        found = ask(models[front], text)
    except Exception as error:
        return Outcome(way, number, time.monotonic() - started, "error", error)
    return Outcome(way, number, time.monotonic() - started, judged(way, number, text, found))


async def _close(models: dict[str, Any]) -> None:
    """Close the clients' connections, which belong to this event loop."""
    for front, model in models.items():
        wrapped = (
            [c.model for c in model.engine.candidates] if hasattr(model, "engine") else [model]
        )
        for each in wrapped:
            if front == "llamaindex":
                await each._get_aclient().close()
                continue
            for base in base_models(each):
                await base.root_async_client.close()  # type: ignore[attr-defined]
    await asyncio.sleep(0.1)


async def _all(
    models: dict[str, Any], variant: str, jobs: list[Any], workers: int
) -> list[Outcome]:
    gate = asyncio.Semaphore(workers)

    async def one(way: str, number: int) -> Outcome:
        front, ask = WAYS[way]
        async with gate:
            text, started = question_of(number, variant), time.monotonic()
            try:
                found = await ask(models[front], text)
            except Exception as error:
                return Outcome(way, number, time.monotonic() - started, "error", error)
            return Outcome(
                way, number, time.monotonic() - started, judged(way, number, text, found)
            )

    outcomes = list(await asyncio.gather(*(one(*job) for job in jobs)))
    await _close(models)
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert not left, f"left behind: {left}"
    return outcomes
