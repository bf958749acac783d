"""The query of the enclosing span: what an engine was asked, where its prompts do not say it.

Opt-in, by `track_queries()`: a span handler on LlamaIndex's root dispatcher keeps, for each span
that is open, its parent and the query it was called with, and forgets it when the span ends.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.extractors import BaseExtractor
from llama_index.core.instrumentation.span import BaseSpan, active_span_id
from llama_index.core.instrumentation.span_handlers import BaseSpanHandler
from llama_index.core.schema import QueryBundle
from llama_index_instrumentation import get_dispatcher
from pydantic import PrivateAttr

if TYPE_CHECKING:
    import inspect

MOST_OPEN = 10_000
"""Open spans kept; a span that never ends (its event loop was closed) is dropped in the end."""

_ASKING = frozenset({"query", "synthesize", "chat", "stream_chat", "retrieve"})
_ASKED = ("query", "str_or_query_bundle", "message")


@dataclass(frozen=True)
class Enclosing:
    """What is known of the spans around a call."""

    query: str | None = field(default=None, repr=False)
    """What the innermost engine, chat engine, synthesizer or retriever was asked."""
    extracting: bool = False
    """Whether a metadata extractor is at work, inside of any of these."""


@dataclass(frozen=True)
class _Open:
    parent_id: str | None
    found: Enclosing


class QueryTracker(BaseSpanHandler[BaseSpan]):
    """Keeps the query of every open span; `track_queries` returns the one there is.

    Use it as a context manager, or call `stop` to remove it.
    """

    _open: OrderedDict[str, _Open] = PrivateAttr(default_factory=OrderedDict)
    _uses: int = PrivateAttr(default=0)
    _guard: Any = PrivateAttr(default_factory=threading.Lock)

    @classmethod
    def class_name(cls) -> str:
        """Name the handler as LlamaIndex's do."""
        return "QueryTracker"

    def __len__(self) -> int:
        return len(self._open)

    def __bool__(self) -> bool:
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Put the handler on the root dispatcher, if it is not there."""
        with self._guard:
            self._uses += 1
            if self._uses == 1:
                get_dispatcher().add_span_handler(self)

    def stop(self) -> None:
        """Remove the handler, once everyone who started it has stopped; all is forgotten then."""
        with self._guard:
            self._uses -= 1
            if self._uses <= 0:
                self._uses = 0
                handlers = get_dispatcher().span_handlers
                handlers[:] = [handler for handler in handlers if handler is not self]
                self._open.clear()

    def span_enter(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,
        instance: Any = None,
        parent_id: str | None = None,
        tags: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep what a span that starts was asked."""
        del tags, kwargs
        with self._guard:
            self._open[id_] = _Open(parent_id, _found(id_, bound_args, instance))
            if len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)

    def span_exit(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,
        instance: Any = None,
        result: Any = None,
        **kwargs: Any,
    ) -> None:
        """Forget a span that ends."""
        del bound_args, instance, result, kwargs
        with self._guard:
            self._open.pop(id_, None)

    def span_drop(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,
        instance: Any = None,
        err: BaseException | None = None,
        **kwargs: Any,
    ) -> None:
        """Forget a span that fails."""
        self.span_exit(id_, bound_args, instance, err, **kwargs)

    def enclosing(self) -> Enclosing:
        """Look for the innermost span around this call that says something."""
        id_ = active_span_id.get()
        with self._guard:
            while id_ is not None and id_ in self._open:
                span = self._open[id_]
                if span.found.query is not None or span.found.extracting:
                    return span.found
                id_ = span.parent_id
        return Enclosing()

    def new_span(self, *args: Any, **kwargs: Any) -> None:
        """Make no span: there is nothing to export."""

    def prepare_to_exit_span(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: see `span_exit`."""

    def prepare_to_drop_span(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: see `span_drop`."""


def _found(id_: str, bound_args: inspect.BoundArguments, instance: Any) -> Enclosing:
    if isinstance(instance, BaseExtractor):
        return Enclosing(extracting=True)
    method = id_.partition("-")[0].rpartition(".")[2]
    if isinstance(instance, BaseLLM) or method.removeprefix("a") not in _ASKING:
        return Enclosing()
    asked = next((bound_args.arguments[n] for n in _ASKED if n in bound_args.arguments), None)
    return Enclosing(query=text_of_query(asked))


def text_of_query(value: Any) -> str | None:
    """Read a query out of an argument; `None` where it holds no text."""
    text = value.query_str if isinstance(value, QueryBundle) else value
    return text if isinstance(text, str) and text.strip() else None


_TRACKER = QueryTracker()


def track_queries() -> QueryTracker:
    """Let every HybridLLM find its query in the spans around the call.

    For prompts that reach the model formatted: `structured_answer_filtering=True`, the condense
    step of a condense-plus-context chat, HyDE, query fusion. One call per process is enough.

    Returns:
        The tracker: a context manager, with `stop` to end it.
    """
    _TRACKER.start()
    return _TRACKER


def enclosing() -> Enclosing:
    """Look into the spans around this call; nothing is known where `track_queries` is not on."""
    return _TRACKER.enclosing()
