"""RoutingEngine: the order of rules, failure towards quality, and privacy."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
import math
import pickle
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from shared_router import Candidate, Dial, Router, RoutingDecision, RoutingEngine, RoutingQuery
from shared_router.deciding.guards import RoutingRequest
from shared_router.engine.deadline import Deadline
from shared_router.engine.engine import OtherCandidatesWarning
from shared_router.engine.terms import CallSettings
from shared_router.errors import (
    ArtifactError,
    CandidateError,
    ConfigurationError,
    DialError,
    NotCalibratedError,
)
from shared_router.options import CallOptions
from shared_router.testing import fixed_router
from tests.engine.calling import amade, made
from tests.material import calibrated_router, dataset, record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from shared_router.deciding.attempts import Attempt

SMALL, LARGE = Candidate("small", supports_tools=False, context_window=100), Candidate("large")
SECRET = "my secret question"


def engine(value: Any = 1.0, *, delay_s: float = 0.0, **options: Any) -> RoutingEngine:
    """Make an engine over two candidates whose router scores by a constant or a function."""
    return RoutingEngine(fixed_router(value, delay_s=delay_s), [SMALL, LARGE], **options)


def asking(text: str | None = SECRET, *, route: str | None = None, **how: Any) -> RoutingRequest:
    query = None if text is None else RoutingQuery(text=text)
    return RoutingRequest(query=query, options=CallOptions(route=route), **how)


async def decided_both(one: RoutingEngine, request: RoutingRequest) -> RoutingDecision:
    """Decide synchronously and asynchronously, and check that both agree."""
    found, same = one.decide(request), await one.adecide(request)
    varying = {"latency_ms"}
    assert found.model_dump(exclude=varying) == same.model_dump(exclude=varying)
    return found


@pytest.mark.parametrize(
    ("request_", "candidate", "reason"),
    [
        (asking(), "small", "score"),
        (asking(route="large", sticky_to="small"), "large", "forced"),
        (asking(route="small", needs_tools=True, input_tokens=500), "small", "forced"),
        (asking(needs_tools=True, sticky_to="small"), "large", "capability"),
        (asking(input_tokens=500, sticky_to="small"), "large", "context_window"),
        (asking(sticky_to="large"), "large", "sticky"),
        (asking("", sticky_to="small"), "small", "sticky"),
        (asking(None), "large", "no_query"),
        (asking(" "), "large", "no_query"),
    ],
)
async def test_rules_come_in_their_order(
    request_: RoutingRequest, candidate: str, reason: str
) -> None:
    found = await decided_both(engine(), request_)
    assert (found.candidate, found.reason) == (candidate, reason)


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        (OSError(SECRET), "OSError"),
        (math.nan, "ScoringError"),
        ([0.1, 0.2], "ScoringError"),
    ],
)
async def test_a_router_that_fails_sends_to_the_reference(
    trouble: Any, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    found = await decided_both(engine(trouble), asking())
    assert (found.candidate, found.reason, found.error) == ("large", "router_error", error)
    assert "secret" not in caplog.text + found.model_dump_json()


async def test_even_stop_iteration_sends_to_the_reference() -> None:
    one = engine(StopIteration(SECRET))
    for found in (one.decide(asking()), await one.adecide(asking())):
        assert (found.candidate, found.reason) == ("large", "router_error")
        assert found.latency_ms < 2000


async def test_a_router_that_hangs_sends_to_the_reference_in_time() -> None:
    started = time.perf_counter()
    found = await decided_both(engine(delay_s=30, timeout_s=0.05), asking())
    assert (found.candidate, found.reason) == ("large", "router_error")
    assert found.error == "ScoringTimeoutError"
    assert 50 <= found.latency_ms < 2000
    assert time.perf_counter() - started < 5


async def test_many_decisions_at_once_leave_the_loop_free() -> None:
    one, beats = engine(delay_s=0.05), 0

    async def beat() -> None:
        nonlocal beats
        while True:
            beats += 1
            await asyncio.sleep(0.005)

    heart = asyncio.create_task(beat())
    started = time.perf_counter()
    found = await asyncio.gather(*(one.adecide(asking()) for _ in range(50)))
    took = time.perf_counter() - started
    heart.cancel()
    assert {decision.reason for decision in found} == {"score"}
    assert took < 50 * 0.05
    assert beats > 10


def test_the_default_dial_is_named_in_one_log_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="hybrid_llm"):
        one = engine()
        one.decide(asking())
    assert [line.getMessage() for line in caplog.records] == [
        "No dial given: using the stored default of router fixed, threshold=0."
    ]
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="hybrid_llm"):
        engine(dial=Dial("threshold", 2.0))
    assert not caplog.records


def test_the_dial_of_a_call_replaces_the_constructed_one() -> None:
    one = engine(1.0, dial=Dial("threshold", 2.0))
    assert one.decide(asking()).candidate == "large"
    lower = RoutingRequest(
        query=RoutingQuery(text="q"), options=CallOptions(dial=Dial("threshold", 0.5))
    )
    found = one.decide(lower)
    assert (found.candidate, found.dial, found.dial_value) == ("small", "threshold", 0.5)


# -- what a router made by hand can still hide ----------------------------------------------------


def broken(part: str, name: str, value: Any) -> RoutingEngine:
    """An engine whose router, or its curve, is spoilt behind the checks' back."""
    one = RoutingEngine(calibrated_router(), [SMALL, LARGE])
    object.__setattr__(one.router if part == "router" else one.router.curve, name, value)
    return one


