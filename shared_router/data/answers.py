"""What `collect` takes: async callables that answer, judges that score, and what both return."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from shared_router.data.schema import ABOVE_0
from shared_router.errors import ConfigurationError
from shared_router.records import Usage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from shared_router.records import AnswerSettings

AUTO: Literal["auto"] = "auto"
LOGPROB_DIGITS = 4
"""Behind the point of a recorded log-probability: a ten-thousandth of a probability's ratio."""


@dataclass(frozen=True)
class Answer:
    """One sampled response of one model."""

    text: str = field(repr=False)
    """The response."""
    usage: Usage = field(default_factory=Usage)
    """What the call consumed; `cost_usd=None` where the price is unknown."""
    names: tuple[str, ...] = ()
    """What the model is called: by who asks for it, and by the provider that answered."""
    logprobs: tuple[float, ...] | None = field(default=None, repr=False)
    """Natural log-probabilities of its tokens, in order; `None` where nobody tells them."""
    settings: AnswerSettings | None = None
    """How it was made; `None` where that is unknown."""


@dataclass(frozen=True)
class Judgement:
    """How good one response is, and what judging it cost."""

    quality: float
    """Higher is better, within the metric's range."""
    usage: Usage = field(default_factory=Usage)
    """What the judge consumed; nothing for a metric that calls no model."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How models are asked to sample; what is `None` is left to each model's own default.

    Raises:
        ConfigurationError: If a number is out of range.
    """

    temperature: float | None = None
    """0 is greedy: every sample of a query is then the same."""
    seed: int | None = None
    """Sample `i` is asked with the seed `seed + i`."""
    logprobs: bool | Literal["auto"] = AUTO
    """Whether the models are asked for the log-probabilities of their tokens. `auto` asks those
    that take the parameter, and one that refuses it again without, for free; with `True` a refusal
    is a failure like any other."""

    def __post_init__(self) -> None:
        if not (isinstance(self.logprobs, bool) or self.logprobs == AUTO):
            raise ConfigurationError(f"logprobs is True, False or {AUTO!r}; got {self.logprobs!r}.")
        if self.temperature is not None and not 0 <= self.temperature < math.inf:
            raise ConfigurationError(
                f"temperature is a finite number of at least 0, or none; got {self.temperature}."
            )
        if self.seed is not None and self.seed < 0:
            raise ConfigurationError(f"seed is at least 0, or none; got {self.seed}.")

    def keywords(self, sample: int) -> dict[str, float | int]:
        """Return what to ask of a model for one sample: `temperature`, `seed`, both or nothing."""
        found: dict[str, float | int] = {}
        if self.temperature is not None:
            found["temperature"] = self.temperature
        if self.seed is not None:
            found["seed"] = self.seed + sample
        return found


def kept_logprobs(told: Sequence[Any] | None) -> tuple[float, ...] | None:
    """Return log-probabilities as they are recorded, rounded; `None` where one cannot be one.

    The answer beside them is paid for, and is not lost because of what a host tells of it.
    """
    try:
        found = [] if told is None else [float(each) for each in told]
    except (TypeError, ValueError, OverflowError):
        return None
    if not found or not all(-math.inf < each <= ABOVE_0 for each in found):
        return None
    return tuple(min(round(each, LOGPROB_DIGITS), 0.0) + 0.0 for each in found)


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
        ValueError: If the quality is no finite number; `cost_usd` on it, as it is paid for.
    """
    made = found if isinstance(found, Judgement) else Judgement(float(found))
    if not math.isfinite(made.quality):
        error = ValueError("a quality is a finite number")
        error.cost_usd = made.usage.cost_usd  # type: ignore[attr-defined]
        raise error
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
        return replace(answer, usage=used.model_copy(update={"cost_usd": cost_usd}))

    return asking
