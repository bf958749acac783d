"""What holds for a call's attempts: the engine's settings, and the call's options over them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shared_router.deciding.escalation import checks_from
from shared_router.deciding.guards import position_of
from shared_router.deciding.terms import Terms
from shared_router.errors import ConfigurationError
from shared_router.options import (
    AUTO,
    QUALITY_DIALS,
    call_timeout_from,
    escalate_from,
    fallback_from,
    second_look_from,
)
from shared_router.support.once import warn_once

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shared_router.deciding.failures import Failure
    from shared_router.deciding.guards import RoutingRequest
    from shared_router.engine.breaker import Breakers
    from shared_router.options import Asked, CallOptions, Fallback, SecondLook
    from shared_router.records import Candidate

logger = logging.getLogger("hybrid_llm")

OF_STRUCTURED_OUTPUT = ("schema",)
"""Checks of calls for structured output, where the user said none."""
MUTE_AFTER = 3
"""Answers in a row without log-probabilities after which a candidate is taken to give none."""
MOST_KEPT = 64
"""Sets of terms that are kept; past it, all are made anew."""


@dataclass(frozen=True, kw_only=True)
class CallSettings:
    """How calls are made, where a call says nothing else.

    Raises:
        ConfigurationError: If one is out of range, or names no candidate.
    """

    fallback: Fallback = "any"
    """Who else is asked where a candidate fails."""
    escalate: tuple[Any, ...] | None = None
    """Checks that send an answer to the next dearer candidate; `None` for the schema alone."""
    call_timeout_s: float | None = None
    """Seconds for a whole call."""
    breaker: bool = True
    """Whether a candidate that fails again and again rests."""
    is_mendable: Callable[[Exception], bool | None] | None = None
    """Which errors another candidate may mend."""
    second_look: SecondLook = AUTO
    """Whether answers are looked at."""

    @classmethod
    def read(cls, wrapper: Any) -> CallSettings:
        """Read a wrapper's fields.

        Raises:
            ConfigurationError: If one is wrong.
        """
        limit, rule = wrapper.call_timeout_s, wrapper.is_mendable
        if rule is not None and not callable(rule):
            raise ConfigurationError(f"is_mendable is a function of an error; got {rule!r}.")
        return cls(
            fallback=fallback_from(wrapper.fallback),
            escalate=escalate_from(wrapper.escalate),
            call_timeout_s=None if limit is None else call_timeout_from(limit),
            breaker=wrapper.breaker,
            is_mendable=rule,
            second_look=second_look_from(wrapper.second_look),
        )


@dataclass
class TermsOf:
    """Makes the terms of each call, and keeps those that come again.

    Args:
        candidates: As bound.
        asked: The dial in force where a call brings none.
        settings: How calls are made.
        breakers: One a candidate.
        retries: Tells whether a candidate tries again by itself.

    Raises:
        ConfigurationError: If the settings name no candidate, or no check.
    """

    candidates: Sequence[Candidate]
    asked: Asked
    settings: CallSettings
    breakers: Breakers
    retries: Callable[[Any], bool] | None = None
    _kept: dict[Any, Terms] = field(default_factory=dict, repr=False)
    _mute: list[int] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        self._mute = self._mute or [0] * len(self.candidates)
        self._made(None, None, None, False, False)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_kept": {}}

    def check(self, options: CallOptions) -> None:
        """Refuse what a call's own options say wrong.

        Raises:
            ConfigurationError: If they name no candidate, or no check.
        """
        asked = options.fallback, options.escalate, options.call_timeout_s
        self._made(*asked, False, False, keep=False)

    def of(self, request: RoutingRequest, *, streams: bool) -> Terms:
        """Return the terms of a call.

        Args:
            request: The call.
            streams: Whether a stream is wanted: one is not held back for its schema by itself.

        Raises:
            ConfigurationError: If the call's own options are wrong.
        """
        options = request.options
        key = (
            options.fallback,
            options.escalate,
            options.call_timeout_s,
            self._limits_quality(options),
            request.needs_structured_output and not streams,
        )
        try:
            found = self._kept.get(key)
        except TypeError:  # a check that has no hash is read anew each time
            return self._made(*key, keep=False)
        return self._made(*key) if found is None else found

    def _limits_quality(self, options: CallOptions) -> bool:
        """Tell whether the user wrote a limit on quality that is in force."""
        if options.dial is not None:
            return options.dial.name in QUALITY_DIALS
        return self.asked.written and self.asked.limits_quality

    def _made(
        self,
        fallback: Fallback | None,
        escalate: tuple[Any, ...] | None,
        call_timeout_s: float | None,
        up_first: bool,
        structured: bool,
        *,
        keep: bool = True,
    ) -> Terms:
        own = self.settings
        asked = own.fallback if fallback is None else fallback
        checks = own.escalate if escalate is None else escalate
        if checks is None:
            checks = OF_STRUCTURED_OUTPUT if structured and asked != "off" else ()
        terms = Terms(
            candidates=self.candidates,
            fallback=self._known(asked),
            checks=checks_from(checks),
            call_timeout_s=call_timeout_s or own.call_timeout_s,
            up_first=up_first,
            watch=Watching(self.candidates, self.breakers, own.breaker, self._mute),
            is_mendable=own.is_mendable,
            retries=self._retries,
        )
        if keep:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[fallback, escalate, call_timeout_s, up_first, structured] = terms
        return terms

    def _known(self, fallback: Fallback) -> Fallback:
        if isinstance(fallback, tuple):
            for name in fallback:
                position_of(name, self.candidates, "fallback")
        return fallback

    def _retries(self, index: int) -> bool:
        if self.retries is None:
            return True
        try:
            return self.retries(self.candidates[index].model)
        except Exception:  # noqa: BLE001  (a model that does not tell is not asked twice)
            return True


@dataclass(frozen=True)
class Watching:
    """The candidates' breakers, as attempts see them."""

    candidates: Sequence[Candidate]
    breakers: Breakers
    resting: bool = True
    """Whether one that fails rests."""
    mute: list[int] = field(default_factory=list)
    """How many answers in a row came without what their scorer needs, by position."""

    def ready(self, index: int) -> bool:
        """Tell whether a candidate may be asked in its turn."""
        return not self.resting or self.breakers[index].ready()

    def answered(self, index: int) -> None:
        """Note an answer."""
        self.breakers[index].answered()

    def failed(self, index: int, failure: Failure) -> None:
        """Note a failure."""
        self.breakers[index].failed(failure, rests=self.resting)

    def warn(self, index: int, failure: Failure) -> None:
        """Say once that a candidate's key, or its name, is refused."""
        warn_once(
            logger,
            f"Candidate {self.candidates[index].name!r} is set up wrongly ({failure.kind}): "
            "another one answers its calls.",
        )

    def told(self, index: int, *, mute: bool) -> None:
        """Note whether an answer came without the log-probabilities that its scorer needs."""
        self.mute[index] = self.mute[index] + 1 if mute else 0
        if self.mute[index] == MUTE_AFTER:
            warn_once(
                logger,
                f"Candidate {self.candidates[index].name!r} gives no log-probabilities, which the "
                "router's scorer of answers needs: no more of its answers are looked at, and the "
                "reference answers in their place. Give it a client that takes `logprobs`, or "
                "second_look=False.",
            )

    def is_mute(self, index: int) -> bool:
        """Tell whether a candidate's answers always come without."""
        return self.mute[index] >= MUTE_AFTER
