"""What another model wrote into a conversation: left out where only that model can read it.

Reasoning is signed or kept for the model that wrote it, and other models refuse it. LlamaIndex's
messages do not say who wrote them: so each block of reasoning is marked with who did, which goes
with it into a memory and to another process. What a model said and the tools it called are
everybody's. The caller's messages stay as they are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import (
    CachePoint,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.prompts import ChatPromptTemplate

from llamaindex_hybrid.keywords import keywords_for, provider_of
from llamaindex_hybrid.raw import part_of
from shared_router.records import ROUTING_KEY

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence

    from llama_index.core.llms import LLM
    from llama_index.core.prompts import BasePromptTemplate

    from shared_router.records import Candidate
    from shared_router.support.providers import Provider

_RESULTS = (MessageRole.TOOL, MessageRole.FUNCTION)
_CALLS = "tool_calls"
_SERVERS, _KEYS = ("api_base", "base_url"), ("api_key",)
SILENT = ChatMessage("(no text)", role=MessageRole.ASSISTANT)
"""Stands for an answer of which nothing is left."""


@dataclass(frozen=True)
class Reader:
    """What a candidate can read of a conversation."""

    kin: Hashable
    """The model behind it: those of equal kin read what the others wrote for themselves."""
    provider: Provider | None
    """Whose client it uses."""
    names: tuple[str, ...]
    """What it is called."""
    takes_tools: bool
    """Whether tool calls can be told to it as such."""
    keeps_calls: bool
    """Whether it reads tool calls in the form of OpenAI's first endpoint, beside the blocks."""
    thinks_first: bool
    """Whether a turn with tool calls must begin with its own thinking."""

    @classmethod
    def of(cls, candidate: Candidate) -> Reader:
        """Describe a candidate."""
        model = candidate.model
        thinking = getattr(model, "thinking_dict", None) or {}
        responses = any(each.__name__ == "OpenAIResponses" for each in type(model).__mro__)
        return cls(
            kin=_kin(model),
            provider=provider_of(model),
            names=(candidate.name, *candidate.aliases),
            takes_tools=candidate.supports_tools is not False,
            keeps_calls=provider_of(model) == "openai" and not responses,
            thinks_first=thinking.get("type") == "enabled",
        )


def _kin(model: LLM) -> Hashable:
    """Return what two objects of one model share."""
    name = getattr(model, "model", None)
    if not isinstance(name, str):
        return id(model)
    told = [getattr(model, each, None) for each in (*_SERVERS, *_KEYS)]
    return type(model), name, *map(str, told)


