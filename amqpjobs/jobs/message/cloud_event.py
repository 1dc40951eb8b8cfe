"""CloudEvents 1.0 as the body of messages: structured, and binary with the attributes in headers.

https://github.com/cloudevents/spec: the JSON format, and the bindings of AMQP and of RabbitMQ.
Changes when CloudEvents does.
"""

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Generic, Literal, TypeVar, get_args, get_origin
from urllib.parse import quote

from amqpjobs.errors import ConfigurationError, DecodeError
from amqpjobs.jobs.message.bodies import ANYTHING, Encoded
from amqpjobs.jobs.message.content import is_json, media_type
from amqpjobs.jobs.message.ids import new_job_id
from amqpjobs.jobs.message.own_headers import NO_OWN_HEADERS, HeaderValue
from amqpjobs.jobs.message.properties import JSON, FieldValue, Headers
from amqpjobs.jobs.roundtrip.natives import NATIVES

D = TypeVar("D")

STRUCTURED: Final = "application/cloudevents+json"
"""The content type of a message whose body has the attributes, too."""

FAMILY: Final = "application/cloudevents"
"""What the content types of all formats of events begin with."""

VERSION: Final = "1.0"

PREFIXES: Final = ("cloudevents_", "cloudevents:", "ce-")
"""What headers with attributes begin with, in small letters: two ways of the AMQP binding, and that
of Knative for RabbitMQ."""

