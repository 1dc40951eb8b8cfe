"""The methods of AMQP 0-9-1 as bytes: what the embedded broker reads and what it says.

pamqp, which the client side uses, will not do here: it refuses to write a name that RabbitMQ
takes (a space, an umlaut), and importing it takes longer than starting the broker. The tests hold
every method of this table against pamqp's.

Changes when a method comes into use.
"""

from collections.abc import Mapping
from struct import Struct
from typing import Any, Final, NamedTuple

from amqpjobs.broker.amqp.fields import MALFORMED, decode_table, encode_table, short_string
from amqpjobs.broker.amqp.frames import FRAME_END, FRAME_METHOD
from amqpjobs.broker.embedded.model.terms import Table
from amqpjobs.errors import DecodeError

_SPECIFICATION: Final = """
10 10 connection.start version_major:octet version_minor:octet server_properties:table \
mechanisms:long_string locales:long_string
10 11 connection.start-ok client_properties:table mechanism:string response:long_bytes locale:string
10 30 connection.tune channel_max:short frame_max:long heartbeat:short
10 31 connection.tune-ok channel_max:short frame_max:long heartbeat:short
10 40 connection.open virtual_host:string _:string _:bit
10 41 connection.open-ok _:string
10 50 connection.close code:short text:string class_id:short method_id:short
10 51 connection.close-ok
10 60 connection.blocked reason:string
10 61 connection.unblocked
10 70 connection.update-secret new_secret:long_bytes reason:string
10 71 connection.update-secret-ok
20 10 channel.open _:string
20 11 channel.open-ok _:long_string
20 20 channel.flow active:bit
20 21 channel.flow-ok active:bit
20 40 channel.close code:short text:string class_id:short method_id:short
20 41 channel.close-ok
30 10 access.request realm:string exclusive:bit passive:bit active:bit write:bit read:bit
30 11 access.request-ok ticket:short
40 10 exchange.declare _:short exchange:string type:string passive:bit durable:bit \
auto_delete:bit internal:bit nowait:bit arguments:table
40 11 exchange.declare-ok
40 20 exchange.delete _:short exchange:string if_unused:bit nowait:bit
40 21 exchange.delete-ok
40 30 exchange.bind _:short destination:string source:string routing_key:string nowait:bit \
arguments:table
40 31 exchange.bind-ok
40 40 exchange.unbind _:short destination:string source:string routing_key:string nowait:bit \
arguments:table
40 51 exchange.unbind-ok
50 10 queue.declare _:short queue:string passive:bit durable:bit exclusive:bit auto_delete:bit \
nowait:bit arguments:table
50 11 queue.declare-ok queue:string message_count:long consumer_count:long
50 20 queue.bind _:short queue:string exchange:string routing_key:string nowait:bit arguments:table
50 21 queue.bind-ok
50 30 queue.purge _:short queue:string nowait:bit
50 31 queue.purge-ok message_count:long
50 40 queue.delete _:short queue:string if_unused:bit if_empty:bit nowait:bit
50 41 queue.delete-ok message_count:long
50 50 queue.unbind _:short queue:string exchange:string routing_key:string arguments:table
50 51 queue.unbind-ok
60 10 basic.qos prefetch_size:long prefetch_count:short global_:bit
60 11 basic.qos-ok
60 20 basic.consume _:short queue:string consumer_tag:string no_local:bit no_ack:bit \
exclusive:bit nowait:bit arguments:table
60 21 basic.consume-ok consumer_tag:string
60 30 basic.cancel consumer_tag:string nowait:bit
60 31 basic.cancel-ok consumer_tag:string
60 40 basic.publish _:short exchange:string routing_key:string mandatory:bit immediate:bit
60 50 basic.return code:short text:string exchange:string routing_key:string
60 60 basic.deliver consumer_tag:string delivery_tag:long_long redelivered:bit exchange:string \
routing_key:string
60 70 basic.get _:short queue:string no_ack:bit
60 71 basic.get-ok delivery_tag:long_long redelivered:bit exchange:string routing_key:string \
message_count:long
60 72 basic.get-empty _:string
60 80 basic.ack delivery_tag:long_long multiple:bit
60 90 basic.reject delivery_tag:long_long requeue:bit
60 100 basic.recover-async requeue:bit
60 110 basic.recover requeue:bit
60 111 basic.recover-ok
60 120 basic.nack delivery_tag:long_long multiple:bit requeue:bit
85 10 confirm.select nowait:bit
85 11 confirm.select-ok
90 10 tx.select
90 11 tx.select-ok
90 20 tx.commit
90 21 tx.commit-ok
90 30 tx.rollback
90 31 tx.rollback-ok
"""
"""Number of class and method, name, fields in order. A field named `_` means nothing any more: it
is skipped, and written as zero or empty. amqp0-9-1.extended.xml is the source."""

