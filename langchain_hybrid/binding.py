"""Dials that last: what `bind` and `with_config` set stays with the model, whatever is made of it.

LangChain keeps bound keywords and configs beside a model, and drops them where a method of the
model makes another one: `bind_tools`, `with_structured_output`, and with them agents and fallbacks.
So routing options go into a copy of the model itself; all else is bound as ever.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable, RunnableBinding, RunnableWithFallbacks
from langchain_core.runnables.configurable import (
    RunnableConfigurableAlternatives,
    RunnableConfigurableFields,
)
from langchain_core.runnables.retry import RunnableRetry

from langchain_hybrid.children import map_models
from langchain_hybrid.requests import Bound, split_config
from shared_router.errors import ConfigurationError
from shared_router.options import split_options

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from langchain_core.runnables import RunnableConfig
    from langchain_core.runnables.utils import AnyConfigurableField, ConfigurableField


class Dialled(Runnable[Any, Any]):
    """A Runnable that routing options are bound into, itself or what it wraps."""

    def holding(self, bound: Bound) -> Any:
        """Return a copy that brings these options to each of its calls."""
        return _held_within(self, bound)

    def held(self) -> Bound:
        """Return the options that it brings by itself, beside those of what it wraps."""
        return Bound()

    def check(self, config: RunnableConfig | None) -> None:
        """Refuse a call's options where none of the models inside can honour them.

        Raises:
            ConfigurationError: If a route names no candidate, or a dial cannot be resolved.
        """
        errors = []
        for model in _routed(self):
            try:
                model.check(config)
            except ConfigurationError as error:
                errors.append(error)
            else:
                return
        if errors:
            raise errors[0]

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

    def configurable_fields(self, **kwargs: AnyConfigurableField) -> Any:
        """Let configs set fields; routing options hold whatever they set."""
        made: Any = super()
        return _dialled(made.configurable_fields(**kwargs))

    def configurable_alternatives(self, which: ConfigurableField, **kwargs: Any) -> Any:
        """Let configs choose another; routing options reach those alone that are routed."""
        made: Any = super()
        return _dialled(made.configurable_alternatives(which, **kwargs))


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


class Asking(Dialled):
    """One of ours that calls others beside: no provider is sent a routing option."""

    def _asked(self, config: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Give a call's options to the models that are routed, and return the other keywords."""
        options, rest = split_options(kwargs)
        return super(Dialled, self.holding(Bound(keywords=options))), rest

    def __getattr__(self, name: str) -> Any:
        """Hand on what the first model has; its routing options go to those that are routed."""
        made: Any = super()
        found = made.__getattr__(name)
        if not callable(found):
            return found

        @wraps(found)
        def asked(*args: Any, **kwargs: Any) -> Any:
            options, rest = split_options(kwargs)
            held: Any = super(Dialled, self.holding(Bound(keywords=options)))
            return held.__getattr__(name)(*args, **rest)

        return asked

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Call it as LangChain does."""
        asked, rest = self._asked(config, kwargs)
        return asked.invoke(input, config, **rest)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Call it as LangChain does."""
        asked, rest = self._asked(config, kwargs)
        return await asked.ainvoke(input, config, **rest)

    def batch(self, inputs: list[Any], config: Any = None, **kwargs: Any) -> list[Any]:
        """Call it for each input."""
        asked, rest = self._asked(config, kwargs)
        answers: list[Any] = asked.batch(inputs, config, **rest)
        return answers

    async def abatch(self, inputs: list[Any], config: Any = None, **kwargs: Any) -> list[Any]:
        """Call it for each input."""
        asked, rest = self._asked(config, kwargs)
        answers: list[Any] = await asked.abatch(inputs, config, **rest)
        return answers

    def stream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[Any]:
        """Stream it; dials in force now hold, whenever it is read."""
        asked, rest = self._asked(config, kwargs)
        chunks: Iterator[Any] = asked.stream(input, config, **rest)
        return chunks

    def astream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """Stream it."""
        asked, rest = self._asked(config, kwargs)
        chunks: AsyncIterator[Any] = asked.astream(input, config, **rest)
        return chunks


