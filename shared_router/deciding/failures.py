"""What an error of a model means: the one place where every host's and provider's errors are read.

They are read by HTTP status, by the names of the classes an error is of, and by a few phrases, so
that no provider has to be imported. The caller's own errors are few: a request that is refused as
invalid, an argument that the model does not take, an option of ours. All else another model may
cure.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared_router.errors import (
    AllCandidatesFailedError,
    CallTimeoutError,
    EmptyStreamError,
    HybridRoutingError,
)
from shared_router.support.model_errors import causes_of, retry_after_s, status_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shared_router.records import FailureKind

logger = logging.getLogger("hybrid_llm")

OF_THE_CALLER: frozenset[FailureKind] = frozenset(
    {"bad_request", "configuration", "schema", "cancelled"}
)
"""Kinds that no other model is asked to cure; a schema that an answer does not fit is for
escalation."""
OF_THE_SET_UP: frozenset[FailureKind] = frozenset({"authentication", "unknown_model"})
"""Kinds that last until somebody mends the set-up; they are warned of."""
PASSING: frozenset[FailureKind] = frozenset(
    {"rate_limit", "overloaded", "server_error", "timeout", "connection"}
)
"""Kinds that may be over by the next call."""
OF_THE_CALL: frozenset[FailureKind] = frozenset(
    {*OF_THE_CALLER, "context_overflow", "tools_refused"}
)
"""Kinds that say nothing of a model's health."""
MOST_READ = 4096
"""Characters of an error's message that are looked at."""

