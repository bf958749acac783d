"""The chaos benchmark in short: every call ends rightly or clearly, and more of them than without.

The long form is a command; see docs/failures.md.
"""

from __future__ import annotations

import threading

from tests.benchmarks.chaos.calls import WAYS, Outcome, run, serving, variants

CALLS, WORKERS = 15 * len(WAYS), 16


def right(outcomes: list[Outcome]) -> int:
    return sum(each.result == "right" for each in outcomes)


def test_more_calls_succeed_and_none_is_wrong_or_doubled() -> None:
    before = threading.active_count()
    with serving(seed=3, share=0.3) as served:
        made = variants(served, timeout_s=1.5, retries=0, call_timeout_s=None)
        found = {name: run(models, name, range(CALLS), WORKERS) for name, models in made.items()}
        asked = served.asked()
    for name, outcomes in found.items():
        assert {each.result for each in outcomes} <= {"right", "error"}, name
    assert max(count for counts in asked.values() for count in counts.values()) == 1
    assert len(found["fallback off"]) == len(found["fallback, breaker on"]) == CALLS
    for name in ("fallback, breaker on", "fallback, breaker off"):
        assert right(found[name]) > right(found["fallback off"])
        routed = [each for each in found[name] if WAYS[each.way][0] == "langchain"]
        assert right(routed) >= right(found["large.with_fallbacks([small])"])
    assert threading.active_count() <= before + 1
