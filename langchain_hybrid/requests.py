"""From a LangChain call to the engine's request: pure conversion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.messages.utils import count_tokens_approximately

from langchain_hybrid.queries import find_query, open_tool_caller, text_of
from shared_router.context import current_options
from shared_router.deciding.guards import RoutingRequest
from shared_router.errors import ConfigurationError
from shared_router.options import OPTION_NAMES, CallOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_core.messages import BaseMessage
    from langchain_core.runnables import RunnableConfig

    from shared_router.engine import RoutingEngine

CONFIGURABLE_PREFIX = "hybrid_"
"""A dial stands in `config["configurable"]` as `hybrid_<dial>`."""


def call_options(
    config: RunnableConfig, kwargs: Mapping[str, Any]
) -> tuple[CallOptions, dict[str, Any]]:
    """Read a call's routing options: keywords over config over context.

    Returns:
        The options, and the keywords that remain for the model.

    Raises:
        ConfigurationError: If an option is unknown, out of range, or two dials are given.
    """
    _check_keywords(kwargs)
    keywords = {name: kwargs[name] for name in OPTION_NAMES if name in kwargs}
    configured = {
        key.removeprefix(CONFIGURABLE_PREFIX): value
        for key, value in (config.get("configurable") or {}).items()
        if key.startswith(CONFIGURABLE_PREFIX)
    }
    options = current_options()
    if configured:
        options = CallOptions.parse(configured).over(options)
    if not keywords:
        return options, dict(kwargs)
    rest = {key: value for key, value in kwargs.items() if key not in keywords}
    return CallOptions.parse(keywords).over(options), rest


def _check_keywords(kwargs: Mapping[str, Any]) -> None:
    """Refuse a config's name among the keywords: it would reach the model's provider."""
    for key in kwargs:
        if key.startswith(CONFIGURABLE_PREFIX):
            raise ConfigurationError(
                f"{key!r} is a name for configs; as a keyword it is "
                f"{key.removeprefix(CONFIGURABLE_PREFIX)!r}."
            )


def routing_request(
    messages: list[BaseMessage],
    options: CallOptions,
    engine: RoutingEngine,
    extractors: Any,
    *,
    needs_tools: bool,
    needs_structured_output: bool,
) -> RoutingRequest:
    """Convert one call."""
    return RoutingRequest(
        query=find_query(messages, _several(extractors), engine.router.exceeds),
        options=options,
        needs_tools=needs_tools,
        needs_structured_output=needs_structured_output,
        input_tokens=_input_tokens(messages, engine),
        sticky_to=open_tool_caller(messages),
    )


def _several(extractors: Any) -> tuple[Any, ...]:
    if extractors is None:
        return ()
    return tuple(extractors) if isinstance(extractors, list | tuple) else (extractors,)


def _input_tokens(messages: list[BaseMessage], engine: RoutingEngine) -> int | None:
    """Estimate the input's tokens, where a context window is known and may be too small."""
    windows = [c.context_window for c in engine.candidates if c.context_window is not None]
    # A token is at least one character, so a text shorter than the window fits for sure.
    if not windows or sum(len(text_of(message)) for message in messages) <= min(windows):
        return None
    return int(count_tokens_approximately(messages))
