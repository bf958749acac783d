"""Checks on an answer: one that fails sends the call to the next dearer candidate. Pure.

A cascade, as in FrugalGPT (arXiv 2305.05176): both answers are paid for. The checks read what any
host tells of an answer; a user's own reads the host's answer itself.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shared_router.errors import ConfigurationError
from shared_router.support.names import nearest
from shared_router.support.once import warn_once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from shared_router.records import Usage

logger = logging.getLogger("hybrid_llm")

FAILS_AGAIN = 3
"""A tool that failed so often in a row and is called again is called in vain."""
LONGEST_REFUSAL = 400
"""Characters of an answer that may be a refusal; a longer one says more than no."""
MOST_READ = 20_000
"""Characters of an answer that are looked at for a tool call."""

_CUT = frozenset({"length", "max_tokens", "max_output_tokens", "model_length", "max_token"})
_FILTERED = frozenset(
    {"content_filter", "content_filtered", "safety", "blocklist", "prohibited_content", "spii"}
    | {"recitation", "guardrail_intervened"}
)
_REFUSED = frozenset({"refusal", "refused"})
_REFUSALS = re.compile(
    r"\s*[\"'*_]*(i'?\s?a?m sorry|sorry|i apologi[sz]e|unfortunately|as an ai|"
    r"i (can(no|')?t(?! (believe|wait|help but|stress|imagine))|am unable to|"
    r"am not able to|won't|will not|must decline)|"
    r"i'm (unable|not able)|es tut mir leid|tut mir leid|entschuldigung|"
    r"ich kann (das |dir |ihnen )?(leider )?nicht|leider kann ich|je suis désolé|désolée?|"
    r"je ne peux pas|lo siento|no puedo|desculpe|sinto muito|não posso|mi dispiace|non posso|"
    r"申し訳|すみません|抱歉|对不起|很遗憾|죄송합니다|извините|к сожалению)",
    re.IGNORECASE,
)
_DECLINES = re.compile(
    r"can(no|')?t|cannot|unable|not able|won't|will not|decline|nicht|ne peux|no puedo|não posso|"
    r"non posso|できません|出来ません|无法|不能|없습니다|не могу|can not|as an ai",
    re.IGNORECASE,
)
_MARKED_CALL = re.compile(
    r"<tool_call>|<function=|<\|python_tag\|>|\[TOOL_CALLS\]|<function_calls?>|<invoke name=|"
    r"<\|tool▁call|functools\["
)
_FENCE = re.compile(r"\A\s*```(?:json|tool_call|python)?\s*|\s*```\s*\Z")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is known of one answer, whatever host it comes from."""

    text: str = field(default="", repr=False)
    """Its text."""
    tool_calls: tuple[str, ...] = ()
    """Names of the tools it calls."""
    tools_offered: bool = False
    """Whether the call brought tools."""
    finish_reason: str | None = None
    """Why the model stopped, in its provider's word."""
    refusal: str | None = field(default=None, repr=False)
    """What the provider marked as a refusal."""
    parsed_ok: bool = True
    """Whether it fits the schema, where one was asked for."""
    failed_tools: Mapping[str, int] = field(default_factory=dict)
    """How often in a row each tool has failed before this answer."""
    native: Any = field(default=None, repr=False)
    """The host's own answer."""
    model: str | None = None
    """The model that answered, as its provider names it."""
    usage: Usage | None = None
    """Its tokens."""
    logprobs: tuple[float, ...] | None = field(default=None, repr=False)
    """Natural log-probabilities of its tokens, in order; `None` where the host tells none."""


Told = bool | str | None
"""What a check tells: `False` or a reason rejects the answer; `True` and `None` do not."""


@dataclass(frozen=True)
class Check:
    """One check on an answer."""

    name: str
    """What a record calls a rejection by it."""
    passes: Callable[[Answer], Told] = field(repr=False)
    """Looks at an answer."""


def _fits_schema(answer: Answer) -> bool:
    return answer.parsed_ok


def _says_something(answer: Answer) -> bool:
    return bool(answer.text.strip() or answer.tool_calls)


def _is_whole(answer: Answer) -> bool:
    return _stopped(answer) not in _CUT


def _is_unfiltered(answer: Answer) -> bool:
    return _stopped(answer) not in _FILTERED


def _stopped(answer: Answer) -> str:
    return (answer.finish_reason or "").lower()


