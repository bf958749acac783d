"""From a LangChain call to the engine's request: pure conversion."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, cast

from langchain_core.messages.utils import count_tokens_approximately
from langchain_core.runnables.config import ensure_config, merge_configs

from langchain_hybrid.hearing import unheard
from langchain_hybrid.keywords import unable
from langchain_hybrid.queries import (
    find_query,
    has_pictures,
    holds_tool_calls,
    is_later_turn,
    text_of,
)
from langchain_hybrid.settings import answer_settings
from shared_router.context import current_options
from shared_router.deciding.guards import RoutingRequest
from shared_router.engine.conversations import NOWHERE, Place
from shared_router.options import (
    CONFIGURABLE_PREFIX,
    NO_OPTIONS,
    OPTION_NAMES,
    CallOptions,
    numbers_of_texts,
    refuse_near_miss,
    split_options,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import BaseMessage
    from langchain_core.runnables import RunnableConfig

    from shared_router.engine.engine import RoutingEngine
    from shared_router.records import AnswerSettings

logger = logging.getLogger("hybrid_llm")

_RUNTIME = "__pregel_runtime"
"""Where a graph's config holds its runtime, and with it what `context=` was given."""


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
    configured = configured.over(options_of_context(config))
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
    return CallOptions.parse(numbers_of_texts(found)), cast("RunnableConfig", rest)


def options_of_context(config: Mapping[str, Any]) -> CallOptions:
    """Read the routing options of a graph's `context=`: a mapping's keys, or an object's fields.

    They are named as in a config; the config goes first, as it says more of the one call.

    Raises:
        ConfigurationError: If an option is out of range, or two dials are given.
    """
    runtime = (config.get("configurable") or {}).get(_RUNTIME)
    context = getattr(runtime, "context", None)
    if context is None:
        return NO_OPTIONS
    if isinstance(context, Mapping):
        found = _configured({str(key): value for key, value in context.items()})
    else:
        named = {name: getattr(context, CONFIGURABLE_PREFIX + name, None) for name in OPTION_NAMES}
        found = {name: value for name, value in named.items() if value is not None}
    return CallOptions.parse(numbers_of_texts(found)) if found else NO_OPTIONS


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
    kwargs: Mapping[str, Any],
    schemas: Sequence[Any],
    place: Place = NOWHERE,
) -> RoutingRequest:
    """Convert one call.

    Args:
        messages: The input.
        options: The call's routing options.
        engine: Who decides.
        extractors: The user's, of queries.
        kwargs: The keywords for the model.
        schemas: The one that is asked for in structured output, if it is.
        place: Where it stands in its conversation.
    """
    kept = place.sticky_to
    return RoutingRequest(
        query=_query(messages, _several(extractors)),
        options=options,
        needs_tools=bool(kwargs.get("tools")),
        needs_structured_output=bool(schemas),
        holds_tool_calls=holds_tool_calls(messages),
        unable=unable(engine.candidates, kwargs, options),
        input_tokens=_input_tokens(messages, engine),
        has_pictures=has_pictures(messages),
        later_turn=is_later_turn(messages),
        sticky_to=None if kept is None else kept.candidate,
        sticky_claim=None if kept is None else kept.claim,
        sticky_limit=None if kept is None else kept.limit,
        conversation=place.conversation,
        settings=_settings(messages, engine, kwargs, schemas) if engine.looks else None,
    )


def _query(messages: list[BaseMessage], extractors: Any) -> Any:
    try:
        return find_query(messages, extractors)
    except Exception as error:  # noqa: BLE001  (a chain never breaks because the router did)
        logger.warning("Finding the query raised %s.", type(error).__name__)
        return None


def _settings(
    messages: list[BaseMessage],
    engine: RoutingEngine,
    kwargs: Mapping[str, Any],
    schemas: Sequence[Any],
) -> AnswerSettings | None:
    try:
        return answer_settings(engine.candidates[0].model, messages, kwargs, schemas)
    except Exception as error:  # noqa: BLE001  (a chain never breaks because the router did)
        logger.warning("Reading a call's settings raised %s.", type(error).__name__)
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


def merged_config(model: BaseChatModel, config: RunnableConfig | None) -> RunnableConfig:
    """Merge a model's own callbacks, tags and metadata into a call's config."""
    config = ensure_config(config)
    callbacks = unheard(model.callbacks, config.get("callbacks"))
    own = {"callbacks": callbacks, "tags": model.tags, "metadata": model.metadata}
    given = cast("RunnableConfig", {k: v for k, v in own.items() if v})
    if given.keys() == {"metadata"}:  # as nearly always: LangChain notes its version there
        return {**config, "metadata": {**given["metadata"], **(config.get("metadata") or {})}}
    return merge_configs(given, config) if given else config


def with_stop(kwargs: dict[str, Any], stop: list[str] | None) -> dict[str, Any]:
    """Put the words that end an answer among the call's keywords."""
    return kwargs if stop is None else {**kwargs, "stop": stop}
