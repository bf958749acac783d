"""What is called for an attempt: a model, with its tools or its schema, whole or streaming."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_hybrid.hearing import with_whole_answers
from langchain_hybrid.tools import bind_late, split_tools

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_core.runnables import Runnable

    from shared_router.deciding.attempts import Attempt
    from shared_router.records import Candidate

    Target = Callable[[Attempt], Runnable[Any, Any]]


class Targets:
    """Finds what is called for each attempt, and keeps the candidates that answer whole."""

    def __init__(self) -> None:
        self._whole: dict[int, tuple[Candidate, Candidate]] = {}

    def __reduce__(self) -> tuple[type[Targets], tuple[()]]:
        return Targets, ()  # ids are those of this process

    def of(
        self,
        candidates: Sequence[Candidate],
        kwargs: dict[str, Any],
        structured: Callable[[Candidate], Runnable[Any, Any]] | None,
    ) -> tuple[Target, dict[str, Any]]:
        """Return what is called for an attempt, and the keywords that remain for it.

        Args:
            candidates: As bound.
            kwargs: The call's keywords.
            structured: Returns a candidate's structured chain, for structured output.
        """
        if structured is not None:
            return (lambda step: structured(self._asked(candidates, step))), kwargs
        if not kwargs.get("tools"):
            return (lambda step: self._asked(candidates, step).model), kwargs
        tools, options, rest = split_tools(kwargs)
        return (lambda step: bind_late(self._asked(candidates, step).model, tools, options)), rest

    def _asked(self, candidates: Sequence[Candidate], step: Attempt) -> Candidate:
        """Return the candidate of an attempt; one that may be rejected answers whole."""
        candidate = candidates[step.index]
        if not step.held:
            return candidate
        known = self._whole.get(id(candidate.model))
        if known is None:
            known = candidate, with_whole_answers(candidate)  # both kept: ids of living objects
            self._whole[id(candidate.model)] = known
        return known[1]
