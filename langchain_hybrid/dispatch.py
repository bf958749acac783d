"""One routed call: what it needs, and what is done for it on each candidate that is asked."""

from __future__ import annotations

from contextlib import aclosing, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_hybrid.answers import annotated, as_chunk, is_blank, merged, read_answer
from langchain_hybrid.hearing import Hearing, Hushed, Showing, heard, hears_tokens, hushed
from langchain_hybrid.runs import AsyncRoutedRun, RoutedRun
from shared_router.engine.calls import Hands
from shared_router.engine.streams import AsyncOpened, Opened, aopened, opened

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator

    from langchain_core.messages import BaseMessage
    from langchain_core.rate_limiters import BaseRateLimiter
    from langchain_core.runnables import Runnable, RunnableConfig

    from shared_router.deciding.attempts import Attempt
    from shared_router.deciding.escalation import Answer
    from shared_router.deciding.guards import RoutingRequest
    from shared_router.engine.calls import Call
    from shared_router.engine.engine import RoutingEngine


@dataclass(frozen=True, kw_only=True)
class RoutedCall:
    """Everything one call needs."""

    engine: RoutingEngine
    """Decides, and says whom to ask."""
    target: Callable[[Attempt], Runnable[Any, Any]]
    """Returns what to call for an attempt."""
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
    """What is forwarded to the model that is asked."""
    rate_limiter: BaseRateLimiter | None = None
    """The wrapper's own; each model's own works beside it."""

    def invoke(self) -> Any:
        """Make the call."""
        run = RoutedRun(self.name, self.value, self.config)
        try:
            run.deciding(self.request)
            call, asked = self._called(run, streams=False)
            output = annotated(call.answer, call.stable())
            asked.show(self, call)
        except BaseException as error:
            run.fail(error)
            raise
        run.end(output, call)
        return output

    async def ainvoke(self) -> Any:
        """Make the call without blocking the event loop."""
        run = await AsyncRoutedRun.open(self.name, self.value, self.config)
        try:
            await run.deciding(self.request)
            call, asked = await self._acalled(run, streams=False)
            output = annotated(call.answer, call.stable())
            await asked.ashow(self, call)
        except BaseException as error:
            await run.fail(error)
            raise
        await run.end(output, call)
        return output

    def once(self) -> Iterator[Any]:
        """Stream the whole answer as one chunk, where streaming is disabled."""
        yield self.invoke()

    async def aonce(self) -> AsyncIterator[Any]:
        """Stream the whole answer as one chunk, where streaming is disabled."""
        yield await self.ainvoke()

    def stream(self) -> Iterator[Any]:
        """Stream the call; it commits to a model at the first chunk that shows something."""
        run = RoutedRun(self.name, self.value, self.config)
        seen: list[Any] = []
        try:
            run.deciding(self.request)
            call, asked = self._called(run, streams=True)
            asked.show(self, call)
            chunks = _chunks(call)
            for chunk in run.tap(chunks):
                if run.traced:
                    seen.append(chunk)
                yield chunk
        except GeneratorExit:
            chunks.close()  # the model's run ends before the chain's
            run.end(merged(seen), call)
            raise
        except BaseException as error:
            run.fail(error)
            raise
        run.end(merged(seen), call)

    async def astream(self) -> AsyncIterator[Any]:
        """Stream the call without blocking the event loop; see `stream`."""
        run = await AsyncRoutedRun.open(self.name, self.value, self.config)
        seen: list[Any] = []
        try:
            await run.deciding(self.request)
            call, asked = await self._acalled(run, streams=True)
            await asked.ashow(self, call)
            chunks = _achunks(call)
            async for chunk in run.tap(chunks):
                if run.traced:
                    seen.append(chunk)
                yield chunk
        except GeneratorExit:
            await chunks.aclose()
            await run.end(merged(seen), call)
            raise
        except BaseException as error:
            await run.fail(error)
            raise
        await run.end(merged(seen), call)

    # -- what is done for the engine ------------------------------------------------------------

    def _called(self, run: RoutedRun, *, streams: bool) -> tuple[Call, Asked]:
        asked = Asked()
        self.pace()

        def attempt(step: Attempt) -> Any:
            config = asked.config(self, run.attempting(step, self.name_of(step)), step)
            model = self.target(step)
            if streams and not step.held:
                chunks = run.iterate(lambda: model.stream(self.messages, config, **self.kwargs))
                return opened(chunks, is_blank)
            return run.within(lambda: model.invoke(self.messages, config, **self.kwargs))

        try:
            return self.engine.call(self.request, self.hands(attempt, asked, streams)), asked
        except BaseException:
            asked.give_up()
            raise

    async def _acalled(self, run: AsyncRoutedRun, *, streams: bool) -> tuple[Call, Asked]:
        asked = Asked()
        await self.apace()

        async def attempt(step: Attempt) -> Any:
            config = asked.config(self, await run.attempting(step, self.name_of(step)), step)
            model = self.target(step)
            if streams and not step.held:
                chunks = run.iterate(lambda: model.astream(self.messages, config, **self.kwargs))
                return await aopened(chunks, is_blank)
            return await run.within(lambda: model.ainvoke(self.messages, config, **self.kwargs))

        return await self.engine.acall(self.request, self.hands(attempt, asked, streams)), asked

    def pace(self) -> None:
        """Wait for the wrapper's rate limiter: it spaces calls, not the attempts of one."""
        if self.rate_limiter:
            self.rate_limiter.acquire(blocking=True)

    async def apace(self) -> None:
        """Wait for the wrapper's rate limiter without blocking the event loop."""
        if self.rate_limiter:
            await self.rate_limiter.aacquire(blocking=True)

    def hands(self, attempt: Callable[[Attempt], Any], asked: Asked, streams: bool) -> Hands:
        """Tell the engine how an attempt is made and read."""
        return Hands(
            attempt=attempt,
            read=lambda output: self._read(output, asked),
            merge=merged,
            streams=streams,
            committed=asked.committed,
        )

    def name_of(self, step: Attempt) -> str:
        """Return the name of the candidate that is asked."""
        return self.engine.candidates[step.index].name

    def _read(self, output: Any, asked: Asked) -> Answer:
        return read_answer(
            output,
            self.messages,
            structured=self.request.needs_structured_output,
            tools_offered=self.request.needs_tools,
            heard=asked.hearing.message if asked.hearing else None,
        )


