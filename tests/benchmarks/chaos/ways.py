"""The ways of asking: whole, streamed, with tools, in a schema; blocking and awaited.

Each returns what was said as it was said, and what the answer tells of its routing; what it is
worth is judged elsewhere, so that an answer that says nothing is no error of the call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from langchain_core.tools import tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

from shared_router.records import ROUTING_KEY

if TYPE_CHECKING:
    from collections.abc import Sequence

Asked = Callable[[Any, str], Any]
"""Asks a model a question; returns the answer's sayings, and its routing."""


class Told(BaseModel):
    """What a right answer says."""

    model: str
    question: int
    digest: str


@tool
def tell(model: str, question: int, digest: str) -> str:
    """Tell who answered."""
    return f"{model} {question} {digest}"


TELL = FunctionTool.from_defaults(
    lambda model, question, digest: "", name="tell", description="Tell."
)
PROMPT = PromptTemplate("{query_str}")


async def _drawn(chunks: Any) -> list[Any]:
    return [chunk async for chunk in chunks]


# -- LangChain ------------------------------------------------------------------------------------


def _text(answer: Any) -> Any:
    return [answer.content], answer.response_metadata.get(ROUTING_KEY)


def _joined(chunks: Sequence[Any]) -> Any:
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    return _text(whole)


async def _ainvoke(model: Any, text: str) -> Any:
    return _text(await model.ainvoke(text))


async def _astream(model: Any, text: str) -> Any:
    return _joined(await _drawn(model.astream(text)))


def _tools(model: Any, text: str) -> Any:
    answer = model.bind_tools([tell]).invoke(text)
    return [call["args"] for call in answer.tool_calls], answer.response_metadata.get(ROUTING_KEY)


def _structured(model: Any, text: str) -> Any:
    answer = model.with_structured_output(Told, method="json_schema").invoke(text)
    return [] if answer is None else [answer.model_dump()], None


# -- LlamaIndex -----------------------------------------------------------------------------------


def _said(text: str) -> list[ChatMessage]:
    return [ChatMessage(role="user", content=text)]


def _response(answer: Any) -> Any:
    return [answer.message.content or ""], answer.additional_kwargs.get(ROUTING_KEY)


def _gathered(responses: list[Any]) -> Any:
    """Return what the deltas say together, and what the last response says where it differs."""
    (whole,), routed = _response(responses[-1])
    shown = "".join(each.delta or "" for each in responses)
    return [shown] if shown == whole else [shown, whole], routed


async def _achat(llm: Any, text: str) -> Any:
    return _response(await llm.achat(_said(text)))


async def _astream_chat(llm: Any, text: str) -> Any:
    return _gathered(await _drawn(await llm.astream_chat(_said(text))))


def _chat_with_tools(llm: Any, text: str) -> Any:
    answer = llm.chat_with_tools([TELL], user_msg=text)
    calls = llm.get_tool_calls_from_response(answer, error_on_no_tool_call=False)
    return [call.tool_kwargs for call in calls], answer.additional_kwargs.get(ROUTING_KEY)


def _structured_predict(llm: Any, text: str) -> Any:
    answer = llm.structured_predict(Told, PROMPT, query_str=text)
    return [] if answer is None else [answer.model_dump()], None


# -- litellm --------------------------------------------------------------------------------------


def _asking(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


def _completed(answer: Any) -> Any:
    return [answer.choices[0].message.content or ""], None


def _pieces(chunks: list[Any]) -> Any:
    shown = (chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    return ["".join(shown)], None


async def _acompletion(router: Any, text: str) -> Any:
    return _completed(await router.acompletion(**_asking(text)))


async def _astreamed(router: Any, text: str) -> Any:
    return _pieces(await _drawn(await router.acompletion(**_asking(text, stream=True))))


def _called(router: Any, text: str) -> Any:
    answer = router.completion(**_asking(text, tools=[convert_to_openai_tool(tell)]))
    calls = answer.choices[0].message.tool_calls or []
    return [call.function.arguments for call in calls], None


WAYS: dict[str, dict[str, Asked]] = {
    "langchain": {
        "invoke": lambda m, t: _text(m.invoke(t)),
        "ainvoke": _ainvoke,
        "stream": lambda m, t: _joined(list(m.stream(t))),
        "astream": _astream,
        "tools": _tools,
        "structured": _structured,
    },
    "llamaindex": {
        "chat": lambda m, t: _response(m.chat(_said(t))),
        "achat": _achat,
        "stream_chat": lambda m, t: _gathered(list(m.stream_chat(_said(t)))),
        "astream_chat": _astream_chat,
        "chat_with_tools": _chat_with_tools,
        "structured_predict": _structured_predict,
    },
    "litellm": {
        "completion": lambda m, t: _completed(m.completion(**_asking(t))),
        "acompletion": _acompletion,
        "stream": lambda m, t: _pieces(list(m.completion(**_asking(t, stream=True)))),
        "astream": _astreamed,
        "tools": _called,
        "structured": lambda m, t: _completed(m.completion(**_asking(t, response_format=Told))),
    },
}
"""By front, in the same order for each; those that begin with `a` are awaited."""