REQUIRED: Final = ("id", "source", "type")
OPTIONAL: Final = ("subject", "time", "dataschema", "datacontenttype")
_OWN: Final = frozenset({"specversion", *REQUIRED, *OPTIONAL, "data", "data_base64"})
_NAME: Final = re.compile("[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class CloudEventOf(Generic[D]):
    """A CloudEvent with its attributes: the annotation of a job that wants more than the data.

    To send one, give the data and whatever else is not to be filled in.

    Attributes:
        data: of the event.
        id: of the event; empty for a new one when it is sent.
        source: where it happened, as a URI reference; empty for that of the format, else the name
            of the app.
        type: what happened; empty for that of the format, else the name of the job, or the routing
            key of a publish.
        subject: what it happened to.
        time: when it happened; None for now when it is sent.
        dataschema: the URI of the schema of the data.
        datacontenttype: of the data; None for JSON, or for bytes `application/octet-stream`, when
            it is sent.
        extensions: further attributes; their names are small letters and digits.

    Example:
        >>> @app.job(queue="reports", body=CloudEvent)
        ... async def bill(event: CloudEventOf[int]) -> str:
        ...     return f"{event.type} {event.data}"
        >>> await bill.request(CloudEventOf(7, type="order.placed"))
        'order.placed 7'
    """

    data: D
    id: str = ""
    source: str = ""
    type: str = ""
    subject: str | None = None
    time: datetime | None = None
    dataschema: str | None = None
    datacontenttype: str | None = None
    extensions: Mapping[str, str | bool | int] = field(default_factory=dict)


class CloudEvent:
    """CloudEvents 1.0: ``body=CloudEvent``. The job takes one parameter: the data of the event, or
    a `CloudEventOf` of it.

    A worker reads events in structured mode (the body is JSON with all attributes) and in binary
    mode (the attributes are headers that begin with ``cloudEvents_``, ``cloudEvents:`` or ``ce-``).

    Args:
        source: of the events that are sent, a URI reference; None for the name of the app.
        type: of the events that are sent; None for the name of the job, or the routing key.
        mode: how they are sent.
        prefix: what the headers of binary mode begin with: ``cloudEvents_``, ``cloudEvents:``, or
            ``ce-`` for Knative.

    Raises:
        ConfigurationError: another mode or prefix.

    Example:
        >>> @app.job(queue="reports", body=CloudEvent(source="/shop"))
        ... async def invoice(order: int) -> str:
        ...     return f"invoice {order}"
        >>> await invoice.request(7)
        'invoice 7'
    """

    content_type: ClassVar[str] = STRUCTURED
    accepts: ClassVar[frozenset[str] | None] = None
    single: ClassVar[bool] = True
    natives: frozenset[str] = frozenset()

    def __init__(
        self,
        *,
        source: str | None = None,
        type: str | None = None,  # noqa: A002 - the attribute's name
        mode: Literal["structured", "binary"] = "structured",
        prefix: str = "cloudEvents_",
    ) -> None:
        if mode not in ("structured", "binary"):
            raise ConfigurationError(f"mode of CloudEvent is structured or binary, not {mode!r}")
        if prefix.lower() not in PREFIXES:
            raise ConfigurationError(
                f"prefix of CloudEvent is cloudEvents_, cloudEvents: or ce-, not {prefix!r}"
            )
        self.source, self.type, self.mode, self.prefix = source, type, mode, prefix
        self._whole = False
        self._of: tuple[Callable[[], str], str] = (lambda: "", "")

    def __repr__(self) -> str:
        return f"CloudEvent(source={self.source!r}, mode={self.mode!r})"

    def bound(self, annotation: Any, source: Callable[[], str], type_: str) -> "CloudEvent":
        """The format of one job.

        Args:
            annotation: of its parameter.
            source: makes the name of the app.
            type_: of its events, where nothing else says it.
        """
        other = CloudEvent(source=self.source, type=self.type, mode=self.mode, prefix=self.prefix)
        other._whole = CloudEventOf in (annotation, get_origin(annotation))
        data = next(iter(get_args(annotation)), Any) if other._whole else annotation
        other.natives = natives_of(data)
        other._of = (source, type_)
        return other

    def filled(self, value: Any) -> Any:
        """A value that is sent, with the attributes that it lacks."""
        if not isinstance(value, CloudEventOf):
            return value
        source, type_ = self._of
        content = ANYTHING if isinstance(value.data, bytes | bytearray) else JSON
        return replace(
            value,
            id=value.id or new_job_id(),
            source=value.source or self.source or quote(source()),
            type=value.type or self.type or type_,
            time=value.time or datetime.now(UTC),
            datacontenttype=value.datacontenttype or content,
        )

    def load(self, data: bytes, /) -> Any:
        """See `Body.load`.

        Raises:
            DecodeError: it is no event.
        """
        from pydantic_core import from_json

        try:
            event = from_json(data, allow_inf_nan=False)
        except ValueError:
            raise DecodeError("the body is no CloudEvent: it is not JSON") from None
        _check(event)
        found = _data_of(event)
        if not self._whole:
            return found
        known = {name: event[name] for name in (*REQUIRED, *OPTIONAL) if event.get(name)}
        more = {n: v for n, v in event.items() if n not in _OWN and v is not None}
        return {**known, "data": found, "extensions": more}

    def dump(self, value: Any, /) -> bytes:
        """See `Body.dump`.

        Raises:
            ValueError: the name of an extension is none.
        """
        from pydantic_core import to_json

        given = value if self._whole else _plain(self.filled(CloudEventOf(None)), value)
        extensions = given.get("extensions") or {}
        for name in extensions:
            if name in _OWN or not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} cannot be the name of an extension attribute")
        known = {n: given[n] for n in (*REQUIRED, *OPTIONAL) if given.get(n) is not None}
        data = given.get("data")
        member = {"data": data}
        if isinstance(data, bytes):
            member = {"data_base64": base64.b64encode(data).decode()}
        return to_json({"specversion": VERSION, **known, **extensions, **member})

    def received(self, content_type: str | None, headers: Headers, data: bytes) -> bytes:
        """A message in either mode as one in structured mode.

        Raises:
            DecodeError: it is in another format of CloudEvents, or its attributes are malformed.
        """
        media = media_type(content_type or "")
        if media == STRUCTURED:
            return data
        if media.startswith(FAMILY):
            raise DecodeError(f"content type {media[:100]!r}; of CloudEvents {STRUCTURED} is read")
        attributes = attributes_in(headers)
        if attributes:
            return _structured(attributes, content_type, data)
        if media in ("", ANYTHING) or is_json(media):
            return data  # its sender has not said that it is structured
        raise DecodeError(
            f"the message is no CloudEvent: its content type is {media[:100]!r}, and no header "
            "begins with cloudEvents_"
        )

    def sent(self, data: bytes) -> Encoded:
        """A message in structured mode as it is published."""
        if self.mode == "structured":
            return Encoded(data, STRUCTURED, NO_OWN_HEADERS)
        from pydantic_core import from_json, to_json

        event = from_json(data)
        found, content_type = event.pop("data", None), event.pop("datacontenttype", None)
        encoded = event.pop("data_base64", None)
        headers = {self.prefix + name: _header(value, self.prefix) for name, value in event.items()}
        if encoded is not None:
            body = base64.b64decode(encoded)
        elif isinstance(found, str) and not is_json(content_type or JSON):
            body = found.encode()
        else:
            body = to_json(found)
        return Encoded(body, content_type, headers)


