"""Iterators drawn inside a context of their own.

A generator shares its consumer's context: what it sets would leak into the consumer between two
chunks, and what it needs may be gone by the next one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
    from contextvars import Context

T = TypeVar("T")

_DONE = object()


def in_context(context: Context, chunks: Iterator[T]) -> Iterator[T]:
    """Draw an iterator inside a context, chunk by chunk, and close it there."""
    try:
        while (chunk := context.run(_next, chunks)) is not _DONE:
            yield cast("T", chunk)
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            context.run(close)


async def ain_context(context: Context, chunks: AsyncIterator[T]) -> AsyncIterator[T]:
    """Draw an async iterator inside a context, chunk by chunk, and close it there."""
    try:
        while (chunk := await _task(context, lambda: _anext(chunks))) is not _DONE:
            yield cast("T", chunk)
    finally:
        await _task(context, lambda: _aclose(chunks))


def _next(chunks: Iterator[Any]) -> Any:
    return next(chunks, _DONE)


async def _anext(chunks: AsyncIterator[Any]) -> Any:
    return await anext(chunks, _DONE)


async def _aclose(chunks: AsyncIterator[Any]) -> None:
    aclose = getattr(chunks, "aclose", None)
    if aclose is not None:
        await aclose()


def _task(context: Context, start: Callable[[], Coroutine[Any, Any, Any]]) -> asyncio.Task[Any]:
    return asyncio.get_running_loop().create_task(start(), context=context)
