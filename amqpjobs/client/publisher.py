"""Sends messages of an app: from a `Message` to a confirmed AMQP message.

Changes when sending does; `amqpjobs.client.job_properties` makes the properties.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from amqpjobs.broker.rabbitmq.background import BackgroundTask
from amqpjobs.broker.rabbitmq.confirms import MAX_UNCONFIRMED
from amqpjobs.broker.rabbitmq.connection import Link, Wire
from amqpjobs.broker.rabbitmq.declarer import Declarer
from amqpjobs.broker.rabbitmq.delayed_publication import Waiting
from amqpjobs.broker.rabbitmq.event_publication import Announcements
from amqpjobs.broker.rabbitmq.publication import Publication
from amqpjobs.broker_url import Node
from amqpjobs.client.exchanges import Exchanges
from amqpjobs.client.hearing import broadcasts_of
from amqpjobs.client.job_properties import JobProperties, body_of
from amqpjobs.client.question import Question
from amqpjobs.client.replies import Replies
from amqpjobs.client.restoring import Restoring
from amqpjobs.errors import (
    AmqpJobsError,
    BrokerUnavailable,
    TopologyMismatch,
    Unroutable,
)
from amqpjobs.jobs.message.compression import compression_of
from amqpjobs.jobs.message.event_codec import encode_events
from amqpjobs.jobs.message.events import QUEUED
from amqpjobs.jobs.message.events import clock as sequence
from amqpjobs.jobs.message.handle import JobHandle, handle_of
from amqpjobs.jobs.message.message import Message
from amqpjobs.jobs.message.properties import FieldValue, Properties
from amqpjobs.jobs.run_context import current_context
from amqpjobs.jobs.runtime import Runtime
from amqpjobs.telemetry.metrics.instruments import meters
from amqpjobs.telemetry.traces.propagation import Traced, outgoing_trace

if TYPE_CHECKING:
    from amqpjobs.telemetry.metrics.publisher_metrics import Many, PublisherMeter
    from amqpjobs.telemetry.traces.tracer import Sending

log = logging.getLogger("amqpjobs.publisher")

R = TypeVar("R")

_Sent: TypeAlias = "tuple[Message[Any], asyncio.Future[None], float, int, float | None]"
"""One of many: its fate, until when to wait for that, when it was sent, and when it is due."""


class Publisher:
    """One connection for publishing, and what is sent over it.

    Args:
        runtime: whose messages, and where RabbitMQ is. Its topology is declared when the
            connection is first up, if the settings say so.

    Attributes:
        on_close: called, the last first, before the connection is closed.
        traced: makes its spans, if anybody wants them.
        meter: counts its messages, if metrics were set up when it was opened.
        declared_at: when it has declared the topology, by the event loop's clock; 0 if it has not.
        restoring: declares a queue again that is missing.
        exchanges: declares those that events are published to.
        broadcasts: the handlers that every process runs; None without any.
    """

    def __init__(self, runtime: Runtime) -> None:
        settings, clock = runtime.settings, runtime.clock
        app_id = runtime.registry.name
        self._properties = JobProperties(
            app_id,
            settings.max_message_size,
            compression_of(settings.compress, settings.compress_above),
        ).of
        self._app = runtime.registry.app
        self._time = clock.time
        self._settings = settings
        self._topology = runtime.registry.topology
        self.link = Link(settings, "publish")
        self.traced = Traced(lambda: settings, self.link)
        self.meter: PublisherMeter | None = None
        self.publication = Publication(self.link, self._prepare)
        self.waiting = Waiting(
            self.link, self.publication, declare=settings.declare_topology, clock=clock
        )
        self.announcements = Announcements(
            self.link, app_id, encode_events, enabled=settings.events,
            declare=settings.declare_topology,
        )  # fmt: skip
        self.replies = Replies(self.link, self.publication, settings.no_worker_timeout)
        self.restoring = Restoring(
            self.publication, self._topology if settings.declare_topology else None, self.restore
        )
        self.exchanges = Exchanges(
            self.link, (each.name for each in self._topology.exchanges),
            runtime.registry.routes.exchanges, self.restore,
            declare=settings.declare_topology,
        )  # fmt: skip
        self.broadcasts = broadcasts_of(runtime, self.link, self.exchanges)
        self._prepared = not settings.declare_topology
        self.declared_at = 0.0
        self._tasks: list[BackgroundTask] = []
        self.on_close: list[Callable[[], Awaitable[None]]] = []

    async def open(self) -> None:
        """Connect. A broker that is away only delays: messages wait for it, up to their timeout.

        Raises:
            BrokerUnavailable: it refused us for good: login, virtual host, certificate; or no
                URL is set, and nothing listens at the default one.
            TopologyMismatch: a queue is there with other arguments.
        """
        try:
            await self._declare(await self.link.connect())
        except BrokerUnavailable as error:
            if not error.temporary or error.unconfigured:
                await self.link.close()
                raise
            log.warning("RabbitMQ unreachable, starting without it", extra={"error": str(error)})
        except BaseException:
            await self.link.close()
            raise
        self._tasks = [
            BackgroundTask(self.link.run, "amqpjobs publishing link"),
            BackgroundTask(self.publication.run, "amqpjobs publication"),
            BackgroundTask(self.announcements.run, "amqpjobs announcements"),
        ]
        if self.broadcasts is not None and self.broadcasts.claim():
            self._tasks.append(BackgroundTask(self.broadcasts.run, "amqpjobs broadcasts"))
            await self.broadcasts.begun(self.link)
        self._measure()

    def _measure(self) -> None:
        found = meters()
        if found is not None:
            from amqpjobs.telemetry.metrics.publisher_metrics import PublisherMeter
            from amqpjobs.telemetry.traces.tracer import server_of

            def server(node: Node | None) -> dict[str, str | int]:
                return server_of(self._settings, node)

            meter = self.meter = PublisherMeter(found, server(self.link.node))
            self.link.on_moved.append(lambda node: meter.moved(server(node)))
            meter.attach(self.link, self.publication)
            self._tasks.append(BackgroundTask(meter.lag.run, "amqpjobs event loop lag"))

    async def _declare(self, wire: Wire) -> None:
        if not self._prepared:
            async with Declarer(wire) as declarer:
                await declarer.apply(self._topology)
            self._prepared = True
            self.declared_at = asyncio.get_running_loop().time()

    async def _prepare(self, wire: Wire) -> None:
        """Declare when the broker was away at the start; by now nobody waits for the error."""
        try:
            await self._declare(wire)
        except TopologyMismatch as error:
            log.warning("topology does not match", extra={"error": str(error)})
            self._prepared = True

    async def restore(self) -> None:
        """Declare again: a queue was deleted.

        Raises:
            TopologyMismatch: it is there with other arguments, or not ours to make.
            BrokerUnavailable: the connection went away meanwhile.
        """
        if self._settings.declare_topology:
            async with Declarer(await self.link.up()) as declarer:
                await declarer.apply(self._topology)

    async def close(self) -> None:
        """Close the connection; calls that still wait get their errors."""
        for close in reversed(self.on_close):
            await close()
        await self.replies.close()
        await self.announcements.last_words()
        for task in reversed(self._tasks):
            await task.stop()
        self.publication.close()
        if self.broadcasts is not None:
            self.broadcasts.release()
        await self.exchanges.close()
        await self.link.close()
        if self.meter is not None:
            self.meter.detach()

    def drop(self) -> None:
        """Let go of the connection without its event loop, which is closed."""
        if (wire := self.link.wire) is not None:
            wire.protocol.drop()
        if self.meter is not None:
            self.meter.detach()

    async def enqueue(self, message: Message[R]) -> JobHandle[R]:
        """Publish one message, and return when it is confirmed.

        Raises:
            PublishError: one of its kinds; see there.
            TopologyMismatch: the delays are not there, and this user may not declare them.
        """
        if self.meter is None:
            return await self._enqueue_traced(message)
        with self.meter.publishing(message.queue, message.job):
            return await self._enqueue_traced(message)

    async def _enqueue_traced(self, message: Message[R]) -> JobHandle[R]:
        sending = self._sending(message)
        if sending is None:
            return await self._enqueue(message, self.trace())
        with sending:
            return await self._enqueue(message, sending.headers)

    async def _enqueue(self, message: Message[R], headers: dict[str, FieldValue]) -> JobHandle[R]:
        now, queued = self._time(), sequence()
        due = message.options.due(now)
        properties = self._properties(message, headers, now, due)
        body = body_of(message, properties)
        timeout = message.options.timeout or self._settings.publish_timeout
        if due is None:
            await self.restoring.publish(message.queue, properties, body, timeout)
        else:
            await self.waiting.publish(message.queue, properties, body, due, timeout)
        if message.tracked is not None and self.announcements.enabled:
            self._announce(message, queued, due)
        return handle_of(message, self._app)

    async def enqueue_many(
        self, messages: Iterable[Message[Any]]
    ) -> list[JobHandle[Any] | Exception]:
        """Publish many, keeping the way to the broker full; memory stays bounded by the window.

        Returns:
            For each, in order, its handle or its error.
        """
        results: list[JobHandle[Any] | Exception] = []
        window: deque[_Sent] = deque()
        loop_time = asyncio.get_running_loop().time
        many = self.meter.many() if self.meter is not None else None
        try:
            for message in messages:
                if len(window) >= 2 * MAX_UNCONFIRMED:
                    results.append(await self._fate(window[0], many))
                    window.popleft()
                timeout = message.options.timeout or self._settings.publish_timeout
                end, queued, now = loop_time() + timeout, sequence(), self._time()
                due = message.options.due(now)
                try:
                    fate = await self._send(message, now, due, timeout)
                except AmqpJobsError as error:
                    fate = asyncio.get_running_loop().create_future()
                    fate.set_exception(error)
                window.append((message, fate, end, queued, due))
            while window:
                results.append(await self._fate(window[0], many))
                window.popleft()
        finally:
            for sent in window:
                self.publication.take_back(sent[1])
            if many is not None:
                many.done()
        return results

    def trace(self) -> dict[str, FieldValue]:
        """The headers with the current trace."""
        return outgoing_trace(current_context.get())

    def trace_of_request(
        self, queue: str, message_id: str, correlation_id: str, job: str | None = None
    ) -> dict[str, FieldValue]:
        """The headers with the trace of a request. Its confirm is not awaited: its span is over
        when it is on its way.

        Args:
            job: its name; None for a service that is not ours.
        """
        tracing = self.traced.now()
        if tracing is None:
            return self.trace()
        with tracing.sending(queue, message_id, job, conversation=correlation_id) as sending:
            return sending.headers

    def _sending(self, message: Message[Any]) -> "Sending | None":
        """The span of publishing, if anybody wants one."""
        tracing = self.traced.now()
        if tracing is None:
            return None
        options = message.options
        delayed = options.delay is not None or options.at is not None
        return tracing.sending(message.queue, message.id, message.job, delayed=delayed)

    def question(self, message: Message[Any], timeout: float, left: float) -> Question:
        """A request for a job, ready to be asked: the reply queue is there.

        Args:
            message: the call.
            timeout: seconds, as the caller gave them.
            left: seconds of it that are left, for the deadline.

        Raises:
            MessageTooLarge: it was not sent.
        """
        now, correlation_id = self._time(), self.replies.new_correlation_id()
        headers = self.trace_of_request(message.queue, message.id, correlation_id, message.job)
        properties = self._properties(
            message, headers, now, None, correlation_id, now + left, self.replies.queue
        )
        if self.meter is not None:
            self.meter.sent(message.queue, message.job)
        return Question(message.job, timeout, message.queue, properties, of_job=True)

    async def _send(
        self, message: Message[Any], now: float, due: float | None, timeout: float
    ) -> "asyncio.Future[None]":
        sending = self._sending(message)
        try:
            headers = self.trace() if sending is None else sending.headers
            properties = self._properties(message, headers, now, due)
            exchange, routing_key = "", message.queue
            if due is not None:
                exchange, routing_key = await self.waiting.way_within(
                    message.queue, properties, due, timeout
                )
            fate = self.publication.send(
                exchange, routing_key, properties, body_of(message, properties)
            )
        except BaseException as error:
            if sending is not None:
                sending.ended(error)
            raise
        if sending is not None:
            fate.add_done_callback(sending.told)
        return fate

    async def _fate(self, sent: "_Sent", many: "Many | None") -> JobHandle[Any] | AmqpJobsError:
        result = await self._result(sent)
        if many is not None:
            many.sent(sent[0].queue, sent[0].job, result)
        return result

    async def _result(self, sent: "_Sent") -> JobHandle[Any] | AmqpJobsError:
        message, fate, deadline, queued, due = sent
        try:
            if not fate.done():
                async with asyncio.timeout_at(deadline):
                    await fate
            fate.result()
        except TimeoutError:
            timeout = message.options.timeout or self._settings.publish_timeout
            return self.publication.not_confirmed(fate, message.id, timeout)
        except Unroutable as error:
            properties = self._properties(message, self.trace(), self._time(), due)
            again = await self.restoring.again(
                error, message.queue, properties, body_of(message, properties), deadline
            )
            if again is not None:
                return again
        except AmqpJobsError as error:
            return error
        if message.tracked is not None and self.announcements.enabled:
            self._announce(message, queued, due)
        return handle_of(message, self._app)

    def callback(
        self, message: Message[Any], headers: dict[str, FieldValue]
    ) -> tuple[Properties, float | None]:
        """A message that a worker sends: its properties, and when it is due."""
        now, bare = self._time(), replace(message, body=b"")  # its size was checked by its caller
        due = message.options.due(now)
        return self._properties(bare, headers, now, due), due

    def sent(self, message: Message[Any], due: float | None) -> None:
        """A message that a worker has sent is confirmed."""
        if message.tracked is not None and self.announcements.enabled:
            self._announce(message, sequence(), due)

    def published(self, event: object) -> None:
        """An event is confirmed: a `Prepared`."""

    def _announce(self, message: Message[Any], queued: int, due: float | None) -> None:
        # At attempt 0: whatever a worker says of it is newer, by whatever clock.
        details: dict[str, Any] | None = None if due is None else {"due": due}
        if message.options.tags:
            details = {**(details or {}), "tags": message.options.tags}
        queue = message.tracked or message.queue
        self.announcements.add((message.id, message.job, queue, QUEUED, 0, 0, queued, 0, details))
