"""What only some candidates understand of a call: it goes to those, or is refused beforehand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared_router.deciding.guards import position_of
from shared_router.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared_router.records import Candidate


def check_understood(
    unable: Mapping[int, str], candidates: Sequence[Candidate], route: str | None
) -> None:
    """Refuse a call that no candidate understands whole, or not the one that it is forced to.

    Args:
        unable: By position, what a candidate does not understand.
        candidates: All candidates.
        route: The candidate that the call is forced to, if it is.

    Raises:
        ConfigurationError: If it is so; no model has been asked.
        CandidateError: If `route` names no candidate.
    """
    asked = range(len(candidates)) if route is None else [position_of(route, candidates)]
    if not unable or any(at not in unable for at in asked):
        return
    told = "; ".join(f"{candidates[at].name!r} not {unable[at]}" for at in asked)
    raise ConfigurationError(
        f"What a call brings goes only to models that understand it, and none does here: {told}. "
        "Bind it to the model it is meant for, as in Candidate(name, model.bind(...))."
    )
