"""One routed call: what it needs, and what is done for it on each model that is asked.

The call is described once: whether it is async, and whether it streams, is told by the name of the
method that is delegated.
"""

from __future__ import annotations

from contextlib import aclosing, closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse

from llamaindex_hybrid.answers import as_chunk, is_blank, merged, read_answer
from llamaindex_hybrid.events import annotated, announced, tell_of_call, tell_of_decision
from llamaindex_hybrid.listening import Heard, Hearing
from llamaindex_hybrid.logprobs import without_logprobs
from shared_router.engine.calls import Hands
from shared_router.engine.streams import AsyncOpened, Opened, aopened, opened

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence

    from llama_index.core.base.llms.types import ChatMessage
    from llama_index.core.llms import LLM

    from llamaindex_hybrid.foreign import Sent
    from shared_router.deciding.attempts import Attempt
    from shared_router.deciding.escalation import Answer
    from shared_router.deciding.guards import RoutingRequest
    from shared_router.engine.calls import Call
    from shared_router.engine.engine import RoutingEngine


T = TypeVar("T")

_WHOLE = {
    "stream": "predict",
    "astream": "apredict",
    "stream_chat": "chat",
    "astream_chat": "achat",
    "stream_complete": "complete",
    "astream_complete": "acomplete",
    "stream_structured_predict": "structured_predict",
    "astream_structured_predict": "astructured_predict",
    "stream_chat_with_tools": "chat_with_tools",
    "astream_chat_with_tools": "achat_with_tools",
}
"""Methods that stream, and those that give the same answer whole."""


class Owner(Protocol):
    """What a call needs of its wrapper."""

    rate_limiter: Any

    @property
    def engine(self) -> RoutingEngine:
        """Decides, and says whom to ask."""
        ...

    def asked(self, index: int, hearing: Hearing | None = None) -> LLM:
        """Return the model at a position, heard by the wrapper's handlers and by `hearing`."""
        ...

    def sent(self, index: int) -> Sent:
        """Return what makes of a call what the model at a position can read."""
        ...

    def hearing(self, index: int, *, logprobs: bool) -> Hearing:
        """Begin to listen to a model, which may have refused to tell log-probabilities."""
        ...


