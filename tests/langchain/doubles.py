"""Doubles for the tests of queries and dials: a scorer and a chat model that keep what they get."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field

from langchain_hybrid import HybridChatModel
from shared_router import Router
from shared_router.records import ROUTING_KEY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from numpy.typing import NDArray


@dataclass
class RecordingScorer:
    """A scorer that records the texts it is asked to score."""

    value: float = 1.0
    texts: list[str] = field(default_factory=list)

    def score(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.texts.extend(texts)
        return np.full((len(texts), 1), self.value, dtype=np.float32)


class Child(BaseChatModel):
    """A chat model that answers with its name and records what reaches it."""

    model: str
    answers: list[AIMessage] = Field(default_factory=list)
    """Given one after the other; afterwards the name is the answer."""
    asked: list[Any] = Field(default_factory=list)
    """The messages of each call."""
    keywords: list[dict[str, Any]] = Field(default_factory=list)
    """The keywords of each call."""
    delay_s: float = 0.0

    @property
    def _llm_type(self) -> str:
        return "child"

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        return {"ls_provider": "child", "ls_model_name": self.model, "ls_model_type": "chat"}

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self.bind(tools=list(tools), **kwargs)

    def get_num_tokens(self, text: str) -> int:
        return len(text.split())

    def get_token_ids(self, text: str) -> list[int]:
        return [len(word) for word in text.split()]

    def _next(self, messages: list[Any], stop: Any, kwargs: dict[str, Any]) -> AIMessage:
        self.asked.append(messages)
        self.keywords.append({**kwargs, **({"stop": stop} if stop else {})})
        position = len(self.asked) - 1
        known = position < len(self.answers)
        return self.answers[position] if known else AIMessage(f"from {self.model}")

    def _generate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        message = self._next(messages, stop, kwargs)
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        await asyncio.sleep(self.delay_s)
        return self._generate(messages, stop, **kwargs)

    def _stream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Any:
        message = self._next(messages, stop, kwargs)
        calls: Any = [
            {"name": c["name"], "args": "{}", "id": c["id"], "index": i, "type": "tool_call_chunk"}
            for i, c in enumerate(message.tool_calls)
        ]
        words = str(message.content).split(" ")
        for i, word in enumerate(words):
            content = word if i == 0 else f" {word}"
            chunk = AIMessageChunk(content, tool_call_chunks=calls if i == 0 else [])
            yield ChatGenerationChunk(message=chunk)


def pair() -> tuple[Child, Child]:
    """Make a small and a large child."""
    return Child(model="small"), Child(model="large")


def hybrid(scorer: Any = None, **options: Any) -> HybridChatModel:
    """Make a hybrid model over two children and an uncalibrated router around the scorer."""
    small, large = pair()
    router = Router(candidates=("small", "large"), scorer=scorer or RecordingScorer(), name="test")
    return HybridChatModel(**{"small": small, "large": large, "router": router, **options})


def decision_of(message: Any) -> dict[str, Any]:
    """Return the decision a message carries."""
    found = message.response_metadata[ROUTING_KEY]
    assert isinstance(found, dict)
    return found


def answered_by(name: str, why: str = "chosen") -> dict[str, str]:
    """Return what a message tells beside the decision."""
    return {"answered_by": name, "answered_because": why}


def claimed(message: Any) -> tuple[str, str | None]:
    """Return what a message claims of its quality, and why no more."""
    found = decision_of(message)
    return found["guarantee"], found["guarantee_reason"]


async def first(chunks: AsyncIterator[Any]) -> Any:
    """Draw an async iterator to its end; returns its first chunk."""
    drawn = [chunk async for chunk in chunks]
    return drawn[0]
