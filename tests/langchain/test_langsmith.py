"""What the real langsmith client posts of a routed call, by both of its endpoints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from shared_router.records import ROUTING_KEY

if TYPE_CHECKING:
    from pathlib import Path

PATHS = {"multipart": "/runs/multipart", "batch": "/runs/batch"}
ANSWERED = {
    "invoke": ["small"],
    "ainvoke": ["small"],
    "stream": ["small"],
    "astream": ["small"],
    "batch": ["small", "large"],
    "bound_tool": ["large"],
}
every_scenario = pytest.mark.parametrize("scenario", list(ANSWERED))


@pytest.fixture(scope="module", params=list(PATHS))
def posted(request: Any, repository: Path) -> dict[str, Any]:
    """Run all scenarios in a process of their own: langsmith reads its environment once."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("LANGSMITH_", "LANGCHAIN_"))}
    command = [sys.executable, "-m", "tests.langchain.langsmith_scenarios", request.param]
    done = subprocess.run(
        command, cwd=repository, env=keep, capture_output=True, text=True, timeout=90, check=True
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["paths"] == [PATHS[request.param]]
    received: dict[str, Any] = answer["received"]
    return received


def metadata(run: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = run["extra"]["metadata"]
    return found


def shape(run: dict[str, Any]) -> Any:
    return (f"{run['name']}:{run['run_type']}", [shape(child) for child in run["children"]])


TREE = ("HybridChatModel:chain", [("HybridRouter:chain", []), ("FakeChat:llm", [])])


def routed(roots: list[dict[str, Any]]) -> list[tuple[Any, Any, Any]]:
    """Return chain run, router run and model run of each call, by the query's text."""
    assert [shape(root) for root in roots] == [TREE] * len(roots)
    found = [(root, *root["children"]) for root in roots]
    return sorted(found, key=lambda runs: runs[1]["inputs"]["query"])


@every_scenario
def test_the_run_tree(posted: dict[str, Any], scenario: str) -> None:
    runs = routed(posted[scenario])
    assert [model["extra"]["metadata"]["ls_model_name"] for _, _, model in runs] == ANSWERED[
        scenario
    ]
    for chain, router, model in runs:
        assert {run["trace_id"] for run in (chain, router, model)} == {chain["id"]}
        assert all(run["end_time"] and not run.get("error") for run in (chain, router, model))


@every_scenario
def test_the_decision_is_in_outputs_tags_and_metadata(
    posted: dict[str, Any], scenario: str
) -> None:
    for (chain, router, model), name in zip(
        routed(posted[scenario]), ANSWERED[scenario], strict=True
    ):
        decision = router["outputs"]
        assert (decision["candidate"], decision["reason"]) == (name, "score")
        assert router["inputs"]["source"] == "last_user_message"
        answered = {"answered_by": name, "answered_because": "chosen"}
        for run, told in ((chain, decision | answered), (model, decision)):
            assert run["tags"].count(f"{ROUTING_KEY}:{name}") == 1
            assert metadata(run)[ROUTING_KEY] == told


@every_scenario
def test_tokens_are_counted_once(posted: dict[str, Any], scenario: str) -> None:
    for chain, router, model in routed(posted[scenario]):
        assert metadata(model)["usage_metadata"]["total_tokens"] == 15
        for run in (chain, router):
            assert "usage_metadata" not in metadata(run)
            assert "usage_metadata" not in run["outputs"]
            assert "llm_output" not in run["outputs"]


def test_own_tags_and_metadata_are_posted(posted: dict[str, Any]) -> None:
    ((chain, _, model),) = routed(posted["invoke"])
    for run in (chain, model):
        assert "mine" in run["tags"]
        assert metadata(run)["user"] == "ann"


def test_the_answer_is_the_chains_output(posted: dict[str, Any]) -> None:
    for scenario in ("invoke", "ainvoke", "stream", "astream"):
        ((chain, _, _),) = routed(posted[scenario])
        assert "Hello to you, friend." in json.dumps(chain["outputs"]), scenario


def test_a_bound_tool_is_posted_as_the_chosen_model_formats_it(posted: dict[str, Any]) -> None:
    ((_, _, model),) = routed(posted["bound_tool"])
    (given,) = model["extra"]["invocation_params"]["tools"]
    assert (given["function"]["name"], given["signed"]) == ("weather", "large")


def test_what_the_client_hides_stands_nowhere(posted: dict[str, Any]) -> None:
    assert [root["name"] for root in posted["hidden"]] == ["HybridChatModel"] * 3
    assert "secret" not in json.dumps(posted["hidden"])
    assert metadata(posted["hidden"][0])[ROUTING_KEY]["candidate"] == "small"


def test_an_error_is_posted_on_the_models_run_and_the_chains(posted: dict[str, Any]) -> None:
    ((chain, router, model),) = routed(posted["error"])
    assert router["outputs"]["candidate"] == "small"
    assert not router.get("error")
    for run in (chain, model):
        assert "ConnectionError" in run["error"]
        assert "the provider is down" in run["error"]
    assert metadata(chain)[ROUTING_KEY] == router["outputs"]
