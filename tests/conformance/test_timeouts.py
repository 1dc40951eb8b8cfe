"""Consumers that hold a message for too long."""

from tests.conformance.client import Channel
from tests.conformance.events import Cancelled
from tests.conformance.peers import Peer


def test_consumer_timeout(peer: Peer, channel: Channel) -> None:
    """Quorum: `x-consumer-timeout` of a consumer cancels it on 4.3, and is not known on 3.10"""
    channel.quorum("q", x_delivery_limit=20)
    channel.publish_confirmed("q", b"1")
    channel.consume("q", "c", arguments={"x-consumer-timeout": 500})
    held = channel.next()
    if peer.version == "3.10":
        channel.ack(held.tag)
        channel.wait_ready("q", 0)
        return
    assert channel.next() == Cancelled("c")
    again = peer.channel().wait_get("q")
    assert (again.body, again.redelivered) == (b"1", True)
    channel.ack(held.tag)  # is too late, and no error
    channel.round_trip()
