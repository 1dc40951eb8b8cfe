"""Deliveries of messages that other programs may have published: read as if they were ours.

Only the channels of queues that are bound to exchanges, or that others declare, make them: the
messages of plain jobs are read as they are. Changes when another program's message may say more.
"""

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from pamqp import frame
from pamqp.commands import Basic

from amqpjobs.broker.amqp.fields import encode_table
from amqpjobs.broker.amqp.frames import HeaderView, readable_properties, split_header
from amqpjobs.broker.rabbitmq.delivery import ConsumerChannel, Delivery, OnDelivery
from amqpjobs.broker.rabbitmq.single_channel import Occupancy, SingleChannel
from amqpjobs.errors import DecodeError
from amqpjobs.jobs.message.envelope import Envelope
from amqpjobs.jobs.message.headers import origin_header, origin_of
from amqpjobs.jobs.message.origin import Origin, has_died_in
from amqpjobs.jobs.message.properties import Properties

if TYPE_CHECKING:
    from amqpjobs.broker.rabbitmq.connection import Wire

DEATH = b"x-death"
"""The header of what RabbitMQ has dead-lettered, perhaps to let it wait before it comes again."""


class Translate(Protocol):
    """Changes the properties of a message into those that a job of ours would have."""

    @property
    def envelope(self) -> Envelope | None:
        """How another job system writes its messages to this queue; None where none does."""
        ...

    def __call__(self, view: HeaderView, origin: Origin | None, body: bytes) -> bool:
        """Translate a message.

        Args:
            view: its properties, which are changed.
            origin: where it was published; None for the queue itself.
            body: as it came.

        Returns:
            Whether it has an envelope of another job system.

        Raises:
            DecodeError: it cannot be translated.
        """
        ...


def become(view: HeaderView, properties: Properties) -> None:
    """Have these properties in a view from now on.

    Raises:
        ValueError: a header that AMQP cannot hold.
    """
    content_type, encoding, headers, *others = properties
    entries = encode_table(headers)[4:]  # behind the length of the table
    HeaderView.__init__(view, (content_type, encoding, entries, *others, None))


class TranslatedDelivery(Delivery):
    """A delivery whose `header` is translated. Copies are made of the message as it came, and say
    where it was published."""

    __slots__ = ("_enveloped", "_origin", "_translate")

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
        self._enveloped = False

    @property
    def header(self) -> HeaderView:
        """The properties as a job's, translated on first use.

        Raises:
            DecodeError: they are not what AMQP allows, or cannot be translated.
        """
        view = self._view
        if view is None:
            view = split_header(self._header)
            if self._is_said_by_headers(view):
                self._origin = origin_of(view.headers)
            event_id = view.message_id
            self._enveloped = self._translate(view, self._origin, self.body)
            if (origin := self._origin) is not None and view.message_id:
                known = origin.event_id or event_id
                self._origin = origin._replace(job_id=view.message_id, event_id=known)
            self._view = view
        return view

    def _is_said_by_headers(self, view: HeaderView) -> bool:
        """Whether its headers have where it was published. By the exchange of a delivery that the
        queue's owner let wait, it has only come back: it is the job that it was before."""
        if self._origin is None:
            return view.has_amqpjobs_headers or DEATH in view.raw_headers
        return DEATH in view.raw_headers and has_died_in(view.headers, self.queue)

    @property
    def envelope(self) -> Envelope | None:
        """How another job system has written this message; None if none has."""
        return self._translate.envelope if self._is_enveloped() else None

    def may_have(self, name: bytes) -> bool:
        """Whether a header of this name may be there, or was translated from another one."""
        return name in self._header or (self._is_enveloped() and name in self.header.raw_headers)

    def properties(self) -> Properties:
        """The properties as they were published, and where. Those of another job system say which
        job it is, and who gets its reply.

        Raises:
            DecodeError: they are not what AMQP allows.
        """
        if self._is_enveloped():
            return self.readable_properties()._replace(reply_to=self.header.reply_to)
        return self._with_origin(split_header(self._header).properties())

    def readable_properties(self) -> Properties:
        """As many of them as can be read, for a copy. A copy of another job system's message is one
        for that system, too: it says in addition which job it is, so that dead letters can be found
        by their name and id."""
        properties = readable_properties(self._header)
        if self._is_enveloped():
            view = self.header
            return properties._replace(type=view.type, message_id=view.message_id)
        return self._with_origin(properties)

    def _is_enveloped(self) -> bool:
        if self._view is None and self._translate.envelope is not None:
            with suppress(DecodeError):  # whoever reads the header gets it
                _ = self.header
        return self._enveloped

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
    # What is no text is shown as escapes: a copy carries them, and a log can have them.
    return Origin(
        exchange.decode(errors="backslashreplace"), routing_key.decode(errors="backslashreplace")
    )
