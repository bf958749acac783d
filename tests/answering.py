"""Data with recorded answers: what the small model said, how sure it was, and whether it was right.

The query tells little of whether the small model is right; its answer tells nearly all, or nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.data.dataset import RoutingDataset
from shared_router.data.schema import Outcome, RoutingRecord
from shared_router.records import AnswerSettings
from tests.material import EASY, EXTRAS, HARD, dataset

if TYPE_CHECKING:
    from collections.abc import Callable

CHEAP_USD, DEAR_USD = 0.01, 0.1
SETTINGS = AnswerSettings(model="small-v1", temperature=0.7, max_tokens=64, logprobs=True)
SURE = ("It is {}.", "The answer is {}.")
UNSURE = ("Perhaps it is {}, I am not sure.", "It might be {}?")
RIGHT = 0.6
"""Share of the queries on which the small model is right."""


def answered(
    n: int,
    *,
    split: str = "train",
    seed: int = 0,
    tells: bool = True,
    samples: int = 1,
    task: str | None = None,
) -> RoutingDataset:
    """Make queries with recorded answers of the small model.

    Args:
        n: How many.
        split: Their split.
        seed: Of the draws.
        tells: Whether an answer tells if it is right; else its words and its log-probabilities have
            nothing to do with that.
        samples: Answers a query, each right by itself.
        task: Their task.
    """
    rng = np.random.default_rng(seed)
    records = []
    for at in range(n):
        words = [str(rng.choice((*EASY, *HARD))), *rng.choice(EXTRAS, 3), f"no. {at}"]
        small = sampled(rng, samples, right=RIGHT, tells=tells, cost_usd=CHEAP_USD)
        large = Outcome(quality=(float(rng.random() < 0.95),), cost_usd=DEAR_USD)
        records.append(
            RoutingRecord(
                id=f"{split}-{seed}-{at}",
                query=" ".join(map(str, words)),
                split=split,
                task=task,
                outcomes={"small": small, "large": large},
            )
        )
    return dataset(*records, name=f"answered-{split}")


def sampled(
    rng: np.random.Generator, samples: int, *, right: float, tells: bool, cost_usd: float
) -> Outcome:
    """Draw a model's answers to one query."""
    quality = tuple(float(rng.random() < right) for _ in range(samples))
    looks = [bool(own) if tells else bool(rng.random() < right) for own in quality]
    responses = tuple(str(rng.choice(SURE if own else UNSURE)).format(7) for own in looks)
    logprobs = tuple(tuple((-rng.exponential(0.05 if own else 1.0, 6)).tolist()) for own in looks)
    return Outcome(
        quality=quality,
        response=responses,
        logprobs=logprobs,
        cost_usd=cost_usd,
        settings=SETTINGS,
    )


def changed(
    data: RoutingDataset, change: Callable[[int, Outcome], dict[str, Any]], name: str = "small"
) -> RoutingDataset:
    """Change the outcomes of one model.

    Args:
        data: The queries.
        change: Of a query's place and outcome, the fields that become others.
        name: The model.
    """

    def one(at: int, record: RoutingRecord) -> RoutingRecord:
        own = record.outcomes[name]
        fields = {key: getattr(own, key) for key in Outcome.model_fields}
        made = Outcome(**(fields | change(at, own)))
        return record.model_copy(update={"outcomes": record.outcomes | {name: made}})

    return RoutingDataset(tuple(one(at, each) for at, each in enumerate(data)), data.name)


def three_answered(n: int, *, split: str = "train", seed: int = 0) -> RoutingDataset:
    """Make queries of three models, two of which have recorded answers."""
    rng = np.random.default_rng(seed + 10)
    records = []
    for record in answered(n, split=split, seed=seed):
        outcomes = {
            "nano": sampled(rng, 1, right=0.5, tells=True, cost_usd=0.005),
            "mini": sampled(rng, 1, right=0.75, tells=True, cost_usd=0.03),
            "maxi": record.outcomes["large"],
        }
        records.append(record.model_copy(update={"outcomes": outcomes}))
    return dataset(*records, name=f"three-answered-{split}")
