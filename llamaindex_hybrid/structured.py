"""Structured output: LlamaIndex's own wrapper, which hands the user's question on.

The stock one formats a prompt, then asks the LLM inside for a structured answer to the messages:
the prompt's variables, and with them the question, are gone.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index_instrumentation.dispatcher import DISPATCHER_SPAN_DECORATED_ATTR

from llamaindex_hybrid.queries import variable_query
from llamaindex_hybrid.requests import asked_in_prompt, prompt_options
from llamaindex_hybrid.streams import aprimed, primed
from shared_router.context import found_query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from llama_index.core.base.llms.types import (
        ChatMessage,
        ChatResponseAsyncGen,
        ChatResponseGen,
    )
    from llama_index.core.prompts import BasePromptTemplate
    from llama_index.core.types import TokenAsyncGen, TokenGen


class HybridStructuredLLM(StructuredLLM):
    """What `HybridLLM.as_structured_llm` returns: the question survives, streams route at once."""

    @contextmanager
    def _asking(
        self, prompt: BasePromptTemplate, prompt_args: Mapping[str, Any]
    ) -> Iterator[tuple[HybridStructuredLLM, dict[str, Any]]]:
        """State the question of a call with a prompt; yields who answers it, and its variables."""
        llm: Any = self.llm
        options, rest = prompt_options(prompt, prompt_args)
        held = self.model_copy(update={"llm": llm.holding(options)})
        query = variable_query(asked_in_prompt(prompt, rest).variables, llm.query_variables)
        with found_query(query):
            yield held, rest

    def predict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """Answer a prompt in the schema."""
        with self._asking(prompt, prompt_args) as (held, variables):
            text: str = _unspanned("predict")(held, prompt, **variables)
            return text

    async def apredict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """Answer a prompt in the schema."""
        with self._asking(prompt, prompt_args) as (held, variables):
            text: str = await _unspanned("apredict")(held, prompt, **variables)
            return text

    def stream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenGen:
        """Stream an answer in the schema."""
        with self._asking(prompt, prompt_args) as (held, variables):
            tokens: TokenGen = _unspanned("stream")(held, prompt, **variables)
            return tokens

    async def astream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenAsyncGen:
        """Stream an answer in the schema."""
        with self._asking(prompt, prompt_args) as (held, variables):
            tokens: TokenAsyncGen = await _unspanned("astream")(held, prompt, **variables)
            return tokens

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Stream an answer in the schema; dials in force now hold."""
        return primed(_unspanned("stream_chat")(self, messages, **kwargs))

    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """Stream an answer in the schema; dials in force now hold."""
        return await aprimed(await _unspanned("astream_chat")(self, messages, **kwargs))


def _unspanned(name: str) -> Callable[..., Any]:
    """Return LlamaIndex's own method: it makes a span of ours as of its own, and one is enough."""
    method: Any = getattr(StructuredLLM, name)
    spanned = hasattr(method, DISPATCHER_SPAN_DECORATED_ATTR)
    plain: Callable[..., Any] = method.__wrapped__ if spanned else method
    return plain
