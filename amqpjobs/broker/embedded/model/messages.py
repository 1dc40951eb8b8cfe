"""A message as the embedded broker holds it: bytes that came in, read only where a rule asks.

Changes when a rule of the broker needs another property.
"""

from collections.abc import Collection, Mapping, Sequence

from amqpjobs.broker.amqp.frames import HeaderView, encode_properties, split_header
from amqpjobs.broker.embedded.model import tables
from amqpjobs.broker.embedded.model.terms import Field, read_fields
from amqpjobs.errors import DecodeError
from amqpjobs.jobs.message.properties import FieldValue

# Bits of the first two octets of a content header: which properties it has.
HAS_HEADERS, HAS_PRIORITY, HAS_REPLY_TO, HAS_EXPIRATION = 0x20, 0x08, 0x02, 0x01
HAS_USER_ID = 0x10  # of the second octet

_FRONT = bytes((0, 60, 0, 0)) + bytes(8)  # class, weight and body size: not looked at here


class Message:
    """One message: where it was published to, its properties, its body. It does not change.

    The same object stands in every queue that it was routed to; what one queue knows of it (how
    often it was delivered, when it expires) stands in that queue's `Entry`.

    Attributes:
        exchange: the exchange it was published to, "" for the default one.
        routing_key: the key it was published with.
        header: the flags and fields of its content header as received, to be passed on untouched.
        body: its body.
        blind: the routing keys of its header ``BCC``, which is taken out of it.
        rekeyed: whether it was dead-lettered with another key: its header ``CC``, where a version
            leaves it there, is no longer routed by.
        deaths: its deaths so far, the latest first, where a version keeps them beside the headers.
        failures: how often its delivery failed in the queue it was dead-lettered by.
    """

    __slots__ = (
        "_view",
        "blind",
        "body",
        "deaths",
        "exchange",
        "failures",
        "header",
        "rekeyed",
        "routing_key",
    )

    def __init__(self, exchange: str, routing_key: str, header: bytes, body: bytes) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.header = header
        self.body = body
        self._view: HeaderView | None = None
        self.blind: tuple[str, ...] = ()
        self.rekeyed = False
        self.deaths: tuple[Mapping[str, FieldValue], ...] = ()
        self.failures = 0

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
    def headers(self) -> Mapping[str, FieldValue]:
        """Its headers. Not to be changed: `with_headers` makes another message.

        Raises:
            DecodeError: the content header, or the table in it, is malformed.
        """
        return self.properties.headers if self.header[0] & HAS_HEADERS else {}

    @property
    def fields(self) -> tuple[Field, ...]:
        """Its headers with their types, as an exchange compares them.

        Raises:
            DecodeError: the content header, or the table in it, is malformed.
        """
        return read_fields(tables.entries_of(self.header))

    @property
    def priority(self) -> int | None:
        """Its priority, if it has one."""
        return self.properties.priority if self.header[0] & HAS_PRIORITY else None

    @property
    def expiration(self) -> str | None:
        """Its time to live in milliseconds, as the text it was sent as."""
        return self.properties.expiration if self.header[0] & HAS_EXPIRATION else None

    @property
    def has_copies(self) -> bool:
        """Whether it may have headers that route it to further keys (``CC``, ``BCC``)."""
        return b"CC" in self.header and bool(self.header[0] & HAS_HEADERS)

    def keys(self) -> tuple[str, ...]:
        """All keys that it is routed by: its own, and those of its headers ``CC`` and ``BCC``.

        Raises:
            DecodeError: the headers are malformed, or ``CC`` is not a list.
        """
        return (*self.open_keys(), *self.blind)

    def open_keys(self) -> tuple[str, ...]:
        """The same without those of ``BCC``: what may be told of it.

        Raises:
            DecodeError: the headers are malformed, or ``CC`` is not a list.
        """
        if self.rekeyed or not self.has_copies:
            return (self.routing_key,)
        return (self.routing_key, *copy_keys(self.headers, "CC"))

    def with_headers(
        self, headers: Mapping[str, FieldValue], without: Collection[str] = ()
    ) -> "Message":
        """The same message with these headers, too, and without those.

        If its own are malformed, nothing can be said in them, and they are passed on as they are.
        """
        try:
            kept = tables.without(tables.entries_of(self.header), (*headers, *without))
            entries = kept + tables.encode_entries(headers)
            return self._like(tables.with_entries(self.header, entries))
        except DecodeError:
            return self._like(self.header)

    def as_letter(
        self,
        exchange: str,
        routing_key: str,
        headers: Mapping[str, FieldValue],
        without: Collection[str] = (),
    ) -> "Message":
        """This message as it is published again when it has died: it does not expire any more."""
        letter = self.with_headers(headers, without)
        if self.header[0] & HAS_EXPIRATION:
            entries = tables.entries_of(letter.header)
            bare = self.properties.bare_properties()._replace(expiration=None)
            letter.header = tables.with_entries(encode_properties(bare), entries)
        letter.exchange = exchange
        letter.routing_key = routing_key
        return letter

    def with_failures(self, failures: int) -> "Message":
        """The same message, whose delivery has failed so often."""
        copy = self._like(self.header)
        copy.failures = failures
        return copy

    def with_reply_to(self, name: str) -> "Message":
        """The same message, to be answered to another queue."""
        header = encode_properties(self.properties.bare_properties()._replace(reply_to=name))
        if self.header[0] & HAS_HEADERS:
            header = tables.with_entries(header, tables.entries_of(self.header))
        return self._like(header)

    def _like(self, header: bytes) -> "Message":
        copy = Message(self.exchange, self.routing_key, header, self.body)
        copy.blind, copy.rekeyed = self.blind, self.rekeyed
        copy.deaths, copy.failures = self.deaths, self.failures
        return copy


class Entry:
    """One message in one queue.

    Attributes:
        message: the message.
        order: its place among all messages that the queue has had.
        priority: its priority as the queue understands it.
        expires: when it does, in seconds since the epoch; None for never.
        redelivered: whether it was given out before, and came back.
        acquired: how often it was given out and came back.
        failures: how often that counted as a failed delivery.
        deadline: while it is given out, when an acknowledgement is too late.
    """

    __slots__ = (
        "acquired",
        "deadline",
        "expires",
        "failures",
        "message",
        "order",
        "priority",
        "redelivered",
    )

    def __init__(self, message: Message, order: int, priority: int = 0) -> None:
        self.message = message
        self.order = order
        self.priority = priority
        self.expires: float | None = None
        self.redelivered = False
        self.acquired = 0
        self.failures = 0
        self.deadline = 0.0

    def __repr__(self) -> str:
        return f"<Entry {self.order} {self.message!r}>"


def copy_keys(headers: Mapping[str, FieldValue], name: str) -> tuple[str, ...]:
    """The routing keys in a header ``CC`` or ``BCC``.

    Raises:
        DecodeError: it is there, and is not a list.
    """
    keys = headers.get(name)
    if keys is None:
        return ()
    if not isinstance(keys, Sequence) or isinstance(keys, str | bytes):
        raise DecodeError(f"the header {name} is not a list of routing keys")
    return tuple(key for key in keys if isinstance(key, str))
