"""What another model wrote into a conversation: left out where only that model can read it.

Reasoning is signed or encrypted for the model that wrote it, ids of answers are those of one
server, and a tool that a provider ran is known there alone: other models refuse such a history.
What a model said and the tools it called are everybody's. The caller's messages stay as they are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from langchain_hybrid.children import base_models, bound_keywords
from langchain_hybrid.keywords import providers_of, without_cache_mark
from shared_router.records import ROUTING_KEY
from shared_router.support.model_names import fit

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

    from shared_router.records import Candidate
    from shared_router.support.providers import Provider

_PLAIN = frozenset({"type", "text"})
_THOUGHTS = frozenset({"thinking", "redacted_thinking"})
_OF_ANTHROPIC = _THOUGHTS | {"server_tool_use", "mcp_tool_use", "tool_use"}
_NAMES = ("model_name", "model", "model_id")
_SERVERS = ("openai_api_base", "azure_endpoint", "anthropic_api_url", "endpoint", "base_url")
_KEYS = ("openai_api_key", "anthropic_api_key")
SILENT = "(no text)"
"""Stands for an answer of which nothing is left, between two messages of the user."""


@dataclass(frozen=True)
class Reader:
    """What a candidate can read of a conversation."""

    kin: frozenset[Hashable]
    """The models behind it: those of equal kin read what the others wrote for themselves."""
    providers: frozenset[Provider | None]
    """Whose clients it uses."""
    names: tuple[str, ...]
    """What it is called."""
    takes_tools: bool
    """Whether tool calls can be told to it as such."""
    thinks_first: bool
    """Whether a turn with tool calls must begin with its own thinking."""

    @classmethod
    def of(cls, candidate: Candidate) -> Reader:
        """Describe a candidate."""
        bases, bound = list(base_models(candidate.model)), bound_keywords(candidate.model)
        return cls(
            kin=frozenset(map(_kin, bases)),
            providers=frozenset(providers_of(candidate.model)),
            names=(candidate.name, *candidate.aliases),
            takes_tools=candidate.supports_tools is not False,
            thinks_first=any(_thinks_first(each, bound) for each in bases),
        )


def _kin(base: Any) -> Hashable:
    """Return what two objects of one model share."""
    name = base._get_ls_params().get("ls_model_name")  # noqa: SLF001
    if not name:
        return id(base)
    server = next(filter(None, (getattr(base, each, None) for each in _SERVERS)), None)
    key = next(filter(None, (getattr(base, each, None) for each in _KEYS)), None)
    return type(base), str(name), str(server), key if key.__hash__ else id(key)


def _thinks_first(base: Any, bound: Mapping[str, Any]) -> bool:
    thinking = bound.get("thinking", getattr(base, "thinking", None))
    return isinstance(thinking, dict) and thinking.get("type") == "enabled"


def readable(
    messages: list[BaseMessage], index: int, readers: Sequence[Reader]
) -> list[BaseMessage]:
    """Return a conversation as one candidate can read it.

    Args:
        messages: The conversation; it is not changed.
        index: The candidate's position.
        readers: What each candidate can read.

    Returns:
        The messages, those the same objects that need no change; the list itself where none does.
    """
    reader = readers[index]
    read = list(_read(messages, index, readers))
    if not reader.takes_tools:
        read = list(_told(read))
    elif reader.thinks_first:
        read = _thinking_first(read)
    if reader.providers & {"openai"}:
        read = [_without_cache_marks(each) for each in read]
    same = len(read) == len(messages) and all(map(_is, read, messages))
    return messages if same else read


def _is(one: object, other: object) -> bool:
    return one is other


def _read(
    messages: Sequence[BaseMessage], index: int, readers: Sequence[Reader]
) -> Iterator[BaseMessage]:
    """Yield what is everybody's of foreign messages, and all of the others."""
    answered: set[str | None] | None = None
    for message, following in zip(messages, [*messages[1:], None], strict=True):
        kept: BaseMessage | None = message
        if isinstance(message, AIMessage):
            own = _is_own(message, index, readers)
            answered = None if own else _call_ids(message)
            kept = message if own else _everybodys(message)
            if kept is None and isinstance(following, HumanMessage):
                kept = AIMessage(SILENT)  # some servers refuse two messages of a user in a row
        elif isinstance(message, ToolMessage) and answered is not None:
            # What answers none of these calls answers one that only its own provider knows.
            kept = _plain_result(message) if message.tool_call_id in answered else None
        if kept is not None:
            yield kept


def _is_own(message: AIMessage, index: int, readers: Sequence[Reader]) -> bool:
    """Tell whether a candidate, or another of its kin, has written a message."""
    if not _has_own_parts(message):
        return True  # it reads the same, whoever wrote it
    kin = readers[index].kin
    makers = _makers(message, readers)
    return len(kin) == 1 and bool(makers) and all(each.kin == kin for each in makers)


def _has_own_parts(message: AIMessage) -> bool:
    """Tell whether there may be something in a message that not everybody reads."""
    told = message.response_metadata
    if not isinstance(message.content, str):
        for block in message.content:
            if isinstance(block, dict) and (block.get("type") != "text" or block.keys() - _PLAIN):
                return True
    extra = message.additional_kwargs
    if any(name != "name" and value is not None for name, value in extra.items()):
        return True
    return str(told.get("id", "")).startswith("resp_")


def _makers(message: AIMessage, readers: Sequence[Reader]) -> list[Reader]:
    """Find who may have written a message: who is named, else those whose server writes so."""
    told = message.response_metadata
    routed = told.get(ROUTING_KEY)
    if isinstance(routed, dict):
        name = routed.get("answered_by") or routed.get("candidate")
        return [each for each in readers if name in each.names]
    name = next((told[key] for key in _NAMES if isinstance(told.get(key), str)), None)
    if name is not None:
        fits = [fit([name], each.names) for each in readers]
        return [each for each, fitting in zip(readers, fits, strict=True) if fitting]
    return [each for each in readers if _written_by(message) in each.providers]


