"""Log-probabilities of an answer's tokens: asked for, read, and taken off where only we asked.

They are asked for by the field that a chat model has for them, so that they come through tools and
schemas too. What the caller says of them, in the model, a binding or a call, stands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage

from langchain_hybrid.children import base_models, bound_keywords, map_models
from shared_router.support.model_errors import causes_of, status_of

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.runnables import Runnable

NAME = "logprobs"
"""What hosts call them, as a parameter and in what a message tells."""
MOST_READ = 4096
"""Characters of an error's message that are looked at."""
_REFUSED = frozenset({400, 403, 422, 501})


def with_logprobs(model: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """Return a model that gives log-probabilities; the model itself where it takes none.

    It is the model itself too where its user has said whether it gives them.
    """
    if NAME in bound_keywords(model) or not any(map(_may_be_asked, base_models(model))):
        return model

    def asked(base: BaseChatModel) -> BaseChatModel:
        return base.model_copy(update={NAME: True}) if _may_be_asked(base) else base

    return map_models(model, asked)


def _may_be_asked(base: Any) -> bool:
    known = NAME in getattr(type(base), "model_fields", ())
    return known and NAME not in base.model_fields_set and not getattr(base, NAME)


def refuses_logprobs(error: BaseException) -> bool:
    """Tell whether a model refuses the parameter: by an HTTP error or as an unknown argument."""
    return any(map(_refuses, causes_of(error)))


def _refuses(error: BaseException) -> bool:
    if NAME not in str(error)[:MOST_READ]:
        return False
    return isinstance(error, TypeError | ValueError) or status_of(error) in _REFUSED


def logprobs_of(message: AIMessage) -> tuple[float, ...] | None:
    """Read the log-probabilities that a message tells; `None` where they are not one a token.

    They stand in a list of tokens, or in one under `content`.
    """
    told: Any = message.response_metadata.get(NAME)
    tokens = told.get("content") if isinstance(told, dict) else told
    if not isinstance(tokens, list) or not tokens:
        return None
    found: list[Any] = [each.get("logprob") if isinstance(each, dict) else None for each in tokens]
    try:
        return tuple(map(float, found))
    except (TypeError, ValueError, OverflowError):
        return None


def without_logprobs(output: Any) -> Any:
    """Take them off a message, or off a structured answer's raw one; the model's own keeps them."""
    if isinstance(output, AIMessage) and NAME in output.response_metadata:
        kept = {name: told for name, told in output.response_metadata.items() if name != NAME}
        return output.model_copy(update={"response_metadata": kept})
    if isinstance(output, dict) and isinstance(output.get("raw"), AIMessage):
        return {**output, "raw": without_logprobs(output["raw"])}
    return output
