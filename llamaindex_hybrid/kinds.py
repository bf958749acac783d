"""Calls that no user asked for: which kinds there are, and how each is recognised.

Such a call has no query to route by. It goes to the reference, unless `no_query` names another
candidate for its kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from llama_index.core.chat_engine.condense_plus_context import DEFAULT_CONDENSE_PROMPT_TEMPLATE
from llama_index.core.prompts import PromptTemplate, PromptType
from llama_index.core.prompts.default_prompts import DEFAULT_HYDE_PROMPT
from llama_index.core.retrievers.fusion_retriever import QUERY_GEN_PROMPT

from shared_router.deciding.guards import position_of
from shared_router.errors import CandidateError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llama_index.core.prompts import BasePromptTemplate

    from shared_router.records import Candidate

Kind = Literal["extract", "summarize", "condense", "rewrite", "other"]
"""The kinds of calls without a user's query.

- `extract`: metadata, keywords, triplets or schemas of a text: a prompt of such a type, any prompt
  about a `context_str` that holds no question, or (with `track_queries`) a metadata extractor.
- `summarize`: a prompt of the type `summary`, such as a tree index is built with.
- `condense`: a conversation into one question, by the prompt of `condense_plus_context`.
- `rewrite`: a query into other texts to search by: HyDE's prompt and that of query fusion.
- `other`: all else without text to score, such as an empty chat or an image alone.
"""
KINDS: tuple[Kind, ...] = get_args(Kind)

_OF_TYPE: dict[str, Kind] = {
    PromptType.KEYWORD_EXTRACT: "extract",
    PromptType.KNOWLEDGE_TRIPLET_EXTRACT: "extract",
    PromptType.SCHEMA_EXTRACT: "extract",
    PromptType.TABLE_CONTEXT: "extract",
    PromptType.SUMMARY: "summarize",
}

_STEPS = frozenset(
    {
        PromptType.TREE_INSERT,
        PromptType.TREE_SELECT,
        PromptType.TREE_SELECT_MULTIPLE,
        PromptType.QUERY_KEYWORD_EXTRACT,
        PromptType.VECTOR_STORE_QUERY,
        PromptType.SINGLE_SELECT,
        PromptType.MULTI_SELECT,
        PromptType.SUB_QUESTION,
        PromptType.DECOMPOSE,
        PromptType.CHOICE_SELECT,
        PromptType.RANKGPT_RERANK,
    }
)
"""Types of prompts by which a pipeline finds what to answer with: nobody reads the answer."""


def _opening(template: str) -> str:
    """Return what a formatted prompt starts with, whatever its variables."""
    return template.partition("{")[0].strip()


_OPENINGS: dict[str, Kind] = {
    _opening(DEFAULT_CONDENSE_PROMPT_TEMPLATE): "condense",
    _opening(QUERY_GEN_PROMPT): "rewrite",
}


def kind_of_prompt(prompt: BasePromptTemplate) -> Kind | None:
    """Recognise a prompt that no user's question stands in; `None` where it may hold one."""
    if isinstance(prompt, PromptTemplate) and prompt.template == DEFAULT_HYDE_PROMPT.template:
        return "rewrite"
    found = _OF_TYPE.get(prompt.metadata.get("prompt_type", ""))
    if found is None and "context_str" in prompt.template_vars:
        return "extract"
    return found


def kind_of_text(text: str) -> Kind | None:
    """Recognise one of LlamaIndex's own prompts that reaches a model formatted."""
    start = text.lstrip()
    return next((kind for opening, kind in _OPENINGS.items() if start.startswith(opening)), None)


def is_step(prompt: BasePromptTemplate | None, text: str | None) -> bool:
    """Tell whether a call is a pipeline's own step, though a user's question is known.

    Args:
        prompt: Its prompt, where it has one.
        text: What it says to the model, where it has none.
    """
    if prompt is None:
        return text is not None and kind_of_text(text) is not None
    if prompt.metadata.get("prompt_type") in _STEPS:
        return True
    return kind_of_prompt(prompt) == "rewrite"


def check_policy(policy: Mapping[Any, Any], candidates: Sequence[Candidate]) -> dict[Kind, str]:
    """Check `no_query`, a mapping from kinds to candidates.

    Raises:
        ConfigurationError: If a kind is unknown.
        CandidateError: If a candidate is unknown.
    """
    for kind, name in policy.items():
        if kind not in KINDS:
            raise ConfigurationError(
                f"no_query maps a kind of call ({', '.join(KINDS)}) to a candidate; got {kind!r}."
            )
        if not isinstance(name, str):
            raise ConfigurationError(f"no_query[{kind!r}] is a candidate's name; got {name!r}.")
        try:
            position_of(name, candidates)
        except CandidateError as error:
            raise CandidateError(f"no_query[{kind!r}]: {error}") from None
    return dict(policy)