def _is_no_refusal(answer: Answer) -> bool:
    """Look for a refusal: a mark of the provider's, or a short answer that reads as one."""
    if answer.refusal or _stopped(answer) in _REFUSED:
        return False
    text = answer.text.replace("\u2019", "'")
    if answer.tool_calls or len(text) > LONGEST_REFUSAL:
        return True
    return not (_REFUSALS.match(text) and _DECLINES.search(text))


def is_refusal(answer: Answer) -> bool:
    """Tell whether an answer is a refusal, as the check `refused` sees it."""
    return not _is_no_refusal(answer)


def _calls_tools_properly(answer: Answer) -> bool:
    """Look for a tool call that is written as text, which nobody runs."""
    if answer.tool_calls or not answer.tools_offered:
        return True
    text = answer.text[:MOST_READ]
    return not (_MARKED_CALL.search(text) or _is_call(_FENCE.sub("", text)))


def _is_call(text: str) -> bool:
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return False
    calls = found if isinstance(found, list) else [found]
    return bool(calls) and all(map(_has_call, calls))


def _has_call(found: Any) -> bool:
    if not isinstance(found, dict):
        return False
    inner = found.get("function")
    found = inner if isinstance(inner, dict) else found
    return isinstance(found.get("name"), str) and bool({"arguments", "parameters"} & found.keys())


def _calls_what_works(answer: Answer) -> bool:
    return all(answer.failed_tools.get(name, 0) < FAILS_AGAIN for name in answer.tool_calls)


CHECKS: Mapping[str, Check] = {
    name: Check(name, passes)
    for name, passes in (
        ("schema", _fits_schema),
        ("empty", _says_something),
        ("length", _is_whole),
        ("filtered", _is_unfiltered),
        ("refused", _is_no_refusal),
        ("tool_text", _calls_tools_properly),
        ("repeated_tool", _calls_what_works),
    )
}
"""The checks there are: `schema` (a structured answer does not fit), `empty` (neither text nor a
tool call), `length` (cut off), `filtered` (by the provider), `refused`, `tool_text` (a tool call
written as text), `repeated_tool` (a tool that failed three times in a row is called again)."""


def check_named(name: str) -> Check:
    """Return a check by its name.

    Raises:
        ConfigurationError: If there is none.
    """
    if name in CHECKS:
        return CHECKS[name]
    near = nearest(name, list(CHECKS))
    hint = f"; did you mean {near!r}?" if near else "."
    raise ConfigurationError(f"escalate knows {', '.join(CHECKS)}; got {name!r}{hint}")


def checks_from(given: Iterable[Any]) -> tuple[Check, ...]:
    """Make checks of names and of functions.

    Args:
        given: Names of `CHECKS`; functions of the host's own answer, which return `False`, or in a
            word or two why it is rejected, and `True` or `None` where it is fine.

    Raises:
        ConfigurationError: If a name is unknown, or something is no function, or one that must be
            awaited: what it returns would be no answer.
    """
    return tuple(_check(each) for each in given)


def _check(given: Any) -> Check:
    if isinstance(given, Check):
        return given
    if isinstance(given, str):
        return check_named(given)
    if not callable(given):
        raise ConfigurationError(
            f"escalate takes names of checks and functions of an answer; got {given!r}."
        )
    if any(map(inspect.iscoroutinefunction, (given, type(given).__call__))):
        raise ConfigurationError(
            f"escalate takes functions that return at once; {_name_of(given)!r} is `async def`."
        )
    function: Callable[[Any], Told] = given
    return Check(_name_of(given), lambda answer: function(answer.native))


def _name_of(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


def first_rejection(answer: Answer, checks: Sequence[Check]) -> str | None:
    """Return why an answer is rejected: the first check that does; `None` where none does.

    A check that raises rejects nothing: an answer is not lost because a check failed. That is
    logged once for each type of error.
    """
    for check in checks:
        try:
            why = _why(check, check.passes(answer))
        except Exception as error:  # noqa: BLE001  (see above)
            kind = type(error).__name__
            warn_once(logger, f"The check {check.name} raised {kind}: passed over.")
            continue
        if why is not None:
            return why
    return None


def _why(check: Check, told: Any) -> str | None:
    """Read what a check told; the `False` and 0 of arrays reject as `False` does."""
    if isinstance(told, str):
        return told or None
    return None if told is None or told else check.name
