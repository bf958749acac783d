"""Streams of one call: opened at the first chunk that shows something, then followed to the end.

A stream commits there: before it, another candidate may still answer; after it, nobody does.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from shared_router.errors import CallTimeoutError, EmptyStreamError
from shared_router.support.patience import Patience, late

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator

    from shared_router.deciding.escalation import Answer

T = TypeVar("T")

_NOTHING: Any = object()
LONGEST_CLOSING_S = 5.0
"""Seconds that the end of a stream is waited for."""


@dataclass
class Opened:
    """A stream whose beginning is drawn."""

    head: list[Any] = field(repr=False)
    """The chunks drawn so far: blank ones, and the first that shows something."""
    rest: Iterator[Any] = field(repr=False)
    """What is not drawn yet."""
    patience: Patience | None = None
    """Where it is drawn, if there is a time limit."""
    left_s: float | None = None
    """Seconds of waiting that are left for it; what the reader does meanwhile does not count."""
    ended: bool = False
    """Whether it ended and showed nothing."""

    def close(self) -> None:
        """Let go of what is not drawn; a thread that still draws closes it by itself."""
        if self.patience is None:
            self._close()
        elif not self.patience.gone:
            with suppress(CallTimeoutError):  # where it was drawn: a generator keeps its context
                self.patience.run(self._close, LONGEST_CLOSING_S)
            self.patience.close()

    def _close(self) -> None:
        close = getattr(self.rest, "close", None)
        if close is not None:
            close()


@dataclass(frozen=True)
class Live:
    """A stream that the host reads by itself: the front tells its end."""

    stream: Any = field(repr=False)


@dataclass
class AsyncOpened:
    """An async stream whose beginning is drawn; see `Opened`."""

    head: list[Any] = field(repr=False)
    rest: AsyncIterator[Any] = field(repr=False)
    left_s: float | None = None
    ended: bool = False

    async def aclose(self) -> None:
        """Let go of what is not drawn."""
        aclose = getattr(self.rest, "aclose", None)
        if aclose is not None:
            await aclose()


def opened(chunks: Iterable[Any], blank: Callable[[Any], bool]) -> Opened:
    """Draw a stream up to the first chunk that shows something.

    Args:
        chunks: The stream.
        blank: Tells whether a chunk shows nothing.
    """
    head, rest = [], iter(chunks)
    for chunk in rest:
        head.append(chunk)
        if not blank(chunk):
            return Opened(head, rest)
    return Opened(head, rest, ended=True)


async def aopened(chunks: AsyncIterable[Any], blank: Callable[[Any], bool]) -> AsyncOpened:
    """Draw an async stream up to the first chunk that shows something; see `opened`."""
    head, rest = [], aiter(chunks)
    async for chunk in rest:
        head.append(chunk)
        if not blank(chunk):
            return AsyncOpened(head, rest)
    return AsyncOpened(head, rest, ended=True)


def check_said(stream: Any, read: Callable[[Any], Answer]) -> None:
    """Refuse a stream that ended and said nothing, not even why.

    An answer of nothing says why it ended; a server that gives no choices does not. A stream of no
    chunks, or of texts alone, cannot say it: it passes.

    Args:
        stream: What an attempt returned; anything but a stream passes.
        read: Reads a chunk.

    Raises:
        EmptyStreamError: If it is such a stream.
    """
    if not isinstance(stream, Opened | AsyncOpened) or not stream.ended:
        return
    told = [read(chunk) for chunk in stream.head if not isinstance(chunk, str)]
    if told and not any(each.finish_reason or each.refusal for each in told):
        raise EmptyStreamError("The stream ended without text, tool call or finish reason.")


def followed(stream: Opened) -> Iterator[Any]:
    """Yield the chunks of a stream, those that are drawn first.

    Raises:
        CallTimeoutError: If waiting for them takes longer than the time that is left.
    """
    yield from stream.head
    while (chunk := _drawn(stream)) is not _NOTHING:
        yield chunk


def _drawn(stream: Opened) -> Any:
    if stream.patience is None or stream.left_s is None:
        return next(stream.rest, _NOTHING)
    begun = time.monotonic()
    chunk = stream.patience.run(lambda: next(stream.rest, _NOTHING), max(0.0, stream.left_s))
    stream.left_s -= time.monotonic() - begun
    return chunk


async def afollowed(stream: AsyncOpened) -> AsyncIterator[Any]:
    """Yield the chunks of an async stream; see `followed`."""
    for chunk in stream.head:
        yield chunk
    while (chunk := await _adrawn(stream)) is not _NOTHING:
        yield chunk


async def _adrawn(stream: AsyncOpened) -> Any:
    if stream.left_s is None:
        return await anext(stream.rest, _NOTHING)
    begun = time.monotonic()
    chunk = await ain_time(anext(stream.rest, _NOTHING), max(0.0, stream.left_s))
    stream.left_s -= time.monotonic() - begun
    return chunk


async def ain_time(waited: Any, seconds: float) -> Any:
    """Await something for so long.

    Raises:
        CallTimeoutError: If it takes longer; it is cancelled then.
    """
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await waited
    except TimeoutError:
        if limit.expired():
            raise late(seconds) from None
        raise
