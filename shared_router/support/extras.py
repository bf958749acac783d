"""Optional packages: all that is missing is said at once, before any work."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Self

from shared_router.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

PROVIDERS = {
    "azure_openai": "langchain-openai",
    "bedrock": "langchain-aws",
    "bedrock_converse": "langchain-aws",
    "google_genai": "langchain-google-genai",
    "google_vertexai": "langchain-google-vertexai",
    "nvidia": "langchain-nvidia-ai-endpoints",
} | {
    name: f"langchain-{name}"
    for name in (
        *("anthropic", "cohere", "deepseek", "fireworks", "groq", "huggingface", "ibm"),
        *("litellm", "mistralai", "ollama", "openai", "openrouter", "perplexity", "together"),
        *("upstage", "xai"),
    )
}
"""LangChain's package of each provider that `provider:model` may name."""


def lacking(*modules: str) -> list[str]:
    """List the modules that are not installed; none is imported."""
    return [name for name in modules if not _found(name)]


def _found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # its package is missing, or was made unimportable
        return False


def need(what: str, extra: str, *modules: str) -> None:
    """Check that modules of one of our extras are there.

    Args:
        what: What needs them, to begin a sentence with.
        extra: The extra that brings them.
        *modules: The modules.

    Raises:
        MissingExtraError: If one is not installed; it names all that are not.
    """
    missing = lacking(*modules)
    if missing:
        raise MissingExtraError(f"{what} needs {listed(missing)}", [f"hybrid-llm[{extra}]"])


def of_langchain(spec: str) -> list[str]:
    """List the packages that LangChain needs to make a model of a SPEC, and that are missing."""
    url = spec.startswith(("http://", "https://"))
    provider = "langchain-openai" if url else PROVIDERS.get(spec.partition(":")[0])
    wanted = {"hybrid-llm[langchain]": "langchain_core"}
    wanted |= {} if url else {"langchain": "langchain"}
    wanted |= {provider: provider.replace("-", "_")} if provider else {}
    return [package for package, module in wanted.items() if lacking(module)]


def listed(names: Sequence[str]) -> str:
    """Join names to words: `a`, `a and b`, `a, b and c`."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


class Needs:
    """Gathers what is missing while several things are made, each in a `with` block of it."""

    def __init__(self) -> None:
        self._missing: list[MissingExtraError] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if isinstance(error, MissingExtraError):
            self._missing.append(error)
        return isinstance(error, MissingExtraError)

    def check(self) -> None:
        """Say all that is missing, with one command that installs it.

        Raises:
            MissingExtraError: If anything is.
        """
        if len(self._missing) < 2:
            for error in self._missing:
                raise error
            return
        needs = dict.fromkeys(error.need.removesuffix(".") for error in self._missing)
        packages = [package for error in self._missing for package in error.packages]
        raise MissingExtraError("; ".join(needs), packages)
