"""How the bundled router ranks sources it was not fitted on, and those it was, beside baselines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cookbook.bundled.head import fit_head
from shared_router.deciding.rule import Rule
from shared_router.deciding.walk import Walk
from shared_router.measuring.baselines import baseline_walks
from shared_router.measuring.bootstrap import interval, paired_difference, resampled_figures
from shared_router.measuring.metrics import trade_off
from shared_router.training.neighbours import neighbour_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from cookbook.bundled.pool import Pool
    from shared_router import Router
    from shared_router.options import Dial

SAVINGS = np.array([1.0, 0.0])
APGR = "apgr"
AT_DROP = "cost_advantage_at_drop@0.01"


@dataclass(frozen=True)
class Figures:
    """One source's figures, by router and baseline."""

    source: str
    how: str
    """`left out`: the router was fitted on the other sources alone; `in domain`: on all sources'
    training questions, and measured on this one's validation questions."""
    n: int
    apgr: dict[str, tuple[float, tuple[float, float]]]
    """Value and 95 % interval, by name."""
    lead_over_length: tuple[float, float]
    """Paired 95 % interval of the router's APGR less length's."""
    cost_advantage: float
    """At a drop of 1 %."""


def left_out(pool: Pool) -> Iterator[Figures]:
    """Measure every source by routers fitted on the training questions of the others alone.

    A question that stands in both is left out of the training.
    """
    train = pool.splits == "train"
    texts = np.array([_normal(query) for query in pool.queries])
    for source in np.unique(pool.sources):
        inside = pool.sources == source
        others = train & ~inside & ~np.isin(texts, texts[inside])
        yield _figures(source, "left out", pool.take(others), pool.take(inside))


def in_domain(pool: Pool) -> Iterator[Figures]:
    """Measure every source's validation questions by a router fitted on all training ones."""
    train = pool.take(pool.splits == "train")
    for source in np.unique(pool.sources):
        rows = (pool.sources == source) & (pool.splits == "validation")
        yield _figures(source, "in domain", train, pool.take(rows))


@dataclass(frozen=True)
class AtDial:
    """What a stored dial gives on one source's questions."""

    source: str
    dial: str
    n: int
    cost_advantage: float
    drop: float
    """Relative to the frontier's quality."""


def at_dials(router: Router, pool: Pool, dials: Sequence[Dial]) -> Iterator[AtDial]:
    """Measure stored dials, as they serve, on every source that measured a frontier model."""
    for source in np.unique(pool.sources[pool.known]):
        rows = pool.take((pool.sources == source) & pool.known)
        scores = router.score(list(rows.queries))[:, 0]
        for dial in dials:
            small = scores >= router.threshold_of(confidence="estimate", **{dial.name: dial.value})
            routed = np.where(small, rows.small, rows.frontier).mean()
            reference = rows.frontier.mean()
            yield AtDial(
                str(source),
                f"{dial.name}={dial.value:g}",
                len(rows),
                float(small.mean()),
                float((reference - routed) / reference),
            )


def on_chat(pool: Pool, chat: Pool) -> Figures:
    """Measure open-ended instructions by a router fitted on all training questions."""
    return _figures("alpaca_eval", "left out", pool.take(pool.splits == "train"), chat)


def _figures(source: str, how: str, train: Pool, test: Pool) -> Figures:
    quality = _quality(test)
    gaps = train.small - np.where(train.known, train.frontier, train.frontier[train.known].mean())
    near = neighbour_mean(test.embeddings, train.embeddings, gaps[:, None])
    rule, queries = Rule("gap", SAVINGS), list(test.queries)
    scores = fit_head(train).predict(test.embeddings, test.features)
    walks = {"router": Walk(rule, scores, quality)}
    walks |= baseline_walks(queries, quality, SAVINGS, near)
    samples = resampled_figures(walks, len(test), 500)
    found = {name: trade_off(walk).figures() for name, walk in walks.items()}
    apgr = {
        name: (figures[APGR], interval([sample[APGR] for sample in samples[name]]))
        for name, figures in found.items()
    }
    lead = paired_difference(samples["router"], samples["query_length"], APGR)
    return Figures(source, how, len(test), apgr, lead, found["router"][AT_DROP])  # type: ignore[arg-type]


def _quality(pool: Pool) -> NDArray[np.float64]:
    """Return the qualities of both tiers; a frontier that was not measured is always right."""
    return np.stack([pool.small, np.where(pool.known, pool.frontier, 1.0)], axis=1)


def _normal(query: str) -> str:
    return re.sub(r"\W+", " ", query.lower()).strip()
