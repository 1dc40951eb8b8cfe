"""A queue of one's own: what is sent to this process alone, for as long as its connection lives.

Replies, events and the word to cancel come this way. Nothing is acked, and nothing outlives the
connection: whoever listens must bear to miss a message. Changes when listening does.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

from aiormq import exceptions as aiormq_errors

from amqpjobs.background import end_if_cancelled
from amqpjobs.errors import AmqpJobsError, ConfigurationError, DecodeError
from amqpjobs.rabbitmq.calls import FAILURES, from_broker
from amqpjobs.rabbitmq.connection import Link, Wire
from amqpjobs.rabbitmq.declaration import TIMEOUT
from amqpjobs.rabbitmq.frames import HeaderView, split_header

log = logging.getLogger("amqpjobs.rabbitmq")

RESTART_PAUSE = 0.5
"""Seconds before a queue that was lost is made again; five times that at most."""

OnMessage = Callable[[HeaderView, bytes], None]


class Listener:
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
        failures = 0
        while True:
            wire = await self._link.up()
            channel: Any = None
            try:
                channel = await wire.channel()
                reason = await self._listen(wire, channel)
            except (AmqpJobsError, *FAILURES) as error:
                end_if_cancelled()
                if not self.starts and _is_refusal(error):
                    raise _refused(error, self._bindings) from error
                reason = str(error) or repr(error)
                failures += 1
            else:
                failures = 0
            finally:
                was_there = self._leave_queue(wire, channel)
            if was_there and self._on_lost is not None:
                self._on_lost(reason)
            await _close(channel)
            if not wire.lost.is_set():
                log.warning("listening was interrupted", extra={"reason": reason})
                await _pause(wire, max(1, min(failures, 5)) * RESTART_PAUSE)

    async def _listen(self, wire: Wire, channel: Any) -> str:
        """Make the queue and consume it until it is lost, and why."""
        self._cancelled.clear()
        channel.on_consumer_cancel_callbacks.add(lambda _: self._cancelled.set())
        wire.protocol.divert(channel.number, self)
        async with asyncio.timeout(TIMEOUT):
            with from_broker():
                made = await channel.queue_declare(exclusive=True, auto_delete=True, durable=False)
                queue: str = made.queue
                for exchange, routing_key in self._bindings:
                    await channel.queue_bind(queue, exchange, routing_key)
                await channel.basic_consume(queue, _unused, no_ack=True)
        self.queue = queue
        self.starts += 1
        self._ready.set()
        log.debug("listening on %s", queue)
        return await self._until_lost(wire, channel)

    async def _until_lost(self, wire: Wire, channel: Any) -> str:
        closing = channel.closing
        waits = [asyncio.ensure_future(e.wait()) for e in (wire.lost, self._cancelled)]
        try:
            await asyncio.wait((closing, *waits), return_when=asyncio.FIRST_COMPLETED)
            if wire.lost.is_set():
                return wire.reason or "the connection was lost"
            if closing.done() and not closing.cancelled():
                return str(closing.exception() or "the channel was closed")
            return "the broker has deleted the queue"
        finally:
            for wait in (closing, *waits):
                wait.cancel()

    def _leave_queue(self, wire: Wire, channel: Any) -> bool:
        was_there, self.queue = self.queue is not None, None
        self._ready.clear()
        if channel is not None:
            wire.protocol.undivert(channel.number)
        return was_there

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
            log.debug("a message that cannot be read, dropped: %s", error)
            return
        self._on_message(view, body)

    def returned(self, *_: object) -> None:
        """Nothing is published on this channel."""

    def confirmed(self, delivery_tag: int, multiple: bool, acked: bool) -> None:
        """Nothing is published on this channel."""


async def _unused(message: object) -> None:
    """aiormq wants a callback; the splitter takes every delivery before it."""


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


async def _close(channel: Any) -> None:
    if channel is not None and not channel.is_closed:
        try:
            async with asyncio.timeout(1):
                with from_broker():
                    await channel.close()
        except FAILURES as error:
            log.debug("closing a channel: %r", error)


async def _pause(wire: Wire, seconds: float) -> None:
    """Do not spin on a connection that gives no queue."""
    try:
        async with asyncio.timeout(seconds):
            await wire.lost.wait()
    except TimeoutError:
        return
