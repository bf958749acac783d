"""Late-bound tools: kept as they were given, formatted by the provider that is chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_hybrid.children import map_models
from langchain_hybrid.keywords import binding_for, provider_of, tools_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_core.language_models import BaseChatModel
    from langchain_core.runnables import Runnable
    from langchain_core.tools import BaseTool

_OPTIONS = frozenset({"tool_choice", "strict", "parallel_tool_calls"})


class BoundTools(list[dict[str, Any]]):
    """Tools as OpenAI dicts, which agents look into, with the originals beside them.

    The originals keep what the dicts lose: a tool's provider-specific `extras`.
    """

    def __init__(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        options: frozenset[str] = _OPTIONS,
    ) -> None:
        super().__init__(
            tool if isinstance(tool, dict) else convert_to_openai_tool(tool) for tool in tools
        )
        self.originals = list(tools)
        self.options = options | _OPTIONS


def split_tools(kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
    """Split a call's keywords, which hold `tools`.

    Returns:
        The tools as they were given, the keywords of `bind_tools`, and those that remain.
    """
    tools = kwargs["tools"]
    bound = isinstance(tools, BoundTools)
    names = tools.options if bound else _OPTIONS
    options = {k: v for k, v in kwargs.items() if k in names and v is not None}
    rest = {k: v for k, v in kwargs.items() if k not in names and k != "tools"}
    return (tools.originals if bound else list(tools)), options, rest


def bind_late(
    model: Runnable[Any, Any], tools: list[Any], options: dict[str, Any]
) -> Runnable[Any, Any]:
    """Bind tools to the chosen model, inside whatever wraps it."""

    def bind(base: BaseChatModel) -> Runnable[Any, Any]:
        provider = provider_of(base)
        bound = binding_for(provider, tools, options)
        return base.bind_tools(tools_for(provider, tools), **bound)

    return map_models(model, bind)
