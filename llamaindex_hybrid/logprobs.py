"""Log-probabilities of an answer's tokens: read from a response, and taken off it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from llamaindex_hybrid.raw import first_choice, part_of, with_part
from shared_router.support.model_errors import status_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llama_index.core.base.llms.types import ChatResponse, CompletionResponse, LogProb

NAME = "logprobs"
ASKED = {NAME: True, "top_logprobs": 1}
"""How they are asked for: keywords of OpenAI's, and fields of the models that have them."""
MOST_READ = 4096
"""Characters of an error's message that are looked at."""
_INVALID = (400, 422)


def logprobs_of(response: Any) -> tuple[float, ...] | None:
    """Read the natural log-probabilities of an answer's tokens.

    Those of the tokens that were sampled come first: LlamaIndex keeps the likeliest ones alone,
    and drops even these where it makes a chat of a completion.

    Args:
        response: A chat's or a completion's.

    Returns:
        One for each token, as they were told; `None` where none are.
    """
    try:
        sampled = _sampled(part_of(first_choice(response.raw), NAME))
        return sampled or _likeliest(response.logprobs or ()) or None
    except Exception:  # noqa: BLE001  (an answer is not lost because of what is told beside it)
        return None


def _sampled(told: Any) -> tuple[float, ...]:
    """Read what OpenAI's two endpoints tell, each in its own shape."""
    of_chat = part_of(told, "content")
    if of_chat:
        return tuple(float(part_of(token, "logprob")) for token in of_chat)
    return tuple(map(float, part_of(told, "token_logprobs") or ()))


def _likeliest(told: Sequence[Sequence[LogProb]]) -> tuple[float, ...]:
    return tuple(float(tokens[0].logprob) for tokens in told if tokens)


def without_logprobs(response: ChatResponse | CompletionResponse) -> Any:
    """Copy a response without the log-probabilities that its caller did not ask for."""
    changed: dict[str, Any] = {NAME: None}
    with suppress(Exception):  # a provider's own response of another make is left as it is
        changed["raw"] = _without(response.raw)
    return response.model_copy(update=changed)


def _without(raw: Any) -> Any:
    choices = part_of(raw, "choices")
    if not choices:
        return raw
    return with_part(raw, "choices", [with_part(each, NAME, None) for each in choices])


def may_refuse(error: Exception) -> bool:
    """Tell whether an error may come of having asked for them.

    It names them, or it calls the request or an argument invalid, which is tried without them:
    servers do not always say what they find wrong.
    """
    if "logprob" in str(error)[:MOST_READ].lower():
        return True
    status = status_of(error)
    return status in _INVALID if status is not None else isinstance(error, TypeError)
