"""Structured output: LlamaIndex's own wrapper, which hands the user's question on.

The stock one formats a prompt, then asks the LLM inside for a structured answer to the messages:
the prompt's variables, and with them the question, are gone.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from llama_index.core.llms.structured_llm import StructuredLLM

from llamaindex_hybrid.queries import variable_query
from llamaindex_hybrid.requests import asked_in_prompt, prompt_options
from llamaindex_hybrid.streams import aprimed, primed
from shared_router.context import found_query

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

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
            return super(HybridStructuredLLM, held).predict(prompt, **variables)

    async def apredict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """Answer a prompt in the schema."""
        with self._asking(prompt, prompt_args) as (held, variables):
            return await super(HybridStructuredLLM, held).apredict(prompt, **variables)

    def stream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenGen:
        """Stream an answer in the schema."""
        with self._asking(prompt, prompt_args) as (held, variables):
            return super(HybridStructuredLLM, held).stream(prompt, **variables)

    async def astream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenAsyncGen:
        """Stream an answer in the schema."""
        with self._asking(prompt, prompt_args) as (held, variables):
            return await super(HybridStructuredLLM, held).astream(prompt, **variables)

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Stream an answer in the schema; dials in force now hold."""
        return primed(super().stream_chat(messages, **kwargs))

    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """Stream an answer in the schema; dials in force now hold."""
        return await aprimed(await super().astream_chat(messages, **kwargs))