def _written_by(message: AIMessage) -> Provider | None:
    """Recognise a provider by what its messages look like."""
    told = message.response_metadata.get("model_provider")
    if told in ("anthropic", "openai"):
        return "anthropic" if told == "anthropic" else "openai"
    blocks = message.content if isinstance(message.content, list) else []
    kinds = {block.get("type") for block in blocks if isinstance(block, dict)}
    if kinds & _OF_ANTHROPIC:
        return "anthropic"
    reasoned = "reasoning" in kinds or "reasoning" in message.additional_kwargs
    return "openai" if reasoned else None


def _everybodys(message: AIMessage) -> AIMessage | None:
    """Keep of a message what it said and the tools it called; `None` where that is nothing."""
    said = _said(message)
    if not said.strip() and not message.tool_calls and not message.invalid_tool_calls:
        return None
    routed = message.response_metadata.get(ROUTING_KEY)
    return AIMessage(
        content=said,
        tool_calls=message.tool_calls,
        invalid_tool_calls=message.invalid_tool_calls,
        name=message.name,
        usage_metadata=message.usage_metadata,
        response_metadata={} if routed is None else {ROUTING_KEY: routed},
    )


def _said(message: AIMessage) -> str:
    """Return the text of a message, as it was written, or its refusal."""
    if isinstance(message.content, str):
        return message.content or str(message.additional_kwargs.get("refusal") or "")
    parts = []
    for block in message.content:
        if isinstance(block, str):
            parts.append(block)
        elif block.get("type") in ("text", "refusal"):
            parts.append(str(block.get(block["type"]) or ""))
    return "".join(parts)


def _call_ids(message: AIMessage) -> set[str | None]:
    return {call["id"] for call in (*message.tool_calls, *message.invalid_tool_calls)}


def _plain_result(message: ToolMessage) -> ToolMessage:
    if not message.additional_kwargs:
        return message
    return message.model_copy(update={"additional_kwargs": {}})


# -- tools, told in text -------------------------------------------------------------------------


def _told(messages: Iterable[BaseMessage]) -> Iterator[BaseMessage]:
    """Yield messages with tool calls and their results told as what was said."""
    names: dict[str | None, str] = {}
    results: list[ToolMessage] = []
    for message in messages:
        if isinstance(message, ToolMessage):
            results.append(message)
            continue
        if results:
            yield _results(results, names)
            results = []
        if isinstance(message, AIMessage) and (message.tool_calls or message.invalid_tool_calls):
            names |= {each["id"]: str(each["name"]) for each in _calls(message)}
            message = _called(message)
        yield message
    if results:
        yield _results(results, names)


def _calls(message: AIMessage) -> Iterator[Any]:
    yield from message.tool_calls
    yield from message.invalid_tool_calls


def _called(message: AIMessage) -> AIMessage:
    """Tell in text which tools a message called."""
    told = [f"I called the tool {each['name']} with {_written(each)}." for each in _calls(message)]
    said = _said(message)
    return AIMessage(content="\n\n".join(filter(str.strip, [said, *told])), name=message.name)


def _written(call: Any) -> str:
    args = call["args"]
    return args if isinstance(args, str) else json.dumps(args, ensure_ascii=False, default=str)


def _results(results: list[ToolMessage], names: dict[str | None, str]) -> HumanMessage:
    """Tell in text what tools answered; pictures among it go with it."""
    told, others = [], []
    for each in results:
        name = names.get(each.tool_call_id) or each.name or "tool"
        content = [each.content] if isinstance(each.content, str) else each.content
        texts = [part if isinstance(part, str) else str(part.get("text") or "") for part in content]
        others += [part for part in content if isinstance(part, dict) and "text" not in part]
        told.append(f"The tool {name} answered:\n" + "\n".join(filter(None, texts)))
    text = "\n\n".join(told)
    return HumanMessage(content=[{"type": "text", "text": text}, *others] if others else text)


def _thinking_first(messages: list[BaseMessage]) -> list[BaseMessage]:
    """Tell in text the steps of an open turn before the first that begins with thinking."""
    if not messages or not isinstance(messages[-1], ToolMessage):
        return messages
    start = len(messages)
    while start and isinstance(messages[start - 1], ToolMessage | AIMessage):
        start -= 1
    own = (at for at in range(start, len(messages)) if _begins_with_thinking(messages[at]))
    end = next(own, len(messages))
    return [*messages[:start], *_told(messages[start:end]), *messages[end:]]


def _begins_with_thinking(message: BaseMessage) -> bool:
    content = message.content
    if not isinstance(message, AIMessage) or isinstance(content, str) or not content:
        return False
    first = content[0]
    return isinstance(first, dict) and first.get("type") in _THOUGHTS | {"reasoning"}


# -- marks of a cache ----------------------------------------------------------------------------


def _without_cache_marks(message: BaseMessage) -> BaseMessage:
    if isinstance(message.content, str):
        return message
    marked = any(isinstance(each, dict) and "cache_control" in each for each in message.content)
    if not marked:
        return message
    kept = [without_cache_mark(e) if isinstance(e, dict) else e for e in message.content]
    return message.model_copy(update={"content": kept})


def needs_reading(messages: Sequence[BaseMessage]) -> bool:
    """Tell whether a conversation may hold anything that not every model reads."""
    return any(
        isinstance(each, AIMessage | ToolMessage) or not isinstance(each.content, str)
        for each in messages
    )
