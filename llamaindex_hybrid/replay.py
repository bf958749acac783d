"""ReplayLLM: answers from recorded responses, so an engine runs and is measured offline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.llms import LLM
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from pydantic import ConfigDict, Field, PrivateAttr

from llamaindex_hybrid.queries import text_of
from shared_router.data.dataset import RoutingDataset  # noqa: TC001  (pydantic reads it)
from shared_router.data.replay import Recording

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llama_index.core.base.llms.types import (
        ChatResponseAsyncGen,
        ChatResponseGen,
        CompletionResponseAsyncGen,
        CompletionResponseGen,
    )

    from shared_router.data.replay import Replayed


class ReplayLLM(LLM):
    """Answers with what a real model answered, as a `RoutingDataset` recorded it.

    The recorded query is found by its exact text: the whole of the last message that holds one,
    else the longest recorded query that stands inside the messages, as in a RAG prompt.
    `additional_kwargs` of a response has the record's `quality`, `cost_usd` and `id`, `raw` an
    estimated `usage`.

    Raises:
        DataError: If the data set has no outcomes of the model; at a call, if none of its queries
            is asked.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    data: RoutingDataset = Field(exclude=True, repr=False)
    """The records to answer from."""
    model: str
    """Which model's responses to replay."""
    sample: int = 0
    """Which of its sampled responses."""
    context_window: int = 128_000
    """Tokens a prompt may have; LlamaIndex packs what was retrieved by it."""

    _recording: Any = PrivateAttr(default=None)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._recording = Recording(self.data, self.model)

    @classmethod
    def class_name(cls) -> str:
        """Name the class as LlamaIndex does when it writes objects down."""
        return "ReplayLLM"

    @property
    def metadata(self) -> LLMMetadata:
        """Describe the model."""
        return LLMMetadata(
            context_window=self.context_window, is_chat_model=True, model_name=self.model
        )

    def _answer(self, texts: Sequence[str]) -> tuple[Replayed, dict[str, Any]]:
        found: Replayed = self._recording.answer(texts, self.sample)
        usage = {
            "prompt_tokens": found.usage.input_tokens,
            "completion_tokens": found.usage.output_tokens,
            "total_tokens": found.usage.input_tokens + found.usage.output_tokens,
        }
        return found, {
            "raw": {"model": self.model, "usage": usage},
            "additional_kwargs": found.facts,
        }

    def _chats(self, messages: Sequence[ChatMessage]) -> Iterator[ChatResponse]:
        found, facts = self._answer([text_of(message) for message in messages])
        for delta, whole in _words(found.text):
            message = ChatMessage(role=MessageRole.ASSISTANT, content=whole)
            yield ChatResponse(message=message, delta=delta, **facts)

    def _completions(self, prompt: str) -> Iterator[CompletionResponse]:
        found, facts = self._answer([prompt])
        for delta, whole in _words(found.text):
            yield CompletionResponse(text=whole, delta=delta, **facts)

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Replay the answer to a chat."""
        *_, last = self._chats(messages)
        return last.model_copy(update={"delta": None})

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Replay the answer to a chat."""
        *_, last = self._chats(messages)
        return last.model_copy(update={"delta": None})

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Replay the answer to a chat, word by word."""
        yield from self._chats(messages)

    @llm_chat_callback()
    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """Replay the answer to a chat, word by word."""

        async def chunks() -> ChatResponseAsyncGen:
            for chunk in self._chats(messages):
                yield chunk

        return chunks()

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Replay the answer to a prompt."""
        *_, last = self._completions(prompt)
        return last.model_copy(update={"delta": None})

    @llm_completion_callback()
    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        """Replay the answer to a prompt."""
        *_, last = self._completions(prompt)
        return last.model_copy(update={"delta": None})

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        """Replay the answer to a prompt, word by word."""
        yield from self._completions(prompt)

    @llm_completion_callback()
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """Replay the answer to a prompt, word by word."""

        async def chunks() -> CompletionResponseAsyncGen:
            for chunk in self._completions(prompt):
                yield chunk

        return chunks()


def _words(text: str) -> Iterator[tuple[str, str]]:
    """Yield a text's words, each with what was said up to it."""
    words = text.split(" ")
    for position in range(len(words)):
        whole = " ".join(words[: position + 1])
        yield whole if position == 0 else f" {words[position]}", whole
