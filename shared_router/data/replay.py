"""Recorded answers, played back: a chain runs and is measured offline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared_router.errors import DataError
from shared_router.records import Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared_router.data.dataset import RoutingDataset
    from shared_router.data.schema import Outcome

CHARACTERS_PER_TOKEN = 4
"""Recorded answers hold no token counts; usage is estimated."""


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """One recorded answer."""

    id: str
    """The record's id."""
    text: str
    """The recorded response; where only its quality was recorded, a note of that."""
    quality: float
    """Mean quality of the record's samples."""
    cost_usd: float | None
    """Cost of one call in US dollars, where it was recorded."""
    usage: Usage
    """Estimated tokens."""

    @property
    def facts(self) -> dict[str, Any]:
        """What is known of the answer beside its text."""
        return {"id": self.id, "quality": self.quality, "cost_usd": self.cost_usd}


class Recording:
    """What one model answered to the queries of a data set.

    The recorded query is found by its exact text: the whole of the last message that holds one,
    else the longest recorded query that stands inside the messages, as in a RAG prompt.

    Args:
        data: The records.
        model: Whose answers.

    Raises:
        DataError: If the data set has no outcomes of the model.
    """

    def __init__(self, data: RoutingDataset, model: str) -> None:
        self.data, self.model = data, model
        self._by_query: dict[str, tuple[str, Outcome]] = {
            record.query.strip(): (record.id, record.outcomes[model])
            for record in data
            if model in record.outcomes
        }
        if not self._by_query:
            raise DataError(f"{data.name}: no outcomes of {model!r} to replay.")

    def answer(self, messages: Sequence[str], sample: int = 0) -> Replayed:
        """Answer messages.

        Args:
            messages: Their texts, in order.
            sample: Which of the recorded samples.

        Raises:
            DataError: If no recorded query stands in them.
        """
        id_, outcome = self._find([text.strip() for text in messages])
        text = _response(outcome, sample)
        return Replayed(
            id=id_,
            text=text,
            quality=outcome.mean_quality,
            cost_usd=outcome.cost_usd,
            usage=Usage(
                input_tokens=sum(map(len, messages)) // CHARACTERS_PER_TOKEN + 1,
                output_tokens=len(text) // CHARACTERS_PER_TOKEN + 1,
            ),
        )

    def _find(self, texts: Sequence[str]) -> tuple[str, Outcome]:
        for text in reversed(texts):
            if text in self._by_query:
                return self._by_query[text]
        whole = "\n".join(texts)
        inside = [query for query in self._by_query if query and query in whole]
        if not inside:
            raise DataError(
                f"{self.data.name}: none of its recorded queries stands in these messages; "
                f"{self.model!r} can only replay what it was asked."
            )
        return self._by_query[max(inside, key=len)]


def _response(outcome: Outcome, sample: int) -> str:
    if outcome.response is None:
        return f"(no recorded text; quality {outcome.mean_quality:g})"
    return outcome.response[sample % len(outcome.response)]
