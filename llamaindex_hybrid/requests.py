"""From a LlamaIndex call to the engine's request: pure conversion."""

from __future__ import annotations

import logging
from collections import ChainMap
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.prompts import BasePromptTemplate

from llamaindex_hybrid.condensed import CondensedQuestions
from llamaindex_hybrid.foreign import holds_tool_calls
from llamaindex_hybrid.keywords import unable
from llamaindex_hybrid.kinds import is_step
from llamaindex_hybrid.queries import (
    Asked,
    Found,
    find_query,
    has_pictures,
    is_later_turn,
    messages_of,
    text_of,
)
from llamaindex_hybrid.settings import known_settings
from shared_router.deciding.guards import RoutingRequest
from shared_router.engine.conversations import NOWHERE, Place
from shared_router.options import split_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llamaindex_hybrid.kinds import Kind
    from shared_router.engine.engine import RoutingEngine
    from shared_router.options import CallOptions
    from shared_router.records import AnswerSettings

logger = logging.getLogger("hybrid_llm")

HISTORY = "chat_history"
"""Prompt variable that holds a conversation, by LlamaIndex's own name for it."""
CHARACTERS_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 3
"""A rough rule, to see whether an input may be longer than a model's window."""


def prompt_options(
    prompt: BasePromptTemplate, prompt_args: Mapping[str, Any]
) -> tuple[CallOptions, dict[str, Any]]:
    """Read the options of a call with a prompt; a variable of the prompt is no option."""
    own = {
        *prompt.template_vars,
        *prompt.kwargs,
        *(prompt.template_var_mappings or ()),
        *(prompt.function_mappings or ()),
    }
    return split_options(prompt_args, kept=own)


def asked_in_messages(messages: Sequence[ChatMessage], **how: Any) -> Asked:
    """Read a chat; `how` are the `keywords` and `tools` of an `Asked`."""
    return Asked(read=lambda: messages, **how)


def asked_in_text(prompt: Any, **how: Any) -> Asked:
    """Read a completion: the prompt is what a user said."""
    return Asked(read=lambda: [ChatMessage(role=MessageRole.USER, content=str(prompt))], **how)


def asked_in_prompt(
    prompt: BasePromptTemplate, prompt_args: Mapping[str, Any], **how: Any
) -> Asked:
    """Read a prompt with its variables; it is formatted only where it has to be looked at."""
    return Asked(
        read=lambda: prompt.format_messages(**prompt_args),
        prompt=prompt,
        variables=ChainMap(dict(prompt_args), dict(prompt.kwargs)),
        **how,
    )


def with_user_message(
    user_msg: str | ChatMessage | None, chat_history: Sequence[ChatMessage] | None
) -> list[ChatMessage]:
    """Join a conversation and the message that continues it."""
    history = list(chat_history or ())
    if isinstance(user_msg, str):
        user_msg = ChatMessage(role=MessageRole.USER, content=user_msg)
    return [*history, user_msg] if user_msg else history


def routing_request(
    asked: Asked,
    options: CallOptions,
    engine: RoutingEngine,
    variables: Sequence[str],
    without_query: Mapping[Kind, str],
    *,
    needs_tools: bool = False,
    needs_structured_output: bool = False,
    place: Place = NOWHERE,
    system_prompt: str | None = None,
    condensed: CondensedQuestions | None = None,
) -> RoutingRequest:
    """Convert one call.

    Args:
        asked: What the call was given.
        options: Its dial, forced route and task.
        engine: Knows the router and the candidates.
        variables: Prompt variables that hold a question.
        without_query: Candidate for each kind of call without a query.
        needs_tools: Whether it calls tools.
        needs_structured_output: Whether it wants an answer in a schema.
        place: Where it stands in its conversation.
        system_prompt: The wrapper's own.
        condensed: Remembers which question a message was condensed to.
    """
    found = _found(asked, variables, condensed or CondensedQuestions())
    said, sticky_to = _said(asked), place.sticky_to
    return RoutingRequest(
        query=found.query,
        options=options,
        needs_tools=needs_tools,
        needs_structured_output=needs_structured_output,
        input_tokens=_input_tokens(asked, engine),
        holds_tool_calls=holds_tool_calls(said),
        unable=unable(engine.candidates, asked.keywords, asked.tools, options),
        has_pictures=has_pictures(said),
        is_step=found.query is not None and _is_step(asked),
        later_turn=is_later_turn(said) or _condenses(asked),
        sticky_to=sticky_to.candidate if sticky_to else None,
        sticky_claim=sticky_to.claim if sticky_to else None,
        sticky_limit=sticky_to.limit if sticky_to else None,
        conversation=place.conversation,
        without_query_to=None if found.query else without_query.get(found.kind),
        settings=_settings(asked, engine, system_prompt) if engine.looks else None,
    )


def _settings(asked: Asked, engine: RoutingEngine, system_prompt: str | None) -> AnswerSettings:
    return known_settings(asked, engine.candidates[0].model, system_prompt)


def _found(asked: Asked, variables: Sequence[str], condensed: CondensedQuestions) -> Found:
    try:
        return find_query(asked, variables, condensed.recall)
    except Exception as error:  # noqa: BLE001  (a chain never breaks because the router did)
        logger.warning("Finding the query raised %s.", type(error).__name__)
        return Found()


def _is_step(asked: Asked) -> bool:
    try:
        text = None if asked.prompt is not None else (asked.said_last or (0, None))[1]
        return is_step(asked.prompt, text)
    except Exception:  # noqa: BLE001  (the chosen model says better what is wrong with messages)
        return False


def _condenses(asked: Asked) -> bool:
    """Tell whether a prompt is given a conversation as a text."""
    history = asked.variables.get(HISTORY) if asked.prompt is not None else None
    return isinstance(history, str | list | tuple) and len(history) > 0


def _said(asked: Asked) -> Sequence[ChatMessage]:
    """Return the messages of a chat, or those of a prompt, which is not formatted to be read."""
    if asked.prompt is not None:
        return messages_of(asked.prompt)
    try:
        return asked.messages
    except Exception:  # noqa: BLE001  (the chosen model says better what is wrong with messages)
        return ()


def _input_tokens(asked: Asked, engine: RoutingEngine) -> int | None:
    """Estimate the input's tokens, where a context window is known and may be too small."""
    windows = [c.context_window for c in engine.candidates if c.context_window is not None]
    if not windows or (asked.prompt is not None and asked.prompt.function_mappings):
        return None  # a prompt's functions run once, in the model that answers
    try:
        lengths = [len(text_of(message)) for message in asked.messages]
    except Exception:  # noqa: BLE001  (the chosen model says better what is wrong with a prompt)
        return None
    # A token is at least one character, so a text shorter than the window fits for sure.
    if sum(lengths) <= min(windows):
        return None
    return sum(lengths) // CHARACTERS_PER_TOKEN + TOKENS_PER_MESSAGE * len(lengths)


def said_in(asked: Asked) -> Sequence[ChatMessage]:
    """Return the messages of a chat; a prompt answers no tools."""
    return () if asked.prompt is not None else _said(asked)


def preview(value: Any, kwargs: Mapping[str, Any]) -> tuple[Asked, CallOptions]:
    """Read a text, messages or a prompt, as `route` takes them."""
    if isinstance(value, BasePromptTemplate):
        options, rest = prompt_options(value, kwargs)
        return asked_in_prompt(value, rest), options
    options, _ = split_options(kwargs)
    asked = asked_in_text(value) if isinstance(value, str) else asked_in_messages(value)
    return asked, options
