"""Stickiness: a tool's answer goes back to the model that asked for it.

Another model would see tool calls it did not make, lose the prompt cache, and may break on the
first one's thinking signatures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared_router.deciding.guards import Allowed
    from shared_router.records import Candidate


def sticky_position(
    name: str | None, allowed: Allowed, candidates: Sequence[Candidate]
) -> int | None:
    """Find the candidate to stay with.

    Args:
        name: Name of the candidate whose tool calls are open, if any.
        allowed: Candidates that can serve the call.
        candidates: All candidates.

    Returns:
        Its position; `None` where there is none, or it cannot serve.
    """
    if name is None:
        return None
    return next((i for i in allowed.indices if candidates[i].answers_to(name)), None)
