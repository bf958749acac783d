"""What a report begins with: the verdict on fresh queries, and what is shown beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.deciding.evidence import is_coarse, quality_bounds
from shared_router.deciding.walk import Walk, one_sign
from shared_router.measuring.cost_quality import prices_of
from shared_router.measuring.evaluation import figures_at_threshold, rows_of
from shared_router.measuring.picture import Picture, Point, picture_of
from shared_router.measuring.static_mix import per_call, single_models, static_mix
from shared_router.measuring.verdict import FreshQueries, Verdict, verdict_of
from shared_router.options import ESTIMATE, QUALITY_DIALS, USUAL_CONFIDENCE, Dial

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from shared_router.data.dataset import RoutingDataset
    from shared_router.deciding.by_task import Setting
    from shared_router.measuring.evaluation import OutcomeTable
    from shared_router.measuring.picture import Kind
    from shared_router.options import Confidence
    from shared_router.records import Guarantee
    from shared_router.router.state import RouterState

LADDER = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Limits of the ladder: relative drops, or parts of the range of quality where these have no
meaning."""
MIX = "coin of the same cost"


def judged(
    router: RouterState,
    data: RoutingDataset,
    scores: NDArray[np.floating],
    outcomes: OutcomeTable,
    dial: Dial | None,
    confidence: Confidence,
    resamples: int,
) -> dict[str, Any]:
    """Judge a setting by the queries that nobody fitted or calibrated on.

    Where none of them is left, there is no verdict, and the rest is shown of all queries.

    Args:
        router: The router.
        data: The queries, none of them fitted on.
        scores: Their scores, shape (n, k - 1).
        outcomes: Their outcomes.
        dial: The dial; the router's own where none was asked.
        confidence: How sure a limit must be.
        resamples: Bootstrap resamples behind the intervals.

    Returns:
        Those fields of a `RoutingReport`.
    """
    fresh = np.flatnonzero([id_ not in router.calibrated_ids for id_ in data.ids])
    shown = fresh if len(fresh) else np.arange(len(data))
    own = _Judging(
        router,
        dial or router.dial,
        confidence,
        written=dial is not None,
        scores=np.asarray(scores[shown], dtype=np.float64),
        outcomes=rows_of(outcomes, shown),
    )
    verdict = own.verdict(data, fresh)
    mix = own.mix(resamples)
    return {
        "verdict": verdict,
        "ladder": tuple(own.ladder()),
        "single_models": own.singles(),
        "static_mix": mix,
        "picture": own.picture(mix, resamples),
    }


def judged_choice(
    router: RouterState,
    data: RoutingDataset,
    choice: NDArray[np.intp],
    outcomes: OutcomeTable,
    dial: Dial | None,
    confidence: Confidence,
    guarantee: Guarantee,
) -> Verdict:
    """Judge choices that were made otherwise than by the score alone, as with second looks.

    Dollars are left out: what is thrown away is no candidate's.

    Args:
        router: The router.
        data: The queries, with the answers that were given or looked at.
        choice: Whose answer each query ends with, shape (n,).
        outcomes: Their outcomes.
        dial: The dial; the router's own where none was asked.
        confidence: How sure a limit must be.
        guarantee: What the setting claims.
    """
    rows = np.flatnonzero([id_ not in router.calibrated_ids for id_ in data.ids])
    kept, asked = data.take(rows.tolist()), dial or router.dial
    own = _Judging(
        router,
        asked,
        confidence,
        written=dial is not None,
        scores=np.zeros((len(rows), len(router.candidates) - 1)),
        outcomes=rows_of(outcomes, rows),
    )
    queries = FreshQueries(
        ids=kept.ids,
        texts=kept.queries,
        choice=choice[rows],
        samples=[kept.samples(name) for name in router.candidates],
        names=router.candidates,
        bounds=(bounds := own.bounds()),
        rounding=own.rounding(bounds),
    )
    return verdict_of(asked, confidence, queries, guarantee)


