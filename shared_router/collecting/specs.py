"""From a SPEC string to an async callable: what adapters and users register resolves it."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from shared_router.data.answers import Sampling, priced
from shared_router.errors import ConfigurationError, MissingExtraError
from shared_router.support.extras import listed, of_langchain
from shared_router.support.names import without_password as bare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from shared_router.data.answers import Answer, AskModel

GROUP = "hybrid_llm.models"
"""Entry points: functions from a SPEC to an `AskModel`, or to `None` where it is not theirs. They
are called with `sampling=` too, where the user asks for a temperature, a seed or log-probabilities,
or wants none."""
FORMS = (
    "'provider:model', 'module:attribute', or the URL of an OpenAI-compatible server with the "
    "model behind '#', such as http://127.0.0.1:8000/v1#llama3.2"
)


def resolve_spec(spec: str, sampling: Sampling | None = None) -> AskModel:
    """Resolve a SPEC.

    Args:
        spec: `module:attribute` of an async function `(query, sample) -> Answer`; all else is
            read by the entry points of `hybrid_llm.models`, in the order of their names.
        sampling: The temperature and the seed to ask with, which an async function gets as
            keywords, and whether to ask for log-probabilities: it gives these by itself.

    Raises:
        ConfigurationError: If nobody can read it, or whoever can takes no `sampling`.
        MissingExtraError: If nobody can read it and an adapter lacks its dependency.
    """
    if not spec.partition(":")[2]:
        raise ConfigurationError(f"A model's SPEC is {FORMS}; got {bare(spec)!r}.")
    chosen = sampling or Sampling()
    ask = _async_function(spec)
    return _by_adapter(spec, chosen) if ask is None else _with_keywords(ask, spec, chosen)


def _by_adapter(spec: str, sampling: Sampling) -> AskModel:
    missing: list[tuple[str, ImportError]] = []
    unable: list[str] = []
    asked = {} if sampling == Sampling() else {"sampling": sampling}
    for resolve in _resolvers(missing):
        takes = _takes(resolve, asked)
        # One that knows no sampling asks for no log-probabilities either.
        if not takes and (sampling.keywords(0) or sampling.logprobs is True):
            unable.append(resolve.__module__)
            continue
        try:
            found = resolve(spec, **(asked if takes else {}))
        except MissingExtraError as error:
            missing.append((resolve.__module__, error))
            continue
        if found is not None:
            return found
    if unable:
        raise ConfigurationError(
            f"Nothing that takes a temperature, a seed or log-probabilities can read the model "
            f"{bare(spec)!r}: {', '.join(unable)} does not. Set them in the model itself, and "
            "leave the option out."
        )
    if missing:
        raise _missing(spec, missing)
    raise ConfigurationError(
        f"Nothing installed can read the model {bare(spec)!r}. A SPEC is {FORMS}; providers and "
        "URLs need an adapter: pip install 'hybrid-llm[langchain]' langchain."
    )


def _missing(spec: str, missing: Sequence[tuple[str, ImportError]]) -> MissingExtraError:
    """Say the one simplest thing to install; other adapters could not read the SPEC either."""
    for _, error in missing:
        if isinstance(error, MissingExtraError):
            return error
    packages = of_langchain(spec)
    if packages and any(module.startswith("langchain_hybrid") for module, _ in missing):
        return MissingExtraError(f"Model {bare(spec)!r} needs {listed(packages)}", packages)
    said = "; ".join(str(error) for _, error in missing)
    return MissingExtraError(f"Model {bare(spec)!r} cannot be read: {said}")


def ask_model(
    spec: str, price: tuple[float, float] | None = None, sampling: Sampling | None = None
) -> AskModel:
    """Resolve a SPEC, with its price in dollars per million tokens read and written."""
    ask = resolve_spec(spec, sampling)
    if price is None:
        return ask
    return priced(
        ask, input_usd_per_million_tokens=price[0], output_usd_per_million_tokens=price[1]
    )


def _resolvers(missing: list[tuple[str, ImportError]]) -> Iterator[Callable[..., AskModel | None]]:
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            yield point.load()
        except ImportError as error:  # an adapter whose extra is not installed
            missing.append((point.value, error))


def _async_function(spec: str) -> AskModel | None:
    """Import `module:attribute`, if it is an async function or an object with an async call."""
    found = imported(spec)
    call = found if inspect.isroutine(found) else getattr(found, "__call__", None)  # noqa: B004
    ask: Any = found if inspect.iscoroutinefunction(call) else None
    return ask  # type: ignore[no-any-return]


def _with_keywords(ask: Any, spec: str, sampling: Sampling) -> AskModel:
    """Make an async function get temperature and seed as keywords."""
    wanted = sampling.keywords(0)
    if not wanted:
        return ask  # type: ignore[no-any-return]
    if not _takes(ask, wanted):
        raise ConfigurationError(
            f"{spec!r} is a function of your own without the keyword {' and '.join(wanted)}; take "
            "it (async def ask(query, sample, *, temperature=None, seed=None)), or leave the "
            "option out."
        )

    async def asking(query: str, sample: int, /) -> Answer:
        answer: Answer = await ask(query, sample, **sampling.keywords(sample))
        return answer

    return asking


def _takes(call: Callable[..., Any], keywords: Iterable[str]) -> bool:
    """Tell whether a function takes all of these keywords."""
    known = inspect.signature(call).parameters
    every = any(each.kind is each.VAR_KEYWORD for each in known.values())
    return every or all(name in known for name in keywords)


def why_not_imported(spec: str) -> str:
    """Say why `imported` found nothing."""
    module, _, attribute = spec.partition(":")
    try:
        found = importlib.util.find_spec(module) is not None
    except (ImportError, ValueError, AttributeError):
        found = False
    if not found:
        return f"there is no module {module!r} to import from here"
    return f"module {module!r} has no attribute {attribute!r}"


def imported(spec: str) -> Any:
    """Import the attribute that `module:attribute` names.

    Returns:
        The object; `None` where the module is not there or has no such attribute.

    Raises:
        ConfigurationError: If the module is there and fails on import.
    """
    module, _, attribute = spec.partition(":")
    if not all(part.isidentifier() for part in f"{module}.{attribute}".split(".")):
        return None
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(error.name + ".")):
            return None
        raise ConfigurationError(f"Module {module!r} fails on import: {error}.") from error
    except Exception as error:  # a user's module may raise anything
        kind = type(error).__name__
        raise ConfigurationError(f"Module {module!r} fails on import ({kind}: {error}).") from error
    for name in attribute.split("."):
        found = getattr(found, name, None)
    return found
