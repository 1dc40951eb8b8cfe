"""Single active consumer: one is given everything, and another takes over."""

from tests.conformance.client import Channel
from tests.conformance.peers import Peer

SINGLE = {"x_single_active_consumer": True}


def test_first_is_active(channel: Channel, kind: str) -> None:
    """With `x-single-active-consumer` the first consumer is given all"""
    channel.of_kind(kind, "q", **SINGLE)
    channel.consume("q", "one", no_ack=True)
    channel.consume("q", "two", no_ack=True)
    channel.publish_confirmed("q", *(b"%d" % n for n in range(6)))
    assert {event.consumer for event in channel.take_next(6)} == {"one"}


def test_next_takes_over(channel: Channel, kind: str) -> None:
    """When the active one is cancelled, the next in line takes over"""
    channel.of_kind(kind, "q", **SINGLE)
    for tag in ("one", "two", "three"):
        channel.consume("q", tag, no_ack=True)
    seen = []
    for tag in ("one", "two", "three"):
        channel.publish_confirmed("q", b"1")
        seen.append(channel.next().consumer)
        channel.cancel(tag)
    assert seen == ["one", "two", "three"]


def test_takes_over_from_a_closed_channel(peer: Peer, channel: Channel, kind: str) -> None:
    """When the active one's channel is closed, the next is given what it had, in order"""
    first = peer.channel()
    first.of_kind(kind, "q", x_delivery_limit=10, **SINGLE) if kind == "quorum" else first.classic(
        "q", **SINGLE
    )
    first.consume("q", "one")
    channel.consume("q", "two")
    first.publish_confirmed("q", b"1", b"2")
    first.take_next(2)
    first.close()
    second = channel.take_next(2)
    assert [(event.consumer, event.body) for event in second] == [("two", b"1"), ("two", b"2")]
    assert all(event.redelivered for event in second)


def test_full_prefetch_does_not_hand_over(channel: Channel, kind: str) -> None:
    """An active consumer whose prefetch is full is waited for"""
    channel.of_kind(kind, "q", **SINGLE)
    channel.qos(1)
    channel.consume("q", "one")
    channel.consume("q", "two")
    channel.publish_confirmed("q", b"1", b"2")
    assert channel.next().consumer == "one"
    channel.wait_ready("q", 1)
    assert channel.arrived() == []


def test_priority(peer: Peer, channel: Channel) -> None:
    """Quorum: a consumer with a higher `x-priority` becomes the active one on 4.3, not on 3.10"""
    channel.quorum("q", **SINGLE)
    channel.consume("q", "low", no_ack=True)
    channel.consume("q", "high", no_ack=True, arguments={"x-priority": 10})
    channel.publish_confirmed("q", b"1")
    assert channel.next().consumer == peer.by_version("low", "high")


def test_priority_waits_for_what_is_unacked(peer: Peer, channel: Channel) -> None:
    """Quorum, 4.3: one with a higher priority is active when the other has nothing unacked"""
    channel.quorum("q", **SINGLE)
    channel.qos(1)
    channel.consume("q", "low")
    channel.publish_confirmed("q", b"1")
    held = channel.next()
    channel.consume("q", "high", arguments={"x-priority": 10})
    channel.publish_confirmed("q", b"2", b"3")
    channel.wait_ready("q", 2)
    assert channel.arrived() == []
    channel.ack(held.tag)
    assert channel.next().consumer == peer.by_version("low", "high")


def test_exclusive_consumer(peer: Peer, channel: Channel, kind: str) -> None:
    """An exclusive consumer is refused with 403 by a classic queue, and taken by a quorum queue"""
    channel.of_kind(kind, "q", **SINGLE)
    if kind == "quorum":
        channel.consume("q", exclusive=True)
        return
    with channel.refuses(403, f"ACCESS_REFUSED - queue 'q' {peer.place} in exclusive use"):
        channel.consume("q", exclusive=True)


def test_get(peer: Peer, channel: Channel, kind: str) -> None:
    """`basic.get`: a classic queue gives; a quorum queue refuses"""
    channel.of_kind(kind, "q", **SINGLE)
    channel.publish_confirmed("q", b"1")
    if kind == "classic":
        assert channel.wait_get("q").body == b"1"
        return
    said = peer.by_version("quorum", '<<"quorum">>')
    text = (
        f"RESOURCE_LOCKED - cannot obtain access to locked queue 'q' {peer.place}. basic.get"
        f" operations are not supported by {said} queues with single active consumer"
    )
    with channel.refuses(405, text):
        channel.get("q")
