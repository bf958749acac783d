"""ReplayChatModel: answers from recorded responses, so a chain runs and is measured offline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import ConfigDict, Field, PrivateAttr

from langchain_hybrid.queries import text_of
from shared_router.data.dataset import RoutingDataset  # noqa: TC001  (pydantic reads it)
from shared_router.data.replay import Recording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.callbacks import CallbackManagerForLLMRun
    from langchain_core.language_models.base import LangSmithParams
    from langchain_core.messages import BaseMessage

    from shared_router.data.replay import Replayed


class ReplayChatModel(BaseChatModel):
    """Answers with what a real model answered, as a `RoutingDataset` recorded it.

    The recorded query is found by its exact text: the whole of the last message that holds one,
    else the longest recorded query that stands inside the messages, as in a RAG prompt.
    `response_metadata` has the record's `quality`, `cost_usd` and `id`.

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

    _recording: Any = PrivateAttr(default=None)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._recording = Recording(self.data, self.model)

    @property
    def _llm_type(self) -> str:
        return "replay"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        """Tell models apart in the host's cache of answers."""
        return {"model": self.model, "sample": self.sample, "data": self.data.name}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        del stop, kwargs
        return {"ls_provider": "replay", "ls_model_name": self.model, "ls_model_type": "chat"}

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        del stop, run_manager, kwargs
        message = self._answer(messages)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        del stop, run_manager, kwargs
        message = self._answer(messages)
        words = str(message.content).split(" ")
        for position, word in enumerate(words):
            last = position == len(words) - 1
            chunk = AIMessageChunk(
                content=word if last else f"{word} ",
                usage_metadata=message.usage_metadata if last else None,
                response_metadata=message.response_metadata if last else {},
            )
            yield ChatGenerationChunk(message=chunk)

    def _answer(self, messages: list[BaseMessage]) -> AIMessage:
        found: Replayed = self._recording.answer(list(map(text_of, messages)), self.sample)
        read, written = found.usage.input_tokens, found.usage.output_tokens
        return AIMessage(
            content=found.text,
            response_metadata={"model_name": self.model, **found.facts},
            usage_metadata={
                "input_tokens": read,
                "output_tokens": written,
                "total_tokens": read + written,
            },
        )
