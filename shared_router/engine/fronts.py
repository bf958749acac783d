"""What every front does at construction: check its parameters, gather its models, bind them."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shared_router.deciding.terms import always
from shared_router.engine.breaker import Breaker, Breakers
from shared_router.engine.engine import RoutingEngine
from shared_router.engine.terms import CallSettings
from shared_router.errors import CandidateError, ConfigurationError
from shared_router.options import confidence_from, dial_from
from shared_router.records import Candidate
from shared_router.router.read import BUNDLED
from shared_router.support.names import nearest
from shared_router.support.once import warn_once
from shared_router.support.user_warnings import warn

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from pydantic import ValidationError

_log = logging.getLogger("hybrid_llm")
OF_MODELS = frozenset(
    {"api_key", "base_url", "max_retries", "max_tokens", "model", "model_name", "seed", "stop"}
    | {"streaming", "temperature", "timeout", "top_k", "top_p"}
)
"""Parameters of the wrapped models that hosts and users pass to whatever is a model."""


class IgnoredParameterWarning(UserWarning):
    """A parameter of a chat model was given to the wrapper, which has none of it."""


def check_parameters(
    owner: str, values: Any, known: Collection[str], refused: Mapping[str, str]
) -> None:
    """Refuse what would be silently lost.

    Args:
        owner: The wrapper's class, for messages.
        values: What it was constructed with.
        known: Its parameters.
        refused: Those of them that a wrapper cannot honour, and why.

    Raises:
        ConfigurationError: If a parameter is unknown, or cannot be honoured by a wrapper.

    Warns:
        IgnoredParameterWarning: If a parameter belongs to the wrapped models.
    """
    if not isinstance(values, dict):
        return
    dial_from(values)  # before pydantic would make a number of it
    if values.get("confidence") is not None:
        confidence_from(values["confidence"])
    for name, why in refused.items():
        if values.get(name) is not None:
            raise ConfigurationError(f"{owner} cannot honour {name}: {why}.")
    ignored = sorted(OF_MODELS.intersection(values))
    if ignored:
        warn(
            f"{owner} ignores {', '.join(ignored)}: give them to the wrapped models.",
            IgnoredParameterWarning,
        )
    for name in sorted(set(values) - set(known) - OF_MODELS):
        near = nearest(name, known)
        hint = f"; did you mean {near!r}?" if near else "."
        raise ConfigurationError(f"{owner} has no parameter {name!r}{hint}")


def own_error(owner: str, error: ValidationError) -> Exception:
    """Unwrap our own error from pydantic's, which would show the arguments."""
    details = error.errors(include_url=False, include_input=False)
    for detail in details:
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, Exception):
            return cause
    first = details[0]
    field = ".".join(str(part) for part in first["loc"])
    return ConfigurationError(f"{owner}: {field}: {first['msg']}.")


@dataclass(frozen=True, kw_only=True)
class ModelKind:
    """How a front reads the models it wraps."""

    resolve: Callable[[Any, str], Any]
    """Takes what the user gave and its role, returns the model or raises a `CandidateError`."""
    name: Callable[[Any], str | None]
    """The name a model's provider calls it by."""
    describe: Callable[[Candidate], Candidate]
    """Fills in what the model itself tells."""
    retries: Callable[[Any], bool] = field(default_factory=lambda: always)
    """Tells whether a model tries again by itself where a call fails."""


def bind(wrapper: Any, kind: ModelKind) -> list[Candidate]:
    """Make candidates of a wrapper's `small` and `large`, or of its `candidates`.

    Raises:
        CandidateError: If models are missing, given twice, or none.
    """
    owner, given = type(wrapper).__name__, wrapper.candidates
    small, large = wrapper.small, wrapper.large
    if given is None:
        if small is None or large is None:
            raise CandidateError(
                f"{owner} wraps small= and large=, or candidates=[...]; got "
                f"small={type(small).__name__}, large={type(large).__name__}."
            )
        return _pair([kind.resolve(small, "small"), kind.resolve(large, "large")], kind)
    if small is not None or large is not None:
        raise CandidateError("Give either small= and large=, or candidates=, not both.")
    names = [candidate.name for candidate in given]
    if len(set(names)) < len(names):
        raise CandidateError(f"Each candidate is named once; got {', '.join(names)}.")
    return [_with_model(candidate, kind) for candidate in given]


