"""Event streaming, version v3: the chosen model's own stream object, inside our chain run.

The chain run stays open until the model's run ends or fails; a handler of our own, attached to
that run alone, closes it then and puts the decision on the finished message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.runnables import RunnableWithFallbacks

from langchain_hybrid.runs import AsyncRoutedRun, RoutedRun
from shared_router.records import ROUTING_KEY

if TYPE_CHECKING:
    from langchain_core.language_models.chat_model_stream import (
        AsyncChatModelStream,
        ChatModelStream,
    )
    from langchain_core.outputs import LLMResult
    from langchain_core.runnables import Runnable, RunnableConfig

    from langchain_hybrid.dispatch import RoutedCall
    from shared_router.records import RoutingDecision


def chat_stream(call: RoutedCall) -> ChatModelStream:
    """Route a call and return the chosen model's v3 stream."""
    run = RoutedRun(call.name, call.value, call.config, always=True)
    closer = _Closer(run)

    def attempt(decision: RoutingDecision) -> ChatModelStream:
        closer.payload = decision.stable()
        config = _with_handler(run.decided(decision), closer)
        model = _streaming(call.target(decision.index))
        if call.rate_limiter:
            call.rate_limiter.acquire(blocking=True)
        stream = model.stream_events(call.messages, config, version="v3", **call.kwargs)
        return cast("ChatModelStream", stream)

    try:
        run.deciding(call.request)
        closer.stream = call.engine.call(call.request, attempt)
    except BaseException as error:
        run.fail(error)
        raise
    return cast("ChatModelStream", closer.stream)


async def achat_stream(call: RoutedCall) -> AsyncChatModelStream:
    """Route a call and return the chosen model's v3 stream, asynchronously."""
    run = await AsyncRoutedRun.open(call.name, call.value, call.config, always=True)
    closer = _AsyncCloser(run)

    async def attempt(decision: RoutingDecision) -> AsyncChatModelStream:
        closer.payload = decision.stable()
        config = _with_handler(await run.decided(decision), closer)
        model = _streaming(call.target(decision.index))
        if call.rate_limiter:
            await call.rate_limiter.aacquire(blocking=True)
        started: Any = model.astream_events(call.messages, config, version="v3", **call.kwargs)
        return cast("AsyncChatModelStream", await started)

    try:
        await run.deciding(call.request)
        closer.stream = await call.engine.acall(call.request, attempt)
    except BaseException as error:
        await run.fail(error)
        raise
    return cast("AsyncChatModelStream", closer.stream)


class _Closer(BaseCallbackHandler):
    """Closes the chain run when the model's run ends."""

    run_inline = True

    def __init__(self, run: RoutedRun) -> None:
        self._run = run
        self.stream: Any = None
        self.payload: dict[str, Any] = {}

    def on_stream_event(self, event: Any, **kwargs: Any) -> None:
        del kwargs
        if event["event"] == "message-finish":
            _noted(self.stream, self.payload)

    def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:
        del response, kwargs
        self._run.end(_noted(self.stream, self.payload))

    def on_llm_error(self, error: BaseException, **kwargs: Any) -> None:
        del kwargs
        self._run.fail(error)


class _AsyncCloser(AsyncCallbackHandler):
    """Closes the chain run when the model's run ends."""

    run_inline = True

    def __init__(self, run: AsyncRoutedRun) -> None:
        self._run = run
        self.stream: Any = None
        self.payload: dict[str, Any] = {}

    async def on_stream_event(self, event: Any, **kwargs: Any) -> None:
        del kwargs
        if event["event"] == "message-finish":  # before any reader of the message wakes up
            _noted(self.stream, self.payload)

    async def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:
        del response, kwargs
        await self._run.end(_noted(self.stream, self.payload))

    async def on_llm_error(self, error: BaseException, **kwargs: Any) -> None:
        del kwargs
        await self._run.fail(error)


def _noted(stream: Any, payload: dict[str, Any]) -> Any:
    """Put what is stable of the decision on the finished message, which the stream alone holds."""
    message = getattr(stream, "output_message", None)
    if message is not None:
        message.response_metadata[ROUTING_KEY] = payload
    return message


def _with_handler(config: RunnableConfig, handler: BaseCallbackHandler) -> RunnableConfig:
    manager: Any = config["callbacks"]
    manager = manager.copy()
    manager.add_handler(handler, inherit=False)
    return {**config, "callbacks": manager}


def _streaming(model: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """Fallbacks have no v3 stream of their own: their first model streams."""
    return model.runnable if isinstance(model, RunnableWithFallbacks) else model
