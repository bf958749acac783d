"""Why a call failed, in words of our own: an error's message may quote the query, or a key."""

from __future__ import annotations

import socket
import ssl

from shared_router.support.model_errors import causes_of, error_kind, status_of

BY_STATUS = {
    400: "the request was refused",
    401: "no key, or a wrong one",
    402: "no credit left",
    403: "not allowed with this key",
    404: "no such model, or no such address",
    413: "the request is too large",
    422: "the request was refused",
    429: "too many requests, or no quota left",
}
OF_THE_QUERY = frozenset({400, 413, 422})
"""HTTP statuses that may concern one query alone, such as one that a filter refuses."""
BY_KIND: tuple[tuple[type[BaseException], str], ...] = (
    (ConnectionRefusedError, "connection refused"),
    (ConnectionResetError, "connection lost"),
    (BrokenPipeError, "connection lost"),
    (socket.gaierror, "no such host"),
    (ssl.SSLError, "no secure connection"),
    (TimeoutError, "no answer in time"),
)


def error_reason(error: BaseException) -> str | None:
    """Say why a call failed; `None` where neither its HTTP status nor what caused it tells."""
    status = status_of(error)
    if status is not None:
        return BY_STATUS.get(status)
    causes = list(causes_of(error))
    for kind, reason in BY_KIND:
        if any(isinstance(cause, kind) for cause in causes):
            return reason
    return None


def told(error: BaseException) -> str:
    """Name an error and say why, as in `NotFoundError (404): no such model, or no such address`."""
    reason = error_reason(error)
    return error_kind(error) + (f": {reason}" if reason else "")


def fields_of(told: str | None) -> dict[str, str | None]:
    """Take apart what `told` said, for the list of failures: `error`, and `reason` where known."""
    kind, _, reason = (told or "").partition(": ")
    return {"error": kind or None} | ({"reason": reason} if reason else {})