@dataclass(frozen=True, kw_only=True)
class RoutedCall(Generic[T]):
    """Everything one call needs; `T` is what it answers with, or a chunk of it."""

    owner: Owner
    """The wrapper."""
    name: str
    """Name of the method, which is delegated and names the trace."""
    request: RoutingRequest
    """The call as the engine sees it."""
    invoke: Callable[[LLM, str, Sent], Any] = field(repr=False)
    """Calls a method of a model, by its name, with what that model reads."""
    answered: Callable[[Call], None] = field(repr=False)
    """Told who answers, to remember it."""
    said: Callable[[], Sequence[ChatMessage]] = field(repr=False)
    """Returns the messages of the call, for what failed before."""
    committed: Callable[[], bool] | None = field(default=None, repr=False)
    """Tells whether a tool has run, so that nobody else may be asked."""

    def made(self) -> Any:
        """Make the call: the answer, a stream of it, or an awaitable of either."""
        asynchronous = self.name.startswith("a")
        return self._amade() if asynchronous else self._made()

    def _made(self) -> Any:
        if self.owner.rate_limiter is not None:
            self.owner.rate_limiter.acquire()

        def attempt(step: Attempt) -> Any:
            hearing = self._hearing(step)
            with self._announced(step, hearing) as model:
                answer = self.invoke(model, self._method(step), self.owner.sent(step.index))
                if hearing is not None:
                    return Heard.of(answer, hearing)
                return opened(answer, is_blank) if self._streams(step) else answer

        call = self.owner.engine.call(self.request, self._hands(attempt))
        self.answered(call)
        if not self._wants_stream:
            return annotated(given(call.answer), call.stable())
        chunks = _chunks(call)
        return _begun(chunks) if self._is_empty(call) else chunks

    async def _amade(self) -> Any:
        if self.owner.rate_limiter is not None:
            await self.owner.rate_limiter.async_acquire()

        async def attempt(step: Attempt) -> Any:
            hearing = self._hearing(step)
            with self._announced(step, hearing) as model:
                answer = await self.invoke(model, self._method(step), self.owner.sent(step.index))
                if hearing is not None:
                    return Heard.of(answer, hearing)
                return await aopened(answer, is_blank) if self._streams(step) else answer

        call = await self.owner.engine.acall(self.request, self._hands(attempt))
        self.answered(call)
        if not self._wants_stream:
            return annotated(given(call.answer), call.stable())
        chunks = _achunks(call)
        return await _abegun(chunks) if self._is_empty(call) else chunks

    @property
    def _wants_stream(self) -> bool:
        return self.name in _WHOLE

    def _streams(self, step: Attempt) -> bool:
        return self._wants_stream and not step.held

    def _method(self, step: Attempt) -> str:
        """Return the method that an attempt calls: an answer that may be rejected is made whole."""
        return _WHOLE.get(self.name, self.name) if step.held else self.name

    def _hearing(self, step: Attempt) -> Hearing | None:
        """Listen to the whole answers of a call with a second look: all of them are paid for."""
        looks = step.look or step.decision.reason == "second_look"
        if not looks or self._streams(step):
            return None
        return self.owner.hearing(step.index, logprobs=step.logprobs)

    @contextmanager
    def _announced(self, step: Attempt, hearing: Hearing | None) -> Iterator[LLM]:
        """Tell of an attempt, of the decision at the first, and keep its trace open."""
        model = self.owner.asked(step.index, hearing)
        if step.number == 1:
            tell_of_decision(step.decision)
        first = step.decision if step.number == 1 else None
        with announced(first, model.callback_manager, self.name):
            yield model

    def _hands(self, attempt: Callable[[Attempt], Any]) -> Hands:
        return Hands(
            attempt=attempt,
            read=self._read,
            merge=merged,
            streams=self._wants_stream,
            committed=self.committed,
            ended=tell_of_call,
        )

    def _read(self, answer: Any) -> Answer:
        request, heard = self.request, None
        if isinstance(answer, Heard):
            answer, heard = answer.answer, answer.response
        return read_answer(
            answer,
            self.said(),
            structured=request.needs_structured_output,
            tools_offered=request.needs_tools,
            heard=heard,
        )

    @staticmethod
    def _is_empty(call: Call) -> bool:
        """Tell whether a stream ended without a chunk: nobody has to wait for its end."""
        return isinstance(call.answer, Opened | AsyncOpened) and not call.answer.head


def given(answer: Any) -> Any:
    """Return what the caller gets of an answer: nothing that it did not ask for."""
    if not isinstance(answer, Heard):
        return answer
    plain = answer.answer
    told = answer.brought and isinstance(plain, ChatResponse | CompletionResponse)
    return without_logprobs(plain) if told else plain


def _chunks(call: Call) -> Generator[Any, None, None]:
    """Yield the chunks of the answer that is given, each with who gave it."""
    told = call.stable()
    if not isinstance(call.answer, Opened):
        yield annotated(as_chunk(given(call.answer)), told)
        return
    with closing(call.chunks()) as chunks:
        for chunk in chunks:
            yield annotated(chunk, told)


async def _achunks(call: Call) -> AsyncGenerator[Any, None]:
    """Yield the chunks of the answer that is given, each with who gave it."""
    told = call.stable()
    if not isinstance(call.answer, AsyncOpened):
        yield annotated(as_chunk(given(call.answer)), told)
        return
    async with aclosing(call.achunks()) as chunks:
        async for chunk in chunks:
            yield annotated(chunk, told)


def _begun(chunks: Generator[Any, None, None]) -> Generator[Any, None, None]:
    next(chunks, None)
    return chunks


async def _abegun(chunks: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
    await anext(chunks, None)
    return chunks
