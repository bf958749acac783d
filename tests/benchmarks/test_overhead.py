"""Overhead of the wrapper: ratios measured side by side, in one run.

The host's own cost of a bare fake child's `invoke` is 1. The router's scoring is not in it: its
scores are fixed, so that only the wrapping is measured.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableBranch

from langchain_hybrid import HybridChatModel
from shared_router.testing import fixed_router

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.benchmark

ROUNDS, CALLS = 15, 100


def _child() -> GenericFakeChatModel:
    def forever():
        while True:
            yield AIMessage("an answer")

    return GenericFakeChatModel(messages=forever())


def _best_us(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the least microseconds a call of each, interleaved round by round."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(ROUNDS):
        for name, call in calls.items():
            started = time.perf_counter()
            for _ in range(CALLS):
                call()
            best[name] = min(best[name], (time.perf_counter() - started) / CALLS * 1e6)
    return best


def test_wrapping_costs_little_beside_a_bare_child():
    child = _child()
    hybrid = HybridChatModel(small=child, large=_child(), router=fixed_router(1.0))
    branch = RunnableBranch((lambda _: True, child), _child())
    listened = {"callbacks": [UsageMetadataCallbackHandler()]}
    best = _best_us(
        {
            "bare child": lambda: child.invoke("hello"),
            "hybrid, forced": lambda: hybrid.invoke("hello", route="small"),
            "hybrid, routed": lambda: hybrid.invoke("hello"),
            "RunnableBranch": lambda: branch.invoke("hello"),
            "bare child, listened to": lambda: child.invoke("hello", listened),
            "hybrid, listened to": lambda: hybrid.invoke("hello", listened),
        }
    )
    for name, us in best.items():
        print(f"{name:24s} {us:8.1f} us  {us / best['bare child']:.2f}")  # noqa: T201
    assert best["hybrid, routed"] < best["RunnableBranch"] * 1.3
