"""The spans of a worker: each run of a job, and each settlement. Changes when these do."""

import time
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Protocol

from opentelemetry import context as current
from opentelemetry import propagate
from opentelemetry.context import Context as TraceContext
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    Span,
    SpanKind,
    Status,
    StatusCode,
    get_current_span,
    set_span_in_context,
)

from amqpjobs.errors import DecodeError
from amqpjobs.jobs.durable.suspension import is_suspension
from amqpjobs.jobs.message.headers import first_try_of
from amqpjobs.jobs.message.properties import NO_HEADERS, Headers
from amqpjobs.jobs.message.trace_context import LARGEST, TRACE_PARENT, span_of
from amqpjobs.jobs.outcome import Outcome, Released
from amqpjobs.jobs.refusal import Refused
from amqpjobs.jobs.verdicts import Snooze, Verdict
from amqpjobs.telemetry import conventions as names
from amqpjobs.telemetry.traces.spans import end, fail, link_to
from amqpjobs.telemetry.traces.tracer import Tracing

if TYPE_CHECKING:
    from amqpjobs.broker.rabbitmq.delivery import Delivery
    from amqpjobs.jobs.run_context import RunContext

NOWHERE = TraceContext()
"""No trace. What is current where deliveries arrive belongs to whoever has started the worker."""

W3C = frozenset({TRACE_PARENT, *LARGEST})

LONGEST = max(LARGEST.values())
"""Characters of a header that is looked at."""

LOST = "connection_lost"
"""The ``error.type`` of a settlement that RabbitMQ never hears of: it delivers the job again."""


class _Getter(Getter[Headers]):
    """Reads trace headers, which strangers write: what is no short text is not there."""

    def get(self, carrier: Headers, key: str) -> list[str] | None:
        value = carrier.get(key)
        return [value] if isinstance(value, str) and len(value) <= LONGEST else None

    def keys(self, carrier: Headers) -> list[str]:
        return list(carrier)


GETTER = _Getter()


class TracedRun:
    """What is known of a run's span when it is settled.

    Attributes:
        recorded: whether anybody sees it.
        ended: when the handler did, in nanoseconds since the epoch; 0 if it has not.
    """

    __slots__ = ("ended", "recorded", "span")

    def __init__(self, span: Span) -> None:
        self.span = span
        self.recorded = span.is_recording()
        self.ended = 0


class Run(Protocol):
    """What is asked of a worker's run of a job: see `amqpjobs.worker.run.Run`."""

    traced: TracedRun | None

    @property
    def delivery(self) -> "Delivery":
        """What runs."""
        ...

    @property
    def context(self) -> "RunContext | None":
        """The handler's; None for a message that got none."""
        ...

    @property
    def started(self) -> float:
        """When it was taken up, by the monotonic clock."""
        ...

    @property
    def interrupted(self) -> bool:
        """Whether its worker was told to stop, and cancels it."""
        ...

    @property
    def cancelled(self) -> bool:
        """Whether its caller gave up, and it is cancelled."""
        ...


