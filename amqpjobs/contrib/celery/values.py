"""The JSON of kombu, Celery's messaging library: values that JSON does not have are marked.

``{"__type__": "datetime", "__value__": "2026-01-02T03:04:05+00:00"}`` is a datetime. Changes when
kombu marks another type (https://github.com/celery/kombu/blob/main/kombu/utils/json.py).
"""

import uuid
from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final

from pydantic_core import PydanticSerializationError, from_json, to_json, to_jsonable_python

from amqpjobs.errors import DecodeError
from amqpjobs.jobs.roundtrip.encoded_bytes import encoded

MARKS: Final = {"__type__", "__value__"}

TEXTS: Final = frozenset({"datetime", "date", "time", "decimal"})
"""Types whose value is a text that pydantic reads."""


def read_json(data: bytes) -> Any:
    """Decode JSON.

    Raises:
        DecodeError: it is none. The error does not show the data.
    """
    try:
        return from_json(data)
    except ValueError as error:
        raise DecodeError(f"the body is not JSON: {error}") from None


def write_json(value: object) -> bytes:
    """Encode what `plain` or `marked` returned.

    Raises:
        DecodeError: it cannot become JSON.
    """
    try:
        return to_json(value)
    except (PydanticSerializationError, ValueError) as error:
        raise DecodeError(f"the body cannot be read as JSON: {error}") from None


def plain(value: Any) -> Any:
    """A decoded value with the marks undone, as amqpjobs writes such values in JSON: texts, and
    base64url for bytes.

    Raises:
        DecodeError: a mark makes no sense.
    """
    if isinstance(value, list):
        return [plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == MARKS:
        return _unmarked(value["__type__"], value["__value__"])
    return {name: plain(each) for name, each in value.items()}


def _unmarked(kind: object, value: object) -> object:
    if isinstance(value, str) and isinstance(kind, str):
        if kind in TEXTS:
            return value
        if kind == "bytes":
            return encoded(value.encode())
        if kind == "base64":
            return encoded(_bytes_of(value))
    if kind == "uuid" and isinstance(value, dict) and isinstance(value.get("hex"), str):
        try:
            return str(uuid.UUID(hex=value["hex"]))
        except ValueError:
            raise DecodeError("an argument of the type 'uuid' is none") from None
    raise DecodeError(
        f"an argument of the type {str(kind)[:50]!r} cannot be read: kombu itself has datetime, "
        "date, time, decimal, uuid and bytes. Send what JSON has"
    )


def _bytes_of(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError:
        raise DecodeError("an argument of the type 'base64' is not base64") from None


def marked(value: Any) -> Any:
    """A value as kombu encodes it: marked where JSON does not have it; models and dataclasses as
    objects.

    Raises:
        PydanticSerializationError: nothing can be made of it.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(name): marked(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [marked(each) for each in value]
    found = _mark_of(value)
    return to_jsonable_python(value) if found is None else _mark(*found)


def _mark_of(value: object) -> tuple[str, object] | None:
    match value:
        case datetime():
            return "datetime", value.isoformat()
        case date():
            return "date", value.isoformat()
        case time():
            return "time", value.isoformat()
        case Decimal():
            return "decimal", str(value)
        case uuid.UUID():
            return "uuid", {"hex": value.hex}
        case bytes() | bytearray():
            return "base64", b64encode(value).decode()
        case _:
            return None


def _mark(kind: str, value: object) -> dict[str, object]:
    return {"__type__": kind, "__value__": value}
