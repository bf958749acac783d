"""How far a run is."""

from __future__ import annotations

import time
from collections.abc import Callable

from shared_router.collecting.report import CollectProgress

Told = Callable[[CollectProgress], object]
"""Called now and then; its calls are the records."""


class Meter:
    """Counts finished records, and tells of them."""

    def __init__(self, total: int, told: Told | None, earlier: int = 0) -> None:
        self._total, self._told, self.done, self._earlier = total, told, 0, earlier
        self._started_s = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time since the first record was handed out."""
        return time.monotonic() - self._started_s

    def add(self, records: int, *, failed: int = 0, spent_usd: float = 0.0) -> None:
        """Count records; the failures and dollars are those of the whole run so far."""
        self.done += records
        if self._told is None:
            return
        rate = self.done / max(self.seconds, 1e-9)
        left = self._total - self.done
        self._told(
            CollectProgress(
                done=self.done,
                total=self._total,
                failed=failed,
                calls_per_second=rate,
                eta_s=left / rate if rate else None,
                spent_usd=spent_usd,
                earlier=self._earlier,
            )
        )
