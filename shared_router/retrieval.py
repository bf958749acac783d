"""Facts of a retrieval: numbers that a router may see beside the question, and no text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from collections.abc import Iterable

CHARACTERS_PER_TOKEN = 4
"""A rough rule, where no tokenizer counts."""
RETRIEVAL_NAMES = ("nodes", "top_score", "score_gap", "log_context_tokens")
"""Names of the columns that a router sees, in their order."""
MOST = 10**9

RetrievalSource = Literal["given", "span", "missing"]
"""Who told the facts: the call, or the spans around it (`track_queries`). `missing`: nobody, so
that the router took the means of its training data."""


def _number(value: object) -> object:
    if isinstance(value, bool | str | bytes):
        raise ValueError("Input should be a number, neither text nor true or false")
    return value


_Finite = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
_Count = Annotated[int, BeforeValidator(_number), Field(ge=0, le=MOST)]


class RetrievalFacts(BaseModel):
    """What was retrieved for one question, in numbers.

    Tell the same kind of scores when a router is fitted and when it serves: a cosine and a rank
    fusion's score are no one scale.

    Raises:
        pydantic.ValidationError: If a number is not finite, a count is below 0, or the second
            score is above the top score.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    nodes: _Count
    """Nodes (documents, chunks) in the context."""
    top_score: _Finite | None = None
    """The best of their scores, higher = nearer; `None` where the retriever gives none."""
    second_score: _Finite | None = None
    """The next best; `None` where there is none."""
    context_tokens: _Count
    """Tokens of their text; an estimate will do, the same in training and serving."""

    @model_validator(mode="after")
    def _in_order(self) -> RetrievalFacts:
        second, top = self.second_score, self.top_score
        if second is not None and (top is None or second > top):
            raise ValueError(f"second_score is at most top_score; got {second} and {top}")
        return self

    @classmethod
    def of(
        cls,
        scores: Iterable[float | None],
        texts: Iterable[str] = (),
        *,
        context_tokens: int | None = None,
    ) -> RetrievalFacts:
        """Make the facts of nodes or documents.

        Args:
            scores: One score per node, in any order, higher = nearer; `None` for a node without, as
                is one that is not finite.
            texts: Their texts as the prompt shows them; only their lengths are kept.
            context_tokens: Tokens of the texts; where `None` a token is taken for four
                characters.
        """
        all_scores = list(scores)
        known = sorted(
            (float(score) for score in all_scores if score is not None and math.isfinite(score)),
            reverse=True,
        )
        if context_tokens is None:
            context_tokens = sum(map(len, texts)) // CHARACTERS_PER_TOKEN
        return cls(
            nodes=len(all_scores),
            top_score=known[0] if known else None,
            second_score=known[1] if len(known) > 1 else None,
            context_tokens=context_tokens,
        )

    def columns(self) -> tuple[float | None, ...]:
        """Lay the facts out as `RETRIEVAL_NAMES` says; `None` where one is not known.

        A lone node leads no other, so that its gap is 0.
        """
        gap = None
        if self.top_score is not None:
            gap = 0.0 if self.second_score is None else self.top_score - self.second_score
        return (float(self.nodes), self.top_score, gap, math.log1p(self.context_tokens))
