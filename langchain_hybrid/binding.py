"""Dials that last: what `bind` and `with_config` set stays with the model, whatever is made of it.

LangChain keeps bound keywords and configs beside a model, and drops them where a method of the
model makes another one: `bind_tools`, `with_structured_output`, and with them agents and fallbacks.
So routing options go into a copy of the model itself; all else is bound as ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable, RunnableBinding, RunnableWithFallbacks
from langchain_core.runnables.retry import RunnableRetry

from langchain_hybrid.children import map_models
from langchain_hybrid.requests import Bound, split_config
from shared_router.options import split_options

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from langchain_core.runnables import RunnableConfig


class Dialled(Runnable[Any, Any]):
    """A Runnable that routing options are bound into, itself or what it wraps."""

    def holding(self, bound: Bound) -> Any:
        """Return a copy that brings these options to each of its calls."""
        return map_models(self, lambda model: _held(model, bound))

    def bind(self, **kwargs: Any) -> Any:
        """Bind keywords; routing options last through whatever is made of the result.

        Raises:
            ConfigurationError: If an option is unknown, out of range, or two dials are given.
        """
        options, rest = split_options(kwargs)
        held = self.holding(Bound(keywords=options))
        return _dialled(super(Dialled, held).bind(**rest))

    def with_config(self, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Bind a config; its routing options last through whatever is made of the result.

        Raises:
            ConfigurationError: If an option is unknown, out of range, or two dials are given.
        """
        options, rest = split_config({**(config or {}), **kwargs})
        held = self.holding(Bound(configured=options))
        return _dialled(super(Dialled, held).with_config(rest))

    def with_types(self, input_type: Any = None, output_type: Any = None) -> Any:
        """Bind types of input and output."""
        return _dialled(super().with_types(input_type=input_type, output_type=output_type))

    def with_listeners(self, **kwargs: Any) -> Any:
        """Bind listeners."""
        return _dialled(super().with_listeners(**kwargs))

    def with_alisteners(self, **kwargs: Any) -> Any:
        """Bind asynchronous listeners."""
        return _dialled(super().with_alisteners(**kwargs))

    def with_retry(self, **kwargs: Any) -> Any:
        """Try again where a call fails."""
        return _dialled(super().with_retry(**kwargs))

    def with_fallbacks(self, fallbacks: Sequence[Runnable[Any, Any]], **kwargs: Any) -> Any:
        """Try others where a call fails; routing options reach those alone that are routed."""
        return _dialled(super().with_fallbacks(fallbacks, **kwargs))


class HybridBinding(Dialled, RunnableBinding[Any, Any]):  # type: ignore[no-redef]
    """What `HybridChatModel.bind` returns; the options are in the model that is bound."""

    @classmethod
    def lc_id(cls) -> list[str]:
        """Write it down as LangChain's own."""
        return RunnableBinding.lc_id()

    def stream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[Any]:
        """Stream what is bound; dials in force now hold, whenever it is read."""
        return self.bound.stream(input, self._merge_configs(config), **{**self.kwargs, **kwargs})

    def astream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """Stream what is bound; dials in force now hold, whenever it is read."""
        return self.bound.astream(input, self._merge_configs(config), **{**self.kwargs, **kwargs})


class HybridRetry(Dialled, RunnableRetry[Any, Any]):  # type: ignore[no-redef]
    """What `HybridChatModel.with_retry` returns."""

    @classmethod
    def lc_id(cls) -> list[str]:
        """Write it down as LangChain's own."""
        return RunnableRetry.lc_id()


class HybridFallbacks(Dialled, RunnableWithFallbacks[Any, Any]):
    """What `HybridChatModel.with_fallbacks` returns: no provider is sent a routing option."""

    @classmethod
    def lc_id(cls) -> list[str]:
        """Write it down as LangChain's own."""
        return RunnableWithFallbacks.lc_id()

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        """Name its runs as LangChain does."""
        return super().get_name(suffix, name=name or self.name or RunnableWithFallbacks.__name__)

    def _asked(self, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Give a call's options to the models that are routed, and return the other keywords."""
        options, rest = split_options(kwargs)
        return super(Dialled, self.holding(Bound(keywords=options))), rest

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Call one after the other until one answers."""
        asked, rest = self._asked(kwargs)
        return asked.invoke(input, config, **rest)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Call one after the other until one answers."""
        asked, rest = self._asked(kwargs)
        return await asked.ainvoke(input, config, **rest)

    def batch(self, inputs: list[Any], config: Any = None, **kwargs: Any) -> list[Any]:
        """Call each input's until one answers."""
        asked, rest = self._asked(kwargs)
        answers: list[Any] = asked.batch(inputs, config, **rest)
        return answers

    async def abatch(self, inputs: list[Any], config: Any = None, **kwargs: Any) -> list[Any]:
        """Call each input's until one answers."""
        asked, rest = self._asked(kwargs)
        answers: list[Any] = await asked.abatch(inputs, config, **rest)
        return answers

    def stream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[Any]:
        """Stream the first that yields a chunk."""
        asked, rest = self._asked(kwargs)
        chunks: Iterator[Any] = asked.stream(input, config, **rest)
        return chunks

    def astream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """Stream the first that yields a chunk."""
        asked, rest = self._asked(kwargs)
        chunks: AsyncIterator[Any] = asked.astream(input, config, **rest)
        return chunks


_OURS: dict[Any, type[Dialled]] = {
    RunnableBinding: HybridBinding,
    RunnableRetry: HybridRetry,
    RunnableWithFallbacks: HybridFallbacks,
}


def _held(model: Any, bound: Bound) -> Any:
    return model.holding(bound) if isinstance(model, Dialled) else model


def _dialled(made: Any) -> Any:
    """Make ours of what LangChain made of a model of ours."""
    if isinstance(made, Dialled):
        return made
    plain = next(kind for kind in _OURS if isinstance(made, kind))
    return _OURS[plain](**{name: getattr(made, name) for name in plain.model_fields})
