"""What imports what: the core is framework-free, light, and imports in one direction."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import shared_router

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(shared_router.__file__).parent
MODULES = sorted(
    found.name for found in pkgutil.walk_packages(shared_router.__path__, "shared_router.")
)
FORBIDDEN = (
    "langchain",
    "langchain_core",
    "langgraph",
    "langsmith",
    "llama_index",
    "torch",
    "transformers",
    "scipy",
    "sklearn",
    "pandas",
    "onnx",
    "pyarrow",
    "ray",
)
"""What no module of the core loads when it is imported; import-linter keeps the rooms in order."""


def in_a_process(code: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def test_importing_every_module_imports_no_framework_and_nothing_heavy() -> None:
    loaded = in_a_process(
        "import importlib, json, sys\n"
        f"for name in {MODULES!r}: importlib.import_module(name)\n"
        f"print(json.dumps([name for name in {FORBIDDEN!r} if name in sys.modules]))"
    )
    assert loaded == []


def test_importing_the_package_imports_none_of_its_modules() -> None:
    loaded = in_a_process(
        "import json, sys, shared_router\n"
        "print(json.dumps([name for name in sys.modules if name.startswith('shared_router.')"
        " or name in ('numpy', 'pydantic', 'onnxruntime')]))"
    )
    assert loaded == []


def test_the_public_names_are_these() -> None:
    assert shared_router.__all__ == [
        "AllCandidatesFailedError",
        "CallRecord",
        "CallTimeoutError",
        "Candidate",
        "Dial",
        "FineTuning",
        "HybridRoutingError",
        "RetrievalFacts",
        "Router",
        "RoutingDataset",
        "RoutingDecision",
        "RoutingEngine",
        "RoutingQuery",
        "RoutingReport",
        "Usage",
        "hybrid_options",
        "routing_query",
    ]
    assert set(shared_router.__all__) <= set(dir(shared_router))


@pytest.mark.parametrize("name", shared_router.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert inspect.getdoc(getattr(shared_router, name))


def test_the_version_is_that_of_the_distribution() -> None:
    assert shared_router.__version__ == version("hybrid-llm")


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Wizard'"):
        shared_router.Wizard  # noqa: B018


def public_members(module: ModuleType) -> list[tuple[str, object]]:
    """List public classes and functions that a module defines, and the classes' own methods."""
    found: list[tuple[str, object]] = []
    for name, member in vars(module).items():
        if name.startswith("_") or getattr(member, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(member):
            found.append((name, member))
        if inspect.isclass(member):
            found.append((name, member))
            found += [
                (f"{name}.{own}", method)
                for own, method in vars(member).items()
                if not own.startswith("_")
                and (inspect.isfunction(method) or isinstance(method, property | classmethod))
            ]
    return found


@pytest.mark.parametrize("name", ["shared_router", *MODULES])
def test_everything_public_is_documented(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    assert [shown for shown, member in public_members(module) if not inspect.getdoc(member)] == []


@pytest.mark.parametrize("name", MODULES)
def test_files_stay_readable(name: str) -> None:
    path = Path(importlib.import_module(name).__file__ or "")
    assert len(path.read_text().splitlines()) <= 500


def test_every_error_stands_in_the_tree_drawn_at_the_top() -> None:
    errors = importlib.import_module("shared_router.errors")
    drawn = errors.__doc__ or ""
    for name, error in public_members(errors):
        if "." in name:
            continue
        assert name in drawn
        assert issubclass(error, shared_router.HybridRoutingError)  # type: ignore[arg-type]


FRONTS = {
    "langchain_hybrid": ("llama_index", "llamaindex_hybrid", "torch", "scipy", "onnx"),
    "llamaindex_hybrid": ("langchain_core", "langchain", "langchain_hybrid", "torch", "onnx"),
}
FRONT_MODULES = sorted(
    found.name
    for front in FRONTS
    for found in pkgutil.walk_packages([str(ROOT.parent / front)], f"{front}.")
)


@pytest.mark.parametrize("front", FRONTS)
def test_a_front_imports_neither_the_other_nor_anything_heavy(front: str) -> None:
    modules = [name for name in FRONT_MODULES if name.startswith(front)]
    loaded = in_a_process(
        # LlamaIndex looks for LangChain by itself, so what counts is what ours name.
        "import importlib, json, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print(json.dumps([name for name in {FRONTS[front]!r} if name in sys.modules]))"
    )
    assert loaded == []


AT_WORK = {
    "langchain_hybrid": "from langchain_core.language_models import FakeListChatModel\n"
    "from langchain_hybrid import HybridChatModel as Hybrid\n"
    "small, large = (FakeListChatModel(responses=[text]) for text in 'ab')\n",
    "llamaindex_hybrid": "from llama_index.core.llms import MockLLM\n"
    "from llamaindex_hybrid import HybridLLM as Hybrid\n"
    "small, large = MockLLM(), MockLLM()\n",
}
ROOMS_THAT_DO_NOT_SERVE = ("training", "judging", "collecting", "bulk", "cli")
FILES_THAT_DO_NOT_SERVE = {
    *("router.fit", "router.calibrate", "router.evaluate", "router.transfer", "router.queries"),
    *("router.task_scores", "router.write", "router.folder", "router.card"),
    *("measuring.evaluation", "measuring.transfer"),
}


@pytest.mark.parametrize("front", FRONTS)
def test_a_front_at_work_loads_only_what_serves(front: str) -> None:
    loaded = in_a_process(
        f"{AT_WORK[front]}import json, sys\n"
        "assert Hybrid(small=small, large=large).route('why?').reason == 'score'\n"
        "print(json.dumps([name for name in sys.modules if name.startswith('shared_router.')]))"
    )
    ours = {name.removeprefix("shared_router.") for name in loaded}
    assert "router.files" in ours
    assert {name for name in ours if name.split(".")[0] in ROOMS_THAT_DO_NOT_SERVE} == set()
    assert ours & FILES_THAT_DO_NOT_SERVE == set()
    assert {name.removeprefix("shared_router.") for name in MODULES} >= FILES_THAT_DO_NOT_SERVE


@pytest.mark.parametrize("name", [*FRONTS, *FRONT_MODULES])
def test_everything_public_of_a_front_is_documented(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    assert [shown for shown, member in public_members(module) if not inspect.getdoc(member)] == []
    assert len(Path(module.__file__ or "").read_text().splitlines()) <= 500


@pytest.mark.parametrize("front", FRONTS)
def test_a_front_reads_the_specs_of_its_models(front: str) -> None:
    """As `pyproject.toml` registers it, whatever is installed."""
    pyproject = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())
    points = pyproject["project"]["entry-points"]["hybrid_llm.models"]
    (target,) = (target for target in points.values() if target.startswith(front))
    module, _, function = target.partition(":")
    assert callable(getattr(importlib.import_module(module), function))
    assert front in pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


@pytest.mark.parametrize("package", ["shared_router", *FRONTS])
def test_types_are_shipped(package: str) -> None:
    assert (ROOT.parent / package / "py.typed").is_file()