_BY_STATUS: dict[int, FailureKind] = {
    400: "bad_request",
    401: "authentication",
    402: "rate_limit",
    403: "authentication",
    404: "unknown_model",
    405: "bad_request",
    408: "timeout",
    409: "server_error",
    413: "context_overflow",
    422: "bad_request",
    425: "server_error",
    429: "rate_limit",
    503: "overloaded",
    504: "timeout",
    529: "overloaded",
}
_BY_CLASS: dict[str, FailureKind] = {
    # LangChain's own, and those that carry no status.
    "ContextOverflowError": "context_overflow",
    "ContextWindowExceededError": "context_overflow",
    "ModelRateLimitError": "rate_limit",
    "ModelAuthenticationError": "authentication",
    "ModelPermissionDeniedError": "authentication",
    "ModelNotFoundError": "unknown_model",
    "ModelTimeoutError": "timeout",
    "ModelConnectionError": "connection",
    "ModelInvalidRequestError": "bad_request",
    "ModelRefusalError": "schema",
    "OutputParserException": "schema",
    "ModelAPIError": "server_error",
    # Clients'.
    "RateLimitError": "rate_limit",
    "ResourceExhausted": "rate_limit",
    "TooManyRequests": "rate_limit",
    "AuthenticationError": "authentication",
    "PermissionDenied": "authentication",
    "Unauthenticated": "authentication",
    "NoCredentialsError": "authentication",
    "ServiceUnavailable": "overloaded",
    "DeadlineExceeded": "timeout",
    "APITimeoutError": "timeout",
    "TimeoutException": "timeout",
    "ConnectTimeout": "timeout",
    "ReadTimeout": "timeout",
    "ReadTimeoutError": "timeout",
    "Timeout": "timeout",
    "ServerTimeoutError": "timeout",
    "TimeoutError": "timeout",
    "CancelledByTimeLimit": "timeout",
    "APIConnectionError": "connection",
    "TransportError": "connection",
    "ClientConnectionError": "connection",
    "ConnectionError": "connection",
    "EndpointConnectionError": "connection",
    "IncompleteRead": "connection",
    "gaierror": "connection",
    "SSLError": "connection",
    "JSONDecodeError": "unreadable",
    "UnicodeDecodeError": "unreadable",
    "APIResponseValidationError": "unreadable",
    "APIError": "server_error",
}
_BY_CODE: dict[str, FailureKind] = {
    # What a provider says in the body, where the status says less or there is none.
    "context_length_exceeded": "context_overflow",
    "string_above_max_length": "context_overflow",
    "request_too_large": "context_overflow",
    "model_not_found": "unknown_model",
    "not_found_error": "unknown_model",
    "invalid_api_key": "authentication",
    "authentication_error": "authentication",
    "permission_error": "authentication",
    "accessdeniedexception": "authentication",
    "insufficient_quota": "rate_limit",
    "rate_limit_exceeded": "rate_limit",
    "rate_limit_error": "rate_limit",
    "throttlingexception": "rate_limit",
    "resource_exhausted": "rate_limit",
    "overloaded": "overloaded",
    "overloaded_error": "overloaded",
    "unavailable": "overloaded",
    "serviceunavailableexception": "overloaded",
    "modeltimeoutexception": "timeout",
    "deadline_exceeded": "timeout",
    "server_error": "server_error",
    "api_error": "server_error",
    "internal_server_error": "server_error",
}
_PHRASES: tuple[tuple[str, FailureKind], ...] = (
    (
        (
            r"context.{0,20}(length|window|size)|maximum context|prompt is too long"
            r"|too many (input )?tokens|input (is|token count).{0,40}(too long|exceed)"
            r"|exceeds? the (available |maximum )?context|reduce the length of"
        ),
        "context_overflow",
    ),
    (
        (
            r"(not|n't|un)\W{0,2}support\w*.{0,40}(tool|function)"
            r"|(tool|function)\w*( \w+){0,3} (is|are) not (supported|enabled|available)"
            r"|--enable-auto-tool-choice|requires?.{0,20}tool-call-parser"
        ),
        "tools_refused",
    ),
    (r"model.{0,80}(does not exist|not found|is not available)|unknown model", "unknown_model"),
    (r"(invalid|incorrect|missing|no) (api.?)?key", "authentication"),
)
"""What providers say in a message alone; looked for in refusals of the request."""
_BY_PHRASE = tuple((re.compile(each, re.IGNORECASE), kind) for each, kind in _PHRASES)
_NO_SUCH_ARGUMENT = re.compile(
    r"unexpected keyword argument|positional arguments?|multiple values for (keyword )?argument"
)
_NOTHING_CAME = re.compile(
    r"no generations?( chunks?)? (were|found|was)|`?choices`?|^list index out of range$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Failure:
    """What one error means."""

    kind: FailureKind
    mendable: bool
    """Whether another model is asked."""
    retry_after_s: float | None = None
    """Seconds after which the provider wants to be asked again, where it says so."""


def failure_of(
    error: Exception,
    is_mendable: Callable[..., bool | None] | None = None,
    *,
    structured: bool = False,
) -> Failure:
    """Read an error.

    Args:
        error: What a model raised.
        is_mendable: The user's own rule, asked first: `True` or `False`, `None` where it has none.
            One that raises has none.
        structured: Whether an answer in a schema was asked for.
    """
    kind = kind_of(error, structured=structured)
    told = _told_by_user(error, is_mendable)
    mendable = kind not in OF_THE_CALLER if told is None else told
    return Failure(kind, mendable, retry_after_s(error))


def are_alike(errors: Sequence[Exception]) -> bool:
    """Tell whether several models raised the same of Python's own errors.

    What is wrong is then the caller's, such as a prompt that cannot be formatted or a way of asking
    that the host does not have; the call fails as it would with one of the models. Answers that
    hold nothing, or no JSON, are each model's own.
    """
    own = (ValueError, TypeError, LookupError, AttributeError, NotImplementedError)
    said = {(type(error), str(error)) for error in errors}
    return len(said) == 1 and all(
        isinstance(error, own) and status_of(error) is None and not _is_of_an_answer(error)
        for error in errors
    )


def _is_of_an_answer(error: Exception) -> bool:
    """Tell whether an answer was unreadable for sure, not a request that could not be made."""
    if isinstance(error, EmptyStreamError) or _own_class(error) is not None:
        return True
    return bool(_NOTHING_CAME.search(str(error)[:MOST_READ]))


def _told_by_user(error: Exception, is_mendable: Callable[..., bool | None] | None) -> bool | None:
    if is_mendable is None:
        return None
    try:
        told = is_mendable(error)
    except Exception as raised:  # noqa: BLE001  (a call never breaks because of a rule)
        logger.warning("is_mendable raised %s.", type(raised).__name__)
        return None
    return None if told is None else bool(told)


def kind_of(error: Exception, *, structured: bool = False) -> FailureKind:
    """Name the kind of an error, by the surest sign it carries.

    Phrases and codes come before the status: providers answer 400 to a prompt that is too long and
    to tools that a model does not take, which other models may.
    """
    own = _ours(error)
    if own is not None:
        return own
    for sign in (_own_class, _code, _phrase, _status, _class):
        kind = sign(error)
        if kind is not None:
            return kind
    return _caused(error) or _plain(error, structured)


def _ours(error: Exception) -> FailureKind | None:
    """Read our own errors: a candidate may be a router itself."""
    if isinstance(error, AllCandidatesFailedError):
        return "unknown"
    if isinstance(error, CallTimeoutError):
        return "timeout"
    if isinstance(error, EmptyStreamError):
        return "unreadable"
    return "configuration" if isinstance(error, HybridRoutingError) else None


def _caused(error: Exception) -> FailureKind | None:
    return next(filter(None, map(_class, causes_of(error))), None)


def _own_class(error: BaseException) -> FailureKind | None:
    """Read classes that say more than the status: LangChain's overflow is a 400."""
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return "unreadable"
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"GraphBubbleUp", "CancelledError"}:  # a graph that pauses, a future given up
        return "cancelled"
    return "context_overflow" if names & {"ContextOverflowError"} else None