def _pair(models: Sequence[Any], kind: ModelKind) -> list[Candidate]:
    """Make candidates of a small and a large model, named as their providers name them."""
    names = [kind.name(model) for model in models]
    if not all(names) or len(set(names)) < len(names):
        names = ["small", "large"]
    return [
        kind.describe(Candidate(str(name), model))
        for name, model in zip(names, models, strict=True)
    ]


def _with_model(candidate: Candidate, kind: ModelKind) -> Candidate:
    if candidate.model is None:
        raise CandidateError(f"Candidate {candidate.name!r} has no model: Candidate(name, model).")
    model = kind.resolve(candidate.model, f"candidate {candidate.name!r}")
    return kind.describe(dataclasses.replace(candidate, model=model))


def described(
    candidate: Candidate,
    *,
    name: str | None,
    context_window: int | None,
    supports_tools: bool,
    supports_structured_output: bool,
) -> Candidate:
    """Fill in what a model tells of itself; what the user said of it stands.

    Args:
        candidate: As the user gave it.
        name: The name the provider calls the model by; an alias where it is another.
        context_window: Tokens it reads.
        supports_tools: Whether it can call tools.
        supports_structured_output: Whether it can answer in a schema.
    """
    own = candidate.answers_to(name) if name else True
    tools, structured = candidate.supports_tools, candidate.supports_structured_output
    return dataclasses.replace(
        candidate,
        aliases=candidate.aliases if own else (*candidate.aliases, str(name)),
        context_window=candidate.context_window or context_window,
        supports_tools=supports_tools if tools is None else tools,
        supports_structured_output=supports_structured_output if structured is None else structured,
    )


def engine_of(
    wrapper: Any,
    candidates: Sequence[Candidate],
    kind: ModelKind,
    before: RoutingEngine | None = None,
) -> RoutingEngine:
    """Bind a wrapper's models to its router.

    Args:
        wrapper: The wrapper.
        candidates: Its models.
        kind: How its models are read.
        before: The engine of the wrapper that it is a copy of: models that are the same go on with
            their breakers.

    Raises:
        ConfigurationError: If the models, the router or the dials are wrong.
    """
    return RoutingEngine(
        _bundled(wrapper, candidates) if wrapper.router is None else wrapper.router,
        candidates,
        dial=dial_from(vars(wrapper)),
        confidence=wrapper.confidence,
        timeout_s=wrapper.router_timeout_s,
        same_models=wrapper.same_models,
        record_query=wrapper.record_query,
        on_decision=wrapper.on_decision,
        settings=CallSettings.read(wrapper),
        on_call=wrapper.on_call,
        breakers=_breakers(candidates, before),
        retries=kind.retries,
    )


def _breakers(candidates: Sequence[Candidate], before: RoutingEngine | None) -> Breakers:
    names = [candidate.name for candidate in candidates]
    if before is None:
        return Breakers(names)
    known = list(zip(before.candidates, before.breakers, strict=True))

    def of(candidate: Candidate) -> Breaker | None:
        same = (breaker for each, breaker in known if each.model is candidate.model)
        return next(same, None)

    return Breakers(names, [of(candidate) for candidate in candidates])


def _bundled(wrapper: Any, candidates: Sequence[Candidate]) -> str:
    """Take the bundled router, and say so once in the log; it chooses between two models."""
    if len(candidates) != 2:
        raise CandidateError(
            f"{type(wrapper).__name__} needs a router for {len(candidates)} models: a Router, or "
            "its folder or hub name; the bundled one chooses between two. `hybrid-llm fit` trains "
            "one."
        )
    warn_once(
        _log,
        "No router given: the bundled one decides. It knows neither of these models, and its "
        "quality drops are estimates on others; `hybrid-llm fit` trains one for them.",
    )
    return BUNDLED
