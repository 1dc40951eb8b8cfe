"""Spans: how one is started, and those of publishing, of asking, and of a job by itself.

Only OpenTelemetry's API is used; the SDK is the program's. Nothing that goes wrong in here costs a
message or a job. Changes when one of these does; those of a worker are
`amqpjobs.telemetry.traces.job_spans`.
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from types import TracebackType
from typing import TYPE_CHECKING, Self

from opentelemetry import propagate
from opentelemetry.context import Context as TraceContext
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NoOpTracer,
    Span,
    SpanKind,
    Tracer,
    TracerProvider,
    set_span_in_context,
)

from amqpjobs.errors import ConfigurationError, DecodeError, NotConfirmed
from amqpjobs.jobs.message.event_codec import WORKER
from amqpjobs.jobs.message.properties import FieldValue
from amqpjobs.jobs.message.trace_context import TRACE_PARENT, span_of
from amqpjobs.jobs.run_context import RunContext
from amqpjobs.telemetry import conventions as names
from amqpjobs.telemetry.traces.spans import around, end, fail, link_to

if TYPE_CHECKING:
    from amqpjobs.broker.amqp.frames import HeaderView
    from amqpjobs.broker_url import Node
    from amqpjobs.settings import Settings

log = logging.getLogger("amqpjobs.telemetry")

DESTINATIONS = 1000
"""Destinations whose attributes are kept. There are that many only where their names are made up
as it goes."""


def tracing_of(
    provider: TracerProvider, settings: "Settings", node: "Node | None" = None
) -> "Tracing | None":
    """Makes spans with a tracer of this provider; None if that is switched off
    (``OTEL_SDK_DISABLED``).

    Args:
        node: that is connected; see `server_of`.
    """
    tracer = provider.get_tracer(names.SCOPE, version("amqpjobs"), names.SCHEMA_URL)
    return None if isinstance(tracer, NoOpTracer) else Tracing(tracer, server_of(settings, node))


def server_of(settings: "Settings", node: "Node | None" = None) -> dict[str, str | int]:
    """The attributes that say which broker it is.

    Args:
        node: that is connected; None for the only one of the URL. Of several nodes that one is not
            known.
    """
    if node is None:
        try:
            nodes = settings.broker_url.nodes
        except ConfigurationError:
            return {}
        if len(nodes) > 1:
            return {}
        (node,) = nodes
    return {names.SERVER_ADDRESS: node.host, names.SERVER_PORT: node.port}


class Tracing:
    """Makes spans.

    Args:
        tracer: of the program's provider.
        server: the attributes that say which broker it is.
    """

    def __init__(self, tracer: Tracer, server: Mapping[str, str | int]) -> None:
        self._tracer = tracer
        self._kept: dict[tuple[str, str], dict[str, str | int]] = {}
        self.moved(server)

    def moved(self, server: Mapping[str, str | int]) -> None:
        """Another node of the cluster is connected from now on.

        Args:
            server: the attributes that say which one.
        """
        self._always = {names.SYSTEM: names.RABBITMQ, names.CLIENT_ID: WORKER, **server}
        self._kept.clear()

    def start(
        self,
        operation: str,
        type_: str | None,
        queue: str,
        kind: SpanKind,
        parent: TraceContext | None = None,
        links: Sequence[Link] = (),
        start_time: int | None = None,
    ) -> Span:
        """A span with what is always the same for an operation and a destination, which samplers
        may look at. What differs for each message is for the caller to say, and only if the span
        is recorded.

        Args:
            queue: of AMQP.
            parent: None for what is current.
            start_time: nanoseconds since the epoch; None for now.
        """
        attributes = self._kept.get((operation, queue))
        if attributes is None:
            attributes = self._attributes(operation, type_, queue)
        return self._start(f"{operation} {queue}", parent, kind, attributes, links, start_time)

    def _start(
        self,
        name: str,
        parent: TraceContext | None,
        kind: SpanKind,
        attributes: Mapping[str, str | int],
        links: Sequence[Link] = (),
        start_time: int | None = None,
    ) -> Span:
        try:
            return self._tracer.start_span(
                name,
                parent,
                kind,
                attributes,
                links,
                start_time,
                record_exception=False,  # it would say the message, which may hold anything
                set_status_on_exception=False,
            )
        except Exception:
            log.exception("tracer or sampler failed, no span")
            return INVALID_SPAN

    def _attributes(self, operation: str, type_: str | None, queue: str) -> dict[str, str | int]:
        if len(self._kept) >= DESTINATIONS:
            self._kept.clear()
        made: dict[str, str | int] = {
            **self._always, names.OPERATION_NAME: operation, names.DESTINATION: queue
        }  # fmt: skip
        if type_ is not None:
            made[names.OPERATION_TYPE] = type_
        self._kept[operation, queue] = made
        return made

    def sending(
        self,
        queue: str,
        message_id: str,
        job: str | None,
        *,
        delayed: bool = False,
        conversation: str | None = None,
        routing_key: str | None = None,
    ) -> "Sending":
        """The span of one message that is published, which starts now: whatever is current is its
        parent.

        Args:
            delayed: it does not go straight to its queue.
            conversation: the correlation id of a request.
            routing_key: of an event, whose exchange stands for the queue.
        """
        span = self.start(names.PUBLISH, names.SEND, queue, SpanKind.PRODUCER)
        if span.is_recording():
            said = {names.MESSAGE_ID: message_id}
            if job is not None:
                said[names.JOB] = job
            if routing_key is not None or not delayed:
                said[names.ROUTING_KEY] = queue if routing_key is None else routing_key
            if conversation is not None:
                said[names.CONVERSATION_ID] = conversation
            span.set_attributes(said)
        return Sending(span)

    @contextmanager
    def asking(self, queue: str, job: str | None = None) -> Iterator["Asking"]:
        """The span of a request, from the question to its answer: the span of publishing it, and
        whatever publishing middleware does, is inside.

        Args:
            job: its name; None for a service that is not ours.
        """
        asking = Asking(self.start(names.REQUEST, None, queue, SpanKind.CLIENT))
        if job is not None:
            asking.span.set_attribute(names.JOB, job)
        with around(asking.span):
            yield asking

    @contextmanager
    def running(self, context: RunContext) -> Iterator[None]:
        """The span of a job that is run by itself: no message, so none of messaging."""
        said = {names.JOB: context.job, names.QUEUE: context.queue}
        span = self._start(f"{names.RUN} {context.job}", None, SpanKind.INTERNAL, said)
        ids = span.get_span_context()
        context.span = ids if ids.is_valid else None
        with around(span):
            yield


class Sending:
    """One message that is being published: the block is until its fate is known.

    Attributes:
        headers: that carry the span to whoever consumes the message.
    """

    __slots__ = ("_span", "headers")

    def __init__(self, span: Span) -> None:
        self._span = span
        self.headers: dict[str, FieldValue] = {}
        propagate.inject(self.headers, set_span_in_context(span))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.ended(exc)

    def ended(self, error: BaseException | None = None) -> None:
        """It is confirmed, or has failed."""
        if error is not None:
            fail(self._span, error)
        end(self._span)

    def told(self, fate: "asyncio.Future[None]") -> None:
        """The same, by a future that is done: cancelled if the confirm did not come in time."""
        self.ended(NotConfirmed("", sent=True) if fate.cancelled() else fate.exception())


class Asking:
    """One request that waits."""

    __slots__ = ("span",)

    def __init__(self, span: Span) -> None:
        self.span = span

    def answered(self, header: "HeaderView") -> None:
        """Link to the span of whoever has answered, if the answer names it."""
        if not self.span.is_recording():
            return
        try:
            parent = header.headers.get(TRACE_PARENT)
        except DecodeError:
            return
        if link := link_to(span_of(parent), names.ANSWERED):
            self.span.add_link(link.context, link.attributes)
