"""What is called for an attempt: a model, with its tools or its schema, whole or streaming."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_hybrid.foreign import Reader, needs_reading, readable
from langchain_hybrid.hearing import without_streaming
from langchain_hybrid.keywords import keywords_for
from langchain_hybrid.logprobs import NAME, with_logprobs
from langchain_hybrid.tools import bind_late, split_tools
from shared_router.support.once import warn_once

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_core.messages import BaseMessage
    from langchain_core.runnables import Runnable

    from shared_router.deciding.attempts import Attempt
    from shared_router.records import Candidate

    Made = Callable[[Candidate], Runnable[Any, Any]]

logger = logging.getLogger("hybrid_llm")


class Targets:
    """Keeps the candidates that answer whole, what each reads, and who gives no log-probabilities.

    Calls in several threads share it: each entry is written whole, and twice is no harm.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[int, bool], tuple[Candidate, Candidate]] = {}
        self._refused: dict[int, Candidate] = {}
        self._readers: dict[int, tuple[Candidate, Reader]] = {}

    def __reduce__(self) -> tuple[type[Targets], tuple[()]]:
        return Targets, ()  # ids are those of this process

    def of(
        self, candidates: Sequence[Candidate], kwargs: dict[str, Any], structured: Made | None
    ) -> tuple[Target, dict[str, Any]]:
        """Return what finds what is called for an attempt, and the keywords that remain for it.

        Args:
            candidates: As bound.
            kwargs: The call's keywords.
            structured: Returns a candidate's structured chain, for structured output.
        """
        told = NAME in kwargs
        if structured is not None:
            return Target(self, candidates, structured, told), kwargs
        if not kwargs.get("tools"):
            return Target(self, candidates, _plain, told), kwargs
        tools, options, rest = split_tools(kwargs)

        def bound(candidate: Candidate) -> Runnable[Any, Any]:
            return bind_late(candidate.model, tools, options)

        return Target(self, candidates, bound, told), rest

    def held(self, candidate: Candidate, *, logprobs: bool) -> Candidate:
        """Return a candidate that answers whole, with log-probabilities where it gives them."""
        logprobs = logprobs and id(candidate.model) not in self._refused
        key = id(candidate.model), logprobs
        if key not in self._held:
            whole = self.held(candidate, logprobs=False) if logprobs else candidate
            change = with_logprobs if logprobs else without_streaming
            model = change(whole.model)
            same = model is whole.model
            made = whole if same else dataclasses.replace(whole, model=model)
            self._held[key] = candidate, made  # both kept: ids of living objects
        return self._held[key][1]

    def reader(self, candidate: Candidate) -> Reader:
        """Return what a candidate can read of a conversation."""
        key = id(candidate)
        if key not in self._readers:
            self._readers[key] = candidate, Reader.of(candidate)
        return self._readers[key][1]

    def refused(self, candidate: Candidate) -> None:
        """Remember that a candidate gives no log-probabilities; said once in the log."""
        self._refused[id(candidate.model)] = candidate
        warn_once(
            logger,
            f"Candidate {candidate.name!r} refuses to give log-probabilities: from now on it is "
            "asked without them.",
        )


@dataclass(frozen=True)
class Target:
    """Finds what is called for each attempt of one call."""

    targets: Targets
    """What lasts from call to call."""
    candidates: Sequence[Candidate]
    """As bound."""
    made: Made
    """Makes of a candidate what is called."""
    told: bool = False
    """Whether the call itself says whether log-probabilities are given."""

    def of(self, step: Attempt) -> Runnable[Any, Any]:
        """Return what is called for an attempt."""
        return self.made(self._asked(step))

    def messages_for(self, step: Attempt, messages: list[BaseMessage]) -> list[BaseMessage]:
        """Return a conversation as the candidate of an attempt can read it."""
        if not needs_reading(messages):
            return messages
        readers = [self.targets.reader(candidate) for candidate in self.candidates]
        return readable(messages, step.index, readers)

    def keywords_for(self, step: Attempt, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return a call's keywords as the candidate of an attempt understands them."""
        return keywords_for(self.candidates[step.index].model, kwargs)

    def adds_logprobs(self, step: Attempt) -> bool:
        """Tell whether an answer comes with log-probabilities that its caller did not ask for."""
        if not step.held or not self._wanted(step):
            return False
        plain = self.targets.held(self.candidates[step.index], logprobs=False)
        return self._asked(step).model is not plain.model

    def refused(self, step: Attempt) -> None:
        """Remember that the candidate of an attempt gives no log-probabilities."""
        self.targets.refused(self.candidates[step.index])

    def _wanted(self, step: Attempt) -> bool:
        return step.logprobs and not self.told

    def _asked(self, step: Attempt) -> Candidate:
        """Return the candidate of an attempt; one that may be rejected answers whole."""
        candidate = self.candidates[step.index]
        if not step.held:
            return candidate
        return self.targets.held(candidate, logprobs=self._wanted(step))


def _plain(candidate: Candidate) -> Runnable[Any, Any]:
    model: Runnable[Any, Any] = candidate.model
    return model
