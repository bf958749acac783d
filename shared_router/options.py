"""What one call can ask of the router: a dial in the user's units, a forced route, a task."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, get_args
from uuid import UUID

from shared_router.errors import ConfigurationError, DialError
from shared_router.support.names import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence

DialName = Literal["threshold", "cost_advantage", "max_quality_drop", "max_quality_drop_absolute"]
DIAL_NAMES: tuple[DialName, ...] = get_args(DialName)

_RANGES: dict[DialName, tuple[float, float, str]] = {
    "threshold": (-math.inf, math.inf, "a number"),
    "cost_advantage": (0.0, 1.0, "a share of calls between 0 and 1"),
    "max_quality_drop": (0.0, 1.0, "a relative drop between 0 and 1 (0.02 is 2 %)"),
    "max_quality_drop_absolute": (0.0, math.inf, "a drop of at least 0, in the metric's units"),
}


@dataclass(frozen=True)
class Dial:
    """One setting of the router.

    Raises:
        DialError: If the name is unknown or the value is outside the dial's range.
    """

    name: DialName
    """`threshold`, `cost_advantage`, `max_quality_drop` or `max_quality_drop_absolute`."""
    value: float
    """Its value: a score, a share, a relative drop, or a drop in the metric's units."""

    def __post_init__(self) -> None:
        if self.name not in _RANGES:
            raise DialError(f"A dial is one of {', '.join(DIAL_NAMES)}; got {self.name!r}.")
        low, high, rule = _RANGES[self.name]
        number = isinstance(self.value, Real) and not isinstance(self.value, bool)
        if not number or math.isnan(self.value) or not low <= self.value <= high:
            raise DialError(f"{self.name} is {rule}; got {self.value!r}.")
        object.__setattr__(self, "value", float(self.value))


Confidence = float | Literal["estimate"]
"""How sure a quality dial must be of its limit: a probability, or `estimate` for no promise."""
ESTIMATE: Literal["estimate"] = "estimate"
USUAL_CONFIDENCE = 0.9
"""Of a quality dial that says none."""
QUALITY_DIALS = ("max_quality_drop", "max_quality_drop_absolute")
"""Dials that limit a drop in quality, and so can be promised."""


def confidence_from(given: Any) -> Confidence:
    """Read a confidence.

    Raises:
        DialError: If it is neither a number above 0.5 and below 1 nor `estimate`.
    """
    if given == ESTIMATE:
        return ESTIMATE
    number = isinstance(given, Real) and not isinstance(given, bool)
    if not number or not 0.5 < given < 1:
        raise DialError(
            f"confidence is a number above 0.5 and below 1, or {ESTIMATE!r} for the estimate "
            f"without a promise; got {given!r}."
        )
    return float(given)


@dataclass(frozen=True)
class Asked:
    """A dial as it is asked: who wrote it, and how sure it must be."""

    dial: Dial
    """The dial."""
    written: bool = True
    """Whether the user wrote it: then a limit that cannot be promised keeps calls at the reference.
    A router's stored default follows its estimate there."""
    confidence: Confidence = USUAL_CONFIDENCE
    """How sure its limit must be."""

    @property
    def limits_quality(self) -> bool:
        """Whether it limits a drop in quality."""
        return self.dial.name in QUALITY_DIALS

    def named(self) -> dict[str, float | str]:
        """Return it by its names; how sure it must be only where that matters."""
        dial: dict[str, float | str] = {self.dial.name: self.dial.value}
        return dial | ({"confidence": self.confidence} if self.limits_quality else {})


def dial_from(options: Mapping[str, Any]) -> Dial | None:
    """Read the one dial out of keyword options.

    Args:
        options: Any mapping; keys that are not dials and `None` values are passed over.

    Returns:
        The dial, or `None` where no dial is given.

    Raises:
        DialError: If two dials are given, or the value is out of range.
    """
    given = {name: options[name] for name in DIAL_NAMES if options.get(name) is not None}
    if len(given) > 1:
        shown = ", ".join(f"{name}={value!r}" for name, value in given.items())
        raise DialError(f"One dial at a time: give a single one of {shown}.")
    return next((Dial(name, value) for name, value in given.items()), None)


def only_dial(options: Mapping[str, Any]) -> Dial | None:
    """Read the one dial where nothing but a dial may stand.

    Raises:
        DialError: If another name is given, two dials are, or the value is out of range.
    """
    unknown = sorted(set(options) - set(DIAL_NAMES))
    if unknown:
        raise DialError(f"A dial is one of {', '.join(DIAL_NAMES)}; got {unknown[0]!r}.")
    return dial_from(options)


Fallback = Literal["any", "up", "off"] | tuple[str, ...]
"""Who else is asked where a candidate fails: `any` (the next dearer ones, then the cheaper), `up`
(never a cheaper one), `off` (nobody), or names in order."""
FALLBACKS = ("any", "up", "off")
LONGEST_CALL_S = 86_400.0


