"""A fake provider that does what real ones do, and a recorder of run trees."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableMap, RunnablePassthrough
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import Field

from langchain_hybrid import HybridChatModel
from shared_router.testing import fixed_router
from tests.material import filled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from uuid import UUID

USAGE = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
ANSWER = "Hello to you, friend."


class FakeChat(BaseChatModel):
    """Streams token by token, formats tools its own way, and counts 15 tokens a call.

    With tools bound it calls one when the user asks, or when it is forced to; arguments are read
    out of the question.
    """

    model: str = "fake"
    answer: str = ANSWER
    stop: list[str] | None = None
    fail_after: int | None = None
    """Raise `ConnectionError` instead of this chunk; 0 fails at once."""
    delay_s: float = 0.0
    """Seconds between two chunks."""
    requests: list[dict[str, Any]] = Field(default_factory=list, exclude=True)
    """What reached the provider: `messages` and the other keywords."""
    probe: Any = Field(default=None, exclude=True)
    """Called with no argument at every request, inside its context."""

    @property
    def _llm_type(self) -> str:
        return "fake-provider"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model, "answer": self.answer}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        named = {"ls_provider": "fake", "ls_model_name": kwargs.get("model", self.model)}
        return {**super()._get_ls_params(stop=stop, **kwargs), **named}

    def bind_tools(
        self,
        tools: Sequence[Any],
        *,
        tool_choice: Any = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Format tools as this provider wants them: signed, with their extras."""
        signed = []
        for tool in tools:
            extras = tool.extras if isinstance(tool, BaseTool) else None
            formatted = convert_to_openai_tool(tool, strict=strict)
            signed.append({**formatted, "signed": self.model, "extras": extras or {}})
        if tool_choice is not None:
            kwargs["tool_choice"] = tool_choice
        return self.bind(tools=signed, **kwargs)

    def with_structured_output(
        self,
        schema: Any,
        *,
        include_raw: bool = False,
        method: str = "function_calling",
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Answer by a tool call, or natively in JSON."""
        if method == "function_calling":
            return super().with_structured_output(schema, include_raw=include_raw, **kwargs)
        wanted = convert_to_json_schema(schema)
        llm = self.bind(
            response_format={"type": method, "schema": wanted, "strict": strict},
            ls_structured_output_format={"kwargs": {"method": method}, "schema": wanted},
            **kwargs,
        )
        parser: Any = JsonOutputParser()
        if isinstance(schema, type) and is_basemodel_subclass(schema):
            parser = PydanticOutputParser(pydantic_object=schema)
        if not include_raw:
            return llm | parser
        parsed = RunnablePassthrough.assign(
            parsed=itemgetter("raw") | parser, parsing_error=lambda _: None
        )
        return RunnableMap(raw=llm) | parsed

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> ChatResult:
        del run_manager
        message = self._reply(messages, stop, kwargs)
        if self.fail_after is not None:
            raise ConnectionError("the provider is down")
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(self.delay_s)
        return self._generate(messages, *args, **kwargs)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        del run_manager
        chunks = _chunks(self._reply(messages, stop, kwargs))
        for position, chunk in enumerate(chunks):
            if position == self.fail_after:
                raise ConnectionError("the provider is down")
            yield ChatGenerationChunk(message=chunk)

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._stream(messages, *args, **kwargs):
            await asyncio.sleep(self.delay_s)
            yield chunk

    def _reply(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]
    ) -> AIMessage:
        self.requests.append({"messages": messages, "stop": stop, **kwargs})
        if self.probe is not None:
            self.probe()
        common: dict[str, Any] = {
            "usage_metadata": USAGE,
            "response_metadata": {"model_name": kwargs.get("model", self.model)},
        }
        question = _last_question(messages)
        if kwargs.get("response_format"):
            return AIMessage(
                json.dumps(filled(kwargs["response_format"]["schema"], question)), **common
            )
        tool = chosen_tool(kwargs.get("tools"), kwargs.get("tool_choice"), messages)
        if tool is None:
            return AIMessage(_until(self.answer, stop or self.stop or []), **common)
        call = {
            "name": tool["name"],
            "args": filled(tool.get("parameters", {}), question),
            "id": f"call_{len(messages)}",
        }
        return AIMessage("", tool_calls=[call], **common)


def _last_question(messages: Sequence[BaseMessage]) -> str:
    return next((m.text for m in reversed(messages) if m.type == "human"), "")


def _until(text: str, stops: Sequence[str]) -> str:
    for stop in stops:
        text = text.split(stop)[0]
    return text


def _chunks(message: AIMessage) -> list[AIMessageChunk]:
    """Cut a message into tokens; metadata and usage come with the last one."""
    pieces: list[Any] = [{"content": word} for word in re.findall(r"\S+\s*", message.text)]
    for index, call in enumerate(message.tool_calls):
        shared = {"index": index, "type": "tool_call_chunk"}
        opening = {**shared, "name": call["name"], "args": "", "id": call["id"]}
        rest = {**shared, "name": None, "args": json.dumps(call["args"]), "id": None}
        pieces += [{"content": "", "tool_call_chunks": [part]} for part in (opening, rest)]
    pieces[-1] |= {
        "usage_metadata": message.usage_metadata,
        "response_metadata": message.response_metadata,
        "chunk_position": "last",
    }
    return [AIMessageChunk(**piece) for piece in pieces]


def chosen_tool(tools: Any, choice: Any, messages: Sequence[BaseMessage]) -> Any:
    """Choose the tool to call, or none: a tool's result is answered in words unless forced."""
    functions = [tool.get("function", tool) for tool in tools or ()]
    if not functions or choice == "none":
        return None
    if isinstance(choice, dict):
        choice = choice["function"]["name"]
    named = [function for function in functions if function["name"] == choice]
    if named:
        return named[0]
    if isinstance(messages[-1], ToolMessage):
        return functions[-1] if choice in ("any", "required", True) else None
    return functions[0]


def hybrid(
    small: Any = None,
    large: Any = None,
    *,
    score: float | Callable[[str], float] = 1.0,
    **kwargs: Any,
) -> HybridChatModel:
    """Wrap two fakes; a score of 0 or more goes to the small one."""
    small = FakeChat(model="small") if small is None else small
    large = FakeChat(model="large") if large is None else large
    return HybridChatModel(
        small=small, large=large, router=fixed_router(score), same_models=True, **kwargs
    )


@dataclass
class Recorded:
    """One run as a handler saw it."""

    id: UUID
    parent_id: UUID | None
    kind: str
    name: str
    tags: list[str]
    metadata: dict[str, Any]
    inputs: Any
    outputs: Any = None
    error: BaseException | None = None
    ended: int | None = None
    """Position of its end among all ends; `None` while it is open."""
    children: list[Recorded] = field(default_factory=list)

    @property
    def shape(self) -> Any:
        """Its name and kind, with those of its children."""
        return (f"{self.name}:{self.kind}", [child.shape for child in self.children])


class Recorder(BaseCallbackHandler):
    """Records run trees, sync and async, in the order of events."""

    run_inline = True

    def __init__(self) -> None:
        self.runs: dict[UUID, Recorded] = {}
        self.events: list[tuple[str, Any, UUID]] = []
        self._ends = 0

    @property
    def roots(self) -> list[Recorded]:
        """Runs without a parent."""
        return [run for run in self.runs.values() if run.parent_id is None]

    @property
    def root(self) -> Recorded:
        """The only run without a parent."""
        (root,) = self.roots
        return root

    @property
    def llms(self) -> list[Recorded]:
        """The runs of called models."""
        return [run for run in self.runs.values() if run.kind == "llm"]

    def of(self, name: str) -> Recorded:
        """Return the only run of a name."""
        (run,) = (run for run in self.runs.values() if run.name == name)
        return run

    def _start(self, kind: str, inputs: Any, serialized: Any, **kwargs: Any) -> None:
        run = Recorded(
            id=kwargs["run_id"],
            parent_id=kwargs.get("parent_run_id"),
            kind=kind,
            name=kwargs.get("name") or (serialized or {}).get("name", ""),
            tags=list(kwargs.get("tags") or []),
            metadata=dict(kwargs.get("metadata") or {}),
            inputs=inputs,
        )
        assert run.id not in self.runs, "a run started twice"
        self.runs[run.id] = run
        if run.parent_id in self.runs:
            self.runs[run.parent_id].children.append(run)

    def _end(self, run_id: UUID, outputs: Any = None, error: BaseException | None = None) -> None:
        run = self.runs[run_id]
        assert run.ended is None, f"run {run.name} ended twice"
        run.outputs, run.error, run.ended = outputs, error, self._ends
        self._ends += 1

    def on_chain_start(self, serialized: Any, inputs: Any, **kwargs: Any) -> None:
        self._start("chain", inputs, serialized, **kwargs)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id, outputs)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id, error=error)

    def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:
        self._start("llm", messages, serialized, **kwargs)

    def on_llm_end(self, response: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id, response)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id, error=error)

    def on_tool_start(self, serialized: Any, input_str: str, **kwargs: Any) -> None:
        self._start("tool", input_str, serialized, **kwargs)

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id, output)

    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self.events.append((name, data, run_id))
