"""Construction of a HybridLLM: every wrong argument gets a clear error here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.generic_utils import messages_to_prompt
from llama_index.core.llms.llm import LLM, default_completion_to_prompt

from llamaindex_hybrid.children import describe, model_name, resolve_model, retries
from shared_router.engine.fronts import ModelKind, bind, engine_of
from shared_router.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection

    from shared_router.engine.engine import RoutingEngine

OWNER = "HybridLLM"
_OWN_FORMAT = "each model has a prompt format of its own: give it to the wrapped models"
REFUSED = {"messages_to_prompt": _OWN_FORMAT, "completion_to_prompt": _OWN_FORMAT}
"""Parameters of an LLM that a wrapper cannot honour."""
_KIND = ModelKind(resolve=resolve_model, name=model_name, describe=describe, retries=retries)
_DEFAULTS = (None, messages_to_prompt, default_completion_to_prompt)


def build_engine(llm: LLM, before: RoutingEngine | None = None) -> RoutingEngine:
    """Bind the models of a `HybridLLM` to its router.

    Args:
        llm: The wrapper.
        before: The engine of the wrapper that it is a copy of.

    Raises:
        ConfigurationError: If the models, the router or the dials are wrong.
    """
    return engine_of(llm, bind(llm, _KIND), _KIND, before)


def check_assignment(name: str, value: Any, fixed: Collection[str]) -> None:
    """Refuse what would change an attribute and not the routing.

    Raises:
        ConfigurationError: If the attribute is fixed at construction, or not honoured at all.
    """
    if name in fixed:
        raise ConfigurationError(
            f"{name} is fixed at construction: use llm.model_copy(update={{{name!r}: ...}}), "
            "or give a dial per call."
        )
    if name in REFUSED and not any(value is default for default in _DEFAULTS):
        raise ConfigurationError(f"{OWNER} cannot honour {name}: {REFUSED[name]}.")
