"""What a call costs beside another checkout of this repository, process by process in turn.

python -m tests.benchmarks.overhead_before OLD [--others SITE_PACKAGES]

CPU time of `invoke` on the same fakes, the least of all rounds, and its ratio to the least wrapper
in the same processes: a `BaseChatModel` of two lines that calls its child.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableBranch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

HERE, CALLS, TURNS = Path(__file__).resolve(), 100, 12
LEAST = "two lines"


class TwoLines(BaseChatModel):
    """The least that a wrapper does: it is a chat model, and calls another."""

    child: Any

    @property
    def _llm_type(self) -> str:
        return "two lines"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kw: Any) -> Any:
        message = self.child.invoke(messages, stop=stop, **kw)
        return ChatResult(generations=[ChatGeneration(message=message)])


def _forever() -> Iterator[AIMessage]:
    while True:
        yield AIMessage("an answer")


def _calls() -> dict[str, Callable[[], object]]:
    from langchain_hybrid import HybridChatModel
    from shared_router.testing import fixed_router

    small, large = (GenericFakeChatModel(messages=_forever()) for _ in range(2))
    hybrid = HybridChatModel(small=small, large=large, router=fixed_router(1.0))
    least, branch = TwoLines(child=small), RunnableBranch((lambda _: True, small), large)
    return {
        "bare child": lambda: small.invoke("hello"),
        LEAST: lambda: least.invoke("hello"),
        "hybrid, forced": lambda: hybrid.invoke("hello", route="small"),
        "hybrid, routed": lambda: hybrid.invoke("hello"),
        "RunnableBranch": lambda: branch.invoke("hello"),
        **_others(small, large),
    }


def _others(small: Any, large: Any) -> dict[str, Callable[[], object]]:
    found: dict[str, Callable[[], object]] = {}
    with suppress(ImportError):
        from langchain_model_router import ChatRouter

        router = ChatRouter(routes={"small": small, "large": large}, default_route="small")
        found["langchain-model-router"] = lambda: router.invoke("hello")
    with suppress(ImportError):
        from cascadeflow.integrations.langchain import CascadeFlow

        flow = CascadeFlow(drafter=small, verifier=large, enable_pre_router=False)
        found["cascadeflow"] = lambda: flow.invoke("hello")
    return found


def measured() -> dict[str, float]:
    """Return the least CPU microseconds a call of each, in this process, in turn."""
    calls = _calls()
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(TURNS):
        for name, call in calls.items():
            started = time.process_time()
            for _ in range(CALLS):
                call()
            best[name] = min(best[name], (time.process_time() - started) / CALLS * 1e6)
    return best


def _of(checkout: Path, others: str | None) -> dict[str, float]:
    command = [sys.executable, str(HERE), "--measure", *(["--others", others] if others else [])]
    env = os.environ | {"PYTHONPATH": str(checkout)}
    done = subprocess.run(command, env=env, cwd=checkout, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main(old: Path, others: str | None, rounds: int) -> None:
    """Print the table."""
    checkouts = {"before": old.resolve(), "now": HERE.parents[2]}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
    for _ in range(rounds):
        for name, checkout in checkouts.items():
            found[name].append(_of(checkout, others))
    least = {
        name: {key: min(each[key] for each in rows) for key in rows[0]}
        for name, rows in found.items()
    }
    _line(["call", "before, us", "now, us", "before / two lines", "now / two lines"])
    _line(["---"] * 5)
    for key in least["now"]:
        us = [least[name][key] for name in checkouts]
        ratios = [least[name][key] / least[name][LEAST] for name in checkouts]
        _line([key, *(f"{each:.1f}" for each in us), *(f"{each:.2f}" for each in ratios)])


def _line(cells: Sequence[str]) -> None:
    print(f"| {' | '.join(cells)} |")  # noqa: T201


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", type=Path, nargs="?", help="the other checkout")
    parser.add_argument("--others", help="the site-packages where other routers are, if not here")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.others:
        sys.path.append(given.others)
    if given.measure:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):  # cascadeflow prints
            found_here = measured()
        print(json.dumps(found_here))  # noqa: T201
    else:
        main(given.old, given.others, given.rounds)
