"""Who is asked in the chaos benchmark: two servers, and every way of doing without one of them."""

from __future__ import annotations

import logging
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from langchain_openai import ChatOpenAI
from llama_index.llms.openai_like import OpenAILike

from langchain_hybrid import HybridChatModel
from llamaindex_hybrid import HybridLLM
from shared_router.testing import fixed_router
from tests.benchmarks.chaos.server import number_of

if TYPE_CHECKING:
    from collections.abc import Iterator

MODELS = ("small", "large")
_OURS: dict[str, dict[str, Any]] = {
    "fallback, breaker on": {},
    "fallback, breaker off": {"breaker": False},
    "fallback off": {"fallback": "off"},
}


@dataclass(frozen=True)
class Served:
    """The servers' addresses, and how clients ask them."""

    urls: dict[str, str]
    timeout_s: float = 2.0
    retries: int = 0

    def asked(self) -> dict[str, dict[str, int]]:
        """Return how often each model was asked each question of each variant."""
        return {name: httpx.get(f"{url}/asked").json() for name, url in self.urls.items()}

    @property
    def client(self) -> dict[str, Any]:
        """What all clients are told."""
        return {"timeout": self.timeout_s, "max_retries": self.retries, "api_key": "none"}


@dataclass(frozen=True)
class Variant:
    """Somebody to ask."""

    name: str
    front: str
    model: Any
    limit_s: float | None = None
    """The time limit of each call, where it has one."""
    routed: bool = True
    """Whether it is ours."""

    @property
    def key(self) -> str:
        """What stands in its questions, for the servers to count by."""
        return f"{self.front}, {self.name}"


@contextmanager
def serving(seed: int, share: float, **client: Any) -> Iterator[Served]:
    """Start a server a model, each in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.chaos.server"]
    how = ["--seed", str(seed), "--share", str(share)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    started = {
        name: subprocess.Popen(
            [*command, "--model", name, *how], cwd=Path(__file__).parents[3], **pipes
        )
        for name in MODELS
    }
    try:
        ports = {name: int(p.stdout.readline()) for name, p in started.items() if p.stdout}
        urls = {name: f"http://127.0.0.1:{port}/v1" for name, port in ports.items()}
        yield Served(urls, **client)
    finally:
        for process in started.values():
            process.communicate(timeout=20)


def score(text: str) -> float:
    """Send every second question to the small model."""
    return number_of(text.partition(" variant")[0], "route") - 0.5


def chat_models(served: Served) -> dict[str, ChatOpenAI]:
    """Make LangChain's clients."""
    return {n: ChatOpenAI(model=n, base_url=served.urls[n], **served.client) for n in MODELS}


def llms(served: Served) -> dict[str, OpenAILike]:
    """Make LlamaIndex's clients."""
    able = {"is_chat_model": True, "is_function_calling_model": True}
    return {
        n: OpenAILike(model=n, api_base=served.urls[n], **served.client, **able) for n in MODELS
    }


def variants(served: Served, limit_s: float | None) -> list[Variant]:
    """Return ours and LangChain's own, each with clients of its own."""
    router: dict[str, Any] = {"router": fixed_router(score), "same_models": True}
    made = []
    for name, how in _OURS.items():
        routed = {**router, **how, "call_timeout_s": limit_s}
        chat, llm = (
            HybridChatModel(**chat_models(served), **routed),
            HybridLLM(**llms(served), **routed),
        )
        made += [
            Variant(name, "langchain", chat, limit_s),
            Variant(name, "llamaindex", llm, limit_s),
        ]
    plain = chat_models(served)
    either = plain["large"].with_fallbacks([plain["small"]])
    return [*made, Variant("large.with_fallbacks([small])", "langchain", either, routed=False)]


def others(served: Served) -> list[Variant]:
    """Return litellm's router, as it is and without its breaker, where it is installed."""
    try:
        import litellm
    except ImportError:
        return []
    litellm.suppress_debug_info = True
    logging.getLogger("LiteLLM Router").setLevel(logging.CRITICAL)
    return [
        Variant("litellm's Router", "litellm", _Routed(served), routed=False),
        Variant(
            "litellm's Router, no cooldowns",
            "litellm",
            _Routed(served, disable_cooldowns=True),
            routed=False,
        ),
    ]


class _Routed:
    """litellm's router over both, each the other's fallback, asked as ours choose."""

    def __init__(self, served: Served, **how: Any) -> None:
        from litellm import Router

        self.router = Router(
            model_list=[
                {
                    "model_name": name,
                    "litellm_params": {
                        "model": f"openai/{name}",
                        "api_base": served.urls[name],
                        **served.client,
                    },
                }
                for name in MODELS
            ],
            fallbacks=[{"small": ["large"]}, {"large": ["small"]}],
            num_retries=0,
            **how,
        )

    def completion(self, **asking: Any) -> Any:
        """Ask, blocking."""
        return self.router.completion(model=_chosen(asking), **asking)

    async def acompletion(self, **asking: Any) -> Any:
        """Ask, awaited."""
        return await self.router.acompletion(model=_chosen(asking), **asking)


def _chosen(asking: dict[str, Any]) -> str:
    return "small" if score(asking["messages"][0]["content"]) >= 0 else "large"
