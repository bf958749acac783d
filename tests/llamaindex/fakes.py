"""A fake provider that does what real ones do, and recorders of what LlamaIndex tells of a call."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    LLMMetadata,
    MessageRole,
    TextBlock,
    ToolCallBlock,
)
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import LLM
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.llms.utils import parse_partial_json
from pydantic import Field

from llamaindex_hybrid import HybridLLM
from shared_router import Router
from shared_router.records import ROUTING_KEY
from shared_router.testing import fixed_router
from tests.material import filled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from numpy.typing import NDArray

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
ANSWER = "Hello to you, friend."


class PlainLLM(LLM):
    """Chats and streams word by word, counts 15 tokens a call, and has no tools.

    Asked for JSON it fills the schema it is shown; shown ReAct's tools it calls the first one.
    """

    name: str = "fake"
    answer: Any = ANSWER
    """A text, a function of the last user message, or a list that is given out one by one."""
    chat_model: bool = True
    context_window: int | None = None
    num_output: int = 256
    system_role: MessageRole = MessageRole.SYSTEM
    api_key: str | None = None
    fail_after: int | None = None
    """Raise `ConnectionError` instead of this chunk; 0 fails at once."""
    delay_s: float = 0.0
    """Seconds between two chunks."""
    requests: list[dict[str, Any]] = Field(default_factory=list, exclude=True)
    """What reached the provider: `messages` and the other keywords."""
    probe: Any = Field(default=None, exclude=True)
    """Called with no argument at every request, inside its context."""

    @classmethod
    def class_name(cls) -> str:
        return "fake_llm"

    @property
    def metadata(self) -> LLMMetadata:
        window = {} if self.context_window is None else {"context_window": self.context_window}
        return LLMMetadata(
            num_output=self.num_output,
            is_chat_model=self.chat_model,
            model_name=self.name,
            system_role=self.system_role,
            **window,
        )

    # -- what a provider is asked -------------------------------------------------------------

    def _reply(self, messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> ChatMessage:
        self.requests.append({"messages": list(messages), **kwargs})
        if self.probe is not None:
            self.probe()
        return ChatMessage(role=MessageRole.ASSISTANT, content=self._say(messages))

    def _say(self, messages: Sequence[ChatMessage]) -> str:
        question = last_user(messages)
        if isinstance(self.answer, list):
            return str(self.answer.pop(0))
        whole = "\n".join(message.content or "" for message in messages)
        schema = re.search(r"JSON schema to follow:\n(\{.*\})\n", whole, re.DOTALL)
        if schema:
            plain = schema[1].replace("{{", "{").replace("}}", "}")  # LlamaIndex escapes it
            return json.dumps(filled(json.loads(plain), question))
        if callable(self.answer):
            return str(self.answer(question))
        if "Action Input:" in (messages[0].content or ""):
            return react(messages)
        return str(self.answer)

    def _raw(self) -> dict[str, Any]:
        return {"usage": dict(USAGE), "model": self.name}

    def _response(self, messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> ChatResponse:
        message = self._reply(messages, kwargs)
        if self.fail_after is not None:
            raise ConnectionError("the provider is down")
        return ChatResponse(message=message, raw=self._raw(), additional_kwargs={"own": self.name})

    def _stream(
        self, messages: Sequence[ChatMessage], kwargs: dict[str, Any]
    ) -> Iterator[ChatResponse]:
        whole = self._reply(messages, kwargs)
        calls = [block for block in whole.blocks if isinstance(block, ToolCallBlock)]
        words = re.findall(r"\S+\s*", whole.content or "") or [""]
        for position, word in enumerate(words):
            if position == self.fail_after:
                raise ConnectionError("the provider is down")
            last = position == len(words) - 1
            blocks: list[Any] = [TextBlock(text="".join(words[: position + 1]))]
            message = ChatMessage(role="assistant", blocks=blocks)
            if last:
                message.blocks += calls
                message.additional_kwargs = whole.additional_kwargs
            yield ChatResponse(
                message=message,
                delta=word,
                raw=self._raw() if last else {},
                additional_kwargs={"own": self.name},
            )

    # -- endpoints ----------------------------------------------------------------------------

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return self._response(messages, kwargs)

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        await asyncio.sleep(self.delay_s)
        return self._response(messages, kwargs)

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
        def chunks() -> Iterator[ChatResponse]:
            yield from self._stream(messages, kwargs)

        return chunks()

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
        async def chunks() -> AsyncIterator[ChatResponse]:
            for chunk in self._stream(messages, kwargs):
                await asyncio.sleep(self.delay_s)
                yield chunk

        return chunks()

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return completion(self._response(as_messages(prompt), kwargs))

    @llm_completion_callback()
    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        await asyncio.sleep(self.delay_s)
        return completion(self._response(as_messages(prompt), kwargs))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        def chunks() -> Iterator[CompletionResponse]:
            for chunk in self._stream(as_messages(prompt), kwargs):
                yield completion(chunk)

        return chunks()

    @llm_completion_callback()
    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        async def chunks() -> AsyncIterator[CompletionResponse]:
            for chunk in self._stream(as_messages(prompt), kwargs):
                await asyncio.sleep(self.delay_s)
                yield completion(chunk)

        return chunks()


class FakeLLM(PlainLLM, FunctionCallingLLM):
    """Calls tools too: one when the user asks, or when it is forced to.

    Arguments are read out of the question. It signs its tool calls, and reads none but its own.
    """

    function_calling: bool = True

    @property
    def metadata(self) -> LLMMetadata:
        return super().metadata.model_copy(
            update={"is_function_calling_model": self.function_calling}
        )

    def _prepare_chat_with_tools(
        self,
        tools: Any,
        user_msg: Any = None,
        chat_history: Any = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        tool_choice: Any = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        messages = list(chat_history or [])
        if user_msg is not None:
            messages.append(
                ChatMessage(content=user_msg) if isinstance(user_msg, str) else user_msg
            )
        return {
            "messages": messages,
            "tools": [tool.metadata.to_openai_tool() for tool in tools],
            "tool_choice": tool_choice or ("required" if tool_required else "auto"),
            **kwargs,
        }

    def _reply(self, messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> ChatMessage:
        said = super()._reply(messages, kwargs)
        tool = chosen_tool(kwargs, messages)
        if tool is None:
            return said
        block = ToolCallBlock(
            tool_call_id=f"{self.name}_{len(messages)}",
            tool_name=tool["name"],
            tool_kwargs=json.dumps(filled(tool.get("parameters", {}), last_user(messages))),
        )
        calls = [{"id": block.tool_call_id, "name": block.tool_name}]  # as OpenAI's are kept too
        return ChatMessage(
            role="assistant", blocks=[block], additional_kwargs={"tool_calls": calls}
        )

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        blocks = [b for b in response.message.blocks if isinstance(b, ToolCallBlock)]
        if not blocks and error_on_no_tool_call:
            raise ValueError("Expected at least one tool call, but got 0 tool calls.")
        for block in blocks:
            assert str(block.tool_call_id).startswith(f"{self.name}_"), "another model's call"
        return [
            ToolSelection(
                tool_id=str(block.tool_call_id),
                tool_name=block.tool_name,
                tool_kwargs=parse_partial_json(str(block.tool_kwargs)),
            )
            for block in blocks
        ]


def chosen_tool(kwargs: dict[str, Any], messages: Sequence[ChatMessage]) -> Any:
    """Choose the tool to call, or none: a tool's result is answered in words unless forced."""
    functions = [tool["function"] for tool in kwargs.get("tools") or ()]
    choice = kwargs.get("tool_choice")
    if not functions or (messages[-1].role == MessageRole.TOOL and choice != "required"):
        return None
    return next((each for each in functions if each["name"] == choice), functions[0])


