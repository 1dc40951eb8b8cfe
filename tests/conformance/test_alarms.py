"""Alarms: a broker that is short of memory stops those who publish."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.conformance.client import Channel
from tests.conformance.peers import Peer
from tests.support.brokers.brokers import Broker


@contextmanager
def short_of_memory(peer: Peer) -> Iterator[None]:
    """The broker has its alarm meanwhile."""
    if peer.embedded:
        with peer.embedded.faults.block():
            yield
        return
    assert isinstance(peer.server, Broker)
    peer.server.ctl("set_vm_memory_high_watermark", "0.0001")
    try:
        yield
    finally:
        peer.server.ctl("set_vm_memory_high_watermark", "0.6")


def test_blocked(peer: Peer, channel: Channel) -> None:
    """A connection that publishes in an alarm is told `connection.blocked`, others go on"""
    channel.declare("q", exclusive=True)
    channel.publish_confirmed("q", b"1")
    other = peer.channel()
    with short_of_memory(peer):
        channel.publish("q", b"2")
        while not channel.connection.blocked:
            channel.connection.pump()
        assert channel.connection.blocked == ["low on memory"]
        other.round_trip()
        assert not other.connection.blocked
    while channel.connection.blocked:
        channel.connection.pump()
    assert channel.get_all("q") == [b"1", b"2"]
