"""What the parts of a router must be to one another, read from a folder or made by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shared_router.data.dataset import check_candidate_names
from shared_router.data.labels import LABEL_KINDS
from shared_router.deciding.checks import check_array, check_finite, is_finite
from shared_router.deciding.curve import resolve_dial
from shared_router.deciding.rule import savings_from_costs
from shared_router.errors import CandidateError, ConfigurationError
from shared_router.names import LONGEST_ROUTER_NAME, check_name, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared_router.deciding.curve import CalibrationCurve
    from shared_router.router import Router
    from shared_router.scoring.fitting import Reference


def check_router(router: Router) -> None:
    """Check a router's names, costs, calibration and default dial.

    Raises:
        CandidateError: If the candidates are too few, no names, or one is dearer than the
            reference.
        ConfigurationError: If something else breaks a rule.
    """
    check_candidate_names(router.candidates)
    check_name(router.name, "A router", ConfigurationError, LONGEST_ROUTER_NAME)
    _check_kinds(router)
    check_costs(router.costs_usd, router.candidates)
    _check_calibration(router)
    if router.default_dial is not None:
        resolve_dial(router.default_dial, router.curve)


def _check_kinds(router: Router) -> None:
    if router.labels not in LABEL_KINDS:
        raise ConfigurationError(
            f"labels is one of {', '.join(LABEL_KINDS)}; got {shown(router.labels)}."
        )
    if not isinstance(router.tiers, bool):
        raise ConfigurationError(f"tiers is True or False; got {shown(router.tiers)}.")
    for alias in (each for known in router.aliases.values() for each in known):
        check_name(alias, "An alias")
    if not isinstance(router.facts, dict):
        raise ConfigurationError(f"facts is a dict; got {shown(router.facts)}.")


def check_costs(costs_usd: Sequence[float | None] | None, names: Sequence[str]) -> None:
    """Check the mean costs of a call, one per candidate.

    Raises:
        CandidateError: If there are more or fewer, one is no amount, or a candidate is dearer than
            the reference.
    """
    if costs_usd is None:
        return
    if len(costs_usd) != len(names):
        raise CandidateError(
            f"costs_usd has a cost per candidate, {len(names)}; got {len(costs_usd)}."
        )
    for name, cost in zip(names, costs_usd, strict=True):
        if cost is not None and not (is_finite(cost) and cost >= 0):
            raise CandidateError(
                f"costs_usd of {name!r} is finite and at least 0, or None; got {shown(cost)}."
            )
    savings_from_costs(costs_usd, len(names), names)  # refuses one dearer than the reference


def _check_calibration(router: Router) -> None:
    whole, tasks = router.curve, router.task_curves
    if tasks is not None and whole is None:
        raise ConfigurationError("A calibration by task needs the one over all queries; got none.")
    if whole is None:
        return
    _check_width(whole, len(router.candidates))
    low, high = whole.quality_range
    for label, own in tasks.curves.items() if tasks is not None else ():
        _check_width(own, len(router.candidates))
        if own.quality_range[0] < low or own.quality_range[1] > high:
            raise ConfigurationError(
                f"The quality_range of task {shown(label)} lies within that of all tasks, {low:g} "
                f"to {high:g}; got {shown(own.quality_range)}."
            )


def _check_width(curve: CalibrationCurve, k: int) -> None:
    if curve.outcomes is not None and curve.outcomes.shape[1] != k:
        raise ConfigurationError(
            f"A calibration's outcomes have a column per candidate, {k}; got "
            f"{curve.outcomes.shape[1]}."
        )


def check_reference(reference: Reference, k: int) -> None:
    """Check what a router of k candidates remembers of its training.

    Raises:
        ConfigurationError: If the arrays do not belong together, or hold no finite numbers. Gaps
            may all be NaN, as where they were those of other models.
    """
    owner, (embeddings, gaps) = "A reference", (reference.embeddings, reference.gaps)
    check_array("embeddings", embeddings, 2, owner)
    check_array("gaps", gaps, 2, owner)
    check_finite("embeddings", embeddings, owner)
    if not embeddings.size:
        raise ConfigurationError(f"{owner} has at least one embedding; got {embeddings.shape}.")
    if gaps.shape != (len(embeddings), k - 1):
        raise ConfigurationError(
            f"A reference's gaps have a row per embedding and a column per candidate but the last, "
            f"{(len(embeddings), k - 1)}; got {gaps.shape}."
        )
    if not np.isnan(gaps).all():
        check_finite("gaps", gaps, owner)