def as_messages(prompt: str) -> list[ChatMessage]:
    return [ChatMessage(role="user", content=str(prompt))]


def completion(response: ChatResponse) -> CompletionResponse:
    return CompletionResponse(
        text=response.message.content or "",
        delta=response.delta,
        raw=response.raw,
        logprobs=response.logprobs,
        additional_kwargs=response.additional_kwargs,
    )


def last_user(messages: Sequence[ChatMessage]) -> str:
    found = (m.content for m in reversed(messages) if m.role == MessageRole.USER)
    return next(found, None) or ""


def react(messages: Sequence[ChatMessage]) -> str:
    """Answer as ReAct wants it: call the first tool shown, then answer by what it found."""
    if last_user(messages).startswith("Observation:"):
        return "Thought: I can answer without using any more tools.\nAnswer: It is found."
    tool = re.search(r"> Tool Name: (\w+)", messages[0].content or "")
    schema = re.search(r"Tool Args: (\{.*\})", messages[0].content or "")
    assert tool is not None
    assert schema is not None
    arguments = json.dumps(filled(json.loads(schema[1]), last_user(messages)))
    return f"Thought: I need a tool.\nAction: {tool[1]}\nAction Input: {arguments}"


# -- wrapping, and what comes of it -------------------------------------------------------------


