"""Ways to leave a process while a routing is under way, each as a script's last words.

Run as `python -m tests.support.leaving WAY FILE`: FILE is written to and never closed, as a user's
is.
"""

# ruff: noqa: E402  (one exit handler is registered before the package is imported)
from __future__ import annotations

import atexit
import threading
import time


def _run_early() -> None:
    for late in early:
        threading.Thread(target=late).start()
        time.sleep(0.03)


atexit.register(_run_early)  # before the package is imported, so that it runs after its own

import asyncio
import contextlib
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared_router import Candidate, Router
from shared_router.deciding.guards import RoutingRequest
from shared_router.engine.engine import RoutingEngine
from shared_router.records import RoutingQuery
from shared_router.testing import fixed_router

if TYPE_CHECKING:
    from collections.abc import Callable

WORDS = "My only results.\n" * 100
early: list[Callable[[], None]] = []
"""What a thread does that an exit handler starts which was registered before ours."""
LONG = RoutingRequest(query=RoutingQuery(text="a word of many " * 300))


def engine(router: Router | None = None, **options: Any) -> RoutingEngine:
    pair = [Candidate("small", object()), Candidate("large", object())]
    return RoutingEngine(router or Router.bundled(), pair, same_models=True, **options)


def warm() -> RoutingEngine:
    found = engine()
    found.decide(LONG)
    return found


def timed_out() -> None:
    async def main(at_work: RoutingEngine) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(at_work.adecide(LONG), 0.005)

    asyncio.run(main(warm()))


def cancelled() -> None:
    async def main(at_work: RoutingEngine) -> None:
        tasks = [asyncio.create_task(at_work.adecide(LONG)) for _ in range(40)]
        await asyncio.sleep(0.005)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main(warm()))


def left_pending() -> None:
    async def main(at_work: RoutingEngine) -> None:
        main.task = asyncio.create_task(at_work.adecide(LONG))  # type: ignore[attr-defined]
        await asyncio.sleep(0.002)

    asyncio.run(main(warm()))


def loop_never_closed() -> None:
    loop = asyncio.new_event_loop()
    task = loop.create_task(warm().adecide(LONG))
    loop.run_until_complete(asyncio.sleep(0.002))
    task.cancel()
    loop.run_until_complete(asyncio.sleep(0))


def late_routings() -> None:
    at_work = engine(timeout_s=0.001)

    async def main() -> None:
        await asyncio.gather(*(at_work.adecide(LONG) for _ in range(16)))

    asyncio.run(main())


def ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it

    async def main(at_work: RoutingEngine) -> None:
        tasks = [asyncio.create_task(at_work.adecide(LONG)) for _ in range(8)]
        await asyncio.sleep(0.005)
        signal.raise_signal(signal.SIGINT)
        await asyncio.gather(*tasks)

    asyncio.run(main(warm()))


def ctrl_c_twice() -> None:
    def again() -> None:
        time.sleep(0.02)
        signal.raise_signal(signal.SIGINT)

    atexit.register(lambda: threading.Thread(target=again, daemon=True).start())
    ctrl_c()


def exit_code() -> None:
    async def main(at_work: RoutingEngine) -> None:
        asyncio.create_task(at_work.adecide(LONG))  # noqa: RUF006
        await asyncio.sleep(0.002)
        sys.exit(3)

    asyncio.run(main(warm()))


def own_error() -> None:
    async def main(at_work: RoutingEngine) -> None:
        asyncio.create_task(at_work.adecide(LONG))  # noqa: RUF006
        await asyncio.sleep(0.002)
        raise ZeroDivisionError

    asyncio.run(main(warm()))


def daemon_threads() -> None:
    at_work = warm()
    for _ in range(8):
        threading.Thread(target=at_work.decide, args=[LONG], daemon=True).start()
    time.sleep(0.005)


def endless_daemon_threads() -> None:
    at_work = warm()

    def forever() -> None:
        while True:
            at_work.decide(LONG)

    for _ in range(4):
        threading.Thread(target=forever, daemon=True).start()
    time.sleep(0.02)


def endless_loop_in_daemon_thread() -> None:
    at_work = warm()

    async def forever() -> None:
        while True:
            await asyncio.gather(*(at_work.adecide(LONG) for _ in range(4)))

    threading.Thread(target=lambda: asyncio.run(forever()), daemon=True).start()
    time.sleep(0.05)


def first_score() -> None:
    at_work = engine()
    threading.Thread(target=at_work.decide, args=[LONG], daemon=True).start()
    time.sleep(0.01)


def pool_not_waited_for() -> None:
    at_work = warm()
    pool = ThreadPoolExecutor(4)
    for _ in range(20):
        pool.submit(at_work.decide, LONG)
    pool.shutdown(wait=False)


def from_an_exit_handler() -> None:
    at_work = warm()
    atexit.register(at_work.decide, LONG)
    daemon_threads()


def many_from_an_exit_handler() -> None:
    router = warm().router
    atexit.register(router.score, [LONG.query.text] * 3)  # type: ignore[union-attr]


def many_in_a_daemon_thread() -> None:
    router = warm().router
    texts = [LONG.query.text] * 10_000  # type: ignore[union-attr]
    threading.Thread(target=router.score, args=[texts], daemon=True).start()
    time.sleep(0.05)


def thread_of_an_early_exit_handler() -> None:
    at_work = warm()

    def late() -> None:
        for _ in range(20):
            at_work.decide(LONG)

    early.append(late)


def hanging_scorer() -> None:
    at_work = engine(fixed_router(delay_s=60), timeout_s=0.01)
    at_work.decide(LONG)


def through_langchain() -> None:
    from langchain_core.language_models import FakeListChatModel

    from langchain_hybrid import HybridChatModel

    pair = [FakeListChatModel(responses=["answer"]) for _ in range(2)]
    model = HybridChatModel(small=pair[0], large=pair[1], same_models=True, router="bundled")

    async def main() -> None:
        model.route("warm")
        stream = model.astream("a word of many " * 300)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(anext(stream), 0.005)

    asyncio.run(main())


def through_llamaindex() -> None:
    from llama_index.core.llms import MockLLM

    from llamaindex_hybrid import HybridLLM

    llm = HybridLLM(small=MockLLM(), large=MockLLM(), same_models=True, router="bundled")

    async def main() -> None:
        llm.route("warm")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(llm.acomplete("a word of many " * 300), 0.005)

    asyncio.run(main())


WAYS: dict[str, tuple[Callable[[], None], int]] = {
    way.__name__: (way, code)
    for way, code in (
        (timed_out, 0),
        (cancelled, 0),
        (left_pending, 0),
        (loop_never_closed, 0),
        (late_routings, 0),
        (ctrl_c, -signal.SIGINT),
        (ctrl_c_twice, -signal.SIGINT),
        (exit_code, 3),
        (own_error, 1),
        (daemon_threads, 0),
        (endless_daemon_threads, 0),
        (endless_loop_in_daemon_thread, 0),
        (first_score, 0),
        (pool_not_waited_for, 0),
        (from_an_exit_handler, 0),
        (many_from_an_exit_handler, 0),
        (many_in_a_daemon_thread, 0),
        (thread_of_an_early_exit_handler, 0),
        (hanging_scorer, 0),
        (through_langchain, 0),
        (through_llamaindex, 0),
    )
}
"""Name to what is done, and the exit code that it would have with a bare model."""

if __name__ == "__main__":
    kept = Path(sys.argv[2]).open("w")  # noqa: SIM115  (never closed: the interpreter flushes it)
    kept.write(WORDS)
    WAYS[sys.argv[1]][0]()
