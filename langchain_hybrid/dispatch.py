"""One routed call: what it needs, and what is done for it on each candidate that is asked."""

from __future__ import annotations

from contextlib import aclosing, closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from langchain_hybrid.answers import annotated, as_chunk, is_blank, merged, read_answer
from langchain_hybrid.asked import Asked
from langchain_hybrid.runs import AsyncRoutedRun, RoutedRun
from shared_router.engine.calls import Hands
from shared_router.engine.streams import AsyncOpened, Opened, aopened, opened

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator

    from langchain_core.messages import BaseMessage
    from langchain_core.rate_limiters import BaseRateLimiter
    from langchain_core.runnables import RunnableConfig

    from langchain_hybrid.asked import Heard
    from langchain_hybrid.targets import Target
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
    target: Target
    """Finds what to call for an attempt."""
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
    answered: Callable[[Call], None] | None = field(default=None, repr=False)
    """Told of the end of the call, to remember who answers the conversation."""

    def invoke(self) -> Any:
        """Make the call."""
        run = RoutedRun(self.name, self.value, self.config)
        try:
            run.deciding(self.request)
            call, asked = self._called(run, streams=False)
            output = asked.given(call)
            asked.show(call)
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
            output = asked.given(call)
            await asked.ashow(call)
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
            asked.show(call)
            chunks = _chunks(call, asked)
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
            await asked.ashow(call)
            chunks = _achunks(call, asked)
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
        asked = self.asking()
        self.pace()

        def attempt(step: Attempt) -> Any:
            heard = asked.begin(run.attempting(step, self.name_of(step)), step)
            if streams and not step.held:
                model, config = self.target.of(step), heard.config
                said, kwargs = self.sent(step)
                chunks = run.iterate(lambda: model.stream(said, config, **kwargs))
                return opened(chunks, is_blank)
            return self.whole(run, step, heard)

        try:
            return self.engine.call(self.request, self.hands(attempt, asked, streams)), asked
        except BaseException:
            asked.give_up()
            raise

    async def _acalled(self, run: AsyncRoutedRun, *, streams: bool) -> tuple[Call, Asked]:
        asked = self.asking()
        await self.apace()

        async def attempt(step: Attempt) -> Any:
            heard = asked.begin(await run.attempting(step, self.name_of(step)), step)
            if streams and not step.held:
                model, config = self.target.of(step), heard.config
                said, kwargs = self.sent(step)
                chunks = run.iterate(lambda: model.astream(said, config, **kwargs))
                return await aopened(chunks, is_blank)
            return await self.awhole(run, step, heard)

        return await self.engine.acall(self.request, self.hands(attempt, asked, streams)), asked

    def sent(self, step: Attempt) -> tuple[list[BaseMessage], dict[str, Any]]:
        """Return the messages and keywords that a candidate is asked with: what it understands."""
        messages = self.target.messages_for(step, self.messages)
        return messages, self.target.keywords_for(step, self.kwargs)

    def asking(self) -> Asked:
        """Begin to keep what is heard of the attempts."""
        recorded = self.request.needs_structured_output and bool(self.engine.on_call)
        return Asked(self.target, self.messages, recorded=recorded)

    def whole(self, run: RoutedRun, step: Attempt, heard: Heard) -> Any:
        """Ask for a whole answer; a model that refuses log-probabilities, once without them."""

        def ask(step: Attempt) -> Any:
            model = self.target.of(step)
            said, kwargs = self.sent(step)
            return run.within(lambda: model.invoke(said, heard.config, **kwargs))

        try:
            return self._came_to(ask(step), step, heard)
        except Exception:
            if not heard.refused:
                raise
        return self._came_to(ask(replace(step, logprobs=False)), step, heard)

    async def awhole(self, run: AsyncRoutedRun, step: Attempt, heard: Heard) -> Any:
        """Ask for a whole answer without blocking the event loop; see `whole`."""

        async def ask(step: Attempt) -> Any:
            model = self.target.of(step)
            said, kwargs = self.sent(step)
            return await run.within(lambda: model.ainvoke(said, heard.config, **kwargs))

        try:
            return self._came_to(await ask(step), step, heard)
        except Exception:
            if not heard.refused:
                raise
        return self._came_to(await ask(replace(step, logprobs=False)), step, heard)

    def _came_to(self, output: Any, step: Attempt, heard: Heard) -> Any:
        """Keep an answer, and who gave it only without log-probabilities."""
        if heard.refused:
            self.target.refused(step)
        return heard.came_to(output)

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
            ended=self.answered,
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
            heard=asked.message_of(output),
        )


def _chunks(call: Call, asked: Asked) -> Generator[Any, None, None]:
    """Yield the chunks of the answer that is given, the first with who gave it."""
    told: dict[str, Any] | None = call.stable()
    if not isinstance(call.answer, Opened):
        yield as_chunk(asked.given(call))
        return
    with closing(call.chunks()) as chunks:
        for chunk in chunks:
            yield chunk if told is None else annotated(chunk, told)
            told = None


async def _achunks(call: Call, asked: Asked) -> AsyncGenerator[Any, None]:
    """Yield the chunks of the answer that is given, the first with who gave it."""
    told: dict[str, Any] | None = call.stable()
    if not isinstance(call.answer, AsyncOpened):
        yield as_chunk(asked.given(call))
        return
    async with aclosing(call.achunks()) as chunks:
        async for chunk in chunks:
            yield chunk if told is None else annotated(chunk, told)
            told = None
