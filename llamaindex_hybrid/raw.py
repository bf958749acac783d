"""A provider's own response, an object or a dict: what it tells beside the host's words."""

from __future__ import annotations

from typing import Any


def part_of(holder: Any, name: str) -> Any:
    """Return a part by its name; `None` where there is none."""
    return holder.get(name) if isinstance(holder, dict) else getattr(holder, name, None)


def first_choice(raw: Any) -> Any:
    """Return the first of an OpenAI-like response's choices; `None` where there is none."""
    return next(iter(part_of(raw, "choices") or ()), None)


def with_part(holder: Any, name: str, value: Any) -> Any:
    """Copy a response with another part."""
    if isinstance(holder, dict):
        return {**holder, name: value}
    return holder.model_copy(update={name: value})
