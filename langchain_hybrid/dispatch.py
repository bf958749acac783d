"""One routed call: open its runs, let the engine decide, call the chosen model, annotate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, AIMessageChunk

from langchain_hybrid.runs import AsyncRoutedRun, RoutedRun
from shared_router.records import ROUTING_KEY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from langchain_core.messages import BaseMessage
    from langchain_core.rate_limiters import BaseRateLimiter
    from langchain_core.runnables import Runnable, RunnableConfig

    from shared_router.deciding.guards import RoutingRequest
    from shared_router.engine.engine import RoutingEngine
    from shared_router.records import RoutingDecision

_NOTHING = object()


@dataclass(frozen=True, kw_only=True)
class RoutedCall:
    """Everything one call needs."""

    engine: RoutingEngine
    """Decides."""
    target: Callable[[int], Runnable[Any, Any]]
    """Returns what to call for a candidate's position."""
    name: str
    """Name of the chain run."""
    value: Any = field(repr=False)
    """The input as it came, for traces."""
    messages: list[BaseMessage] = field(repr=False)
    """The input as messages."""
    config: RunnableConfig
    """The caller's config, with the wrapper's own merged in."""
    request: RoutingRequest
    """The input as the engine sees it."""
    kwargs: dict[str, Any]
    """What is forwarded to the chosen model."""
    rate_limiter: BaseRateLimiter | None = None
    """The wrapper's own; each model's own works beside it."""

    def invoke(self) -> Any:
        """Make the call."""
        run = RoutedRun(self.name, self.value, self.config)

        def attempt(decision: RoutingDecision) -> Any:
            config = run.decided(decision)
            if self.rate_limiter:
                self.rate_limiter.acquire(blocking=True)
            model = self.target(decision.index)
            output = run.within(lambda: model.invoke(self.messages, config, **self.kwargs))
            return annotated(output, decision.stable())

        try:
            run.deciding(self.request)
            output = self.engine.call(self.request, attempt)
        except BaseException as error:
            run.fail(error)
            raise
        run.end(output)
        return output

    async def ainvoke(self) -> Any:
        """Make the call without blocking the event loop."""
        run = await AsyncRoutedRun.open(self.name, self.value, self.config)

        async def attempt(decision: RoutingDecision) -> Any:
            config = await run.decided(decision)
            if self.rate_limiter:
                await self.rate_limiter.aacquire(blocking=True)
            model = self.target(decision.index)
            output = await run.within(lambda: model.ainvoke(self.messages, config, **self.kwargs))
            return annotated(output, decision.stable())

        try:
            await run.deciding(self.request)
            output = await self.engine.acall(self.request, attempt)
        except BaseException as error:
            await run.fail(error)
            raise
        await run.end(output)
        return output

    def once(self) -> Iterator[Any]:
        """Stream the whole answer as one chunk, where streaming is disabled."""
        yield self.invoke()

    async def aonce(self) -> AsyncIterator[Any]:
        """Stream the whole answer as one chunk, where streaming is disabled."""
        yield await self.ainvoke()

    def stream(self) -> Iterator[Any]:
        """Stream the call; it commits to a model at its first chunk."""
        run = RoutedRun(self.name, self.value, self.config)
        source: Iterator[Any] | None = None
        seen: list[Any] = []

        def attempt(decision: RoutingDecision) -> Iterator[Any]:
            nonlocal source
            config = run.decided(decision)
            if self.rate_limiter:
                self.rate_limiter.acquire(blocking=True)
            model = self.target(decision.index)
            source = run.iterate(lambda: model.stream(self.messages, config, **self.kwargs))
            return _after(annotated(next(source, _NOTHING), decision.stable()), source)

        try:
            run.deciding(self.request)
            for chunk in run.tap(self.engine.call(self.request, attempt)):
                if run.traced:
                    seen.append(chunk)
                yield chunk
        except GeneratorExit:
            _close(source)  # the model's run ends before the chain's
            run.end(merged(seen))
            raise
        except BaseException as error:
            run.fail(error)
            raise
        run.end(merged(seen))

    async def astream(self) -> AsyncIterator[Any]:
        """Stream the call without blocking the event loop; see `stream`."""
        run = await AsyncRoutedRun.open(self.name, self.value, self.config)
        source: AsyncIterator[Any] | None = None
        seen: list[Any] = []

        async def attempt(decision: RoutingDecision) -> AsyncIterator[Any]:
            nonlocal source
            config = await run.decided(decision)
            if self.rate_limiter:
                await self.rate_limiter.aacquire(blocking=True)
            model = self.target(decision.index)
            source = run.iterate(lambda: model.astream(self.messages, config, **self.kwargs))
            return _aafter(annotated(await anext(source, _NOTHING), decision.stable()), source)

        try:
            await run.deciding(self.request)
            async for chunk in run.tap(await self.engine.acall(self.request, attempt)):
                if run.traced:
                    seen.append(chunk)
                yield chunk
        except GeneratorExit:
            await _aclose(source)
            await run.end(merged(seen))
            raise
        except BaseException as error:
            await run.fail(error)
            raise
        await run.end(merged(seen))


def annotated(output: Any, payload: dict[str, Any]) -> Any:
    """Put what is stable of the decision on a message, or on a structured answer's raw message.

    The message is copied: the model's own cache may hold the same object.
    """
    if isinstance(output, AIMessage):
        metadata = {**output.response_metadata, ROUTING_KEY: payload}
        return output.model_copy(update={"response_metadata": metadata})
    if isinstance(output, dict) and isinstance(output.get("raw"), AIMessage):
        copied = output.copy()
        copied["raw"] = annotated(output["raw"], payload)
        return copied
    return output


def merged(chunks: list[Any]) -> Any:
    """Merge streamed chunks into one output; where they don't add up, the last one stands."""
    if not chunks:
        return None
    if all(isinstance(chunk, AIMessageChunk) for chunk in chunks):
        return chunks[0] + chunks[1:] if len(chunks) > 1 else chunks[0]
    return chunks[-1]


def _after(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    if first is not _NOTHING:
        yield first
        yield from rest


async def _aafter(first: Any, rest: AsyncIterator[Any]) -> AsyncIterator[Any]:
    if first is not _NOTHING:
        yield first
        async for chunk in rest:
            yield chunk


def _close(chunks: Iterator[Any] | None) -> None:
    close = getattr(chunks, "close", None)
    if close is not None:
        close()


async def _aclose(chunks: AsyncIterator[Any] | None) -> None:
    aclose = getattr(chunks, "aclose", None)
    if aclose is not None:
        await aclose()
