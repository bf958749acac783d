"""Caches hit as with a plain model: what a message carries does not change from run to run."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.load import dumps
from langchain_core.messages import AIMessageChunk

from shared_router import RoutingDecision
from shared_router.records import ROUTING_KEY
from tests.langchain import caching_scenarios as scenarios
from tests.langchain.fakes import FakeChat, hybrid

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def cached() -> Iterator[None]:
    set_llm_cache(InMemoryCache())
    yield
    set_llm_cache(None)


@pytest.mark.parametrize("way", [scenarios.invoke, scenarios.ainvoke, scenarios.stream])
@pytest.mark.parametrize("task", [scenarios.chat, scenarios.agent])
def test_five_runs_ask_the_providers_as_often_as_a_plain_model(
    task: Any, way: Any, cached: None
) -> None:
    plain = scenarios.plain_calls(task, way)
    set_llm_cache(InMemoryCache())
    assert scenarios.hybrid_calls(task, way) == plain
    if way is not scenarios.stream or task is scenarios.agent:  # a bare stream asks no cache
        assert plain[2:] == [plain[2]] * 3


def test_another_process_hits_what_one_has_cached(tmp_path: Path) -> None:
    path = str(tmp_path / "cache.sqlite")
    first = scenarios.main(path)
    command = [sys.executable, "-m", "tests.langchain.caching_scenarios", path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    second = json.loads(done.stdout)
    assert first["hybrid"] == first["plain"]
    assert second["hybrid"] == second["plain"] == {"chat": [0] * 5, "agent": [0] * 5}


def test_a_candidates_own_cache_hits_too() -> None:
    small = FakeChat(model="small", cache=InMemoryCache())
    model = hybrid(small, score=scenarios.score)
    for _ in range(5):
        scenarios.chat(model, scenarios.invoke)
    assert len(small.requests) == 3  # two turns; LangChain marks a hit, which the next turn sees


def test_a_message_carries_what_two_processes_decide_alike() -> None:
    told: list[RoutingDecision] = []
    one, other = (hybrid(on_decision=[told.append]) for _ in range(2))
    messages = [model.invoke("Hi").response_metadata[ROUTING_KEY] for model in (one, other)]
    answered = {"answered_by": "small", "answered_because": "chosen"}
    assert messages[0] == messages[1] == told[0].stable() | answered
    assert told[0].query_hash != told[1].query_hash
    assert set(RoutingDecision.model_fields) - set(messages[0]) == {
        "latency_ms",
        "query_hash",
        "switch_cost_usd",
    }
    assert RoutingDecision.model_validate(messages[0]).reason == "score"


async def test_a_streamed_message_carries_it_once_and_alike() -> None:
    model = hybrid()
    merged = [
        sum([c async for c in model.astream("Hi")], AIMessageChunk("")),
        sum(model.stream("Hi"), AIMessageChunk("")),
        model.stream_events("Hi", version="v3").output,
        await (await model.astream_events("Hi", version="v3")),
    ]
    assert {dumps(each.response_metadata[ROUTING_KEY]) for each in merged} == {
        dumps(model.invoke("Hi").response_metadata[ROUTING_KEY])
    }
