"""The AMQP 0-9-1 frames of the hot path, as bytes: publishes, acknowledgements, content headers.

aiormq and pamqp speak every other frame. These are ours because they are most of the traffic, and
a general codec spends more time on one of them than the broker does.

Changes when the hot path needs another frame.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from operator import attrgetter
from struct import Struct
from typing import Any, Literal, TypeAlias

from amqpjobs.broker.amqp.fields import MALFORMED, decode_table, encode_table, short_string
from amqpjobs.errors import DecodeError
from amqpjobs.jobs.message.header_names import PREFIX
from amqpjobs.jobs.message.properties import FieldValue, Properties

FRAME_METHOD = 1
FRAME_HEADER = 2
FRAME_BODY = 3
FRAME_HEARTBEAT = 8
FRAME_END = 0xCE

OVERHEAD = 8
"""Bytes of a frame that are not its payload: type, channel and length in front, one octet behind.
The negotiated ``frame_max`` counts them."""

HEARTBEAT_FRAME = bytes((FRAME_HEARTBEAT, 0, 0, 0, 0, 0, 0, FRAME_END))

_END = bytes((FRAME_END,))
_MAX_PAYLOAD = 0xFFFFFFFF
_BASIC = 60
_PUBLISH, _ACK, _NACK = 40, 80, 120

_FRAME = Struct(">BHI")
_METHOD = Struct(">HH")
_ACKNOWLEDGEMENT = Struct(">BHIHHQBB")  # both acknowledgements, from frame type to frame end
_CONTENT = Struct(">BHIHHQ")  # a header frame up to its property flags
_CLASS_AND_WEIGHT = bytes((0, _BASIC, 0, 0))
_BODY_SIZE = Struct(">Q")
_FLAGS = Struct(">H")
_LENGTH = Struct(">I")
_TIMESTAMP = Struct(">Q")

_Kind: TypeAlias = Literal["string", "table", "octet", "timestamp"]

_KINDS: dict[str, _Kind] = {
    "content_type": "string",
    "content_encoding": "string",
    "headers": "table",
    "delivery_mode": "octet",
    "priority": "octet",
    "correlation_id": "string",
    "reply_to": "string",
    "expiration": "string",
    "message_id": "string",
    "timestamp": "timestamp",
    "type": "string",
    "user_id": "string",
    "app_id": "string",
}
"""The basic properties in the order of their flags, highest bit first."""

_FIELDS = tuple((name, 0x8000 >> place, kind) for place, (name, kind) in enumerate(_KINDS.items()))
_PLACE_OF_HEADERS = list(_KINDS).index("headers")
_RESERVED_FLAG = 4  # cluster-id in AMQP 0-9: some clients still send it; read and dropped
_UNDEFINED_FLAGS = 3  # 1 says that more flags follow, and AMQP 0-9-1 has no more
_values_of = attrgetter(*_KINDS)
_FLAG_OF = {name: flag for name, flag, _ in _FIELDS}
_HEADERS = _FLAG_OF["headers"]
_CORRELATION_ID = _FLAG_OF["correlation_id"]
_MESSAGE_ID = _FLAG_OF["message_id"]


def encode_publish(
    channel: int,
    exchange: str,
    routing_key: str,
    properties: Properties,
    body: bytes,
    frame_max: int,
    *,
    mandatory: bool = True,
) -> bytes:
    """Encode one message with all its frames: `basic.publish`, its header, its body.

    Args:
        channel: the channel's number.
        exchange: the exchange's name; empty for the default exchange.
        routing_key: the routing key; the queue's name on the default exchange.
        properties: what is said about the message.
        body: the message's body; split over as many frames as `frame_max` asks for.
        frame_max: the largest frame the peer takes, in bytes; 0 for no limit.
        mandatory: whether the broker returns a message that it cannot route.

    Raises:
        ValueError: a name or property that AMQP cannot hold, or properties too large for a frame.
    """
    method = _encode_method(channel, exchange, routing_key, mandatory)
    fields = encode_properties(properties)
    size = len(body)
    limit = frame_max - OVERHEAD if frame_max else _MAX_PAYLOAD
    if len(fields) + 12 > limit:
        raise ValueError(
            f"the properties are {len(fields)} bytes long, more than one frame "
            f"({frame_max} bytes) can hold: send less in the headers"
        )
    header = _CONTENT.pack(FRAME_HEADER, channel, len(fields) + 12, _BASIC, 0, size)
    if not size:
        return b"".join((method, header, fields, _END))
    if size <= limit:
        start = _FRAME.pack(FRAME_BODY, channel, size)
        return b"".join((method, header, fields, _END, start, body, _END))
    return b"".join((method, header, fields, _END, *_body_frames(channel, body, limit)))


def encode_properties(properties: Properties) -> bytes:
    """Encode properties as a content header has them: flags, then the fields that are there.

    Raises:
        ValueError: a property or a header that AMQP cannot hold; the message says which.
    """
    (
        content_type, content_encoding, headers, delivery_mode, priority, correlation_id, reply_to,
        expiration, message_id, timestamp, type_, user_id, app_id,
    ) = properties  # fmt: skip
    flags, first, second, third, last = _encode_common(
        content_type, content_encoding, delivery_mode, priority, reply_to, expiration,
        timestamp, type_, user_id, app_id,
    )  # fmt: skip
    table = correlation = message = b""
    if headers:  # no headers are better said by no table than by an empty one
        table = encode_table(headers)
        flags |= _HEADERS
    if correlation_id is not None:
        correlation = short_string(correlation_id, "correlation_id")
        flags |= _CORRELATION_ID
    if message_id is not None:
        message = short_string(message_id, "message_id")
        flags |= _MESSAGE_ID
    return b"".join((_FLAGS.pack(flags), first, table, second, correlation, third, message, last))


def encode_ack(channel: int, tag: int, multiple: bool) -> bytes:
    """Encode `basic.ack` of a delivery tag, and with `multiple` of all before it."""
    return _ACKNOWLEDGEMENT.pack(FRAME_METHOD, channel, 13, _BASIC, _ACK, tag, multiple, FRAME_END)


def encode_nack(channel: int, tag: int, multiple: bool, requeue: bool) -> bytes:
    """Encode `basic.nack`, RabbitMQ's extension: like `basic.reject`, and for many at once."""
    bits = multiple | requeue << 1
    return _ACKNOWLEDGEMENT.pack(FRAME_METHOD, channel, 13, _BASIC, _NACK, tag, bits, FRAME_END)


