"""Values of field tables as RabbitMQ holds them: each with the type that it was sent as.

A client that binds with the number 1 as a byte, and unbinds with 1 as a long, unbinds nothing:
RabbitMQ compares the types too. Python's values do not have them, so tables are read from their
bytes.

Sources: RabbitMQ's ``rabbit_binary_parser`` and ``rabbit_exchange_type_headers``.
Changes when RabbitMQ reads or compares tables in another way.
"""

from collections.abc import Iterator, Mapping
from struct import Struct
from typing import NamedTuple, TypeAlias

from amqpjobs.broker.amqp.fields import MALFORMED, encode_table
from amqpjobs.errors import DecodeError
from amqpjobs.jobs.message.properties import FieldValue

Term: TypeAlias = "int | float | bytes | str | tuple[Term | Field, ...]"
"""Text and binaries are bytes, a `str` is an atom (``true``), tables and arrays are tuples."""

_LENGTH = Struct(">I")
_DECIMAL = Struct(">BI")
_NUMBERS = {
    ord(tag): (name, Struct(form))
    for tag, name, form in (
        ("b", "byte", ">b"),
        ("B", "unsignedbyte", ">B"),
        ("s", "short", ">h"),
        ("u", "unsignedshort", ">H"),
        ("I", "signedint", ">i"),
        ("i", "unsignedint", ">I"),
        ("l", "long", ">q"),
        ("L", "long", ">q"),
        ("T", "timestamp", ">Q"),
        ("f", "float", ">f"),
        ("d", "double", ">d"),
    )
}
_BINARIES = {ord("S"): "longstr", ord("x"): "binary"}
_TABLE, _ARRAY, _BOOL, _SCALED = b"FAtD"
_VOIDS = b"V\0"


class Table(dict[str, FieldValue]):
    """A field table of a method, with the bytes that it came as.

    Attributes:
        content: its entries, behind their length.
    """

    __slots__ = ("content",)

    def __init__(self, values: Mapping[str, FieldValue], content: bytes) -> None:
        super().__init__(values)
        self.content = content


class Field(NamedTuple):
    """One entry of a table, or with an empty name one item of an array."""

    name: str
    type: str
    value: Term


def fields_of(arguments: Mapping[str, FieldValue]) -> tuple[Field, ...]:
    """The arguments of a method in the order of their names: what RabbitMQ keeps of a binding.

    Arguments that are no `Table` are taken as amqpjobs would send them.
    """
    if isinstance(arguments, Table):
        return read_fields(arguments.content)
    return read_fields(encode_table(arguments)[4:])


def read_fields(entries: bytes) -> tuple[Field, ...]:
    """The entries of a table, in the order of their names.

    Raises:
        DecodeError: the bytes are malformed.
    """
    try:
        return tuple(sorted(_entries(entries, 0, len(entries)), key=lambda field: field.name))
    except (*MALFORMED, RecursionError) as problem:
        raise DecodeError(f"malformed headers: {problem}") from problem


def field_named(name: str, arguments: Mapping[str, FieldValue]) -> Field | None:
    """One argument with its type; None when it is not there."""
    if name not in arguments:
        return None
    return next(field for field in fields_of(arguments) if field.name == name)


def erlang(field: Field) -> str:
    """A value as Erlang prints it (``~p``); what Erlang breaks into lines is one line here."""
    match field.value:
        case bytes(content):
            return _binary(content)
        case tuple(items) if field.type == "decimal":
            return f"{{{','.join(map(str, items))}}}"
        case tuple(items):
            return f"[{','.join(_item(item) for item in items if isinstance(item, Field))}]"
        case value:
            return str(value)


def _item(field: Field) -> str:
    name = f"{_binary(field.name.encode())}," if field.name else ""
    return f"{{{name}{field.type},{erlang(field)}}}"


def _binary(content: bytes) -> str:
    if not content:
        return "<<>>"
    text = content.decode("ascii", "replace")
    if not text.isprintable() or "\ufffd" in text:
        return f"<<{','.join(map(str, content))}>>"
    escaped = text.replace("\\", r"\\").replace('"', r"\"")
    return f'<<"{escaped}">>'


def _entries(data: bytes, at: int, end: int) -> Iterator[Field]:
    while at < end:
        start = at + 1
        at = start + data[at]
        name = data[start:at].decode()
        kind, value, at = _value(data, at)
        yield Field(name, kind, value)
    _check_end(at, end)


def _items(data: bytes, at: int, end: int) -> Iterator[Field]:
    while at < end:
        kind, value, at = _value(data, at)
        yield Field("", kind, value)
    _check_end(at, end)


def _check_end(at: int, end: int) -> None:
    if at != end:
        raise ValueError("a value is longer than what holds it")


def _value(data: bytes, at: int) -> tuple[str, Term, int]:
    """The type and the value whose tag is at `at`, and where the next one starts."""
    tag = data[at]
    at += 1
    if (number := _NUMBERS.get(tag)) is not None:
        kind, form = number
        return kind, form.unpack_from(data, at)[0], at + form.size
    if tag == _BOOL:
        return "bool", "true" if data[at] else "false", at + 1
    if tag in _VOIDS:
        return "void", "undefined", at
    if tag == _SCALED:
        return "decimal", _DECIMAL.unpack_from(data, at), at + _DECIMAL.size
    start = at + 4
    stop = start + int(_LENGTH.unpack_from(data, at)[0])
    if tag in _BINARIES:
        return _BINARIES[tag], data[start:stop], stop
    if tag == _TABLE:
        return "table", tuple(_entries(data, start, stop)), stop
    if tag == _ARRAY:
        return "array", tuple(_items(data, start, stop)), stop
    raise ValueError(f"unknown type of value {tag:#x}")
