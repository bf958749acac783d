"""Breakers: when a candidate rests, and how it comes back."""

from __future__ import annotations

import copy
import gc
import pickle
import threading

import pytest

from shared_router.deciding.failures import Failure
from shared_router.engine.breaker import (
    FEWEST_FAILURES,
    FIRST_REST_S,
    LONGEST_REST_S,
    MISCONFIGURED_AFTER,
    WINDOW_S,
    Breaker,
    Breakers,
)

DOWN = Failure("connection", True)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("small", clock)


def fail(breaker: Breaker, times: int = FEWEST_FAILURES, failure: Failure = DOWN) -> None:
    for _ in range(times):
        breaker.failed(failure)


def test_it_rests_after_failures_in_a_row_and_not_before(
    breaker: Breaker, caplog: pytest.LogCaptureFixture
) -> None:
    fail(breaker, FEWEST_FAILURES - 1)
    assert breaker.ready()
    fail(breaker, 1)
    assert not breaker.ready()
    found = breaker.health()
    assert (found.state, found.last_error) == ("resting", "connection")
    assert found.rests_for_s == FIRST_REST_S
    assert "'small' rests for 5 s" in caplog.text


def test_one_that_mostly_answers_never_rests(breaker: Breaker) -> None:
    for _ in range(50):
        fail(breaker, 3)
        for _ in range(7):
            breaker.answered()
        assert breaker.ready()


def test_old_failures_do_not_count(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, FEWEST_FAILURES - 1)
    clock.now = WINDOW_S + 1
    fail(breaker, 1)
    assert breaker.ready()


def test_one_call_probes_after_the_rest_and_its_answer_ends_it(
    breaker: Breaker, clock: Clock
) -> None:
    fail(breaker)
    clock.now = FIRST_REST_S
    assert breaker.health().state == "probing"
    assert [breaker.ready() for _ in range(3)] == [True, False, False]
    breaker.answered()
    assert breaker.ready()
    assert breaker.health().state == "healthy"


def test_a_probe_that_fails_doubles_the_rest(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    rests = []
    for _ in range(6):
        clock.now += breaker.health().rests_for_s
        assert breaker.ready()
        fail(breaker, 1)
        rests.append(breaker.health().rests_for_s)
    assert rests == [10.0, 20.0, 40.0, 60.0, 60.0, 60.0]
    assert rests[-1] == LONGEST_REST_S


def test_a_probe_nobody_tells_of_is_not_the_last(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.now = FIRST_REST_S
    assert breaker.ready()
    clock.now += FIRST_REST_S
    assert breaker.ready()


def test_a_provider_that_asks_for_longer_is_granted_it(breaker: Breaker) -> None:
    fail(breaker, failure=Failure("rate_limit", True, retry_after_s=30.0))
    assert breaker.health().rests_for_s == 30.0
    breaker.reset()
    fail(breaker, failure=Failure("rate_limit", True, retry_after_s=86_400.0))
    assert breaker.health().rests_for_s == 600.0


@pytest.mark.parametrize("kind", ["bad_request", "context_overflow", "tools_refused", "schema"])
def test_what_the_call_is_at_fault_for_does_not_count(breaker: Breaker, kind: str) -> None:
    fail(breaker, 50, Failure(kind, False))  # type: ignore[arg-type]
    assert breaker.ready()
    assert breaker.health().failures == 0


def test_refused_keys_in_a_row_are_a_wrong_set_up(breaker: Breaker) -> None:
    refused = Failure("authentication", True)
    fail(breaker, MISCONFIGURED_AFTER - 1, refused)
    assert breaker.health().state == "resting"
    fail(breaker, 1, refused)
    assert breaker.health().state == "misconfigured"
    breaker.reset()
    assert breaker.health().state == "healthy"
    assert breaker.ready()


def test_copies_and_pickles_in_a_process_share_them() -> None:
    one = Breakers(["small", "large"])
    for other in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):  # noqa: S301
        assert other is one
    stored = pickle.dumps(one)
    fail(one[0])
    del one, other
    gc.collect()
    # As in another process: nothing is known there.
    assert pickle.loads(stored)[0].ready()  # noqa: S301


def test_threads_lose_no_outcome_and_one_of_them_probes() -> None:
    clock = Clock()
    breaker = Breaker("small", clock)
    threads = [threading.Thread(target=fail, args=(breaker, 200)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not breaker.ready()
    clock.now = LONGEST_REST_S
    found: list[bool] = []
    threads = [threading.Thread(target=lambda: found.append(breaker.ready())) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found.count(True) == 1
