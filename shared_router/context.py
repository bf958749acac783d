"""Context that both fronts read: what the user asked, and options for the calls inside.

Both are ContextVars: they follow `asyncio` tasks, `asyncio.to_thread` and the hosts' own
thread pools, and a nested block replaces only what it names.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from shared_router.options import NO_OPTIONS, CallOptions
from shared_router.records import RoutingQuery

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared_router.retrieval import RetrievalFacts

_current_query: ContextVar[RoutingQuery | None] = ContextVar("hybrid_routing_query", default=None)
_current_options: ContextVar[CallOptions | None] = ContextVar(
    "hybrid_routing_options", default=None
)


@contextmanager
def routing_query(
    text: str, *, task: str | None = None, retrieval: RetrievalFacts | None = None
) -> Iterator[RoutingQuery]:
    """State what the user asked, for every routed call inside the block.

    Args:
        text: The user's own question.
        task: Its task label, where known.
        retrieval: What was retrieved for it, for a router that sees such facts.

    Yields:
        The query as the router will see it.

    Raises:
        TypeError: If `text` is not a string, or `retrieval` is something else.
    """
    if not isinstance(text, str):
        raise TypeError(f"routing_query takes the user's question as text; got {type(text)}.")
    query = RoutingQuery(text=text, source="explicit", task=task, retrieval=retrieval)
    token = _current_query.set(query)
    try:
        yield query
    finally:
        _current_query.reset(token)


def leave_query() -> RoutingQuery | None:
    """State no query any more, where another task begins; see `return_to_query`.

    Returns:
        The query that was stated.
    """
    query = _current_query.get()
    _current_query.set(None)
    return query


def return_to_query(query: RoutingQuery | None) -> None:
    """State a query again that was left."""
    _current_query.set(query)


@contextmanager
def found_query(query: RoutingQuery | None) -> Iterator[None]:
    """State a query that a front found, unless the user stated one.

    Args:
        query: What was found; nothing changes where it is `None`.
    """
    if query is None or _current_query.get() is not None:
        yield
        return
    token = _current_query.set(query)
    try:
        yield
    finally:
        _current_query.reset(token)


@contextmanager
def hybrid_options(**options: Any) -> Iterator[CallOptions]:
    """Set a dial, its confidence, a forced route or a task for every routed call inside the block.

    Args:
        **options: One of the dials (`threshold`, `cost_advantage`, `max_quality_drop`,
            `max_quality_drop_absolute`), and `confidence`, `route`, `task`. A keyword of the call
            itself wins.

    Yields:
        The options in force inside the block.

    Raises:
        ConfigurationError: If an option is unknown, out of range, or two dials are given.
    """
    with options_in_force(CallOptions.parse(options).over(current_options())) as merged:
        yield merged


@contextmanager
def options_in_force(options: CallOptions) -> Iterator[CallOptions]:
    """Set options that are already read; those of enclosing blocks are not merged in.

    Args:
        options: The options.

    Yields:
        The same.
    """
    token = _current_options.set(options)
    try:
        yield options
    finally:
        _current_options.reset(token)


def current_query() -> RoutingQuery | None:
    """Return the query of the innermost `routing_query` block, if any."""
    return _current_query.get()


def current_options() -> CallOptions:
    """Return the options of the enclosing `hybrid_options` blocks."""
    return _current_options.get() or NO_OPTIONS
