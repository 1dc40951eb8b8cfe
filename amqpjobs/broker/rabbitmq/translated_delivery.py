"""Deliveries of messages that other programs may have published: read as if they were ours.

Only the channels of queues that are bound to exchanges, or that others declare, make them: the
messages of plain jobs are read as they are. Changes when another program's message may say more.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from pamqp import frame
from pamqp.commands import Basic

from amqpjobs.broker.amqp.frames import HeaderView, readable_properties, split_header
from amqpjobs.broker.rabbitmq.delivery import ConsumerChannel, Delivery, OnDelivery
from amqpjobs.broker.rabbitmq.single_channel import Occupancy, SingleChannel
from amqpjobs.jobs.message.headers import origin_header, origin_of
from amqpjobs.jobs.message.origin import Origin
from amqpjobs.jobs.message.properties import Properties

if TYPE_CHECKING:
    from amqpjobs.broker.rabbitmq.connection import Wire

Translate: TypeAlias = Callable[[HeaderView, Origin | None], None]
"""Changes the properties of a message into those that a job of ours would have.

It is given where the message was published; None for the queue itself. It may raise `DecodeError`.
"""


class TranslatedDelivery(Delivery):
    """A delivery whose `header` is translated. Copies are made of the message as it came, and say
    where it was published."""

    __slots__ = ("_origin", "_translate")

    def __init__(
        self,
        channel: ConsumerChannel,
        tag: int,
        redelivered: bool,
        header: bytes,
        body: bytes,
        origin: Origin | None,
        translate: Translate,
    ) -> None:
        super().__init__(channel, tag, redelivered, header, body)
        self._origin = origin
        self._translate = translate

    @property
    def header(self) -> HeaderView:
        """The properties as a job's, translated on first use.

        Raises:
            DecodeError: they are not what AMQP allows, or cannot be translated.
        """
        view = self._view
        if view is None:
            view = split_header(self._header)
            if self._origin is None and view.has_amqpjobs_headers:
                self._origin = origin_of(view.headers)
            self._translate(view, self._origin)
            self._view = view
        return view

    def properties(self) -> Properties:
        """The properties as they were published, and where.

        Raises:
            DecodeError: they are not what AMQP allows.
        """
        return self._with_origin(split_header(self._header).properties())

    def readable_properties(self) -> Properties:
        """As many of them as can be read, for a copy."""
        return self._with_origin(readable_properties(self._header))

    def return_counted(self) -> None:
        """Give it back by `basic.reject`, which RabbitMQ counts as a delivery in vain. From 4.3 it
        does not count `basic.nack`."""
        self._settle()
        if isinstance(self._channel, TranslatingChannel):
            self._channel.return_counted(self.tag)

    def _with_origin(self, properties: Properties) -> Properties:
        if self._origin is None:
            return properties
        headers = {**properties.headers, **origin_header(self._origin)}
        return properties._replace(headers=headers)


class TranslatingChannel(ConsumerChannel):
    """The channel of a consumer whose messages are translated.

    Attributes:
        translate: set right after it was made, before it consumes.
    """

    translate: Translate

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
        origin = _origin(exchange, routing_key) if exchange else None
        self._on_delivery(
            TranslatedDelivery(
                self, delivery_tag, redelivered, header, body, origin, self.translate
            )
        )

    def return_counted(self, tag: int) -> None:
        """Give back by `basic.reject`, after the acks that were made before."""
        if not self.closed:
            self.flush()
            self._settled.add(tag)
            self._protocol.write(frame.marshal(Basic.Reject(tag, requeue=True), self._number))


class TranslatingSingleChannel(TranslatingChannel, SingleChannel):
    """The same for a singleton queue."""


def translating(
    wire: "Wire",
    underlay: Any,
    queue: str,
    on_delivery: OnDelivery,
    place: Occupancy | None,
    translate: Translate,
) -> TranslatingChannel:
    """The channel of a consumer whose messages are translated.

    Args:
        wire: the connection.
        underlay: aiormq's channel.
        queue: its name.
        on_delivery: called with each delivery.
        place: what runs here of a singleton queue; None for other queues.
        translate: reads a message as a job.
    """
    channel: TranslatingChannel
    if place is None:
        channel = TranslatingChannel(wire, underlay, queue, on_delivery)
    else:
        single: Any = TranslatingSingleChannel  # its `__init__` is that of the second base
        channel = single(wire, underlay, queue, on_delivery, place)
    channel.translate = translate
    return channel


def _origin(exchange: bytes, routing_key: bytes) -> Origin | None:
    """None for amqpjobs' own exchanges, by which delayed copies come: their headers say it."""
    if exchange.startswith(b"amqpjobs."):
        return None
    return Origin(exchange.decode("utf-8", "replace"), routing_key.decode("utf-8", "replace"))
