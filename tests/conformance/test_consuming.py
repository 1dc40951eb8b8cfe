"""Consuming: who is given what, in which order, and how it ends."""

import pytest
from pamqp.commands import Basic, Queue
from pamqp.commands import Channel as ChannelMethods

from tests.conformance.client import Channel
from tests.conformance.events import Cancelled
from tests.conformance.peers import Peer


def test_deliveries(channel: Channel, kind: str) -> None:
    """Messages come in order, tagged from 1 on the channel, with exchange, key and consumer"""
    channel.of_kind(kind, "q")
    channel.bind("q", "amq.direct", "key")
    channel.publish_confirmed("key", b"1", b"2", exchange="amq.direct")
    channel.consume("q", "c")
    first, second = channel.take_next(2)
    assert (first.consumer, first.tag, first.exchange, first.key) == ("c", 1, "amq.direct", "key")
    assert (first.body, second.body) == (b"1", b"2")
    assert (first.redelivered, second.tag) == (False, 2)
    channel.publish("q", b"3")
    assert channel.next().tag == 3


def test_tags_are_made(channel: Channel) -> None:
    """A consumer without a tag is given one that begins with `amq.ctag-`"""
    channel.declare("q", exclusive=True)
    first, second = channel.consume("q"), channel.consume("q")
    assert first.startswith("amq.ctag-")
    assert first != second


def test_tag_used_twice(channel: Channel) -> None:
    """A tag used twice on a channel is a connection error 530"""
    channel.declare("q", exclusive=True)
    channel.consume("q", "c")
    with channel.refuses(530, "NOT_ALLOWED - attempt to reuse consumer tag 'c'", "connection"):
        channel.consume("q", "c")


def test_no_ack(channel: Channel, kind: str) -> None:
    """With `no_ack` a delivery is gone at once, and prefetch does not count"""
    channel.of_kind(kind, "q")
    channel.qos(1)
    channel.consume("q", "c", no_ack=True)
    channel.publish_confirmed("q", b"1", b"2", b"3")
    assert channel.bodies(3) == [b"1", b"2", b"3"]
    channel.cancel("c")
    channel.close()
    assert channel.connection.channel().counts("q") == (0, 0)


def test_prefetch(channel: Channel, kind: str) -> None:
    """A consumer has as many unacked as its prefetch allows; an ack makes room"""
    channel.of_kind(kind, "q")
    channel.qos(2)
    channel.publish_confirmed("q", b"1", b"2", b"3", b"4")
    channel.consume("q")
    assert channel.bodies(2) == [b"1", b"2"]
    channel.wait_ready("q", 2)
    assert channel.arrived() == []
    channel.ack(1)
    assert channel.bodies(1) == [b"3"]
    channel.wait_ready("q", 1)
    assert channel.arrived() == []


def test_prefetch_is_each_consumers(channel: Channel, kind: str) -> None:
    """Prefetch counts for each consumer alone, and for those made after it was set"""
    channel.of_kind(kind, "q")
    channel.qos(1)
    channel.consume("q", "one")
    channel.qos(3)
    channel.consume("q", "three")
    channel.publish_confirmed("q", *(b"%d" % n for n in range(6)))
    channel.wait_ready("q", 2)
    by = [event.consumer for event in channel.take_next(4)]
    assert (by.count("one"), by.count("three")) == (1, 3)
    assert channel.arrived() == []


def test_shared_prefetch(peer: Peer, channel: Channel) -> None:
    """`qos` for the whole channel: so on 3.10; 4.3 takes it for each consumer"""
    channel.declare("q", exclusive=True)
    channel.qos(3, shared=True)
    channel.consume("q", "one")
    channel.consume("q", "two")
    channel.publish_confirmed("q", *(b"%d" % n for n in range(9)))
    given = peer.by_version(3, 6)
    channel.take_next(given)
    channel.wait_ready("q", 9 - given)
    assert channel.arrived() == []


def test_prefetch_in_bytes(channel: Channel) -> None:
    """`prefetch_size` is a connection error 540"""
    with channel.refuses(540, "NOT_IMPLEMENTED - prefetch_size!=0 (10)", "connection"):
        channel.call(Basic.Qos(10, 0, False))


def test_round_robin(channel: Channel, kind: str) -> None:
    """Consumers take turns"""
    channel.of_kind(kind, "q")
    for tag in "abc":
        channel.consume("q", tag)
    channel.publish_confirmed("q", *(b"%d" % n for n in range(6)))
    assert [event.consumer for event in channel.take_next(6)] == list("abcabc")


def test_consumer_priorities(channel: Channel, kind: str) -> None:
    """Consumers with a higher `x-priority` are given all that they can take"""
    channel.of_kind(kind, "q")
    channel.qos(2)
    channel.consume("q", "low")
    channel.consume("q", "high", arguments={"x-priority": 10})
    channel.publish_confirmed("q", *(b"%d" % n for n in range(3)))
    assert [event.consumer for event in channel.take_next(3)] == ["high", "high", "low"]


