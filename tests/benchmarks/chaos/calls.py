"""The calls of the chaos benchmark, and what came of each."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks.chaos.server import fault_of, right_answer
from tests.benchmarks.chaos.variants import MODELS
from tests.benchmarks.chaos.ways import WAYS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.benchmarks.chaos.variants import Variant
    from tests.benchmarks.chaos.ways import Asked

SLACK_S = 0.5
"""Seconds by which a call may outlive its limit on a busy machine."""


def question_of(number: int, key: str) -> str:
    """Write a question; its number and who is asked stand in it, for the servers."""
    return f"q={number}; variant={key}; What do you make of it?"


@dataclass
class Outcome:
    """What came of one call."""

    way: str
    question: int
    seconds: float
    result: str
    """`right`, `error`, `empty`, or what is wrong with the answer."""
    error: BaseException | None = field(default=None, repr=False)


def judged(question: int, text: str, found: Any) -> str:
    """Say what is wrong with an answer; `right` where nothing is."""
    sayings, routed = found
    if not any(sayings):
        return "empty"
    if len(sayings) > 1:
        return "wrong: doubled"
    told = _read(sayings[0])
    named = str(told.get("model"))
    if named not in MODELS or told != right_answer(named, question, text):
        return f"wrong: {str(told)[:60]}"
    if routed is not None and routed.get("answered_by", named) != named:
        return "wrong: another model is named"
    return "right"


def _read(saying: Any) -> dict[str, Any]:
    try:
        told = json.loads(saying) if isinstance(saying, str) else saying
    except ValueError:
        return {"text": saying}
    return told if isinstance(told, dict) else {"text": saying}


def run(
    variant: Variant, numbers: Sequence[int], workers: int, loop: asyncio.Runner
) -> list[Outcome]:
    """Make the calls of one variant, each question in its own way.

    Args:
        variant: Who is asked.
        numbers: The questions.
        workers: How many calls are made at once, half of them awaited.
        loop: Where awaited calls run: one for all variants, as hosts' clients share connections.
    """
    ways = list(WAYS[variant.front].items())
    jobs = [(number, *ways[number % len(ways)]) for number in numbers]
    blocking = [job for job in jobs if not job[1].startswith("a")]
    awaited = [job for job in jobs if job[1].startswith("a")]
    with ThreadPoolExecutor(workers - workers // 2) as pool:
        done = pool.map(lambda job: _one(variant, *job), blocking)
        return loop.run(_all(variant, awaited, workers // 2)) + list(done)


def _one(variant: Variant, number: int, way: str, ask: Asked) -> Outcome:
    text, started = question_of(number, variant.key), time.monotonic()
    try:
        found = ask(variant.model, text)
    except Exception as error:
        return _failed(way, number, started, error)
    return Outcome(way, number, time.monotonic() - started, judged(number, text, found))


async def _all(variant: Variant, jobs: list[Any], workers: int) -> list[Outcome]:
    gate = asyncio.Semaphore(workers)

    async def one(number: int, way: str, ask: Asked) -> Outcome:
        async with gate:
            text, started = question_of(number, variant.key), time.monotonic()
            try:
                found = await ask(variant.model, text)
            except Exception as error:
                return _failed(way, number, started, error)
            return Outcome(way, number, time.monotonic() - started, judged(number, text, found))

    return list(await asyncio.gather(*(one(*job) for job in jobs)))


def _failed(way: str, number: int, started: float, error: Exception) -> Outcome:
    seconds = time.monotonic() - started
    error.__traceback__ = None  # frames keep connections
    return Outcome(way, number, seconds, "error", error)


# -- what is looked at afterwards -----------------------------------------------------------------


def unclear(error: BaseException | None) -> bool:
    """Tell whether an error of ours, or one of its group, does not say whose it is."""
    if error is None:
        return False
    if isinstance(error, BaseExceptionGroup):
        return any(map(unclear, error.exceptions))
    if type(error).__name__ == "CallTimeoutError":
        return False
    return not any("candidate" in note for note in getattr(error, "__notes__", ()))


def doubled(asked: dict[str, dict[str, int]], variant: Variant, seed: int, share: float) -> int:
    """Count questions that a model was asked twice; once more after Retry-After is due."""
    found = 0
    for model in MODELS:
        for key, times in asked[model].items():
            name, _, number = key.rpartition("|")
            most = 2 if fault_of(seed, model, int(number), share) == "429" else 1
            found += name == variant.key and times > most
    return found


def asked_both(asked: dict[str, dict[str, int]], variant: Variant) -> int:
    """Count questions that both models were asked."""
    of_all = [
        {key for key in asked[model] if key.rpartition("|")[0] == variant.key} for model in MODELS
    ]
    return len(of_all[0] & of_all[1])


def left(loop: asyncio.Runner) -> dict[str, int]:
    """Count what a process holds: threads but those of the loop itself, tasks, sockets."""
    gc.collect()
    threads = [each for each in threading.enumerate() if not each.name.startswith("asyncio_")]
    sockets = [each for each in Path("/proc/self/fd").iterdir() if _is_socket(each)]
    tasks = len(asyncio.all_tasks(loop.get_loop()))
    return {"threads": len(threads), "tasks": tasks, "sockets": len(sockets)}


def _is_socket(entry: Path) -> bool:
    try:
        return str(entry.readlink()).startswith("socket:")
    except OSError:
        return False


async def close(each: Sequence[Variant]) -> None:
    """Close the clients' pools, so that whatever is still open was left behind."""
    for variant in each:
        for model in _clients(variant):
            if hasattr(model, "root_client"):
                model.root_client.close()
                await model.root_async_client.close()
            elif hasattr(model, "_get_client"):
                model._get_client().close()
                await model._get_aclient().close()
    await asyncio.sleep(0.1)


def _clients(variant: Variant) -> list[Any]:
    model = variant.model
    if variant.routed:
        return [each.model for each in model.engine.candidates]
    return [model.runnable, *model.fallbacks] if hasattr(model, "fallbacks") else []
