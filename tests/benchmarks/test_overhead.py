"""Overhead of the wrapper: ratios measured side by side, in one run.

The host's own cost of a bare fake child's `invoke` is 1. The router's scoring is not in it: its
scores are fixed, so that only the wrapping is measured.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.language_models import BaseChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableBranch

from langchain_hybrid import HybridChatModel
from shared_router.testing import fixed_router

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.benchmark

ROUNDS, CALLS = 200, 10


def _child() -> GenericFakeChatModel:
    def forever():
        while True:
            yield AIMessage("an answer")

    return GenericFakeChatModel(messages=forever())


def _best_us(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the least microseconds of CPU a call of each, interleaved round by round."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(ROUNDS):
        for name, call in calls.items():
            started = time.process_time_ns()
            for _ in range(CALLS):
                call()
            best[name] = min(best[name], (time.process_time_ns() - started) / CALLS / 1e3)
    return best


class TwoLines(BaseChatModel):
    """The least that a wrapper does: it is a chat model, and calls another."""

    child: Any

    @property
    def _llm_type(self) -> str:
        return "two lines"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kw: Any) -> Any:
        message = self.child.invoke(messages, stop=stop, **kw)
        return ChatResult(generations=[ChatGeneration(message=message)])


def _peers(small: Any, large: Any) -> dict[str, Callable[[], object]]:
    """Return other routers' calls, where they are installed; they are no dependency."""
    found: dict[str, Callable[[], object]] = {}
    with suppress(ImportError):
        from langchain_model_router import ChatRouter

        router = ChatRouter(routes={"small": small, "large": large}, default_route="small")
        found["ChatRouter"] = lambda: router.invoke("hello")
    with suppress(ImportError):
        from cascadeflow.integrations.langchain import CascadeFlow

        flow = CascadeFlow(drafter=small, verifier=large, enable_pre_router=False)
        found["cascadeflow"] = lambda: flow.invoke("hello")
    return found


def test_a_forced_call_costs_little_beside_the_least_wrapper():
    child, large = _child(), _child()
    hybrid = HybridChatModel(small=child, large=large, router=fixed_router(1.0))
    least = TwoLines(child=child)
    branch = RunnableBranch((lambda _: True, child), large)
    best = _best_us(
        {
            "two lines": lambda: least.invoke("hello"),
            "hybrid, forced": lambda: hybrid.invoke("hello", route="small"),
            "RunnableBranch": lambda: branch.invoke("hello"),
            **_peers(child, large),
        }
    )
    for name, us in best.items():
        print(f"{name:24s} {us:8.1f} us  {us / best['two lines']:.2f}")  # noqa: T201
    assert best["hybrid, forced"] < best["RunnableBranch"] * 1.15


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