def test_exclusive_consumer(peer: Peer, channel: Channel) -> None:
    """An exclusive consumer shuts others out, and is refused beside others: 403"""
    channel.declare("q", durable=True)
    channel.consume("q", "c", exclusive=True)
    text = f"ACCESS_REFUSED - queue 'q' {peer.place} in exclusive use"
    other = peer.channel()
    with other.refuses(403, text):
        other.consume("q")
    channel.cancel("c")
    channel.consume("q", "d")
    other = peer.channel()
    with other.refuses(403, text):
        other.consume("q", exclusive=True)


def test_missing_queue(peer: Peer) -> None:
    """Consuming or getting from a missing queue is refused with 404"""
    for method in (Basic.Consume(queue="nowhere"), Basic.Get(queue="nowhere")):
        channel = peer.channel()
        with channel.refuses(404, f"NOT_FOUND - no queue 'nowhere' {peer.place}"):
            channel.call(method)


def test_invalid_priority(peer: Peer, channel: Channel) -> None:
    """An `x-priority` that is not a number is refused with 406"""
    channel.declare("q", exclusive=True)
    text = f"PRECONDITION_FAILED - invalid arg 'x-priority' for queue 'q' {peer.place}"
    with channel.refuses(406, f'{text}: "expected integer, got longstr"'):
        channel.consume("q", arguments={"x-priority": "high"})


def test_cancel(channel: Channel, kind: str) -> None:
    """After `basic.cancel` nothing comes; what is unacked stays so, and can be acked"""
    channel.of_kind(kind, "q")
    channel.qos(1)
    channel.publish_confirmed("q", b"1", b"2")
    channel.consume("q", "c")
    held = channel.next()
    channel.cancel("c")
    channel.ack(held.tag)
    channel.publish_confirmed("q", b"3")
    assert channel.arrived() == []
    assert channel.counts("q") == (2, 0)


def test_cancel_unknown(channel: Channel) -> None:
    """Cancelling a consumer that is not there is answered"""
    channel.cancel("nobody")


def test_queue_deleted(channel: Channel, kind: str) -> None:
    """When a queue is deleted its consumers are told by `basic.cancel`"""
    channel.of_kind(kind, "q")
    channel.consume("q", "c")
    channel.connection.channel().delete("q")
    assert channel.next() == Cancelled("c")


def test_get(channel: Channel, kind: str) -> None:
    """`basic.get` takes one, says how many are left, and answers when there is none"""
    channel.of_kind(kind, "q")
    channel.publish_confirmed("q", b"1", b"2")
    message = channel.wait_get("q", no_ack=False)
    assert (message.body, message.tag, message.left, message.redelivered) == (b"1", 1, 1, False)
    message = channel.get("q", no_ack=True)
    assert message is not None
    assert (message.body, message.tag, message.left) == (b"2", 2, 0)
    assert channel.get("q") is None


def test_get_ignores_prefetch(channel: Channel, kind: str) -> None:
    """`basic.get` takes messages beyond the prefetch"""
    channel.of_kind(kind, "q")
    channel.qos(1)
    channel.publish_confirmed("q", b"1", b"2")
    assert channel.wait_get("q", no_ack=False).body == b"1"
    assert channel.wait_get("q", no_ack=False).body == b"2"


@pytest.mark.parametrize("way", ["recover", "recover-async"])
def test_recover(channel: Channel, kind: str, way: str) -> None:
    """`basic.recover` gives all that is unacked back, redelivered"""
    channel.of_kind(kind, "q")
    channel.publish_confirmed("q", b"1", b"2")
    channel.wait_get("q", no_ack=False)
    channel.wait_get("q", no_ack=False)
    if way == "recover":
        channel.call(Basic.Recover(True))
    else:
        with pytest.warns(DeprecationWarning, match="deprecated in AMQP 0-9-1"):
            method = Basic.RecoverAsync(True)
        channel.send(method)
    found = [channel.wait_get("q") for _ in range(2)]
    assert sorted(message.body for message in found) == [b"1", b"2"]
    assert all(message.redelivered for message in found)


def test_recover_without_requeue(channel: Channel) -> None:
    """`basic.recover` without requeue is a connection error 540"""
    with channel.refuses(540, "NOT_IMPLEMENTED - requeue=false", "connection"):
        channel.call(Basic.Recover(False))


def test_flow(peer: Peer, channel: Channel) -> None:
    """`channel.flow` on is answered; off is a connection error 540"""
    assert channel.call(ChannelMethods.Flow(True)).active is True
    with channel.refuses(540, "NOT_IMPLEMENTED - active=false", "connection"):
        channel.call(ChannelMethods.Flow(False))


def test_no_local(channel: Channel) -> None:
    """`no_local` is ignored: a connection is given what it publishes"""
    channel.declare("q", exclusive=True)
    channel.consume("q", no_local=True)
    channel.publish("q", b"1")
    assert channel.next().body == b"1"


def test_a_consumer_that_deletes_its_queue(kind: str, channel: Channel) -> None:
    """`queue.delete-ok` comes ahead of the `basic.cancel` for consumers of the same channel"""
    channel.of_kind(kind, "q")
    channel.consume("q", "c")
    channel.send(Queue.Delete(queue="q"))
    arrived = [channel.connection.wire.receive()[1].name for _ in range(2)]
    assert arrived == ["Queue.DeleteOk", "Basic.Cancel"]
