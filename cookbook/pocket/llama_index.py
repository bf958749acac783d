"""The pocket models as LlamaIndex chat models: streaming, token counts, a nominal price.

llm = PocketLLM.small()
llm.complete("Add 3 and 4.").text
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.generic_utils import (
    achat_to_completion_decorator,
    astream_chat_to_completion_decorator,
    chat_to_completion_decorator,
    stream_chat_to_completion_decorator,
)
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
    LogProb,
    MessageRole,
)
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.llm import LLM
from pydantic import Field

from cookbook.pocket.answering import (
    AnswerEnd,
    Piece,
    PocketModel,
    in_threads,
    last_asked,
    pocket_model,
    steps_of,
)
from cookbook.pocket.generation import LONGEST_ANSWER, LONGEST_PROMPT
from cookbook.pocket.protocol import told_steps

if TYPE_CHECKING:
    from collections.abc import Sequence


class PocketLLM(LLM):
    """A pocket model that answers the last user message, one character a token.

    Token counts and cost stand in `raw` and `additional_kwargs` of the answer, in a stream of its
    last item.
    """

    model_name: str
    """`small` or `large`, or a folder that holds another export of the training script."""
    temperature: float = Field(default=0.0, ge=0)
    """0 is greedy."""
    max_tokens: int = Field(default=LONGEST_ANSWER, ge=1, le=LONGEST_ANSWER)
    seed: int | None = None
    """Makes each sampled answer repeatable; a call's own `seed` goes before it."""
    logprobs: bool | None = None
    """Whether answers tell the log-probability of each token, a stream's in its last item."""
    context_window: int = Field(default=LONGEST_PROMPT + LONGEST_ANSWER, ge=1)
    """What pipelines fit their prompts into; of a longer prompt the model reads the end."""

    @classmethod
    def small(cls, **settings: Any) -> PocketLLM:
        """Return the small model of the pair."""
        return cls(model_name="small", **settings)

    @classmethod
    def large(cls, **settings: Any) -> PocketLLM:
        """Return the large model of the pair."""
        return cls(model_name="large", **settings)

    @classmethod
    def class_name(cls) -> str:
        """Name the class to LlamaIndex."""
        return "PocketLLM"

    @property
    def _pocket(self) -> PocketModel:
        return pocket_model(self.model_name)

    @property
    def parameters(self) -> int:
        """How many parameters each token passes through."""
        return self._pocket.parameters

    @property
    def metadata(self) -> LLMMetadata:
        """Describe the model to LlamaIndex."""
        return LLMMetadata(
            context_window=self.context_window,
            num_output=self.max_tokens,
            is_chat_model=True,
            model_name=self._pocket.public_name,
        )

    # -- chat -------------------------------------------------------------------------------------

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer at once."""
        return self._chat(messages, **kwargs)

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Answer token by token."""
        return self._stream_chat(messages, **kwargs)

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer at once, without blocking the event loop."""
        return await self._achat(messages, **kwargs)

    @llm_chat_callback()
    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """Answer token by token, without blocking the event loop."""
        return await self._astream_chat(messages, **kwargs)

    # -- completion: the prompt is a user's message -----------------------------------------------

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer at once."""
        return chat_to_completion_decorator(self._chat)(prompt, **kwargs)

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        """Answer token by token."""
        return stream_chat_to_completion_decorator(self._stream_chat)(prompt, **kwargs)

    @llm_completion_callback()
    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        """Answer at once, without blocking the event loop."""
        return await achat_to_completion_decorator(self._achat)(prompt, **kwargs)

    @llm_completion_callback()
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """Answer token by token, without blocking the event loop."""
        return await astream_chat_to_completion_decorator(self._astream_chat)(prompt, **kwargs)

    # -- behind both; undecorated, so that each call is told to the callbacks once ----------------

    def _chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        *_, last = self._stream_chat(messages, **kwargs)
        return _whole(last)

    async def _achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        async for response in in_threads(self._stream_chat(messages, **kwargs)):
            last = response
        return _whole(last)

    async def _astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        return in_threads(self._stream_chat(messages, **kwargs))

    def _stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        asked = last_asked(messages, lambda message: message.role == MessageRole.USER)
        stop = kwargs.get("stop") or ()
        text, written = "", list[Piece | AnswerEnd]()
        for piece in self._pocket.answer(
            asked.content or "",
            temperature=kwargs.get("temperature", self.temperature),
            max_tokens=kwargs.get("max_tokens", self.max_tokens),
            seed=kwargs.get("seed", self.seed),
            stop=[stop] if isinstance(stop, str) else stop,
        ):
            written.append(piece)
            if isinstance(piece, AnswerEnd):
                told = kwargs.get("logprobs", self.logprobs)
                known = _logprobs(written) if told else None
                yield _said(text, "", logprobs=known, **self._account(piece))
            else:
                text += piece.text
                yield _said(text, piece.text)

    def _account(self, end: AnswerEnd) -> dict[str, dict[str, Any]]:
        """Tell usage where LlamaIndex and its tracers look for it."""
        usage = {
            "prompt_tokens": end.prompt_tokens,
            "completion_tokens": end.answer_tokens,
            "total_tokens": end.total_tokens,
        }
        raw = {
            "model": self._pocket.public_name,
            "finish_reason": end.finish_reason,
            "usage": usage,
            "cost_usd": end.cost_usd,
        }
        return {"raw": raw, "additional_kwargs": {**usage, "cost_usd": end.cost_usd}}


def _logprobs(written: Sequence[Piece | AnswerEnd]) -> list[list[LogProb]]:
    """Return one list a token, of that token alone."""
    told = told_steps(steps_of(written))
    return [[LogProb(**{name: each[name] for name in LogProb.model_fields})] for each in told]


def _said(text: str, delta: str, **account: Any) -> ChatResponse:
    message = ChatMessage(role=MessageRole.ASSISTANT, content=text)
    return ChatResponse(message=message, delta=delta, **account)


def _whole(last: ChatResponse) -> ChatResponse:
    return last.model_copy(update={"delta": None})
