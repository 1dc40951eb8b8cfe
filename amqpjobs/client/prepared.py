"""Messages that are stored before they are published: made now, sent after a commit.

Changes when what is stored of a message does.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from amqpjobs.client.job_properties import JobProperties, body_of
from amqpjobs.errors import AmqpJobsError, ConfigurationError, NotConfirmed, Unroutable
from amqpjobs.jobs.message.compression import compression_of, readable
from amqpjobs.jobs.message.handle import JobHandle, handle_of
from amqpjobs.jobs.message.headers import tags_of
from amqpjobs.jobs.message.message import Message, Options
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.jobs.middleware import Publishing, onion
from amqpjobs.jobs.run_context import current_context
from amqpjobs.telemetry.traces.propagation import outgoing_trace

if TYPE_CHECKING:
    from amqpjobs.broker.rabbitmq.publication import Publication
    from amqpjobs.client.propagation import Propagate
    from amqpjobs.client.publisher import Publisher
    from amqpjobs.jobs.runtime import Runtime

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A message as it is going to be published.

    Attributes:
        job_id: the job's id.
        job: its name; the exchange and the routing key of an event.
        routing_key: the AMQP queue, on the default exchange.
        properties: as they are sent.
        body: as it is sent.
        due: when it is to be started (seconds since the epoch), if that is later.
        tracked: the queue as its status shows it; None for a job without a status.
        exchange: empty for the default exchange.
    """

    job_id: str
    job: str
    routing_key: str
    properties: Properties
    body: bytes
    due: float | None = None
    tracked: str | None = None
    exchange: str = ""


class Preparing:
    """Makes them of calls, through the app's publishing middleware.

    Args:
        runtime: whose messages.
        publishing: middleware, outermost first.
        propagate: adds headers of the job that runs here; None for none.
    """

    def __init__(
        self,
        runtime: "Runtime",
        publishing: Sequence[Publishing],
        propagate: "Propagate | None",
    ) -> None:
        settings = runtime.settings
        compression = compression_of(settings.compress, settings.compress_above)
        self._app = runtime.registry.app
        self._properties = JobProperties(
            runtime.registry.name, settings.max_message_size, compression
        ).of
        self._time = runtime.clock.time
        self._publishing = tuple(publishing)
        self._propagate = propagate

    async def prepare(self, message: Message[T]) -> "tuple[JobHandle[T], Prepared | None]":
        """A call as it is going to be published, and its handle.

        Returns:
            The handle, and the message; None for one that middleware keeps back.

        Raises:
            MessageTooLarge, ConfigurationError: it cannot be sent.
            Exception: what middleware raises.
        """
        kept: list[Prepared] = []

        async def keep(given: Message[Any]) -> JobHandle[Any]:
            kept.append(self._prepared(given))
            return handle_of(given, self._app)

        if self._propagate is not None:
            message = self._propagate(message)
        handle = await onion(self._publishing, keep)(message)
        return handle, kept[-1] if kept else None

    def prepare_now(self, message: Message[T]) -> "tuple[JobHandle[T], Prepared | None]":
        """The same in synchronous code.

        Raises:
            ConfigurationError: publishing middleware waits for something, which nothing here can.
        """
        return without_waiting(self.prepare(message))

    def _prepared(self, message: Message[Any]) -> Prepared:
        now = self._time()
        due = message.options.due(now)
        headers = outgoing_trace(current_context.get())
        properties = self._properties(message, headers, now, due)
        body = body_of(message, properties)
        return Prepared(
            message.id, message.job, message.queue, properties, body, due, message.tracked
        )


def without_waiting(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits, where no event loop runs.

    Raises:
        ConfigurationError: it waits.
    """
    try:
        coroutine.send(None)
    except StopIteration as ended:
        result: T = ended.value
        return result
    coroutine.close()
    raise ConfigurationError(
        "a publishing middleware of the app awaits something, which needs an event loop: store the "
        "job with an AsyncSession, or leave the await out"
    )


async def publish_prepared(
    publisher: "Publisher", messages: Sequence[Prepared], timeout: float
) -> list[AmqpJobsError | None]:
    """Publish messages in their order, all on their way at once.

    Args:
        timeout: seconds for all of them.

    Returns:
        For each of them None when RabbitMQ has confirmed it, else why not.
    """
    clock = asyncio.get_running_loop().time
    end = clock() + timeout
    fates = [await _sent(publisher, message, max(0.0, end - clock())) for message in messages]
    waiting = [fate for fate in fates if isinstance(fate, asyncio.Future) and not fate.done()]
    if waiting:
        await asyncio.wait(waiting, timeout=max(0.0, end - clock()))
    results = []
    for message, fate in zip(messages, fates, strict=True):
        result = fate if isinstance(fate, AmqpJobsError) else _fate(publisher, message, fate)
        if isinstance(result, Unroutable) and not message.exchange:
            result = await publisher.restoring.again(
                result, message.routing_key, message.properties, message.body, end
            )
        if result is None and message.exchange:
            publisher.published(message)
        elif result is None:
            publisher.sent(_told(message), message.due)
        results.append(result)
    return results


async def _sent(
    publisher: "Publisher", message: Prepared, timeout: float
) -> "asyncio.Future[None] | AmqpJobsError":
    exchange, routing_key = message.exchange, message.routing_key
    try:
        if exchange:
            await publisher.exchanges.ensure_within(exchange, timeout, message.job_id)
        elif message.due is not None:
            exchange, routing_key = await publisher.waiting.way_within(
                routing_key, message.properties, message.due, timeout
            )
        return _publication(publisher, message).send(
            exchange, routing_key, message.properties, message.body,
            mandatory=not message.exchange,  # an event that no queue is bound for is no error
        )  # fmt: skip
    except AmqpJobsError as error:
        return error


def _publication(publisher: "Publisher", message: Prepared) -> "Publication":
    return publisher.exchanges.publication if message.exchange else publisher.publication


def _fate(
    publisher: "Publisher", message: Prepared, fate: "asyncio.Future[None]"
) -> AmqpJobsError | None:
    if not fate.done():
        sent = _publication(publisher, message).take_back(fate)
        words = "RabbitMQ did not confirm it in time"
        return NotConfirmed(words, message_id=message.job_id, sent=sent)
    error = fate.exception()
    if error is None:
        return None
    if isinstance(error, AmqpJobsError):
        return error
    raise error


def _told(message: Prepared) -> Message[Any]:
    """What a status needs of it."""
    body = readable(message.body, message.properties.content_encoding)
    return Message(
        message.job_id, message.job, message.routing_key, body,
        Options(tags=tags_of(message.properties.headers)), None, message.tracked,
    )  # fmt: skip
