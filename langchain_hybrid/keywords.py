"""Keywords and tools of one provider: who understands them, and what others are called with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_hybrid.children import base_models
from shared_router.deciding.understood import check_understood
from shared_router.support.providers import chosen_tool, misunderstood, without_hints

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared_router.options import CallOptions
    from shared_router.records import Candidate
    from shared_router.support.providers import Provider

_CLIENTS: dict[str, Provider] = {"BaseChatOpenAI": "openai", "ChatAnthropic": "anthropic"}
"""Classes whose clients refuse keywords that they do not know; theirs are known by name alone, so
that neither package has to be there."""


def provider_of(base: Any) -> Provider | None:
    """Return the provider whose client a chat model uses; `None` for one that is not known."""
    names = (each.__name__ for each in type(base).__mro__)
    return next((_CLIENTS[name] for name in names if name in _CLIENTS), None)


def providers_of(model: Any) -> list[Provider | None]:
    """Return the providers of the chat models inside wrappers."""
    return [provider_of(base) for base in base_models(model)]


def unable(
    candidates: Sequence[Candidate], kwargs: Mapping[str, Any], options: CallOptions
) -> frozenset[int]:
    """Find the candidates that do not understand what a call brings.

    Raises:
        ConfigurationError: If none does, or not the one that it is forced to.
        CandidateError: If `route` names no candidate.
    """
    if not kwargs:
        return frozenset()
    tools = kwargs.get("tools") or ()
    given = getattr(tools, "originals", tools)
    found: dict[int, str] = {}
    for position, candidate in enumerate(candidates):
        told = (misunderstood(each, kwargs, given) for each in providers_of(candidate.model))
        if what := next(filter(None, told), ""):
            found[position] = what
    check_understood(found, candidates, options.route)
    return frozenset(found)


def keywords_for(model: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return a call's keywords as a model understands them: without the hints of others."""
    return without_hints(providers_of(model), kwargs) if kwargs else kwargs


def tools_for(provider: Provider | None, tools: list[Any]) -> list[Any]:
    """Return tools as a provider understands them: without the cache marks of another."""
    if provider != "openai":
        return tools
    return [without_cache_mark(each) if isinstance(each, dict) else each for each in tools]


def without_cache_mark(part: dict[str, Any]) -> dict[str, Any]:
    """Return a block or a tool without Anthropic's mark to cache up to it."""
    if "cache_control" not in part:
        return part
    return {name: value for name, value in part.items() if name != "cache_control"}


def binding_for(
    provider: Provider | None, tools: list[Any], options: dict[str, Any]
) -> dict[str, Any]:
    """Return the keywords that tools are bound with as a provider understands them.

    LangChain's own words, such as `any` or a tool's name, are every provider's.
    """
    options = without_hints([provider], options)
    choice = options.get("tool_choice")
    if provider is None or choice is None or choice in map(_name_of, tools):
        return options
    read = chosen_tool(choice)
    if read is None:
        return options
    kind, name = read
    if provider == "anthropic" and kind == "none":
        return {**options, "tool_choice": {"type": "none"}}
    return {**options, "tool_choice": kind if name is None else name}


def _name_of(tool: Any) -> str | None:
    if isinstance(tool, dict):
        within = tool.get("function")
        name = within.get("name") if isinstance(within, dict) else tool.get("name")
        return name if isinstance(name, str) else None
    name = getattr(tool, "name", None) or getattr(tool, "__name__", None)
    return name if isinstance(name, str) else None
