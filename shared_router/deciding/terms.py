"""What holds for a call's attempts: who may be asked, what is checked, how long it may take."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shared_router.deciding.escalation import Check
    from shared_router.deciding.failures import Failure
    from shared_router.options import Fallback
    from shared_router.records import Candidate


class Watch(Protocol):
    """What is known of the candidates' health, by position; see `engine.breaker`."""

    def ready(self, index: int) -> bool:
        """Tell whether a candidate may be asked in its turn."""
        ...

    def answered(self, index: int) -> None:
        """Note an answer."""
        ...

    def failed(self, index: int, failure: Failure) -> None:
        """Note a failure."""
        ...

    def warn(self, index: int, failure: Failure) -> None:
        """Say that the set-up of a candidate is wrong."""
        ...

    def told(self, index: int, *, mute: bool) -> None:
        """Note whether an answer that was to be looked at came without what its scorer needs."""
        ...

    def is_mute(self, index: int) -> bool:
        """Tell whether a candidate's answers always come without."""
        ...


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What holds for the attempts of all calls with the same options."""

    candidates: Sequence[Candidate]
    """From the cheapest to the reference."""
    fallback: Fallback = "any"
    """Who else is asked where one fails."""
    checks: tuple[Check, ...] = ()
    """What sends an answer to the next dearer one."""
    call_timeout_s: float | None = None
    """Seconds for the whole call, decision included."""
    up_first: bool = False
    """Whether no cheaper candidate is asked while a dearer one may answer."""
    watch: Watch | None = None
    """Learns of every outcome, and tells who rests."""
    is_mendable: Callable[..., bool | None] | None = None
    """The user's rule on errors."""
    retries: Callable[[int], bool] = field(default_factory=lambda: always)
    """Tells whether a candidate tries again by itself; then nobody asks it twice."""
    clock: Callable[[], float] = time.monotonic


def always(_: object) -> bool:
    """Take it that a model tries again by itself, where nobody knows."""
    return True