class HeaderView:
    """The properties of a received message. Its headers are decoded when they are first asked for.

    Most messages are dispatched by their type and id alone, and the headers are the dear part.

    Attributes:
        raw_headers: the entries of the headers table as received; empty when there is none.
        timestamp: as sent. The specification says seconds, some clients send milliseconds.

    The other attributes are those of `amqpjobs.jobs.message.properties.Properties`.
    """

    __slots__ = ("_headers", "raw_headers", *(name for name in _KINDS if name != "headers"))

    content_type: str | None
    content_encoding: str | None
    delivery_mode: int | None
    priority: int | None
    correlation_id: str | None
    reply_to: str | None
    expiration: str | None
    message_id: str | None
    timestamp: int | None
    type: str | None
    user_id: str | None
    app_id: str | None
    raw_headers: bytes
    _headers: dict[str, FieldValue] | None

    def __init__(self, values: Sequence[Any]) -> None:
        (
            self.content_type,
            self.content_encoding,
            self.raw_headers,
            self.delivery_mode,
            self.priority,
            self.correlation_id,
            self.reply_to,
            self.expiration,
            self.message_id,
            self.timestamp,
            self.type,
            self.user_id,
            self.app_id,
            _,
        ) = values
        self._headers = None

    def __repr__(self) -> str:
        return f"<HeaderView type={self.type!r} message_id={self.message_id!r}>"

    @property
    def headers(self) -> dict[str, FieldValue]:
        """The headers, decoded once.

        Raises:
            DecodeError: they are malformed. Every other property can still be read.
        """
        if self._headers is None:
            self._headers = decode_table(self.raw_headers)
        return self._headers

    @property
    def has_amqpjobs_headers(self) -> bool:
        """Whether one of the headers may be ours: when not, they need not be decoded to know."""
        return PREFIX in self.raw_headers

    def properties(self) -> Properties:
        """All properties as a value.

        Raises:
            DecodeError: the headers are malformed.
        """
        return Properties(*_values_of(self))

    def bare_properties(self) -> Properties:
        """All properties but the headers, for a message whose headers are malformed."""
        return Properties(**{name: getattr(self, name) for name in _KINDS if name != "headers"})


def split_header(payload: bytes) -> HeaderView:
    """Read a content header's properties without decoding its headers table.

    Args:
        payload: what stands in the header frame: class, weight, body size, flags, fields.

    Raises:
        DecodeError: the bytes are not a content header of AMQP's class ``basic``.
    """
    if payload[:4] != _CLASS_AND_WEIGHT:
        raise DecodeError("malformed properties: not the content header of a message")
    try:
        return HeaderView(_split_fields(payload))
    except MALFORMED as problem:
        raise DecodeError(f"malformed properties: {problem}") from problem


def readable_properties(payload: bytes) -> Properties:
    """As many of a content header's properties as can be read; what cannot is left out."""
    try:
        view = split_header(payload)
    except DecodeError:
        return Properties(content_type="application/octet-stream")
    try:
        return view.properties()
    except DecodeError:
        return view.bare_properties()


def decode_header(payload: bytes) -> Properties:
    """Decode a content header, its headers table included.

    Raises:
        DecodeError: as `split_header`, or the headers are malformed.
    """
    return split_header(payload).properties()


