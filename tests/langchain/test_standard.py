"""LangChain's standard suites over the wrapper and over the bare child: the same outcomes."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from langchain_hybrid import HybridChatModel
from shared_router.testing import fixed_router
from tests.langchain.fakes import FakeChat

if TYPE_CHECKING:
    from pathlib import Path

SUITES = ("Unit", "Integration")


class Child:
    """What the fake provider can do."""

    @property
    def chat_model_class(self) -> Any:
        return FakeChat

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "small"}

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return "another"


class Wrapper(Child):
    """The same, of two of them behind one."""

    @property
    def chat_model_class(self) -> Any:
        return HybridChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "small": FakeChat(model="small"),
            "large": FakeChat(model="large"),
            "router": fixed_router(lambda text: 1.0 - 2.0 * (len(text) % 2)),
        }


class TestChildUnit(Child, ChatModelUnitTests):
    pass


class TestChildIntegration(Child, ChatModelIntegrationTests):
    pass


# The suites give `temperature`, `stop` and others to whatever they construct.
IGNORED = "ignore::shared_router.engine.fronts.IgnoredParameterWarning"


@pytest.mark.filterwarnings(IGNORED)
class TestWrapperUnit(Wrapper, ChatModelUnitTests):
    pass


@pytest.mark.filterwarnings(IGNORED)
class TestWrapperIntegration(Wrapper, ChatModelIntegrationTests):
    pass


@pytest.fixture(scope="module")
def outcomes(repository: Path) -> dict[str, dict[str, str]]:
    """Run all four classes in a process of their own; map each to its tests' outcomes."""
    classes = [f"{__file__}::Test{of}{suite}" for of in ("Child", "Wrapper") for suite in SUITES]
    options = ["-v", "-m", "", "--benchmark-disable", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *classes, *options]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    found = re.findall(r"::Test(\w+)::(\S+) ([A-Z]+)", done.stdout)
    return {
        name: {test: outcome for of, test, outcome in found if of == name}
        for name in {of for of, _, _ in found}
    }


@pytest.mark.parametrize("suite", SUITES)
def test_the_wrapper_skips_only_what_the_bare_child_skips(
    suite: str, outcomes: dict[str, dict[str, str]]
) -> None:
    wrapper, child = outcomes[f"Wrapper{suite}"], outcomes[f"Child{suite}"]
    assert wrapper == child
    counted = Counter(wrapper.values())
    assert set(counted) == {"PASSED", "SKIPPED"}
    assert counted["PASSED"] >= {"Unit": 8, "Integration": 38}[suite]