def natives_of(data: Any) -> frozenset[str]:
    """The types that stay as they are in data: data of bytes alone, which JSON is not."""
    return NATIVES if data is bytes else frozenset()


def _plain(event: CloudEventOf[Any], data: Any) -> dict[str, Any]:
    """The attributes of an event, with its data."""
    binary = isinstance(data, bytes)
    time = None if event.time is None else event.time.isoformat().replace("+00:00", "Z")
    content = ANYTHING if binary else JSON
    found = {name: getattr(event, name) for name in (*REQUIRED, *OPTIONAL)}
    return {**found, "time": time, "datacontenttype": content, "data": data}


def unnumbered(value: Any) -> Any:
    """An event without what tells it from the same event sent again; other values as they are."""
    return replace(value, id="", time=None) if isinstance(value, CloudEventOf) else value


def attributes_in(headers: Headers) -> dict[str, Any]:
    """The attributes in the headers of a message in binary mode; none for another message."""
    found: dict[str, Any] = {}
    for header, value in headers.items():
        lower = header.lower()
        for prefix in PREFIXES:
            name = lower.removeprefix(prefix)
            if name != lower and (said := _attribute(name, value)) is not None:
                found[name] = said
    return found if "specversion" in found else {}


def _attribute(name: str, value: FieldValue) -> str | bool | int | None:
    if isinstance(value, datetime):
        return value.isoformat()
    if name == "time" and type(value) is int:  # as AMQP 1.0 has it: milliseconds
        try:
            return datetime.fromtimestamp(value / 1000, UTC).isoformat()
        except (ValueError, OverflowError, OSError):
            return None
    return value if isinstance(value, str | bool | int) else None


def _header(value: Any, prefix: str) -> HeaderValue:
    """The value of an attribute as a header. Knative's are text."""
    if prefix.lower() == "ce-" and not isinstance(value, str):
        return str(value).lower()
    found: HeaderValue = value
    return found


def _structured(attributes: dict[str, Any], content_type: str | None, data: bytes) -> bytes:
    from pydantic_core import from_json, to_json

    for name in ("data", "data_base64", "datacontenttype"):
        attributes.pop(name, None)
    if content_type:
        attributes["datacontenttype"] = content_type
    start = to_json(attributes)[:-1]
    if not data:
        return start + b"}"
    if is_json(content_type or JSON):
        try:
            # Whole, so that nothing in it can be taken for another attribute.
            from_json(data)
        except ValueError:
            raise DecodeError("the data of the CloudEvent is not JSON") from None
        return start + b',"data":' + data + b"}"
    return start + b',"data_base64":"' + base64.b64encode(data) + b'"}'


def _check(event: Any) -> None:
    if not isinstance(event, dict):
        raise DecodeError("the body is no CloudEvent: it is no JSON object")
    version = event.get("specversion")
    if version != VERSION:
        words = "lacks 'specversion'" if version is None else "has another 'specversion'"
        raise DecodeError(f"the body is no CloudEvent of version {VERSION}: it {words}")
    for name in REQUIRED:
        value = event.get(name)
        if not isinstance(value, str) or not value:
            raise DecodeError(f"the CloudEvent lacks the attribute {name!r}, which is a text")
    if event.get("data") is not None and event.get("data_base64") is not None:
        raise DecodeError("the CloudEvent has both 'data' and 'data_base64'")


def _data_of(event: dict[str, Any]) -> Any:
    """The data: bytes for what is neither JSON nor text."""
    encoded = event.get("data_base64")
    if encoded is None:
        return event.get("data")
    from pydantic_core import from_json

    content_type = event.get("datacontenttype")
    try:
        data = base64.b64decode(encoded, validate=True)
        if isinstance(content_type, str) and is_json(content_type):
            return from_json(data)
        if isinstance(content_type, str) and media_type(content_type).startswith("text/"):
            return data.decode()
    except (ValueError, TypeError):
        raise DecodeError("the data of the CloudEvent is not what its type says") from None
    return data
