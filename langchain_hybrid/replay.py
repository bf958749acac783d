"""ReplayChatModel: answers from recorded responses, so a chain runs and is measured offline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import ConfigDict, Field, PrivateAttr

from langchain_hybrid.queries import text_of
from shared_router.data.dataset import RoutingDataset  # noqa: TC001  (pydantic reads it)
from shared_router.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.callbacks import CallbackManagerForLLMRun
    from langchain_core.language_models.base import LangSmithParams
    from langchain_core.messages import BaseMessage

    from shared_router.data.schema import Outcome

CHARACTERS_PER_TOKEN = 4
"""Recorded answers hold no token counts; usage is estimated."""


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

    _by_query: dict[str, tuple[str, Any]] = PrivateAttr(default_factory=dict)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for record in self.data:
            outcome = record.outcomes.get(self.model)
            if outcome is not None:
                self._by_query[record.query.strip()] = (record.id, outcome)
        if not self._by_query:
            raise DataError(f"{self.data.name}: no outcomes of {self.model!r} to replay.")

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
        del stop, kwargs
        message = self._answer(messages)
        words = str(message.content).split(" ")
        for position, word in enumerate(words):
            last = position == len(words) - 1
            chunk = AIMessageChunk(
                content=word if last else f"{word} ",
                usage_metadata=message.usage_metadata if last else None,
                response_metadata=message.response_metadata if last else {},
            )
            generated = ChatGenerationChunk(message=chunk)
            if run_manager is not None:
                run_manager.on_llm_new_token(str(chunk.content), chunk=generated)
            yield generated

    def _answer(self, messages: list[BaseMessage]) -> AIMessage:
        id_, outcome = self._find(messages)
        text = _response(outcome, self.sample)
        read = sum(len(text_of(message)) for message in messages) // CHARACTERS_PER_TOKEN + 1
        written = len(text) // CHARACTERS_PER_TOKEN + 1
        metadata = {
            "model_name": self.model,
            "id": id_,
            "quality": outcome.mean_quality,
            "cost_usd": outcome.cost_usd,
        }
        return AIMessage(
            content=text,
            response_metadata=metadata,
            usage_metadata={
                "input_tokens": read,
                "output_tokens": written,
                "total_tokens": read + written,
            },
        )

    def _find(self, messages: list[BaseMessage]) -> tuple[str, Outcome]:
        texts = [text_of(message).strip() for message in messages]
        for text in reversed(texts):
            if text in self._by_query:
                return self._by_query[text]
        whole = "\n".join(texts)
        inside = [query for query in self._by_query if query and query in whole]
        if not inside:
            raise DataError(
                f"{self.data.name}: none of its recorded queries stands in these messages; "
                f"{self.model!r} can only replay what it was asked."
            )
        return self._by_query[max(inside, key=len)]


def _response(outcome: Outcome, sample: int) -> str:
    """Return a recorded response; where only its quality was recorded, say so."""
    if outcome.response is None:
        return f"(no recorded text; quality {outcome.mean_quality:g})"
    return outcome.response[sample % len(outcome.response)]