BROKEN = {
    "no name": ("router", "name", 5),
    "no thresholds": ("curve", "thresholds", np.array([])),
    "no array": ("curve", "thresholds", None),
    "no range": ("curve", "quality_range", ("a", "b")),
}


@pytest.mark.parametrize("spoilt", BROKEN.values(), ids=BROKEN.keys())
async def test_a_broken_router_sends_to_the_reference(spoilt: tuple[str, str, Any]) -> None:
    found = await decided_both(broken(*spoilt), asking())
    assert (found.candidate, found.reason) == ("large", "router_error")
    assert found.error in {"ValidationError", "IndexError", "TypeError"}
    known = ("estimated", "not promised"), ("none", "router_error")
    assert (found.guarantee, found.guarantee_reason) in known
    assert made(broken(*spoilt), asking(), lambda step: step.decision.reason) == "router_error"


def test_what_a_call_asks_for_is_still_refused_or_done() -> None:
    one = broken("router", "name", 5)
    forced = RoutingRequest(query=RoutingQuery(text="q"), options=CallOptions(route="small"))
    assert (one.decide(forced).candidate, one.decide(forced).reason) == ("small", "forced")
    for options in (CallOptions(route="nobody"), CallOptions(dial=Dial("max_quality_drop", 0.1))):
        with pytest.raises(ConfigurationError):
            engine().decide(RoutingRequest(query=RoutingQuery(text="q"), options=options))


def test_the_capability_guard_holds_where_the_router_is_broken() -> None:
    large = Candidate("large", supports_tools=False)
    one = RoutingEngine(calibrated_router(), [Candidate("small"), large])
    object.__setattr__(one.router.curve, "thresholds", np.array([]))
    found = one.decide(RoutingRequest(query=RoutingQuery(text="q"), needs_tools=True))
    assert (found.candidate, found.reason) == ("small", "router_error")


@pytest.mark.parametrize("query", [RoutingQuery(text=5), RoutingQuery(text="q", task=5)])  # type: ignore[arg-type]
async def test_a_query_of_another_type_goes_to_the_reference(query: RoutingQuery) -> None:
    found = await decided_both(engine(), RoutingRequest(query=query))
    assert (found.candidate, found.reason) == ("large", "router_error")


# -- construction -------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [["large"], ["a", "b", "c"]])
def test_a_wrong_number_of_candidates_is_refused(names: list[str]) -> None:
    with pytest.raises(
        CandidateError,
        match=rf"chooses between 2 candidates \(small, large\); {len(names)} models are given",
    ):
        RoutingEngine(fixed_router(), [Candidate(name) for name in names])


def test_a_quality_dial_on_an_uncalibrated_router_is_refused_at_once() -> None:
    with pytest.raises(NotCalibratedError, match="max_quality_drop needs a calibrated router"):
        engine(dial=Dial("max_quality_drop", 0.01))


def test_a_relative_dial_over_mixed_signs_is_refused_at_once() -> None:
    mixed = dataset(record("a", "q", small=-1, large=1), record("b", "qq", small=0, large=1))
    router = fixed_router(len).calibrate(mixed)
    with pytest.raises(DialError, match="max_quality_drop_absolute"):
        RoutingEngine(router, [SMALL, LARGE], dial=Dial("max_quality_drop", 0.01))


