"""One publishing channel: numbers what is sent, and matches what comes back to it.

Changes when the way a confirm or a return is matched does.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from amqpjobs.broker.amqp.contents import IdleSink
from amqpjobs.broker.amqp.frames import encode_publish
from amqpjobs.broker.rabbitmq.connection import Wire
from amqpjobs.broker.rabbitmq.lives import until_lost
from amqpjobs.errors import PublishError, PublishRejected, Unroutable
from amqpjobs.jobs.message.properties import Properties

MAX_UNCONFIRMED = 1_000
"""Messages. Enough to fill the way to the broker and back; few enough to send again."""

HARD_ERRORS = 500
"""The first of AMQP's codes for a connection that is closed over an error."""

MAX_UNCONFIRMED_BYTES = 16 * 2**20


class Fate(Protocol):
    """Who is told what became of a message: a future, or something cheaper."""

    def done(self) -> bool:
        """Whether it was told, or does not want to be."""
        ...

    def cancel(self) -> bool:
        """The publisher has given up waiting."""
        ...

    def set_result(self, result: None, /) -> None:
        """RabbitMQ has the message."""
        ...

    def set_exception(self, exception: BaseException, /) -> None:
        """It has not, or nobody knows."""
        ...


class Outgoing:
    """One message on its way to the broker, and who is told of its fate."""

    __slots__ = (
        "body", "exchange", "fate", "mandatory", "properties", "returned", "routing_key", "sent",
    )  # fmt: skip

    def __init__(
        self,
        exchange: str,
        routing_key: str,
        properties: Properties,
        body: bytes,
        fate: Fate,
        mandatory: bool = True,
    ) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.properties = properties
        self.body = body
        self.fate = fate
        self.mandatory = mandatory
        self.sent = False
        self.returned: str | None = None


class ConfirmChannel(IdleSink):
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
        try:
            reason = await until_lost(self.wire, self._underlay)
            if not self.wire.lost.is_set() and self._protocol.refusal is None:
                self.error = reason
        finally:
            self.closed.set()

    @property
    def connection_error(self) -> str | None:
        """Why RabbitMQ ended the whole connection, if that may be over a message: codes from 500
        are errors, below they are a broker that stops, or an operator."""
        refusal = self._protocol.refusal
        if refusal is None or refusal[0] < HARD_ERRORS:
            return None
        return f"{refusal[1]} ({refusal[0]}), and the connection was closed"

    def has_room(self, blocked: str | None) -> bool:
        """Whether another message may be sent now; `blocked` is why the broker takes none."""
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
        """Send a message; its fate is in what comes back."""
        try:
            frames = encode_publish(
                self._number,
                outgoing.exchange,
                outgoing.routing_key,
                outgoing.properties,
                outgoing.body,
                self.wire.frame_max,
                mandatory=outgoing.mandatory,
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
        """Free the room of messages whose publishers have given up.

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
