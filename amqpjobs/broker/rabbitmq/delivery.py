"""Deliveries in, acks out: one consumer's channel in one life of its connection.

Changes when what is known of a delivery, or the way of its ack, does.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from amqpjobs.broker.amqp.contents import IdleSink
from amqpjobs.broker.amqp.frames import (
    HeaderView,
    encode_ack,
    encode_nack,
    readable_properties,
    split_header,
)
from amqpjobs.broker.rabbitmq.connection import Wire
from amqpjobs.errors import DecodeError
from amqpjobs.jobs.message.envelope import Envelope
from amqpjobs.jobs.message.properties import Properties

DEPLOYS = 2
"""How often a delivery may be given back by workers that stop, where RabbitMQ counts that as their
sudden death (up to 4.2). Otherwise each deploy would make suspects of all that was held."""


class Delivery:
    """One message as RabbitMQ delivered it, and the one chance to settle it.

    Attributes:
        queue: the AMQP queue it was consumed from.
        tag: the delivery tag, worth something on its channel only.
        redelivered: whether it was delivered before.
        header: the content header as it came; decoded where it is looked at.
        body: bytes.
        settled: whether `ack` or `release` was called. The second call of either is a bug in
            amqpjobs, and raises.
    """

    __slots__ = ("_channel", "_header", "_view", "body", "queue", "redelivered", "settled", "tag")

    def __init__(
        self,
        channel: "ConsumerChannel | _Acked",
        tag: int,
        redelivered: bool,
        header: bytes,
        body: bytes,
    ) -> None:
        self._channel = channel
        self._header = header
        self._view: HeaderView | None = None
        self.queue = channel.queue
        self.tag = tag
        self.redelivered = redelivered
        self.body = body
        self.settled = False

    @property
    def header(self) -> HeaderView:
        """The properties, decoded on first use.

        Raises:
            DecodeError: they are not what AMQP allows.
        """
        view = self._view
        if view is None:
            view = self._view = split_header(self._header)
        return view

    def may_have(self, name: bytes) -> bool:
        """Whether a header of this name may be there: false is certain, and decodes nothing."""
        return name in self._header

    @property
    def envelope(self) -> Envelope | None:
        """How another job system writes such messages, if one may have; None for ours."""
        return None

    def properties(self) -> Properties:
        """All properties as a value.

        Raises:
            DecodeError: they are not what AMQP allows.
        """
        return self.header.properties()

    def readable_properties(self) -> Properties:
        """As many of the properties as can be read, for a copy: what cannot is left behind."""
        return readable_properties(self._header)

    @property
    def channel(self) -> "ConsumerChannel | None":
        """The channel that it came on, and that its ack goes to; None if it is `accepted`."""
        channel = self._channel
        return channel if isinstance(channel, ConsumerChannel) else None

    @property
    def accepted(self) -> bool:
        """Whether it was acked before its job ran: what comes of it is no concern of RabbitMQ's."""
        return isinstance(self._channel, _Acked)

    def accept(self) -> None:
        """Ack it now, before its job runs. It is settled in the end as any other, of which RabbitMQ
        learns nothing more; and it is not `stale`, whatever becomes of the channel."""
        channel = self._channel
        if isinstance(channel, ConsumerChannel):
            channel.ack_now(self.tag)
            self._channel = _Acked(channel)

    @property
    def stale(self) -> bool:
        """Whether its channel is gone, or RabbitMQ has taken it back: it is delivered again, and no
        ack will reach it."""
        channel = self._channel
        return channel.closed or self.tag in channel.taken_back

    def lose(self) -> None:
        """RabbitMQ has taken it back although its channel lives, as 4.3 does when the consumer
        timeout is over. It ignores an ack then, so that nothing else need be known here."""
        self._channel.lose(self.tag)

    @property
    def returns(self) -> int:
        """How often it was given back or its worker died, where the broker counts the first as the
        second (up to 4.2); 0 where giving back is free."""
        return self.count or 0 if self.redelivered and self._channel.nack_counts else 0

    def is_suspect(self, limit: int | None) -> bool:
        """Whether a worker may have died of it.

        RabbitMQ counts the deliveries of a quorum queue whose channel was lost, whatever the
        reason: from 4.3 these only, before also those that were given back. Tried on 3.10.8 and
        4.3.6; the time after which RabbitMQ takes a delivery back counts before 4.3 only.

        Args:
            limit: the delivery limit of its queue; None for a classic queue, which counts nothing:
                there, having been delivered before is all that is known.
        """
        if not self.redelivered or limit is None:
            return self.redelivered
        enough = 1 + (DEPLOYS if self._channel.nack_counts else 0)
        return (self.count or 0) >= min(enough, limit)

    @property
    def count(self) -> int | None:
        """How often RabbitMQ has counted that it was delivered in vain; None where it does not
        say, as on classic queues."""
        try:
            count = self.header.headers.get("x-delivery-count")
        except DecodeError:
            return None
        return count if isinstance(count, int) else None

    def ack(self) -> None:
        """It is done: RabbitMQ may forget it."""
        self._settle()
        self._channel.ack(self.tag)

    def release(self) -> None:
        """Give it back to its queue (`basic.nack` with requeue)."""
        self._settle()
        self._channel.nack(self.tag)

    def reject(self) -> None:
        """Let RabbitMQ put it into the dead letters of its queue (`basic.nack` without requeue); a
        queue that has none drops it."""
        self._settle()
        self._channel.nack(self.tag, requeue=False)

    def hand_over(self) -> "Delivery":
        """The same delivery for somebody else to settle: here it counts as settled."""
        self._settle()
        return Delivery(self._channel, self.tag, self.redelivered, self._header, self.body)

    def _settle(self) -> None:
        if self.settled:
            raise AssertionError(f"delivery {self.tag} of {self.queue} is settled twice")
        self.settled = True

    def __repr__(self) -> str:
        return f"<Delivery {self.tag} of {self.queue}{', settled' if self.settled else ''}>"