@pytest.mark.parametrize("timeout_s", [0, -1, math.nan, math.inf])
def test_an_impossible_timeout_is_refused(timeout_s: float) -> None:
    with pytest.raises(ConfigurationError, match="timeout_s is above 0"):
        engine(timeout_s=timeout_s)


def test_a_router_is_taken_by_its_folder(calibrated: Router, tmp_path: Path) -> None:
    calibrated.save_pretrained(tmp_path / "router")
    one = RoutingEngine(tmp_path / "router", [SMALL, LARGE])
    assert one.decide(asking()).scores == calibrated.decide(SECRET).scores
    with pytest.raises(ArtifactError, match="no router here"):
        RoutingEngine(tmp_path, [SMALL, LARGE])


def test_other_models_are_warned_of_once_and_void_the_guarantee() -> None:
    with pytest.warns(
        OtherCandidatesWarning, match="'gpt' for 'large'.*same_models=True"
    ) as caught:
        one = RoutingEngine(calibrated_router(), [SMALL, Candidate("gpt")])
    assert len(caught) == 1
    found = [one.decide(asking()) for _ in range(2)]
    assert {each.guarantee for each in found} == {"void"}
    assert {each.guarantee_reason for each in found} == {"other candidates"}


@pytest.mark.parametrize(
    ("bound", "same_models"),
    [(LARGE, False), (Candidate("gpt", aliases=("large",)), False), (Candidate("gpt"), True)],
)
def test_the_same_models_keep_the_guarantee(bound: Candidate, same_models: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = RoutingEngine(calibrated_router(), [SMALL, bound], same_models=same_models)
        bare = RoutingEngine(fixed_router(), [SMALL, bound], same_models=same_models)
    assert one.decide(asking()).guarantee == "estimated"
    found = bare.decide(asking())
    assert (found.guarantee, found.guarantee_reason) == ("none", "not calibrated")


def test_binding_is_by_position() -> None:
    others = [Candidate("llama"), Candidate("gpt")]
    with pytest.warns(OtherCandidatesWarning, match="'llama' for 'small', 'gpt' for 'large'"):
        one = RoutingEngine(fixed_router(1.0), others)
    assert one.decide(asking()).candidate == "llama"


def test_the_same_models_in_another_order_are_refused() -> None:
    with pytest.raises(CandidateError, match="bound in another order"):
        RoutingEngine(fixed_router(), [LARGE, SMALL])


def test_a_listener_that_would_never_run_is_refused() -> None:
    async def listener(decision: object) -> None: ...

    with pytest.raises(ConfigurationError, match="coroutine"):
        RoutingEngine(fixed_router(), [SMALL, LARGE], on_decision=[listener])


async def test_cancelled_calls_count_among_those_that_hang() -> None:
    deadline = Deadline(5.0)
    hanging = threading.Event()
    tasks = [asyncio.create_task(deadline.arun(hanging.wait)) for _ in range(4)]
    await asyncio.sleep(0.1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(deadline._overdue) == 4
    hanging.set()


# -- privacy ------------------------------------------------------------------------------------


def test_no_text_in_what_a_decision_leaves_behind(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        one = engine(OSError(SECRET))
        decision = made(one, asking(), lambda step: step.decision)
    left = [repr(one), repr(decision), str(decision), decision.summary(), caplog.text]
    left += [decision.model_dump_json(), str(decision.model_dump()), repr(asking())]
    assert not any("secret" in text for text in left)
    assert b"secret" not in pickle.dumps(decision)
    assert decision.query is None


def test_the_text_is_recorded_where_asked() -> None:
    found = engine(record_query=True).decide(asking())
    assert found.query == SECRET
    assert "secret" not in repr(found)
    assert SECRET in found.model_dump_json()


def test_hashes_are_keyed() -> None:
    one, other = engine(), engine()
    hashes = {one.decide(asking()).query_hash for _ in range(2)}
    assert len(hashes) == 1
    assert one.decide(asking("else")).query_hash not in hashes
    assert other.decide(asking()).query_hash not in hashes
    plain = hashlib.blake2b(SECRET.encode(), digest_size=16).hexdigest()
    assert plain not in hashes


def test_hashes_of_one_key_compare() -> None:
    one, other = engine(hash_key=b"key"), engine(hash_key=b"key")
    assert one.decide(asking()).query_hash == other.decide(asking()).query_hash
    assert engine(hash_key=b"k" * 100).decide(asking()).query_hash


@pytest.mark.parametrize("record_query", [False, True])
def test_any_text_leaves_a_record(record_query: bool) -> None:
    found = engine(record_query=record_query).decide(asking("\ud83d half an emoji \x00"))
    assert found.reason == "score"
    assert found.query_hash
    assert RoutingDecision.model_validate_json(found.model_dump_json()) == found


# -- calling ------------------------------------------------------------------------------------


def test_the_decided_candidate_is_called_once_and_its_answer_returned() -> None:
    called: list[str] = []

    def answer(step: Attempt) -> str:
        called.append(step.decision.candidate)
        return "the answer"

    assert made(engine(1.0), asking(), answer) == "the answer"
    assert made(engine(-1.0), asking(), answer) == "the answer"
    assert called == ["small", "large"]


async def test_the_same_asynchronously() -> None:
    async def answer(step: Attempt) -> str:
        await asyncio.sleep(0)
        return step.decision.candidate

    assert await amade(engine(1.0), asking(), answer) == "small"
    assert await amade(engine(OSError()), asking(), answer) == "large"


async def test_a_models_own_error_is_the_callers() -> None:
    error = ValueError("the model's own")

    def fail(_: Attempt) -> None:
        raise error

    async def afail(_: Attempt) -> None:
        raise error

    only = CallSettings(fallback="off")
    with pytest.raises(ValueError) as caught:
        made(engine(settings=only), asking(), fail)
    assert caught.value is error
    with pytest.raises(ValueError) as caught:
        await amade(engine(settings=only), asking(), afail)
    assert caught.value is error


def test_a_models_stop_iteration_is_no_answer() -> None:
    only = CallSettings(fallback="off")
    with pytest.raises(RuntimeError) as caught:
        made(engine(settings=only), asking(), lambda _: next(iter(())))
    assert isinstance(caught.value.__cause__, StopIteration)


async def test_cancelling_reaches_the_model() -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def hang(_: Attempt) -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    task = asyncio.create_task(amade(engine(), asking(), hang))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled.is_set()


async def test_cancelling_while_the_router_thinks_calls_no_model() -> None:
    called: list[RoutingDecision] = []
    release = threading.Event()

    async def answer(step: Attempt) -> None:
        called.append(step.decision)

    slow = engine(lambda _: float(release.wait(5)))
    task = asyncio.create_task(amade(slow, asking(), answer))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()
    assert not called


def test_listeners_hear_every_call_and_no_preview() -> None:
    heard: list[RoutingDecision] = []
    one = engine(on_decision=[heard.append])
    one.decide(asking())
    assert not heard
    made(one, asking(), lambda _: None)
    assert [decision.reason for decision in heard] == ["score"]


def test_a_listener_hears_before_the_model_answers() -> None:
    order: list[str] = []
    one = engine(on_decision=[lambda _: order.append("heard")])
    made(one, asking(), lambda _: order.append("called"))
    assert order == ["heard", "called"]


def test_a_listener_that_raises_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[RoutingDecision] = []

    def broken(_: RoutingDecision) -> None:
        raise OSError(SECRET)

    one = engine(on_decision=[broken, heard.append])
    assert made(one, asking(), lambda _: "answer") == "answer"
    assert len(heard) == 1
    assert "on_decision raised OSError" in caplog.text
    assert "secret" not in caplog.text


def test_wrong_options_of_a_call_are_the_callers() -> None:
    with pytest.raises(CandidateError, match="route='medium' names no candidate"):
        made(engine(), asking(route="medium"), lambda _: None)
    quality = RoutingRequest(options=CallOptions(dial=Dial("max_quality_drop", 0.1)))
    with pytest.raises(NotCalibratedError):
        engine().decide(quality)


@dataclasses.dataclass(frozen=True)
class Scores:
    """Gives whatever it was told to, for one text."""

    given: Any

    def score(self, texts: Sequence[str]) -> Any:
        return self.given


@pytest.mark.parametrize(
    "given",
    [
        np.array([["1", "2"]]),
        np.array([[True, True]]),
        np.ones((2, 1)),
        np.ones((1, 1, 2)),
        np.ones((1, 3)),
        np.full((1, 2), 1e300),
        [[[1.0, 2.0]]],
    ],
    ids=["text", "truths", "turned", "deeper", "wider", "huge", "list"],
)
def test_scores_of_another_shape_or_kind_go_to_the_reference(given: Any) -> None:
    router = Router(candidates=("a", "b", "c"), scorer=Scores(given))
    found = router.decide("why?")
    assert (found.candidate, found.reason) == ("c", "router_error")
