"""Breakers: a candidate that fails again and again rests, and is asked last until it answers.

One a candidate, shared by all copies of a router's models in a process. A resting candidate goes to
the end of the order, never out of it; after its rest one call asks it again, and its answer ends
the rest.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from weakref import WeakValueDictionary

from shared_router.deciding.failures import OF_THE_CALL, OF_THE_SET_UP
from shared_router.support.processes import ForkSafeLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from shared_router.deciding.failures import Failure
    from shared_router.records import FailureKind

logger = logging.getLogger("hybrid_llm")

WINDOW_S = 60.0
"""Seconds for which an outcome counts."""
LATEST = 10
"""Outcomes that count, the latest."""
FEWEST_FAILURES = 5
SHARE_OF_FAILURES = 0.8
"""A candidate rests where so many of the latest outcomes, and so large a share, are failures."""
FIRST_REST_S = 5.0
LONGEST_REST_S = 60.0
"""Rests double from the first to the longest, while each probe fails."""
LONGEST_ASKED_REST_S = 600.0
"""The longest rest that a provider's `Retry-After` is granted."""
MISCONFIGURED_AFTER = 20
"""Refused keys and unknown models in a row after which `health` says so."""

State = Literal["healthy", "resting", "probing", "misconfigured"]


@dataclass(frozen=True, kw_only=True)
class Health:
    """How one candidate does in this process."""

    candidate: str
    """Its name."""
    state: State
    """`healthy`; `resting` after failures; `probing`, where one call asks it again;
    `misconfigured`, where its key or its name was refused many times in a row."""
    failures: int
    """Failures that count now."""
    rests_for_s: float
    """Seconds of its rest that are left."""
    last_error: FailureKind | None
    """Kind of its last failure; `None` where it answered since."""


@dataclass
class Breaker:
    """One candidate's outcomes, and whether it rests.

    Args:
        name: The candidate's name, for the log.
        clock: Monotonic seconds.
    """

    name: str
    clock: Callable[[], float] = time.monotonic
    last_error: FailureKind | None = None
    _outcomes: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=LATEST))
    _rest_s: float = 0.0
    _until: float = 0.0
    _probing_until: float = 0.0
    _refused_in_a_row: int = 0
    _lock: ForkSafeLock = field(default_factory=ForkSafeLock, repr=False)

    def ready(self) -> bool:
        """Tell whether it may be asked in its turn; after a rest, the first who asks probes it."""
        if not self._rest_s:
            return True
        with self._lock:
            now = self.clock()
            if now < self._until or now < self._probing_until:
                return False
            self._probing_until = now + self._rest_s  # a probe that is never told of expires
            return True

    def answered(self) -> None:
        """Note an answer: it ends a rest."""
        if self.last_error is None and not self._outcomes:
            return  # nothing to forget, as nearly always
        with self._lock:
            self._outcomes.append((self.clock(), True))
            self.last_error, self._refused_in_a_row = None, 0
            if self._rest_s:
                self._rest_s, self._until, self._probing_until = 0.0, 0.0, 0.0
                self._outcomes.clear()

    def failed(self, failure: Failure, *, rests: bool = True) -> None:
        """Note a failure; one that the call itself is at fault for does not count.

        Args:
            failure: What came of an attempt.
            rests: Whether a rest may begin.
        """
        if failure.kind in OF_THE_CALL:
            return
        with self._lock:
            now = self.clock()
            self._outcomes.append((now, False))
            self.last_error = failure.kind
            refused = failure.kind in OF_THE_SET_UP
            self._refused_in_a_row = self._refused_in_a_row + 1 if refused else 0
            if rests and self._due(now):
                self._rest(now, failure.retry_after_s or 0.0)

    def _due(self, now: float) -> bool:
        if self._rest_s:  # a probe, or a call that had no other choice
            return now >= self._until
        failures = self._failures(now)
        known = sum(now - at <= WINDOW_S for at, _ in self._outcomes)
        return failures >= max(FEWEST_FAILURES, SHARE_OF_FAILURES * known)

    def _failures(self, now: float) -> int:
        return sum(not answered and now - at <= WINDOW_S for at, answered in self._outcomes)

    def _rest(self, now: float, asked_s: float) -> None:
        self._rest_s = min(2 * self._rest_s, LONGEST_REST_S) if self._rest_s else FIRST_REST_S
        rest_s = max(self._rest_s, min(asked_s, LONGEST_ASKED_REST_S))
        self._until, self._probing_until = now + rest_s, 0.0
        logger.warning(
            "Candidate %r rests for %.0f s after failures (%s): others are asked first.",
            self.name,
            rest_s,
            self.last_error,
        )

    def health(self) -> Health:
        """Say how the candidate does."""
        with self._lock:
            now = self.clock()
            return Health(
                candidate=self.name,
                state=self._state(now),
                failures=self._failures(now),
                rests_for_s=max(0.0, self._until - now) if self._rest_s else 0.0,
                last_error=self.last_error,
            )

    def _state(self, now: float) -> State:
        if self._refused_in_a_row >= MISCONFIGURED_AFTER:
            return "misconfigured"
        if not self._rest_s:
            return "healthy"
        return "resting" if now < self._until else "probing"

    def reset(self) -> None:
        """Forget all outcomes, as a new process would."""
        with self._lock:
            self._outcomes.clear()
            self.last_error, self._refused_in_a_row = None, 0
            self._rest_s, self._until, self._probing_until = 0.0, 0.0, 0.0


class Breakers:
    """The breakers of one binding; its copies, and pickles of it in a process, are the same.

    Args:
        names: The candidates' names, by position.
        before: Breakers to go on with, by position; a new one where `None`.
    """

    def __init__(self, names: Sequence[str], before: Sequence[Breaker | None] = ()) -> None:
        known = [*before, *[None] * (len(names) - len(before))]
        self._names = tuple(names)
        self._key = uuid.uuid4().hex
        self._all = [old or Breaker(name) for name, old in zip(names, known, strict=True)]
        _shared[self._key] = self

    def __reduce__(self) -> tuple[Callable[..., Breakers], tuple[tuple[str, ...], str]]:
        return _found, (self._names, self._key)

    def __copy__(self) -> Breakers:
        return self

    def __deepcopy__(self, memo: object) -> Breakers:
        return self

    def __getitem__(self, index: int) -> Breaker:
        return self._all[index]

    def __iter__(self) -> Iterator[Breaker]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)


_shared: WeakValueDictionary[str, Breakers] = WeakValueDictionary()


def _found(names: tuple[str, ...], key: str) -> Breakers:
    return _shared.get(key) or Breakers(names)
