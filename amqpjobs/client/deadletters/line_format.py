"""Dead letters as lines of JSON, and back without a loss: headers keep their AMQP types.

A table, a list, a text, a number are what they are in JSON. Of the rest each is an object with one
key: ``$bytes`` (base64), ``$timestamp`` (ISO 8601), ``$decimal``, ``$float`` (what JSON has no
number for), ``$table`` (a table that would look like one of these). Changes when the format does.
"""

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from amqpjobs.client.deadletters.letter import Letter
from amqpjobs.errors import DecodeError
from amqpjobs.jobs.message.copies import copied
from amqpjobs.jobs.message.headers import failure_of
from amqpjobs.jobs.message.properties import FieldValue, Properties
from amqpjobs.telemetry.safe_text import on_one_line

PROPERTIES = tuple(name for name in Properties._fields if name != "headers")
NUMBERS = frozenset({"delivery_mode", "priority", "timestamp"})
KEYS = frozenset({
    "id", "job", "from", "queue", "routing_key", "properties", "headers", "body", "body_base64",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """A dead letter as a line of a file.

    Attributes:
        place: the AMQP queue that it was in.
        routing_key: with which it had come there.
    """

    place: str
    routing_key: str
    properties: Properties
    body: bytes


def line_of(letter: Letter) -> bytes:
    """A letter as one line, with its end."""
    properties = letter.properties
    told = {name: getattr(properties, name) for name in PROPERTIES}
    line: dict[str, Any] = {
        "id": letter.id,
        "job": letter.job,
        "from": letter.place,
        "queue": letter.queue,
        "routing_key": letter.routing_key,
        "properties": {name: value for name, value in told.items() if value is not None},
        "headers": {name: to_json(value) for name, value in properties.headers.items()},
    }
    try:
        line["body"] = letter.body.decode()
    except UnicodeDecodeError:
        line["body_base64"] = base64.b64encode(letter.body).decode()
    text = json.dumps(line, ensure_ascii=False, allow_nan=False)
    return on_one_line(text).encode() + b"\n"


def read_line(line: bytes) -> Line:
    """A line as a letter.

    Raises:
        DecodeError: it is none; says what is wrong with it.
    """
    try:
        return _read(json.loads(line, parse_constant=_no_constant))
    except RecursionError:
        raise DecodeError("nested too deeply") from None
    except ValueError as error:
        if line.lstrip().startswith(b"{") and not line.endswith((b"}", b"\n")):
            # What an export takes out of a queue has a whole line in the file before that.
            raise DecodeError(
                "it is cut off; if an export was interrupted, its job is still in its queue, so "
                "remove the line"
            ) from None
        raise DecodeError(f"not JSON: {error}") from None


def _read(told: Any) -> Line:
    if not isinstance(told, dict):
        raise DecodeError("not a JSON object")
    if unknown := sorted(told.keys() - KEYS):
        raise DecodeError(f"{unknown[0]!r} is not a field of a dead letter")
    headers = told.get("headers", {})
    if not isinstance(headers, dict):
        raise DecodeError("'headers' is not an object")
    properties = _properties(told.get("properties", {}))._replace(
        headers={name: from_json(value) for name, value in headers.items()},
    )
    return Line(_text(told, "from"), _text(told, "routing_key", ""), properties, _body(told))


def imported(line: Line) -> Properties:
    """The properties with which a line goes back into the dead letters: its failure stays, and
    what would act on a copy is left out."""
    return copied(line.properties, failure_of(line.properties.headers))


def to_json(value: FieldValue) -> Any:
    """The value of a header as JSON can hold it."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else {"$float": str(value)}
        case bytes() | bytearray():
            return {"$bytes": base64.b64encode(value).decode()}
        case Decimal():
            return {"$decimal": str(value)}
        case datetime():
            return {"$timestamp": value.isoformat()}
        case Mapping():
            table = {name: to_json(item) for name, item in value.items()}
            return {"$table": table} if _is_marked(table) else table
        case _:
            return [to_json(item) for item in value]


def from_json(value: Any) -> FieldValue:
    """The value of a header from what `to_json` made of it.

    Raises:
        DecodeError: it is not of its making.
    """
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value  # type: ignore[no-any-return]
    if not _is_marked(value):
        return {name: from_json(item) for name, item in value.items()}
    ((mark, content),) = value.items()
    if mark == "$table" and isinstance(content, dict):
        return {name: from_json(item) for name, item in content.items()}
    try:
        return _marked(mark, content)
    except (TypeError, ValueError, ArithmeticError):
        raise DecodeError(f"{mark!r} cannot be {json.dumps(content)[:50]}") from None


def _marked(mark: str, content: Any) -> FieldValue:
    if not isinstance(content, str):
        raise TypeError(content)
    match mark:
        case "$bytes":
            return base64.b64decode(content, validate=True)
        case "$timestamp":
            return datetime.fromisoformat(content)
        case "$decimal":
            return Decimal(content)
        case "$float":
            return float(content)
        case _:
            raise ValueError(mark)


def _is_marked(table: Mapping[str, Any]) -> bool:
    return len(table) == 1 and next(iter(table)).startswith("$")


def _properties(told: Any) -> Properties:
    if not isinstance(told, dict):
        raise DecodeError("'properties' is not an object")
    for name, value in told.items():
        if name not in PROPERTIES:
            raise DecodeError(f"{name!r} is no property of AMQP")
        kind = int if name in NUMBERS else str
        if not isinstance(value, kind) or isinstance(value, bool):
            raise DecodeError(f"the property {name!r} is not a {kind.__name__}")
    return Properties(**told)


def _body(told: dict[str, Any]) -> bytes:
    if ("body" in told) == ("body_base64" in told):
        raise DecodeError("it has one of 'body' and 'body_base64'")
    if "body" in told:
        return _text(told, "body").encode()
    try:
        return base64.b64decode(_text(told, "body_base64"), validate=True)
    except ValueError:
        raise DecodeError("'body_base64' is not base64") from None


def _text(told: dict[str, Any], name: str, default: str | None = None) -> str:
    value = told.get(name, default)
    if not isinstance(value, str):
        raise DecodeError(f"{name!r} is not a text, or is missing")
    return value


def _no_constant(name: str) -> float:
    raise DecodeError(f"{name} is no number of JSON")
