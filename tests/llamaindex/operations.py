"""Every operation of an LLM, to be called alike."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import ChatPromptTemplate, PromptTemplate
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

QUESTION = "What is 3 + 4, in 'words'?"
PROMPT = PromptTemplate("Answer shortly.\n\nContext: {context_str}\n\nQuestion: {query_str}")
CHAT_PROMPT = ChatPromptTemplate.from_messages(
    [("system", "Answer shortly. {context_str}"), ("user", "{query_str}")]
)
VARIABLES = {"context_str": "Numbers can be added.", "query_str": QUESTION}


class Answer(BaseModel):
    """An answer."""

    text: str
    number: int


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


TOOL = FunctionTool.from_defaults(add)

ENDPOINTS = ("chat", "stream_chat", "complete", "stream_complete")
PROMPTED = ("predict", "stream")
STRUCTURED = ("structured_predict", "stream_structured_predict")
TOOLED = ("chat_with_tools", "stream_chat_with_tools")
CALLED = ("predict_and_call",)


def with_async(names: tuple[str, ...]) -> list[str]:
    """List operations with their asynchronous twins."""
    return [twin for name in names for twin in (name, f"a{name}")]


WITHOUT_TOOLS = with_async((*ENDPOINTS, *PROMPTED, *STRUCTURED))
WITH_TOOLS = with_async((*TOOLED, *CALLED))
ALL = [*WITHOUT_TOOLS, *WITH_TOOLS]
STREAMS = [name for name in ALL if "stream" in name]


def messages(text: str = QUESTION) -> list[ChatMessage]:
    return [ChatMessage(role="user", content=text)]


def arguments(name: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return an operation's arguments; the question is the same in all."""
    plain = name.removeprefix("a") if name not in ENDPOINTS else name
    if plain in ("chat", "stream_chat"):
        return (messages(),), {}
    if plain in ("complete", "stream_complete"):
        return (QUESTION,), {}
    if plain in PROMPTED:
        return (PROMPT,), dict(VARIABLES)
    if plain in STRUCTURED:
        return (Answer, PROMPT), dict(VARIABLES)
    return ([TOOL],), {"user_msg": QUESTION}


async def run(llm: Any, name: str, **options: Any) -> list[Any]:
    """Call an operation and draw all it gives: one answer, or the chunks of a stream."""
    args, kwargs = arguments(name)
    return await drawn(getattr(llm, name)(*args, **kwargs, **options))


async def drawn(result: Any) -> list[Any]:
    if inspect.isawaitable(result):
        result = await result
    if isinstance(result, AsyncIterator):
        return [chunk async for chunk in result]
    return list(result) if isinstance(result, Iterator) else [result]


def text_of(output: Any) -> str:
    """Read the text of any answer or last chunk."""
    if hasattr(output, "message"):
        return output.message.content or ""
    return str(getattr(output, "text", output))
