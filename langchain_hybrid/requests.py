"""From a LangChain call to the engine's request: pure conversion."""

from __future__ import annotations

import difflib
import logging
from typing import TYPE_CHECKING, Any

from langchain_core.messages.utils import count_tokens_approximately

from langchain_hybrid.queries import find_query, open_tool_caller, text_of
from shared_router.context import current_options
from shared_router.deciding.guards import RoutingRequest
from shared_router.errors import ConfigurationError
from shared_router.options import DIAL_NAMES, OPTION_NAMES, CallOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_core.messages import BaseMessage
    from langchain_core.runnables import RunnableConfig

    from shared_router.engine import RoutingEngine

logger = logging.getLogger("hybrid_llm")

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
    configured = _configured(config.get("configurable") or {})
    options = current_options()
    if configured:
        options = CallOptions.parse(configured).over(options)
    if not keywords:
        return options, dict(kwargs)
    rest = {key: value for key, value in kwargs.items() if key not in keywords}
    return CallOptions.parse(keywords).over(options), rest


def _configured(configurable: Mapping[str, Any]) -> dict[str, Any]:
    """Take our options out of a config; another's `hybrid_search` is not ours to refuse."""
    found = {}
    for key, value in configurable.items():
        if not key.startswith(CONFIGURABLE_PREFIX):
            continue
        name = key.removeprefix(CONFIGURABLE_PREFIX)
        if name in OPTION_NAMES:
            found[name] = value
        else:
            _refuse_near_miss(name, OPTION_NAMES, key, CONFIGURABLE_PREFIX)
    return found


def _refuse_near_miss(name: str, known: Sequence[str], shown: str, prefix: str = "") -> None:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    if near:
        raise ConfigurationError(f"Unknown option {shown!r}; did you mean {prefix + near[0]!r}?")


def _check_keywords(kwargs: Mapping[str, Any]) -> None:
    """Refuse what was meant for the router and would reach the model's provider."""
    for key in kwargs:
        if key not in OPTION_NAMES:
            _refuse_near_miss(key, DIAL_NAMES, key)
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
        query=_query(messages, _several(extractors), engine),
        options=options,
        needs_tools=needs_tools,
        needs_structured_output=needs_structured_output,
        input_tokens=_input_tokens(messages, engine),
        sticky_to=open_tool_caller(messages),
    )


def _query(messages: list[BaseMessage], extractors: Any, engine: RoutingEngine) -> Any:
    try:
        return find_query(messages, extractors, engine.router.exceeds)
    except Exception as error:  # noqa: BLE001  (a chain never breaks because the router did)
        logger.warning("Finding the query raised %s.", type(error).__name__)
        return None


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