@dataclass
class Asked:
    """What is heard of the attempt under way."""

    hearing: Hearing | None = None
    """Listens where tokens may be shown, or an answer may be rejected."""
    hushed: Hushed = field(default_factory=Hushed)
    """Handlers that hear of the answer once it is accepted."""

    def config(self, call: RoutedCall, config: RunnableConfig, step: Attempt) -> RunnableConfig:
        """Return the config of an attempt, with what has to be heard of it."""
        self.give_up()
        self.hushed = Hushed()
        if step.held:
            config, self.hushed = hushed(config)
        elif not self._needed(call, config):
            self.hearing = None
            return config
        self.hearing = Hearing()
        return heard(config, self.hearing)

    def give_up(self) -> None:
        """Let an attempt that is under way, or was, show nothing any more."""
        if self.hearing is not None:
            self.hearing.given_up = True

    def _needed(self, call: RoutedCall, config: RunnableConfig) -> bool:
        """Tell whether a token may be shown, or a record wants the message behind an answer."""
        if call.request.needs_structured_output and call.engine.on_call:
            return True
        handlers = getattr(config.get("callbacks"), "handlers", ())
        return any(hears_tokens(handler) for handler in handlers)

    def committed(self) -> bool:
        """Tell whether a token of the attempt under way has been shown."""
        return self.hearing is not None and self.hearing.shown and not self.hushed.handlers

    def _showing(self, routed: RoutedCall, call: Call) -> Showing | None:
        """Return what handlers that show tokens are still to be told."""
        if not self.hushed.handlers or self.hearing is None or self.hearing.message is None:
            return None
        model = routed.engine.candidates[call.index].model
        return Showing(self.hushed, model, routed.messages, self.hearing.message)

    def show(self, routed: RoutedCall, call: Call) -> None:
        """Tell handlers that show tokens of an answer that was held back."""
        showing = self._showing(routed, call)
        if showing is not None:
            showing.show()

    async def ashow(self, routed: RoutedCall, call: Call) -> None:
        """Tell handlers that show tokens of an answer that was held back."""
        showing = self._showing(routed, call)
        if showing is not None:
            await showing.ashow()


def _chunks(call: Call) -> Generator[Any, None, None]:
    """Yield the chunks of the answer that is given, the first with who gave it."""
    told: dict[str, Any] | None = call.stable()
    if not isinstance(call.answer, Opened):
        yield annotated(as_chunk(call.answer), told or {})
        return
    with closing(call.chunks()) as chunks:
        for chunk in chunks:
            yield chunk if told is None else annotated(chunk, told)
            told = None


async def _achunks(call: Call) -> AsyncGenerator[Any, None]:
    """Yield the chunks of the answer that is given, the first with who gave it."""
    told: dict[str, Any] | None = call.stable()
    if not isinstance(call.answer, AsyncOpened):
        yield annotated(as_chunk(call.answer), told or {})
        return
    async with aclosing(call.achunks()) as chunks:
        async for chunk in chunks:
            yield chunk if told is None else annotated(chunk, told)
            told = None
