"""Many questions at a time: calls that wait together are answered in one batch.

A pocket model asked by `collect` in this process, many times faster than one call after another.
Each sampled answer is a function of the question and its number alone, whatever shares its batch.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import numpy as np

from cookbook.pocket.answering import USD_PER_PARAMETER_TOKEN
from cookbook.pocket.generation import (
    LONGEST_ANSWER,
    MODELS,
    encode_prompt,
    generate_batch,
    load_model,
    parameters_per_token,
    text_of,
)
from shared_router.data.answers import Answer
from shared_router.records import AnswerSettings, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cookbook.pocket.generation import Token

    Asked = tuple[str, int, asyncio.Future[Answer]]

BATCH = 256


class BatchedModel:
    """An async callable `(query, sample) -> Answer` over a pocket model.

    Args:
        name: `small`, `large` or a folder.
        temperature: 0 is greedy, and then all samples of a question are one.
        seed: Another seed gives other samples.
    """

    def __init__(self, name: str, *, temperature: float = 1.0, seed: int = 0) -> None:
        self._model = load_model(MODELS / name)
        self._price = parameters_per_token(self._model) * USD_PER_PARAMETER_TOKEN
        self._temperature, self._seed = temperature, seed
        self._settings = AnswerSettings(
            model=f"pocket-{name}",
            temperature=temperature,
            max_tokens=LONGEST_ANSWER,
            logprobs=True,
        )
        self._waiting: list[Asked] = []
        self._worker: asyncio.Task[None] | None = None

    async def __call__(self, query: str, sample: int, /) -> Answer:
        """Answer, together with whatever else is waiting."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((query, sample, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        await asyncio.sleep(0)  # whoever asks in this turn of the loop is in the first batch
        while self._waiting:
            self._waiting.sort(key=lambda asked: len(asked[0]))
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            try:
                answers = await asyncio.to_thread(self.answer, [asked[:2] for asked in batch])
            except Exception as error:  # noqa: BLE001  each caller is to learn of it
                answers = [error] * len(batch)
            _hand_out(batch, answers)

    def answer(self, asked: Sequence[tuple[str, int]]) -> list[Answer]:
        """Answer `(query, sample)` pairs in one batch."""
        prompts = [encode_prompt(query) for query, _ in asked]
        chances = np.stack([self._chances(query, sample) for query, sample in asked])
        found = generate_batch(self._model, prompts, chances, self._temperature)
        return [self._answer(p, tokens) for p, tokens in zip(prompts, found, strict=True)]

    def _chances(self, query: str, sample: int) -> NDArray[np.float64]:
        """Draw the uniform numbers that choose the tokens of one answer."""
        digest = hashlib.sha256(f"{self._seed}/{sample}/{query}".encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "big")).random(LONGEST_ANSWER)

    def _answer(self, prompt: list[int], tokens: list[Token]) -> Answer:
        count = len(prompt) + len(tokens)
        usage = Usage(
            input_tokens=len(prompt), output_tokens=len(tokens), cost_usd=count * self._price
        )
        return Answer(
            "".join(text_of(token.id) for token in tokens),
            usage,
            logprobs=tuple(token.logprob for token in tokens),
            settings=self._settings,
        )


def _hand_out(batch: list[Asked], answers: Sequence[Answer | Exception]) -> None:
    for (_, _, future), answer in zip(batch, answers, strict=True):
        if future.done():  # its caller was cancelled meanwhile
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
