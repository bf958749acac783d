"""The pocket models as LangChain chat models: streaming, token counts, a nominal price.

model = PocketChatModel.small()
model.invoke("What is 3 plus 4?").content
"""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field, PrivateAttr

from cookbook.pocket.generation import (
    LONGEST_ANSWER,
    MODELS,
    encode_prompt,
    generate_tokens,
    load_model,
    parameters_per_token,
    text_of,
)
from cookbook.pocket.tokenizer import EOS, VOCABULARY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.callbacks import CallbackManagerForLLMRun
    from langchain_core.language_models import LangSmithParams
    from transformers import LlamaForCausalLM

USD_PER_PARAMETER_TOKEN = 1e-12
"""A nominal price, so that cost is compute: a million tokens of a million parameters cost $1."""


class PocketChatModel(BaseChatModel):
    """A pocket model that answers the last human message, one character a token."""

    model_name: str
    """`small` or `large`, or a folder that holds another export of the training script."""
    temperature: float = Field(default=0.0, ge=0)
    """0 is greedy."""
    max_tokens: int = Field(default=LONGEST_ANSWER, ge=1, le=LONGEST_ANSWER)
    seed: int | None = None
    """Makes each sampled answer repeatable; a call's own `seed` goes before it."""

    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    @classmethod
    def small(cls, **settings: Any) -> PocketChatModel:
        """Return the small model of the pair."""
        return cls(model_name="small", **settings)

    @classmethod
    def large(cls, **settings: Any) -> PocketChatModel:
        """Return the large model of the pair."""
        return cls(model_name="large", **settings)

    @cached_property
    def _model(self) -> LlamaForCausalLM:
        return load_model(MODELS / self.model_name)

    @property
    def parameters(self) -> int:
        """How many parameters each token passes through."""
        with self._lock:
            return parameters_per_token(self._model)

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
        named.update(ls_provider="pocket", ls_model_name=f"pocket-{self.model_name}")
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
        prompt = encode_prompt(_question(messages))
        held, produced, finish = "", 0, "length"
        for token in self._tokens(prompt, kwargs):
            produced += 1
            held += text_of(token)
            settled, stopped = _settled(held, stop or [])
            if settled:
                yield _told(settled, run_manager)
                held = held[len(settled) :]
            if stopped or token == VOCABULARY[EOS]:
                finish, held = "stop", "" if stopped else held
                break
        if held:
            yield _told(held, run_manager)
        yield ChatGenerationChunk(message=self._last_chunk(len(prompt), produced, finish))

    def _tokens(self, prompt: list[int], kwargs: dict[str, Any]) -> Iterator[int]:
        """Yield token ids; the lock is held for a token's computation, never across a yield."""
        with self._lock:
            stream = generate_tokens(
                self._model,
                prompt,
                temperature=kwargs.get("temperature", self.temperature),
                max_tokens=kwargs.get("max_tokens", self.max_tokens),
                seed=kwargs.get("seed", self.seed),
            )
        while True:
            with self._lock:
                token = next(stream, None)
            if token is None:
                return
            yield token

    def _last_chunk(self, prompt_tokens: int, produced: int, finish: str) -> AIMessageChunk:
        tokens = prompt_tokens + produced
        return AIMessageChunk(
            content="",
            chunk_position="last",
            usage_metadata=UsageMetadata(
                input_tokens=prompt_tokens, output_tokens=produced, total_tokens=tokens
            ),
            response_metadata={
                "model_name": f"pocket-{self.model_name}",
                "finish_reason": finish,
                "cost_usd": tokens * self.parameters * USD_PER_PARAMETER_TOKEN,
            },
        )


def _question(messages: list[BaseMessage]) -> str:
    """Return the last human message's text: the models know nothing of a conversation."""
    asked = [message for message in messages if isinstance(message, HumanMessage)]
    return (asked or messages)[-1].text


def _settled(text: str, stop: list[str]) -> tuple[str, bool]:
    """Return the text that no stop mark can still claim, and whether one has appeared."""
    found = [text.index(mark) for mark in stop if mark in text]
    if found:
        return text[: min(found)], True
    begun = [
        start for start in range(len(text)) if any(mark.startswith(text[start:]) for mark in stop)
    ]
    return text[: min(begun, default=len(text))], False


def _told(text: str, run_manager: CallbackManagerForLLMRun | None) -> ChatGenerationChunk:
    chunk = ChatGenerationChunk(message=AIMessageChunk(content=text))
    if run_manager:
        run_manager.on_llm_new_token(text, chunk=chunk)
    return chunk
