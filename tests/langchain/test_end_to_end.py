"""Real outcomes, end to end: a chain over replayed models does what `evaluate` promised."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from langchain_core.output_parsers import BaseGenerationOutputParser
from langchain_core.prompts import ChatPromptTemplate

from langchain_hybrid import HybridChatModel, ReplayChatModel, with_routing_query
from shared_router.records import ROUTING_KEY
from tests.conftest import MEASURED

if TYPE_CHECKING:
    from pathlib import Path

    from shared_router import Router, RoutingDataset

pytestmark = pytest.mark.data

SHARES = (0.2, 0.5, 0.8)
COMMAND = "from shared_router.cli.commands import main; main()"


class Measured(BaseGenerationOutputParser[dict[str, Any]]):
    """Parses an answer into its text and what is known of it."""

    def parse_result(self, result: Any, *, partial: bool = False) -> dict[str, Any]:
        message = result[0].message
        return {"text": message.text, **message.response_metadata}


@pytest.fixture(scope="module")
def validation(measured_pair: RoutingDataset) -> RoutingDataset:
    return measured_pair


@pytest.fixture(scope="module")
def router(measured_router: Router) -> Router:
    return measured_router


@pytest.fixture(scope="module")
def promised(remembering_router: Router, validation: RoutingDataset) -> dict[float, dict[str, Any]]:
    """Return what `evaluate` says of three thresholds, by the share they were chosen for."""
    found, router = {}, remembering_router
    for share in SHARES:
        threshold = router.threshold_of(cost_advantage=share)
        found[share] = router.evaluate(validation, resamples=2, threshold=threshold).dial
    return found  # type: ignore[return-value]


@pytest.fixture(scope="module")
def chain(router: Router, validation: RoutingDataset) -> Any:
    small, large = (ReplayChatModel(data=validation, model=name) for name in router.candidates)
    # The report's figures are of the line without second looks.
    model = HybridChatModel(small=small, large=large, router=router, second_look=False)
    prompt = ChatPromptTemplate(
        [("system", "Solve the problem step by step."), ("human", "Problem: {question}\nAnswer:")]
    )
    return with_routing_query(prompt | model | Measured())


def check(answers: list[dict[str, Any]], promised: dict[str, Any], data: RoutingDataset) -> None:
    """Check that the answers add up to the evaluation's figures, to the last bit."""
    decisions = [answer[ROUTING_KEY] for answer in answers]
    away = np.array([decision["index"] == 0 for decision in decisions])
    assert away.mean() == promised["cost_advantage"]
    assert np.array([answer["quality"] for answer in answers]).mean() == promised["quality"]
    assert {decision["reason"] for decision in decisions} == {"score"}
    assert {decision["guarantee_reason"] for decision in decisions} == {"no quality dial"}
    for record, decision, answer in zip(data, decisions, answers, strict=True):
        assert answer["id"] == record.id
        recorded = record.outcomes[decision["candidate"]].response
        assert recorded is not None
        assert answer["text"] == recorded[0]


@pytest.mark.parametrize("share", SHARES)
async def test_a_chain_measures_what_evaluate_promises(
    share: float, chain: Any, promised: dict[float, Any], validation: RoutingDataset
) -> None:
    inputs = [{"question": query} for query in validation.queries]
    configurable = {"hybrid_threshold": promised[share]["threshold"]}
    config: Any = {"configurable": configurable, "max_concurrency": 4}
    check(chain.batch(inputs, config), promised[share], validation)
    check(await chain.abatch(inputs, config), promised[share], validation)
    assert promised[share]["cost_advantage"] == pytest.approx(share, abs=0.1)


def test_the_command_line_promises_the_same(
    router: Router,
    validation: RoutingDataset,
    promised: dict[float, Any],
    data_folder: Path,
    tmp_path: Path,
) -> None:
    router.save_pretrained(tmp_path / "router")
    expected = promised[0.5]
    threshold = expected["threshold"]
    asked = [tmp_path / "router", data_folder / MEASURED, f"--threshold={threshold!r}", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "evaluate", *map(str, asked)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["n"] == len(validation)
    for name in ("quality", "cost_advantage", "threshold"):
        assert found["dial"][name] == expected[name]


def test_without_a_stated_question_a_bare_query_is_routed_alike(
    router: Router, validation: RoutingDataset, promised: dict[float, Any]
) -> None:
    threshold = promised[0.5]["threshold"]
    small, large = (ReplayChatModel(data=validation, model=name) for name in router.candidates)
    model = HybridChatModel(
        small=small, large=large, router=router, threshold=threshold, second_look=False
    )
    bare = ChatPromptTemplate([("human", "{question}")]) | model | Measured()
    answers = bare.batch([{"question": query} for query in validation.queries])
    short = [a for a in answers if a[ROUTING_KEY]["query_source"] == "last_user_message"]
    assert len(short) > 0.9 * len(validation)
    check(answers, promised[0.5], validation)
