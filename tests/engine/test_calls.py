"""Calls of the engine: time limits, streams, records and who is told."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import pickle
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from shared_router import Candidate, RoutingEngine
from shared_router.deciding.escalation import Answer
from shared_router.deciding.guards import RoutingRequest
from shared_router.engine.streams import AsyncOpened, Live, aopened, opened
from shared_router.engine.terms import CallSettings
from shared_router.errors import (
    AllCandidatesFailedError,
    CallTimeoutError,
    CandidateError,
    ConfigurationError,
)
from shared_router.options import CallOptions
from shared_router.records import CallRecord, Usage
from shared_router.support.patience import Patience
from shared_router.testing import fixed_router
from tests.engine.calling import hands

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from shared_router.deciding.attempts import Attempt

REQUEST = RoutingRequest()


def engine(score: Any = 1.0, **settings: Any) -> RoutingEngine:
    listeners = settings.pop("on_call", ())
    return RoutingEngine(
        fixed_router(score),
        [Candidate("small"), Candidate("large")],
        settings=CallSettings(**settings),
        on_call=listeners,
    )


def asking(**options: Any) -> RoutingRequest:
    return RoutingRequest(options=CallOptions.parse({"route": "small", **options}))


def behaving(small: Any, large: Any = "large") -> Any:
    """Make what an attempt does: a value, an error, or what a function makes."""

    def attempt(step: Attempt) -> Any:
        found = (small, large)[step.index]
        if isinstance(found, Exception):
            raise found
        return found() if callable(found) else found

    return attempt


def abehaving(small: Any, large: Any = "large") -> Any:
    """Make the same asynchronously; what a function makes is awaited."""

    async def attempt(step: Attempt) -> Any:
        found = behaving(small, large)(step)
        return await found if asyncio.iscoroutine(found) else found

    return attempt


def no(chunk: str) -> bool:
    return not chunk


# -- time limits --------------------------------------------------------------------------------


def test_a_model_that_hangs_leaves_time_for_another() -> None:
    release = threading.Event()
    one = engine(call_timeout_s=1.8)
    call = one.call(asking(), hands(behaving(lambda: release.wait(20))))
    release.set()
    assert call.answer == "large"
    assert call.record.attempts[0].error == "timeout"


async def test_the_same_asynchronously_and_the_hanging_one_is_cancelled() -> None:
    cancelled = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    call = await engine(call_timeout_s=1.5).acall(asking(), hands(abehaving(hang)))
    assert call.answer == "large"
    assert cancelled.is_set()


def test_a_call_ends_within_its_limit() -> None:
    release = threading.Event()
    started = time.monotonic()
    with pytest.raises(CallTimeoutError):
        engine(call_timeout_s=0.3).call(
            asking(), hands(behaving(lambda: release.wait(20), lambda: release.wait(20)))
        )
    release.set()
    assert time.monotonic() - started < 10


def test_a_limit_of_the_calls_own_replaces_the_constructed_one() -> None:
    call = engine(call_timeout_s=0.001).call(asking(call_timeout_s=30), hands(behaving("small")))
    assert call.answer == "small"


def test_what_comes_too_late_is_closed() -> None:
    release, closed = threading.Event(), threading.Event()

    class Late:
        def close(self) -> None:
            closed.set()

    def slow() -> Late:
        release.wait(20)
        return Late()

    patience = Patience()
    with pytest.raises(CallTimeoutError):
        patience.run(slow, 0.05)
    release.set()
    assert closed.wait(10)


def test_patience_hands_on_what_a_function_raises() -> None:
    patience = Patience()
    error = TimeoutError("its own")
    with pytest.raises(TimeoutError) as caught:
        patience.run(lambda: _raise(error), 5)
    assert caught.value is error
    assert patience.run(lambda: 1 + 1, 5) == 2
    patience.close()


def _raise(error: Exception) -> None:
    raise error


# -- streams ------------------------------------------------------------------------------------


def words(*chunks: Any) -> Iterator[Any]:
    for chunk in chunks:
        if isinstance(chunk, Exception):
            raise chunk
        yield chunk


async def awords(*chunks: Any) -> AsyncIterator[Any]:
    for chunk in chunks:
        if isinstance(chunk, Exception):
            raise chunk
        yield chunk


def streaming(small: list[Any], large: list[Any] | None = None) -> Any:
    return hands(
        lambda step: opened(words(*((small, large or ["L"])[step.index])), no),
        streams=True,
        merge="".join,
    )


def astreaming(small: list[Any], large: list[Any] | None = None) -> Any:
    async def attempt(step: Attempt) -> AsyncOpened:
        return await aopened(awords(*((small, large or ["L"])[step.index])), no)

    return hands(attempt, streams=True, merge="".join)


async def test_a_stream_commits_at_the_first_chunk_that_shows_something() -> None:
    for broken in ([OSError()], ["", "", OSError()]):
        assert list(engine().call(asking(), streaming(broken)).chunks()) == ["L"]
        call = await engine().acall(asking(), astreaming(broken))
        assert [chunk async for chunk in call.achunks()] == ["L"]
    told = list(engine().call(asking(), streaming(["", "a", "b"])).chunks())
    assert told == ["", "a", "b"]


async def test_a_later_break_is_the_callers_and_names_its_candidate() -> None:
    heard: list[CallRecord] = []
    one, error = engine(on_call=[heard.append]), OSError("cut")
    seen: list[str] = []
    with pytest.raises(OSError) as caught:
        seen.extend(one.call(asking(), streaming(["a", error])).chunks())
    assert caught.value.__notes__ == ["Raised by candidate 'small'."]
    call = await one.acall(asking(), astreaming(["a", OSError("cut")]))
    with pytest.raises(OSError):
        seen += [chunk async for chunk in call.achunks()]
    assert [(r.broke_off, r.error_type, r.answered_by) for r in heard] == [
        (True, "OSError", "small")
    ] * 2
    assert one.health()[0].failures == 2


def test_a_stream_that_is_left_is_closed_and_told_of() -> None:
    heard: list[CallRecord] = []
    closed: list[bool] = []

    def chunks() -> Iterator[str]:
        try:
            yield "a"
            yield "b"
        finally:
            closed.append(True)

    one = engine(on_call=[heard.append])
    call = one.call(asking(), hands(lambda _: opened(chunks(), no), streams=True))
    drawn = call.chunks()
    assert next(drawn) == "a"
    drawn.close()
    assert closed == [True]
    assert heard[0].broke_off
    assert heard[0].error_type is None


def test_a_stream_that_stalls_ends_at_the_limit() -> None:
    release = threading.Event()

    def stalling() -> Iterator[str]:
        yield "a"
        release.wait(20)
        yield "b"

    one = engine(call_timeout_s=0.9)
    call = one.call(asking(), hands(lambda _: opened(stalling(), no), streams=True))
    seen: list[str] = []
    with pytest.raises(CallTimeoutError):
        seen.extend(call.chunks())
    release.set()
    assert seen == ["a"]


async def test_an_async_stream_that_stalls_ends_at_the_limit() -> None:
    async def stalling() -> AsyncIterator[str]:
        yield "a"
        await asyncio.sleep(20)

    async def attempt(_: Attempt) -> AsyncOpened:
        return await aopened(stalling(), no)

    call = await engine(call_timeout_s=0.9).acall(asking(), hands(attempt, streams=True))
    seen: list[str] = []

    async def drawn() -> None:
        async for chunk in call.achunks():
            seen.append(chunk)  # noqa: PERF401  (what was seen before the error counts)

    with pytest.raises(CallTimeoutError):
        await drawn()
    assert seen == ["a"]


def test_a_slow_reader_spends_none_of_the_limit() -> None:
    one = engine(call_timeout_s=1.0)
    call = one.call(asking(), streaming(["a", "b", "c"]))
    seen = []
    for chunk in call.chunks():
        seen.append(chunk)
        time.sleep(0.4)
    assert seen == ["a", "b", "c"]


# -- records ------------------------------------------------------------------------------------


def test_the_record_tells_what_came_of_a_call() -> None:
    heard: list[CallRecord] = []
    told = {"small": Answer(model="s-1"), "large": Answer(model="l-1", usage=Usage(input_tokens=3))}
    one = engine(on_call=[heard.append], escalate=("empty",))
    call = one.call(
        asking(),
        dataclasses.replace(hands(behaving("", "large")), read=lambda a: told[a or "small"]),
    )
    (record,) = heard
    assert record == call.record
    assert (record.decision.candidate, record.answered_by, record.why) == (
        "small",
        "large",
        "escalated",
    )
    assert record.escalated
    assert [(a.candidate, a.rejected, a.model) for a in record.attempts] == [
        ("small", "empty", "s-1"),
        ("large", None, "l-1"),
    ]
    assert record.usage == Usage(input_tokens=3)
    assert record.summary() == "large (escalated) after small: empty"


def test_listeners_hear_of_errors_and_of_cancelled_calls() -> None:
    heard: list[CallRecord] = []
    one = engine(on_call=[lambda _: 1 / 0, heard.append])
    with pytest.raises(AllCandidatesFailedError):
        one.call(asking(), hands(behaving(OSError(), OSError())))

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one.call(asking(), hands(behaving(interrupted)))
    assert [r.error_type for r in heard] == ["AllCandidatesFailedError", "KeyboardInterrupt"]
    assert [r.answered_by for r in heard] == [None, None]
    assert heard[0].summary() == "nobody answered after small: unknown, large: unknown"


def test_a_record_holds_no_text() -> None:
    heard: list[CallRecord] = []
    one = engine(on_call=[heard.append])
    one.call(asking(), hands(behaving(OSError("my secret"), "a secret answer")))
    assert "secret" not in heard[0].model_dump_json() + repr(heard[0]) + repr(one)


def test_what_the_host_reads_by_itself_ends_when_the_front_says_so() -> None:
    heard: list[CallRecord] = []
    one = engine(on_call=[heard.append])
    call = one.call(asking(), hands(lambda _: Live("theirs"), streams=True))
    assert heard == []
    call.ended("whole")
    assert heard[0].answered_by == "small"


# -- options ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["20", 20, 20.0])
def test_a_limit_may_be_text(text: Any) -> None:
    assert CallOptions.parse({"call_timeout_s": text}).call_timeout_s == 20.0


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("call_timeout_s", 0, "above 0"),
        ("call_timeout_s", "soon", "above 0"),
        ("call_timeout_s", True, "above 0"),
        ("call_timeout_s", float("nan"), "above 0"),
        ("fallback", 3, "'any', 'up', 'off'"),
        ("fallback", ["small", 3], "'any', 'up', 'off'"),
        ("escalate", 3, "names of checks"),
    ],
)
def test_wrong_options_are_refused(name: str, value: Any, error: str) -> None:
    with pytest.raises(ConfigurationError, match=error):
        CallOptions.parse({name: value})


def test_names_are_looked_up_before_a_model_is_asked() -> None:
    asked: list[int] = []
    attempt = hands(lambda step: asked.append(step.index))
    with pytest.raises(CandidateError, match="fallback='medium' names no candidate"):
        engine().call(asking(fallback="medium"), attempt)
    with pytest.raises(ConfigurationError, match="did you mean 'length'"):
        engine().call(asking(escalate=["lenght"]), attempt)
    with pytest.raises(CandidateError, match="fallback='medium'"):
        engine(fallback=("medium",))
    with pytest.raises(ConfigurationError, match="escalate knows"):
        engine(escalate=("none such",))
    assert asked == []


def test_structured_output_is_checked_unless_told_otherwise() -> None:
    wanted = RoutingRequest(
        needs_structured_output=True, options=CallOptions.parse({"route": "small"})
    )
    broken = behaving(ValueError("no JSON"), {"a": 1})
    assert engine().call(wanted, hands(broken)).answer == {"a": 1}
    for settings in ({"escalate": ()}, {"fallback": "off"}):
        with pytest.raises(ValueError, match="no JSON"):
            engine(**settings).call(wanted, hands(behaving(ValueError("no JSON"), {"a": 1})))


# -- copies -------------------------------------------------------------------------------------


def test_copies_share_what_is_known_of_the_models() -> None:
    one = engine()
    for _ in range(5):
        one.call(asking(), hands(behaving(OSError())))
    others = [copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))]  # noqa: S301
    assert {each.health()[0].state for each in others} == {"resting"}
    one.reset()
    assert {each.health()[0].state for each in others} == {"healthy"}


def test_without_breakers_nobody_rests() -> None:
    one = engine(breaker=False)
    for _ in range(20):
        call = one.call(asking(), hands(behaving(OSError())))
    assert call.attempts is not None
    assert len(call.attempts.tried) == 2
    assert one.health()[0].state == "healthy"
    assert one.health()[0].failures == 10


def test_many_threads_each_get_their_own_answer() -> None:
    one, wrong = engine(), []

    def work(number: int) -> None:
        for turn in range(50):
            fails = OSError() if (number + turn) % 3 == 0 else f"{number}-{turn}"
            call = one.call(asking(), hands(behaving(fails, f"{number}-{turn}")))
            if call.answer != f"{number}-{turn}":
                wrong.append(call.answer)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
