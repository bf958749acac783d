"""Construction of a HybridChatModel: every wrong argument gets a clear error here."""

from __future__ import annotations

import dataclasses
import difflib
import warnings
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel

from langchain_hybrid.children import bound_candidates, describe, map_models, resolve_model
from shared_router.engine import RoutingEngine
from shared_router.errors import CandidateError, ConfigurationError
from shared_router.options import dial_from

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.runnables import Runnable
    from pydantic import ValidationError

    from langchain_hybrid.chat_model import HybridChatModel
    from shared_router.records import Candidate

_MODEL_PARAMETERS = frozenset(
    {"api_key", "base_url", "max_retries", "max_tokens", "model", "model_name", "seed", "stop"}
    | {"streaming", "temperature", "timeout", "top_k", "top_p"}
)
_REFUSED = {
    "cache": "the wrapped models cache by themselves, each its own answers: give `cache` to them",
}


class IgnoredParameterWarning(UserWarning):
    """A parameter of a chat model was given to the wrapper, which has none of it."""


def check_parameters(values: Any, known: set[str]) -> None:
    """Refuse what would be silently lost.

    Raises:
        ConfigurationError: If a parameter is unknown, or cannot be honoured by a wrapper.

    Warns:
        IgnoredParameterWarning: If a parameter belongs to the wrapped models.
    """
    if not isinstance(values, dict):
        return
    dial_from(values)  # before pydantic would make a number of it
    for name, why in _REFUSED.items():
        if values.get(name) is not None:
            raise ConfigurationError(f"HybridChatModel cannot honour {name}: {why}.")
    ignored = sorted(_MODEL_PARAMETERS.intersection(values))
    if ignored:
        warnings.warn(
            f"HybridChatModel ignores {', '.join(ignored)}: give them to the wrapped models.",
            IgnoredParameterWarning,
            stacklevel=5,
        )
    for name in sorted(set(values) - known - _MODEL_PARAMETERS):
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ConfigurationError(f"HybridChatModel has no parameter {name!r}{hint}")


def own_error(error: ValidationError) -> Exception:
    """Unwrap our own error from pydantic's, which would show the arguments."""
    details = error.errors(include_url=False, include_input=False)
    for detail in details:
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, Exception):
            return cause
    first = details[0]
    field = ".".join(str(part) for part in first["loc"])
    return ConfigurationError(f"HybridChatModel: {field}: {first['msg']}.")


def build_engine(model: HybridChatModel) -> RoutingEngine:
    """Bind the models to the router.

    Raises:
        ConfigurationError: If the models, the router or the dials are wrong.
    """
    if model.router is None:
        raise ConfigurationError(
            "HybridChatModel needs a router: a Router, or its folder or hub name. "
            "`hybrid-llm fit` trains one."
        )
    candidates = _candidates(model.small, model.large, model.candidates)
    if "output_version" in model.model_fields_set and model.output_version is not None:
        candidates = [_with_output_version(each, model.output_version) for each in candidates]
    return RoutingEngine(
        model.router,
        candidates,
        dial=dial_from(vars(model)),
        timeout_s=model.router_timeout_s,
        same_models=model.same_models,
        record_query=model.record_query,
        on_decision=model.on_decision,
    )


def _candidates(small: Any, large: Any, given: Sequence[Candidate] | None) -> list[Candidate]:
    if given is None:
        if small is None or large is None:
            raise CandidateError(
                "HybridChatModel wraps small= and large=, or candidates=[...]; got "
                f"small={type(small).__name__}, large={type(large).__name__}."
            )
        return bound_candidates([resolve_model(small, "small"), resolve_model(large, "large")])
    if small is not None or large is not None:
        raise CandidateError("Give either small= and large=, or candidates=, not both.")
    names = [candidate.name for candidate in given]
    if len(set(names)) < len(names):
        raise CandidateError(f"Each candidate is named once; got {', '.join(names)}.")
    return [_with_model(candidate) for candidate in given]


def _with_model(candidate: Candidate) -> Candidate:
    if candidate.model is None:
        raise CandidateError(f"Candidate {candidate.name!r} has no model: Candidate(name, model).")
    model = resolve_model(candidate.model, f"candidate {candidate.name!r}")
    return describe(dataclasses.replace(candidate, model=model))


def _with_output_version(candidate: Candidate, version: str) -> Candidate:
    """Let a copy of the model shape its output; the user's own model stays as it is."""

    def shaped(base: BaseChatModel) -> Runnable[Any, Any]:
        if not isinstance(base, BaseChatModel):
            raise ConfigurationError(
                f"HybridChatModel cannot honour output_version: candidate {candidate.name!r} is a "
                f"{type(base).__name__}; give `output_version` to the chat model inside it."
            )
        return base.model_copy(update={"output_version": version})

    return dataclasses.replace(candidate, model=map_models(candidate.model, shaped))