@dataclass(frozen=True)
class _Judging:
    """A setting, and queries with outcomes."""

    router: RouterState
    dial: Dial
    confidence: Confidence
    written: bool
    scores: NDArray[np.float64]
    outcomes: OutcomeTable

    @property
    def _sure(self) -> float:
        return self.confidence if isinstance(self.confidence, float) else USUAL_CONFIDENCE

    @cached_property
    def setting(self) -> Setting:
        """What calls without a task are decided by."""
        return self.router.setting_of(self.dial, self.confidence, written=self.written)

    @cached_property
    def choice(self) -> NDArray[np.intp]:
        """The candidate that each query is sent to."""
        return self.router.rule.choose(self.scores, self.setting.threshold)

    def verdict(self, data: RoutingDataset, fresh: NDArray[np.intp]) -> Verdict:
        """Judge the setting by fresh queries."""
        names, costs = self.router.candidates, self.outcomes.query_costs_usd
        samples = [data.samples(name) for name in names]
        queries = FreshQueries(
            ids=[data.ids[row] for row in fresh],
            texts=[data.queries[row] for row in fresh],
            choice=self.choice[: len(fresh)],
            samples=[[own[row] for row in fresh] for own in samples],
            names=names,
            bounds=(bounds := self.bounds()),
            costs_usd=self.outcomes.costs_usd if costs is None else costs[: len(fresh)],
            rounding=self.rounding(bounds),
            always_reference=math.isinf(self.setting.threshold) and self.setting.threshold > 0,
        )
        return verdict_of(self.dial, self.confidence, queries, self.setting.claim.guarantee)

    def bounds(self) -> tuple[float, float] | None:
        """Return the bounds of quality that the calibration was told, if all here lies within."""
        promise = self.router.facts.get("calibration", {}).get("promise") or {}
        stated, quality = promise.get("quality_bounds"), self.outcomes.quality
        if not stated:
            return None
        low, high = map(float, stated)
        return (low, high) if low <= quality.min() and quality.max() <= high else None

    def rounding(self, bounds: tuple[float, float] | None) -> bool:
        """Tell how graded quality is tested, by queries that are not tested."""
        router = self.router
        known = router.out_of_fold.outcomes if router.out_of_fold else None
        if known is None and router.curve is not None:
            known = router.curve.outcomes
        if known is None or (within := quality_bounds([known], bounds)) is None:
            return False
        pairs = [known[:, [other, -1]] for other in range(known.shape[1] - 1)]
        return is_coarse(np.vstack(pairs), within)

    def ladder(self) -> Iterator[dict[str, Any]]:
        """Measure what each limit gives: promised, and estimated."""
        for dial in self._limits():
            found: dict[str, Any] = {"dial": dial.name, "limit": dial.value}
            for way, setting in self._both(dial).items():
                threshold = math.inf if setting is None else setting.threshold
                figures = self._figures(threshold)
                found |= {
                    f"{way}_share": figures["cost_advantage"],
                    f"{way}_drop": figures["drop"],
                    f"{way}_usd_per_1000": figures["usd_per_1000"],
                }
            yield found

    def _limits(self) -> list[Dial]:
        curve = self.router.estimate
        if curve is None:
            return []
        if curve.one_sign and curve.reference_quality != 0:
            limits = [Dial("max_quality_drop", limit) for limit in LADDER]
        else:
            low, high = curve.quality_range
            limits = [Dial("max_quality_drop_absolute", part * (high - low)) for part in LADDER]
        if self.dial.name == limits[0].name and self.dial not in limits:
            limits.append(self.dial)
        return sorted(limits, key=lambda limit: limit.value)

    def _both(self, dial: Dial) -> dict[str, Setting | None]:
        """Resolve a limit by its promise, `None` where there is none, and by its estimate."""
        promised = self.router.setting_of(dial, self._sure)
        kept = promised if promised.claim.guarantee == "promised" else None
        return {"promised": kept, "estimated": self.router.setting_of(dial, ESTIMATE)}

    def _figures(self, threshold: float) -> dict[str, Any]:
        """Measure one threshold: share, drop in the picture's units, dollars per 1,000 calls."""
        found = figures_at_threshold(self.router.rule, self.scores, self.outcomes, threshold)
        drop = found["quality_drop" if self.relative else "quality_drop_absolute"]
        usd, saved = self._usd_per_1000, found["cost_saved"]
        paid = None if usd is None or saved is None else (1 - saved) * usd[-1]
        return found | {"drop": drop, "usd_per_1000": paid}

    @cached_property
    def relative(self) -> bool:
        """Whether drops are told relative to the reference's mean."""
        quality = self.outcomes.quality
        defined = one_sign((float(quality.min()), float(quality.max()))) and quality[:, -1].mean()
        return bool(defined) and self.dial.name != "max_quality_drop_absolute"

    @cached_property
    def _usd_per_1000(self) -> list[float] | None:
        """Dollars per 1,000 calls of each candidate alone, where known."""
        per_query, means = self.outcomes.query_costs_usd, self.outcomes.costs_usd
        known = means if per_query is None else per_query.mean(axis=0)
        return None if known is None else [1000 * float(each) for each in known]

    @cached_property
    def _cost(self) -> tuple[NDArray[np.float64], str]:
        own = self.outcomes
        known = own.costs_usd if own.query_costs_usd is None else own.query_costs_usd
        return per_call(prices_of(known, self.router.rule.savings, len(own)), len(own))

    def singles(self) -> dict[str, Any]:
        """Find the best model alone, and the cheapest within the limit."""
        cost, unit = self._cost
        quality, names = self.outcomes.quality, self.router.candidates
        return {"unit": unit} | single_models(names, quality, cost, self.dial)

    def mix(self, resamples: int) -> dict[str, Any]:
        """Compare the setting with a coin of the same cost."""
        cost, unit = self._cost
        names, quality = self.router.candidates, self.outcomes.quality
        return {"unit": unit} | static_mix(names, quality, self.choice, cost, resamples)

    def picture(self, mix: dict[str, Any], resamples: int) -> Picture:
        """Make the picture: the line, the setting, each model alone, and the coin."""
        walk = Walk(self.router.rule, self.scores, self.outcomes.quality)
        points = [*self._settings(), *self._candidates()]
        if len(mix["shares"]) > 1:
            points.append(self._coin(mix))
        return picture_of(walk, resamples, relative=self.relative, points=points)

    def _settings(self) -> Iterator[Point]:
        if self.dial.name in QUALITY_DIALS and self.router.curve is not None:
            for way, setting in self._both(self.dial).items():
                if setting is not None:
                    yield self._setting(
                        way, setting, "promised" if way == "promised" else "estimated"
                    )
        else:
            yield self._setting(f"{self.dial.name}={self.dial.value:g}", self.setting, "asked")

    def _setting(self, name: str, setting: Setting, kind: Kind) -> Point:
        found = self._figures(setting.threshold)
        return Point(
            name=name,
            kind=kind,
            cost_advantage=found["cost_advantage"],
            drop=found["drop"],
            usd_per_1000=found["usd_per_1000"],
        )

    def _drop_of(self, quality: float) -> float:
        kept = float(self.outcomes.quality[:, -1].mean())
        return (kept - quality) / (abs(kept) if self.relative else 1.0)

    def _candidates(self) -> Iterator[Point]:
        names, usd = self.router.candidates, self._usd_per_1000
        for at, name in enumerate(names):
            yield Point(
                name=f"all to {name}",
                kind="candidate",
                cost_advantage=float(at < len(names) - 1),
                drop=self._drop_of(float(self.outcomes.quality[:, at].mean())),
                usd_per_1000=usd[at] if usd else None,
            )

    def _coin(self, mix: dict[str, Any]) -> Point:
        share = mix["shares"].get(self.router.candidates[-1], 0.0)
        usd = self._usd_per_1000
        per_model = zip(self.router.candidates, usd or (), strict=False)
        paid = sum(mix["shares"].get(name, 0.0) * each for name, each in per_model)
        return Point(
            name=MIX,
            kind="mix",
            cost_advantage=1 - share,
            drop=self._drop_of(mix["quality"]),
            usd_per_1000=paid if usd else None,
        )
