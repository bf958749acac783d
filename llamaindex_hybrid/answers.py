"""What a model answered: read for checks and records, given as a chunk where a stream is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    MessageRole,
    ToolCallBlock,
)
from llama_index.core.chat_engine.types import AgentChatResponse
from llama_index.core.program.utils import FlexibleModel
from pydantic import BaseModel

from llamaindex_hybrid.logprobs import logprobs_of
from llamaindex_hybrid.raw import first_choice, part_of
from shared_router.deciding.escalation import Answer
from shared_router.records import Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

_READ = ("prompt_tokens", "input_tokens", "prompt_eval_count")
_WRITTEN = ("completion_tokens", "output_tokens", "eval_count")
_FINISH = ("finish_reason", "stop_reason", "done_reason")
_WHOLE = "stop"
_SHOWS_NOTHING: tuple[Any, ...] = (None, "", [], {})
FAILED = ("encountered error", "error:")
"""How a tool's message begins that tells of its failure."""


def read_answer(
    answer: Any,
    messages: Sequence[ChatMessage],
    *,
    structured: bool,
    tools_offered: bool = False,
    heard: ChatResponse | CompletionResponse | None = None,
) -> Answer:
    """Read an answer.

    Args:
        answer: A response, a text, or an answer in a schema.
        messages: What was said before, for tools that failed.
        structured: Whether an answer in a schema was asked for.
        tools_offered: Whether the call brought tools.
        heard: The model's own response beneath the answer, where somebody listened.
    """
    told: dict[str, Any] = {}
    response = answer if heard is None else heard
    if isinstance(response, ChatResponse | CompletionResponse):
        told = _of_response(response)
    elif isinstance(answer, BaseModel) and not isinstance(answer, FlexibleModel):
        told = {"finish_reason": _WHOLE}  # it fits its schema, if only by the defaults
    return Answer(
        text=_text(answer),
        tool_calls=_tool_calls(answer),
        parsed_ok=not structured or answer is not None,
        failed_tools=failed_tools(messages),
        tools_offered=tools_offered,
        native=answer,
        **told,
    )


def _text(answer: Any) -> str:
    if isinstance(answer, ChatResponse):
        return answer.message.content or ""
    if isinstance(answer, CompletionResponse):
        return answer.text
    if isinstance(answer, AgentChatResponse):
        return answer.response
    if isinstance(answer, BaseModel):
        return answer.model_dump_json()
    return "" if answer is None else str(answer)


def _tool_calls(answer: Any) -> tuple[str, ...]:
    if isinstance(answer, AgentChatResponse):
        return tuple(source.tool_name for source in answer.sources)
    if not isinstance(answer, ChatResponse):
        return ()
    message = answer.message
    blocks = [each.tool_name for each in message.blocks if isinstance(each, ToolCallBlock)]
    return tuple(blocks) or tuple(map(_name_of, message.additional_kwargs.get("tool_calls") or ()))


def _name_of(call: Any) -> str:
    """Read a provider's own tool call, an object or a dict."""
    function = part_of(call, "function") or call
    return str(part_of(function, "name") or "")


def _of_response(answer: ChatResponse | CompletionResponse) -> dict[str, Any]:
    raw, extra = answer.raw, answer.additional_kwargs
    choice = first_choice(raw)
    said = [holder for holder in (choice, raw, extra) if holder is not None]
    model = part_of(raw, "model")
    return {
        "finish_reason": _first(said, _FINISH),
        "refusal": _text_or_none(part_of(part_of(choice, "message"), "refusal")),
        "model": model if isinstance(model, str) and model else None,
        "usage": _usage([part_of(raw, "usage"), extra, raw]),
        "logprobs": logprobs_of(answer),
    }


def _first(holders: list[Any], names: tuple[str, ...]) -> str | None:
    found = (part_of(holder, name) for holder in holders for name in names)
    return next((each for each in found if isinstance(each, str)), None)


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _usage(holders: list[Any]) -> Usage | None:
    for holder in holders:
        read, written = _count(holder, _READ), _count(holder, _WRITTEN)
        if read is not None and written is not None:
            return Usage(input_tokens=read, output_tokens=written)
    return None


def _count(holder: Any, names: tuple[str, ...]) -> int | None:
    found = (part_of(holder, name) for name in names)
    return next((each for each in found if isinstance(each, int)), None)


def failed_tools(messages: Sequence[ChatMessage]) -> dict[str, int]:
    """Count how often in a row each tool has failed, at the end of a conversation.

    LlamaIndex's messages have no field for it: a failure is told by its text.
    """
    counts: dict[str, int] = {}
    names: dict[str, str] = {}
    for message in messages:
        for block in message.blocks:
            if isinstance(block, ToolCallBlock) and block.tool_call_id:
                names[block.tool_call_id] = block.tool_name
        if message.role != MessageRole.TOOL:
            continue
        known = message.additional_kwargs
        name = known.get("name") or names.get(str(known.get("tool_call_id")))
        if name:
            failed = (message.content or "").strip().lower().startswith(FAILED)
            counts[name] = counts.get(name, 0) + 1 if failed else 0
    return {name: count for name, count in counts.items() if count}


def is_blank(chunk: Any) -> bool:
    """Tell whether a chunk shows nothing: no text, no tool call, no field of a schema."""
    if isinstance(chunk, CompletionResponse):
        return not (chunk.delta or chunk.text)
    if not isinstance(chunk, ChatResponse):
        empty_object = isinstance(chunk, BaseModel) and _shows_no_field(chunk)
        return empty_object or (isinstance(chunk, str) and not chunk)
    message = chunk.message
    blocks = any(getattr(block, "text", True) for block in message.blocks)
    return not (chunk.delta or blocks or message.additional_kwargs.get("tool_calls"))


def _shows_no_field(found: BaseModel) -> bool:
    """Tell whether an object in a schema is empty: LlamaIndex makes one before anything is said."""
    if not isinstance(found, FlexibleModel):
        return not found.model_fields_set
    return all(value in _SHOWS_NOTHING for _, value in found)


def as_chunk(answer: Any) -> Any:
    """Make one chunk of a whole answer."""
    if isinstance(answer, ChatResponse):
        return answer.model_copy(update={"delta": answer.message.content or ""})
    if isinstance(answer, CompletionResponse):
        return answer.model_copy(update={"delta": answer.text})
    return answer


def merged(chunks: list[Any]) -> Any:
    """Return what a stream's chunks come to: each response holds all before it, texts add up."""
    if chunks and all(isinstance(chunk, str) for chunk in chunks):
        return "".join(chunks)
    return chunks[-1] if chunks else None
