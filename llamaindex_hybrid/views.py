"""A model seen with other attributes, the model itself left as it is.

LlamaIndex reassigns `callback_manager` on whatever it was given, here the wrapper, and a model
reports to its own. Setting the chosen model's would not do: it may be shared by threads and by two
wrappers. A copy would not do: what a model keeps (a client, a count) would stay in the copy. A view
shares the model's whole state and differs in what one call needs.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, cast

from llama_index.core.callbacks import CallbackManager

from llamaindex_hybrid.listening import ENDPOINTS, has_fields, listening
from llamaindex_hybrid.logprobs import ASKED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llama_index.core.callbacks.base_handler import BaseCallbackHandler
    from llama_index.core.llms import LLM

    from llamaindex_hybrid.listening import Hearing

APPLIED = ("system_prompt", "query_wrapper_prompt", "output_parser", "pydantic_program_mode")
"""What a wrapper may say for all its models; a view of the chosen one says it too."""
_SEEN = ("callback_manager", *APPLIED)
_STATE = ("__dict__", "__pydantic_extra__", "__pydantic_fields_set__", "__pydantic_private__")


def view(model: LLM, seen: Mapping[str, Any], hearing: Hearing | None = None) -> LLM:
    """Return the model as one call sees it.

    Args:
        model: The model.
        seen: Attributes that differ: `callback_manager` and those of `APPLIED`.
        hearing: Told of each whole response of the model, where somebody listens.

    Returns:
        An object of the model's own kind and state; the model itself where nothing differs.
    """
    if not seen and hearing is None:
        return model
    kind = _class_of(type(model)) if hearing is None else _listening_class_of(type(model))
    made = kind.__new__(kind)
    for name in _STATE:
        object.__setattr__(made, name, getattr(model, name))
    kind.seen_as.__set__(made, dict(seen))
    if hearing is not None:
        kind.heard_by.__set__(made, hearing)
    return cast("LLM", made)


@cache
def _class_of(kind: type) -> Any:
    """Make the class of views of a kind of model, once."""
    made = _extended(kind, "seen_as")
    for name in _SEEN:
        type.__setattr__(made, name, _attribute(name))
    return made


@cache
def _listening_class_of(kind: type) -> Any:
    """Make the class of views that are listened to, once."""
    made = _extended(_class_of(kind), "heard_by")
    for name in ASKED if has_fields(kind) else ():
        type.__setattr__(made, name, _attribute(name))
    # Set afterwards: LlamaIndex would make a second span of a method that a class brings.
    for name in ENDPOINTS:
        type.__setattr__(made, name, listening(kind, name))
    return made


def _extended(kind: type, slot: str) -> Any:
    names = ("__module__", "__qualname__", "__doc__")
    namespace = {name: getattr(kind, name) for name in names}
    return type(kind)(kind.__name__, (kind,), {**namespace, "__slots__": (slot,)})


def _attribute(name: str) -> property:
    def read(self: Any) -> Any:
        seen = getattr(self, "seen_as", {})  # a copy of a view has none
        return seen[name] if name in seen else self.__dict__[name]

    def write(self: Any, value: Any) -> None:
        getattr(self, "seen_as", self.__dict__)[name] = value

    return property(read, write)


class MergedCallbacks(CallbackManager):
    """Reports to the wrapper's handlers and to those a model has of its own.

    Args:
        outer: The wrapper's manager; events are entered into its trace.
        own: The model's own handlers.
    """

    def __init__(self, outer: CallbackManager, own: Sequence[BaseCallbackHandler]) -> None:
        # Not the parent's: it would add global handlers a second time.
        self.handlers = [*outer.handlers, *own]
        self._trace_map = outer.trace_map


def merged_callbacks(outer: CallbackManager, inner: CallbackManager) -> CallbackManager:
    """Merge two managers; each handler hears once."""
    if not outer.handlers:
        return inner
    own = [each for each in inner.handlers if not any(each is one for one in outer.handlers)]
    return MergedCallbacks(outer, own) if own else outer
