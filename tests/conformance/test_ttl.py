"""Time to live: of messages, by their queue or their own, and of queues."""

import time
from typing import Any

from tests.conformance.client import Channel
from tests.conformance.peers import Peer


def dead_letters(channel: Channel) -> None:
    """A queue `dead` that all dead letters of `q` go to."""
    channel.classic("dead")


TO_DEAD: dict[str, Any] = {"x_dead_letter_exchange": "", "x_dead_letter_routing_key": "dead"}


def test_message_ttl(channel: Channel, kind: str) -> None:
    """`x-message-ttl`: a message that has waited so many milliseconds is dropped, not before"""
    dead_letters(channel)
    channel.of_kind(kind, "q", x_message_ttl=400, **TO_DEAD)
    began = time.monotonic()
    channel.publish_confirmed("q", b"1")
    assert channel.wait_get("dead").body == b"1"
    assert 0.4 <= time.monotonic() - began < 3
    channel.wait_ready("q", 0)


def test_expiration(channel: Channel, kind: str) -> None:
    """`expiration`: the same for one message"""
    dead_letters(channel)
    channel.of_kind(kind, "q", **TO_DEAD)
    began = time.monotonic()
    channel.publish("q", b"1", expiration="300")
    assert channel.wait_get("dead").body == b"1"
    assert 0.3 <= time.monotonic() - began < 3


def test_the_shorter_counts(channel: Channel, kind: str) -> None:
    """With both, the shorter counts"""
    dead_letters(channel)
    channel.of_kind(kind, "q", x_message_ttl=300, **TO_DEAD)
    channel.publish("q", b"queue", expiration="60000")
    assert channel.wait_get("dead").body == b"queue"
    channel.of_kind(kind, "r", x_message_ttl=60000, **TO_DEAD)
    channel.publish("r", b"own", expiration="300")
    assert channel.wait_get("dead").body == b"own"


def test_only_the_first_expires(channel: Channel, kind: str) -> None:
    """A message expires when it is the first of its queue: those before it are waited for"""
    dead_letters(channel)
    channel.of_kind(kind, "q", **TO_DEAD)
    channel.publish_confirmed("q", b"first")
    channel.publish_confirmed("q", b"second", expiration="1")
    channel.publish_confirmed("q", b"third", expiration="300")
    channel.wait_ready("q", 3)
    assert channel.get("dead") is None
    assert channel.wait_get("q").body == b"first"
    assert channel.wait_get("dead").body == b"second"
    assert channel.wait_get("dead").body == b"third"


def test_expired_is_not_delivered(channel: Channel, kind: str) -> None:
    """What has expired is never delivered"""
    dead_letters(channel)
    channel.of_kind(kind, "q", **TO_DEAD)
    channel.publish_confirmed("q", b"1", expiration="100")
    assert channel.wait_get("dead").body == b"1"
    channel.consume("q", no_ack=True)
    channel.publish_confirmed("q", b"2")
    assert channel.next().body == b"2"


def test_expiration_of_zero(channel: Channel, kind: str) -> None:
    """With an `expiration` of 0 a message is for a waiting consumer, or gone at once"""
    channel.of_kind(kind, "q")
    channel.publish_confirmed("q", b"1", expiration="0")
    channel.wait_ready("q", 0)
    channel.consume("q", no_ack=True)
    channel.publish_confirmed("q", b"2", expiration="0")
    assert channel.next().body == b"2"


def test_unacked_does_not_expire(channel: Channel, kind: str) -> None:
    """What is unacked does not expire; given back too late it does"""
    dead_letters(channel)
    channel.of_kind(kind, "q", x_message_ttl=300, **TO_DEAD)
    channel.publish("q", b"held")
    held = channel.wait_get("q", no_ack=False)
    channel.publish("q", b"next")
    assert channel.wait_get("dead").body == b"next"
    assert channel.get("dead") is None
    channel.nack(held.tag)
    assert channel.wait_get("dead").body == b"held"


def test_expiration_is_taken_off(channel: Channel, kind: str) -> None:
    """A dead letter has no `expiration` any more: it is in `x-death` as `original-expiration`"""
    dead_letters(channel)
    channel.of_kind(kind, "q", **TO_DEAD)
    channel.publish("q", b"1", expiration="1")
    message = channel.wait_get("dead")
    assert message.properties.expiration is None
    assert message.headers["x-death"][0]["original-expiration"] == "1"


def test_queue_expires(peer: Peer, channel: Channel, kind: str) -> None:
    """`x-expires`: a queue that nobody uses is deleted after it; one with a consumer stays"""
    began = time.monotonic()
    channel.of_kind(kind, "used", x_expires=500)
    channel.consume("used", "c", no_ack=True)
    other = peer.channel()
    other.of_kind(kind, "q", x_expires=500)
    other.publish_confirmed("q", b"1")
    other.consume("q", "c")
    other.next()
    other.close()
    # Each look at a classic queue counts as use: only the time without a look is waited for.
    time.sleep(1.0)
    peer.channel().wait_gone("q")
    assert time.monotonic() - began >= 0.5
    channel.publish("used", b"1")
    assert channel.next().body == b"1"
