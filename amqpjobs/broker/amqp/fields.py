"""Field tables, the values of AMQP headers, in the dialect that RabbitMQ speaks.

The dialect differs from the specification's grammar:
https://www.rabbitmq.com/docs/amqp-0-9-1-errata#section_3 has the tags and their sizes.

Changes when that dialect changes.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from struct import Struct
from struct import error as StructError  # noqa: N812 - it is a class, and is used as one

from amqpjobs.errors import DecodeError
from amqpjobs.jobs.message.properties import FieldValue, Headers

MAX_DEPTH = 32
"""How deep tables and arrays may be nested. The encoder has the same limit as the decoder, so
that whatever was received can be sent on."""

MALFORMED = (ValueError, IndexError, OverflowError, StructError)
"""What reading hostile bytes can raise. UnicodeDecodeError is a ValueError."""

_MAX_SHORT = 255
_OCTETS = tuple(bytes((number,)) for number in range(256))
_INT32 = Struct(">ci")
_INT64 = Struct(">cq")
_DOUBLE = Struct(">cd")
_DECIMAL = Struct(">cBi")
_TIMESTAMP = Struct(">cQ")
_LONG = Struct(">cI")
_LENGTH = Struct(">I")

_FIXED = {
    ord(tag): Struct(form)
    for tag, form in {
        "t": ">?",
        "b": ">b",
        "B": ">B",
        "s": ">h",
        "u": ">H",
        "I": ">i",
        "i": ">I",
        "l": ">q",
        "L": ">q",
        "f": ">f",
        "d": ">d",
    }.items()
}
_STRING, _BYTES, _TABLE, _ARRAY = b"SxFA"
_VOIDS = b"V\0"  # some clients write a zero octet for "nothing"


def short_string(text: str, what: str) -> bytes:
    """Encode a string with a length octet, as names and most properties are.

    Args:
        text: the string.
        what: what it is, for the error message.

    Raises:
        ValueError: it is over 255 bytes long in UTF-8, or not a string that UTF-8 can hold.
    """
    try:
        content = text.encode()
    except (UnicodeEncodeError, AttributeError) as problem:
        raise ValueError(f"{what} is not text: {problem}") from problem
    if len(content) > _MAX_SHORT:
        raise ValueError(f"{what} is {len(content)} bytes long, AMQP allows {_MAX_SHORT}")
    return _OCTETS[len(content)] + content


@lru_cache(maxsize=256)
def _header_name(name: str) -> bytes:
    return short_string(name, "its name")


def encode_table(table: Headers, depth: int = 1) -> bytes:
    """Encode a field table with its length.

    Raises:
        ValueError: a value that a field table cannot hold; the message says which header.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    parts = []
    for name, value in table.items():
        try:
            parts.append(_header_name(name))
            parts.append(_encode_value(value, depth))
        except ValueError as problem:
            raise ValueError(f"header {name!r}: {problem}") from problem
    content = b"".join(parts)
    return _LENGTH.pack(len(content)) + content


def decode_table(content: bytes) -> dict[str, FieldValue]:
    """Decode the entries of a field table; `content` is what stands behind its length.

    A string that is not UTF-8 comes back as bytes. A timestamp too large for seconds is taken as
    milliseconds: clients in other languages send those. Of a name that comes twice the last
    value counts.

    Raises:
        DecodeError: the bytes are not a field table, or nested deeper than `MAX_DEPTH`.
    """
    try:
        return _decode_entries(content, 0, len(content), 1)
    except MALFORMED as problem:
        raise DecodeError(f"malformed headers: {problem}") from problem


def _encode_value(value: FieldValue, depth: int) -> bytes:
    if type(value) is int:  # a deadline, on every request
        return _encode_int(value)
    if isinstance(value, str):
        text = value.encode()
        return _LONG.pack(b"S", len(text)) + text
    if value is None or isinstance(value, int | float | bytes | bytearray | Decimal | datetime):
        return _encode_scalar(value)
    if isinstance(value, Mapping):
        return b"F" + encode_table(value, depth + 1)
    if isinstance(value, Sequence):
        if depth >= MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        content = b"".join([_encode_value(item, depth + 1) for item in value])
        return _LONG.pack(b"A", len(content)) + content
    raise ValueError(f"{type(value).__name__} is not a type that a header can have")


def _encode_scalar(value: int | float | bytes | bytearray | Decimal | datetime | None) -> bytes:
    match value:
        case None:
            return b"V"
        case bool():  # ahead of int: a bool is one
            return b"t\1" if value else b"t\0"
        case int():
            return _encode_int(value)
        case float():
            return _DOUBLE.pack(b"d", value)
        case Decimal():
            return _encode_decimal(value)
        case datetime():
            return _encode_datetime(value)
        case _:
            return _LONG.pack(b"x", len(value)) + value


