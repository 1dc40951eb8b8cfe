"""A real SDK of OpenTelemetry that keeps its spans, for tests to look at."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler
from opentelemetry.trace import SpanContext

from amqpjobs.telemetry.conventions import LINK
from tests.support.waiting import until


class Spans:
    """The spans that have ended."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("test")

    def processed_by(self, processor: SpanProcessor) -> None:
        """Put another processor beside."""
        self.provider.add_span_processor(processor)

    @property
    def all(self) -> tuple[ReadableSpan, ...]:
        """In the order in which they ended."""
        return self._exporter.get_finished_spans()

    @property
    def names(self) -> list[str]:
        """In the order in which they ended."""
        return [span.name for span in self.all]

    def named(self, name: str) -> list[ReadableSpan]:
        """Those of a name, the first that began first."""
        found = [span for span in self.all if span.name == name]
        return sorted(found, key=lambda span: span.start_time or 0)

    async def of(self, name: str, count: int = 1) -> list[ReadableSpan]:
        """Wait until there are so many of a name."""
        await until(lambda: len(self.named(name)) >= count, f"{count} of {name!r}: {self.names}")
        found = self.named(name)
        assert len(found) == count
        return found

    async def one(self, name: str) -> ReadableSpan:
        """Wait for the only one of a name."""
        [span] = await self.of(name)
        return span

    def text(self) -> str:
        """All that anybody could read in them."""
        return json.dumps([json.loads(s.to_json()) for s in self.all])


@contextmanager
def traced(sampler: Sampler = ALWAYS_ON) -> Iterator[Spans]:
    """Inside of the block this process has an SDK, set up as a program does it."""
    before = trace._TRACER_PROVIDER
    spans = Spans(sampler)
    # `set_tracer_provider` works once in a process.
    trace._TRACER_PROVIDER = spans.provider
    try:
        yield spans
    finally:
        trace._TRACER_PROVIDER = before
        spans.provider.shutdown()


def context_of(span: ReadableSpan) -> SpanContext:
    """What names it."""
    context = span.get_span_context()
    assert context is not None
    return context


def links_of(span: ReadableSpan) -> dict[str, SpanContext]:
    """Where it links to, by why."""
    return {str((link.attributes or {})[LINK]): link.context for link in span.links}


def same(one: SpanContext, other: SpanContext | None) -> bool:
    """Whether they name the same span; one from elsewhere says so of itself."""
    return other is not None and (one.trace_id, one.span_id) == (other.trace_id, other.span_id)


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    """What it says."""
    return dict(span.attributes or {})


def ours(span: ReadableSpan) -> dict[str, Any]:
    """What a span says, without where the broker is."""
    always = {"messaging.system", "messaging.client.id", "server.address", "server.port"}
    return {k: v for k, v in attributes_of(span).items() if k not in always}