@dataclass
class RecordingScorer:
    """A scorer that records the texts it is asked to score."""

    value: float = 1.0
    texts: list[str] = field(default_factory=list)

    def score(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.texts.extend(texts)
        return np.full((len(texts), 1), self.value, dtype=np.float32)


def pair(**options: Any) -> tuple[FakeLLM, FakeLLM]:
    """Make a small and a large model."""
    return FakeLLM(name="small", **options), FakeLLM(name="large", **options)


def hybrid(
    small: Any = None,
    large: Any = None,
    *,
    score: float | Callable[[str], float] | RecordingScorer = 1.0,
    **kwargs: Any,
) -> HybridLLM:
    """Wrap two fakes; a score of 0 or more goes to the small one."""
    small = FakeLLM(name="small") if small is None else small
    large = FakeLLM(name="large") if large is None else large
    router = (
        Router(candidates=("small", "large"), scorer=score, name="test")
        if isinstance(score, RecordingScorer)
        else fixed_router(score)
    )
    given = {"router": router, "same_models": True, **kwargs}
    return HybridLLM(small=small, large=large, **given)


def decision_of(response: Any) -> dict[str, Any]:
    """Return the decision a response carries."""
    found = response.additional_kwargs[ROUTING_KEY]
    assert isinstance(found, dict)
    return found


def claimed(response: Any) -> tuple[str, str | None]:
    """Return what a response claims of its quality, and why no more."""
    found = decision_of(response)
    return found["guarantee"], found["guarantee_reason"]


class Decisions(list[Any]):
    """Keeps decisions: give its `append` as `on_decision`."""

    @property
    def candidates(self) -> list[str]:
        return [decision.candidate for decision in self]

    @property
    def reasons(self) -> list[str]:
        return [decision.reason for decision in self]

    @property
    def sources(self) -> list[str]:
        return [decision.query_source for decision in self]


class Events(BaseEventHandler):
    """Keeps LlamaIndex's events; a dispatcher's handler."""

    seen: list[Any] = Field(default_factory=list)

    @classmethod
    def class_name(cls) -> str:
        return "Events"

    def handle(self, event: Any, **kwargs: Any) -> None:
        self.seen.append(event)

    @property
    def names(self) -> list[str]:
        return [event.class_name() for event in self.seen]

    def of(self, name: str) -> list[Any]:
        return [event for event in self.seen if event.class_name() == name]


class Heard(BaseCallbackHandler):
    """Keeps what a callback manager tells; events are named as they are written."""

    def __init__(self) -> None:
        super().__init__(event_starts_to_ignore=[], event_ends_to_ignore=[])
        self.events: list[tuple[str, str, Any]] = []

    @property
    def names(self) -> list[str]:
        return [f"{kind} {name}" for kind, name, _ in self.events]

    def _hear(self, kind: str, event_type: Any, payload: Any) -> None:
        self.events.append((kind, str(getattr(event_type, "value", event_type)), payload))

    def on_event_start(
        self, event_type: Any, payload: Any = None, event_id: str = "", **kwargs: Any
    ) -> str:
        self._hear("start", event_type, payload)
        return event_id

    def on_event_end(
        self, event_type: Any, payload: Any = None, event_id: str = "", **kwargs: Any
    ) -> None:
        self._hear("end", event_type, payload)

    def start_trace(self, trace_id: str | None = None) -> None:
        self._hear("open", trace_id, None)

    def end_trace(self, trace_id: str | None = None, trace_map: Any = None) -> None:
        self._hear("close", trace_id, trace_map)
