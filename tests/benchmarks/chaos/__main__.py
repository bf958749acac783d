"""Prints who still answers when servers fail at random.

python -m tests.benchmarks.chaos --calls 10000 --workers 32 [--others SITE_PACKAGES]
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import resource
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.benchmarks.chaos.calls import (
    SLACK_S,
    asked_both,
    close,
    doubled,
    left,
    run,
    unclear,
)
from tests.benchmarks.chaos.variants import others, serving, variants

if TYPE_CHECKING:
    from tests.benchmarks.chaos.calls import Outcome
    from tests.benchmarks.chaos.variants import Served, Variant

COLUMNS = (
    "front",
    "variant",
    "calls",
    "right",
    "share",
    "error",
    "empty",
    "wrong",
    "unclear",
    "late",
    "asked both",
    "doubled",
    "slowest, s",
    "CPU, ms a call",
)


def _cells(variant: Variant, outcomes: list[Outcome], cpu_s: float) -> dict[str, Any]:
    counted = Counter(each.result.partition(":")[0] for each in outcomes)
    limit_s = variant.limit_s
    return {
        "front": variant.front,
        "variant": variant.name,
        "calls": len(outcomes),
        **{name: counted[name] for name in ("right", "error", "empty", "wrong")},
        "share": f"{counted['right'] / len(outcomes):.4f}",
        "unclear": sum(unclear(o.error) for o in outcomes) if variant.routed else "-",
        "late": sum(o.seconds > limit_s + SLACK_S for o in outcomes) if limit_s else "-",
        "slowest, s": f"{max(each.seconds for each in outcomes):.1f}",
        "CPU, ms a call": f"{cpu_s / len(outcomes) * 1e3:.1f}",
    }


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _line(cells: Any) -> None:
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)  # noqa: T201


def _kinds(outcomes: list[Outcome]) -> dict[str, int]:
    wrong = (each.result for each in outcomes if each.result.startswith("wrong"))
    errors = (type(each.error).__name__ for each in outcomes if each.error is not None)
    return dict(Counter([*wrong, *errors]).most_common())


def main(given: Any) -> None:
    """Run every variant on the same schedule and print the table."""
    client = {"timeout_s": given.timeout, "retries": given.retries}
    with asyncio.Runner() as loop, serving(given.seed, given.share, **client) as served:
        before = left(loop)
        _line(COLUMNS)
        _line(["---"] * len(COLUMNS))
        each = variants(served, given.call_timeout)
        for variant in each:
            _show(variant, served, given, loop)
        loop.run(close(each))
        time.sleep(given.timeout)  # calls given up are still waited for, by threads of their own
        after = left(loop)
        for variant in others(served):
            _show(variant, served, given, loop)
    print(f"\nLeft by ours: {after}; before: {before}.")  # noqa: T201


def _show(variant: Variant, served: Served, given: Any, loop: asyncio.Runner) -> None:
    begun = _cpu_s()
    outcomes = run(variant, range(given.calls // 2), given.workers, loop)
    cells = _cells(variant, outcomes, _cpu_s() - begun)
    asked = served.asked()
    cells["asked both"] = asked_both(asked, variant)
    often = doubled(asked, variant, given.seed, given.share)
    cells["doubled"] = "-" if given.retries else often  # clients ask again by themselves
    _line(cells[name] for name in COLUMNS)
    if given.verbose:
        print(f"    {_kinds(outcomes)}")  # noqa: T201


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000, help="by variant, half a front")
    parser.add_argument("--workers", type=int, default=32)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--share", type=float, default=0.3)
    parser.add_argument("--timeout", type=float, default=2.0, help="the clients' own, seconds")
    parser.add_argument("--retries", type=int, default=0, help="the clients' own")
    parser.add_argument("--call-timeout", type=float, default=None, help="call_timeout_s")
    parser.add_argument("--others", help="the site-packages where litellm is, if not here")
    parser.add_argument("--verbose", action="store_true", help="the kinds of errors")
    chosen = parser.parse_args()
    if chosen.others:
        sys.path.append(chosen.others)
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    logging.basicConfig(level=logging.ERROR)  # the table alone
    main(chosen)
