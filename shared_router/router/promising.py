"""What a calibration can promise: evidence of its queries, on a grid that none of them cut."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shared_router.deciding.evidence import cutters, gather_evidence, is_coarse, quality_bounds
from shared_router.deciding.promise import Promise, cut_grid, error_of_look, take_look
from shared_router.deciding.settings import Promises
from shared_router.deciding.walk import one_sign
from shared_router.errors import ConfigurationError
from shared_router.support.names import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from shared_router.data.dataset import RoutingDataset
    from shared_router.router.state import RouterState
    from shared_router.router.task_scores import TaskScores

MOST_TASKS = 10
"""Tasks that have a promise of their own; each takes its share of the error."""
LEAST_LABELS = 200
"""Fewest queries for a promise of a task's own."""
CUT_BY_LEAST, CUT_BY_SHARE = 50, 0.1
"""Queries whose scores alone cut the grid, where no out-of-fold scores are known."""
LEAST_TESTED = 20
"""Fewest queries that a promise is tested on."""


@dataclass(frozen=True)
class Promising:
    """What came of trying to promise."""

    promises: Promises | None
    why_not: str | None = None
    """Why nothing can be promised, whatever the limit."""
    bounds: tuple[float, float] | None = None
    """Least and greatest quality there can be, where something was tested."""


def promises_of(
    router: RouterState,
    data: RoutingDataset,
    seen: TaskScores,
    bounds: tuple[float, float] | None,
    look: int,
) -> Promising:
    """Test what can be promised over all queries, and within tasks.

    Args:
        router: The router, its costs known.
        data: The calibration queries.
        seen: Their scores.
        bounds: Least and greatest quality there can be, where stated.
        look: The how manieth look at growing labels it is.
    """
    if len(router.candidates) > 2:
        return Promising(None, "more than two models: the estimate alone")
    samples = tuple(data.samples(name) for name in router.candidates)
    known = quality_bounds([np.concatenate(own) for own in samples], check_bounds(bounds, samples))
    if known is None:
        return Promising(None, "quality without bounds: state quality_bounds=(least, greatest)")
    trial = _Trial(router, data, seen.plain[:, 0], samples, known, look)
    if len(trial.tested) < LEAST_TESTED:
        return Promising(None, f"too few queries: {len(trial.tested)} to test on")
    return Promising(trial.promises(seen), bounds=known)


def check_bounds(
    bounds: tuple[float, float] | None, samples: Sequence[Sequence[NDArray[np.float64]]]
) -> tuple[float, float] | None:
    """Check stated bounds against what was measured.

    Raises:
        ConfigurationError: If they are no range, or a quality lies outside.
    """
    if bounds is None:
        return None
    low, high = map(float, bounds)
    if not (np.isfinite([low, high]).all() and low < high):
        raise ConfigurationError(
            f"quality_bounds are the least and the greatest quality there can be, finite; got "
            f"{shown(bounds)}."
        )
    every = np.concatenate([np.concatenate(list(own)) for own in samples])
    if every.min() < low or every.max() > high:
        raise ConfigurationError(
            f"quality_bounds are {low:g} to {high:g}, and the data hold qualities from "
            f"{every.min():g} to {every.max():g}."
        )
    return low, high


class _Trial:
    """One look at the labels of a calibration."""

    def __init__(
        self,
        router: RouterState,
        data: RoutingDataset,
        plain: NDArray[np.float32],
        samples: Sequence[Sequence[NDArray[np.float64]]],
        bounds: tuple[float, float],
        look: int,
    ) -> None:
        self._router, self._data, self._samples, self._bounds = router, data, samples, bounds
        self._look = look
        self._plain = np.asarray(plain, dtype=np.float64)
        unseen = router.out_of_fold
        if unseen is None:
            cut = cutters(data.ids, CUT_BY_LEAST, CUT_BY_SHARE)
            self._cutting = self._plain[cut]
            rows = np.flatnonzero(cut).tolist()
            untested = np.array([[own[row].mean() for own in samples] for row in rows])
            self.tested: NDArray[np.intp] = np.flatnonzero(~cut)
        else:
            self._cutting, untested = unseen.scores[:, 0], unseen.outcomes
            self.tested = np.arange(len(data))
        self._rounding = is_coarse(untested, bounds)

    def promises(self, seen: TaskScores) -> Promises:
        """Test everything; the parts share the error, so that all promises hold together."""
        rows = self._by_task(seen)
        own = np.zeros(len(self._data), dtype=bool)
        for mine in rows.values():
            own[mine] = True
        others = np.array([row for row in self.tested if not own[row]], dtype=np.intp)
        parts = len(rows) + 1 + (bool(rows) and len(others) >= LEAST_TESTED)
        share = error_of_look(self._look) / parts
        earlier = self._router.promises
        tasks = {
            label: self._promise(mine, _under(seen, label, mine), share, earlier_of(earlier, label))
            for label, mine in rows.items()
        }
        rest = None
        if parts == len(rows) + 2:
            before = earlier.rest if earlier else None
            rest = self._promise(others, self._plain[others], share, before)
        before = earlier.whole if earlier else None
        whole = self._promise(self.tested, self._plain[self.tested], share, before)
        return Promises(whole=whole, tasks=tasks, rest=rest)

    def _by_task(self, seen: TaskScores) -> dict[str, NDArray[np.intp]]:
        """Find the tasks that have a promise of their own, the most frequent first."""
        if not seen.labels:
            return {}
        tasks = [seen.tasks[row] for row in self.tested]
        often = Counter(task for task in tasks if task is not None).most_common(MOST_TASKS)
        enough = [task for task, n in often if n >= LEAST_LABELS]
        return {
            task: self.tested[[own == task for own in tasks]] for task in enough if len(often) > 1
        }

    def _promise(
        self,
        rows: NDArray[np.intp],
        scores: NDArray[np.float64],
        share: float,
        earlier: Promise | None,
    ) -> Promise:
        grid = earlier.thresholds if earlier and self._look > 1 else cut_grid(self._cutting)
        evidence = gather_evidence(
            [self._data.records[row].id for row in rows],
            [self._data.records[row].query for row in rows],
            scores,
            tuple([own[row] for row in rows] for own in self._samples),  # type: ignore[arg-type]
            self._bounds,
            rounding=self._rounding,
        )
        look = take_look(grid, evidence, relative=one_sign(self._bounds), error_share=share)
        before = earlier.looks if earlier and self._look > 1 else ()
        kept = np.array([(scores >= threshold).mean() for threshold in grid])
        return Promise(thresholds=grid, shares=kept, looks=(*before, look), method=evidence.method)


def _under(seen: TaskScores, label: str, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the scores of a task's queries under its label."""
    own = seen.labels[label]
    at = np.searchsorted(own.rows, rows)
    return np.asarray(own.scores[at, 0], dtype=np.float64)


def earlier_of(earlier: Promises | None, label: str) -> Promise | None:
    """Return the promise of a task at an earlier look, if there was one."""
    return earlier.tasks.get(label) if earlier is not None else None
