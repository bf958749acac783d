"""One call that may fail: pace, time limit, retries with back-off."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from shared_router.data.answers import as_judgement
from shared_router.errors import ConfigurationError, HybridRoutingError
from shared_router.support.model_errors import retry_after_s, status_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared_router.data.answers import Judgement

PASSING_STATUS = frozenset({408, 409, 425, 429})
"""HTTP statuses below 500 that another attempt may cure."""
OUR_OWN_FAULT = (HybridRoutingError, TypeError, AttributeError, NotImplementedError)
"""Errors that another attempt cannot cure."""
BACK_OFF = wait_random_exponential(multiplier=0.5, max=60)
"""Seconds before the next attempt, with jitter, where the server does not say."""
LONGEST_WAIT_S = 600.0
"""A server that asks for more is not waited for: the call fails, and can be tried another day."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The numbers of a run; see `collect` for what each means.

    Raises:
        ConfigurationError: If one is out of range.
    """

    samples: int
    concurrency: int
    requests_per_minute: float | None
    timeout_s: float | None
    retries: int
    max_usd: float | None
    give_up_after: int

    def __post_init__(self) -> None:
        for name, least in (
            ("samples", 1),
            ("concurrency", 1),
            ("retries", 0),
            ("give_up_after", 1),
        ):
            if getattr(self, name) < least:
                raise ConfigurationError(f"{name} is at least {least}; got {getattr(self, name)}.")
        for name in ("requests_per_minute", "timeout_s", "max_usd"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigurationError(
                    f"{name} is a finite number above 0, or none; got {value}."
                )


class Pace:
    """Starts calls no faster than a rate, and holds them back when a server asks for it."""

    def __init__(self, per_minute: float | None) -> None:
        self._gap_s = 60.0 / per_minute if per_minute else 0.0
        self._next_s = 0.0

    async def wait(self) -> None:
        """Wait for this call's turn."""
        now_s = asyncio.get_running_loop().time()
        start_s = max(now_s, self._next_s)
        self._next_s = start_s + self._gap_s
        if start_s > now_s:
            await asyncio.sleep(start_s - now_s)

    def hold(self, seconds: float) -> None:
        """Start nothing for so long: a limit that one call met concerns the others too."""
        self._next_s = max(self._next_s, asyncio.get_running_loop().time() + seconds)


class Caller:
    """Calls one model, or one judge, until it answers or fails for good."""

    def __init__(self, limits: Limits) -> None:
        self._pace = Pace(limits.requests_per_minute)
        self._timeout_s, self._retries = limits.timeout_s, limits.retries

    async def call(self, ask: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """Call; the last attempt's error is raised as it is."""
        trying = AsyncRetrying(
            stop=stop_after_attempt(self._retries + 1),
            wait=self._pause_s,
            retry=retry_if_exception(may_pass),
            reraise=True,
        )
        return await trying(self._once, ask, *args)

    async def _once(self, ask: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        await self._pace.wait()
        async with asyncio.timeout(self._timeout_s):
            return await ask(*args)

    def _pause_s(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked_s = retry_after_s(error) if error else None
        if asked_s is None:
            return BACK_OFF(state)
        self._pace.hold(asked_s)
        return asked_s


async def judged(caller: Caller, score: Callable[..., Awaitable[Any]], *asked: Any) -> Judgement:
    """Call a judge that is a model, and count what its failed attempts cost too.

    Raises:
        Exception: The last attempt's error, `cost_usd` on it: what all attempts cost, where known.
    """
    spent: list[float] = []

    async def attempt() -> Any:
        try:
            return await score(*asked)
        except BaseException as error:  # a time limit cancels
            spent.append(getattr(error, "cost_usd", None) or 0.0)
            raise

    try:
        told = await caller.call(attempt)
    except Exception as error:
        if any(spent):
            with suppress(AttributeError):
                error.cost_usd = sum(spent)  # type: ignore[attr-defined]
        raise
    try:
        found = as_judgement(told)
    except ValueError as error:
        error.cost_usd = sum(spent) + (getattr(error, "cost_usd", None) or 0.0)  # type: ignore[attr-defined]
        raise
    if not any(spent):
        return found
    cost_usd = sum(spent) + (found.usage.cost_usd or 0.0)
    return replace(found, usage=found.usage.model_copy(update={"cost_usd": cost_usd}))


def may_pass(error: BaseException) -> bool:
    """Tell whether another attempt may succeed."""
    if not isinstance(error, Exception) or isinstance(error, OUR_OWN_FAULT):
        return False
    if (retry_after_s(error) or 0.0) > LONGEST_WAIT_S:
        return False
    status = status_of(error)
    return status is None or status >= 500 or status in PASSING_STATUS
