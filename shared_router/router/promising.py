"""What a calibration can promise: evidence of its queries, on a grid that none of them cut."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from shared_router.deciding.evidence import cutters, gather_evidence, is_coarse, quality_bounds
from shared_router.deciding.paired_test import CriticalValues
from shared_router.deciding.promise import (
    Promise,
    cut_grid,
    error_of_look,
    errors_of,
    lift_look,
    take_look,
)
from shared_router.deciding.settings import Promises
from shared_router.deciding.walk import one_sign
from shared_router.errors import ConfigurationError
from shared_router.serving.probes import PROBES
from shared_router.support.names import shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray

    from shared_router.data.dataset import RoutingDataset
    from shared_router.data.schema import Outcome
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
    error_share: float = 1.0,
    *,
    of_answers: bool = False,
) -> Promising:
    """Test what can be promised over all queries, and within tasks.

    Args:
        router: The router, its costs known.
        data: The calibration queries.
        seen: Their scores.
        bounds: Least and greatest quality there can be, where stated.
        look: The how manieth look at growing labels it is.
        error_share: Share of the error that this line has, where others are tested too.
        of_answers: Whether the scores are of the recorded answers too, so that others to the same
            queries end what was promised of the former.
    """
    if len(router.candidates) > 2:
        return Promising(None, "more than two models: the estimate alone")
    samples = tuple(data.samples(name) for name in router.candidates)
    known = quality_bounds([np.concatenate(own) for own in samples], check_bounds(bounds, samples))
    if known is None:
        return Promising(None, "quality without bounds: state quality_bounds=(least, greatest)")
    trial = _Trial(
        router, data, seen.plain[:, 0], samples, known, look, error_share, of_answers=of_answers
    )
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
    try:
        low, high = map(float, bounds)
    except (TypeError, ValueError):  # not two, or no numbers
        low = high = math.nan
    if not (np.isfinite([low, high, high - low]).all() and low < high):
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
        plain: NDArray[np.floating],
        samples: Sequence[Sequence[NDArray[np.float64]]],
        bounds: tuple[float, float],
        look: int,
        error_share: float,
        *,
        of_answers: bool,
    ) -> None:
        self._router, self._data, self._samples, self._bounds = router, data, samples, bounds
        self._look, self._error_share, self._of_answers = look, error_share, of_answers
        self._plain = np.asarray(plain, dtype=np.float64)
        unseen = router.out_of_fold
        if unseen is None:
            cut = cutters(data.ids, CUT_BY_LEAST, CUT_BY_SHARE)
            rows = np.flatnonzero(cut)
            self._cutting = self._plain[cut]
            self._cutting_rows: NDArray[np.intp] = rows
            untested = np.array([[own[row].mean() for own in samples] for row in rows.tolist()])
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
        share = error_of_look(self._look) * self._error_share / parts
        earlier, critical = self._earlier(seen), CriticalValues(errors_of(share))
        promise = partial(self._promise, share=share, critical=critical)
        tasks = {
            label: promise(
                mine,
                _under(seen, label, mine),
                self._cutting_under(seen, label),
                earlier=earlier.tasks.get(label) if earlier else None,
            )
            for label, mine in rows.items()
        }
        plain, cutting, rest = self._plain, self._cutting, None
        if parts == len(rows) + 2:
            before = earlier.rest if earlier and set(earlier.tasks) == set(rows) else None
            rest = promise(others, plain[others], cutting, earlier=before)
        before = earlier.whole if earlier else None
        whole = promise(self.tested, plain[self.tested], cutting, earlier=before)
        ids = frozenset(self._data.ids)
        return Promises(
            whole=whole,
            tasks=tasks,
            rest=rest,
            look=self._look,
            labels=self._digest(ids, seen),
            with_retrieval=self._with_retrieval(),
        )

    def _with_retrieval(self) -> bool | None:
        """Tell whether all queries have facts that the router sees, or none has."""
        kinds = {facts is not None for facts in self._data.retrieval}
        return kinds.pop() if self._router.sees_retrieval and len(kinds) == 1 else None

    def _earlier(self, seen: TaskScores) -> Promises | None:
        """Return the promises of earlier looks, if these labels hold all of theirs, unchanged.

        With other labels of the same queries, by another judge say, or under other texts, tasks
        or bounds, what was promised by the former ends; this is a further look all the same.
        """
        earlier, known = self._router.promises, self._router.calibrated_ids
        if earlier is None or self._look == 1 or not known <= set(self._data.ids):
            return None
        return earlier if earlier.labels == self._digest(known, seen) else None

    def _digest(self, ids: AbstractSet[str], seen: TaskScores) -> str:
        """Digest what was tested on some queries, and how."""
        rows = ((id_, row) for row, id_ in enumerate(self._data.ids) if id_ in ids)
        found = hashlib.blake2b(f"{self._bounds} {seen.by}\n".encode(), digest_size=16)
        for id_, row in sorted(rows):
            own = [[float(each) for each in samples[row]] for samples in self._samples]
            one = self._data.records[row]
            asked = one.query, seen.tasks[row], one.retrieval
            found.update(f"{id_!r} {own} {asked!r}\n".encode("utf-8", "surrogatepass"))
            if self._of_answers:
                told = [(each.response, each.logprobs) for each in self._answers(row)]
                found.update(f"{told!r}\n".encode("utf-8", "surrogatepass"))
        return found.hexdigest()

    def _answers(self, row: int) -> list[Outcome]:
        outcomes = self._data.records[row].outcomes
        return [outcomes[name] for name in self._router.candidates[:-1]]

    def _by_task(self, seen: TaskScores) -> dict[str, NDArray[np.intp]]:
        """Find the tasks that have a promise of their own, the most frequent first.

        None where some queries have no task: calls like those would go by the promise over all,
        and the others by their own, so that neither were mixed as they were tested.
        """
        if not seen.labels or not all(seen.tasks):
            return {}
        tasks = [seen.tasks[row] for row in self.tested]
        often = Counter(map(str, tasks)).most_common(MOST_TASKS)
        enough = [task for task, n in often if n >= LEAST_LABELS]
        return {
            task: self.tested[[own == task for own in tasks]] for task in enough if len(often) > 1
        }

    def _cutting_under(self, seen: TaskScores, label: str) -> NDArray[np.float64]:
        """Return what cuts the grid of a task: scores that lie where its label puts them."""
        if self._router.out_of_fold is not None:
            return self._cutting + _shift(self._router, label)
        mine = np.intersect1d(seen.labels[label].rows, self._cutting_rows)
        return _under(seen, label, mine) if len(mine) >= LEAST_TESTED else self._cutting

    def _promise(
        self,
        rows: NDArray[np.intp],
        scores: NDArray[np.float64],
        cutting: NDArray[np.float64],
        *,
        share: float,
        critical: CriticalValues,
        earlier: Promise | None,
    ) -> Promise:
        grid = earlier.thresholds if earlier else cut_grid(cutting)
        evidence = gather_evidence(
            [self._data.records[row].id for row in rows],
            [self._data.records[row].query for row in rows],
            scores,
            tuple([own[row] for row in rows] for own in self._samples),  # type: ignore[arg-type]
            self._bounds,
            rounding=self._rounding,
        )
        relative = one_sign(self._bounds)
        look = take_look(grid, evidence, relative=relative, error_share=share, critical=critical)
        lifted = partial(lift_look, thresholds=grid, evidence=evidence, relative=relative)
        before = tuple(map(lifted, earlier.looks)) if earlier else ()
        kept = np.array([(scores >= threshold).mean() for threshold in grid])
        return Promise(thresholds=grid, shares=kept, looks=(*before, look), method=evidence.method)


def _under(seen: TaskScores, label: str, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the scores of a task's queries under its label."""
    own = seen.labels[label]
    at = np.searchsorted(own.rows, rows)
    return np.asarray(own.scores[at, 0], dtype=np.float64)


def _shift(router: RouterState, label: str) -> float:
    """Measure by how much a label moves scores, on texts that are nobody's queries."""
    under, plain = router.score(PROBES, [label] * len(PROBES)), router.score(PROBES)
    return float((under - plain)[:, 0].mean())
