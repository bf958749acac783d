"""One routed call: let the engine decide, tell of it, call the chosen model, annotate."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from llamaindex_hybrid.events import annotated, announced
from llamaindex_hybrid.streams import aprimed, primed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from llama_index.core.llms import LLM

    from shared_router.deciding.guards import RoutingRequest
    from shared_router.engine.engine import RoutingEngine
    from shared_router.records import RoutingDecision


T = TypeVar("T")


class Owner(Protocol):
    """What a call needs of its wrapper."""

    rate_limiter: Any

    @property
    def engine(self) -> RoutingEngine:
        """Decides."""
        ...

    def chosen(self, decision: RoutingDecision) -> LLM:
        """Return the chosen model, heard by the wrapper's handlers."""
        ...


@dataclass(frozen=True, kw_only=True)
class RoutedCall(Generic[T]):
    """Everything one call needs; `T` is what it answers with, or a chunk of it."""

    owner: Owner
    """The wrapper."""
    name: str
    """Name of the method, for traces."""
    request: RoutingRequest
    """The call as the engine sees it."""
    invoke: Callable[[LLM], Any] = field(repr=False)
    """Calls the same method on the chosen model."""
    decided: Callable[[RoutingDecision], None] = field(repr=False)
    """Told of the decision, to remember it."""

    def call(self) -> T:
        """Make the call."""

        def attempt(decision: RoutingDecision) -> Any:
            model = self._begin(decision)
            with announced(decision, model.callback_manager, self.name):
                if self.owner.rate_limiter is not None:
                    self.owner.rate_limiter.acquire()
                return annotated(self.invoke(model), decision.stable())

        answer: T = self.owner.engine.call(self.request, attempt)
        return answer

    async def acall(self) -> T:
        """Make the call without blocking the event loop."""

        async def attempt(decision: RoutingDecision) -> Any:
            model = self._begin(decision)
            with announced(decision, model.callback_manager, self.name):
                if self.owner.rate_limiter is not None:
                    await self.owner.rate_limiter.async_acquire()
                return annotated(await self.invoke(model), decision.stable())

        answer: T = await self.owner.engine.acall(self.request, attempt)
        return answer

    def stream(self) -> Generator[T, None, None]:
        """Stream the call; it commits to a model at its first chunk, drawn here."""

        def attempt(decision: RoutingDecision) -> Any:
            model = self._begin(decision)
            with announced(decision, model.callback_manager, self.name):
                if self.owner.rate_limiter is not None:
                    self.owner.rate_limiter.acquire()
                change = partial(annotated, payload=decision.stable())
                return primed(self.invoke(model), change)

        chunks: Generator[T, None, None] = self.owner.engine.call(self.request, attempt)
        return chunks

    async def astream(self) -> AsyncGenerator[T, None]:
        """Stream the call without blocking the event loop; see `stream`."""

        async def attempt(decision: RoutingDecision) -> Any:
            model = self._begin(decision)
            with announced(decision, model.callback_manager, self.name):
                if self.owner.rate_limiter is not None:
                    await self.owner.rate_limiter.async_acquire()
                change = partial(annotated, payload=decision.stable())
                return await aprimed(await self.invoke(model), change)

        chunks: AsyncGenerator[T, None] = await self.owner.engine.acall(self.request, attempt)
        return chunks

    def _begin(self, decision: RoutingDecision) -> LLM:
        self.decided(decision)
        return self.owner.chosen(decision)
