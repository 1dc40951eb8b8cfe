"""CloudEvents: what others write is read, and what is written others read."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings import amqp, rabbitmq
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent as Theirs
from pydantic import BaseModel

from amqpjobs import App, CloudEvent, CloudEventOf
from amqpjobs.errors import ConfigurationError, DecodeError, InvalidArguments
from amqpjobs.jobs.job import Job, definition_of
from amqpjobs.jobs.message.content import received
from amqpjobs.jobs.message.message import Message
from amqpjobs.jobs.message.properties import Headers, Properties

app = App("my shop")
MOMENT = datetime(2026, 11, 30, 1, 2, 3, 456000, tzinfo=UTC)
ATTRIBUTES = {"id": "7", "source": "/shop", "type": "order.placed", "specversion": "1.0"}


class Order(BaseModel):
    n: int
    at: datetime | None = None


def job_of(annotation: Any, body: Any = CloudEvent) -> Job[..., Any, Any]:
    async def take(value: Any) -> None: ...

    take.__annotations__ = {"value": annotation, "return": None}
    declared: Job[..., Any, Any] = App("my shop").job(queue="q", body=body)(take)
    return declared


def load(
    annotation: Any, content_type: str | None, data: bytes, headers: Headers | None = None
) -> Any:
    definition = definition_of(job_of(annotation))
    said = Properties(content_type, headers=headers or {})
    (value,), _ = definition.payload.load(received(definition.body, said, data, 10_000))
    return value


def theirs(**more: Any) -> Theirs:
    data = more.pop("data", {"n": 7})
    given = {"datacontenttype": "application/json", "time": MOMENT, "subject": "s", "tenant": "x"}
    return Theirs(attributes={**ATTRIBUTES, **given, **more}, data=data)


WHOLE = CloudEventOf(
    Order(n=7), "7", "/shop", "order.placed", "s", MOMENT, None, "application/json", {"tenant": "x"}
)


def test_their_structured_event_is_read():
    """Written by the official package."""
    message = amqp.to_structured(theirs(), JSONFormat())
    content_type = message.properties["content-type"]
    assert load(Order, content_type, message.application_data) == Order(n=7)
    assert load(CloudEventOf[Order], content_type, message.application_data) == WHOLE
    assert load(CloudEventOf, content_type, message.application_data).data == {"n": 7}


@pytest.mark.parametrize("prefix", ["cloudEvents_", "cloudEvents:"])
def test_their_binary_event_is_read(prefix: str):
    """Attributes with either separator of the AMQP binding; the time in milliseconds."""
    message = amqp.to_binary(theirs(), JSONFormat())
    headers = {
        name.replace("cloudEvents_", prefix): value
        for name, value in message.application_properties.items()
    }
    content_type = message.properties["content-type"]
    assert load(Order, content_type, message.application_data, headers) == Order(n=7)
    assert load(CloudEventOf[Order], content_type, message.application_data, headers) == WHOLE


def test_knatives_binary_event_is_read():
    """Attributes as text, with another prefix, in any case."""
    message = rabbitmq.to_binary(theirs(), JSONFormat())
    assert load(CloudEventOf[Order], message.content_type, message.body, message.headers) == WHOLE
    upper = {name.upper(): value for name, value in message.headers.items()}
    assert load(Order, message.content_type, message.body, upper) == Order(n=7)


@pytest.mark.parametrize(
    ("content_type", "data", "annotation", "expected"),
    [
        ("image/png", b"\xff\x00", bytes, b"\xff\x00"),
        ("text/csv", "ä,b".encode(), str, "ä,b"),
        ("application/xml", b"<a/>", str, "<a/>"),
        ("application/vnd.order+json", b'{"n": 1}', Order, Order(n=1)),
        ("application/json", b"[1, 2]", list[int], [1, 2]),
        ("application/json", b"", None, None),
    ],
)
def test_data_of_other_types(content_type: str, data: bytes, annotation: Any, expected: Any):
    """In binary mode: JSON by its type, text, or bytes. In structured mode as `data_base64`."""
    headers = {f"cloudEvents_{name}": value for name, value in ATTRIBUTES.items()}
    assert load(annotation, content_type, data, headers) == expected
    member = {"data_base64": base64.b64encode(data).decode()} if data else {}
    event = json.dumps({**ATTRIBUTES, "datacontenttype": content_type, **member}).encode()
    assert load(annotation, "application/cloudevents+json", event) == expected


def sent(message: Message[Any]) -> tuple[str, Headers, bytes]:
    return message.content_type, dict(message.options.headers), message.body


@pytest.mark.parametrize("annotation", [Order, CloudEventOf[Order]], ids=str)
def test_our_structured_event_is_read_by_them(annotation: Any):
    """With all attributes that it has to have, and the time."""
    value = Order(n=7) if annotation is Order else CloudEventOf(Order(n=7))
    content_type, headers, body = sent(job_of(annotation).message(value))
    assert (content_type, headers) == ("application/cloudevents+json", {})
    message = amqp.AMQPMessage({"content-type": content_type}, {}, body)
    found = amqp.from_structured(message, JSONFormat())
    assert found.get_data() == {"n": 7, "at": None}
    assert found.get_source() == "my%20shop"
    assert found.get_type() == "take"
    assert len(found.get_id()) == 36
    assert found.get_time().tzinfo is not None


@pytest.mark.parametrize("prefix", ["cloudEvents_", "cloudEvents:"])
def test_our_binary_event_is_read_by_them(prefix: str):
    """The attributes of a whole event, its extensions among them."""
    job = job_of(CloudEventOf[Order], CloudEvent(mode="binary", prefix=prefix))
    content_type, headers, body = sent(job.message(WHOLE))
    message = amqp.AMQPMessage({"content-type": content_type}, dict(headers), body)
    found = amqp.from_binary(message, JSONFormat())
    attributes = {**ATTRIBUTES, "subject": "s", "tenant": "x", "time": MOMENT}
    assert found.get_attributes() == {**attributes, "datacontenttype": "application/json"}
    assert found.get_data() == {"n": 7, "at": None}
    assert load(CloudEventOf[Order], content_type, body, headers) == WHOLE


def test_our_binary_event_for_knative():
    """Its attributes are text."""
    job = job_of(CloudEventOf[bytes], CloudEvent(mode="binary", prefix="ce-"))
    event = CloudEventOf(b"\xff", extensions={"flag": True, "n": 3})
    content_type, headers, body = sent(job.message(event))
    found = rabbitmq.from_binary(
        rabbitmq.RabbitMQMessage({k: str(v) for k, v in headers.items()}, content_type, body),
        JSONFormat(),
    )
    assert (found.get_data(), found.get_datacontenttype()) == (b"\xff", "application/octet-stream")
    assert (found.get_extension("flag"), found.get_extension("n")) == ("true", "3")


def test_bytes_in_a_structured_event():
    """As `data_base64`, and back."""
    job = job_of(CloudEventOf[bytes], CloudEvent(source="/x", type="t"))
    content_type, _, body = sent(job.message(CloudEventOf(b"\xff\x00")))
    assert load(CloudEventOf[bytes], content_type, body).data == b"\xff\x00"
    found = amqp.from_structured(amqp.AMQPMessage({}, {}, body), JSONFormat())
    assert (found.get_data(), found.get_source(), found.get_type()) == (b"\xff\x00", "/x", "t")
    assert load(bytes, content_type, job_of(bytes).message(b"\xff").body) == b"\xff"


class Image(BaseModel):
    raw: bytes


def test_bytes_inside_of_data():
    """As in the JSON of every job: base64url."""
    for annotation in (Image, CloudEventOf[Image]):
        image = Image(raw=b"\xff\xfe")
        value = image if annotation is Image else CloudEventOf(image)
        content_type, _, body = sent(job_of(annotation).message(value))
        assert json.loads(body)["data"] == {"raw": "__4="}
        assert load(Image, content_type, body) == image


EVENT = {**ATTRIBUTES, "data": {"n": 1}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"specversion": None}, "lacks 'specversion'"),
        ({"specversion": "0.3"}, "another 'specversion'"),
        ({"id": ""}, "lacks the attribute 'id'"),
        ({"source": 5}, "lacks the attribute 'source'"),
        ({"type": None}, "lacks the attribute 'type'"),
        ({"data_base64": "AA=="}, "both"),
        ({"data": None, "data_base64": "?"}, "not what its type says"),
        ({"data": {"n": "secret"}}, "value.n"),
    ],
)
def test_what_is_no_event_is_refused(change: dict[str, Any], words: str):
    """Saying what is missing, and showing nothing of it."""
    event = {k: v for k, v in {**EVENT, **change}.items() if v is not None}
    with pytest.raises(DecodeError, match=words) as found:
        load(Order, "application/cloudevents+json", json.dumps(event).encode())
    assert "secret" not in str(found.value)


@pytest.mark.parametrize(
    ("content_type", "data", "words"),
    [
        ("application/cloudevents+avro", b"", "of CloudEvents application/cloudevents"),
        ("application/cloudevents-batch+json", b"[]", "of CloudEvents application/cloudevents"),
        ("text/plain", b"", "no header begins with cloudEvents_"),
        ("application/json", b"[]", "no JSON object"),
        ("application/json", b"{", "it is not JSON"),
    ],
)
def test_what_is_in_no_mode_is_refused(content_type: str, data: bytes, words: str):
    """Batches and other formats of events, too."""
    with pytest.raises(DecodeError, match=words):
        load(Order, content_type, data)


def test_a_structured_event_may_be_called_json():
    """Or nothing at all."""
    data = json.dumps(EVENT).encode()
    for content_type in ("application/json", "", None, "application/octet-stream"):
        assert load(Order, content_type, data) == Order(n=1)


@pytest.mark.parametrize("data", [b'{"n":1},"id":"spoofed"', b'1,"source":"x"', b"{"])
def test_data_cannot_become_attributes(data: bytes):
    """What stands behind the JSON of the body makes it no JSON."""
    headers = {f"cloudEvents_{name}": value for name, value in ATTRIBUTES.items()}
    with pytest.raises(DecodeError, match="the data of the CloudEvent is not JSON"):
        load(CloudEventOf[Any], "application/json", data, headers)


def test_headers_of_any_type_do_no_harm():
    """AMQP has tables, lists and times; an attribute that would be data is none."""
    odd: dict[str, Any] = {
        "cloudEvents_id": {"a": 1}, "cloudEvents_time": MOMENT, "cloudEvents_data": "x",
        "cloudEvents_a": [1], "cloudEvents_time ": 10**30, "cloudEvents_": "x", "cloudEvents:n": 3,
    }  # fmt: skip
    headers = {f"cloudEvents_{name}": value for name, value in ATTRIBUTES.items()}
    event = load(CloudEventOf[Any], "application/json", b"1", {**odd, **headers})
    assert (event.data, event.time, event.extensions["n"]) == (1, MOMENT, 3)
    with pytest.raises(DecodeError, match="'id'"):
        load(Order, "application/json", b"1", {**headers, **odd})
    huge = {**headers, "cloudEvents_time": 10**30}
    assert load(CloudEventOf[Any], "application/json", b"1", huge).time is None


def test_a_header_that_is_no_text_is_one_kind_of_error():
    """Half of a surrogate pair, which AMQP's clients may make of bytes."""
    headers = {f"cloudEvents_{name}": value for name, value in ATTRIBUTES.items()}
    with pytest.raises(DecodeError, match="CloudEvent cannot read the message"):
        load(Order, "application/json", b"1", {**headers, "cloudEvents_x": "\ud800"})


@pytest.mark.parametrize("name", ["data", "id", "Big", "with space", ""])
def test_the_names_of_extensions(name: str):
    """Small letters and digits, and none that is taken."""
    event = CloudEventOf(Order(n=1), extensions={name: "x"})
    with pytest.raises(InvalidArguments, match="extension attribute"):
        job_of(CloudEventOf[Order]).message(event)


def test_the_options_of_the_format():
    """Checked where it is made."""
    with pytest.raises(ConfigurationError, match="structured or binary"):
        CloudEvent(mode="batch")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="cloudEvents_"):
        CloudEvent(prefix="x-")
    assert repr(CloudEvent(source="/x")) == "CloudEvent(source='/x', mode='structured')"


def test_what_is_given_is_kept_and_the_rest_is_filled_in():
    """A new id for each event, and now."""
    job = job_of(CloudEventOf[Order], CloudEvent(source="/own", type="own"))
    ids = set()
    for _ in range(2):
        content_type, _, body = sent(job.message(replace(WHOLE, id="", source="", time=None)))
        event = load(CloudEventOf[Order], content_type, body)
        assert (event.source, event.type, event.subject) == ("/own", "order.placed", "s")
        ids.add(event.id)
    assert len(ids) == 2