class TracedRuns:
    """Makes the spans of a worker's runs.

    Args:
        tracing: makes spans.
        continued: whether a run's span is a child of the one that published its message, in place
            of a trace of its own that links there.
    """

    def __init__(self, tracing: Tracing, *, continued: bool) -> None:
        self._tracing = tracing
        self._continued = continued
        # The propagators are the program's choice; W3C's are read here at a third of the cost.
        fields = propagate.get_global_textmap().fields
        self._w3c = TRACE_PARENT in fields and fields <= W3C

    async def process(self, run: Run, calling: Awaitable[object]) -> object:
        """Wait for a run's middleware and handler, with its span around them. The handler, what it
        publishes, and the threads and processes that it is run in see that as the current one."""
        parent, links = self._origin(run.delivery)
        span = self._tracing.start(
            names.PROCESS, names.PROCESS, run.delivery.queue, SpanKind.CONSUMER, parent, links
        )
        run.traced = traced = TracedRun(span)
        if traced.recorded:
            self._describe(run, span)
        ids = span.get_span_context()
        if run.context is not None and ids.is_valid:
            run.context.span = ids
        token = current.attach(set_span_in_context(span, parent))
        try:
            result = await calling
            if isinstance(result, Verdict):
                _ruled(span, result)
            return result
        except Verdict as verdict:
            _ruled(span, verdict)
            raise
        except Refused:
            raise  # it was not started, which is no failure of it
        except BaseException as error:
            if not (run.interrupted or run.cancelled or is_suspension(error)):
                fail(span, error)
            raise
        finally:
            current.detach(token)
            traced.ended = time.time_ns()
            end(span, traced.ended)

    def _origin(self, delivery: "Delivery") -> tuple[TraceContext, list[Link]]:
        """The parent of a run, with the baggage that came with its message, and its links."""
        headers = _headers(delivery)
        if not headers:
            return NOWHERE, []
        parent, links = NOWHERE, []
        plain = self._w3c and not self._continued and headers.keys().isdisjoint(LARGEST)
        if plain and (created := link_to(span_of(headers.get(TRACE_PARENT)), names.CREATED)):
            links.append(created)
        else:
            parent, links = self._extracted(headers)
        if first := link_to(first_try_of(headers), names.FIRST_TRY):
            links.append(first)
        return parent, links

    def _extracted(self, headers: Headers) -> tuple[TraceContext, list[Link]]:
        parent = propagate.extract(headers, NOWHERE, GETTER)
        created = get_current_span(parent).get_span_context()
        if self._continued or not created.is_valid:
            return parent, []
        parent = set_span_in_context(INVALID_SPAN, parent)
        return parent, [Link(created, {names.LINK: names.CREATED})]

    def _describe(self, run: Run, span: Span) -> None:
        said, context = _message(run.delivery), run.context
        if context is not None:
            # The id that was given to a message that came without one, too.
            said[names.MESSAGE_ID] = context.job_id
            said[names.JOB] = context.job
            said[names.QUEUE] = context.queue
            said[names.ATTEMPT] = context.attempt
        span.set_attributes(said)

    def settled(self, run: Run, outcome: Outcome) -> None:
        """The span of a settlement; an observer of `amqpjobs.worker.reporting`.

        It begins when the handler has ended, and includes what comes before the ack: the answer, or
        the copy for the next run and its confirm. One for each delivery, although acks leave
        together: RabbitMQ does not answer them, so the writing of a frame has no time of its own.
        What was given back is called a nack, also where a copy was given back in its place.
        """
        delivery, traced = run.delivery, run.traced
        if traced is None:
            # It never came to its handler: too late, unreadable, unknown, or not started.
            parent, links = self._origin(delivery)
            begun = time.time_ns() - round((time.monotonic() - run.started) * 1e9)
        elif traced.recorded:
            parent, links = set_span_in_context(traced.span, NOWHERE), []
            begun = traced.ended or time.time_ns()
        else:
            return
        name = names.NACK if isinstance(outcome, Released) else names.ACK
        span = self._tracing.start(
            name, names.SETTLE, delivery.queue, SpanKind.CLIENT, parent, links, begun
        )
        if span.is_recording():
            said = _message(delivery)
            said[names.OUTCOME] = outcome.word
            if delivery.stale:
                said[names.ERROR_TYPE] = LOST
                span.set_status(Status(StatusCode.ERROR, LOST))
            span.set_attributes(said)
        end(span)


def _headers(delivery: "Delivery") -> Headers:
    try:
        return delivery.header.headers
    except DecodeError:
        return NO_HEADERS


def _message(delivery: "Delivery") -> dict[str, str | int]:
    said: dict[str, str | int] = {names.DELIVERY_TAG: delivery.tag}
    try:
        header = delivery.header
    except DecodeError:
        return said
    if header.message_id:
        said[names.MESSAGE_ID] = header.message_id
    if header.correlation_id:
        said[names.CONVERSATION_ID] = header.correlation_id
    return said


def _ruled(span: Span, verdict: Verdict) -> None:
    """A handler's own word. To be put off is no failure; why it rejects is its users' to read."""
    if not isinstance(verdict, Snooze):
        kind = type(verdict).__name__
        span.set_attribute(names.ERROR_TYPE, kind)
        span.set_status(Status(StatusCode.ERROR, kind))