class _Acked:
    """In place of the channel of a delivery that was acked before its job ran: RabbitMQ is told
    nothing more."""

    closed = False
    taken_back: frozenset[int] = frozenset()

    def __init__(self, channel: "ConsumerChannel") -> None:
        self.queue: str = channel.queue
        self.nack_counts: bool = channel.nack_counts

    def lose(self, tag: int) -> None:
        """It is not RabbitMQ's to take back."""

    def ack(self, tag: int) -> None:
        """It was acked."""

    def nack(self, tag: int, requeue: bool = True) -> None:
        """It cannot be given back."""


OnDelivery = Callable[[Delivery], None]


class ConsumerChannel(IdleSink):
    """The channel of one consumer in one life: turns frames into deliveries, batches the acks."""

    def __init__(self, wire: Wire, underlay: Any, queue: str, on_delivery: OnDelivery) -> None:
        self.queue = queue
        self.closed = False
        self.taken_back: set[int] = set()
        self.closed_at = 0.0
        self.acked_at = 0.0
        self.nack_counts = wire.profile.nack_counts
        self._protocol = wire.protocol
        self._number: int = underlay.number
        self._on_delivery = on_delivery
        self._acked: set[int] = set()
        self._settled: set[int] = set()
        self._lowest = 1
        self._scheduled = False
        self._loop = asyncio.get_running_loop()
        self._protocol.divert(self._number, self, self._on_close)

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
        self._on_delivery(Delivery(self, delivery_tag, redelivered, header, body))

    def lose(self, tag: int) -> None:
        """RabbitMQ has taken this one back."""
        self.taken_back.add(tag)

    def ack(self, tag: int) -> None:
        """Ack at the end of this turn of the event loop, together with the others of it."""
        if self.closed:
            return
        self._acked.add(tag)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.flush)

    def ack_now(self, tag: int) -> None:
        """Ack before anything else happens in this turn of the event loop, such as a handler that
        ends the process."""
        self.ack(tag)
        self.flush()
        self._protocol.flush()

    def nack(self, tag: int, requeue: bool = True) -> None:
        """Give back, or reject, after the acks that were made before."""
        if self.closed:
            return
        self.flush()
        self._settled.add(tag)
        self._protocol.write(encode_nack(self._number, tag, False, requeue))

    def flush(self) -> None:
        """Write the acks. Those that reach up from the lowest open tag become one frame."""
        self._scheduled = False
        acked, settled = self._acked, self._settled
        if not acked or self.closed:
            return
        lowest, highest = self._lowest, 0
        while True:
            if lowest in acked:
                acked.remove(lowest)
                highest = lowest
            elif lowest in settled:
                settled.remove(lowest)
            else:
                break
            lowest += 1
        self._lowest = lowest
        # Everything below `lowest` is settled, so `multiple` acks nothing that did not succeed.
        frames = [encode_ack(self._number, highest, True)] if highest else []
        frames += [encode_ack(self._number, tag, False) for tag in acked]
        settled |= acked
        acked.clear()
        self.acked_at = self._loop.time()
        self._protocol.write(b"".join(frames))

    def _on_close(self) -> None:
        if not self.closed:
            self.closed_at = time.monotonic()
        self.closed = True
        self._acked.clear()

    def close(self) -> None:
        """Send nothing more: what is unsettled, RabbitMQ delivers again."""
        self._on_close()
        self._protocol.undivert(self._number)