_FRAME = Struct(">BHI")
_NUMBERS = {
    "octet": Struct(">B"),
    "short": Struct(">H"),
    "long": Struct(">I"),
    "long_long": Struct(">Q"),
}
_LENGTH = Struct(">I")
_END = bytes((FRAME_END,))


class Signature(NamedTuple):
    """One method: how it is numbered, and what stands in it."""

    name: str
    number: int  # class in the upper 16 bits, method in the lower
    fields: tuple[tuple[str, str], ...]  # name and kind, in the order of the wire


def _read_specification() -> dict[int, Signature]:
    signatures = {}
    for line in _SPECIFICATION.strip().splitlines():
        of_class, of_method, name, *fields = line.split()
        number = int(of_class) << 16 | int(of_method)
        pairs = tuple((field, kind) for field, _, kind in (f.partition(":") for f in fields))
        signatures[number] = Signature(name, number, pairs)
    return signatures


SIGNATURES: Final = _read_specification()
NUMBERS: Final = {signature.name: number for number, signature in SIGNATURES.items()}


def encode(channel: int, name: str, **values: Any) -> bytes:
    """A method as a whole frame. A field that is not given is zero, false or empty.

    Raises:
        ValueError: a name or table that AMQP cannot hold.
    """
    signature = SIGNATURES[NUMBERS[name]]
    parts = [_LENGTH.pack(signature.number)]
    bits: list[bool] = []
    for field, kind in signature.fields:
        if kind == "bit":
            bits.append(bool(values.get(field)))
            continue
        _end_bits(bits, parts)
        parts.append(_encode_value(kind, values.get(field), field))
    _end_bits(bits, parts)
    payload = b"".join(parts)
    return b"".join((_FRAME.pack(FRAME_METHOD, channel, len(payload)), payload, _END))


def decode(signature: Signature, data: bytes, at: int, stop: int) -> dict[str, Any]:
    """The fields of a method, by name.

    Args:
        signature: which method it is.
        data: bytes that hold the frame.
        at: where its first field stands, behind the numbers of class and method.
        stop: where its frame's end octet stands.

    Raises:
        DecodeError: the fields are not what the method has.
    """
    values: dict[str, Any] = {}
    bit = 0  # of the octet at `at`: the next one
    try:
        for field, kind in signature.fields:
            if kind == "bit":
                value: Any = bool(data[at] >> bit & 1)
                bit += 1
            else:
                at += bit > 0
                bit = 0
                value, at = _decode_value(kind, data, at)
            if field != "_":
                values[field] = value
    except (DecodeError, *MALFORMED) as problem:
        raise DecodeError(f"malformed {signature.name}: {problem}") from problem
    if at + (bit > 0) != stop:
        raise DecodeError(f"malformed {signature.name}: its fields do not fill the frame")
    return values


def _end_bits(bits: list[bool], parts: list[bytes]) -> None:
    """Bits that stand side by side share an octet; no method has more than eight."""
    if bits:
        parts.append(bytes((sum(bit << place for place, bit in enumerate(bits)),)))
        bits.clear()


def _encode_value(kind: str, value: Any, field: str) -> bytes:
    if kind == "string":
        return short_string(value or "", field)
    if kind == "table":
        table: Mapping[str, Any] = value or {}
        return encode_table(table)
    if kind.startswith("long_") and kind != "long_long":
        content = value.encode() if isinstance(value, str) else value or b""
        return _LENGTH.pack(len(content)) + content
    return _NUMBERS[kind].pack(value or 0)


def _decode_value(kind: str, data: bytes, at: int) -> tuple[Any, int]:
    """A value, and where the next one starts. What goes past the frame shows in its length."""
    if kind == "string":
        stop = at + 1 + data[at]
        return data[at + 1 : stop].decode(), stop
    if kind in _NUMBERS:
        form = _NUMBERS[kind]
        return form.unpack_from(data, at)[0], at + form.size
    stop = at + 4 + _LENGTH.unpack_from(data, at)[0]
    content = data[at + 4 : stop]
    if kind == "table":
        return Table(decode_table(content), content), stop
    return (content if kind == "long_bytes" else content.decode()), stop