def fallback_from(given: Any) -> Fallback:
    """Read a fallback.

    Raises:
        ConfigurationError: If it is neither one of the three words nor names.
    """
    if isinstance(given, str):
        return given if given in FALLBACKS else (given,)  # type: ignore[return-value]
    if isinstance(given, list | tuple) and all(isinstance(name, str) for name in given):
        return tuple(given)
    raise ConfigurationError(
        f"fallback is 'any', 'up', 'off', or names of candidates; got {given!r}."
    )


def call_timeout_from(given: Any) -> float:
    """Read a time limit of a call, in seconds; a config may hold it as text.

    Raises:
        ConfigurationError: If it is no number above 0, at most a day.
    """
    number = _number(given)
    if number is None or not 0 < number <= LONGEST_CALL_S:
        raise ConfigurationError(
            f"call_timeout_s is above 0 and at most {LONGEST_CALL_S:g} seconds; got {given!r}."
        )
    return number


def numbers_of_texts(options: Mapping[str, Any]) -> dict[str, Any]:
    """Make numbers of what a form or a config holds as text, where numbers are wanted."""
    numeric = {*DIAL_NAMES, "confidence"}
    return {
        name: _number_or(value) if name in numeric and isinstance(value, str) else value
        for name, value in options.items()
    }


def _number_or(text: str) -> Any:
    found = _number(text)
    return text if found is None else found


def _number(given: Any) -> float | None:
    if isinstance(given, bool) or not isinstance(given, Real | str):
        return None
    try:
        return float(given)
    except ValueError:
        return None


SecondLook = bool | Literal["auto"]
"""Whether answers are looked at: `auto` where the router's scorer of answers pays on its own
training data, streams left alone; `True` for streams too; `False` never."""
AUTO: Literal["auto"] = "auto"
LOOK_SHARE = 0.3
"""Greatest share of queries whose answers are looked at, where nobody says."""


def second_look_from(given: Any) -> SecondLook:
    """Read whether answers are looked at; a config may hold it as text.

    Raises:
        ConfigurationError: If it is neither true, false nor `auto`.
    """
    words: dict[str, SecondLook] = {AUTO: AUTO, "true": True, "false": False}
    found = words.get(given.lower()) if isinstance(given, str) else given
    if isinstance(found, bool) or found == AUTO:
        return found
    raise ConfigurationError(f"second_look is True, False or {AUTO!r}; got {given!r}.")


ConversationMode = Literal["auto", "turn", "keep"]
"""Which model goes on with a conversation: at each new turn a dearer one where the score asks for
it, and a cheaper one where that pays (`auto`); the one that the turn alone asks for (`turn`); the
one that was chosen at the beginning (`keep`)."""
CONVERSATION_MODES: tuple[ConversationMode, ...] = get_args(ConversationMode)


def conversation_mode_from(given: Any) -> ConversationMode:
    """Read how conversations are routed.

    Raises:
        ConfigurationError: If it is none of the three words.
    """
    found = next((mode for mode in CONVERSATION_MODES if given == mode), None)
    if found is None:
        raise ConfigurationError(
            f"conversation is one of {', '.join(map(repr, CONVERSATION_MODES))}; got {given!r}."
        )
    return found


def conversation_from(given: Any) -> tuple[ConversationMode | None, str | None]:
    """Read what a call says of its conversation: how it is routed, or its name.

    Raises:
        ConfigurationError: If it is no name, or a word that is nearly one of the three.
    """
    if isinstance(given, str) and given in CONVERSATION_MODES:
        return conversation_mode_from(given), None
    if isinstance(given, bool) or not isinstance(given, str | int | UUID) or given == "":
        raise ConfigurationError(
            f"conversation is one of {', '.join(map(repr, CONVERSATION_MODES))}, or the name of "
            f"the conversation; got {given!r}."
        )
    name = str(given)
    near = nearest(name, CONVERSATION_MODES, cutoff=0.7)
    if near is not None:
        raise ConfigurationError(f"conversation={name!r}: did you mean {near!r}?")
    return None, name


OPTION_NAMES = (
    *DIAL_NAMES,
    "confidence",
    "route",
    "task",
    "fallback",
    "escalate",
    "call_timeout_s",
    "second_look",
    "conversation",
)
"""Every option a call can carry; in a `configurable` they stand as `hybrid_<name>`."""
CONFIGURABLE_PREFIX = "hybrid_"
"""What stands before an option's name in a config."""


