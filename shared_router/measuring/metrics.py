"""Metrics of the field, on a line from all-reference to all-cheapest.

Sources: Hybrid LLM (Ding et al., ICLR 2024) for cost advantage and quality drop; RouteLLM (Ong et
al., 2024) for PGR, APGR and CPT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_router.deciding.walk import Walk, one_sign

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

DROPS = (0.0, 0.01, 0.05)
"""Relative quality drops at which the cost advantage is reported."""
ADVANTAGES = (0.1, 0.2, 0.4)
"""Cost advantages at which the relative quality drop is reported, as in the paper."""

UNDEFINED_PGR = "the reference is not better than the cheapest candidate, so PGR has no meaning"
UNDEFINED_DROP = "mean reference quality is 0 or qualities span zero, so a relative drop has none"


@dataclass(frozen=True)
class TradeOff:
    """Quality against cost advantage; between points, tied queries are averaged by a line."""

    cost_advantage: NDArray[np.float64]
    """Share of calls not sent to the reference, rising from 0 to 1, shape (m + 1,)."""
    quality: NDArray[np.float64]
    """Mean quality there, shape (m + 1,)."""
    relative: bool = True
    """Whether a relative drop has a meaning: all qualities have one sign."""

    @property
    def drop(self) -> NDArray[np.float64]:
        """Relative quality drop, `(Q_ref - Q) / |Q_ref|`, shape (m + 1,)."""
        drop: NDArray[np.float64] = (self.quality[0] - self.quality) / abs(self.quality[0])
        return drop

    @property
    def has_drop(self) -> bool:
        """Whether the relative drop is defined."""
        return self.relative and bool(self.quality[0] != 0)

    @property
    def has_pgr(self) -> bool:
        """Whether the performance gap recovered is defined."""
        return bool(self.quality[0] > self.quality[-1])

    def apgr(self) -> float | None:
        """Area under PGR over the share of reference calls, 0 to 1; random gives 0.5."""
        if not self.has_pgr:
            return None
        low, high = self.quality[-1], self.quality[0]
        return float(np.trapezoid((self.quality - low) / (high - low), self.cost_advantage))

    def cpt(self, recovered: float) -> float | None:
        """Least share of reference calls that recovers this share of the quality gap."""
        if not self.has_pgr:
            return None
        low, high = self.quality[-1], self.quality[0]
        return 1.0 - self._last_share(low + recovered * (high - low))

    def advantage_at_drop(self, drop: float) -> float | None:
        """Greatest cost advantage whose relative quality drop is at most `drop`."""
        if not self.has_drop:
            return None
        return self._last_share(self.quality[0] - drop * abs(self.quality[0]))

    def drop_at_advantage(self, advantage: float) -> float | None:
        """Relative quality drop at this cost advantage."""
        if not self.has_drop:
            return None
        return float(np.interp(advantage, self.cost_advantage, self.drop))

    def _last_share(self, level: float) -> float:
        """Greatest cost advantage at which quality is at least `level`."""
        enough = np.flatnonzero(self.quality >= level - 1e-12)
        if not len(enough):
            return 0.0
        at = int(enough[-1])
        if at == len(self.quality) - 1:
            return float(self.cost_advantage[at])
        here, there = self.quality[at], self.quality[at + 1]
        part = max(float((here - level) / (here - there)), 0.0)
        step = self.cost_advantage[at + 1] - self.cost_advantage[at]
        return float(self.cost_advantage[at] + part * step)

    def figures(self) -> dict[str, float | None]:
        """Compute every reported figure, flat: the keys of a nested one are joined by `@`."""
        return {
            "apgr": self.apgr(),
            "cpt50": self.cpt(0.5),
            "cpt80": self.cpt(0.8),
            **{f"cost_advantage_at_drop@{d:g}": self.advantage_at_drop(d) for d in DROPS},
            **{
                f"quality_drop_at_cost_advantage@{a:g}": self.drop_at_advantage(a)
                for a in ADVANTAGES
            },
        }


def trade_off(walk: Walk, weights: NDArray[np.float64] | None = None) -> TradeOff:
    """Measure a line, each query counted `weights` times (once where not given)."""
    return TradeOff(*walk.line(weights), one_sign(walk.quality_range))


def nested_figures(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Turn `name@key` figures into nested ones."""
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        outer, _, inner = name.partition("@")
        if inner:
            nested.setdefault(outer, {})[inner] = value
        else:
            nested[outer] = value
    return nested
