"""Calibrating a router: quality and cost along its line, on queries it has not seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from shared_router.data.costs import given_costs
from shared_router.data.draws import have_answers
from shared_router.deciding.by_task import BY_TASK
from shared_router.deciding.curve import CalibrationCurve, calibration_curve
from shared_router.deciding.walk import one_sign
from shared_router.errors import ConfigurationError, DataError
from shared_router.options import Dial
from shared_router.router.looking import calibrate_looks, why_no_line
from shared_router.router.promising import Promising, promises_of
from shared_router.router.queries import finite, known_retrieval, unseen
from shared_router.router.state import RouterState
from shared_router.router.task_scores import score_by_task, task_curves
from shared_router.serving.probes import probe
from shared_router.support.model_names import joined

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from shared_router.data.dataset import RoutingDataset
    from shared_router.deciding.by_task import ByTask, TaskCurves
    from shared_router.deciding.settings import Promises
    from shared_router.serving.second_look import SecondLook
    from shared_router.support.progress import Progress

R = TypeVar("R", bound=RouterState)

HALF = 0.5
"""Share of the error that each of two lines has that both may serve."""
ONLY_LOOKS = "told that the line with looks serves"
LEAST_CALIBRATION = 2
"""Fewest queries a calibration can be made of."""
DEFAULT_DROP, DROP_OF_MANY, MANY = 0.05, 0.02, 1000
"""The stored default: 5 %, and 2 % from a thousand calibration queries on."""


def calibrate(
    router: R,
    data: RoutingDataset,
    *,
    default: Dial | None,
    by_task: ByTask,
    least_per_task: int,
    costs_usd: Mapping[str, float] | None,
    quality_bounds: tuple[float, float] | None,
    second_look: bool | None,
    progress: Progress | None,
) -> R:
    """Calibrate a router; see `Router.calibrate`."""
    priced = _with_costs_of(router, data, costs_usd)
    asked = _AskedFor(by_task, least_per_task, quality_bounds, second_look)
    found = _calibration(priced, data, asked, progress)
    dial = default or _default_dial(found.curve)
    found.curve.resolve(dial)
    return replace(
        priced,
        curve=found.curve,
        task_curves=found.tasks,
        promises=found.promising.promises,
        second_look=found.second_look,
        probes=probe(router.scorer, found.scores),
        default_dial=dial,
        aliases=joined(router.aliases, found.data.aliases(router.candidates)),
        calibrated_ids=frozenset(found.data.ids),
        facts=router.facts | {"calibration": _facts(found)},
    )


@dataclass(frozen=True)
class _Calibrated:
    """What a calibration found."""

    curve: CalibrationCurve
    """Over all queries, scored without labels."""
    tasks: TaskCurves | None
    """Over the queries of each task with enough of them; `None` where none is named, or asked."""
    data: RoutingDataset
    """The queries."""
    scores: NDArray[np.floating]
    """Their scores without labels, shape (n, k - 1)."""
    promising: Promising
    """What can be promised without looks."""
    second_look: SecondLook | None
    """With its own line, where that was calibrated."""
    looks_promising: Promising
    """What can be promised with looks."""


@dataclass(frozen=True)
class _AskedFor:
    """How a calibration is asked for."""

    by_task: ByTask
    least_per_task: int
    quality_bounds: tuple[float, float] | None
    second_look: bool | None


def _calibration(
    router: RouterState, data: RoutingDataset, asked: _AskedFor, progress: Progress | None
) -> _Calibrated:
    """Measure a router's line, and the one with looks where it has one."""
    by_task, least = asked.by_task, asked.least_per_task
    complete = _complete(router, data, asked)
    known = [record.task for record in complete]
    facts = known_retrieval(router, complete)
    seen = score_by_task(router, complete.queries, known, by_task, progress, facts)
    finite(seen.plain, complete.name)
    quality = complete.quality(router.candidates)
    curve = calibration_curve(router.rule, seen.plain, quality)
    curves = task_curves(router.rule, seen, quality, by_task, least)
    bounds, look = asked.quality_bounds, _look(router, complete)
    why = why_no_line(router, complete, asked.second_look)
    share = HALF if why is None and asked.second_look is None else 1.0
    promising = Promising(None, ONLY_LOOKS)
    if why is not None or asked.second_look is None:
        promising = promises_of(router, complete, seen, bounds, look, share)
    looks = router.second_look and replace(router.second_look, line=None)
    with_looks = Promising(None, why)
    if why is None:
        made = calibrate_looks(
            router, complete, seen, by_task, least, bounds, look, share, progress
        )
        looks, with_looks = made.second_look, made.promising
    return _Calibrated(curve, curves, complete, seen.plain, promising, looks, with_looks)


