"""Callbacks in a header: calls of jobs that travel with another one, and are sent when it ends.

Any program that may publish can have written one: types and sizes are checked. Changes when a
callback may carry something else.
"""

import base64
import math
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

from amqpjobs.errors import ConfigurationError, DecodeError
from amqpjobs.jobs.message.carried import retry_from, retry_table, tags_from, timeout_from
from amqpjobs.jobs.message.headers import callback_table, callbacks_header
from amqpjobs.jobs.message.ids import new_job_id
from amqpjobs.jobs.message.message import Callbacks, Message, Options, takes_own_id
from amqpjobs.jobs.message.own_headers import NO_OWN_HEADERS, HeaderValue, OwnHeaders
from amqpjobs.jobs.message.properties import JSON, FieldValue, Headers, is_whole

LARGEST: Final = 8192
"""Bytes of all callbacks of a job together: they go along with each of its copies."""

DEEPEST: Final = 20
"""Callbacks of callbacks that are read."""

MOST_TEXT: Final = 255
"""Bytes of a name: AMQP's own limit."""

RESERVED: Final = ("amq.", "amqpjobs.")
"""What the names of queues that are not for jobs begin with."""

Kind: TypeAlias = Literal["success", "failure"]


def header_of(callbacks: Callbacks) -> dict[str, FieldValue]:
    """The header that carries them. The first header has the ids of the messages as they are; each
    further one new ids, since one job with options may be called several times."""
    return callbacks_header(_tables(callbacks, {}))


def check_size(callbacks: Callbacks) -> None:
    """See that they fit into the header.

    Raises:
        ConfigurationError: they do not.
    """
    size = _size(_tables(callbacks, None))
    if size > LARGEST:
        raise ConfigurationError(
            f"on_success and on_failure have {size} bytes together, and travel in a header of "
            f"{LARGEST}: store large arguments elsewhere, and send where they are"
        )


def callback_in(headers: Headers, kind: Kind) -> Message[Any] | None:
    """The callback of a message; None if it has none of this kind.

    Raises:
        ValueError: it makes no sense.
    """
    table = callback_table(headers, kind)
    return None if table is None else _message(table, DEEPEST)


def table_of(message: Message[Any]) -> dict[str, FieldValue]:
    """A call with its options as a table. JSON can hold the table, too."""
    return _table(message, None)


def message_from(table: object, largest: int) -> Message[Any]:
    """The call in a table of `table_of`.

    Args:
        table: as it was read.
        largest: the largest body, in bytes.

    Raises:
        ValueError: the table is malformed.
    """
    return _message(table, DEEPEST, largest)


def _tables(callbacks: Callbacks, ids: dict[str, str] | None) -> dict[str, FieldValue]:
    given = {"success": callbacks.success, "failure": callbacks.failure}
    return {kind: _table(message, ids) for kind, message in given.items() if message is not None}


def _table(message: Message[Any], ids: dict[str, str] | None) -> dict[str, FieldValue]:
    options = message.options
    if ids is not None and message.id not in ids:
        # One message may stand for both ends: then it is one job.
        ids[message.id] = message.id if takes_own_id(message) else new_job_id()
    table: dict[str, FieldValue] = {
        "id": message.id if ids is None else ids[message.id],
        "job": message.job,
        "queue": message.queue,
        **_body_table(message),
        "priority": message.native_priority,
        "tracked": message.tracked,
        "expires": _milliseconds(options.expires),
        "delay": _milliseconds(options.delay),
        "at": _milliseconds(options.at),
        "run_timeout": _milliseconds(options.run_timeout),
        "retry": None if options.retry is None else retry_table(options.retry),
        "tags": list(options.tags) or None,
        "headers": _headers(options.headers),
    }
    if options.callbacks is not None:
        table |= _tables(options.callbacks, ids)
    return {name: value for name, value in table.items() if value is not None}


def _message(table: object, deepest: int, largest: int = LARGEST) -> Message[Any]:
    if not isinstance(table, Mapping) or not deepest:
        raise ValueError("a callback is a table")
    queue = _text(table, "queue")
    if queue.startswith(RESERVED):
        raise ValueError(f"{queue!r} is no queue of jobs")
    priority = table.get("priority")
    if priority is not None and not (is_whole(priority) and 0 <= priority <= 255):
        raise ValueError("its priority is a number from 0 to 255")
    kinds: tuple[Kind, ...] = ("success", "failure")
    of = {kind: _message(table[kind], deepest - 1) for kind in kinds if kind in table}
    options = Options(
        expires=_seconds(table, "expires"),
        delay=_seconds(table, "delay"),
        at=_seconds(table, "at"),
        **_carried(table),
        callbacks=Callbacks(**of) if of else None,
    )
    tracked = None if table.get("tracked") is None else _text(table, "tracked")
    content_type = JSON if table.get("content_type") is None else _text(table, "content_type")
    body = _body(table, largest)
    job_id, job = _text(table, "id"), _text(table, "job")
    return Message(job_id, job, queue, body, options, priority, tracked, content_type)


def _body_table(message: Message[Any]) -> dict[str, FieldValue]:
    """The body: JSON as it is; of another format in base64, since it need not be text."""
    if message.content_type == JSON and message.body:
        try:
            return {"body": message.body.decode()}
        except UnicodeDecodeError:
            pass
    encoded = base64.b64encode(message.body).decode()
    return {"body_base64": encoded, "content_type": message.content_type}


def _body(table: Mapping[str, Any], largest: int) -> bytes:
    encoded = table.get("body_base64")
    if encoded is None:
        return _text(table, "body", largest).encode()
    if not isinstance(encoded, str) or len(encoded) > largest:
        raise ValueError(f"its body_base64 is a text of up to {largest} bytes")
    return base64.b64decode(encoded, validate=True)


def _headers(given: Mapping[str, HeaderValue]) -> dict[str, FieldValue] | None:
    if given is NO_OWN_HEADERS:
        return None
    own = given if isinstance(given, OwnHeaders) else OwnHeaders(given)
    return {**dict.fromkeys(own.removed), **own}


def _carried(table: Mapping[str, Any]) -> dict[str, Any]:
    """The options that say how it runs."""
    found: dict[str, Any] = {"tags": tags_from(table.get("tags"))}
    try:
        if table.get("run_timeout") is not None:
            found["run_timeout"] = timeout_from(table["run_timeout"])
        if table.get("retry") is not None:
            found["retry"] = retry_from(table["retry"])
        if table.get("headers") is not None:
            found["headers"] = OwnHeaders(table["headers"])
    except (ConfigurationError, DecodeError) as error:
        raise ValueError(f"its options: {error}") from None
    return found


def _text(table: Mapping[str, Any], name: str, most: int = MOST_TEXT) -> str:
    value = table.get(name)
    if not isinstance(value, str) or not value or len(value.encode()) > most:
        raise ValueError(f"its {name} is a text of up to {most} bytes")
    return value


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else math.ceil(seconds * 1000)


def _seconds(table: Mapping[str, Any], name: str) -> float | None:
    value = table.get(name)
    if value is None:
        return None
    if not is_whole(value) or not 0 <= value < 2**53:
        raise ValueError(f"its {name} is a number of milliseconds")
    return value / 1000


def _size(value: FieldValue) -> int:
    """Bytes of a value in an AMQP table, at most."""
    if isinstance(value, Mapping):
        return 5 + sum(1 + len(name) + _size(each) for name, each in value.items())
    if isinstance(value, list):
        return 5 + sum(map(_size, value))
    return 5 + len(value.encode()) if isinstance(value, str) else 9
