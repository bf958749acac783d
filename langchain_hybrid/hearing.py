"""What is heard of an attempt under way: tokens that are shown, the message that comes of it.

An answer that may be rejected is made without token events: handlers that show tokens are left out
of its runs, and hear of the accepted answer afterwards, as of a run of its own.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.language_models._compat_bridge import message_to_events
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, LLMResult
from langchain_core.tracers import BaseTracer
from langchain_core.tracers._streaming import (
    _StreamingCallbackHandler,
    _V2StreamingCallbackHandler,
)

from langchain_hybrid.answers import as_chunk
from langchain_hybrid.children import base_models, map_models
from langchain_hybrid.queries import text_of
from shared_router.errors import CallTimeoutError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.callbacks import Callbacks
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import BaseMessage
    from langchain_core.runnables import Runnable, RunnableConfig

    from shared_router.records import Candidate


class Hearing(BaseCallbackHandler):
    """Listens to one attempt's model runs, before all others.

    An attempt that was given up at a time limit may go on in its thread: it shows nothing any more.
    """

    run_inline = True
    raise_error = True

    def __init__(self) -> None:
        self.given_up = False
        """Whether nobody waits for the attempt any more."""
        self.shown = False
        """Whether a token has been shown."""
        self.message: AIMessage | None = None
        """What the last model run came to."""

    def on_llm_new_token(self, token: Any, *, chunk: Any = None, **kwargs: Any) -> None:
        """Note that something is shown."""
        del kwargs
        self._check()
        made = getattr(chunk, "message", None)
        self.shown = self.shown or bool(token or getattr(made, "tool_call_chunks", None))

    def on_stream_event(self, event: Any, **kwargs: Any) -> None:
        """Note that something is shown."""
        del kwargs
        self._check()
        self.shown = self.shown or shows(event)

    def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:
        """Keep the message."""
        del kwargs
        self._check()
        first = response.generations[0][0] if response.generations[:1] != [[]] else None
        message = getattr(first, "message", None)
        if isinstance(message, AIMessage):
            self.message = message

    def _check(self) -> None:
        if self.given_up:
            raise CallTimeoutError("This attempt was given up at its time limit.")


def shows(event: Any) -> bool:
    """Tell whether an event of a v3 stream shows something of the answer."""
    return event.get("event") not in ("message-start", "error") and not _starts_empty(event)


def _starts_empty(event: Any) -> bool:
    block = event.get("content") or event.get("content_block") or {}
    starts = event.get("event") == "content-block-start"
    return starts and not (block.get("text") or block.get("name") or block.get("reasoning"))


def shows_tokens(handler: Any) -> bool:
    """Tell whether a handler shows tokens as they come."""
    return isinstance(handler, _StreamingCallbackHandler | _V2StreamingCallbackHandler)


def hears_tokens(handler: Any) -> bool:
    """Tell whether a handler does something with each token, tracers apart."""
    if shows_tokens(handler):
        return True
    kind = type(handler)
    own = getattr(kind, "on_llm_new_token", None)
    plain = (BaseCallbackHandler.on_llm_new_token, AsyncCallbackHandler.on_llm_new_token)
    return own not in (None, *plain) and not isinstance(handler, BaseTracer)


@dataclass
class Hushed:
    """Handlers that hear of an answer once it is accepted."""

    manager: Any = None
    """The callback manager they were taken from."""
    handlers: list[Any] = field(default_factory=list)


def heard(config: RunnableConfig, hearing: BaseCallbackHandler) -> RunnableConfig:
    """Let a handler listen to all runs under a config."""
    manager: Any = config.get("callbacks")
    if hasattr(manager, "copy") and hasattr(manager, "add_handler"):
        manager = manager.copy()
        manager.handlers.insert(0, hearing)
        manager.inheritable_handlers.insert(0, hearing)
        return {**config, "callbacks": manager}
    return {**config, "callbacks": [hearing, *(manager or [])]}


def hushed(config: RunnableConfig) -> tuple[RunnableConfig, Hushed]:
    """Leave out of a config the handlers that show tokens."""
    manager: Any = config.get("callbacks")
    handlers = [each for each in getattr(manager, "handlers", ()) if shows_tokens(each)]
    if not handlers:
        return config, Hushed()
    quiet = manager.copy()
    for handler in handlers:
        quiet.remove_handler(handler)
    return {**config, "callbacks": quiet}, Hushed(manager, handlers)


def unheard(own: Callbacks, given: Callbacks) -> Callbacks:
    """Leave out handlers of the instance that the config brings too: each hears once."""
    if not isinstance(own, list):
        return own
    there = given if isinstance(given, list) else getattr(given, "handlers", [])
    return [handler for handler in own if handler not in there]


def without_streaming(model: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """Return a model that answers whole, where it streams by a setting of its own."""
    if not any(getattr(base, "streaming", False) for base in base_models(model)):
        return model

    def quiet(base: BaseChatModel) -> BaseChatModel:
        return base.model_copy(update={"disable_streaming": True})

    return map_models(model, quiet)


def with_whole_answers(candidate: Candidate) -> Candidate:
    """Return a candidate whose model answers whole, where it streams by a setting of its own."""
    model = without_streaming(candidate.model)
    return candidate if model is candidate.model else dataclasses.replace(candidate, model=model)


@dataclass(frozen=True)
class Showing:
    """An accepted answer, told to handlers that show tokens as a run of its own."""

    hushed: Hushed
    model: Any
    messages: list[BaseMessage] = field(repr=False)
    message: AIMessage = field(repr=False)

    def manager(self) -> Any:
        """Return a callback manager of those handlers alone."""
        manager = self.hushed.manager.copy()
        manager.handlers = list(self.hushed.handlers)
        manager.inheritable_handlers = list(self.hushed.handlers)
        return manager

    def started(self) -> dict[str, Any]:
        """Return what the run's start tells."""
        base = next(base_models(self.model), None)
        name = base.get_name() if base is not None else "ChatModel"
        return {"serialized": {"name": name}, "messages": [self.messages], "name": name}

    def token(self) -> tuple[str, ChatGenerationChunk]:
        """Return the answer as one token and its chunk."""
        return text_of(self.message), ChatGenerationChunk(message=as_chunk(self.message))

    def events(self) -> Iterator[Any]:
        """Return the answer as events of a v3 stream, where a handler reads those."""
        if any(isinstance(each, _V2StreamingCallbackHandler) for each in self.hushed.handlers):
            yield from message_to_events(self.message)

    def result(self) -> LLMResult:
        """Return what the run's end tells."""
        return LLMResult(generations=[[ChatGeneration(message=self.message)]])

    def show(self) -> None:
        """Tell of it."""
        (run,) = self.manager().on_chat_model_start(**self.started())
        text, chunk = self.token()
        run.on_llm_new_token(text, chunk=chunk)
        for event in self.events():
            run.on_stream_event(event)
        run.on_llm_end(self.result())

    async def ashow(self) -> None:
        """Tell of it, to handlers that may be asynchronous."""
        (run,) = await self.manager().on_chat_model_start(**self.started())
        text, chunk = self.token()
        await run.on_llm_new_token(text, chunk=chunk)
        for event in self.events():
            await run.on_stream_event(event)
        await run.on_llm_end(self.result())
