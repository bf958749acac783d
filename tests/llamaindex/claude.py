"""Claude as LlamaIndex's integration talks to it, over HTTP: blocks in, blocks out."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import httpx
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    LLMMetadata,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.llms.callbacks import llm_chat_callback
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@cache
def http() -> httpx.Client:
    """Make a client once: each reads the certificates that no loopback needs."""
    return httpx.Client()


class Anthropic(FunctionCallingLLM):
    """Sends any block of thinking on with its signature, as the integration does."""

    model: str
    base_url: str
    thinking_dict: dict[str, Any] | None = None
    max_retries: int = 0

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(
            is_chat_model=True, is_function_calling_model=True, model_name=self.model
        )

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        told = {"model": self.model, "max_tokens": 2048, **kwargs, "messages": sent(messages)}
        if self.thinking_dict:
            told["thinking"] = self.thinking_dict
        answer = http().post(f"{self.base_url}/v1/messages", json=told)
        answer.raise_for_status()
        raw = answer.json()
        blocks = [made for block in raw["content"] if (made := read(block)) is not None]
        return ChatResponse(message=ChatMessage(role="assistant", blocks=blocks), raw=raw)

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return self.chat(messages, **kwargs)

    def stream_chat(self, messages: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    astream_chat = complete = acomplete = stream_complete = astream_complete = stream_chat  # type: ignore[assignment]

    def _prepare_chat_with_tools(
        self, tools: Any, user_msg: Any = None, chat_history: Any = None, **kwargs: Any
    ) -> dict[str, Any]:
        history = chat_history or []
        if isinstance(user_msg, str):
            history.append(ChatMessage(user_msg))
        described = [
            {"name": t.metadata.name, "input_schema": t.metadata.get_parameters_dict()}
            for t in tools
        ]
        choice = {"type": "any" if kwargs.get("tool_required") else "auto"}
        kept = {k: v for k, v in kwargs.items() if k in ("tool_choice", "cache_control")}
        return {"messages": history, "tools": described, "tool_choice": choice, **kept}

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        return [
            ToolSelection(tool_id=b.tool_call_id, tool_name=b.tool_name, tool_kwargs=b.tool_kwargs)
            for b in response.message.blocks
            if isinstance(b, ToolCallBlock)
        ]


def sent(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    merged: list[dict[str, Any]] = []
    for message in messages:
        blocks = list(written(message.blocks))
        role = "assistant" if message.role == MessageRole.ASSISTANT else "user"
        if message.role == MessageRole.TOOL:
            result = {"type": "tool_result", "content": blocks}
            blocks = [{**result, "tool_use_id": message.additional_kwargs["tool_call_id"]}]
        if merged and merged[-1]["role"] == role:
            merged[-1]["content"] += blocks
        else:
            merged.append({"role": role, "content": blocks})
    return merged


def written(blocks: Sequence[Any]) -> Iterator[dict[str, Any]]:
    for block in blocks:
        if isinstance(block, TextBlock):
            yield {"type": "text", "text": block.text}
        elif isinstance(block, ThinkingBlock):
            signature = block.additional_information.get("signature", "")
            yield {"type": "thinking", "thinking": block.content, "signature": signature}
        elif isinstance(block, ToolCallBlock):
            call = {"type": "tool_use", "id": block.tool_call_id, "name": block.tool_name}
            yield {**call, "input": block.tool_kwargs}
        else:
            raise ValueError(f"Unsupported block type: {type(block)}")


def read(block: dict[str, Any]) -> Any:
    if block["type"] == "thinking":
        told = {"signature": block["signature"], "type": "thinking"}
        return ThinkingBlock(content=block["thinking"], additional_information=told)
    if block["type"] == "tool_use":
        call = {"tool_call_id": block["id"], "tool_name": block["name"]}
        return ToolCallBlock(**call, tool_kwargs=block["input"])
    return TextBlock(text=block["text"]) if block["type"] == "text" else None
