"""Values as bodies by their own types, as they are published to an exchange."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import attrs
import msgpack
import pytest
from pydantic import BaseModel, SecretStr

from amqpjobs import Bytes, CloudEvent, CloudEventOf, MsgPack, Text
from amqpjobs.errors import InvalidArguments
from amqpjobs.jobs.message.bodies import Encoded
from amqpjobs.jobs.message.encoding import encoded

MOMENT = datetime(2026, 11, 30, tzinfo=UTC)


class Order(BaseModel):
    n: int
    data: bytes = b"\xff"


@dataclass
class Box:
    when: datetime


@attrs.define
class Crate:
    n: int


class Secret(BaseModel):
    secret: SecretStr


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Order(n=1), {"n": 1, "data": "_w=="}),
        (Box(MOMENT), {"when": "2026-11-30T00:00:00Z"}),
        (Crate(3), {"n": 3}),
        ({"order": Box(MOMENT)}, {"order": {"when": "2026-11-30T00:00:00Z"}}),
        ([1, "x", None], [1, "x", None]),
        (5, 5),
        ("ä", "ä"),
        (None, None),
    ],
)
def test_json_by_the_type_of_the_value(value: Any, expected: Any):
    """A dict and a list say nothing of what is in them."""
    found = encoded(None, value)
    assert json.loads(found.data) == expected
    assert (found.content_type, dict(found.headers)) == ("application/json", {})


def test_other_formats():
    """Bytes stay bytes where the format has them."""
    packed = encoded(MsgPack(), Order(n=1))
    assert (msgpack.unpackb(packed.data), packed.content_type) == (
        {"n": 1, "data": b"\xff"}, "application/msgpack",
    )  # fmt: skip
    assert encoded(Bytes(), b"x") == Encoded(b"x", "application/octet-stream", {})
    assert encoded(Text(), "x") == Encoded(b"x", "text/plain", {})


def test_an_event_is_filled_in():
    """By the app and the routing key; what is given is kept."""
    found = encoded(CloudEvent(), Order(n=1), source="my shop", type_="order.placed")
    event = json.loads(found.data)
    assert (event["source"], event["type"]) == ("my%20shop", "order.placed")
    assert event["data"] == {"n": 1, "data": "_w=="}
    whole = CloudEventOf(Box(MOMENT), id="7", type="t", extensions={"tenant": "x"})
    binary = encoded(CloudEvent(source="/s", mode="binary"), whole, source="a", type_="key")
    assert json.loads(binary.data) == {"when": "2026-11-30T00:00:00Z"}
    attributes = {n.removeprefix("cloudEvents_"): v for n, v in binary.headers.items()}
    attributes.pop("time")
    assert attributes == {
        "specversion": "1.0", "id": "7", "source": "/s", "type": "t", "tenant": "x",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "value", "words"),
    [
        (None, Secret(secret=SecretStr("x")), "Secret cannot be sent: it has a secret"),
        (None, object(), "object cannot be sent"),
        (None, {"x": object()}, "dict cannot be sent"),
        (Bytes(), "x", "cannot become Bytes"),
        (Text(), [1], "cannot become Text"),
        (MsgPack(), {"x": object()}, "cannot become MsgPack"),
        (MsgPack(), 2**70, "cannot become MsgPack"),
        (CloudEvent(), CloudEventOf(1, extensions={"data": 1}), "extension attribute"),
    ],
    ids=str,
)
def test_what_cannot_be_sent_is_refused(body: Any, value: Any, words: str):
    """By one kind of error."""
    with pytest.raises(InvalidArguments, match=words):
        encoded(body, value)
