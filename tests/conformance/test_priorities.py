"""Message priorities: classic queues that have them, and quorum queues."""

from tests.conformance.client import Channel
from tests.conformance.peers import Peer


def published(channel: Channel, *messages: tuple[int | None, bytes]) -> None:
    for priority, body in messages:
        channel.publish_confirmed("q", body, priority=priority)


def test_classic(channel: Channel) -> None:
    """Classic: with `x-max-priority` the highest comes first, the oldest of it before others"""
    channel.classic("q", x_max_priority=5)
    published(channel, (1, b"a"), (5, b"b"), (None, b"c"), (5, b"d"), (0, b"e"), (3, b"f"))
    assert channel.get_all("q") == [b"b", b"d", b"f", b"a", b"c", b"e"]


def test_classic_above_the_maximum(channel: Channel) -> None:
    """Classic: a priority above the maximum is the maximum; the property stays as it was"""
    channel.classic("q", x_max_priority=5)
    published(channel, (5, b"a"), (200, b"b"), (6, b"c"))
    assert channel.counts("q")[0] == 3
    found = [channel.wait_get("q") for _ in range(3)]
    assert [message.body for message in found] == [b"a", b"b", b"c"]
    assert [message.properties.priority for message in found] == [5, 200, 6]


def test_classic_without_priorities(channel: Channel) -> None:
    """Classic: without `x-max-priority` the property changes nothing"""
    channel.classic("q")
    published(channel, (1, b"a"), (9, b"b"))
    assert channel.get_all("q") == [b"a", b"b"]


def test_classic_given_back(channel: Channel) -> None:
    """Classic: what is given back keeps its priority and place"""
    channel.classic("q", x_max_priority=5)
    published(channel, (1, b"a"), (5, b"b"), (5, b"c"))
    held = channel.wait_get("q", no_ack=False)
    published(channel, (5, b"d"))
    channel.nack(held.tag)
    channel.wait_ready("q", 4)
    assert channel.get_all("q") == [b"b", b"c", b"d", b"a"]


def test_classic_drops_the_highest(channel: Channel) -> None:
    """Classic: `x-max-length` drops what would come next: the highest priority"""
    channel.classic("q", x_max_priority=5, x_max_length=2)
    published(channel, (5, b"a"), (1, b"b"), (3, b"c"))
    channel.wait_ready("q", 2)
    assert channel.get_all("q") == [b"c", b"b"]


def test_quorum(peer: Peer, channel: Channel) -> None:
    """Quorum: 3.10 ignores priorities; on 4.3 the highest of 32 comes first, 4 without one"""
    channel.quorum("q")
    published(
        channel, (1, b"a"), (5, b"b"), (None, b"c"), (0, b"d"), (4, b"e"), (31, b"f"), (200, b"g")
    )
    channel.wait_ready("q", 7)
    expected = peer.by_version("abcdefg", "fgbcead")
    assert b"".join(channel.get_all("q")).decode() == expected


def test_quorum_given_back(peer: Peer, channel: Channel) -> None:
    """Quorum: what is given back comes before all others, whatever their priority"""
    channel.quorum("q", x_delivery_limit=10)
    published(channel, (1, b"a"))
    held = channel.wait_get("q", no_ack=False)
    published(channel, (9, b"b"))
    channel.nack(held.tag)
    channel.wait_ready("q", 2)
    assert channel.get_all("q") == peer.by_version([b"a", b"b"], [b"a", b"b"])
