"""What the engine's tests call it with: hands that do what a function says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared_router.deciding.escalation import Answer
from shared_router.engine.calls import Hands

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared_router import RoutingEngine
    from shared_router.deciding.guards import RoutingRequest


def read(answer: Any) -> Answer:
    """Read an answer that is a text, or anything else."""
    return Answer(text=answer if isinstance(answer, str) else "", native=answer)


def hands(attempt: Callable[..., Any], **how: Any) -> Hands:
    """Make hands of what an attempt does."""
    return Hands(attempt=attempt, read=read, **how)


def made(engine: RoutingEngine, request: RoutingRequest, attempt: Callable[..., Any]) -> Any:
    """Make a call and return its answer."""
    return engine.call(request, hands(attempt)).answer


async def amade(engine: RoutingEngine, request: RoutingRequest, attempt: Callable[..., Any]) -> Any:
    """Make a call and return its answer."""
    return (await engine.acall(request, hands(attempt))).answer
