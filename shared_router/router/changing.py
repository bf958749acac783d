"""What turns one router into another: other costs, other models, one model more."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, cast

import numpy as np

from shared_router.data.costs import given_costs
from shared_router.data.dataset import check_candidate_names
from shared_router.errors import CandidateError, ConfigurationError, DataError
from shared_router.measuring.bootstrap import RESAMPLES
from shared_router.options import only_dial
from shared_router.records import joined_names
from shared_router.router import measured
from shared_router.router import transfer as transferring
from shared_router.serving.scorer import GraphScorer
from shared_router.support.extras import need
from shared_router.support.model_names import joined
from shared_router.support.names import check_name
from shared_router.training.added_column import add_column
from shared_router.training.fit import Reference, counter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared_router.data.dataset import RoutingDataset
    from shared_router.measuring.transfer import TransferReport
    from shared_router.router.router import Router
    from shared_router.training.added_column import Column
    from shared_router.training.fit import Progress


class Changing:
    """The part of a `Router` that makes other routers of it, and tells when that is worth it."""

    def with_costs(self, costs_usd: Mapping[str, float]) -> Router:
        """Weigh the candidates by other costs; a calibration is walked anew, nothing is scored.

        Args:
            costs_usd: Mean cost of one call in US dollars, one for each candidate.

        Raises:
            CandidateError: If one is missing, wrong, or greater than the reference's.
            NotCalibratedError: If the calibration is of an older version, which kept no scores.
        """
        router = cast("Router", self)
        return measured.with_costs(router, given_costs(router.candidates, costs_usd))

    def for_candidates(self, candidates: Sequence[str], *, name: str | None = None) -> Router:
        """Take the same scores for other models; calibrate the result with their outcomes.

        `transfer_report` tells whether that is worth it.

        Args:
            candidates: As many models as the router's own, by position, the reference last.
            name: The new router's name; the candidates joined by default.

        Returns:
            An uncalibrated router that knows no costs.

        Raises:
            CandidateError: If there are more or fewer, or one stands twice.
        """
        router = cast("Router", self)
        check_candidate_names(candidates)
        if len(candidates) != len(router.candidates):
            raise CandidateError(
                f"Router {router.name!r} scores for {len(router.candidates)} candidates "
                f"({', '.join(router.candidates)}); got {len(candidates)}."
            )
        training = router.facts.get("training")
        return dataclasses.replace(
            router,
            candidates=tuple(candidates),
            tiers=False,
            name=name or joined_names(candidates),
            aliases={name: known for name, known in router.aliases.items() if name in candidates},
            costs_usd=None,
            curve=None,
            task_curves=None,
            default_dial=None,
            reference=_without_gaps(router.reference),
            calibrated_ids=frozenset(),
            facts=_taken(router) if training else {},
        )

    def add_candidate(
        self,
        name: str,
        data: RoutingDataset,
        *,
        before: str | None = None,
        cost_usd: float | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Router:
        """Add one model, from its outcomes on a few hundred queries.

        A new column of scores is fitted on the frozen embeddings; all others stay as they are.

        Args:
            name: The new model.
            data: Queries with outcomes of it and of the reference; all of them are used.
            before: The candidate it stands before; the reference where `None`. The order counts
                where no costs are known.
            cost_usd: Mean cost of one of its calls; as the data measured it where `None`.
            seed: Seed of folds and landmarks.
            progress: Told of long work.

        Returns:
            The uncalibrated router of one candidate more.

        Raises:
            ConfigurationError: If the scorer is no graph.
            CandidateError: If the name is taken, `before` is none of the candidates, the model has
                no outcomes, or it is dearer than the reference.
            DataError: If no query has outcomes of both.
            LabelError: If nothing can be learned from the outcomes.
            MissingExtraError: If scipy or onnx is not installed.
        """
        router = cast("Router", self)
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
        return dataclasses.replace(grown, aliases=joined(router.aliases, told))

    def transfer_report(
        self,
        data: RoutingDataset,
        candidates: Sequence[str] | None = None,
        *,
        resamples: int = RESAMPLES,
        progress: Progress | None = None,
        **dial: float,
    ) -> TransferReport:
        """Tell whether this router can serve other models: reuse, recalibrate or retrain.

        Args:
            data: Queries with outcomes of the new models, a few hundred or more; where they have
                outcomes of the router's own models too, the quality gaps are correlated.
            candidates: The new models, by position, the reference last; all of the data's where
                `None`.
            resamples: Bootstrap resamples behind the intervals.
            progress: Told of long work.
            **dial: One dial; the router's own where none is given.

        Returns:
            The report, with its rule.

        Raises:
            CandidateError: If the new models are more or fewer than the router's.
            DataError: If there are too few queries that the router was not fitted on.
            NotCalibratedError: If the dial needs a calibration and there is none.

        Source: Hybrid LLM (Ding et al., ICLR 2024), section 4.5.
        """
        router = cast("Router", self)
        asked = only_dial(dial) or router.dial
        return transferring.report(router, data, candidates, asked, resamples, progress)


def _grown(
    router: Router,
    column: Column,
    names: tuple[str, ...],
    costs_usd: tuple[float | None, ...] | None,
    ids: frozenset[str],
) -> Router:
    """Make the router of one candidate more."""
    training = router.facts.get("training", {})
    unnamed = router.name == joined_names(router.candidates)
    grown = dataclasses.replace(
        router,
        candidates=names,
        name=joined_names(names) if unnamed else router.name,
        scorer=column.scorer,
        costs_usd=costs_usd,
        curve=None,
        task_curves=None,
        default_dial=None,
        reference=_without_gaps(router.reference, columns=len(names) - 1),
        fitted_ids=router.fitted_ids | ids,
        calibrated_ids=frozenset(),
        facts={"training": training | {"added": [*training.get("added", []), column.facts]}},
    )
    grown.rule  # noqa: B018  (refuses a candidate dearer than the reference)
    return grown


def _without_gaps(reference: Reference | None, columns: int | None = None) -> Reference | None:
    """Keep the embeddings, which the graph may need; the gaps are those of other models."""
    if reference is None:
        return None
    shape = (len(reference.gaps), columns or reference.gaps.shape[1])
    return dataclasses.replace(reference, gaps=np.full(shape, np.nan, dtype=np.float32))


def _position(router: Router, name: str, before: str | None) -> int:
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


def _taken(router: Router) -> dict[str, object]:
    """Keep what is known of the training, warnings of its card included."""
    kept = {name: router.facts[name] for name in ("training", "notes") if name in router.facts}
    return kept | {"taken_from": list(router.candidates)}


def _costs(
    router: Router, name: str, at: int, data: RoutingDataset, cost_usd: float | None
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
