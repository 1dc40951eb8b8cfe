"""Values as bodies where no job says what they are: what is published to an exchange.

Changes when a value is encoded by something else than its type.
"""

from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

from pydantic import PydanticUserError
from pydantic import ValidationError as PydanticValidationError
from pydantic_core import PydanticSerializationError

from amqpjobs.errors import InvalidArguments
from amqpjobs.jobs.message.arguments import MASK, first_line, jsonable
from amqpjobs.jobs.message.bodies import ANYTHING, Body, Encoded, content_type_of, format_name, own
from amqpjobs.jobs.message.cloud_event import CloudEvent, CloudEventOf, natives_of
from amqpjobs.jobs.message.own_headers import NO_OWN_HEADERS
from amqpjobs.jobs.message.properties import JSON
from amqpjobs.jobs.roundtrip.encoded_bytes import adapter_of
from amqpjobs.jobs.roundtrip.natives import NATIVES
from amqpjobs.jobs.roundtrip.plain import PlainData
from amqpjobs.jobs.roundtrip.roundtrip import NotTheSame, RoundTrip

_UNTYPED: Final = frozenset({dict, list, tuple, set, frozenset})
"""Types that say nothing of what is in them."""


def encoded(body: Body | None, value: object, *, source: str = "", type_: str = "") -> Encoded:
    """A value in a format, by its own type: a pydantic model, a dataclass, a class of attrs, what
    JSON has. A `TypedDict` is a dict.

    Args:
        body: the format; None for JSON.
        value: what to send.
        source: the name of the app, for a format that says it.
        type_: what is sent, for a format that says it: the routing key.

    Raises:
        InvalidArguments: the value cannot be sent in this format.
    """
    try:
        return _encoded(body, value, source, type_)
    except NotTheSame as error:
        secret = MASK in error.body
        raise _refusal(value, "it has a secret" if secret else error.difference.words) from None
    except PydanticValidationError as error:
        raise _refusal(value, first_line(error)) from None
    except (PydanticUserError, PydanticSerializationError, RecursionError) as error:
        raise _refusal(value, first_line(error)) from error


def _encoded(body: Body | None, value: object, source: str, type_: str) -> Encoded:
    kind = _kind_of(value)
    if body is None:
        return Encoded(_json_of(kind).write(value), JSON, NO_OWN_HEADERS)
    if isinstance(body, CloudEvent):
        event = value if isinstance(value, CloudEventOf) else CloudEventOf(value)
        body = body.bound(CloudEventOf, lambda: source, type_)
        event = body.filled(event)
        kind = _kind_of(event.data)
        data = _plain_of(kind, natives_of(kind)).write(event.data)[1]
        _, plain = _plain_of(CloudEventOf, NATIVES).write(replace(event, data=data))
        return body.sent(_dumped(body, plain))
    _, plain = _plain_of(kind, own(body, "natives", NATIVES)).write(value)
    return Encoded(_dumped(body, plain), content_type_of(body) or ANYTHING, NO_OWN_HEADERS)


def _kind_of(value: object) -> Any:
    """What it is validated by."""
    return Any if type(value) in _UNTYPED else type(value)


def _dumped(body: Body, plain: Any) -> bytes:
    try:
        data: Any = body.dump(plain)
    except Exception as error:
        words = f"it cannot become {format_name(body)}: {first_line(error)}"
        raise _refusal(plain, words) from error
    if not isinstance(data, bytes | bytearray | memoryview):
        words = f"{format_name(body)}.dump returned {type(data).__name__}; it has to return bytes"
        raise _refusal(plain, words)
    return bytes(data)


def _refusal(value: object, words: str) -> InvalidArguments:
    return InvalidArguments(f"{type(value).__name__} cannot be sent: {words}", job="")


@lru_cache(maxsize=512)
def _json_of(kind: Any) -> RoundTrip:
    # What has no annotation arrives as what JSON makes of it: nothing is promised.
    return RoundTrip(adapter_of(jsonable(kind)), exact=kind is not Any)


@lru_cache(maxsize=512)
def _plain_of(kind: Any, natives: frozenset[str]) -> PlainData:
    return PlainData(jsonable(kind), natives)
