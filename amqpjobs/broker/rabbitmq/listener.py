"""A queue of one's own: what is sent to this process alone, for as long as its connection lives.

Replies, events and cancellations come this way. Nothing is acked, and nothing outlives the
connection: listeners must tolerate missed messages. Changes when listening does.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

from aiormq import exceptions as aiormq_errors

from amqpjobs.broker.amqp.contents import IdleSink
from amqpjobs.broker.amqp.frames import HeaderView, split_header
from amqpjobs.broker.rabbitmq.calls import close_channel, from_broker, unused_callback
from amqpjobs.broker.rabbitmq.connection import Link, Wire
from amqpjobs.broker.rabbitmq.declarer import TIMEOUT
from amqpjobs.broker.rabbitmq.lives import Lives, pause, restart_pause, until_lost
from amqpjobs.errors import ConfigurationError, DecodeError

log = logging.getLogger("amqpjobs.rabbitmq")

CLOSE_TIMEOUT = 1.0
"""Seconds for RabbitMQ to answer that a channel is closed."""

OnMessage = Callable[[HeaderView, bytes], None]


class Listener(IdleSink):
    """An exclusive queue, named by the server, made again in each life of its link.

    Exclusive and classic, since RabbitMQ 4.3 refuses queues that are neither durable nor exclusive
    (https://www.rabbitmq.com/docs/queues#durability): it is gone with its connection, and so is
    what was in it.

    Args:
        link: the connection.
        on_message: called with each message's properties and body, from the event loop. It must
            not block, and must not raise.
        bindings: exchanges and routing keys that the queue is bound by.
        on_lost: called with the reason when the queue is gone, before there is another.

    Attributes:
        queue: its name in this life; None while there is none.
        starts: how often it was made.
        malformed: how many messages could not be read, and were dropped.
    """

    def __init__(
        self,
        link: Link,
        on_message: OnMessage,
        bindings: Iterable[tuple[str, str]] = (),
        on_lost: Callable[[str], None] | None = None,
    ) -> None:
        self.queue: str | None = None
        self.starts = 0
        self.malformed = 0
        self._link = link
        self._on_message = on_message
        self._bindings = tuple(bindings)
        self._on_lost = on_lost
        self._channel: Any = None
        self._ready = asyncio.Event()
        self._cancelled = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Listener {self.queue or 'has no queue'}, start {self.starts}>"

    async def ready(self) -> str:
        """Wait until there is a queue; its name."""
        while (queue := self.queue) is None:
            await self._ready.wait()
        return queue

    async def run(self) -> None:
        """Listen until cancelled.

        Raises:
            ConfigurationError: at the first start: RabbitMQ does not let this user have such a
                queue, or bind it. Later it is tried again and again, since it did work once.
        """
        async for wire, _ in Lives(self._link.up, self._listen, self._not_listening):
            try:
                lost = await until_lost(wire, self._channel, self._cancelled)
            finally:
                self.queue = None
                self._ready.clear()
                wire.protocol.undivert(self._channel.number)
            reason = "the broker has deleted the queue" if lost is None else lost
            if self._on_lost is not None:
                self._on_lost(reason)
            seconds = await self._interrupted(wire, reason, failures=1)
            await pause(wire, seconds)

    async def _listen(self, wire: Wire) -> None:
        """Make the queue and consume it."""
        self._channel = None
        self._channel = channel = await wire.channel()
        try:
            await self._consume(wire, channel)
        except BaseException:
            wire.protocol.undivert(channel.number)
            raise

    async def _consume(self, wire: Wire, channel: Any) -> None:
        self._cancelled.clear()
        channel.on_consumer_cancel_callbacks.add(lambda _: self._cancelled.set())
        wire.protocol.divert(channel.number, self)
        async with asyncio.timeout(TIMEOUT):
            with from_broker():
                made = await channel.queue_declare(exclusive=True, auto_delete=True, durable=False)
                queue: str = made.queue
                await self._bind(channel, queue)
                await channel.basic_consume(queue, unused_callback, no_ack=True)
        self.queue = queue
        self.starts += 1
        self._ready.set()
        log.debug("listening", extra={"queue": queue})

    async def _bind(self, channel: Any, queue: str) -> None:
        with from_broker():
            for exchange, routing_key in self._bindings:
                await channel.queue_bind(queue, exchange, routing_key)

    async def _not_listening(self, wire: Wire, error: Exception, failures: int) -> float:
        if not self.starts and _is_refusal(error):
            raise _refused(error, self._bindings) from error
        return await self._interrupted(wire, str(error) or repr(error), failures)

    async def _interrupted(self, wire: Wire, reason: str, failures: int) -> float:
        """Leave the channel; for how long to wait before there is another."""
        await close_channel(self._channel, CLOSE_TIMEOUT)
        if not wire.lost.is_set():
            log.warning("listening interrupted", extra={"reason": reason})
        return restart_pause(failures)

    def delivered(
        self,
        consumer_tag: bytes,
        delivery_tag: int,
        redelivered: bool,
        exchange: bytes,
        routing_key: bytes,
        header: bytes,
        body: bytes,
    ) -> None:
        """A message, as the splitter hands it over."""
        try:
            view = split_header(header)
        except DecodeError as error:
            self.malformed += 1
            log.debug("unreadable message dropped", extra={"error": str(error)})
            return
        self._on_message(view, body)


def _is_refusal(error: BaseException) -> bool:
    return isinstance(
        error,
        aiormq_errors.ChannelAccessRefused
        | aiormq_errors.ChannelNotFoundEntity
        | ConfigurationError,
    )


def _refused(error: BaseException, bindings: tuple[tuple[str, str], ...]) -> ConfigurationError:
    if isinstance(error, ConfigurationError):
        return error
    exchanges = ", ".join(sorted({exchange for exchange, _ in bindings}))
    bound = f", and read for the exchange {exchanges}, which must be there" if exchanges else ""
    return ConfigurationError(
        f"RabbitMQ refuses a queue to listen on: {error}. The user needs the permissions "
        rf"configure, write and read for ^amq\.gen-.*${bound}; `amqpjobs topology users` shows "
        "what each user must be allowed"
    )