class HybridFallbacks(Asking, RunnableWithFallbacks[Any, Any]):
    """What `HybridChatModel.with_fallbacks` returns; a wrong option is no failure to recover from.

    LangChain would let the next one answer it, and nobody would know.
    """

    @classmethod
    def lc_id(cls) -> list[str]:
        """Write it down as LangChain's own."""
        return RunnableWithFallbacks.lc_id()

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        """Name its runs as LangChain does."""
        return super().get_name(suffix, name=name or self.name or RunnableWithFallbacks.__name__)

    def _asked(self, config: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Look at the options before the first is called."""
        options, rest = split_options(kwargs)
        held = self.holding(Bound(keywords=options))
        for each in config if isinstance(config, list | tuple) else [config]:
            held.check(each)
        return super(Dialled, held), rest


class HybridConfigurableFields(Asking, RunnableConfigurableFields):  # type: ignore[type-arg]
    """What `HybridChatModel.configurable_fields` returns."""

    @classmethod
    def lc_id(cls) -> list[str]:
        """Write it down as LangChain's own."""
        return RunnableConfigurableFields.lc_id()

    def holding(self, bound: Bound) -> Any:
        """Return a copy that brings these options to each of its calls."""
        return self.model_copy(update={"default": _held_within(self.default, bound)})

    def check(self, config: RunnableConfig | None) -> None:
        """Refuse options that what a config makes of it cannot honour; see `Dialled`."""
        _check(*self.prepare(config))

    def _prepare(self, config: RunnableConfig | None = None) -> tuple[Any, RunnableConfig]:
        """Make it anew with a config's fields, what is held with them."""
        made, config = super()._prepare(config)
        default: Any = self.default
        return (made if made is default else _held(made, default.held())), config


class HybridConfigurableAlternatives(Asking, RunnableConfigurableAlternatives):  # type: ignore[type-arg]
    """What `HybridChatModel.configurable_alternatives` returns."""

    @classmethod
    def lc_id(cls) -> list[str]:
        """Write it down as LangChain's own."""
        return RunnableConfigurableAlternatives.lc_id()

    def holding(self, bound: Bound) -> Any:
        """Return a copy that brings these options to each of its calls."""
        others = {key: _held_later(each, bound) for key, each in self.alternatives.items()}
        default = _held_within(self.default, bound)
        return self.model_copy(update={"default": default, "alternatives": others})

    def check(self, config: RunnableConfig | None) -> None:
        """Refuse options that what a config makes of it cannot honour; see `Dialled`."""
        _check(*self.prepare(config))


_OURS: dict[Any, type[Dialled]] = {
    RunnableBinding: HybridBinding,
    RunnableRetry: HybridRetry,
    RunnableWithFallbacks: HybridFallbacks,
    RunnableConfigurableFields: HybridConfigurableFields,
    RunnableConfigurableAlternatives: HybridConfigurableAlternatives,
}


def _held(model: Any, bound: Bound) -> Any:
    return model.holding(bound) if isinstance(model, Dialled) and bound != Bound() else model


def _held_within(model: Any, bound: Bound) -> Any:
    return map_models(model, lambda each: _held(each, bound))


def _held_later(alternative: Any, bound: Bound) -> Any:
    """Hold options in an alternative, or in what a function makes of it."""
    if isinstance(alternative, Runnable):
        return _held_within(alternative, bound)
    return lambda: _held_within(alternative(), bound)


def _routed(model: Any) -> list[Dialled]:
    """Find the models inside bindings, retries and fallbacks that are routed."""
    found: list[Any] = []

    def note(each: Any) -> Any:
        found.append(each)
        return each

    map_models(model, note)
    return [each for each in found if isinstance(each, Dialled)]


def _check(model: Any, config: RunnableConfig | None) -> None:
    if isinstance(model, Dialled):
        model.check(config)


def _dialled(made: Any) -> Any:
    """Make ours of what LangChain made of a model of ours."""
    if isinstance(made, Dialled):
        return made
    plain = next(kind for kind in _OURS if isinstance(made, kind))
    return _OURS[plain](**{name: getattr(made, name) for name in plain.model_fields})
