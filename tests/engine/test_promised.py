"""What is said once, where a limit is written that cannot be promised."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from shared_router import Candidate, Dial, Router, RoutingDataset, RoutingEngine
from shared_router.engine.promised import missing_labels, promised_share, said_of_limit
from shared_router.options import Asked
from shared_router.testing import fixed_router
from tests.material import PAIR, dataset, record

if TYPE_CHECKING:
    from shared_router.options import Confidence

ONE = Dial("max_quality_drop", 0.01)


def drawn(n: int, seed: int = 0) -> RoutingDataset:
    """Queries of many lengths: the longer, the more often the small model loses."""
    rng = np.random.default_rng(seed)
    lengths, large = rng.integers(0, 100, n), rng.random(n) < 0.8
    small = large & (rng.random(n) > np.maximum(0, lengths - 40) / 60)
    rows = (
        record(f"{seed}-{i}", f"{i:05d}" + "x" * size, small=float(s), large=float(q))
        for i, (size, s, q) in enumerate(zip(lengths.tolist(), small, large, strict=True))
    )
    return dataset(*rows)


def calibrated(n: int, seed: int = 0) -> Router:
    return fixed_router(lambda text: 200.0 - len(text)).calibrate(drawn(n, seed))


def bound(
    router: Router, dial: Dial | None = ONE, confidence: Confidence | None = None
) -> RoutingEngine:
    candidates = [Candidate(name) for name in PAIR]
    return RoutingEngine(router, candidates, dial=dial, confidence=confidence)


def warned(caplog: pytest.LogCaptureFixture, *args: Any) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING, "hybrid_llm"):
        bound(*args)
    return [one.getMessage() for one in caplog.records]


def test_it_says_what_is_promised_what_is_estimated_and_what_is_missing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    (said,) = warned(caplog, calibrated(150))
    assert said.startswith("max_quality_drop=0.01 cannot be promised at confidence 0.9 by router")
    assert "calibrated on 100 queries: every call under it goes to the reference." in said
    assert re.search(
        r"Promised now: max_quality_drop=0\.0[25], which keeps \d+% of calls from it\.", said
    )
    assert re.search(r"The estimate \(confidence='estimate'\) would keep \d+%\.", said)
    assert re.search(r"About \d+ more labels would promise something at it\.", said)


@pytest.mark.parametrize(
    ("n", "dial", "confidence"),
    [
        (1500, ONE, None),
        (150, ONE, "estimate"),
        (150, None, None),
        (150, Dial("cost_advantage", 0.5), None),
        (150, Dial("threshold", 100.0), 0.95),
    ],
)
def test_nothing_is_said_where_nothing_is_refused(
    caplog: pytest.LogCaptureFixture, n: int, dial: Dial | None, confidence: Confidence | None
) -> None:
    assert warned(caplog, calibrated(n), dial, confidence) == []


def test_why_is_told_where_nothing_was_tested(caplog: pytest.LogCaptureFixture) -> None:
    (few,) = warned(caplog, calibrated(60))
    assert "(too few queries: 10 to test on)" in few
    old = fixed_router(lambda text: 200.0 - len(text)).calibrate(drawn(300))
    object.__setattr__(old, "promises", None)
    (before,) = warned(caplog, old)
    assert "(calibrated before promises were tested: calibrate it again)" in before


def test_no_number_of_labels_promises_what_every_query_loses() -> None:
    rows = (record(f"q{i}", "x" * i, small=0.0, large=1.0) for i in range(100))
    router = fixed_router(1.0).calibrate(dataset(*rows))
    said = said_of_limit(router, Asked(ONE))
    assert "No number of labels like these would promise it." in said
    assert missing_labels(None, ONE, 0.9) is None
    assert missing_labels(router.estimate, Dial("max_quality_drop", 0.0), 0.9) is None


@pytest.mark.parametrize("limit", [0.01, 0.02])
def test_so_many_labels_promise_something_more_often_than_not(limit: float) -> None:
    dial = Dial("max_quality_drop", limit)
    wanted = missing_labels(calibrated(400).estimate, dial, 0.9)
    assert wanted is not None
    enough = wanted + max(50, wanted // 9 + 1)  # a tenth cuts the grid
    shares = [promised_share(calibrated(enough, seed), dial, 0.9) for seed in range(1, 8)]
    assert sum(share > 0 for share in shares) >= 4
    assert promised_share(calibrated(enough // 4), dial, 0.9) == 0


def test_a_share_is_promised_of_limits_on_quality_alone() -> None:
    router = calibrated(600)
    assert promised_share(router, Dial("max_quality_drop", 0.05), 0.9) > 0.2
    assert promised_share(router, Dial("max_quality_drop", 0.05), "estimate") == 0
    assert promised_share(router, Dial("cost_advantage", 0.5), 0.9) == 0
    assert promised_share(fixed_router(), ONE, 0.9) == 0
