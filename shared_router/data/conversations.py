"""Measured conversations: one label each, and how to tell turns that nobody named as one.

Where a conversation keeps the model it began with, what can be exchanged is the conversation: its
turns share one decision, made on its opening, and a loss that they have in common.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from shared_router.data.dataset import RoutingDataset
from shared_router.data.schema import Outcome, RoutingRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LEAST_SHARED = 200
"""Characters that two queries begin with in common, for them to be taken for turns of one
conversation; and half of the shorter one."""
MOST_TURNS = 50
"""Queries that begin alike; more of them have a template in common and no conversation."""
MOST_SHARING = 0.2
"""Share of queries that begin alike, above which they are no single questions: of sets of single
questions 0 to 5 % do, of turns with those before them four fifths."""


def names_conversations(data: RoutingDataset) -> bool:
    """Tell whether some records name the conversation that they are a turn of."""
    return any(record.conversation is not None for record in data)


def by_conversation(data: RoutingDataset) -> RoutingDataset:
    """Make one record of each conversation: its opening, and the mean outcomes of its turns.

    Args:
        data: Turns in their order; a record that names no conversation is one by itself.

    Returns:
        The conversations; the same data where none is named.
    """
    if not names_conversations(data):
        return data
    turns: dict[tuple[str, str], list[RoutingRecord]] = {}
    for record in data:
        key = ("", record.id) if record.conversation is None else ("named", record.conversation)
        turns.setdefault(key, []).append(record)
    return RoutingDataset(tuple(map(_conversation, turns.values())), data.name)


def _conversation(turns: Sequence[RoutingRecord]) -> RoutingRecord:
    opening = turns[0]
    if len(turns) == 1:
        return opening
    names = [name for name in opening.outcomes if all(name in turn.outcomes for turn in turns)]
    outcomes = {name: _mean([turn.outcomes[name] for turn in turns]) for name in names}
    return opening.model_copy(update={"outcomes": outcomes})


def _mean(outcomes: Sequence[Outcome]) -> Outcome:
    costs = [each.cost_usd for each in outcomes if each.cost_usd is not None]
    return Outcome(
        quality=(_average(each.mean_quality for each in outcomes),),
        cost_usd=_average(costs) if len(costs) == len(outcomes) else None,
        aliases=outcomes[0].aliases,
    )


def _average(values: Iterable[float]) -> float:
    every = list(values)
    return math.fsum(every) / len(every)


def sharing_a_beginning(queries: Iterable[str]) -> float:
    """Return the share of queries that begin as another one does, as turns of a conversation do.

    Args:
        queries: Texts; the same text twice counts once.
    """
    ordered = sorted(set(queries))
    alike, run = 0, 1
    for text, following in pairwise([*ordered, ""]):
        if _begin_alike(text, following):
            run += 1
            continue
        alike += run if 1 < run <= MOST_TURNS else 0
        run = 1
    return alike / len(ordered) if ordered else 0.0


def _begin_alike(one: str, other: str) -> bool:
    shorter = min(len(one), len(other))
    least = max(LEAST_SHARED, math.ceil(shorter / 2))
    return shorter >= least and one[:least] == other[:least]
