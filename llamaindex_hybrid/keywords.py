"""Keywords and tools of one provider: who understands them, and what others are called with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared_router.deciding.understood import check_understood
from shared_router.support.providers import chosen_tool, misunderstood, without_hints

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llama_index.core.llms import LLM

    from shared_router.options import CallOptions
    from shared_router.records import Candidate
    from shared_router.support.providers import Provider

_CLIENTS: dict[str, Provider] = {
    "OpenAI": "openai",
    "OpenAIResponses": "openai",
    "Anthropic": "anthropic",
}
"""Classes whose clients refuse keywords that they do not know; theirs are known by name alone, so
that neither package has to be there."""
_CHOICE = "tool_choice"


def provider_of(model: LLM) -> Provider | None:
    """Return the provider whose client a model uses; `None` for one that is not known."""
    names = (each.__name__ for each in type(model).__mro__)
    return next((_CLIENTS[name] for name in names if name in _CLIENTS), None)


def unable(
    candidates: Sequence[Candidate],
    kwargs: Mapping[str, Any],
    tools: Sequence[Any],
    options: CallOptions,
) -> frozenset[int]:
    """Find the candidates that do not understand what a call brings.

    Raises:
        ConfigurationError: If none does, or not the one that it is forced to.
        CandidateError: If `route` names no candidate.
    """
    if not kwargs and not tools:
        return frozenset()
    given = [*tools, *(kwargs.get("tools") or ())]
    told = [misunderstood(provider_of(each.model), kwargs, given) for each in candidates]
    found = {position: what for position, what in enumerate(told) if what}
    check_understood(found, candidates, options.route)
    return frozenset(found)


def keywords_for(provider: Provider | None, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return a call's keywords as a provider's client understands them."""
    if provider is None or not kwargs:
        return kwargs
    kept = without_hints([provider], kwargs)
    read = chosen_tool(kept.get(_CHOICE))
    if read is None:
        return kept
    kind, name = read
    if provider == "openai":
        word = "required" if kind == "any" else kind
        return {**kept, _CHOICE: word if name is None else name}
    return {**kept, _CHOICE: {"type": kind} if name is None else {"type": kind, "name": name}}
