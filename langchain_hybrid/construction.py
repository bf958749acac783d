"""Construction of a HybridChatModel: every wrong argument gets a clear error here."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel

from langchain_hybrid.children import describe, map_models, model_name, resolve_model, retries
from shared_router.engine.fronts import ModelKind, bind, engine_of
from shared_router.errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

    from shared_router.engine.engine import RoutingEngine
    from shared_router.records import Candidate

OWNER = "HybridChatModel"
REFUSED = {
    "cache": "the wrapped models cache by themselves, each its own answers: give `cache` to them",
}
"""Parameters of a chat model that a wrapper cannot honour."""
_KIND = ModelKind(resolve=resolve_model, name=model_name, describe=describe, retries=retries)


def build_engine(model: BaseChatModel, before: RoutingEngine | None = None) -> RoutingEngine:
    """Bind the models of a `HybridChatModel` to its router.

    Args:
        model: The wrapper.
        before: The engine of the wrapper that it is a copy of.

    Raises:
        ConfigurationError: If the models, the router or the dials are wrong.
    """
    candidates = bind(model, _KIND)
    if "output_version" in model.model_fields_set and model.output_version is not None:
        candidates = [_with_output_version(each, model.output_version) for each in candidates]
    return engine_of(model, candidates, _KIND, before)


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
