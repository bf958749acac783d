"""Ways to state the user's question where a prompt hides it."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from string import Formatter
from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.prompts.chat import HumanMessagePromptTemplate, SystemMessagePromptTemplate
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.base import RunnableBindingBase

from langchain_hybrid.children import base_models
from langchain_hybrid.contexts import ain_context, in_context
from langchain_hybrid.own_tasks import with_own_tasks
from shared_router.context import routing_query
from shared_router.errors import ConfigurationError
from shared_router.retrieval import RetrievalFacts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

_KINDS: dict[type, type[BaseMessage]] = {
    HumanMessagePromptTemplate: HumanMessage,
    SystemMessagePromptTemplate: SystemMessage,
}


logger = logging.getLogger("hybrid_llm")


class QueryFromPrompt:
    """Recover a prompt variable from the formatted messages.

    Give it as `query_extractor=QueryFromPrompt(prompt, "question")`. Where other variables stand
    in the same message, the text between them must tell them apart; `with_routing_query` is
    exact in every case.

    Args:
        template: The chat prompt, string prompt or f-string that formats the model's input.
        variable: The variable that holds the user's question.

    Raises:
        ConfigurationError: If no message of the template has the variable, or it is no f-string.
    """

    def __init__(self, template: ChatPromptTemplate | PromptTemplate | str, variable: str) -> None:
        self.variable = variable
        self._splitters = [
            (kind, _Splitter(text, variable))
            for kind, text in _texts(template)
            if variable in _variables(text)
        ]
        if not self._splitters:
            raise ConfigurationError(
                f"QueryFromPrompt: no message of the template has the variable {variable!r}."
            )

    def __repr__(self) -> str:
        return f"QueryFromPrompt({self.variable!r})"

    def __call__(self, messages: Sequence[BaseMessage]) -> str | None:
        """Return the variable's value, or `None` where no message fits the template."""
        for kind, splitter in self._splitters:
            for message in reversed(messages):
                if isinstance(message, kind) and isinstance(message.content, str):
                    found = splitter.split(message.content)
                    if found is not None:
                        return found
        return None


def _texts(
    template: ChatPromptTemplate | PromptTemplate | str,
) -> Iterator[tuple[type[BaseMessage], str]]:
    if isinstance(template, str):
        yield HumanMessage, template
    elif isinstance(template, PromptTemplate):
        yield HumanMessage, _f_string(template)
    else:
        for message in template.messages:
            kind = next((k for t, k in _KINDS.items() if isinstance(message, t)), None)
            prompt = getattr(message, "prompt", None)
            if kind and isinstance(prompt, PromptTemplate):
                yield kind, _f_string(prompt)


def _f_string(prompt: PromptTemplate) -> str:
    if prompt.template_format != "f-string":
        raise ConfigurationError(
            f"QueryFromPrompt reads f-string templates; this one is {prompt.template_format}. Use "
            "with_routing_query(chain, key=...) instead."
        )
    return prompt.template


