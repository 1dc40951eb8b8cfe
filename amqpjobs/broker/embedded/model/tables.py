"""Headers that the broker adds to a message, whose other headers stay as they were, byte by byte.

A client that tells a long from an int must find what RabbitMQ sends. So the entries that came in
are not decoded, and numbers that the broker adds are longs. Changes when RabbitMQ adds others.
"""

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from struct import Struct

from amqpjobs.broker.amqp.fields import MALFORMED, encode_table, short_string
from amqpjobs.errors import DecodeError
from amqpjobs.jobs.message.properties import FieldValue

_LENGTH = Struct(">I")
_LONG = Struct(">cq")
_TAGGED = Struct(">cI")

_SIZES = {
    ord(tag): size
    for tags, size in {"tbB": 1, "su": 2, "Iif": 4, "D": 5, "lLdT": 8, "V\0": 0}.items()
    for tag in tags
}
_WITH_LENGTH = b"SxFA"
_HAS_TYPE, _HAS_ENCODING, _HAS_HEADERS = 0x80, 0x40, 0x20  # in the first octet of a header


def entries_of(header: bytes) -> bytes:
    """The entries of the headers table in a content header's flags and fields.

    Raises:
        DecodeError: the bytes are malformed.
    """
    try:
        if not header[0] & _HAS_HEADERS:
            return b""
        start = _start(header)
        end = start + 4 + _LENGTH.unpack_from(header, start)[0]
    except MALFORMED as problem:
        raise DecodeError(f"malformed properties: {problem}") from problem
    return header[start + 4 : end]


def with_entries(header: bytes, entries: bytes) -> bytes:
    """A content header's flags and fields, with these entries in its headers table.

    Raises:
        DecodeError: the bytes are malformed.
    """
    try:
        start = end = _start(header)
        if header[0] & _HAS_HEADERS:
            end = start + 4 + _LENGTH.unpack_from(header, start)[0]
    except MALFORMED as problem:
        raise DecodeError(f"malformed properties: {problem}") from problem
    flags = bytes((header[0] | _HAS_HEADERS, header[1]))
    table = _LENGTH.pack(len(entries)) + entries
    return b"".join((flags, header[2:start], table, header[end:]))


def without(entries: bytes, names: Collection[str]) -> bytes:
    """The entries, but for those of these names.

    Raises:
        DecodeError: the bytes are malformed.
    """
    if not any(name.encode() in entries for name in names):
        return entries
    try:
        return b"".join(entry for name, entry in _split(entries) if name not in names)
    except MALFORMED as problem:
        raise DecodeError(f"malformed headers: {problem}") from problem


def encode_entries(values: Mapping[str, FieldValue]) -> bytes:
    """Entries as RabbitMQ writes them: numbers are longs."""
    return b"".join(short_string(name, "its name") + _value(each) for name, each in values.items())


def _value(value: FieldValue) -> bytes:
    if isinstance(value, bool | None | float | datetime | bytes):
        return encode_table({"": value})[5:]  # behind the table's length and the empty name
    if isinstance(value, int):
        return _LONG.pack(b"l", value)
    if isinstance(value, str):
        text = value.encode()
        return _TAGGED.pack(b"S", len(text)) + text
    if isinstance(value, Mapping):
        entries = encode_entries(value)
        return _TAGGED.pack(b"F", len(entries)) + entries
    if isinstance(value, list | tuple):
        items = b"".join(map(_value, value))
        return _TAGGED.pack(b"A", len(items)) + items
    return encode_table({"": value})[5:]


def _start(header: bytes) -> int:
    at = 2
    for flag in (_HAS_TYPE, _HAS_ENCODING):
        if header[0] & flag:
            at += 1 + header[at]
    return at


def _split(entries: bytes) -> Iterator[tuple[str, bytes]]:
    at = 0
    while at < len(entries):
        start = at
        at += 1 + entries[at]
        name = entries[start + 1 : at].decode()
        tag = entries[at]
        at += 1
        if tag in _WITH_LENGTH:
            at += 4 + int(_LENGTH.unpack_from(entries, at)[0])
        elif tag in _SIZES:
            at += _SIZES[tag]
        else:
            raise ValueError(f"unknown type of value {tag:#x}")
        if at > len(entries):
            raise ValueError("a value is longer than what holds it")
        yield name, entries[start:at]
