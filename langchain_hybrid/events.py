"""Event streaming, version v3: a model's own stream object, inside our chain run.

It is drawn to the first event that shows something: until then another candidate may still answer.
What is drawn is replayed to whoever reads it. The chain run stays open until the model's run ends
or fails; a handler of our own, attached to that run alone, closes it then and puts on the finished
message who answered.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, cast

from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.language_models._compat_bridge import message_to_events
from langchain_core.language_models.chat_model_stream import AsyncChatModelStream, ChatModelStream
from langchain_core.runnables import RunnableWithFallbacks

from langchain_hybrid.hearing import shows
from langchain_hybrid.runs import AsyncRoutedRun, RoutedRun
from shared_router.engine.streams import Live
from shared_router.errors import CallTimeoutError
from shared_router.records import ROUTING_KEY
from shared_router.support.patience import Patience, late

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.outputs import LLMResult
    from langchain_core.runnables import Runnable, RunnableConfig

    from langchain_hybrid.dispatch import RoutedCall
    from shared_router.deciding.attempts import Attempt
    from shared_router.engine.calls import Call


def chat_stream(routed: RoutedCall) -> ChatModelStream:
    """Route a call and return the v3 stream of the model that answers."""
    run, asked = RoutedRun(routed.name, routed.value, routed.config, always=True), routed.asking()
    closers: list[_Closer] = []

    def attempt(step: Attempt) -> Any:
        heard = asked.begin(run.attempting(step, routed.name_of(step)), step)
        if step.held:
            return routed.whole(run, step, heard)
        return Live(_first_shown(routed, step, heard.config, closers, run))

    try:
        run.deciding(routed.request)
        routed.pace()
        call = routed.engine.call(routed.request, routed.hands(attempt, asked, streams=True))
        asked.show(call)
    except BaseException as error:
        run.fail(error)
        raise
    if isinstance(call.answer, Live):
        closers[-1].commit(call, call.answer.stream)
        _limit(call.answer.stream, call.left_s(), closers[-1])
        return cast("ChatModelStream", call.answer.stream)
    message = asked.given(call)
    run.end(message, call)
    return cast("ChatModelStream", _replayed(ChatModelStream(message_id=message.id), message))


async def achat_stream(routed: RoutedCall) -> AsyncChatModelStream:
    """Route a call and return the v3 stream of the model that answers, asynchronously."""
    run = await AsyncRoutedRun.open(routed.name, routed.value, routed.config, always=True)
    asked, closers = routed.asking(), list[_AsyncCloser]()

    async def attempt(step: Attempt) -> Any:
        heard = asked.begin(await run.attempting(step, routed.name_of(step)), step)
        if step.held:
            return await routed.awhole(run, step, heard)
        return Live(await _afirst_shown(routed, step, heard.config, closers, run))

    try:
        await run.deciding(routed.request)
        await routed.apace()
        hands = routed.hands(attempt, asked, streams=True)
        call = await routed.engine.acall(routed.request, hands)
        await asked.ashow(call)
    except BaseException as error:
        await run.fail(error)
        raise
    if isinstance(call.answer, Live):
        await closers[-1].commit(call, call.answer.stream)
        _alimit(call.answer.stream, call.left_s(), closers[-1])
        return cast("AsyncChatModelStream", call.answer.stream)
    message = asked.given(call)
    await run.end(message, call)
    made = _replayed(AsyncChatModelStream(message_id=message.id), message)
    return cast("AsyncChatModelStream", made)


def _first_shown(
    routed: RoutedCall,
    step: Attempt,
    config: RunnableConfig,
    closers: list[_Closer],
    run: RoutedRun,
) -> ChatModelStream:
    """Start a model's stream and draw it to the first event that shows something."""
    model = routed.target.of(step)
    said, kwargs = routed.sent(step)
    for each, last in _streaming(model):
        closers.append(_Closer(run))
        listened = _with_handler(config, closers[-1])
        made: Any = each.stream_events(said, listened, version="v3", **kwargs)
        try:
            for event in made:
                if shows(event):
                    break
        except Exception as error:
            if last or not isinstance(error, _handled(model)):
                raise
        else:
            return cast("ChatModelStream", made)
    raise AssertionError("The last one of a chain of fallbacks answers or raises.")


async def _afirst_shown(
    routed: RoutedCall,
    step: Attempt,
    config: RunnableConfig,
    closers: list[_AsyncCloser],
    run: AsyncRoutedRun,
) -> AsyncChatModelStream:
    """Start a model's stream and draw it to the first event that shows something."""
    model = routed.target.of(step)
    said, kwargs = routed.sent(step)
    for each, last in _streaming(model):
        closers.append(_AsyncCloser(run))
        listened = _with_handler(config, closers[-1])
        started: Any = each.astream_events(said, listened, version="v3", **kwargs)
        made: Any = await started
        try:
            async for event in made:
                if shows(event):
                    break
        except Exception as error:
            if last or not isinstance(error, _handled(model)):
                raise
        except BaseException:
            await made.aclose()  # its producer would go on
            raise
        else:
            return cast("AsyncChatModelStream", made)
    raise AssertionError("The last one of a chain of fallbacks answers or raises.")


