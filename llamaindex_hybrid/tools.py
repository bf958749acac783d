"""Tools: asked of a model that can call them, and read by the model that called them."""

from __future__ import annotations

from copy import copy
from functools import cache, wraps
from typing import TYPE_CHECKING, Any

from llama_index.core.agent.react.formatter import ReActChatFormatter
from llama_index.core.agent.react.output_parser import ReActOutputParser
from llama_index.core.llms.function_calling import FunctionCallingLLM

from llamaindex_hybrid.children import can_call_tools
from llamaindex_hybrid.events import WITHIN, with_routing
from shared_router.errors import CandidateError
from shared_router.records import ROUTING_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llama_index.core.base.llms.types import ChatResponse
    from llama_index.core.llms import LLM
    from llama_index.core.llms.llm import ToolSelection

    from shared_router.records import Candidate


class WatchedTools:
    """A user's tools, and whether one of them has run: then no other model may be asked.

    Args:
        given: The tools; one whose class cannot be extended is taken to have run once it is given.
    """

    def __init__(self, given: Sequence[Any]) -> None:
        self._ran = False
        self.tools = [self._watched(tool) for tool in given]

    def has_run(self) -> bool:
        """Tell whether a tool has run."""
        return self._ran

    def _watched(self, tool: Any) -> Any:
        try:
            made = copy(tool)
            kind: Any = type(tool)
            made.__class__ = _watched_class(kind)
            made.hybrid_llm_ran = self._note
        except (TypeError, AttributeError, ValueError):
            self._ran = True
            return tool
        return made

    def _note(self) -> None:
        self._ran = True


@cache
def _watched_class(kind: type) -> type:
    """Extend a class of tools: each of its ways to run is noted first."""

    def noted(name: str) -> Any:
        plain = getattr(kind, name)

        @wraps(plain)
        def run(self: Any, *args: Any, **kwargs: Any) -> Any:
            self.hybrid_llm_ran()
            return plain(self, *args, **kwargs)

        return run

    ways = [name for name in ("__call__", "call", "acall") if hasattr(kind, name)]
    return type(kind.__name__, (kind,), {name: noted(name) for name in ways})


def need_tools(able: bool) -> None:
    """Refuse a call with tools where no model can call any.

    Raises:
        CandidateError: If none can.
    """
    if not able:
        raise CandidateError(
            "None of the wrapped models can call tools: use a ReActAgent, or wrap one whose "
            "metadata says is_function_calling_model."
        )


def chat_with_tools(model: LLM, name: str, tools: Any, arguments: Mapping[str, Any]) -> Any:
    """Chat with tools, by the method of that name.

    Raises:
        CandidateError: If the model, forced by `route=`, has none.
    """
    if not isinstance(model, FunctionCallingLLM):
        raise CandidateError(
            f"A {type(model).__name__} cannot call tools; leave `route` out, or name another."
        )
    return getattr(model, name)(tools, **arguments)


def predict_and_call(model: LLM, name: str, tools: Any, arguments: Mapping[str, Any]) -> Any:
    """Choose a tool and call it; a model without tools is asked in text, as ReAct does."""
    given = dict(arguments)
    if not can_call_tools(model):  # LlamaIndex passes these on unset, and refuses them
        given.setdefault("react_chat_formatter", ReActChatFormatter())
        given.setdefault("output_parser", ReActOutputParser())
    return getattr(model, name)(tools, **given)


def tool_calls(
    response: ChatResponse,
    candidates: Sequence[Candidate],
    *,
    error_on_no_tool_call: bool,
    **kwargs: Any,
) -> list[ToolSelection]:
    """Read the tool calls of a response, as the model that answered writes them.

    Raises:
        ValueError: If there are none and one is expected.
    """
    routed = response.additional_kwargs.get(ROUTING_KEY) or {}
    model = _answered(routed, candidates)
    if WITHIN in routed:
        response = with_routing(response, routed[WITHIN])
    if isinstance(model, FunctionCallingLLM):
        return model.get_tool_calls_from_response(
            response, error_on_no_tool_call=error_on_no_tool_call, **kwargs
        )
    if error_on_no_tool_call:
        raise ValueError("Expected at least one tool call, but got 0 tool calls.")
    return []


def _answered(routed: Mapping[str, Any], candidates: Sequence[Candidate]) -> Any:
    """Find the model that answered; the most capable one where the response does not say."""
    for candidate in candidates:
        if candidate.name == (routed.get("answered_by") or routed.get("candidate")):
            return candidate.model
    return able_model(candidates)


def able_model(candidates: Sequence[Candidate]) -> Any:
    """Return the model nearest the reference that can call tools; `None` where none can."""
    return next((c.model for c in reversed(candidates) if c.supports_tools), None)
