"""What is given back: its place in the queue, how often it was delivered, and the limit of that."""

from typing import Any

import pytest

from tests.conformance.client import Channel
from tests.conformance.peers import Peer

COUNT = "x-delivery-count"


def held(channel: Channel, count: int) -> list[int]:
    """Take that many messages, unacked; their tags."""
    return [channel.wait_get("q", no_ack=False).tag for _ in range(count)]


def remaining(peer: Peer, count: int) -> str:
    """The messages in order, as one word."""
    channel = peer.channel()
    channel.wait_ready("q", count)
    return b"".join(channel.get_all("q")).decode()


def lettered(channel: Channel, kind: str, letters: str, **arguments: Any) -> None:
    channel.of_kind(kind, "q", **arguments)
    channel.publish_confirmed("q", *(letter.encode() for letter in letters))


@pytest.mark.parametrize(
    ("limit", "way", "place"),
    [
        ("limit", "nack", ("cabde", "cabde")),
        ("limit", "reject", ("cabde", "cabde")),
        ("none", "nack", ("decab", "cabde")),
        ("none", "reject", ("decab", "cabde")),
    ],
)
def test_place_in_a_quorum_queue(
    peer: Peer, channel: Channel, limit: str, way: str, place: tuple[str, str]
) -> None:
    """Quorum: given back is next, first come first served; on 3.10 without a limit, last"""
    arguments = {"x_delivery_limit": 10} if limit == "limit" else {}
    lettered(channel, "quorum", "abcde", **arguments)
    tags = held(channel, 3)
    for tag in (tags[2], tags[0], tags[1]):
        getattr(channel, way)(tag)
    assert remaining(peer, 5) == peer.by_version(*place)


@pytest.mark.parametrize("way", ["nack", "reject"])
def test_place_in_a_classic_queue(peer: Peer, channel: Channel, way: str) -> None:
    """Classic: what is given back goes to where it was"""
    lettered(channel, "classic", "abcde")
    tags = held(channel, 3)
    for tag in (tags[2], tags[0], tags[1]):
        getattr(channel, way)(tag)
    assert remaining(peer, 5) == "abcde"


def test_place_after_a_nack_of_many(peer: Peer, channel: Channel, kind: str) -> None:
    """A nack of many gives back in the order of delivery"""
    lettered(channel, kind, "abcde", **limited(kind))
    tags = held(channel, 3)
    channel.nack(tags[-1], multiple=True)
    assert remaining(peer, 5) == "abcde"


@pytest.mark.parametrize("end", ["channel", "connection", "loss"])
def test_place_after_the_end(peer: Peer, kind: str, end: str) -> None:
    """A closed channel, or a lost connection, gives back in the order of delivery"""
    channel = peer.channel()
    lettered(channel, kind, "abcde", **limited(kind))
    held(channel, 3)
    if end == "channel":
        channel.close()
    elif end == "connection":
        channel.connection.close()
    else:
        channel.connection.drop()
    assert remaining(peer, 5) == "abcde"


def limited(kind: str) -> dict[str, int]:
    """Arguments for a queue that keeps the order on every version."""
    return {"x_delivery_limit": 10} if kind == "quorum" else {}


@pytest.mark.parametrize("consuming", [True, False], ids=["consume", "get"])
def test_delivery_count(peer: Peer, consuming: bool) -> None:
    """Quorum: `x-delivery-count` says how often it failed: reject and loss; nack up to 4.2"""
    channel = peer.channel()
    channel.quorum("q", x_delivery_limit=20)
    channel.publish_confirmed("q", b"1", headers={"mine": 1})
    if consuming:
        channel.consume("q")

    def take(source: Channel) -> Any:
        return source.next() if consuming else source.wait_get("q", no_ack=False)

    seen = []
    for way in ("nack", "reject", "nack"):
        message = take(channel)
        seen.append(message.headers)
        getattr(channel, way)(message.tag)
    message = take(channel)
    seen.append(message.headers)
    channel.close()
    other = peer.channel()
    seen.append(other.wait_get("q").headers)
    if peer.version == "3.10" and not consuming:
        assert seen[0].pop(COUNT) == 0
    counts = [(headers.get(COUNT), headers.get("x-acquired-count")) for headers in seen]
    assert all(headers["mine"] == 1 for headers in seen)
    assert counts == peer.by_version(
        [(None, None), (1, None), (2, None), (3, None), (4, None)],
        [(None, None), (None, 1), (1, 2), (1, 3), (2, 4)],
    )


def test_no_delivery_count_on_classic(peer: Peer, channel: Channel) -> None:
    """Classic: there is no `x-delivery-count`"""
    lettered(channel, "classic", "a")
    channel.reject(held(channel, 1)[0])
    assert channel.wait_get("q").headers == {}


@pytest.mark.parametrize("way", ["nack", "reject", "close"])
def test_delivery_limit(peer: Peer, way: str) -> None:
    """Quorum: `x-delivery-limit` failures more than it says, and a message is dropped"""
    deliveries = 0
    control = peer.channel()
    control.quorum("q", x_delivery_limit=2)
    control.publish_confirmed("q", b"1")
    while deliveries < 6:
        channel = control.connection.channel()
        message = channel.get("q")
        if message is None:
            break
        deliveries += 1
        if way == "close":
            channel.close()
        else:
            getattr(channel, way)(message.tag)
            channel.close()
    unlimited = peer.version == "4.3" and way == "nack"
    assert deliveries == (6 if unlimited else 3)


def test_default_delivery_limit(peer: Peer, channel: Channel) -> None:
    """Quorum: the limit is 20 on 4.3 when none is given, and there is none on 3.10"""
    channel.quorum("q")
    channel.publish_confirmed("q", b"1")
    deliveries = 0
    channel.wait_ready("q", 1)
    while deliveries < 30 and (message := channel.get("q")):
        channel.reject(message.tag)
        deliveries += 1
    assert deliveries == peer.by_version(30, 21)
