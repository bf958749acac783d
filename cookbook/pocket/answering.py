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

    from cookbook.pocket.generation import Step

USD_PER_PARAMETER_TOKEN = 1e-12
"""A nominal price, so that cost is compute: a million tokens of a million parameters cost $1."""

T = TypeVar("T")
_LOADING = threading.Lock()
"""Loading changes settings of the whole process for a moment: one model at a time."""


@dataclass(frozen=True)
class Piece:
    """A piece of an answer's text, by its tokens."""

    steps: tuple[Step, ...] = ()
    """One a character; of a mark, which has no text, one too."""

    @property
    def text(self) -> str:
        """The text."""
        return "".join(text_of(step.chosen.id) for step in self.steps)


@dataclass(frozen=True, kw_only=True)
class AnswerEnd:
    """What is known once an answer is over."""

    prompt_tokens: int
    answer_tokens: int
    """The ending mark included."""
    finish_reason: Literal["stop", "length"]
    cost_usd: float
    steps: tuple[Step, ...] = ()
    """The marks behind its text: the ending mark, where it was reached."""

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
    ) -> Generator[Piece | AnswerEnd]:
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
        held, produced, ended = _Held(), 0, False
        for step in self._steps(prompt, temperature, min(max_tokens, LONGEST_ANSWER), seed):
            produced += 1
            held.steps.append(step)
            settled, stopped = _settled(held.text, marks)
            if settled:
                yield held.taken(len(settled))
            ended = stopped or step.chosen.id == VOCABULARY[EOS]
            if ended:
                held = _Held() if stopped else held
                break
        if held.text:
            yield held.taken(len(held.text))
        yield self._end(len(prompt), produced, "stop" if ended else "length", held.steps)

    def _steps(
        self, prompt: list[int], temperature: float, max_tokens: int, seed: int | None
    ) -> Iterator[Step]:
        """Yield tokens; the lock is held for a token's computation, never across a yield."""
        with self._lock:
            stream = generate_tokens(
                self._network, prompt, temperature=temperature, max_tokens=max_tokens, seed=seed
            )
        while True:
            with self._lock:
                step = next(stream, None)
            if step is None:
                return
            yield step

    def _end(
        self,
        prompt_tokens: int,
        produced: int,
        finish: Literal["stop", "length"],
        steps: Sequence[Step],
    ) -> AnswerEnd:
        tokens = prompt_tokens + produced
        return AnswerEnd(
            prompt_tokens=prompt_tokens,
            answer_tokens=produced,
            finish_reason=finish,
            cost_usd=tokens * self.parameters * USD_PER_PARAMETER_TOKEN,
            steps=tuple(steps),
        )


class _Held:
    """What is written and not yet told, as a stop mark may have begun in it."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    @property
    def text(self) -> str:
        """Its text."""
        return Piece(tuple(self.steps)).text

    def taken(self, count: int) -> Piece:
        """Take so many characters, at least one, from its start."""
        ends = [at for at, step in enumerate(self.steps, start=1) if text_of(step.chosen.id)]
        upto = ends[count - 1]
        taken, self.steps = self.steps[:upto], self.steps[upto:]
        return Piece(tuple(taken))


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


def steps_of(written: Sequence[Piece | AnswerEnd]) -> list[Step]:
    """Return all steps of an answer, that of the ending mark last where it was reached."""
    return [step for each in written for step in each.steps]


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
