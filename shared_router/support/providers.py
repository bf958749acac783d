"""What providers call things by: keywords, tools and ways to force one that only they understand.

Known are the two whose clients refuse what they do not know; of all others nothing is assumed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

Provider = Literal["anthropic", "openai"]
"""Whose clients are known."""
PROVIDERS: tuple[Provider, ...] = get_args(Provider)

HINTS: dict[Provider, frozenset[str]] = {
    "anthropic": frozenset({"cache_control"}),
    "openai": frozenset(
        {"prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"}
        | {"safety_identifier", "store", "user"}
    ),
}
"""Keywords of one provider that change no answer: others are called without them."""

OWN: dict[Provider, frozenset[str]] = {
    "anthropic": frozenset(
        {"betas", "container", "inference_geo", "mcp_servers", "output_config", "speed"}
        | {"stop_sequences", "system", "thinking", "top_k"}
    ),
    "openai": frozenset(
        {"audio", "background", "conversation", "frequency_penalty", "function_call", "functions"}
        | {"include", "logit_bias", "logprobs", "max_completion_tokens", "max_output_tokens"}
        | {"max_tool_calls", "modalities", "n", "prediction", "presence_penalty"}
        | {"previous_response_id", "reasoning", "seed", "top_logprobs", "truncation", "verbosity"}
        | {"web_search_options"}
    ),
}
"""Keywords of one provider that change the answer: they go to no other."""

_RUN_BY_ANTHROPIC = re.compile(
    r"(advisor|bash|code_execution|computer|memory|text_editor|tool_search_tool\w*|web_fetch"
    r"|web_search)_20\d{6}|mcp_toolset"
)
_RUN_BY_OPENAI = re.compile(
    r"apply_patch|code_interpreter|computer(_use_preview)?|custom|file_search|image_generation"
    r"|local_shell|mcp|namespace|tool_search|web_search(_preview)?(_20\d\d_\d\d_\d\d)?"
)
_RUN_BY_GOOGLE = frozenset(
    {"code_execution", "google_maps", "google_search", "google_search_retrieval", "url_context"}
)


def misunderstood(
    provider: Provider | None, kwargs: Mapping[str, Any], tools: Iterable[Any]
) -> str:
    """Say what a provider does not understand of a call that changes the answer; empty if nothing.

    Args:
        provider: Who would be asked; `None` for one that is not known, and may take anything.
        kwargs: The call's keywords.
        tools: Its tools, as they were given.
    """
    if provider is None:
        return ""
    others = {name for other in PROVIDERS if other != provider for name in OWN[other]}
    found = [name for name in kwargs if name in others]
    if not found:
        found = [str(name) for each in tools if (name := _run_by_another(each, provider))]
    return ", ".join(found)


def _run_by_another(tool: Any, provider: Provider) -> str | None:
    """Return the name of a tool that another provider runs itself."""
    if not isinstance(tool, dict):
        return None
    google = _RUN_BY_GOOGLE.intersection(tool)
    if google and not {"type", "name", "function"}.intersection(tool):
        return min(google)
    kind = tool.get("type")
    if not isinstance(kind, str):
        return None
    theirs = _RUN_BY_OPENAI if provider == "anthropic" else _RUN_BY_ANTHROPIC
    return kind if theirs.fullmatch(kind) else None


def without_hints(
    providers: Collection[Provider | None], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Leave out hints that one of the providers does not understand."""
    foreign = {
        name
        for provider in providers
        if provider is not None
        for other in PROVIDERS
        if other != provider
        for name in HINTS[other]
    }
    return {name: value for name, value in kwargs.items() if name not in foreign}


def chosen_tool(choice: Any) -> tuple[str, str | None] | None:
    """Read a `tool_choice` in either provider's form.

    Returns:
        `auto`, `none` or `any` and no name, or `tool` and its name; `None` for anything else.
    """
    if isinstance(choice, bool):
        return ("any", None) if choice else None
    if isinstance(choice, str):
        known = {"required": "any", "any": "any", "auto": "auto", "none": "none"}
        return (known[choice], None) if choice in known else ("tool", choice)
    if not isinstance(choice, dict):
        return None
    kind, within = choice.get("type"), choice.get("function")
    name = within.get("name") if isinstance(within, dict) else choice.get("name")
    if kind in ("tool", "function") and isinstance(name, str):
        return "tool", name
    return (kind, None) if kind in ("auto", "any", "none") else None
