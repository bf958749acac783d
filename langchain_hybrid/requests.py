"""From a LangChain call to the engine's request: pure conversion."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, cast

from langchain_core.messages.utils import count_tokens_approximately

from langchain_hybrid.queries import (
    find_query,
    has_pictures,
    is_later_turn,
    open_tool_call,
    text_of,
)
from shared_router.context import current_options
from shared_router.deciding.guarantee import Claim, limit_of
from shared_router.deciding.guards import RoutingRequest
from shared_router.options import (
    CONFIGURABLE_PREFIX,
    NO_OPTIONS,
    OPTION_NAMES,
    CallOptions,
    refuse_near_miss,
    split_options,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_core.messages import BaseMessage
    from langchain_core.runnables import RunnableConfig

    from shared_router.engine.engine import RoutingEngine

logger = logging.getLogger("hybrid_llm")


@dataclass(frozen=True, kw_only=True)
class Bound:
    """The routing options that a model brings to each of its calls."""

    keywords: CallOptions = NO_OPTIONS
    """Those bound as keywords."""
    configured: CallOptions = NO_OPTIONS
    """Those bound in a config."""

    def over(self, below: Bound) -> Bound:
        """Return these options, with what they leave open taken from `below`."""
        return Bound(
            keywords=self.keywords.over(below.keywords),
            configured=self.configured.over(below.configured),
        )


def call_options(
    config: RunnableConfig, kwargs: Mapping[str, Any], bound: Bound
) -> tuple[CallOptions, dict[str, Any]]:
    """Read a call's routing options: keywords over config over context.

    At each level the call's own win over those that are bound.

    Returns:
        The options, and the keywords that remain for the model.

    Raises:
        ConfigurationError: If an option is unknown, out of range, or two dials are given.
    """
    options, rest = split_options(kwargs)
    configured, _ = split_config(config)
    levels = (bound.keywords, configured, bound.configured, current_options())
    return reduce(CallOptions.over, levels, options), rest


def split_config(config: Mapping[str, Any]) -> tuple[CallOptions, RunnableConfig]:
    """Take the routing options out of a config.

    Returns:
        The options, and the config without them.

    Raises:
        ConfigurationError: If an option is unknown, out of range, or two dials are given.
    """
    configurable = config.get("configurable") or {}
    found = _configured(configurable)
    if not found:
        return NO_OPTIONS, cast("RunnableConfig", config)
    ours = {CONFIGURABLE_PREFIX + name for name in found}
    kept = {key: value for key, value in configurable.items() if key not in ours}
    rest = {**config, "configurable": kept}
    if not kept:
        del rest["configurable"]
    return CallOptions.parse(found), cast("RunnableConfig", rest)


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
            refuse_near_miss(name, OPTION_NAMES, key, CONFIGURABLE_PREFIX)
    return found


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
    kept = open_tool_call(messages)
    return RoutingRequest(
        query=_query(messages, _several(extractors)),
        options=options,
        needs_tools=needs_tools,
        needs_structured_output=needs_structured_output,
        input_tokens=_input_tokens(messages, engine),
        has_pictures=has_pictures(messages),
        later_turn=is_later_turn(messages),
        sticky_to=kept.get("answered_by") or kept.get("candidate"),
        sticky_claim=Claim.read(kept),
        sticky_limit=limit_of(*map(kept.get, ("dial", "dial_value", "confidence"))),
    )


def _query(messages: list[BaseMessage], extractors: Any) -> Any:
    try:
        return find_query(messages, extractors)
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
