"""The verdict: does a router keep the limit that was asked, on queries nobody fitted it on?

Held, where the whole interval of the drop lies within the limit; broken, where it lies above;
else not shown. Its two ends come from the promise's own test, each at half the error, so that
either word is wrong with at most the error that the dial allows.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from shared_router.deciding.evidence import gather_evidence, quality_bounds
from shared_router.deciding.paired_test import MOST_ERROR
from shared_router.deciding.walk import one_sign
from shared_router.measuring.bootstrap import RESAMPLES, resampled_weights
from shared_router.measuring.drop_interval import drop_interval, share_interval
from shared_router.options import QUALITY_DIALS, USUAL_CONFIDENCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from shared_router.deciding.evidence import Evidence
    from shared_router.measuring.drop_interval import Ends
    from shared_router.options import Dial

State = Literal["held", "not shown", "broken"]
NO_QUERIES = "no query is left that nobody fitted or calibrated on"
ALL_KEPT = "all goes to {}: nothing is lost, and nothing saved"
NO_RELATIVE_DROP = "a relative drop has no meaning where the reference's quality is 0 or spans it"
NO_BOUNDS = "quality without known bounds"
POWER = 0.8
"""Chance of a decision that the number of queries named gives, where more are like these."""
LAST_BITS = 1e-12
"""Rounding of an end that is compared with a limit."""
MOST_NEEDED = 10**9
"""Queries above which none are named: the drop is the limit."""


@dataclass(frozen=True, kw_only=True)
class FreshQueries:
    """Queries that nobody fitted or calibrated on, and what the router does with them."""

    ids: Sequence[str]
    """Their ids."""
    texts: Sequence[str]
    """Their texts; repeated ones are one cluster."""
    choice: NDArray[np.intp]
    """The candidate that the router sends each to, shape (n,)."""
    samples: Sequence[Sequence[NDArray[np.float64]]]
    """Sampled qualities, per candidate one array for each query; the reference last."""
    names: Sequence[str]
    """The candidates."""
    bounds: tuple[float, float] | None = None
    """Least and greatest quality there can be, where stated."""
    costs_usd: NDArray[np.float64] | None = None
    """Cost of each call, shape (n, k), or mean cost, shape (k,); `None` where unknown."""
    rounding: bool = False
    """Whether graded quality is rounded and tested exactly, as other queries say; else by bets."""
    always_reference: bool = False
    """Whether the setting sends every query there can be to the reference."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def reference(self) -> int:
        """Position of the reference."""
        return len(self.names) - 1

    def qualities(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean quality of what was chosen, and of the reference, each of shape (n,)."""
        routed = [self.samples[at][row].mean() for row, at in enumerate(self.choice)]
        return np.array(routed), np.array([own.mean() for own in self.samples[self.reference]])

    def evidence(self) -> Evidence | None:
        """Gather what is tested; `None` where the bounds of quality are not known."""
        every = [np.concatenate(list(own)) for own in self.samples]
        bounds = quality_bounds(every, self.bounds)
        if bounds is None:
            return None
        routed = [self.samples[at][row] for row, at in enumerate(self.choice)]
        nothing = np.zeros(len(self))
        pair = (routed, self.samples[self.reference])
        return gather_evidence(self.ids, self.texts, nothing, pair, bounds, rounding=self.rounding)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was asked of a router, and whether it is shown to give it. Shares are fractions."""

    dial: str
    """The dial's name."""
    value: float
    """The dial's value."""
    confidence: float
    """Confidence of the state, and of every interval here."""
    guarantee: str | None = None
    """What the setting claims: `promised`, `estimated`, `none`; `None` where it is not told."""
    reference: str
    """Name of the reference."""
    n: int
    """Fresh queries it rests on."""
    tested: int = 0
    """Distinct texts that the test counted."""
    state: State | None = None
    """`held`, `not shown` or `broken`; `None` for a dial that limits no quality."""
    reason: str | None = None
    """Why nothing can be shown, where that is so."""
    drop: float | None = None
    """The drop in quality: relative, unless the dial is absolute."""
    drop_interval: Ends | None = None
    """Its interval; an end may be infinite."""
    relative: bool = True
    """Whether the drop is told relative to the reference's mean."""
    method: str | None = None
    """The test: `paired` of right or wrong, `bets` of graded quality."""
    queries_needed: int | None = None
    """About how many fresh queries would decide it, if more are like these; `None` where it is
    decided, or no number would."""
    always_reference: bool = False
    """Whether the setting sends every query there can be to the reference."""
    cost_advantage: float | None = None
    """Share of calls kept from the reference."""
    cost_advantage_interval: Ends | None = None
    """Its interval."""
    cost_saved: float | None = None
    """Share of the reference's dollars saved, where costs are known."""
    cost_saved_interval: Ends | None = None
    """Its interval."""

    @property
    def limits_quality(self) -> bool:
        """Whether the dial limits a drop in quality."""
        return self.dial in QUALITY_DIALS

    @property
    def shown_drop(self) -> str:
        """The drop and its interval, in words."""
        if self.drop is None:
            return "undefined"
        shown = _percent if self.relative else _number
        return shown(self.drop, self.drop_interval)

    @property
    def sentence(self) -> str:
        """All of it in one sentence."""
        asked = f"{self._opening()}: {self.dial}={self.value:g}{self._claimed()} was asked"
        if self.n == 0:
            return f"{asked}, and {NO_QUERIES}: give others to judge it by."
        if self.always_reference:
            return f"{asked}, and on {self._queries()} {ALL_KEPT.format(self.reference)}."
        parts = [f"{asked}, and on {self._measured()}", self._saving()]
        return "; ".join([" ".join(parts), *self._left_open()]) + "."

    def _opening(self) -> str:
        if self.state is None:
            return "Nothing is promised"
        how = "Trivially held" if self.always_reference else self.state.capitalize()
        return f"{how} at confidence {self.confidence:g}"

    def _claimed(self) -> str:
        if self.guarantee in ("promised", "estimated"):
            return f" ({self.guarantee})"
        return " (no promise)" if self.always_reference and self.limits_quality else ""

    def _queries(self) -> str:
        queries = f"{self.n:,} {'query' if self.n == 1 else 'queries'}"
        return f"{queries} that nobody fitted or calibrated on"

    def _measured(self) -> str:
        part = f" ({self.tested:,} of them tested, as texts repeat)" if self._thinned else ""
        return f"{self._queries()}{part} the drop is {self.shown_drop},"

    @property
    def _thinned(self) -> bool:
        return 0 < self.tested < self.n

    def _saving(self) -> str:
        share = _percent(self.cost_advantage or 0.0, self.cost_advantage_interval)
        kept = f"with {share} of calls kept from {self.reference}"
        if self.cost_saved is None:
            return kept
        return f"{kept} and {_percent(self.cost_saved, self.cost_saved_interval)} of its cost saved"

    def _left_open(self) -> list[str]:
        if self.state != "not shown":
            return []
        if self.reason is not None:
            return [self.reason]
        if self.queries_needed is None:
            return ["no number of queries would decide it, as the drop sits at the limit"]
        return [f"about {_rounded(self.queries_needed):,} such queries would decide it"]

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as plain JSON-ready values, the sentence first."""
        found = {"sentence": self.sentence} | asdict(self)
        for name in ("drop_interval", "cost_advantage_interval", "cost_saved_interval"):
            ends = found[name]
            if ends is not None:
                found[name] = [end if math.isfinite(end) else None for end in ends]
        return found


def _percent(value: float, ends: Ends | None) -> str:
    shown = f"{_clean(100 * value):.1f} %"
    if ends is None:
        return shown
    return f"{shown} [{_clean(100 * ends[0]):.1f}, {_clean(100 * ends[1]):.1f}]"


def _number(value: float, ends: Ends | None) -> str:
    shown = f"{_clean(value):.3f}"
    return shown if ends is None else f"{shown} [{_clean(ends[0]):.3f}, {_clean(ends[1]):.3f}]"


def _clean(value: float) -> float:
    """Turn a minus 0 that rounding would show into 0."""
    return value if abs(value) >= 5e-4 else 0.0


def _rounded(n: int) -> int:
    """Round up to two digits."""
    step = int(10 ** max(0, len(str(n)) - 2))
    return math.ceil(n / step) * step


def verdict_of(
    dial: Dial,
    confidence: float | str,
    fresh: FreshQueries,
    guarantee: str | None = None,
) -> Verdict:
    """Judge a dial by queries that nobody fitted or calibrated on.

    Args:
        dial: What was asked.
        confidence: In (0.5, 1); a dial that asks for the estimate is judged at the usual one.
        fresh: The queries.
        guarantee: What the setting claims.

    Returns:
        The verdict.
    """
    sure = confidence if isinstance(confidence, float) else USUAL_CONFIDENCE
    limits = dial.name in QUALITY_DIALS
    about: dict[str, Any] = {
        "dial": dial.name,
        "value": dial.value,
        "confidence": sure,
        "guarantee": guarantee,
        "reference": fresh.names[fresh.reference],
        "n": len(fresh),
        "relative": dial.name != "max_quality_drop_absolute",
        "always_reference": fresh.always_reference,
    }
    if not len(fresh):
        return Verdict(**about, state="not shown" if limits else None, reason=NO_QUERIES)
    error = min((1 - sure) / 2, MOST_ERROR)
    found = _dropped(dial, fresh, error, about["relative"])
    if limits and "state" not in found:
        found["state"] = "not shown"
    if not limits:
        found |= {"state": None, "queries_needed": None}
    return Verdict(**about | found | _kept(fresh, error) | _saved(fresh, error))


def _dropped(dial: Dial, fresh: FreshQueries, error: float, relative: bool) -> dict[str, Any]:
    """Measure the drop, bound it, and compare it with the limit."""
    if fresh.always_reference:
        return {"drop": 0.0, "drop_interval": (0.0, 0.0), "state": "held"}
    routed, kept = fresh.qualities()
    drop, scale = float(kept.mean() - routed.mean()), float(abs(kept.mean()))
    evidence = fresh.evidence()
    bounds = evidence.bounds if evidence else _seen_bounds(fresh)
    if relative and (scale == 0 or not one_sign(bounds)):
        return {"reason": NO_RELATIVE_DROP}
    found: dict[str, Any] = {"drop": drop / scale if relative else drop}
    if evidence is None:
        return found | {"reason": NO_BOUNDS}
    limit = dial.value if dial.name in QUALITY_DIALS else None
    ends = drop_interval(evidence, error, relative=relative, limit=limit)
    found |= {"drop_interval": ends, "method": evidence.method, "tested": evidence.n}
    if limit is None:
        return found
    state = state_of(ends, limit)
    if state != "not shown":
        return found | {"state": state}
    needed = _needed(evidence, limit, error, relative)
    each = len(fresh) / evidence.n  # queries for one text that counts
    more = None if needed is None else max(math.ceil(needed * each), len(fresh) + 1)
    return found | {"state": state, "queries_needed": more}


def state_of(ends: Ends, limit: float) -> State:
    """Compare the interval of a drop with a limit, which its test was asked for.

    Args:
        ends: Lower and upper end; one that is the limit was shown to lie on its side of it.
        limit: The limit.
    """
    if ends[1] <= limit + LAST_BITS:
        return "held"
    return "broken" if ends[0] >= limit - LAST_BITS else "not shown"


def _seen_bounds(fresh: FreshQueries) -> Ends:
    every = np.concatenate([np.concatenate(list(own)) for own in fresh.samples])
    return float(every.min()), float(every.max())


def _needed(evidence: Evidence, limit: float, error: float, relative: bool) -> float | None:
    """Reckon how many texts would put the whole interval on one side of the limit.

    From the mean and the variance seen, by the central limit theorem and with a power of 0.8;
    where no loss at all is seen, by how many queries without one show the limit. `None` where the
    mean is the limit.
    """
    low, high = sorted(map(abs, evidence.bounds))
    least = low if one_sign(evidence.bounds) else 0.0
    reference = least + evidence.reference * (high - least)
    allowed = limit * reference if relative else np.full(len(reference), limit)
    over = evidence.losses * evidence.span - allowed
    mean = float(np.average(over, weights=evidence.weights))
    variance = float(np.average((over - mean) ** 2, weights=evidence.weights))
    wide = -NormalDist().inv_cdf(error)
    if evidence.method == "bets":
        wide = math.sqrt(2 * math.log(1 / error))  # what a fortune of 1 / error takes
    wide = (wide + NormalDist().inv_cdf(POWER)) ** 2
    by_spread = wide * variance / mean**2 if mean else math.inf
    part = float(np.average(allowed, weights=evidence.weights)) / evidence.span
    without_loss = math.inf
    if 0 < part < 1:
        without_loss = math.log(error) / math.log1p(-part)
    needed = max(by_spread, without_loss) if mean < 0 else by_spread
    return needed if needed <= MOST_NEEDED else None


def _kept(fresh: FreshQueries, error: float) -> dict[str, Any]:
    """Measure the share of calls kept from the reference."""
    count = int((fresh.choice != fresh.reference).sum())
    ends = share_interval(count, len(fresh), error)
    if fresh.always_reference:
        ends = (0.0, 0.0)
    return {"cost_advantage": count / len(fresh), "cost_advantage_interval": ends}


def _saved(fresh: FreshQueries, error: float) -> dict[str, Any]:
    """Measure the share of dollars saved, where they are known; its interval by the bootstrap."""
    if fresh.costs_usd is None:
        return {}
    costs = np.broadcast_to(fresh.costs_usd, (len(fresh), len(fresh.names)))
    paid, whole = np.take_along_axis(costs, fresh.choice[:, None], axis=1)[:, 0], costs[:, -1]
    if not whole.mean() > 0:
        return {}
    drawn = [
        1 - float(weights @ paid) / spent
        for weights in resampled_weights(len(fresh), RESAMPLES)
        if (spent := float(weights @ whole)) > 0
    ]
    low, high = np.quantile(drawn, [error, 1 - error])
    return {
        "cost_saved": float(1 - paid.mean() / whole.mean()),
        "cost_saved_interval": (float(low), float(high)),
    }
