"""The pocket models as LangChain chat models: streaming, token counts, a nominal price.

model = PocketChatModel.small()
model.invoke("Add 3 and 4.").content
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field

from cookbook.pocket.answering import (
    AnswerEnd,
    PocketModel,
    last_asked,
    pocket_model,
    steps_of,
)
from cookbook.pocket.generation import LONGEST_ANSWER
from cookbook.pocket.protocol import told_steps

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from langchain_core.callbacks import CallbackManagerForLLMRun
    from langchain_core.language_models import LangSmithParams

    from cookbook.pocket.answering import Piece


class PocketChatModel(BaseChatModel):
    """A pocket model that answers the last human message, one character a token."""

    model_name: str
    """`small` or `large`, or a folder that holds another export of the training script."""
    temperature: float = Field(default=0.0, ge=0)
    """0 is greedy."""
    max_tokens: int = Field(default=LONGEST_ANSWER, ge=1, le=LONGEST_ANSWER)
    seed: int | None = None
    """Makes each sampled answer repeatable; a call's own `seed` goes before it."""
    logprobs: bool | None = None
    """Whether `response_metadata` tells the log-probability of each token, as OpenAI's does."""

    @classmethod
    def small(cls, **settings: Any) -> PocketChatModel:
        """Return the small model of the pair."""
        return cls(model_name="small", **settings)

    @classmethod
    def large(cls, **settings: Any) -> PocketChatModel:
        """Return the large model of the pair."""
        return cls(model_name="large", **settings)

    @property
    def _pocket(self) -> PocketModel:
        return pocket_model(self.model_name)

    @property
    def parameters(self) -> int:
        """How many parameters each token passes through."""
        return self._pocket.parameters

    @property
    def _llm_type(self) -> str:
        return "pocket"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {
            "model_name": self.model_name,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
        }

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        """Name the model to tracers, and to a router that binds its candidates by name."""
        named = super()._get_ls_params(stop=stop, **kwargs)
        named.update(ls_provider="pocket", ls_model_name=self._pocket.public_name)
        return named

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        chunks = list(self._stream(messages, stop, **kwargs))
        whole = chunks[0]
        for chunk in chunks[1:]:
            whole += chunk
        merged = whole.message
        message = AIMessage(
            content=merged.content,
            response_metadata=merged.response_metadata,
            usage_metadata=merged.usage_metadata if isinstance(merged, AIMessageChunk) else None,
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        asked = last_asked(messages, lambda message: isinstance(message, HumanMessage))
        written: list[Piece | AnswerEnd] = []
        for piece in self._pocket.answer(
            asked.text,
            temperature=kwargs.get("temperature", self.temperature),
            max_tokens=kwargs.get("max_tokens", self.max_tokens),
            seed=kwargs.get("seed", self.seed),
            stop=stop or (),
        ):
            written.append(piece)
            if isinstance(piece, AnswerEnd):
                told = kwargs.get("logprobs", self.logprobs)
                last = self._last_chunk(piece, _logprobs(written) if told else {})
                yield ChatGenerationChunk(message=last)
            else:
                yield _told(piece.text, run_manager)

    def _last_chunk(self, end: AnswerEnd, more: Mapping[str, Any]) -> AIMessageChunk:
        return AIMessageChunk(
            content="",
            chunk_position="last",
            usage_metadata=UsageMetadata(
                input_tokens=end.prompt_tokens,
                output_tokens=end.answer_tokens,
                total_tokens=end.total_tokens,
            ),
            response_metadata={
                "model_name": self._pocket.public_name,
                "finish_reason": end.finish_reason,
                "cost_usd": end.cost_usd,
                **more,
            },
        )


def _logprobs(written: Sequence[Piece | AnswerEnd]) -> dict[str, Any]:
    return {"logprobs": {"content": told_steps(steps_of(written)), "refusal": None}}


def _told(text: str, run_manager: CallbackManagerForLLMRun | None) -> ChatGenerationChunk:
    chunk = ChatGenerationChunk(message=AIMessageChunk(content=text))
    if run_manager:
        run_manager.on_llm_new_token(text, chunk=chunk)
    return chunk
