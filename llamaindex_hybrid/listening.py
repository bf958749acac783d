"""What a model answers beneath an operation that gives a text or an object alone.

`predict` gives a text, `structured_predict` an object: the response under them, with its tokens
and their log-probabilities, is heard at the model's own endpoints. There too they are asked for,
for a prompt's variables leave no room for keywords.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse

from llamaindex_hybrid.logprobs import ASKED, NAME, may_refuse

if TYPE_CHECKING:
    from collections.abc import Callable

ENDPOINTS = ("chat", "achat", "complete", "acomplete")
"""By these a model is asked for a whole answer, whatever the operation."""
_REFUSED: Any = object()


@dataclass
class Hearing:
    """What is heard during one attempt."""

    asks: bool = False
    """Whether the model is asked for log-probabilities."""
    refused: Callable[[], None] | None = field(default=None, repr=False)
    """Told that the model does not take that, and answered without."""
    response: ChatResponse | CompletionResponse | None = field(default=None, repr=False)
    """The last response."""
    brought: bool = False
    """Whether it was asked for log-probabilities of which its caller knows nothing."""


class Refusals:
    """The models that do not take the parameter: remembered, so that each is asked in vain once.

    They are known by who they are. Adding one to a dict, and looking there, are each one step, so
    that threads share it.
    """

    def __init__(self) -> None:
        self._models: dict[int, Any] = {}

    def hearing(self, model: Any, *, logprobs: bool) -> Hearing:
        """Begin to listen to a model.

        Args:
            model: The model.
            logprobs: Whether it is asked for log-probabilities, unless it has refused before.
        """
        asks = logprobs and id(model) not in self._models
        return Hearing(asks, refused=lambda: self._models.update({id(model): model}))


@dataclass(frozen=True)
class Heard:
    """An answer, and the response that was heard beneath it."""

    answer: Any = field(repr=False)
    """What the operation gave."""
    response: ChatResponse | CompletionResponse | None = field(repr=False)
    """The last response of the model."""
    brought: bool
    """Whether log-probabilities are to be taken off it."""

    @classmethod
    def of(cls, answer: Any, hearing: Hearing) -> Heard:
        """Put an answer together with what was heard beneath it."""
        return cls(answer, hearing.response, hearing.brought)


def listening(kind: type, name: str) -> Any:
    """Make an endpoint of a class of models that tells its view's `Hearing` of each response."""
    plain = getattr(kind, name)
    return _alistening(plain) if name.startswith("a") else _listening(plain)


def _listening(plain: Any) -> Any:
    @wraps(plain)
    def ask(self: Any, *args: Any, **kwargs: Any) -> Any:
        asking = _Asking(self, kwargs)
        try:
            answer = plain(self, *args, **asking.keywords())
        except Exception as error:
            answer = asking.refusal(error)
            if answer is not _REFUSED:
                raise
        if answer is _REFUSED:
            answer = plain(self, *args, **asking.without())
        return asking.noted(answer)

    return ask


def _alistening(plain: Any) -> Any:
    @wraps(plain)
    async def ask(self: Any, *args: Any, **kwargs: Any) -> Any:
        asking = _Asking(self, kwargs)
        try:
            answer = await plain(self, *args, **asking.keywords())
        except Exception as error:
            answer = asking.refusal(error)
            if answer is not _REFUSED:
                raise
        if answer is _REFUSED:
            answer = await plain(self, *args, **asking.without())
        return asking.noted(answer)

    return ask


class _Asking:
    """One request to a model: with log-probabilities, and once more without if it refuses."""

    def __init__(self, model: Any, kwargs: dict[str, Any]) -> None:
        self.model, self.kwargs = model, kwargs
        self.hearing: Hearing = getattr(model, "heard_by", None) or Hearing()  # a copy has none
        self.asks = self.hearing.asks and not _said_by_caller(model, kwargs)
        self.was_refused = False

    def keywords(self) -> dict[str, Any]:
        """Return the keywords to ask with; a model that has fields for it sees them set."""
        if not self.asks:
            return self.kwargs
        if not has_fields(type(self.model)):
            return {**self.kwargs, **ASKED}
        self.model.seen_as.update(ASKED)
        return self.kwargs

    def refusal(self, error: Exception) -> Any:
        """Tell whether an error may be a refusal of log-probabilities."""
        return _REFUSED if self.asks and may_refuse(error) else None

    def without(self) -> dict[str, Any]:
        """Return the keywords to ask without them."""
        for name in ASKED:
            self.model.seen_as.pop(name, None)
        self.asks, self.was_refused = False, True
        return self.kwargs

    def noted(self, answer: Any) -> Any:
        """Keep a response."""
        hearing = self.hearing
        if isinstance(answer, ChatResponse | CompletionResponse):
            hearing.response = answer
        hearing.brought = hearing.brought or self.asks
        if self.was_refused:
            hearing.asks = False
            if hearing.refused is not None:
                hearing.refused()
        return answer


def has_fields(kind: Any) -> bool:
    """Tell whether a class of models has fields for log-probabilities, as OpenAI's have."""
    return all(name in kind.model_fields for name in ASKED)


def _said_by_caller(model: Any, kwargs: dict[str, Any]) -> bool:
    """Tell whether the caller has said whether it wants them: in the call, or in the model."""
    own, said = getattr(model, "additional_kwargs", None), getattr(model, NAME, None)
    if NAME in kwargs or (isinstance(own, dict) and NAME in own):
        return True
    return bool(said) or (said is not None and NAME in model.model_fields_set)
