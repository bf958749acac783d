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
from typing import TYPE_CHECKING, Any

from llama_index.core.llms import LLM
from pydantic import BaseModel, SecretBytes, SecretStr

from shared_router.errors import ConfigurationError
from shared_router.records import Candidate
from shared_router.support.user_warnings import warn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared_router.options import CallOptions

_SECRET = re.compile(
    r"(?:^|_)(?:api_?key|key|secret|token|password|passwd|credentials?|authorization|auth|cookies?"
    r"|headers)(?:_|$)",
    re.IGNORECASE,
)
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")
"""Where a word of a name begins: `accessToken` and `api-key` are names of secrets too."""
_IN_URL = re.compile(r"(?<=://)[^/@\s]+@")
"""User and password of a URL."""


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


def rebuilt(kind: type, parameters: dict[str, Any], options: CallOptions | None = None) -> Any:
    """Construct what was pickled, holding the options it held."""
    made: Any = kind(**parameters)
    return made if options is None else made.holding(options)


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
        more = _without_secrets(state.get("__pydantic_extra__") or {}, "", left_out)
        # What is private (clients, with their keys) is made anew by the constructor.
        state |= {"__dict__": kept, "__pydantic_extra__": more or None}
        state |= {"__pydantic_private__": None}
        return _restored, (type(self.model), state, sorted(left_out))


def _without_secrets(values: Mapping[str, Any], path: str, left_out: list[str]) -> dict[str, Any]:
    """Leave secrets out, also of what stands inside, and prepare models inside of models."""
    kept = {}
    for name, value in values.items():
        if _is_secret(str(name), value):
            left_out.append(f"{path}{name}")
        else:
            kept[name] = _bare(value, f"{path}{name}", left_out)
    return kept


def _bare(value: Any, path: str, left_out: list[str]) -> Any:
    """Return a value without the secrets inside of it."""
    if isinstance(value, dict):
        return _without_secrets(value, f"{path}.", left_out)
    if isinstance(value, str) and _IN_URL.search(value):
        left_out.append(f"{path} (user and password)")
        return _IN_URL.sub("", value)
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(_bare(each, f"{path}.{at}", left_out) for at, each in enumerate(value))
    if isinstance(value, BaseModel) and not isinstance(value, LLM):
        return _bare_settings(value, path, left_out)
    return _portable(value)


def _bare_settings(value: BaseModel, path: str, left_out: list[str]) -> BaseModel:
    """Blank the secrets of a settings object: its fields must all be there."""
    changed: dict[str, Any] = {}
    for name, field in vars(value).items():
        if _is_secret(name, field):
            left_out.append(f"{path}.{name}")
            changed[name] = type(field)() if isinstance(field, dict) else ""
            changed[name] = SecretStr("") if isinstance(field, SecretStr) else changed[name]
        else:
            changed[name] = _bare(field, f"{path}.{name}", left_out)
    bare = value.model_copy(update=changed)
    extra = value.__pydantic_extra__
    if extra:
        bare.__pydantic_extra__ = _without_secrets(extra, f"{path}.", left_out)
    return bare


def _is_secret(name: str, value: Any) -> bool:
    if isinstance(value, SecretStr | SecretBytes):
        return True
    words = _WORD_START.sub("_", name)
    return bool(value) and isinstance(value, str | dict) and bool(_SECRET.search(words))


def _restored(kind: type[LLM], state: dict[str, Any], left_out: list[str]) -> LLM:
    model = kind.__new__(kind)
    model.__setstate__(state)
    missing = [name for name in left_out if not getattr(model, name, None)]
    if missing:
        warn(
            f"A {kind.__name__} came out of a pickle without {', '.join(missing)}: pickles hold no "
            "secrets. Set it in the environment, or on the model again.",
            SecretLeftOutWarning,
        )
    return model
