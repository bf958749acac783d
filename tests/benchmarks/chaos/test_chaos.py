"""The chaos benchmark in short: every call ends rightly or clearly, and more of them than without.

The long form is a command; see docs/failures.md.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from shared_router.errors import CallTimeoutError
from tests.benchmarks.chaos.calls import close, doubled, left, run, unclear
from tests.benchmarks.chaos.server import fault_of
from tests.benchmarks.chaos.variants import MODELS, serving, variants

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.benchmarks.chaos.calls import Outcome
    from tests.benchmarks.chaos.variants import Variant

CALLS, WORKERS, SEED, SHARE = 48, 16, 3, 0.3
Found = dict[str, tuple["Variant", list["Outcome"]]]


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def right(found: Found, name: str) -> int:
    return sum(each.result == "right" for each in found[name][1])


def test_more_calls_succeed_and_none_is_wrong_or_doubled(loop: asyncio.Runner) -> None:
    with serving(SEED, SHARE, timeout_s=3.0) as served:
        before = left(loop)
        each = variants(served, limit_s=None)
        found = {v.key: (v, run(v, range(CALLS), WORKERS, loop)) for v in each}
        asked = served.asked()
        loop.run(close(each))
        after = left(loop)
    for variant, outcomes in found.values():
        results = Counter(outcome.result for outcome in outcomes)
        assert results["right"] + results["error"] == CALLS or not variant.routed, results
        assert doubled(asked, variant, SEED, SHARE) == 0, variant.name
        assert not variant.routed or not any(unclear(outcome.error) for outcome in outcomes)
    theirs = right(found, "langchain, large.with_fallbacks([small])")
    for front in ("langchain", "llamaindex"):
        alone = right(found, f"{front}, fallback off")
        for breaker in ("on", "off"):
            assert right(found, f"{front}, fallback, breaker {breaker}") >= max(theirs, alone + 1)
    assert after["tasks"] == before["tasks"]
    assert after["threads"] <= before["threads"] + 1  # the loop's own, for names and addresses
    assert after["sockets"] <= before["sockets"] + 2


def test_a_call_that_hangs_ends_with_its_time(loop: asyncio.Runner) -> None:
    """The clients themselves would wait longer than the servers let them."""
    hanging = [n for n in range(400) if "hang" in {fault_of(SEED, m, n, SHARE) for m in MODELS}]
    with serving(SEED, SHARE, timeout_s=60.0) as served:
        each = [v for v in variants(served, limit_s=4.0) if v.name == "fallback, breaker off"]
        found = [outcome for v in each for outcome in run(v, hanging[:12], WORKERS, loop)]
        loop.run(close(each))
    assert {outcome.result for outcome in found} == {"right"} | {
        "error" for outcome in found if outcome.error
    }
    late = [each.error for each in found if isinstance(each.error, CallTimeoutError)]
    assert len(late) <= len(found) // 3