def _complete(router: RouterState, data: RoutingDataset, asked: _AskedFor) -> RoutingDataset:
    """Check what a calibration is asked for, and keep its queries."""
    if asked.by_task not in BY_TASK:
        raise ConfigurationError(f"by_task is one of {', '.join(BY_TASK)}; got {asked.by_task!r}.")
    if asked.least_per_task < LEAST_CALIBRATION:
        raise ConfigurationError(
            f"least_per_task is at least {LEAST_CALIBRATION} queries; got {asked.least_per_task}."
        )
    if asked.second_look is True and (router.second_look is None or router.second_look.width <= 0):
        raise ConfigurationError(
            "second_look=True needs a router with a scorer of answers: fit it on outcomes with "
            "`response`; or leave second_look out."
        )
    complete = unseen(router, data, "calibrate") if data.records else data
    if len(complete) < LEAST_CALIBRATION:
        raise DataError(
            f"{data.name}: {len(complete)} queries; a calibration needs at least "
            f"{LEAST_CALIBRATION}, and a few hundred to be worth much."
        )
    if asked.second_look is True and not have_answers(complete, router.candidates[:-1]):
        raise DataError(
            f"{data.name}: second_look=True looks at answers, and some outcomes have no "
            "`response`: collect them with their responses, or leave second_look out."
        )
    return complete


def _look(router: RouterState, data: RoutingDataset) -> int:
    """Count the looks at labels, by either line: one more where queries were looked at before."""
    line = router.second_look.line if router.second_look else None
    lines = router.promises, line.promises if line else None
    known = [each.look for each in lines if each is not None]
    again = bool(known) and not router.calibrated_ids.isdisjoint(data.ids)
    return max(known) + 1 if again else 1


def _facts(found: _Calibrated) -> dict[str, Any]:
    """Return what the card says of a calibration."""
    tasks = found.tasks
    facts = {"data": found.data.name, "n": found.curve.n, "splits": dict(found.data.splits)}
    promised = found.promising.promises
    if promised is None:
        facts["no_promise"] = found.promising.why_not
    else:
        facts["promise"] = _promise_facts(found.promising, promised)
    if found.second_look is not None:
        facts["second_look"] = _looks_facts(found)
    if tasks is None:
        return facts
    return facts | {
        "tasks": {
            "by": tasks.by,
            "least": tasks.least,
            "calibrated": {label: curve.n for label, curve in tasks.curves.items()},
            "too_few": dict(tasks.too_few),
        }
    }


def _promise_facts(found: Promising, promised: Promises) -> dict[str, Any]:
    return {
        "n": promised.whole.n,
        "test": promised.whole.method,
        "looks": promised.look,
        "quality_bounds": list(found.bounds or ()),
        "tasks": {label: own.n for label, own in promised.tasks.items()},
    }


def _looks_facts(found: _Calibrated) -> dict[str, Any]:
    """Return what the card says of the line with looks."""
    line = found.second_look.line if found.second_look else None
    if line is None:
        return {"why_not": found.looks_promising.why_not}
    if line.promises is None:
        return {"n": line.curve.n, "no_promise": found.looks_promising.why_not}
    return {
        "n": line.curve.n,
        "promise": _promise_facts(found.looks_promising, line.promises),
        "both_lines_tested": found.promising.promises is not None,
    }


def _with_costs_of(router: R, data: RoutingDataset, costs_usd: Mapping[str, float] | None) -> R:
    """Take given costs, or those of the data where the router knows none."""
    if costs_usd is not None:
        return replace(router, costs_usd=given_costs(router.candidates, costs_usd))
    if (router.costs_usd is None or None in router.costs_usd) and data.records:
        measured = tuple(data.mean_costs_usd(router.candidates))
        return router if None in measured else replace(router, costs_usd=measured)
    return router


def _default_dial(curve: CalibrationCurve) -> Dial:
    """Choose the stored default, by the number of queries alone: what they say is not looked at.

    Where a relative drop has no meaning, half the calls.
    """
    if one_sign(curve.quality_range) and curve.reference_quality != 0:
        return Dial("max_quality_drop", DEFAULT_DROP if curve.n < MANY else DROP_OF_MANY)
    return Dial("cost_advantage", 0.5)
