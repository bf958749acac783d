"""The enclosing span: what an engine was asked, where its prompts do not say it, and retrieved.

Opt-in, by `track_queries()`: a span handler on LlamaIndex's root dispatcher keeps, for each span
that is open, its parent, the query it was called with and facts of what was retrieved for it
(numbers, no text), and forgets it when the span ends.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, Generator
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.base.response.schema import AsyncStreamingResponse, StreamingResponse
from llama_index.core.extractors import BaseExtractor
from llama_index.core.instrumentation.span import BaseSpan, active_span_id
from llama_index.core.instrumentation.span_handlers import BaseSpanHandler
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, QueryBundle
from llama_index_instrumentation import get_dispatcher
from pydantic import PrivateAttr

from llamaindex_hybrid.streams import adrawn_with, drawn_with
from shared_router.retrieval import RetrievalFacts
from shared_router.support.processes import ForkSafeLock

if TYPE_CHECKING:
    import inspect
    from collections.abc import Mapping

MOST_OPEN = 10_000
"""Open spans kept; a span that never ends (its event loop was closed) is dropped in the end."""

_ASKING = frozenset({"query", "synthesize", "chat", "stream_chat", "retrieve"})
_ASKED = ("query", "str_or_query_bundle", "message")
_RETRIEVING = "retrieve"
_SYNTHESIZING = "synthesize"

_drawn: ContextVar[Enclosing | None] = ContextVar("hybrid_llm_drawn", default=None)
"""What enclosed the stream that is being drawn."""

logger = logging.getLogger("hybrid_llm")


@dataclass(frozen=True)
class Enclosing:
    """What is known of the spans around a call."""

    query: str | None = field(default=None, repr=False)
    """What the innermost engine, chat engine, synthesizer or retriever was asked."""
    extracting: bool = False
    """Whether a metadata extractor is at work, inside of any of these."""
    retrieval: RetrievalFacts | None = None
    """What the synthesizer was given; in an engine without one, what was retrieved last."""


@dataclass(frozen=True)
class _Open:
    parent_id: str | None
    method: str
    found: Enclosing
    postprocessing: bool
    """Whether it narrows down what was retrieved, so that nothing is settled inside of it."""

    @property
    def asks(self) -> bool:
        """Whether it says something of the calls inside of it."""
        return self.found.query is not None or self.found.extracting


class QueryTracker(BaseSpanHandler[BaseSpan]):
    """Keeps the query of every open span; `track_queries` returns the one there is.

    Use it as a context manager, or call `stop` to remove it.
    """

    _open: OrderedDict[str, _Open] = PrivateAttr(default_factory=OrderedDict)
    _uses: int = PrivateAttr(default=0)
    _guard: Any = PrivateAttr(default_factory=ForkSafeLock)

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
            self._open[id_] = _opened(id_, bound_args, instance, parent_id)
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
        """Forget a span that ends; what it retrieved is noted at the engine that asked for it."""
        del bound_args, instance, kwargs
        with self._guard:
            ended = self._open.pop(id_, None)
        if ended is None:
            return
        if ended.method == _RETRIEVING and isinstance(result, list):
            facts = _facts(result)
            with self._guard:
                self._note(ended.parent_id, facts)
        if ended.found.retrieval is not None:
            _keep_while_drawn(result, ended.found)

    def _note(self, id_: str | None, facts: RetrievalFacts | None) -> None:
        """Note facts at the nearest span that asks and is no retriever itself."""
        while id_ is not None and id_ in self._open:
            span = self._open[id_]
            if span.asks and span.method != _RETRIEVING:
                self._open[id_] = replace(span, found=replace(span.found, retrieval=facts))
                return
            id_ = span.parent_id

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
        drawn = _drawn.get()
        if drawn is not None and self._uses:
            return drawn
        id_, settled = active_span_id.get(), True
        with self._guard:
            while id_ is not None and id_ in self._open:
                span = self._open[id_]
                settled = settled and not span.postprocessing
                if span.asks:
                    return span.found if settled else replace(span.found, retrieval=None)
                id_ = span.parent_id
        return Enclosing()

    def new_span(self, *args: Any, **kwargs: Any) -> None:
        """Make no span: there is nothing to export."""

    def prepare_to_exit_span(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: see `span_exit`."""

    def prepare_to_drop_span(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: see `span_drop`."""


def _opened(
    id_: str, bound_args: inspect.BoundArguments, instance: Any, parent_id: str | None
) -> _Open:
    method = id_.partition("-")[0].rpartition(".")[2].removeprefix("a")
    found = _found(method, bound_args.arguments, instance)
    return _Open(parent_id, method, found, isinstance(instance, BaseNodePostprocessor))


def _found(method: str, arguments: Mapping[str, Any], instance: Any) -> Enclosing:
    if isinstance(instance, BaseExtractor):
        return Enclosing(extracting=True)
    if isinstance(instance, BaseLLM) or method not in _ASKING:
        return Enclosing()
    asked = next((arguments[name] for name in _ASKED if name in arguments), None)
    facts = _facts(arguments.get("nodes")) if method == _SYNTHESIZING else None
    return Enclosing(query=text_of_query(asked), retrieval=facts)


def _keep_while_drawn(response: Any, found: Enclosing) -> None:
    """Let a lazy stream, whose model is called after the synthesizer's span, know of the span."""
    if not isinstance(response, StreamingResponse | AsyncStreamingResponse):
        return
    chunks: Any = response.response_gen
    if isinstance(chunks, Generator):
        response.response_gen = drawn_with(chunks, _drawn, found)
    elif isinstance(chunks, AsyncGenerator):
        response.response_gen = adrawn_with(chunks, _drawn, found)


def _facts(nodes: Any) -> RetrievalFacts | None:
    """Count and measure nodes; `None` where they cannot be read."""
    try:
        return RetrievalFacts.of(
            (node.score for node in nodes),
            (node.node.get_content(metadata_mode=MetadataMode.LLM) for node in nodes),
        )
    except Exception as error:  # noqa: BLE001  (a chain never breaks because the router did)
        logger.warning("Reading the facts of a retrieval raised %s.", type(error).__name__)
        return None


def text_of_query(value: Any) -> str | None:
    """Read a query out of an argument; `None` where it holds no text."""
    text = value.query_str if isinstance(value, QueryBundle) else value
    return text if isinstance(text, str) and text.strip() else None


_TRACKER = QueryTracker()


def track_queries() -> QueryTracker:
    """Let every HybridLLM find its query in the spans around the call.

    For prompts that reach the model formatted: `structured_answer_filtering=True`, the condense
    step of a condense-plus-context chat, HyDE, query fusion. A router that sees facts of retrieval
    is told those of the nodes in the prompt. One call per process is enough.

    Returns:
        The tracker: a context manager, with `stop` to end it.
    """
    _TRACKER.start()
    return _TRACKER


def enclosing() -> Enclosing:
    """Look into the spans around this call; nothing is known where `track_queries` is not on."""
    return _TRACKER.enclosing()
