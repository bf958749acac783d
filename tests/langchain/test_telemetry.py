"""A decision on the caller's own OpenTelemetry span."""

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.langchain.fakes import hybrid


@pytest.fixture
def spans():
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    yield tracer, exporter
    provider.shutdown()


def attributes(exporter):
    (span,) = exporter.get_finished_spans()
    return span.attributes


def test_the_decision_stands_on_the_current_span(spans):
    tracer, exporter = spans
    with tracer.start_as_current_span("request"):
        reply = hybrid(record_query=True).invoke("Hello?")
    found = attributes(exporter)
    decision = reply.response_metadata["hybrid_routing"]
    assert found["hybrid.routing.candidate"] == decision["candidate"]
    assert found["hybrid.routing.reason"] == "score"
    assert "hybrid.routing.query" not in found


async def test_asynchronously_and_streaming_too(spans):
    tracer, exporter = spans
    with tracer.start_as_current_span("request"):
        async for _ in hybrid().astream("Hello?"):
            pass
    assert attributes(exporter)["hybrid.routing.reason"] == "score"