def body_size(payload: bytes) -> int:
    """How many bytes of body the content header announces.

    Raises:
        DecodeError: the payload is too short to be a content header.
    """
    try:
        return int(_BODY_SIZE.unpack_from(payload, 4)[0])
    except MALFORMED as problem:
        raise DecodeError(f"malformed properties: {problem}") from problem


@lru_cache(maxsize=1024)
def _encode_method(channel: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:
    # Bounded, because replies go to routing keys that strangers make up.
    arguments = b"".join(
        (
            b"\0\0",  # was AMQP 0-8's access ticket
            short_string(exchange, "the exchange's name"),
            short_string(routing_key, "the routing key"),
            b"\1" if mandatory else b"\0",
        )
    )
    start = _FRAME.pack(FRAME_METHOD, channel, len(arguments) + 4)
    return b"".join((start, _METHOD.pack(_BASIC, _PUBLISH), arguments, _END))


def _body_frames(channel: int, body: bytes, limit: int) -> Iterator[bytes | memoryview]:
    view = memoryview(body)  # a slice of it is no copy: the join above makes the only one
    for start in range(0, len(body), limit):
        chunk = view[start : start + limit]
        yield _FRAME.pack(FRAME_BODY, channel, len(chunk))
        yield chunk
        yield _END


def _encode_octet(value: int, name: str) -> bytes:
    if not isinstance(value, int) or not 0 <= value <= 255:
        raise ValueError(f"{name} is {value!r}, AMQP allows 0 to 255")
    return bytes((value,))


def _encode_timestamp(value: int, name: str) -> bytes:
    if not isinstance(value, int) or not 0 <= value <= 0xFFFFFFFFFFFFFFFF:
        raise ValueError(f"{name} is {value!r}, AMQP allows whole seconds since 1970")
    return _TIMESTAMP.pack(value)


# Most messages of a process have these in common, but for the second of the timestamp, so that they
# are encoded once for all. `typed`, because True and 1.0 equal 1 and must not pass for it. Bounded,
# because expirations and reply queues are of many kinds.
@lru_cache(maxsize=1024, typed=True)
def _encode_common(
    content_type: str | None,
    content_encoding: str | None,
    delivery_mode: int | None,
    priority: int | None,
    reply_to: str | None,
    expiration: str | None,
    timestamp: int | None,
    type_: str | None,
    user_id: str | None,
    app_id: str | None,
) -> tuple[int, bytes, bytes, bytes, bytes]:
    """The flags of these, and the fields themselves: those before the headers, before the
    correlation id, before the message id, and after it."""
    flags = 0

    def encoded(**given: Any) -> bytes:
        nonlocal flags
        fields = []
        for name, value in given.items():
            if value is not None:
                fields.append(_ENCODERS[_KINDS[name]](value, name))
                flags |= _FLAG_OF[name]
        return b"".join(fields)

    first = encoded(content_type=content_type, content_encoding=content_encoding)
    second = encoded(delivery_mode=delivery_mode, priority=priority)
    third = encoded(reply_to=reply_to, expiration=expiration)
    last = encoded(timestamp=timestamp, type=type_, user_id=user_id, app_id=app_id)
    return flags, first, second, third, last


_ENCODERS: dict[_Kind, Callable[[Any, str], bytes]] = {
    "string": short_string,
    "octet": _encode_octet,
    "timestamp": _encode_timestamp,
}


@lru_cache(maxsize=256)
def _plan(flags: int) -> tuple[tuple[int, _Kind], ...]:
    """Which fields stand behind these flags: the place of each among `_FIELDS`, and its kind.

    Cached, because the messages of one publisher nearly always have the same ones.
    """
    if flags & _UNDEFINED_FLAGS:
        raise ValueError(f"property flags {flags:#06x}, which AMQP 0-9-1 does not define")
    fields = (*_FIELDS, ("cluster_id", _RESERVED_FLAG, "string"))
    return tuple((place, kind) for place, (_, flag, kind) in enumerate(fields) if flags & flag)


def _split_fields(payload: bytes) -> list[Any]:
    values: list[Any] = [None] * (len(_FIELDS) + 1)
    values[_PLACE_OF_HEADERS] = b""
    at = 14
    for place, kind in _plan(_FLAGS.unpack_from(payload, 12)[0]):
        if kind == "string":
            start = at + 1
            at = start + payload[at]
            values[place] = payload[start:at].decode()
        elif kind == "octet":
            values[place] = payload[at]
            at += 1
        elif kind == "table":
            start = at + 4
            at = start + _LENGTH.unpack_from(payload, at)[0]
            values[place] = payload[start:at]
        else:
            values[place] = _TIMESTAMP.unpack_from(payload, at)[0]
            at += 8
    # Slices that go past the end are cut short without a word; this is where it shows.
    if at != len(payload):
        raise ValueError("the fields do not fill the frame" if at < len(payload) else "cut short")
    return values
