"""Pickles without secrets and without silent loss.

LlamaIndex drops what does not pickle, from the pickle and from the living object, and keeps API
keys. Here a part that does not pickle is an error, and a wrapped model travels without its secrets:
its constructor finds them in the environment again, and where it does not, a warning says so.
"""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re
import warnings
from typing import TYPE_CHECKING, Any

from llama_index.core.llms import LLM
from pydantic import SecretStr

from shared_router.errors import ConfigurationError
from shared_router.records import Candidate

if TYPE_CHECKING:
    from collections.abc import Mapping

_SECRET = re.compile(
    r"(?:^|_)(?:api_?key|key|secret|token|password|credentials?|authorization|auth|headers)(?:_|$)",
    re.IGNORECASE,
)


class SecretLeftOutWarning(UserWarning):
    """A model came out of a pickle without its key, and found none in the environment."""


def parts(owner: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Prepare a wrapper's parameters for its pickle.

    Args:
        owner: The wrapper's class, for messages.
        parameters: What it is constructed with.

    Raises:
        ConfigurationError: If one of them does not pickle.
    """
    prepared = {name: _portable(value) for name, value in parameters.items()}
    for name, value in prepared.items():
        try:
            pickle.dumps(value)
        except Exception as error:
            raise ConfigurationError(
                f"{owner} cannot be pickled: its {name} cannot ({type(error).__name__}: {error}). "
                "Functions must stand at the top of a module; a router can be given by its folder."
            ) from error
    return prepared


def rebuilt(kind: type, parameters: dict[str, Any]) -> Any:
    """Construct what was pickled."""
    return kind(**parameters)


def _portable(value: Any) -> Any:
    """Replace models, wherever they stand, by what travels."""
    if isinstance(value, Candidate):
        return dataclasses.replace(value, model=_portable(value.model))
    if isinstance(value, list | tuple):
        return [_portable(each) for each in value]
    own_way = "__reduce__" in vars(type(value))  # such as a wrapper in a wrapper
    return _Portable(value) if isinstance(value, LLM) and not own_way else value


class _Portable:
    """A model on its way: in the pickle without its secrets, out of it a model again."""

    def __init__(self, model: LLM) -> None:
        self.model = model

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy: LlamaIndex deletes what does not pickle from the object it is asked about.
        state = copy.copy(self.model).__getstate__()
        left_out: list[str] = []
        kept = _without_secrets(state["__dict__"], "", left_out)
        kept.pop("callback_manager", None)  # handlers belong to a process
        # What is private (clients, with their keys) is made anew by the constructor.
        state = {**state, "__dict__": kept, "__pydantic_private__": None}
        return _restored, (type(self.model), state, sorted(left_out))


def _without_secrets(values: Mapping[str, Any], path: str, left_out: list[str]) -> dict[str, Any]:
    """Leave secrets out, also of dictionaries inside, and prepare models inside of models."""
    kept = {}
    for name, value in values.items():
        if _is_secret(str(name), value):
            left_out.append(f"{path}{name}")
        elif isinstance(value, dict):
            kept[name] = _without_secrets(value, f"{path}{name}.", left_out)
        else:
            kept[name] = _portable(value)
    return kept


def _is_secret(name: str, value: Any) -> bool:
    if isinstance(value, SecretStr):
        return True
    return bool(value) and isinstance(value, str | dict) and bool(_SECRET.search(name))


def _restored(kind: type[LLM], state: dict[str, Any], left_out: list[str]) -> LLM:
    model = kind.__new__(kind)
    model.__setstate__(state)
    missing = [name for name in left_out if not getattr(model, name, None)]
    if missing:
        warnings.warn(
            f"A {kind.__name__} came out of a pickle without {', '.join(missing)}: pickles hold no "
            "secrets. Set it in the environment, or on the model again.",
            SecretLeftOutWarning,
            stacklevel=2,
        )
    return model
