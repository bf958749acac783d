"""Prints who still answers when servers fail at random.

python -m tests.benchmarks.chaos --calls 10000 --workers 32
"""

from __future__ import annotations

import argparse
import gc
import resource
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.benchmarks.chaos.calls import MODELS, WAYS, run, serving, variants

if TYPE_CHECKING:
    from tests.benchmarks.chaos.calls import Outcome


def _row(name: str, outcomes: list[Outcome], both: int, cpu_s: float) -> str:
    counted = Counter(each.result for each in outcomes)
    right, errors = counted.pop("right", 0), counted.pop("error", 0)
    by_front = {
        front: [each.result == "right" for each in outcomes if WAYS[each.way][0] == front]
        for front in ("langchain", "llamaindex")
    }
    shares = [f"{sum(got) / len(got):.3f}" if got else "-" for got in by_front.values()]
    slowest = max(each.seconds for each in outcomes)
    cells = [name, len(outcomes), right, errors, dict(counted) or 0, *shares, both]
    return "| " + " | ".join(map(str, [*cells, f"{slowest:.1f}", f"{cpu_s:.0f}"])) + " |"


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _kinds(outcomes: list[Outcome]) -> dict[str, int]:
    return dict(Counter(type(each.error).__name__ for each in outcomes if each.error is not None))


def main(given: Any) -> None:
    """Run every variant on the same schedule and print the table."""
    threads = threading.active_count()
    print(  # noqa: T201
        "| variant | calls | right | error | wrong | LangChain | LlamaIndex | asked both "
        "| slowest, s | CPU, s |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    found: dict[str, list[Outcome]] = {}
    with serving(given.seed, given.share) as served:
        how: dict[str, Any] = {"timeout_s": given.timeout, "retries": given.retries}
        made = variants(served, **how, call_timeout_s=given.call_timeout)
        for name, models in made.items():
            begun = _cpu_s()
            found[name] = run(models, name, range(given.calls), given.workers)
            asked = served.asked()
            both = sum(asked["small"].get(key, 0) > 0 for key in asked["large"] if _is(key, name))
            print(_row(name, found[name], both, _cpu_s() - begun), flush=True)  # noqa: T201
            doubled = [
                (m, k) for m in MODELS for k, n in asked[m].items() if n > 1 and _is(k, name)
            ]
            print(f"  asked more than once: {len(doubled)}")  # noqa: T201
    for name, outcomes in found.items():
        print(f"{name}: {_kinds(outcomes)}")  # noqa: T201
    del made, models
    gc.collect()
    time.sleep(2 * given.timeout)
    print(f"threads: {threads} before, {threading.active_count()} after")  # noqa: T201


def _is(key: str, variant: str) -> bool:
    return key.rpartition("|")[0] == variant


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=32)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--share", type=float, default=0.3)
    parser.add_argument("--timeout", type=float, default=2.0, help="the clients' own, seconds")
    parser.add_argument("--retries", type=int, default=0, help="the clients' own")
    parser.add_argument("--call-timeout", type=float, default=20.0, help="call_timeout_s")
    main(parser.parse_args())
