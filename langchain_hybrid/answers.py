"""What a model answered: read for checks and records, marked with who answered, shown as chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from pydantic import BaseModel

from langchain_hybrid.logprobs import logprobs_of
from langchain_hybrid.queries import text_of
from shared_router.deciding.escalation import Answer
from shared_router.records import ROUTING_KEY, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

_FINISH = ("finish_reason", "stop_reason", "done_reason", "finishReason")
_MODEL = ("model_name", "model", "model_id")


def read_answer(
    output: Any,
    messages: Sequence[BaseMessage],
    *,
    structured: bool,
    tools_offered: bool,
    heard: AIMessage | None,
) -> Answer:
    """Read an answer.

    Args:
        output: What the model's chain returned: a message, or an answer in a schema.
        messages: The input, for what failed before.
        structured: Whether an answer in a schema was asked for.
        tools_offered: Whether the call brought tools.
        heard: The message that an answer in a schema was parsed from, where it was heard.
    """
    message = _message_of(output) or heard
    told = _of_message(message) if message is not None else {"text": ""}
    if not told["text"].strip() and (structured or message is None):
        told["text"] = _text_of_parsed(output)  # it may have come as a tool call
    return Answer(
        **told,
        parsed_ok=not structured or _fits(output),
        failed_tools=failed_tools(messages),
        tools_offered=tools_offered,
        native=output,
    )


def _message_of(output: Any) -> AIMessage | None:
    raw = output.get("raw") if isinstance(output, dict) else output
    return raw if isinstance(raw, AIMessage) else None


def _text_of_parsed(output: Any) -> str:
    if _is_with_raw(output):
        output = output["parsed"]
    if isinstance(output, BaseModel) and not isinstance(output, BaseMessage):
        return output.model_dump_json()
    return "" if output is None else str(output)


def _of_message(message: AIMessage) -> dict[str, Any]:
    said = message.response_metadata
    return {
        "text": text_of(message),
        "tool_calls": tuple(call["name"] for call in message.tool_calls),
        "finish_reason": _first(said, _FINISH),
        "refusal": _refusal(message),
        "model": _first(said, _MODEL),
        "usage": usage_of(message),
        "logprobs": logprobs_of(message),
    }


def _first(said: Any, names: tuple[str, ...]) -> str | None:
    found = next((said[name] for name in names if isinstance(said.get(name), str)), None)
    return found or None


def _refusal(message: AIMessage) -> str | None:
    told = message.additional_kwargs.get("refusal")
    blocks = message.content if isinstance(message.content, list) else []
    inside = (
        each.get("refusal")
        for each in blocks
        if isinstance(each, dict) and each.get("type") == "refusal"
    )
    return told if isinstance(told, str) and told else next(inside, None)


def usage_of(message: AIMessage) -> Usage | None:
    """Return the tokens that a message tells of."""
    told = message.usage_metadata
    if not told:
        return None
    return Usage(input_tokens=told["input_tokens"], output_tokens=told["output_tokens"])


def _is_with_raw(output: Any) -> bool:
    return isinstance(output, dict) and {"raw", "parsed", "parsing_error"} <= output.keys()


def _fits(output: Any) -> bool:
    """Tell whether an answer fits its schema; a raw one says so itself."""
    if _is_with_raw(output):
        return output["parsing_error"] is None and output["parsed"] is not None
    return output is not None


def failed_tools(messages: Sequence[BaseMessage]) -> dict[str, int]:
    """Count how often in a row each tool has failed, at the end of a conversation."""
    counts: dict[str, int] = {}
    names: dict[str, str] = {
        call["id"]: call["name"]
        for message in messages
        if isinstance(message, AIMessage)
        for call in message.tool_calls
        if call["id"]
    }
    for message in messages:
        if not isinstance(message, ToolMessage):
            continue
        name = names.get(message.tool_call_id) or message.name
        if name is not None:
            counts[name] = counts.get(name, 0) + 1 if _failed(message) else 0
    return {name: count for name, count in counts.items() if count}


def _failed(message: ToolMessage) -> bool:
    """Tell whether a tool failed; LangChain's structured output says so in its text alone."""
    return message.status == "error" or text_of(message).lstrip().lower().startswith("error:")


def is_blank(chunk: Any) -> bool:
    """Tell whether a chunk shows nothing: neither text, nor a tool call, nor another block."""
    if not isinstance(chunk, AIMessageChunk):
        return False
    shown = chunk.content or chunk.tool_call_chunks or chunk.tool_calls or chunk.additional_kwargs
    return not shown


def annotated(output: Any, payload: dict[str, Any]) -> Any:
    """Put what is stable of a call on a message, or on a structured answer's raw message.

    The message is copied: the model's own cache may hold the same object.
    """
    if isinstance(output, AIMessage):
        metadata = {**output.response_metadata, ROUTING_KEY: payload}
        return output.model_copy(update={"response_metadata": metadata})
    if isinstance(output, dict) and isinstance(output.get("raw"), AIMessage):
        copied = output.copy()
        copied["raw"] = annotated(output["raw"], payload)
        return copied
    return output


def as_chunk(output: Any) -> Any:
    """Make one chunk of a whole answer."""
    if not isinstance(output, AIMessage) or isinstance(output, AIMessageChunk):
        return output
    fields = {name: value for name, value in output.__dict__.items() if name != "type"}
    return AIMessageChunk(**fields, chunk_position="last")


def merged(chunks: list[Any]) -> Any:
    """Merge streamed chunks into one output; where they don't add up, the last one stands."""
    if not chunks:
        return None
    if all(isinstance(chunk, AIMessageChunk) for chunk in chunks):
        return chunks[0] + chunks[1:] if len(chunks) > 1 else chunks[0]
    return chunks[-1]
