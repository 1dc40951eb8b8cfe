"""A message as the embedded broker holds it: bytes that came in, read only where a rule asks.

Changes when a rule of the broker needs another property.
"""

from collections.abc import Mapping
from dataclasses import replace

from amqpjobs.message import FieldValue
from amqpjobs.rabbitmq.frames import HeaderView, encode_properties, split_header

_FRONT = bytes((0, 60, 0, 0)) + bytes(8)  # class, weight and body size: not looked at here


class Message:
    """One message: where it was published to, its properties, its body. It does not change.

    The same object stands in every queue that it was routed to; what a queue knows of it beyond
    that (how often it was delivered, when it expires) stands in the queue.

    Attributes:
        exchange: the exchange it was published to, "" for the default one.
        routing_key: the key it was published with.
        header: the flags and fields of its content header as received, to be passed on untouched.
        body: its body.
    """

    __slots__ = ("_view", "body", "exchange", "header", "routing_key")

    def __init__(self, exchange: str, routing_key: str, header: bytes, body: bytes) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.header = header
        self.body = body
        self._view: HeaderView | None = None

    def __repr__(self) -> str:
        return f"<Message {self.exchange!r} {self.routing_key!r}, {len(self.body)} bytes>"

    @property
    def properties(self) -> HeaderView:
        """Its properties, split when they are first asked for; the headers again later.

        Raises:
            DecodeError: the content header is malformed.
        """
        if self._view is None:
            self._view = split_header(_FRONT + self.header)
        return self._view

    @property
    def headers(self) -> dict[str, FieldValue]:
        """Its headers. Not to be changed: `with_headers` makes another message.

        Raises:
            DecodeError: the content header, or the table in it, is malformed.
        """
        return self.properties.headers

    def with_headers(
        self, headers: Mapping[str, FieldValue], **properties: str | None
    ) -> "Message":
        """The same message with these headers in place of its own, and these other properties."""
        changed = replace(self.properties.properties(), headers=headers, **properties)  # type: ignore[arg-type]
        return Message(self.exchange, self.routing_key, encode_properties(changed), self.body)
