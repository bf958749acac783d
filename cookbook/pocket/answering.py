"""One answer of a pocket model, as every front of the pair needs it: piece by piece, then its end.

pocket_model("small").answer("Add 3 and 4.")  # yields text, and an AnswerEnd at last
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Literal, TypeVar

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
    from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence

    from transformers import LlamaForCausalLM

USD_PER_PARAMETER_TOKEN = 1e-12
"""A nominal price, so that cost is compute: a million tokens of a million parameters cost $1."""

T = TypeVar("T")
_LOADING = threading.Lock()
"""Loading changes settings of the whole process for a moment: one model at a time."""


@dataclass(frozen=True, kw_only=True)
class AnswerEnd:
    """What is known once an answer is over."""

    prompt_tokens: int
    answer_tokens: int
    """The ending mark included."""
    finish_reason: Literal["stop", "length"]
    cost_usd: float

    @property
    def total_tokens(self) -> int:
        """Tokens read and written."""
        return self.prompt_tokens + self.answer_tokens


class PocketModel:
    """A pocket model at work in this process; threads may share it."""

    def __init__(self, name: str) -> None:
        """Name the model; it is loaded when it is first needed.

        Args:
            name: `small` or `large`, or a folder that holds another export of the training script.
        """
        self.name = name
        self._lock = threading.Lock()

    @property
    def public_name(self) -> str:
        """What tracers, clients and routers call it."""
        return f"pocket-{self.name}"

    @cached_property
    def _network(self) -> LlamaForCausalLM:
        with _LOADING:
            return load_model(MODELS / self.name)

    def load(self) -> None:
        """Load the model now, so that nobody waits for it later."""
        with self._lock:
            self._network  # noqa: B018  a cached property

    @property
    def parameters(self) -> int:
        """How many parameters each token passes through."""
        with self._lock:
            return parameters_per_token(self._network)

    @property
    def usd_per_million_tokens(self) -> float:
        """The nominal price, the same for tokens read and written."""
        return self.parameters * USD_PER_PARAMETER_TOKEN * 1e6

    def answer(
        self,
        question: str,
        *,
        temperature: float = 0.0,
        max_tokens: int = LONGEST_ANSWER,
        seed: int | None = None,
        stop: Sequence[str] = (),
    ) -> Generator[str | AnswerEnd]:
        """Answer a question; nothing is computed that is not asked for.

        Args:
            question: Of a longer one than the model can read, only the end is read.
            temperature: 0 is greedy.
            max_tokens: The most tokens to write; more than `LONGEST_ANSWER` is that.
            seed: Makes a sampled answer repeatable.
            stop: Marks that end the answer and are no part of it.

        Yields:
            The text in pieces, a character each unless a stop mark may have begun, and an
            `AnswerEnd` at last.
        """
        marks = [mark for mark in stop if mark]
        prompt = encode_prompt(question)
        held, produced, ended = "", 0, False
        for token in self._tokens(prompt, temperature, min(max_tokens, LONGEST_ANSWER), seed):
            produced += 1
            held += text_of(token)
            settled, stopped = _settled(held, marks)
            if settled:
                yield settled
                held = held[len(settled) :]
            ended = stopped or token == VOCABULARY[EOS]
            if ended:
                held = "" if stopped else held
                break
        if held:
            yield held
        yield self._end(len(prompt), produced, "stop" if ended else "length")

    def _tokens(
        self, prompt: list[int], temperature: float, max_tokens: int, seed: int | None
    ) -> Iterator[int]:
        """Yield token ids; the lock is held for a token's computation, never across a yield."""
        with self._lock:
            stream = generate_tokens(
                self._network, prompt, temperature=temperature, max_tokens=max_tokens, seed=seed
            )
        while True:
            with self._lock:
                token = next(stream, None)
            if token is None:
                return
            yield token

    def _end(
        self, prompt_tokens: int, produced: int, finish: Literal["stop", "length"]
    ) -> AnswerEnd:
        tokens = prompt_tokens + produced
        return AnswerEnd(
            prompt_tokens=prompt_tokens,
            answer_tokens=produced,
            finish_reason=finish,
            cost_usd=tokens * self.parameters * USD_PER_PARAMETER_TOKEN,
        )


@cache
def pocket_model(name: str) -> PocketModel:
    """Return the process's model of that name, shared by all who ask for it."""
    return PocketModel(name)


def _settled(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """Return the text that no stop mark can still claim, and whether one has appeared."""
    found = [text.index(mark) for mark in stop if mark in text]
    if found:
        return text[: min(found)], True
    begun = [
        start for start in range(len(text)) if any(mark.startswith(text[start:]) for mark in stop)
    ]
    return text[: min(begun, default=len(text))], False


def last_asked(messages: Sequence[T], by_user: Callable[[T], bool]) -> T:
    """Return the last message of the user, or the last one: the models know no conversation."""
    return ([message for message in messages if by_user(message)] or messages)[-1]


async def in_threads(stream: Generator[T]) -> AsyncGenerator[T]:
    """Draw each item in a worker thread, so that the event loop stays free.

    Whoever leaves early, by `aclose` or cancellation, stops the stream at its next item.
    """
    loop, drawing = asyncio.get_running_loop(), None
    try:
        while True:
            drawing = loop.run_in_executor(None, next, stream, None)
            item = await asyncio.shield(drawing)
            if item is None:
                return
            yield item
    finally:
        if drawing is None or drawing.done():
            stream.close()
        else:  # a thread is at the next item, and a running generator cannot be closed
            drawing.add_done_callback(lambda _: stream.close())