@dataclass(frozen=True, kw_only=True)
class CallOptions:
    """What one call asks of the router; every field is optional."""

    dial: Dial | None = None
    """Replaces the constructed dial."""
    confidence: Confidence | None = None
    """Replaces the constructed confidence."""
    route: str | None = None
    """Forces a candidate by name; `small` and `large` are the first and the last."""
    task: str | None = None
    """The task label of the query."""
    fallback: Fallback | None = None
    """Who else is asked where a candidate fails; replaces the constructed one."""
    escalate: tuple[Any, ...] | None = None
    """Checks on an answer; replace the constructed ones."""
    call_timeout_s: float | None = None
    """Seconds the call may take; replaces the constructed limit."""
    second_look: SecondLook | None = None
    """Whether answers are looked at; replaces the constructed choice."""
    conversation: ConversationMode | None = None
    """Which model goes on with a conversation; replaces the constructed choice."""
    conversation_name: str | None = None
    """Names the conversation that the call belongs to."""

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> CallOptions:
        """Read options from keywords.

        Raises:
            ConfigurationError: If a name is unknown.
            DialError: If two dials are given, or one is out of range.
        """
        unknown = [name for name in options if name not in OPTION_NAMES]
        if unknown:
            raise ConfigurationError(
                f"Unknown routing option {min(unknown)!r}; known are {', '.join(OPTION_NAMES)}."
            )
        for name in ("route", "task"):
            value = options.get(name)
            if value is not None and not isinstance(value, str):
                raise ConfigurationError(f"{name} is a name (a string); got {value!r}.")
        given = options.get("confidence")
        mode, conversation = _read(options, "conversation", conversation_from) or (None, None)
        return cls(
            dial=dial_from(options),
            confidence=None if given is None else confidence_from(given),
            route=options.get("route"),
            task=options.get("task"),
            fallback=_read(options, "fallback", fallback_from),
            escalate=_read(options, "escalate", escalate_from),
            call_timeout_s=_read(options, "call_timeout_s", call_timeout_from),
            second_look=_read(options, "second_look", second_look_from),
            conversation=mode,
            conversation_name=conversation,
        )

    def over(self, below: CallOptions) -> CallOptions:
        """Return these options, with what they leave open taken from `below`."""
        if below is NO_OPTIONS:
            return self
        if self is NO_OPTIONS:
            return below
        return CallOptions(
            dial=self.dial or below.dial,
            confidence=below.confidence if self.confidence is None else self.confidence,
            route=self.route or below.route,
            task=self.task or below.task,
            fallback=below.fallback if self.fallback is None else self.fallback,
            escalate=below.escalate if self.escalate is None else self.escalate,
            call_timeout_s=self.call_timeout_s or below.call_timeout_s,
            second_look=below.second_look if self.second_look is None else self.second_look,
            conversation=self.conversation or below.conversation,
            conversation_name=self.conversation_name or below.conversation_name,
        )


NO_OPTIONS = CallOptions()
"""What most calls bring: nothing."""


def escalate_from(given: Any) -> tuple[Any, ...] | None:
    """Read checks on an answer: names, functions, or several of them; their names are read later.

    Raises:
        ConfigurationError: If one is neither a name nor a function.
    """
    if given is None:
        return None
    several = tuple(given) if isinstance(given, list | tuple) else (given,)
    wrong = [each for each in several if not (isinstance(each, str) or callable(each))]
    if wrong:
        raise ConfigurationError(
            f"escalate takes names of checks and functions of an answer; got {wrong[0]!r}."
        )
    return several


def _read(options: Mapping[str, Any], name: str, reader: Callable[[Any], Any]) -> Any:
    given = options.get(name)
    return None if given is None else reader(given)


def split_options(
    keywords: Mapping[str, Any], kept: Container[str] = ()
) -> tuple[CallOptions, dict[str, Any]]:
    """Take a call's routing options out of its keywords.

    Args:
        keywords: The call's keywords.
        kept: Names that are the call's own, whatever they look like.

    Returns:
        The options, and the keywords that remain for the model.

    Raises:
        ConfigurationError: If an option is out of range, two dials are given, or a keyword was
            meant for the router and would reach the model's provider.
    """
    others = [name for name in keywords if name not in kept]
    for name in others:
        _check_keyword(name)
    given = {name: keywords[name] for name in others if name in OPTION_NAMES}
    if not given:
        return NO_OPTIONS, dict(keywords)
    rest = {name: value for name, value in keywords.items() if name not in given}
    return CallOptions.parse(given), rest


def _check_keyword(name: str) -> None:
    if name not in OPTION_NAMES:
        refuse_near_miss(name, (*DIAL_NAMES, "confidence"), name)
    if name.startswith(CONFIGURABLE_PREFIX):
        raise ConfigurationError(
            f"{name!r} is a name for configs; as a keyword it is "
            f"{name.removeprefix(CONFIGURABLE_PREFIX)!r}."
        )


def refuse_near_miss(name: str, known: Sequence[str], shown: str, prefix: str = "") -> None:
    """Refuse a name that is almost a known one.

    Raises:
        ConfigurationError: With the known name, as `prefix` writes it.
    """
    near = nearest(name, known, cutoff=0.8)
    if near is not None:
        raise ConfigurationError(f"Unknown option {shown!r}; did you mean {prefix + near!r}?")
