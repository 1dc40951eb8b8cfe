"""Publishing with confirms: what was sent, what came back, and what has to be sent again.

`Publication.send` never waits: it returns a future that ends when RabbitMQ has taken or refused the
message. Until there is room (a connection, no alarm, not too much unconfirmed) a message waits in
the backlog; what was unconfirmed when a connection was lost goes back to its front. Changes when
the guarantees of publishing do.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from aiormq import exceptions as aiormq_errors

from amqpjobs.errors import (
    BrokerUnavailable,
    NotConfirmed,
    PublishError,
    PublishRejected,
    Unroutable,
)
from amqpjobs.message import Properties
from amqpjobs.rabbitmq.connection import Link, Wire
from amqpjobs.rabbitmq.frames import encode_publish

log = logging.getLogger("amqpjobs.rabbitmq")

MAX_UNCONFIRMED = 1_000
"""Messages. Enough to fill the way to the broker and back; few enough to send again."""

MAX_UNCONFIRMED_BYTES = 16 * 2**20


class Outgoing:
    """One message on its way to the broker, and the future of its fate."""

    __slots__ = ("body", "exchange", "fate", "properties", "returned", "routing_key", "sent")

    def __init__(
        self,
        exchange: str,
        routing_key: str,
        properties: Properties,
        body: bytes,
        fate: "asyncio.Future[None]",
    ) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.properties = properties
        self.body = body
        self.fate = fate
        self.sent = False
        self.returned: str | None = None


class Publication:
    """Publishes on one link, over all its lives.

    Args:
        link: the connection; alarms stop its socket, so nothing else should share it.
        prepare: called with each new life of it before anything is sent.
    """

    def __init__(self, link: Link, prepare: Callable[[Wire], Awaitable[None]]) -> None:
        self._link = link
        self._prepare = prepare
        # By fate, so that one whose caller has given up is found and not kept.
        self._backlog: OrderedDict[asyncio.Future[None], Outgoing] = OrderedDict()
        self._channel: _ConfirmChannel | None = None
        self._loop = asyncio.get_running_loop()
        self.blocked: str | None = None

    def __repr__(self) -> str:
        return f"<Publication: {self.unconfirmed} unconfirmed, {len(self._backlog)} waiting>"

    @property
    def unconfirmed(self) -> int:
        """Messages that were sent and not confirmed yet."""
        return len(self._channel.pending) if self._channel else 0

    def send(
        self, exchange: str, routing_key: str, properties: Properties, body: bytes
    ) -> "asyncio.Future[None]":
        """Send a message as soon as possible.

        Returns:
            A future: done when RabbitMQ has the message and confirmed it; it raises `Unroutable`,
            `PublishRejected`, or `PublishError` for a message that AMQP cannot carry. To give it
            up, see `take_back`.
        """
        fate: asyncio.Future[None] = self._loop.create_future()
        outgoing = Outgoing(exchange, routing_key, properties, body, fate)
        channel = self._channel
        if channel is not None and not self._backlog and channel.has_room(self.blocked):
            channel.transmit(outgoing)
        else:
            self._backlog[fate] = outgoing
        return fate

    def take_back(self, fate: "asyncio.Future[None]") -> None:
        """Give a message up. One that waits does not leave any more; one that was sent may still
        arrive."""
        fate.cancel()
        self._backlog.pop(fate, None)

    async def publish(
        self,
        exchange: str,
        routing_key: str,
        properties: Properties,
        body: bytes,
        timeout: float,
    ) -> None:
        """Send a message and wait for the confirm.

        Args:
            timeout: seconds, waiting for a connection included.

        Raises:
            Unroutable, PublishRejected: it is stored nowhere.
            NotConfirmed: no confirm in time.
        """
        fate = self.send(exchange, routing_key, properties, body)
        try:
            async with asyncio.timeout(timeout):
                await fate
        except TimeoutError:
            raise self.not_confirmed(fate, properties.message_id, timeout) from None
        except asyncio.CancelledError:
            self.take_back(fate)
            raise

    def not_confirmed(
        self, fate: "asyncio.Future[None]", message_id: str | None, timeout: float
    ) -> NotConfirmed:
        """The error for a message whose confirm did not come, with what stood in the way. If it
        still waits, it is taken back."""
        waiting = self._backlog.pop(fate, None)
        sent = waiting is None or waiting.sent
        if self._channel is not None:
            self._channel.forget_given_up()
            self._drain()
        if self.blocked is not None:
            obstacle = f"RabbitMQ blocks publishers ({self.blocked})"
        elif self._channel is None:
            obstacle = f"no connection: {self._link.last_error or 'it was lost'}"
        else:
            obstacle = "the broker did not answer"
        return NotConfirmed(
            f"not confirmed within {timeout:g} s: {obstacle}; "
            + ("it may have arrived" if sent else "it was not sent"),
            message_id=message_id,
            sent=sent,
        )

    async def run(self) -> None:
        """Open a channel in each life of the link, until cancelled."""
        while True:
            wire = await self._link.up()
            try:
                channel = await self._attach(wire)
            except (BrokerUnavailable, aiormq_errors.AMQPError) as error:
                log.warning("no channel to publish on", extra={"error": repr(error)})
                await _settle_down(wire)
                continue
            try:
                await channel.closed.wait()
            finally:
                self._detach(channel)

    async def _attach(self, wire: Wire) -> "_ConfirmChannel":
        await self._prepare(wire)
        underlay = await wire.channel(confirms=True)
        channel = _ConfirmChannel(wire, underlay, self._drain)
        wire.protocol.on_blocked.append(self._on_blocked)
        wire.protocol.on_unblocked.append(self._on_unblocked)
        self.blocked = None
        self._channel = channel
        self._drain()
        return channel

    def _detach(self, channel: "_ConfirmChannel") -> None:
        self._channel = None
        self.blocked = None
        channel.wire.protocol.on_blocked.remove(self._on_blocked)
        channel.wire.protocol.on_unblocked.remove(self._on_unblocked)
        pending = channel.give_up()
        if channel.error is None:
            # The connection went: nobody knows what arrived. Sent again under the same id, so that
            # the worst is a duplicate, bounded by what was unconfirmed.
            for outgoing in reversed(pending):
                if not outgoing.fate.done():
                    self._backlog[outgoing.fate] = outgoing
                    self._backlog.move_to_end(outgoing.fate, last=False)
            return
        # The broker closed the channel over something in it; sending it again would do the same.
        for outgoing in pending:
            if not outgoing.fate.done():
                outgoing.fate.set_exception(
                    NotConfirmed(
                        f"RabbitMQ closed the channel: {channel.error}",
                        message_id=outgoing.properties.message_id,
                        sent=True,
                    )
                )

    def _on_blocked(self, reason: str) -> None:
        log.warning("RabbitMQ blocks publishers", extra={"reason": reason})
        self.blocked = reason

    def _on_unblocked(self) -> None:
        log.info("RabbitMQ takes messages again")
        self.blocked = None
        self._drain()

    def _drain(self) -> None:
        """Send from the backlog as far as there is room."""
        channel, backlog = self._channel, self._backlog
        while backlog and channel is not None and channel.has_room(self.blocked):
            _, outgoing = backlog.popitem(last=False)
            if not outgoing.fate.done():
                channel.transmit(outgoing)


class _ConfirmChannel:
    """The publishing channel of one life: numbers what is sent, and matches what comes back."""

    def __init__(self, wire: Wire, underlay: Any, on_room: Callable[[], None]) -> None:
        self.pending: dict[int, Outgoing] = {}
        self.closed = asyncio.Event()
        self.error: str | None = None
        self.wire = wire
        self._protocol = wire.protocol
        self._number: int = underlay.number
        self._underlay = underlay
        self._on_room = on_room
        self._next = 1
        self._lowest = 1
        self._bytes = 0
        self._open = True
        self._protocol.divert(self._number, self, self._on_close)
        self._protocol.on_writable.append(on_room)
        self._watch = asyncio.get_running_loop().create_task(self._until_closed())

    async def _until_closed(self) -> None:
        """Wait for whichever goes first: the channel or the whole connection."""
        closing = self._underlay.closing
        lost = asyncio.ensure_future(self.wire.lost.wait())
        try:
            await asyncio.wait((closing, lost), return_when=asyncio.FIRST_COMPLETED)
            whole = self.wire.lost.is_set() or self._protocol.refusal is not None
            if not whole and closing.done() and not closing.cancelled():
                self.error = str(closing.exception() or "closed")
        finally:
            lost.cancel()
            closing.cancel()
            self.closed.set()

    def has_room(self, blocked: str | None) -> bool:
        return (
            blocked is None
            and self._open
            and len(self.pending) < MAX_UNCONFIRMED
            and self._bytes < MAX_UNCONFIRMED_BYTES
            and self._protocol.writable
            # On a channel that the broker has closed, a frame would cost the connection.
            and not self._underlay.is_closed
        )

    def _on_close(self) -> None:
        self._open = False

    def transmit(self, outgoing: Outgoing) -> None:
        try:
            frames = encode_publish(
                self._number,
                outgoing.exchange,
                outgoing.routing_key,
                outgoing.properties,
                outgoing.body,
                self.wire.frame_max,
            )
        except ValueError as error:
            outgoing.fate.set_exception(
                PublishError(
                    f"AMQP cannot carry the message: {error}",
                    message_id=outgoing.properties.message_id,
                )
            )
            return
        outgoing.sent = True
        outgoing.returned = None
        self.pending[self._next] = outgoing
        self._next += 1
        self._bytes += len(outgoing.body)
        self._protocol.write(frames)
        if len(self.pending) == 1:
            # Nothing else is on its way, so nothing is gained by waiting for company.
            self._protocol.flush()

    def delivered(self, *_: object) -> None:
        """Nothing is consumed on this channel."""

    def returned(
        self, code: int, text: str, exchange: bytes, routing_key: bytes, header: bytes, body: bytes
    ) -> None:
        """A `basic.return`, which RabbitMQ sends before the message's `basic.ack`.

        It names no delivery tag; the oldest unconfirmed message that equals it is it.
        """
        key = routing_key.decode(errors="replace")
        for outgoing in self.pending.values():
            if (
                outgoing.returned is None
                and outgoing.routing_key == key
                and outgoing.body == body
                and (outgoing.properties.message_id or "").encode() in header
            ):
                outgoing.returned = f"{text} ({code})"
                return

    def confirmed(self, delivery_tag: int, multiple: bool, acked: bool) -> None:
        """A `basic.ack` or `basic.nack` of the broker. `multiple` costs what it confirms: the
        lowest open tag moves up, and each tag is passed once in a channel's life."""
        if multiple:
            tags: Iterable[int] = range(self._lowest, delivery_tag + 1)
            self._lowest = delivery_tag + 1
        else:
            tags = (delivery_tag,)
        for tag in tags:
            outgoing = self.pending.pop(tag, None)
            if outgoing is not None:
                self._bytes -= len(outgoing.body)
                _conclude(outgoing, acked)
        self._on_room()

    def forget_given_up(self) -> None:
        """Free the room of messages that nobody waits for any more.

        A confirm that never comes would take its room for as long as the channel lives, and enough
        of them all of it. None of these would be sent again anyway.
        """
        given_up = [tag for tag, outgoing in self.pending.items() if outgoing.fate.done()]
        for tag in given_up:
            self._bytes -= len(self.pending.pop(tag).body)

    def give_up(self) -> list[Outgoing]:
        """Stop using the channel; what is unconfirmed, in order."""
        self._watch.cancel()
        self._protocol.undivert(self._number)
        self._protocol.on_writable.remove(self._on_room)
        pending, self.pending = list(self.pending.values()), {}
        return pending


def _conclude(outgoing: Outgoing, acked: bool) -> None:
    fate, message_id = outgoing.fate, outgoing.properties.message_id
    if fate.done():
        return
    if outgoing.returned is not None:
        fate.set_exception(
            Unroutable(
                f"there is no queue {outgoing.routing_key!r} ({outgoing.returned}): run `amqpjobs "
                "topology apply`, or start a worker that may declare it",
                message_id=message_id,
            )
        )
    elif acked:
        fate.set_result(None)
    else:
        fate.set_exception(
            PublishRejected(
                f"RabbitMQ refused a message for {outgoing.routing_key!r}: the queue is full, or "
                "it could not be written",
                message_id=message_id,
            )
        )


async def _settle_down(wire: Wire) -> None:
    """Do not spin on a connection that gives no channel."""
    try:
        async with asyncio.timeout(1):
            await wire.lost.wait()
    except TimeoutError:
        return