def _limit(stream: Any, left_s: float | None, closer: _Closer) -> None:
    """Let a stream that is drawn on demand fail where waiting for it takes too long."""
    draw = stream._request_more  # noqa: SLF001  (there is no other way to bound it)
    if left_s is None or draw is None or stream.done:
        return
    patience, left = Patience(), [left_s]

    def more() -> bool:
        begun = time.monotonic()
        try:
            going: bool = patience.run(draw, max(0.0, left[0]))
        except CallTimeoutError as error:
            stream.fail(error)
            closer.on_llm_error(error)
            return False
        left[0] -= time.monotonic() - begun
        if stream.done:
            patience.close()
        return going

    stream.set_request_more(more)


def _alimit(stream: Any, left_s: float | None, closer: _AsyncCloser) -> None:
    """Let a stream that is produced in a task fail where that takes too long."""
    producing = stream._producer_task  # noqa: SLF001  (there is no other way to bound it)
    if left_s is None or producing is None or producing.done():
        return

    async def watch() -> None:
        done, _ = await asyncio.wait({producing}, timeout=left_s)
        if done or stream.done:
            return
        error = late(left_s)
        stream.fail(error)
        await closer.on_llm_error(error)
        await stream.aclose()

    closer.watching = asyncio.get_running_loop().create_task(watch())


def _streaming(model: Runnable[Any, Any]) -> Iterator[tuple[Runnable[Any, Any], bool]]:
    """Yield what streams, and whether it is the last: fallbacks have no v3 stream of their own."""
    if not isinstance(model, RunnableWithFallbacks):
        yield model, True
        return
    chain = list(model.runnables)
    for position, each in enumerate(chain, start=1):
        yield each, position == len(chain)


def _handled(model: Runnable[Any, Any]) -> tuple[type[BaseException], ...]:
    return model.exceptions_to_handle if isinstance(model, RunnableWithFallbacks) else ()


def _replayed(stream: Any, message: Any) -> Any:
    """Make a stream of an answer that was held back until it was accepted."""
    for event in message_to_events(message):
        stream.dispatch(event)
    _noted(stream, message.response_metadata[ROUTING_KEY])
    return stream


class _Closer(BaseCallbackHandler):
    """Closes the chain run when the run of the model that answers ends."""

    run_inline = True

    def __init__(self, run: RoutedRun) -> None:
        self._run = run
        self._call: Call | None = None
        self._stream: Any = None
        self._ended: LLMResult | None = None

    def commit(self, call: Call, stream: Any) -> None:
        """Take the model's stream as the answer; it may have ended by now."""
        self._call, self._stream = call, stream
        if self._ended is not None:
            self.on_llm_end(self._ended)

    def on_stream_event(self, event: Any, **kwargs: Any) -> None:
        del kwargs
        if event["event"] == "message-finish" and self._call is not None:
            _noted(self._stream, self._call.stable())

    def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:
        del kwargs
        if self._call is None:
            self._ended = response
            return
        message = _noted(self._stream, self._call.stable())
        self._call.ended(message)
        self._run.end(message, self._call)

    def on_llm_error(self, error: BaseException, **kwargs: Any) -> None:
        del kwargs
        if self._call is not None:
            call, self._call = self._call, None  # what comes after a time limit is told nobody
            call.broke(error)
            self._run.fail(error)


class _AsyncCloser(AsyncCallbackHandler):
    """Closes the chain run when the run of the model that answers ends."""

    run_inline = True

    def __init__(self, run: AsyncRoutedRun) -> None:
        self._run = run
        self._call: Call | None = None
        self._stream: Any = None
        self._ended: LLMResult | None = None
        self._failed: BaseException | None = None
        self.watching: asyncio.Task[None] | None = None
        """Ends the stream at its time limit."""

    async def commit(self, call: Call, stream: Any) -> None:
        """Take the model's stream as the answer; it may have ended, or broken, by now."""
        self._call, self._stream = call, stream
        if self._ended is not None:
            await self.on_llm_end(self._ended)
        elif self._failed is not None:
            await self.on_llm_error(self._failed)

    async def on_stream_event(self, event: Any, **kwargs: Any) -> None:
        del kwargs
        if event["event"] == "message-finish" and self._call is not None:
            _noted(self._stream, self._call.stable())  # before any reader of the message wakes up

    async def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:
        del kwargs
        if self._call is None:
            self._ended = response
            return
        message = _noted(self._stream, self._call.stable())
        self._call.ended(message)
        await self._run.end(message, self._call)

    async def on_llm_error(self, error: BaseException, **kwargs: Any) -> None:
        del kwargs
        if self._call is None:
            self._failed = error
            return
        call, self._call = self._call, None  # what comes after a time limit is told nobody
        call.broke(error)
        await self._run.fail(error)


def _noted(stream: Any, payload: dict[str, Any]) -> Any:
    """Put who answered on the finished message, which the stream alone holds."""
    message = getattr(stream, "output_message", None)
    if message is not None:
        message.response_metadata[ROUTING_KEY] = payload
    return message


def _with_handler(config: RunnableConfig, handler: BaseCallbackHandler) -> RunnableConfig:
    manager: Any = config["callbacks"]
    manager = manager.copy()
    manager.add_handler(handler, inherit=False)
    return {**config, "callbacks": manager}