def _encode_int(value: int) -> bytes:
    # Two widths, both signed: of the nine tags for integers these are the two on whose meaning
    # the specification, RabbitMQ and the clients in other languages agree.
    if -0x80000000 <= value <= 0x7FFFFFFF:
        return _INT32.pack(b"I", value)
    if -0x8000000000000000 <= value <= 0x7FFFFFFFFFFFFFFF:
        return _INT64.pack(b"l", value)
    raise ValueError("the number does not fit in 64 bits")


def _encode_decimal(value: Decimal) -> bytes:
    sign, digits, exponent = value.as_tuple()
    # Looked at before any arithmetic: Decimal("1e999999999") as an integer would fill the memory.
    if not isinstance(exponent, int) or not -255 <= exponent <= 9:
        raise ValueError(f"AMQP cannot hold the decimal {value}")
    mantissa = int("".join(map(str, digits))) * 10 ** max(exponent, 0)
    if sign:
        mantissa = -mantissa
    if not -0x80000000 <= mantissa <= 0x7FFFFFFF:
        raise ValueError(f"AMQP cannot hold the decimal {value}: its digits do not fit in 32 bits")
    return _DECIMAL.pack(b"D", max(-exponent, 0), mantissa)


def _encode_datetime(value: datetime) -> bytes:
    if value.utcoffset() is None:
        raise ValueError("a time without a time zone: which second it means cannot be known")
    seconds = int(value.timestamp())
    if seconds < 0:
        raise ValueError("AMQP cannot hold a time before 1970")
    return _TIMESTAMP.pack(b"T", seconds)


def _decode_entries(data: bytes, at: int, end: int, depth: int) -> dict[str, FieldValue]:
    table: dict[str, FieldValue] = {}
    while at < end:
        start = at + 1
        at = start + data[at]
        name = data[start:at].decode()
        table[name], at = _decode_value(data, at, end, depth)
    if at != end:  # a name that goes past the end, and a value without content behind it
        raise ValueError("an entry is longer than its table")
    return table


def _decode_items(data: bytes, at: int, end: int, depth: int) -> list[FieldValue]:
    items: list[FieldValue] = []
    while at < end:
        item, at = _decode_value(data, at, end, depth)
        items.append(item)
    return items


def _decode_value(data: bytes, at: int, end: int, depth: int) -> tuple[FieldValue, int]:
    """Decode the value whose tag is at `at`; return it and where the next one starts.

    No value goes past `end`. Only the tag may be read there, when a table's last name has gone
    past it: the caller finds that.
    """
    tag = data[at]
    at += 1
    if (fixed := _FIXED.get(tag)) is not None:
        return fixed.unpack_from(data, at)[0], _within(at + fixed.size, end)
    if (converted := _CONVERTED.get(tag)) is not None:
        form, convert = converted
        return convert(*form.unpack_from(data, at)), _within(at + form.size, end)
    if tag in _VOIDS:
        return None, at
    (length,) = _LENGTH.unpack_from(data, at)
    start = at + 4
    stop = _within(start + length, end)
    return _decode_long(tag, data, start, stop, depth), stop


def _decode_long(tag: int, data: bytes, start: int, stop: int, depth: int) -> FieldValue:
    if tag == _STRING:
        content = data[start:stop]
        try:
            return content.decode()
        except UnicodeDecodeError:
            return content
    if tag == _BYTES:
        return data[start:stop]
    if depth >= MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    if tag == _TABLE:
        return _decode_entries(data, start, stop, depth + 1)
    if tag == _ARRAY:
        return _decode_items(data, start, stop, depth + 1)
    raise ValueError(f"unknown type of value {tag:#x}")


def _to_decimal(places: int, mantissa: int) -> Decimal:
    # From text, because arithmetic would round to the precision of whoever set the context.
    return Decimal(f"{mantissa}E-{places}")


def _to_datetime(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds if seconds <= 0xFFFFFFFF else seconds / 1000, UTC)


def _within(stop: int, end: int) -> int:
    if stop > end:
        raise ValueError("a value is longer than what holds it")
    return stop


_CONVERTED: dict[int, tuple[Struct, Callable[..., FieldValue]]] = {
    ord("D"): (Struct(">Bi"), _to_decimal),
    ord("T"): (Struct(">Q"), _to_datetime),
}
