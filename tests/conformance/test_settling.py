"""Settling: ack, nack and reject, one or many, and what is refused."""

import pytest

from tests.conformance.client import Channel
from tests.conformance.peers import Peer


def filled(channel: Channel, kind: str, count: int) -> None:
    """A queue whose messages have all been delivered, with tags from 1."""
    channel.of_kind(kind, "q")
    channel.publish_confirmed("q", *(b"%d" % n for n in range(1, count + 1)))
    channel.consume("q", "c")
    channel.take_next(count)
    channel.cancel("c")


def returned(channel: Channel, count: int) -> set[bytes]:
    """What is in the queue once the channel is closed: all that was not settled."""
    channel.close()
    other = channel.connection.channel()
    other.wait_ready("q", count)
    return set(other.get_all("q"))


def test_ack(channel: Channel, kind: str) -> None:
    """An ack takes one message away"""
    filled(channel, kind, 3)
    channel.ack(2)
    assert returned(channel, 2) == {b"1", b"3"}


def test_ack_multiple(channel: Channel, kind: str) -> None:
    """An ack of many takes all up to its tag"""
    filled(channel, kind, 3)
    channel.ack(2, multiple=True)
    assert returned(channel, 1) == {b"3"}


def test_ack_all(channel: Channel, kind: str) -> None:
    """An ack of many with tag 0 takes all"""
    filled(channel, kind, 3)
    channel.ack(0, multiple=True)
    assert returned(channel, 0) == set()


def test_ack_all_of_nothing(channel: Channel) -> None:
    """An ack of many with tag 0 is fine when nothing is unacked"""
    channel.ack(0, multiple=True)
    channel.round_trip()


def test_nack_multiple(channel: Channel, kind: str) -> None:
    """A nack of many without requeue throws all up to its tag away"""
    filled(channel, kind, 3)
    channel.nack(2, multiple=True, requeue=False)
    assert returned(channel, 1) == {b"3"}


def test_nack_requeues(channel: Channel, kind: str) -> None:
    """A nack with requeue gives back what is marked as redelivered"""
    filled(channel, kind, 2)
    channel.nack(1)
    message = channel.wait_get("q")
    assert (message.body, message.redelivered) == (b"1", True)


def test_reject(channel: Channel, kind: str) -> None:
    """A reject throws one message away, or with requeue gives it back"""
    filled(channel, kind, 2)
    channel.reject(1, requeue=False)
    channel.reject(2)
    message = channel.wait_get("q")
    assert (message.body, message.redelivered) == (b"2", True)
    assert channel.get("q") is None


@pytest.mark.parametrize("way", ["ack", "nack", "reject"])
def test_unknown_tag(channel: Channel, way: str) -> None:
    """An unknown delivery tag closes the channel with 406"""
    with channel.refuses(406, "PRECONDITION_FAILED - unknown delivery tag 99"):
        getattr(channel, way)(99)


def test_settled_twice(channel: Channel, kind: str) -> None:
    """A delivery settled twice closes the channel with 406"""
    filled(channel, kind, 1)
    channel.ack(1)
    with channel.refuses(406, "PRECONDITION_FAILED - unknown delivery tag 1"):
        channel.ack(1)


def test_multiple_up_to_a_settled_tag(channel: Channel, kind: str) -> None:
    """Many, up to a tag that is settled itself: the channel is closed with 406"""
    filled(channel, kind, 3)
    channel.ack(2)
    with channel.refuses(406, "PRECONDITION_FAILED - unknown delivery tag 2"):
        channel.ack(2, multiple=True)


def test_tag_zero(channel: Channel) -> None:
    """Tag 0 for one message closes the channel with 406"""
    with channel.refuses(406, "PRECONDITION_FAILED - unknown delivery tag 0"):
        channel.ack(0)


def test_tags_are_the_channels_own(channel: Channel) -> None:
    """A delivery cannot be acked on another channel"""
    filled(channel, "classic", 1)
    other = channel.connection.channel()
    with other.refuses(406, "PRECONDITION_FAILED - unknown delivery tag 1"):
        other.ack(1)


def test_channel_error_gives_back(peer: Peer, channel: Channel, kind: str) -> None:
    """What is unacked when a channel fails goes back to its queue, redelivered"""
    filled(channel, kind, 2)
    with channel.refuses(406, "PRECONDITION_FAILED - unknown delivery tag 9"):
        channel.ack(9)
    other = peer.channel()
    other.wait_ready("q", 2)
    message = other.get("q")
    assert message is not None
    assert message.redelivered
