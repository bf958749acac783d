"""A process may leave, or fork, while a routing is under way in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from typing import TYPE_CHECKING

import pytest

from shared_router.errors import PanicError
from shared_router.router.state import RouterState
from shared_router.support import processes
from shared_router.support.processes import ForkSafeLock, native_work
from tests.support.leaving import WAYS, WORDS

if TYPE_CHECKING:
    from pathlib import Path

GUARD_S = 120
FORKS = 5
forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


@pytest.mark.parametrize("way", WAYS)
def test_leaving_under_a_routing_is_as_with_a_bare_model(way: str, tmp_path: Path) -> None:
    kept = tmp_path / "results.txt"
    command = [sys.executable, "-m", "tests.support.leaving", way, str(kept)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=GUARD_S, check=False)
    assert done.returncode == WAYS[way][1], done.stderr[-2000:]
    if not way.startswith("endless"):  # under a daemon thread that runs on Python flushes nothing
        assert kept.read_text() == WORDS


@forking
@pytest.mark.parametrize("asked", ["score", "decide"])
def test_a_child_scores_however_far_its_parent_is_with_the_first_score(asked: str) -> None:
    assert forks(FORKS, asked) == FORKS


def forks(times: int, asked: str) -> int:
    """Fork during the first score of a process, later and later; count the children that score."""
    script = """
        import os, signal, sys, threading, time
        from shared_router import Router
        ask = {"score": lambda r: r.score(["a"]), "decide": lambda r: r.decide("b " * 400)}
        router = Router.bundled()
        thread = threading.Thread(target=ask[sys.argv[1]], args=[router])
        thread.start()
        time.sleep(float(sys.argv[2]))
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            ask[sys.argv[1]](router)
            os._exit(0)
        thread.join()
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """
    ended = []
    for at in range(times):
        command = [sys.executable, "-c", textwrap.dedent(script), asked, str(0.3 * at / times)]
        ended.append(subprocess.run(command, capture_output=True, text=True, timeout=GUARD_S))
    return sum(done.stdout.strip() == "0" for done in ended)


def test_a_panic_of_native_code_is_an_error_without_its_message() -> None:
    panic = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})
    with pytest.raises(PanicError) as found, native_work():
        raise panic("quotes the query")
    assert "quotes" not in str(found.value)
    assert found.value.__suppress_context__


@pytest.mark.parametrize("passing", [KeyboardInterrupt, GeneratorExit, SystemExit])
def test_what_is_no_panic_passes(passing: type[BaseException]) -> None:
    with pytest.raises(passing), native_work():
        raise passing


@forking
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_lock_that_a_thread_holds_is_free_in_a_child() -> None:
    lock = ForkSafeLock()
    with lock:
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            with lock:
                os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@forking
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_does_not_wait_for_ever_for_a_model_that_opens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "FORK_WITHIN_S", 0.01)
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with processes.opening():
            held.set()
            over.wait(GUARD_S)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(GUARD_S)
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        with processes.opening():  # it is free here, whoever held it in the parent
            os._exit(0)
    over.set()
    holder.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with processes.opening():
        pass


def test_a_cached_property_is_found_on_its_class() -> None:
    assert RouterState.rule.__doc__ == "The rule that turns scores and a threshold into choices."
