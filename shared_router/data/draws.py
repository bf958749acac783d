"""One recorded answer a query and candidate: score and quality are of the very same sample."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from shared_router.data.dataset import RoutingDataset

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared_router.data.schema import Outcome, RoutingRecord
    from shared_router.records import AnswerSettings


def have_answers(data: RoutingDataset, names: Sequence[str]) -> bool:
    """Tell whether every outcome of these models has its responses."""
    return all(record.outcomes[name].response is not None for record in data for name in names)


def drawn(data: RoutingDataset, names: Sequence[str]) -> RoutingDataset:
    """Keep one sample of each of these models' outcomes, chosen by the query's id alone.

    A mean over samples would be the quality of no answer: what is looked at is one.

    Args:
        data: Records in which each of the models has an outcome with responses.
        names: The models; other outcomes stay as they are.
    """
    records = (_drawn(record, names) for record in data)
    return RoutingDataset(tuple(records), data.name)


def _drawn(record: RoutingRecord, names: Sequence[str]) -> RoutingRecord:
    own = {name: _one(record.outcomes[name], f"{record.id}\0{name}") for name in names}
    return record.model_copy(update={"outcomes": record.outcomes | own})


def _one(outcome: Outcome, key: str) -> Outcome:
    if len(outcome.quality) == 1:
        return outcome
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    at = int.from_bytes(digest, "big") % len(outcome.quality)
    kept = {
        "quality": (outcome.quality[at],),
        "response": None if outcome.response is None else (outcome.response[at],),
        "logprobs": None if outcome.logprobs is None else (outcome.logprobs[at],),
    }
    return outcome.model_copy(update=kept)


def logprobs_of(outcome: Outcome) -> tuple[float, ...] | None:
    """Return the log-probabilities of the one response of an outcome; `None` where it has none."""
    return (outcome.logprobs[0] or None) if outcome.logprobs else None


def common_settings(data: RoutingDataset, names: Sequence[str]) -> AnswerSettings | None:
    """Return how all answers of these models were made; `None` where unknown, or not alike."""
    found = {record.outcomes[name].settings for record in data for name in names}
    first = next(iter(found), None)
    if first is None or any(each is None or not each.alike(first) for each in found):
        return None
    return first.model_copy(update={"model": None})
