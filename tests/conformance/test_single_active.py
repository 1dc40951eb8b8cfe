"""Single active consumer: one is given everything, and another takes over."""

from pamqp.commands import Basic

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


def of_kind(channel: Channel, kind: str) -> None:
    """With a delivery limit, without which 3.10 puts what is given back to the end."""
    more = {"x_delivery_limit": 10} if kind == "quorum" else {}
    channel.of_kind(kind, "q", **more, **SINGLE)


def test_takes_over_beside_what_is_unacked(peer: Peer, channel: Channel) -> None:
    """Quorum: when the active one is cancelled with one unacked, the next is active at once"""
    channel.quorum("q", **SINGLE)
    channel.qos(1)
    channel.consume("q", "one")
    other = peer.channel()
    other.qos(1)
    other.consume("q", "two")
    channel.publish_confirmed("q", b"1", b"2")
    held = channel.next()
    channel.cancel("one")
    assert other.next().body == b"2"
    channel.ack(held.tag)
    other.round_trip()


def test_cancelled_before_the_ack(peer: Peer, channel: Channel) -> None:
    """Quorum: a cancel without an answer, and an ack behind it: the next has the next message"""
    channel.quorum("q", **SINGLE)
    channel.qos(1)
    channel.consume("q", "one")
    other = peer.channel()
    other.qos(1)
    other.consume("q", "two")
    channel.publish_confirmed("q", b"1", b"2")
    held = channel.next()
    channel.send(Basic.Cancel("one", nowait=True), Basic.Ack(held.tag))
    assert (found := other.next()).body == b"2"
    assert not found.redelivered
    assert channel.arrived() == []


def test_classic_hands_over_late(peer: Peer, channel: Channel) -> None:
    """Classic, 3.10: when the active one is cancelled, the next is given nothing; on 4.3 at once

    On 3.10.8 the queue's process fails at the next publish then, and its consumers are cancelled.
    """
    channel.classic("q", **SINGLE)
    channel.qos(1)
    channel.consume("q", "one")
    other = peer.channel()
    other.qos(1)
    other.consume("q", "two")
    channel.publish_confirmed("q", b"1", b"2")
    held = channel.next()
    channel.cancel("one")
    channel.ack(held.tag)
    if peer.version == "3.10":
        channel.wait_ready("q", 1)
        other.round_trip()
        assert other.arrived() == []
        return
    assert other.next().body == b"2"


def test_cancelled_before_giving_back(peer: Peer, channel: Channel, kind: str) -> None:
    """A cancel without an answer, and a nack behind it: the next is given all, in order"""
    of_kind(channel, kind)
    channel.qos(1)
    channel.consume("q", "one")
    channel.publish_confirmed("q", b"1", b"2")
    held = channel.next()
    channel.send(Basic.Cancel("one", nowait=True), Basic.Nack(held.tag))
    channel.wait_ready("q", 2)
    other = peer.channel()
    other.consume("q", "two")
    first, second = other.take_next(2)
    assert [(e.body, e.redelivered) for e in (first, second)] == [(b"1", True), (b"2", False)]
    assert channel.arrived() == []


def test_given_back_to_the_active_one(channel: Channel, kind: str) -> None:
    """What the active one gives back is delivered to it again, not to the next"""
    of_kind(channel, kind)
    channel.qos(1)
    channel.consume("q", "one")
    channel.consume("q", "two")
    channel.publish_confirmed("q", b"1", b"2")
    channel.nack(channel.next().tag)
    again = channel.next()
    assert (again.consumer, again.body, again.redelivered) == ("one", b"1", True)


def test_another_consumer_of_the_same_channel_is_last(channel: Channel, kind: str) -> None:
    """One that consumes again after its cancellation is behind those that wait"""
    channel.of_kind(kind, "q", **SINGLE)
    for tag in ("one", "two"):
        channel.consume("q", tag, no_ack=True)
    channel.cancel("one")
    channel.consume("q", "three", no_ack=True)
    channel.publish_confirmed("q", b"1")
    assert channel.next().consumer == "two"


def test_native_priorities(channel: Channel) -> None:
    """Classic: `x-max-priority` goes with it, and the active one is given the urgent ones first"""
    channel.classic("q", x_max_priority=9, **SINGLE)
    channel.publish_confirmed("q", b"low", priority=1)
    channel.publish_confirmed("q", b"high", priority=9)
    channel.consume("q", "one", no_ack=True)
    channel.consume("q", "two", no_ack=True)
    found = channel.take_next(2)
    assert [(e.consumer, e.body) for e in found] == [("one", b"high"), ("one", b"low")]


def test_is_for_good(peer: Peer, channel: Channel, kind: str) -> None:
    """A queue that has it not, or has it, is not declared the other way: 406 names the argument"""
    channel.of_kind(kind, "q")
    side = peer.channel()
    words = "PRECONDITION_FAILED - inequivalent arg 'x-single-active-consumer' for queue"
    true = "the value 'true' of type 'bool'"
    with side.refuses(406, f"{words} 'q' {peer.place}: received {true} but current is none"):
        side.of_kind(kind, "q", **SINGLE)
    channel.of_kind(kind, "r", **SINGLE)
    with channel.refuses(406, f"{words} 'r' {peer.place}: received none but current is {true}"):
        channel.of_kind(kind, "r")
