"""The wrapped models: what they are called, what they can do, and how to reach inside wrappers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urldefrag

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable, RunnableWithFallbacks
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.retry import RunnableRetry
from pydantic import ValidationError

from shared_router.engine.fronts import described
from shared_router.errors import CandidateError, MissingExtraError
from shared_router.support.extras import listed, of_langchain
from shared_router.support.names import without_password

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from shared_router.records import Candidate


def resolve_model(model: Any, role: str) -> Runnable[Any, Any]:
    """Take a chat model, a Runnable around one, a `provider:model` string, or `URL#model`.

    Args:
        model: What the user gave.
        role: Its name in messages.

    Raises:
        CandidateError: If it is neither, or a string that names no provider.
        MissingExtraError: If a string is given, and `langchain` or the package of its provider is
            not installed; it names all that is missing.
    """
    if isinstance(model, str):
        return openai_compatible(model) if is_url(model) else _init_chat_model(model, role)
    if not isinstance(model, Runnable):
        raise CandidateError(
            f"{role} is a chat model, a Runnable around one, or a 'provider:model' string; got "
            f"{type(model).__name__}."
        )
    return model


def is_url(name: str) -> bool:
    """Tell whether a model is named by the address of its server."""
    return name.startswith(("http://", "https://"))


def openai_compatible(spec: str, **options: Any) -> Runnable[Any, Any]:
    """Make a chat model of `URL#model`, the key taken from `OPENAI_API_KEY`.

    Args:
        spec: The address of an OpenAI-compatible server, with the model behind `#`.
        **options: What else the client takes.

    Raises:
        CandidateError: If the URL names no model.
        MissingExtraError: If `langchain-openai` is not installed.
    """
    url, name = urldefrag(spec)
    told = without_password(spec)
    if not name:
        raise CandidateError(
            f"A URL names the model behind '#', as in {told}#llama3.2; got {told!r}."
        )
    try:
        from langchain_openai import ChatOpenAI
    except ImportError as error:
        raise MissingExtraError(
            f"Model {told!r} is a URL, which needs langchain-openai", ["langchain-openai"]
        ) from error
    # Local servers take any key, and the client insists on one.
    key: Any = os.environ.get("OPENAI_API_KEY") or "none"
    return cast("Runnable[Any, Any]", ChatOpenAI(base_url=url, model=name, api_key=key, **options))


def _init_chat_model(name: str, role: str) -> Runnable[Any, Any]:
    try:
        from langchain.chat_models import init_chat_model

        return cast("Runnable[Any, Any]", init_chat_model(name))
    except ImportError as error:
        missing = of_langchain(name)
        if not missing:
            raise MissingExtraError(f"Model {name!r} cannot be made: {error}") from error
        raise MissingExtraError(
            f"Model {name!r} is given by name, which needs {listed(missing)} (or give the chat "
            "model itself)",
            missing,
        ) from error
    except ValidationError:  # the provider's own, about keys and the like
        raise
    except ValueError as error:
        raise CandidateError(
            f"{role}={name!r} names no provider that LangChain knows; write 'provider:model'. "
            f"LangChain says: {str(error).splitlines()[0]}"
        ) from error


def base_models(model: Any) -> Iterator[BaseChatModel]:
    """Yield the chat models inside bindings, retries and fallbacks."""
    if isinstance(model, BaseChatModel):
        yield model
    elif isinstance(model, RunnableBindingBase):
        yield from base_models(model.bound)
    elif isinstance(model, RunnableWithFallbacks):
        for each in model.runnables:
            yield from base_models(each)


def map_models(
    model: Runnable[Any, Any], change: Callable[[BaseChatModel], Runnable[Any, Any]]
) -> Runnable[Any, Any]:
    """Rebuild bindings, retries and fallbacks around changed chat models.

    `RunnableBinding.bind_tools` drops earlier bound keywords, and retries have no `bind_tools` at
    all; rebuilding keeps both.
    """
    if isinstance(model, RunnableBindingBase):
        return model.model_copy(update={"bound": map_models(model.bound, change)})
    if isinstance(model, RunnableWithFallbacks):
        changed = {
            "runnable": map_models(model.runnable, change),
            "fallbacks": [map_models(each, change) for each in model.fallbacks],
        }
        return model.model_copy(update=changed)
    return change(cast("BaseChatModel", model))


def bound_keywords(model: Any) -> dict[str, Any]:
    """Return the keywords that bindings around a model hold; the outer ones go first."""
    if isinstance(model, RunnableBindingBase):
        return {**bound_keywords(model.bound), **model.kwargs}
    return bound_keywords(model.runnable) if isinstance(model, RunnableWithFallbacks) else {}


def describe(candidate: Candidate) -> Candidate:
    """Fill in what the model itself tells: capabilities, context window, its provider's name."""
    profile = model_profile(candidate.model) or {}
    return described(
        candidate,
        name=model_name(candidate.model),
        context_window=profile.get("max_input_tokens"),
        supports_tools=can_bind_tools(candidate.model),
        supports_structured_output=can_structure(candidate.model),
    )


def model_name(model: Any) -> str | None:
    """Return the name the provider calls the model by (`ls_model_name`), if it tells."""
    for base in base_models(model):
        name = base._get_ls_params().get("ls_model_name")  # noqa: SLF001
        return str(name) if name else None
    return None


def retries(model: Any) -> bool:
    """Tell whether a model tries again by itself, as most clients do unless told otherwise."""
    if isinstance(model, RunnableRetry):
        return True
    told = [getattr(base, "max_retries", None) for base in base_models(model)]
    return not told or any(each != 0 for each in told)


def can_bind_tools(model: Any) -> bool:
    """Tell whether every chat model inside can bind tools."""
    bases = list(base_models(model))
    return bool(bases) and all(_can_bind(base) for base in bases)


def _can_bind(base: BaseChatModel) -> bool:
    if type(base).bind_tools is BaseChatModel.bind_tools:
        return False
    return (base.profile or {}).get("tool_calling") is not False


def can_structure(model: Any) -> bool:
    """Tell whether every chat model inside can answer in a schema."""
    bases = list(base_models(model))
    return bool(bases) and all(
        _can_bind(base)
        or type(base).with_structured_output is not BaseChatModel.with_structured_output
        for base in bases
    )


def model_profile(model: Any) -> Mapping[str, Any] | None:
    """Return the profile all chat models inside share."""
    return intersect_profiles([base.profile for base in base_models(model)])


def intersect_profiles(
    profiles: Sequence[Mapping[str, Any] | None],
) -> dict[str, Any] | None:
    """Intersect profiles: what every one states, AND for flags, the minimum for numbers.

    Other values are kept where all agree. `None` where any profile is unknown.
    """
    if not profiles or any(not profile for profile in profiles):
        return None
    known = [dict(profile) for profile in profiles if profile]
    shared = [key for key in known[0] if all(key in other for other in known)]
    merged = {key: _merge([profile[key] for profile in known]) for key in shared}
    return {key: value for key, value in merged.items() if value is not None} or None


def _merge(values: list[Any]) -> Any:
    if all(isinstance(value, bool) for value in values):
        return all(values)
    if all(isinstance(value, int | float) for value in values):
        return min(values)
    return values[0] if all(value == values[0] for value in values) else None
