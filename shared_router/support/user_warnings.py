"""Warnings that point at the user's line, however deep under it they arise."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

NOT_THE_USERS = frozenset(
    {"shared_router", "langchain_hybrid", "llamaindex_hybrid", "pydantic", "workflows"}
    | {"langchain", "langchain_classic", "langchain_core", "langgraph"}
    | {"llama_index", "llama_index_instrumentation"}
    | {"asyncio", "concurrent", "threading"}
)
"""Packages whose frames stand between a user's line and what it does."""


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the innermost line that is neither ours nor a host's.

    A fixed `stacklevel` would point into pydantic or a host, which differ in depth by version and
    by how an object is made; `skip_file_prefixes` needs Python 3.12.
    """
    frame = _users_frame()
    warnings.warn_explicit(
        message,
        category,
        filename=frame.f_code.co_filename,
        lineno=frame.f_lineno,
        module=frame.f_globals.get("__name__", "<unknown>"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _users_frame() -> FrameType:
    """Find that line; where every frame is ours, as on the command line, the outermost."""
    frame = sys._getframe(2)  # noqa: SLF001  (what `warnings` and `logging` do)
    while _root(frame) in NOT_THE_USERS and frame.f_back is not None:
        frame = frame.f_back
    return frame


def _root(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
