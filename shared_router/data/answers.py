"""What `collect` takes: async callables that answer, judges that score, and what both return."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from shared_router.records import Usage

if TYPE_CHECKING:
    from collections.abc import Awaitable


@dataclass(frozen=True)
class Answer:
    """One sampled response of one model."""

    text: str = field(repr=False)
    """The response."""
    usage: Usage = field(default_factory=Usage)
    """What the call consumed; `cost_usd=None` where the price is unknown."""


@dataclass(frozen=True)
class Judgement:
    """How good one response is, and what judging it cost."""

    quality: float
    """Higher is better, within the metric's range."""
    usage: Usage = field(default_factory=Usage)
    """What the judge consumed; nothing for a metric that calls no model."""


class AskModel(Protocol):
    """An async callable that asks one model once."""

    async def __call__(self, query: str, sample: int, /) -> Answer:
        """Answer `query`; `sample` counts from 0, for callables that seed by it."""
        ...


class Judge(Protocol):
    """What scores responses; every `QualityMetric` of `shared_router.judging` is one."""

    @property
    def name(self) -> str:
        """Name the judge: qualities are stored under it, and another judge judges anew."""
        ...

    @property
    def needs_answer(self) -> bool:
        """Tell whether each query must come with its right answer."""
        ...

    def score(
        self, query: str, response: str, answer: str | None, /
    ) -> float | Judgement | Awaitable[float | Judgement]:
        """Score one response; sync ones run in a thread."""
        ...


def as_judgement(found: float | Judgement) -> Judgement:
    """Take what a judge returned.

    Raises:
        ValueError: If the quality is no finite number.
    """
    made = found if isinstance(found, Judgement) else Judgement(float(found))
    if not math.isfinite(made.quality):
        raise ValueError("a quality is a finite number")
    return made


def priced(
    ask: AskModel, *, input_usd_per_million_tokens: float, output_usd_per_million_tokens: float
) -> AskModel:
    """Make a model's answers carry their cost, from prices per million tokens."""

    async def asking(query: str, sample: int, /) -> Answer:
        answer = await ask(query, sample)
        used = answer.usage
        if not used.input_tokens and not used.output_tokens:
            return answer  # the model counts no tokens: its cost is unknown, not nothing
        cost_usd = (
            used.input_tokens * input_usd_per_million_tokens
            + used.output_tokens * output_usd_per_million_tokens
        ) / 1e6
        return Answer(answer.text, used.model_copy(update={"cost_usd": cost_usd}))

    return asking
