"""Streams whose first chunk is drawn at once: what it needs of its context is still there.

LlamaIndex's streams are lazy: read after the call returned, they would be routed outside of its
span, its `routing_query` and its dials.
"""

from __future__ import annotations

from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable
    from contextvars import ContextVar

T = TypeVar("T")

_NOTHING: Any = object()


def _same(chunk: T) -> T:
    return chunk


def primed(chunks: Iterable[T], change: Callable[[T], T] = _same) -> Generator[T, None, None]:
    """Draw the first chunk of a stream now, and give back all of it.

    Args:
        chunks: The stream; closed with the one given back.
        change: Applied to each chunk.
    """
    rest = iter(chunks)
    first = next(rest, _NOTHING)
    whole = _chunks(first, rest, change)
    if first is _NOTHING:
        next(whole, None)  # an exhausted generator: nobody has to wait for its end
    return whole


def _chunks(first: T, rest: Any, change: Callable[[T], T]) -> Generator[T, None, None]:
    if first is _NOTHING:
        return
    try:
        yield change(first)
        for chunk in rest:
            yield change(chunk)
    finally:
        close = getattr(rest, "close", None)
        if close is not None:
            close()


async def aprimed(
    chunks: AsyncIterable[T], change: Callable[[T], T] = _same
) -> AsyncGenerator[T, None]:
    """Draw the first chunk of an async stream now, and give back all of it; see `primed`."""
    rest = aiter(chunks)
    first = await anext(rest, _NOTHING)
    whole = _achunks(first, rest, change)
    if first is _NOTHING:
        await anext(whole, None)
    return whole


async def _achunks(first: T, rest: Any, change: Callable[[T], T]) -> AsyncGenerator[T, None]:
    if first is _NOTHING:
        return
    try:
        yield change(first)
        async for chunk in rest:
            yield change(chunk)
    finally:
        aclose = getattr(rest, "aclose", None)
        if aclose is not None:
            await aclose()


def drawn_with(
    chunks: Generator[T, Any, Any], variable: ContextVar[Any], value: Any
) -> Generator[T, None, None]:
    """Give a context variable a value whenever a lazy stream is drawn, and only then."""
    with closing(chunks):
        while True:
            token = variable.set(value)
            try:
                chunk = next(chunks)
            except StopIteration:
                return
            finally:
                variable.reset(token)
            yield chunk


async def adrawn_with(
    chunks: AsyncGenerator[T, None], variable: ContextVar[Any], value: Any
) -> AsyncGenerator[T, None]:
    """Give a context variable a value whenever a lazy async stream is drawn; see `drawn_with`."""
    async with aclosing(chunks):
        while True:
            token = variable.set(value)
            try:
                chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            finally:
                variable.reset(token)
            yield chunk
