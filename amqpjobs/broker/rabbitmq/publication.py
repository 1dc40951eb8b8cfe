"""Publishing with confirms: what was sent, what came back, and what has to be sent again.

`Publication.send` never waits: it returns a future that ends when RabbitMQ has taken or refused the
message. Until there is room (a connection, no alarm, not too much unconfirmed) a message waits in
the backlog; what was unconfirmed when a connection was lost goes back to its front. What was
unconfirmed when RabbitMQ closed the channel over one of them is sent again one by one, each alone.
Changes when the guarantees of publishing do.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from amqpjobs.broker.rabbitmq.confirms import ConfirmChannel, Fate, Outgoing
from amqpjobs.broker.rabbitmq.connection import Link, Wire
from amqpjobs.broker.rabbitmq.lives import Lives
from amqpjobs.broker.rabbitmq.refused_publication import Trials
from amqpjobs.broker.rabbitmq.splitter import DEFAULT_FRAME_MAX
from amqpjobs.errors import NotConfirmed
from amqpjobs.jobs.message.properties import Properties

log = logging.getLogger("amqpjobs.rabbitmq")

NO_CHANNEL_PAUSE = 1.0
"""Seconds before a channel is asked for again on a connection that gave none."""


class Publication:
    """Publishes on one link, over all its lives.

    Args:
        link: the connection; alarms stop its socket, so nothing else should share it.
        prepare: called with each new life of it before anything is sent.

    Attributes:
        frame_max: the largest frame that RabbitMQ takes on this link, in bytes, as far as it said;
            0 for no limit.
    """

    def __init__(self, link: Link, prepare: Callable[[Wire], Awaitable[None]]) -> None:
        self._link = link
        self._prepare = prepare
        # By fate, so that one whose caller has given up is found and not kept.
        self._backlog: OrderedDict[Fate, Outgoing] = OrderedDict()
        self._channel: ConfirmChannel | None = None
        self._trials = Trials(link)
        self.frame_max = DEFAULT_FRAME_MAX
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self.blocked: str | None = None

    def __repr__(self) -> str:
        return f"<Publication: {self.unconfirmed} unconfirmed, {len(self._backlog)} waiting>"

    @property
    def unconfirmed(self) -> int:
        """Messages that were sent and not confirmed yet."""
        return len(self._channel.pending) if self._channel else 0

    @property
    def unsettled(self) -> int:
        """Messages whose fate is not known: sent, or waiting to be."""
        return self.unconfirmed + len(self._backlog) + len(self._trials)

    def send(
        self,
        exchange: str,
        routing_key: str,
        properties: Properties,
        body: bytes,
        *,
        mandatory: bool = True,
    ) -> "asyncio.Future[None]":
        """Send a message as soon as possible.

        Args:
            exchange: empty for the default exchange.
            routing_key: the queue's name on the default exchange.
            properties: what is said about the message.
            body: bytes.
            mandatory: whether a message that no queue gets is `Unroutable`; else it is dropped.

        Returns:
            A future: done when RabbitMQ has the message and confirmed it; it raises `Unroutable`,
            `PublishRejected`, or `PublishError` for a message that AMQP cannot carry. To give it
            up, see `take_back`.
        """
        fate: asyncio.Future[None] = self._loop.create_future()
        self.send_for(fate, exchange, routing_key, properties, body, mandatory=mandatory)
        return fate

    def send_for(
        self,
        fate: Fate,
        exchange: str,
        routing_key: str,
        properties: Properties,
        body: bytes,
        *,
        mandatory: bool = True,
        alone: bool = False,
    ) -> None:
        """The same for a caller that is told in its own way.

        Args:
            alone: on a channel of its own: RabbitMQ is known to close the channel over it.
        """
        outgoing = Outgoing(exchange, routing_key, properties, body, fate, mandatory)
        if self._closed:
            fate.set_exception(_closed(outgoing))
            return
        if alone:
            self._trials.add(outgoing)
            return
        channel = self._channel
        if channel is not None and not self._backlog and channel.has_room(self.blocked):
            channel.transmit(outgoing)
        else:
            self._backlog[fate] = outgoing

    def close(self) -> None:
        """Give up all that was not confirmed, and whatever is sent from now on: nobody works on it
        any more. To be called when `run` has ended."""
        self._closed = True
        backlog, self._backlog = list(self._backlog.values()), OrderedDict()
        for outgoing in (*backlog, *self._trials.close()):
            if not outgoing.fate.done():
                outgoing.fate.set_exception(_closed(outgoing))

    def take_back(self, fate: Fate) -> bool:
        """Give a message up. One that waits does not leave any more; one that was sent may still
        arrive.

        Returns:
            Whether it was sent.
        """
        fate.cancel()
        waiting = self._backlog.pop(fate, None)
        return waiting is None or waiting.sent

    async def publish(
        self,
        exchange: str,
        routing_key: str,
        properties: Properties,
        body: bytes,
        timeout: float,
        *,
        through_alarms: bool = False,
        alone: bool = False,
        mandatory: bool = True,
    ) -> None:
        """Send a message and wait for the confirm.

        Args:
            timeout: seconds, waiting for a connection included.
            through_alarms: wait on while RabbitMQ blocks publishers. What it had read when it
                raised its alarm it takes at the end of it: sent again, it would be there twice.
            alone: see `send_for`.
            mandatory: see `send`.

        Raises:
            Unroutable, PublishRejected: it is stored nowhere.
            NotConfirmed: no confirm in time.
        """
        fate: asyncio.Future[None] = self._loop.create_future()
        self.send_for(
            fate, exchange, routing_key, properties, body, alone=alone, mandatory=mandatory
        )
        try:
            await asyncio.wait((fate,), timeout=timeout)
            while through_alarms and self.blocked is not None and not fate.done():
                await asyncio.wait((fate,), timeout=timeout)
        except asyncio.CancelledError:
            self.take_back(fate)
            raise
        if not fate.done():
            fate.cancel()
            raise self.not_confirmed(fate, properties.message_id, timeout)
        fate.result()

    def not_confirmed(self, fate: Fate, message_id: str | None, timeout: float) -> NotConfirmed:
        """The error for a message whose confirm did not come, with what stood in the way. If it
        still waits, it is taken back."""
        waiting = self._backlog.pop(fate, None)
        sent = waiting is None or waiting.sent
        if self._channel is not None:
            self._channel.forget_given_up()
            self._drain()
        return NotConfirmed(
            f"not confirmed within {timeout:g} s: {self.obstacle}; "
            + ("it may have arrived" if sent else "it was not sent"),
            message_id=message_id,
            sent=sent,
        )

    @property
    def obstacle(self) -> str:
        """What stands in the way of a message that has waited too long."""
        if self.blocked is not None:
            return f"RabbitMQ blocks publishers ({self.blocked})"
        if self._channel is None:
            return f"no connection: {self._link.last_error or 'it was lost'}"
        return "the broker did not answer"

    async def run(self) -> None:
        """Open a channel in each life of the link, until cancelled."""
        async for _, channel in Lives(self._link.up, self._attach, self._not_attached):
            try:
                await channel.closed.wait()
            finally:
                self._detach(channel)

    async def _attach(self, wire: Wire) -> "ConfirmChannel":
        await self._prepare(wire)
        underlay = await wire.channel(confirms=True)
        channel = ConfirmChannel(wire, underlay, self._drain)
        wire.protocol.on_blocked.append(self._on_blocked)
        wire.protocol.on_unblocked.append(self._on_unblocked)
        self._unblock()
        self.frame_max = wire.frame_max
        self._channel = channel
        self._drain()
        return channel

    async def _not_attached(self, wire: Wire, error: Exception, failures: int) -> float:
        log.warning("no channel to publish on", extra={"error": repr(error)})
        return NO_CHANNEL_PAUSE

    def _detach(self, channel: "ConfirmChannel") -> None:
        self._channel = None
        self._unblock()
        channel.wire.protocol.on_blocked.remove(self._on_blocked)
        channel.wire.protocol.on_unblocked.remove(self._on_unblocked)
        pending = channel.give_up()
        error = channel.error or channel.connection_error
        if error is None:
            # The connection went: nobody knows what arrived. Sent again under the same id, so that
            # the worst is a duplicate, bounded by what was unconfirmed.
            for outgoing in reversed(pending):
                if not outgoing.fate.done():
                    self._backlog[outgoing.fate] = outgoing
                    self._backlog.move_to_end(outgoing.fate, last=False)
            return
        # RabbitMQ closed the channel, or all, over one of them; the others are as good as before.
        log.warning(
            "publishing channel refused",
            extra={"error": error, "unconfirmed": len(pending)},
        )
        for outgoing in pending:
            if not outgoing.fate.done():
                self._trials.add(outgoing)

    def _unblock(self) -> None:
        self.blocked = None
        self._trials.block(False)

    def _on_blocked(self, reason: str) -> None:
        log.warning("RabbitMQ blocks publishers", extra={"reason": reason})
        self.blocked = reason
        self._trials.block(True)

    def _on_unblocked(self) -> None:
        log.info("RabbitMQ accepts messages again")
        self._unblock()
        self._drain()

    def _drain(self) -> None:
        """Send from the backlog as far as there is room."""
        channel, backlog = self._channel, self._backlog
        while backlog and channel is not None and channel.has_room(self.blocked):
            _, outgoing = backlog.popitem(last=False)
            if not outgoing.fate.done():
                channel.transmit(outgoing)


def _closed(outgoing: Outgoing) -> NotConfirmed:
    return NotConfirmed(
        "the connection was closed here before RabbitMQ confirmed; "
        + ("it may have arrived" if outgoing.sent else "it was not sent"),
        message_id=outgoing.properties.message_id,
        sent=outgoing.sent,
    )