@dataclass(frozen=True)
class Sent:
    """What one candidate is asked with: what it can read, and understands."""

    index: int
    """Its position."""
    readers: Sequence[Reader]
    """What each candidate can read."""

    def messages(self, messages: Sequence[ChatMessage]) -> Sequence[ChatMessage]:
        """Return a conversation as the candidate can read it."""
        return readable(messages, self.index, self.readers)

    def prompt(self, prompt: BasePromptTemplate) -> BasePromptTemplate:
        """Return a prompt as the candidate can read it: chat engines put a conversation there."""
        if not isinstance(prompt, ChatPromptTemplate):
            return prompt
        read = self.messages(prompt.message_templates)
        same = read is prompt.message_templates
        return prompt if same else prompt.model_copy(update={"message_templates": list(read)})

    def keywords(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return a call's keywords, the conversation among them, as the candidate reads them."""
        kept = keywords_for(self.readers[self.index].provider, kwargs)
        history = kept.get("chat_history")
        if not history:
            return kept
        # A list of the call's own: models append to it.
        return {**kept, "chat_history": list(self.messages(history))}


def readable(
    messages: Sequence[ChatMessage], index: int, readers: Sequence[Reader]
) -> Sequence[ChatMessage]:
    """Return a conversation as one candidate can read it.

    Args:
        messages: The conversation; it is not changed.
        index: The candidate's position.
        readers: What each candidate can read.

    Returns:
        The messages, those the same objects that need no change; the list itself where none does.
    """
    if not messages:
        return messages
    reader = readers[index]
    found = [_read(each, reader, readers) for each in messages]
    after: list[ChatMessage | None] = [*found[1:], None]
    read = [each for each, next_ in zip(found, after, strict=True) if _is_spoken(each, next_)]
    if not reader.takes_tools:
        read = list(_told(read))
    elif reader.thinks_first:
        read = _thinking_first(read)
    same = len(read) == len(messages) and all(a is b for a, b in zip(read, messages, strict=True))
    return messages if same else read


def _read(message: ChatMessage, reader: Reader, readers: Sequence[Reader]) -> ChatMessage:
    """Return a message as it can be read; `SILENT` where nothing is left of it."""
    blocks = [kept for each in message.blocks for kept in _blocks(each, reader, readers)]
    changes: dict[str, Any] = {}
    if len(blocks) != len(message.blocks) or any(
        a is not b for a, b in zip(blocks, message.blocks, strict=True)
    ):
        changes["blocks"] = blocks
    doubled = any(isinstance(each, ToolCallBlock) for each in blocks)
    if doubled and _CALLS in message.additional_kwargs and not reader.keeps_calls:
        extra = message.additional_kwargs
        changes["additional_kwargs"] = {name: extra[name] for name in extra if name != _CALLS}
    silent = not blocks and message.role == MessageRole.ASSISTANT and not _has_calls(message)
    if silent and (changes or reader.provider != "openai"):
        # Such as a refusal, whose text LlamaIndex does not keep: few servers take an empty one.
        return SILENT
    return message.model_copy(update=changes) if changes else message


def _is_spoken(message: ChatMessage, following: ChatMessage | None) -> bool:
    """Tell whether to keep a message: one without words only where users would speak twice."""
    if message is not SILENT:
        return True
    return following is not None and following.role == MessageRole.USER


def _blocks(block: Any, reader: Reader, readers: Sequence[Reader]) -> Iterable[Any]:
    """Return what is left of a block."""
    if isinstance(block, ThinkingBlock):
        return [_unmarked(block)] if _is_own(block, reader, readers) else []
    if isinstance(block, ToolCallBlock) and reader.provider != "openai":
        return [_with_arguments(block)]
    if reader.provider == "openai":
        if isinstance(block, CachePoint | CitationBlock):
            return []
        if isinstance(block, CitableBlock):
            return block.content
    return [block]


def _with_arguments(block: ToolCallBlock) -> ToolCallBlock:
    """Return a call with its arguments read: some models write them as JSON, most take none."""
    if isinstance(block.tool_kwargs, str):
        try:
            read = json.loads(block.tool_kwargs or "{}")
        except ValueError:
            return block
        if isinstance(read, dict):
            return block.model_copy(update={"tool_kwargs": read})
    return block


# -- who wrote a block ---------------------------------------------------------------------------


def marked(message: ChatMessage, name: str) -> ChatMessage:
    """Mark the reasoning in an answer with who wrote it; the model's own message is not changed."""
    if not any(isinstance(each, ThinkingBlock) for each in message.blocks):
        return message
    blocks = [
        _with(each, {**each.additional_information, ROUTING_KEY: name})
        if isinstance(each, ThinkingBlock)
        else each
        for each in message.blocks
    ]
    return message.model_copy(update={"blocks": blocks})


def _with(block: ThinkingBlock, told: dict[str, Any]) -> ThinkingBlock:
    return block.model_copy(update={"additional_information": told})


def _unmarked(block: ThinkingBlock) -> ThinkingBlock:
    """Return a block as its model wrote it."""
    told = block.additional_information
    if ROUTING_KEY not in told:
        return block
    return _with(block, {name: told[name] for name in told if name != ROUTING_KEY})


def _is_own(block: ThinkingBlock, reader: Reader, readers: Sequence[Reader]) -> bool:
    """Tell whether a candidate, or another of its kin, has written a block of reasoning."""
    name = block.additional_information.get(ROUTING_KEY)
    if name is None:
        written = _written_by(block)
        makers = [each for each in readers if each.provider == written]
    else:
        makers = [each for each in readers if name in each.names]
    return bool(makers) and all(each.kin == reader.kin for each in makers)


def _written_by(block: ThinkingBlock) -> Provider | None:
    """Recognise a provider by what its reasoning looks like."""
    told = block.additional_information
    if "signature" in told:
        return "anthropic"
    return "openai" if "id" in told or not told else None


# -- tools, told in text -------------------------------------------------------------------------


def holds_tool_calls(messages: Iterable[ChatMessage]) -> bool:
    """Tell whether a conversation holds tool calls, or what tools answered."""
    return any(each.role in _RESULTS or _has_calls(each) for each in messages)


def _has_calls(message: ChatMessage) -> bool:
    return next(_calls(message), None) is not None


def _calls(message: ChatMessage) -> Iterator[tuple[Any, str, Any]]:
    """Yield the id, the name and the arguments of each tool call of a message."""
    found = [each for each in message.blocks if isinstance(each, ToolCallBlock)]
    for block in found:
        yield block.tool_call_id, block.tool_name, block.tool_kwargs
    for call in () if found else message.additional_kwargs.get(_CALLS) or ():
        told = part_of(call, "function") or call
        yield part_of(call, "id"), str(part_of(told, "name")), part_of(told, "arguments")


def _told(messages: Iterable[ChatMessage]) -> Iterator[ChatMessage]:
    """Yield messages with tool calls and their results told as what was said."""
    names: dict[Any, str] = {}
    results: list[ChatMessage] = []
    for message in messages:
        if message.role in _RESULTS:
            results.append(message)
            continue
        if results:
            yield _results(results, names)
            results = []
        names |= {call: name for call, name, _ in _calls(message)}
        yield _called(message) if _has_calls(message) else message
    if results:
        yield _results(results, names)


def _called(message: ChatMessage) -> ChatMessage:
    """Tell in text which tools a message called."""
    told = [
        f"I called the tool {name} with {args if isinstance(args, str) else json.dumps(args)}."
        for _, name, args in _calls(message)
    ]
    said = message.content or ""
    text = "\n\n".join(filter(str.strip, [said, *told]))
    return ChatMessage(role=message.role, content=text)


def _results(results: list[ChatMessage], names: dict[Any, str]) -> ChatMessage:
    """Tell in text what tools answered; pictures among it go with it."""
    told, others = [], []
    for each in results:
        extra = each.additional_kwargs
        name = names.get(extra.get("tool_call_id")) or extra.get("name") or "tool"
        told.append(f"The tool {name} answered:\n{each.content or ''}")
        others += [block for block in each.blocks if not isinstance(block, TextBlock)]
    blocks = [TextBlock(text="\n\n".join(told)), *others]
    return ChatMessage(role=MessageRole.USER, blocks=blocks)


def _thinking_first(messages: list[ChatMessage]) -> list[ChatMessage]:
    """Tell in text the steps of an open turn before the first that begins with thinking."""
    if not messages or messages[-1].role not in _RESULTS:
        return messages
    start = len(messages)
    while start and messages[start - 1].role in (*_RESULTS, MessageRole.ASSISTANT):
        start -= 1
    own = (at for at in range(start, len(messages)) if _begins_with_thinking(messages[at]))
    end = next(own, len(messages))
    return [*messages[:start], *_told(messages[start:end]), *messages[end:]]


def _begins_with_thinking(message: ChatMessage) -> bool:
    return bool(message.blocks) and isinstance(message.blocks[0], ThinkingBlock)
