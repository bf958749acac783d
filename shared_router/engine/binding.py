"""Binding models to a router: by position, and by their prices where it knows no costs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from shared_router.data.costs import typical_costs
from shared_router.deciding.rule import savings_from_costs
from shared_router.errors import CandidateError
from shared_router.router.router import Router
from shared_router.support.model_names import fit, places

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from shared_router.records import Candidate
    from shared_router.router.state import RouterState


def as_router(router: Router | str | os.PathLike[str]) -> Router:
    """Take a router, or read one by folder or hub name."""
    return router if isinstance(router, Router) else Router.from_pretrained(cast("str", router))


def check_binding(router: RouterState, candidates: Sequence[Candidate]) -> None:
    """Check that as many models are bound as the router chooses between.

    Raises:
        CandidateError: If not.
    """
    if len(candidates) != len(router.candidates):
        raise CandidateError(
            f"Router {router.name!r} chooses between {len(router.candidates)} candidates "
            f"({', '.join(router.candidates)}); {len(candidates)} models are given. Bind one model "
            "per candidate, in that order."
        )


def other_models(router: RouterState, candidates: Sequence[Candidate]) -> list[str]:
    """List the bound models that are not those the router knows, by all names told of both.

    Raises:
        CandidateError: If they are those, in another order.
    """
    bound = [(candidate.name, *candidate.aliases) for candidate in candidates]
    known = [(name, *router.aliases.get(name, ())) for name in router.candidates]
    order = places(bound, known)
    own = list(range(len(known)))
    if order != own and sorted(at for at in order if at is not None) == own:
        raise CandidateError(
            f"The models are bound in another order ({', '.join(c.name for c in candidates)}) than "
            f"the router was trained for ({', '.join(router.candidates)}, the reference last): "
            "swap them."
        )
    return [
        f"{_shown(given)} for {_shown(names)}"
        for given, names, at, position in zip(bound, known, order, own, strict=True)
        if at != position
    ]


def _shown(names: Sequence[str]) -> str:
    name, *aliases = names
    return f"{name!r}" + (f" ({', '.join(aliases)})" if aliases else "")


def renamed(router: RouterState, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Let each model answer to the router's name of its position too, as `route=` may call it.

    It answers to the aliases where it is that model. A name that is a bound model's own stays with
    that one.
    """
    taken = {name for candidate in candidates for name in (candidate.name, *candidate.aliases)}

    def with_names(candidate: Candidate, name: str) -> Candidate:
        known = (name, *router.aliases.get(name, ()))
        if not fit((candidate.name, *candidate.aliases), known):
            known = (name,)
        more = [each for each in known if each not in taken]
        return replace(candidate, aliases=(*candidate.aliases, *more)) if more else candidate

    return tuple(map(with_names, candidates, router.candidates))


def priced(router: Router, candidates: Sequence[Candidate]) -> Router:
    """Weigh the candidates by the bound models' prices, where the router knows no costs.

    Args:
        router: The router.
        candidates: The bound models, by position.

    Returns:
        The router; with the costs of a typical call where it knew none and every model has
        prices.

    Raises:
        CandidateError: If a model is dearer than the reference, or if there are three or more
            and some alone have prices, while the router knows no costs.
        NotCalibratedError: If its calibration is of an older version, which kept no scores.
    """
    if router.costs_usd is not None and None not in router.costs_usd:
        return router
    costs = typical_costs(candidates)
    unpriced = [c.name for c, cost in zip(candidates, costs, strict=True) if cost is None]
    if not unpriced:
        savings_from_costs(costs, len(costs), [candidate.name for candidate in candidates])
        known = cast("tuple[float, ...]", costs)
        return router.with_costs(dict(zip(router.candidates, known, strict=True)))
    if len(costs) > 2 and len(unpriced) < len(costs):
        raise CandidateError(
            f"Router {router.name!r} knows no costs, so that the models' prices weigh them: give "
            f"both prices of {', '.join(map(repr, unpriced))} too, or of none."
        )
    return router
