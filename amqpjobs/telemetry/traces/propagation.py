"""The trace context of published messages, and whether tracing is on.

A job's own messages go on with the trace of the job. Imports no OpenTelemetry by itself: that costs
a program that does not trace 70 ms, and one that does has it. Changes when propagation does.
"""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from amqpjobs.jobs.message.properties import FieldValue
from amqpjobs.jobs.message.trace_context import BAGGAGE, TRACE_PARENT, traceparent_of
from amqpjobs.jobs.run_context import RunContext

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from amqpjobs.broker.rabbitmq.connection import Link
    from amqpjobs.broker_url import Node
    from amqpjobs.settings import Settings
    from amqpjobs.telemetry.traces.tracer import Tracing

log = logging.getLogger("amqpjobs.telemetry")

API = "opentelemetry.trace"


def tracer_provider() -> "TracerProvider | None":
    """The tracer provider of this process; None if nobody has set one up, and spans would go
    nowhere."""
    api = sys.modules.get(API)
    # Without it while another thread is about to import it.
    get_tracer_provider = getattr(api, "get_tracer_provider", None)
    if api is None or get_tracer_provider is None:
        return None
    provider: TracerProvider = get_tracer_provider()
    if isinstance(provider, api.ProxyTracerProvider | api.NoOpTracerProvider):
        return None
    return provider


class Traced:
    """Who makes the spans of what talks to one broker, if anybody does: looked up each time, since
    programs set their SDK up when they like.

    Args:
        settings: where the broker is; read when somebody does.
        link: which of its nodes is connected; None for what has no connection of its own.
    """

    def __init__(self, settings: "Callable[[], Settings]", link: "Link | None" = None) -> None:
        self._settings = settings
        self._link = link
        if link is not None:
            link.on_moved.append(self._moved)
        self._provider: TracerProvider | None = None
        self._tracing: Tracing | None = None

    def now(self) -> "Tracing | None":
        """Makes spans; None where they would go nowhere."""
        provider = tracer_provider()
        if provider is None:
            return None
        if provider is not self._provider:
            from amqpjobs.telemetry.traces.tracer import tracing_of

            self._provider, self._tracing = provider, None
            try:
                node = self._link.node if self._link is not None else None
                self._tracing = tracing_of(provider, self._settings(), node)
            except Exception:
                log.exception("tracer provider failed, no spans")
        return self._tracing

    def _moved(self, node: "Node") -> None:
        if self._tracing is not None:
            from amqpjobs.telemetry.traces.tracer import server_of

            self._tracing.moved(server_of(self._settings(), node))


def outgoing_trace(context: RunContext | None) -> dict[str, FieldValue]:
    """The headers that carry the trace of whoever publishes now; none where there is no trace."""
    carrier: dict[str, Any] = {}
    if API in sys.modules:
        from opentelemetry import propagate

        propagate.inject(carrier)
        if carrier and carrier.keys() != {BAGGAGE}:
            return carrier
    return carrier if context is None else {**context.passed_on(), **carrier}


def reply_trace(context: RunContext | None) -> dict[str, FieldValue]:
    """The headers of an answer: it names the span of the run that gives it."""
    span = context.span if context is not None else None
    return {TRACE_PARENT: traceparent_of(span)} if span is not None else {}


@contextmanager
def continuing(carrier: Mapping[str, Any] | None) -> Iterator[None]:
    """In the process of a job: the spans that its handler makes belong to the worker's, where that
    process has an SDK of its own; what it sends is seen to by `RunContext.passed_on`."""
    if not carrier or API not in sys.modules:
        yield
        return
    from opentelemetry import context, propagate

    token = context.attach(propagate.extract(carrier))
    try:
        yield
    finally:
        context.detach(token)


def span_keys() -> dict[str, str]:
    """What a log line says of the span around it (the names are OpenTelemetry's own, of "Trace
    Context in non-OTLP Log Formats"). Empty where there is none."""
    if API not in sys.modules:
        return {}
    from opentelemetry.trace import get_current_span

    span = get_current_span().get_span_context()
    if not span.is_valid:
        return {}
    return {
        "trace_id": f"{span.trace_id:032x}",
        "span_id": f"{span.span_id:016x}",
        "trace_flags": f"{span.trace_flags:02x}",
    }