def _variables(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


class _Splitter:
    """Splits a formatted text back into a template's variables, in linear time.

    Other variables take all they can, the query as little as it can: where a separator stands
    more than once, the query is what follows its last appearance before it. A regular expression
    would say the same and take exponential time on a text that does not fit.
    """

    def __init__(self, template: str, variable: str) -> None:
        parsed = list(Formatter().parse(template))
        literals = [literal for literal, _, _, _ in parsed]
        names = [name for _, name, _, _ in parsed if name is not None]
        self._literals = literals if len(literals) > len(names) else [*literals, ""]
        self._merge_bare_literals([name for _, name, _, _ in parsed])
        self._at = names.index(variable)

    def _merge_bare_literals(self, names: list[str | None]) -> None:
        """Join literals that no variable parts, such as those around an escaped brace."""
        joined, open_ = [], ""
        for literal, name in zip(self._literals, [*names, None], strict=False):
            open_ += literal
            if name is not None:
                joined.append(open_)
                open_ = ""
        self._literals = [*joined, open_]

    def split(self, text: str) -> str | None:
        """Return the query, or `None` where the text does not fit."""
        first, last = self._literals[0], self._literals[-1]
        low, high = len(first), len(text) - len(last)
        if low > high or not text.startswith(first) or not text.endswith(last):
            return None
        latest = self._latest_end(text, low, high)
        if latest is None:
            return None
        start = self._start(text, low, latest)
        if start is None:
            return None
        if self._at == len(self._literals) - 2:  # the last variable
            return text[start:latest]
        return text[start : text.find(self._literals[self._at + 1], start)]

    def _latest_end(self, text: str, low: int, high: int) -> int | None:
        """Find the last place where the query can end, the later separators fitting behind it."""
        for literal in reversed(self._literals[self._at + 1 : -1]):
            high = text.rfind(literal, low, high)
            if high < 0:
                return None
        return high

    def _start(self, text: str, low: int, latest: int) -> int | None:
        """Find the last place where the query can start, the earlier separators before it."""
        if self._at == 0:
            return low
        separator = self._literals[self._at]
        found = text.rfind(separator, low, latest)
        for literal in self._literals[1 : self._at]:
            low = text.find(literal, low, found)
            if low < 0:
                return None
            low += len(literal)
        return found + len(separator) if found >= low else None


def with_routing_query(
    chain: Runnable[Any, Any],
    key: str | Callable[[Any], str | None] = "question",
    *,
    retrieval: Callable[[Any], RetrievalFacts | None] | None = None,
) -> Runnable[Any, Any]:
    """Route every hybrid model inside a chain by one value of the chain's input.

    Args:
        chain: Any Runnable.
        key: Key of the input that holds the user's question, or a function of the input. An
            input that is a string is the question itself.
        retrieval: A function of the input that tells what was retrieved, for a router that sees
            such facts; where it fails or returns something else, none are known.

    Returns:
        The chain, with the question stated around every call of it.
    """
    return _WithRoutingQuery(bound=chain, key=key, retrieval=retrieval)


class _WithRoutingQuery(RunnableBindingBase[Any, Any]):  # type: ignore[no-redef]
    """Sets the routing query around the chain's own code, and nowhere else."""

    key: Any
    retrieval: Any = None

    def _query(self, value: Any) -> AbstractContextManager[Any]:
        found = _called("key", self.key, value) if callable(self.key) else _lookup(value, self.key)
        if not isinstance(found, str):
            return nullcontext()
        return routing_query(found, retrieval=self._facts(value))

    def _facts(self, value: Any) -> RetrievalFacts | None:
        if self.retrieval is None:
            return None
        facts = _called("retrieval", self.retrieval, value)
        if isinstance(facts, RetrievalFacts | None):
            return facts
        logger.warning("with_routing_query's retrieval returned %s.", type(facts).__name__)
        return None

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        with self._query(input):
            return super().invoke(input, with_own_tasks(config), **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        with self._query(input):
            return await super().ainvoke(input, with_own_tasks(config), **kwargs)

    def batch(self, inputs: Any, config: Any = None, **kwargs: Any) -> list[Any]:
        return Runnable.batch(self, inputs, config, **kwargs)

    async def abatch(self, inputs: Any, config: Any = None, **kwargs: Any) -> list[Any]:
        return await Runnable.abatch(self, inputs, config, **kwargs)

    def batch_as_completed(self, inputs: Any, config: Any = None, **kwargs: Any) -> Any:
        return Runnable.batch_as_completed(self, inputs, config, **kwargs)

    def abatch_as_completed(self, inputs: Any, config: Any = None, **kwargs: Any) -> Any:
        return Runnable.abatch_as_completed(self, inputs, config, **kwargs)

    def transform(self, input: Iterator[Any], config: Any = None, **kwargs: Any) -> Iterator[Any]:
        return Runnable.transform(self, input, config, **kwargs)

    def atransform(
        self, input: AsyncIterator[Any], config: Any = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        return Runnable.atransform(self, input, config, **kwargs)

    def stream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[Any]:
        # A generator shares its consumer's context: the query lives in a context of its own.
        with self._query(input):
            context = copy_context()
        chunks = context.run(super().stream, input, with_own_tasks(config), **kwargs)
        yield from in_context(context, chunks)

    async def astream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        with self._query(input):
            context = copy_context()
        chunks = context.run(super().astream, input, with_own_tasks(config), **kwargs)
        async for chunk in ain_context(context, chunks):
            yield chunk

    def stream_events(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        self._check_v3()  # the one version that streams events synchronously
        with self._query(input):
            return super().stream_events(input, config, **kwargs)

    def astream_events(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Any:
        if {**self.kwargs, **kwargs}.get("version") == "v3":
            return super().astream_events(input, config, **kwargs)
        # The bound chain's own would pass this class by.
        return Runnable.astream_events(self, input, config, **kwargs)

    async def _astream_events_v3(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Any:
        self._check_v3()
        with self._query(input):
            return await super()._astream_events_v3(input, config, **kwargs)

    def _check_v3(self) -> None:
        """Refuse what would lose the question: only a model's v3 stream routes when it is made."""
        if next(base_models(self.bound), None) is None:
            raise NotImplementedError(
                f"with_routing_query: a {type(self.bound).__name__} runs while its v3 events are "
                "drawn, outside of this call; draw them inside `with routing_query(question):`, "
                "or use another way of streaming."
            )


def _called(name: str, function: Callable[[Any], Any], value: Any) -> Any:
    try:
        return function(value)
    except Exception as error:  # noqa: BLE001  (a chain never breaks because the router did)
        logger.warning("with_routing_query's %s raised %s.", name, type(error).__name__)
        return None


def _lookup(value: Any, key: str) -> Any:
    if isinstance(value, str):
        return value
    try:
        return value[key]
    except (KeyError, TypeError, IndexError) as error:
        known = f"; it has {', '.join(map(repr, value))}" if isinstance(value, dict) else ""
        raise ConfigurationError(
            f"with_routing_query: the chain's input has no key {key!r}{known}."
        ) from error
