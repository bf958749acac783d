"""Structured output: each model's own structured chain, and routing between them.

So a provider's native JSON schema mode is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable, RunnableSerializable
from pydantic import ConfigDict

from langchain_hybrid.binding import Dialled
from langchain_hybrid.children import map_models
from shared_router.support.processes import cached_property

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from langchain_core.language_models import BaseChatModel
    from langchain_core.runnables import RunnableConfig

    from langchain_hybrid.dispatch import RoutedCall
    from langchain_hybrid.requests import Bound
    from shared_router.records import Candidate


class HybridStructuredOutput(Dialled, RunnableSerializable[Any, Any]):
    """What `HybridChatModel.with_structured_output` returns."""

    model_config = ConfigDict(arbitrary_types_allowed=True, ignored_types=(cached_property,))

    model: Any
    """The `HybridChatModel`."""
    schema_: Any
    """The schema, as each model's `with_structured_output` takes it."""
    options: dict[str, Any]
    """Its other arguments: `include_raw`, `method`, `strict` and so on."""

    def holding(self, bound: Bound) -> HybridStructuredOutput:
        """Return a copy that brings these routing options to each of its calls."""
        return self.model_copy(update={"model": self.model.holding(bound)})

    def check(self, config: RunnableConfig | None) -> None:
        """Refuse options that the model cannot honour; see `Dialled`."""
        self.model.check(config)

    def __repr__(self) -> str:
        return f"HybridStructuredOutput({self.model!r})"

    def chain(self, candidate: Candidate) -> Runnable[Any, Any]:
        """Return one candidate's own structured chain."""
        key = id(candidate.model)  # a model that answers whole is another one
        if key not in self._chains:
            chain = map_models(candidate.model, self._structured)
            self._chains[key] = candidate.model, chain  # kept: an id is that of a living object
        return self._chains[key][1]

    @cached_property
    def _chains(self) -> dict[int, tuple[Any, Runnable[Any, Any]]]:
        return {}

    def _structured(self, base: BaseChatModel) -> Runnable[Any, Any]:
        return base.with_structured_output(self.schema_, **self.options)

    def _call(
        self, value: Any, config: RunnableConfig | None, kwargs: dict[str, Any]
    ) -> RoutedCall:
        call: RoutedCall = self.model.routed_call(value, config, kwargs, structured=self)
        return call

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Route, then let the chosen model answer in the schema."""
        return self._call(input, config, kwargs).invoke()

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Route, then let the chosen model answer in the schema."""
        return await self._call(input, config, kwargs).ainvoke()

    def stream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[Any]:
        """Route, then stream the chosen model's partial answers."""
        return self._call(input, config, kwargs).stream()

    def astream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """Route, then stream the chosen model's partial answers."""
        return self._call(input, config, kwargs).astream()