def _code(error: BaseException) -> FailureKind | None:
    for code in _codes(error):
        kind = _BY_CODE.get(code.lower())
        if kind is not None:
            return kind
    return None


def _codes(error: BaseException) -> list[str]:
    """Gather what a provider calls its own error: `code`, `type`, `status`, botocore's `Code`."""
    told = [getattr(error, name, None) for name in ("code", "type", "status")]
    body = getattr(error, "body", None)
    response = getattr(error, "response", None)
    for holder in (body, response):
        inner = holder.get("error", holder.get("Error", holder)) if isinstance(holder, dict) else {}
        if isinstance(inner, dict):
            told += [inner.get(name) for name in ("code", "type", "status", "Code")]
    return [each for each in told if isinstance(each, str)]


def _phrase(error: BaseException) -> FailureKind | None:
    status = status_of(error)
    if status is None or status >= 500 or status == 429:
        return None
    text = str(error)[:MOST_READ]
    return next((kind for pattern, kind in _BY_PHRASE if pattern.search(text)), None)


def _status(error: BaseException) -> FailureKind | None:
    status = status_of(error)
    if status is None or status < 400:
        return None
    return _BY_STATUS.get(status, "server_error" if status >= 500 else "bad_request")


def _class(error: BaseException) -> FailureKind | None:
    names = (kind.__name__ for kind in type(error).__mro__)
    return next((_BY_CLASS[name] for name in names if name in _BY_CLASS), None)


def _plain(error: Exception, structured: bool) -> FailureKind:
    """Read Python's own errors: clients raise them at answers that hold nothing."""
    if isinstance(error, TypeError) and _NO_SUCH_ARGUMENT.search(str(error)[:MOST_READ]):
        return "bad_request"
    if structured and isinstance(error, ValueError) and not _NOTHING_CAME.search(str(error)):
        return "schema"
    shapes = (LookupError, AttributeError, TypeError, ValueError, EOFError)
    return "unreadable" if isinstance(error, shapes) else "unknown"
