"""Publishing: what a broker takes, returns, and confirms."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from pamqp.body import ContentBody
from pamqp.commands import Basic, Confirm
from pamqp.header import ContentHeader

from tests.conformance.client import Channel
from tests.conformance.events import Confirmed, Returned
from tests.conformance.peers import Peer


def confirmed(channel: Channel, count: int) -> list[int]:
    """Wait until so many publishes are confirmed; the tags in order, `multiple` taken apart."""
    tags: list[int] = []
    while len(tags) < count:
        event = channel.next()
        assert isinstance(event, Confirmed), event
        assert not event.refused
        first = max(tags, default=0) + 1 if event.multiple else event.tag
        tags += [tag for tag in range(first, event.tag + 1) if tag not in tags]
    return tags


def test_properties(channel: Channel, kind: str) -> None:
    """All properties and every type of header arrive as they were sent"""
    channel.of_kind(kind, "q")
    headers = {
        "text": "ü",
        "long": 1 << 40,
        "int": -5,
        "yes": True,
        "none": None,
        "half": 0.5,
        "money": Decimal("1.25"),
        "bytes": bytearray(b"\x00\xff"),
        "when": datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC),
        "list": [1, "two", [3.0]],
        "table": {"deep": {"er": 1}},
    }
    said = {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "headers": headers,
        "delivery_mode": 2,
        "priority": 3,
        "correlation_id": "c",
        "reply_to": "r",
        "expiration": "60000",
        "message_id": "m",
        "timestamp": datetime(2030, 1, 2, tzinfo=UTC),
        "message_type": "t",
        "user_id": "guest",
        "app_id": "a",
    }
    channel.publish("q", b"body", **said)
    message = channel.wait_get("q")
    assert message.body == b"body"
    arrived = {name: getattr(message.properties, name) for name in said}
    arrived["headers"].pop("x-delivery-count", None)  # a quorum queue's, on 3.10
    assert arrived == said


def test_no_properties(peer: Peer, channel: Channel, kind: str) -> None:
    """A message without properties arrives without any, and an empty body is a body"""
    channel.of_kind(kind, "q")
    channel.publish("q", b"")
    message = channel.wait_get("q")
    assert message.body == b""
    counted = kind == "quorum" and peer.version == "3.10"
    assert message.headers == ({"x-delivery-count": 0} if counted else {})
    assert message.properties.delivery_mode is None


def test_binary_names(channel: Channel) -> None:
    """Routing keys and queue names are any text"""
    name = "größe #1 " + "x" * 200
    channel.send(Basic.Publish())
    channel.send(ContentHeader(body_size=0, properties=Basic.Properties()))
    channel.exchange("x", "direct")
    channel.declare("q", exclusive=True)
    channel.bind("q", "x", name)
    channel.publish(name, b"1", exchange="x")
    assert channel.wait_get("q").key == name


def test_large_body(channel: Channel, kind: str) -> None:
    """A body of a megabyte arrives whole"""
    channel.of_kind(kind, "q")
    body = bytes(range(256)) * 4096
    channel.publish("q", body)
    assert channel.wait_get("q").body == body


def test_too_large_body(peer: Peer, channel: Channel) -> None:
    """A body over the maximum closes the channel with 406: 128 MiB on 3.10, 16 MiB on 4.3"""
    channel.declare("q", exclusive=True)
    size = (16 << 20) + 1
    if peer.version == "3.10":
        channel.publish_confirmed("q", bytes(size))
        return
    text = (
        f"PRECONDITION_FAILED - message size {size} is larger than configured max size {16 << 20}"
    )
    with channel.refuses(406, text):
        channel.publish("q", bytes(size))


def test_mandatory(channel: Channel) -> None:
    """What is mandatory and has no queue is returned whole, with 312, before its confirm"""
    channel.confirms()
    channel.publish("nowhere", b"body", mandatory=True, message_id="m")
    returned = channel.next()
    assert isinstance(returned, Returned)
    assert (returned.code, returned.text) == (312, "NO_ROUTE")
    assert (returned.exchange, returned.key, returned.body) == ("", "nowhere", b"body")
    assert returned.properties.message_id == "m"
    assert channel.next() == Confirmed(1)


def test_mandatory_with_a_queue(channel: Channel, kind: str) -> None:
    """What is mandatory and has a queue is confirmed alone"""
    channel.of_kind(kind, "q")
    channel.confirms()
    channel.publish("q", mandatory=True)
    assert channel.next() == Confirmed(1)


def test_unroutable(channel: Channel) -> None:
    """What is not mandatory and has no queue is dropped, and confirmed"""
    channel.confirms()
    channel.publish("nowhere")
    assert channel.next() == Confirmed(1)


def test_confirms(channel: Channel, kind: str) -> None:
    """Every publish is confirmed once, in order for one queue, counted from `confirm.select`"""
    channel.of_kind(kind, "q")
    channel.publish("q")
    channel.round_trip()
    channel.confirms()
    for _ in range(50):
        channel.publish("q")
    assert confirmed(channel, 50) == list(range(1, 51))
    assert channel.arrived() == []
    channel.wait_ready("q", 51)


def test_confirm_select_again(channel: Channel) -> None:
    """`confirm.select` a second time changes nothing, and can be said without an answer"""
    channel.send(Confirm.Select(nowait=True))
    channel.publish("nowhere")
    assert confirmed(channel, 1) == [1]
    channel.confirms()
    channel.publish("nowhere")
    assert channel.next() == Confirmed(2)


def test_confirm_comes_before_the_answer_to_what_follows(channel: Channel) -> None:
    """Without a queue the confirm comes before the answer to what is asked next"""
    channel.confirms()
    channel.publish("nowhere")
    assert channel.arrived() == [Confirmed(1)]


def test_confirmed_by_all_queues(channel: Channel) -> None:
    """A message for several queues is confirmed once"""
    channel.exchange("x", "fanout")
    for kind in ("classic", "quorum"):
        channel.of_kind(kind, kind)
        channel.bind(kind, "x")
    channel.confirms()
    channel.publish("", b"1", exchange="x")
    assert channel.next() == Confirmed(1)
    assert channel.arrived() == []
    assert channel.get_all("classic") == channel.get_all("quorum") == [b"1"]


def test_wrong_user(channel: Channel) -> None:
    """A `user_id` that is not the publisher's closes the channel with 406"""
    text = "PRECONDITION_FAILED - user_id property set to 'x' but authenticated user was 'guest'"
    with channel.refuses(406, text):
        channel.publish("q", user_id="x")


@pytest.mark.parametrize(
    ("expiration", "why"),
    [
        ("soon", "no_integer"),
        ("-1", "{value_negative,-1}"),
        ("1.5", '{leftover_string,".5"}'),
    ],
)
def test_invalid_expiration(channel: Channel, expiration: str, why: str) -> None:
    """An `expiration` that is not a number closes the channel with 406"""
    with channel.refuses(406, f"PRECONDITION_FAILED - invalid expiration '{expiration}': {why}"):
        channel.publish("q", expiration=expiration)


def test_body_longer_than_said(peer: Peer, channel: Channel) -> None:
    """More body than the header said is a connection error: 505 on 3.10, 501 on 4.3"""
    code, text = peer.by_version(
        (505, "UNEXPECTED_FRAME - expected content body, got non content body frame instead"),
        (501, "FRAME_ERROR - content body frame exceeds remaining content size"),
    )
    with channel.refuses(code, text, "connection"):
        channel.send(
            Basic.Publish(),
            ContentHeader(body_size=1, properties=Basic.Properties()),
            ContentBody(b"123"),
        )
