"""OpenTelemetry: one LLM span with usage, the decision on the wrapper's span, no warnings."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared_router.observing.telemetry import note_on_span
from tests.llamaindex.fakes import Decisions, hybrid
from tests.llamaindex.operations import ALL, QUESTION, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llama_index.core import VectorStoreIndex

PREFIX = "hybrid.routing."
USAGE = "llm.token_count.total"


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    instrumentor = LlamaIndexInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    yield memory
    instrumentor.uninstrument()


def routed(spans: tuple[ReadableSpan, ...]) -> list[ReadableSpan]:
    return [span for span in spans if f"{PREFIX}candidate" in (span.attributes or {})]


@pytest.mark.parametrize("name", ALL)
async def test_one_span_has_usage_and_the_wrappers_has_the_decision(
    name: str, exporter: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        await run(hybrid(), name)
    spans = exporter.get_finished_spans()
    with_usage = [span for span in spans if USAGE in (span.attributes or {})]
    assert len(with_usage) == 1
    assert with_usage[0].name.startswith("FakeLLM.")
    (ours,) = routed(spans)
    assert ours.name == f"HybridLLM.{name}"
    assert ours.attributes is not None
    assert ours.attributes["openinference.span.kind"] == "LLM"
    assert "RoutingDecisionEvent" not in caplog.text
    assert "Open span is missing" not in caplog.text


@pytest.mark.parametrize("name", ["chat", "astream_chat"])
async def test_the_models_span_is_the_wrappers_child(
    name: str, exporter: InMemorySpanExporter
) -> None:
    await run(hybrid(), name)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    parent, child = spans[f"HybridLLM.{name}"], spans[f"FakeLLM.{name}"]
    assert child.parent is not None
    assert parent.context is not None
    assert child.parent.span_id == parent.context.span_id
    assert parent.parent is None


def test_the_attributes_are_the_decision(
    exporter: InMemorySpanExporter, decisions: Decisions
) -> None:
    hybrid(on_decision=[decisions.append]).complete(QUESTION, task="sums")
    (span,) = routed(exporter.get_finished_spans())
    found = {
        name.removeprefix(PREFIX): value
        for name, value in (span.attributes or {}).items()
        if name.startswith(PREFIX)
    }
    assert found == decisions[0].flat()


def test_inside_a_query_engine(
    exporter: InMemorySpanExporter, index: VectorStoreIndex, decisions: Decisions
) -> None:
    llm = hybrid(on_decision=[decisions.append])
    for streaming in (False, True):
        answer = index.as_query_engine(llm=llm, streaming=streaming).query(QUESTION)
        assert str(answer)
    spans = exporter.get_finished_spans()
    assert len(routed(spans)) == len(decisions) == 2
    assert len([span for span in spans if USAGE in (span.attributes or {})]) == 2


def test_a_span_that_nobody_records_is_left_alone(decisions: Decisions) -> None:
    hybrid(on_decision=[decisions.append]).complete(QUESTION)
    note_on_span(decisions[0])


def test_nobody_is_made_to_import_opentelemetry() -> None:
    script = (
        "import sys\n"
        "from shared_router.observing.telemetry import note_on_span\n"
        "from shared_router.testing import fixed_router\n"
        "note_on_span(fixed_router(1.0).decide('a query'))\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    done: Any = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
