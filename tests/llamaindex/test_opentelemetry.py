"""OpenTelemetry: one LLM span with usage, the decision on the wrapper's span, no warnings."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.agent.workflow import FunctionAgent, ReActAgent
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index_instrumentation import get_dispatcher
from openinference.instrumentation import TraceConfig
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared_router.observing.telemetry import note_on_span
from tests.llamaindex.fakes import Decisions, FakeLLM, hybrid
from tests.llamaindex.operations import ALL, QUESTION, TOOL, Answer, run, with_async

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from llama_index.core import VectorStoreIndex

PREFIX = "hybrid.routing."
USAGE = "llm.token_count.total"


def traced(**config: bool) -> Iterator[InMemorySpanExporter]:
    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    instrumentor = LlamaIndexInstrumentor()
    instrumentor.instrument(tracer_provider=provider, config=TraceConfig(**config))
    yield memory
    instrumentor.uninstrument()


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    yield from traced()


@pytest.fixture
def hiding() -> Iterator[InMemorySpanExporter]:
    yield from traced(hide_inputs=True)


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


SCHEMED = with_async(("chat", "complete", "stream_chat", "predict", "stream"))


async def run_structured(llm: Any, name: str) -> None:
    await run(llm.as_structured_llm(Answer), name)


async def run_agent(llm: Any, kind: Any) -> None:
    assert str(await kind(llm=llm, tools=[TOOL]).run(QUESTION))


WAYS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    **{name: partial(run, name=name) for name in ALL},
    "function agent": partial(run_agent, kind=FunctionAgent),
    "react agent": partial(run_agent, kind=ReActAgent),
    **{f"structured {name}": partial(run_structured, name=name) for name in SCHEMED},
}


def llm_spans(exporter: InMemorySpanExporter) -> Counter[str]:
    kind = "openinference.span.kind"
    spans = exporter.get_finished_spans()
    return Counter(
        span.name.replace("HybridStructuredLLM", "StructuredLLM")
        for span in spans
        if (span.attributes or {}).get(kind) == "LLM"
    )


def that_show(text: str, exporter: InMemorySpanExporter) -> Counter[tuple[str, str]]:
    return Counter(
        (span.name.replace("HybridStructuredLLM", "StructuredLLM"), attribute)
        for span in exporter.get_finished_spans()
        for attribute, value in (span.attributes or {}).items()
        if text in str(value)
    )


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_a_routed_call_has_one_span_more_than_the_model(
    way: Any, exporter: InMemorySpanExporter, decisions: Decisions
) -> None:
    await way(FakeLLM(name="small"))
    bare = llm_spans(exporter)
    exporter.clear()
    await way(hybrid(on_decision=[decisions.append]))
    more = llm_spans(exporter)
    more.subtract(bare)
    assert min(more.values()) >= 0
    assert [name.partition(".")[0] for name in more.elements()] == ["HybridLLM"] * len(decisions)
    assert not [name for name in more.elements() if "routed_call" in name]


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_what_inputs_hold_is_hidden_as_of_the_model(
    way: Any, hiding: InMemorySpanExporter
) -> None:
    await way(FakeLLM(name="small"))
    bare = that_show(QUESTION, hiding)
    hiding.clear()
    await way(hybrid(record_query=True))
    assert that_show(QUESTION, hiding) == bare


@pytest.mark.parametrize("name", ["chat", "acomplete", "stream_chat", "apredict"])
async def test_any_handler_of_spans_sees_the_operation_alone(name: str) -> None:
    handler = SimpleSpanHandler()
    get_dispatcher().add_span_handler(handler)
    await run(hybrid(), name)
    seen = [span.id_.partition("-")[0] for span in handler.completed_spans]
    assert [each for each in seen if each.startswith("HybridLLM")] == [f"HybridLLM.{name}"]


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
    answered = {"answered_by": "small", "answered_because": "chosen", "attempts": 1}
    assert found == decisions[0].flat() | answered


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
