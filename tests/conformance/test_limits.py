"""Queues with a maximum length."""

import pytest

from tests.conformance.client import Channel
from tests.conformance.events import Confirmed, Returned


def filled(channel: Channel, *bodies: bytes) -> None:
    channel.publish_confirmed("q", *bodies)


def test_drop_head(channel: Channel, kind: str) -> None:
    """`x-max-length` drops the oldest, and confirms all"""
    channel.of_kind(kind, "q", x_max_length=2)
    filled(channel, b"1", b"2", b"3", b"4")
    channel.wait_ready("q", 2)
    assert channel.get_all("q") == [b"3", b"4"]


def test_drop_head_by_bytes(channel: Channel, kind: str) -> None:
    """`x-max-length-bytes` counts the bodies' bytes"""
    channel.of_kind(kind, "q", x_max_length_bytes=1000)
    filled(channel, bytes(400), b"1" * 400, b"2" * 400, b"3")
    channel.wait_ready("q", 3)
    assert [body[:1] for body in channel.get_all("q")] == [b"1", b"2", b"3"]


def test_unacked_do_not_count(channel: Channel, kind: str) -> None:
    """`x-max-length` counts what is ready alone"""
    channel.of_kind(kind, "q", x_max_length=2)
    filled(channel, b"1", b"2")
    channel.wait_get("q", no_ack=False)
    channel.wait_get("q", no_ack=False)
    filled(channel, b"3", b"4")
    channel.wait_ready("q", 2)
    assert channel.get_all("q") == [b"3", b"4"]


def test_given_back_beyond_the_limit(channel: Channel) -> None:
    """Classic: what is given back to a full queue drops the oldest: itself"""
    channel.classic("q", x_max_length=2)
    filled(channel, b"1")
    held = channel.wait_get("q", no_ack=False)
    filled(channel, b"2", b"3")
    channel.nack(held.tag)
    channel.round_trip()
    channel.wait_ready("q", 2)
    assert channel.get_all("q") == [b"2", b"3"]


@pytest.mark.parametrize("overflow", ["reject-publish", "reject-publish-dlx"])
def test_reject_publish_on_classic(channel: Channel, overflow: str) -> None:
    """Classic: `reject-publish` refuses what does not fit with `basic.nack`, and drops nothing"""
    channel.exchange("spill", "fanout")
    channel.declare("spilt", exclusive=True)
    channel.bind("spilt", "spill")
    channel.classic("q", x_max_length=2, x_overflow=overflow, x_dead_letter_exchange="spill")
    channel.confirms()
    outcome = []
    for body in (b"1", b"2", b"3"):
        channel.publish("q", body)
        outcome.append(channel.next())
    assert outcome == [Confirmed(1), Confirmed(2), Confirmed(3, refused=True)]
    assert channel.get_all("q") == [b"1", b"2"]
    spilt = channel.get_all("spilt")
    assert spilt == ([b"3"] if overflow == "reject-publish-dlx" else [])
    channel.publish("q", b"4")
    assert channel.next() == Confirmed(4)


def test_reject_publish_on_quorum(channel: Channel) -> None:
    """Quorum: `reject-publish` refuses with `basic.nack` once the queue is over its limit"""
    channel.quorum("q", x_max_length=2, x_overflow="reject-publish")
    channel.confirms()
    outcome = []
    while not outcome or not outcome[-1].refused:
        channel.publish("q")
        outcome.append(channel.next())
        assert len(outcome) < 10
    kept = channel.counts("q")[0]
    assert kept == len(outcome) - 1
    assert kept == 3
    channel.purge("q")
    channel.wait_ready("q", 0)


def test_rejected_in_one_of_two(channel: Channel) -> None:
    """A message for a full queue and another is refused, though the other has it"""
    channel.exchange("x", "fanout")
    channel.classic("q", x_max_length=0, x_overflow="reject-publish")
    channel.classic("r")
    channel.bind("q", "x")
    channel.bind("r", "x")
    channel.confirms()
    channel.publish("", b"1", exchange="x")
    assert channel.next() == Confirmed(1, refused=True)
    assert channel.get_all("r") == [b"1"]


def test_length_zero(channel: Channel) -> None:
    """Classic: with a maximum of 0, only a waiting consumer is given anything"""
    channel.classic("q", x_max_length=0)
    filled(channel, b"1")
    assert channel.get("q") is None
    channel.consume("q", no_ack=True)
    filled(channel, b"2")
    assert channel.next().body == b"2"


def test_mandatory_and_full(channel: Channel) -> None:
    """What a full queue refuses is not returned, though mandatory"""
    channel.classic("q", x_max_length=0, x_overflow="reject-publish")
    channel.confirms()
    channel.publish("q", mandatory=True)
    event = channel.next()
    assert not isinstance(event, Returned)
    assert event == Confirmed(1, refused=True)
