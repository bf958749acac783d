"""What turns one router into another: other costs, other models, one model more."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from shared_router.data.costs import given_costs
from shared_router.errors import CandidateError, ConfigurationError, DataError
from shared_router.records import joined_names
from shared_router.router.state import RouterState
from shared_router.serving.scorer import GraphScorer
from shared_router.support.extras import need
from shared_router.support.model_names import joined
from shared_router.support.names import check_candidate_names, check_name
from shared_router.support.progress import counter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared_router.data.dataset import RoutingDataset
    from shared_router.serving.memory import TrainMemory
    from shared_router.support.progress import Progress
    from shared_router.training.added_column import Column

R = TypeVar("R", bound=RouterState)


def with_costs(router: R, costs_usd: Mapping[str, float]) -> R:
    """Weigh the candidates by other costs; see `Router.with_costs`."""
    priced = replace(router, costs_usd=given_costs(router.candidates, costs_usd))
    curve, tasks = router.curve, router.task_curves
    if curve is None or np.array_equal(priced.rule.savings, router.rule.savings):
        return priced
    walked = tasks and replace(
        tasks, curves={name: own.under(priced.rule) for name, own in tasks.curves.items()}
    )
    looks = router.second_look and replace(router.second_look, line=None)  # followed at its costs
    return replace(priced, curve=curve.under(priced.rule), task_curves=walked, second_look=looks)


def for_candidates(router: R, candidates: Sequence[str], name: str | None) -> R:
    """Take the same scores for other models; see `Router.for_candidates`."""
    check_candidate_names(candidates)
    if len(candidates) != len(router.candidates):
        raise CandidateError(
            f"Router {router.name!r} scores for {len(router.candidates)} candidates "
            f"({', '.join(router.candidates)}); got {len(candidates)}."
        )
    training = router.facts.get("training")
    return replace(
        router,
        candidates=tuple(candidates),
        tiers=False,
        name=name or joined_names(candidates),
        aliases={name: known for name, known in router.aliases.items() if name in candidates},
        costs_usd=None,
        curve=None,
        task_curves=None,
        promises=None,
        out_of_fold=None,
        probes=None,
        second_look=None,
        default_dial=None,
        train_memory=_without_gaps(router.train_memory),
        calibrated_ids=frozenset(),
        facts=_taken(router) if training else {},
    )


def add_candidate(
    router: R,
    name: str,
    data: RoutingDataset,
    *,
    before: str | None,
    cost_usd: float | None,
    seed: int,
    progress: Progress | None,
) -> R:
    """Add one model; see `Router.add_candidate`."""
    from shared_router.training.added_column import add_column

    scorer = router.scorer
    if not isinstance(scorer, GraphScorer):
        raise ConfigurationError(
            "A candidate is added to a fitted router; this one scores with a "
            f"{type(scorer).__name__}."
        )
    need("Adding a candidate", "train", "scipy", "onnx")
    if not data.records:
        raise DataError(f"{data.name}: empty; a candidate is added from its outcomes.")
    at = _position(router, name, before)
    names = (*router.candidates[:at], name, *router.candidates[at:])
    complete = data.candidates([name, router.candidates[-1]])
    costs = _costs(router, name, at, complete, cost_usd)
    column = add_column(
        scorer,
        complete,
        name,
        router.candidates[-1],
        router.labels,
        at,
        seed=seed,
        progress=counter(progress, "score", len(complete)),
    )
    grown = _grown(router, column, names, costs, frozenset(complete.ids))
    told = complete.aliases([name, router.candidates[-1]])
    return replace(grown, aliases=joined(router.aliases, told))


def _grown(
    router: R,
    column: Column,
    names: tuple[str, ...],
    costs_usd: tuple[float | None, ...] | None,
    ids: frozenset[str],
) -> R:
    """Make the router of one candidate more."""
    training = router.facts.get("training", {})
    unnamed = router.name == joined_names(router.candidates)
    grown = replace(
        router,
        candidates=names,
        name=joined_names(names) if unnamed else router.name,
        scorer=column.scorer,
        costs_usd=costs_usd,
        curve=None,
        task_curves=None,
        promises=None,
        out_of_fold=None,
        probes=None,
        second_look=None,
        default_dial=None,
        train_memory=_without_gaps(router.train_memory, columns=len(names) - 1),
        fitted_ids=router.fitted_ids | ids,
        calibrated_ids=frozenset(),
        facts={"training": training | {"added": [*training.get("added", []), column.facts]}},
    )
    grown.rule  # noqa: B018  (refuses a candidate dearer than the reference)
    return grown


def _without_gaps(memory: TrainMemory | None, columns: int | None = None) -> TrainMemory | None:
    """Keep the embeddings, which the graph may need; the gaps are those of other models."""
    if memory is None:
        return None
    shape = (len(memory.gaps), columns or memory.gaps.shape[1])
    return replace(memory, gaps=np.full(shape, np.nan, dtype=np.float32))


def _position(router: RouterState, name: str, before: str | None) -> int:
    check_name(name)
    if name in router.candidates:
        raise CandidateError(f"Router {router.name!r} has a candidate {name!r} already.")
    if before is None:
        return len(router.candidates) - 1
    if before not in router.candidates:
        raise CandidateError(
            f"before={before!r} names no candidate; there are {', '.join(router.candidates)}."
        )
    return router.candidates.index(before)


def _taken(router: RouterState) -> dict[str, object]:
    """Keep what is known of the training, warnings of its card included."""
    kept = {name: router.facts[name] for name in ("training", "notes") if name in router.facts}
    return kept | {"taken_from": list(router.candidates)}


def _costs(
    router: RouterState, name: str, at: int, data: RoutingDataset, cost_usd: float | None
) -> tuple[float | None, ...] | None:
    """Put the new candidate's cost among those known; unknown as a whole where they are."""
    known = router.costs_usd
    if cost_usd is not None:
        given_costs([name], {name: cost_usd})
    if known is None or None in known:
        if cost_usd is not None:
            raise CandidateError(
                f"Router {router.name!r} knows no costs, so that one of {name!r} alone has no "
                "meaning: leave cost_usd out, and give all costs at once by with_costs(...)."
            )
        return None
    (measured_usd,) = data.mean_costs_usd([name])
    cost = measured_usd if cost_usd is None else float(cost_usd)
    if cost is None:
        raise CandidateError(
            f"{data.name} has no costs of {name!r}, and router {router.name!r} weighs its "
            "candidates by cost: give cost_usd=, the mean cost of one of its calls."
        )
    return (*known[:at], cost, *known[at:])
