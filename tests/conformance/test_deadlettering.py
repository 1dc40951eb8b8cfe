"""Dead letters: where they go, what is written on them, and what is dropped instead."""

import time
from datetime import datetime
from typing import Any

import pytest

from tests.conformance.client import Channel
from tests.conformance.events import Delivered
from tests.conformance.peers import Peer

DLX, KEY = "x_dead_letter_exchange", "x_dead_letter_routing_key"


@pytest.fixture
def dead(channel: Channel) -> Channel:
    """The channel, with a queue `dead` that is bound to the fanout exchange `dlx`."""
    channel.exchange("dlx", "fanout")
    channel.classic("dead")
    channel.bind("dead", "dlx")
    return channel


def rejected(channel: Channel, kind: str, **properties: Any) -> Delivered:
    """Publish to a new queue `q`, reject it there, and take it out of `dead`."""
    channel.of_kind(kind, "q", **{DLX: "dlx"})
    channel.bind("q", "amq.direct", "key")
    channel.publish_confirmed("key", b"body", exchange="amq.direct", **properties)
    channel.reject(channel.wait_get("q", no_ack=False).tag, requeue=False)
    return channel.wait_get("dead")


def test_rejected(dead: Channel, kind: str) -> None:
    """A message that is rejected goes to `x-dead-letter-exchange` with its key, body and headers"""
    message = rejected(dead, kind, message_id="m", headers={"mine": 1}, priority=2)
    assert (message.exchange, message.key, message.body) == ("dlx", "key", b"body")
    assert message.headers["mine"] == 1
    assert message.properties.message_id == "m"
    assert message.properties.priority == 2


def test_redelivered(peer: Peer, dead: Channel, kind: str) -> None:
    """A dead letter that was delivered before is `redelivered` on 4.3; an expired one is not"""
    assert rejected(dead, kind).redelivered is peer.by_version(False, True)
    dead.of_kind(kind, "r", x_message_ttl=1, **{DLX: "dlx"})
    dead.publish("r", b"1")
    assert dead.wait_get("dead").redelivered is False


def test_x_death(dead: Channel, kind: str) -> None:
    """`x-death` says count, exchange, queue, reason, routing keys and time"""
    before = int(time.time()) - 1
    message = rejected(dead, kind)
    (death,) = message.headers["x-death"]
    when = death.pop("time")
    assert isinstance(when, datetime)
    assert before <= when.timestamp() <= time.time() + 1
    assert death == {
        "count": 1,
        "exchange": "amq.direct",
        "queue": "q",
        "reason": "rejected",
        "routing-keys": ["key"],
    }


def test_frame_that_grows(dead: Channel, kind: str) -> None:
    """Headers that fill a frame get `x-death` all the same: the frame is larger than agreed"""
    message = rejected(dead, kind, headers={"mine": "x" * 131_020})
    assert len(message.headers["mine"]) == 131_020
    assert message.headers["x-death"][0]["reason"] == "rejected"


def test_first_and_last_death(peer: Peer, dead: Channel, kind: str) -> None:
    """`x-first-death-*` says where it died first; 4.3 adds `x-last-death-*`"""
    message = rejected(dead, kind)
    names = {name: value for name, value in message.headers.items() if name != "x-death"}
    first = {
        "x-first-death-exchange": "amq.direct",
        "x-first-death-queue": "q",
        "x-first-death-reason": "rejected",
    }
    last = {name.replace("first", "last"): value for name, value in first.items()}
    assert names == peer.by_version(first, first | last)


def test_nacked(dead: Channel, kind: str) -> None:
    """`basic.nack` without requeue, of many too, is the reason `rejected`"""
    dead.of_kind(kind, "q", **{DLX: "dlx"})
    dead.publish_confirmed("q", b"1", b"2")
    dead.wait_get("q", no_ack=False)
    tag = dead.wait_get("q", no_ack=False).tag
    dead.nack(tag, multiple=True, requeue=False)
    found = [dead.wait_get("dead") for _ in range(2)]
    assert [message.body for message in found] == [b"1", b"2"]
    assert {message.headers["x-death"][0]["reason"] for message in found} == {"rejected"}


def test_expired(dead: Channel, kind: str) -> None:
    """What has expired is a dead letter with the reason `expired`"""
    dead.of_kind(kind, "q", x_message_ttl=1, **{DLX: "dlx"})
    dead.publish("q", b"1")
    (death,) = dead.wait_get("dead").headers["x-death"]
    assert (death["reason"], death["queue"], death["exchange"]) == ("expired", "q", "")


def test_maxlen(dead: Channel, kind: str) -> None:
    """What `x-max-length` drops is a dead letter with the reason `maxlen`"""
    dead.of_kind(kind, "q", x_max_length=1, **{DLX: "dlx"})
    dead.publish_confirmed("q", b"1", b"2")
    message = dead.wait_get("dead")
    assert message.body == b"1"
    assert message.headers["x-death"][0]["reason"] == "maxlen"


def test_reject_publish_dlx(dead: Channel) -> None:
    """What `reject-publish-dlx` refuses is a dead letter with the reason `maxlen`"""
    dead.classic("q", x_max_length=0, x_overflow="reject-publish-dlx", **{DLX: "dlx"})
    dead.publish("q", b"1")
    assert dead.wait_get("dead").headers["x-death"][0]["reason"] == "maxlen"


def test_delivery_limit(dead: Channel) -> None:
    """What has failed too often is a dead letter with the reason `delivery_limit`"""
    dead.quorum("q", x_delivery_limit=1, **{DLX: "dlx"})
    dead.publish_confirmed("q", b"1")
    for _ in range(2):
        dead.reject(dead.wait_get("q", no_ack=False).tag)
    headers = dead.wait_get("dead").headers
    assert headers["x-death"][0]["reason"] == "delivery_limit"


def test_delivery_count_on_a_dead_letter(dead: Channel) -> None:
    """A dead letter has no `x-delivery-count` any more"""
    dead.quorum("q", x_delivery_limit=1, **{DLX: "dlx"})
    dead.publish_confirmed("q", b"1")
    for _ in range(2):
        dead.reject(dead.wait_get("q", no_ack=False).tag)
    headers = dead.wait_get("dead").headers
    assert not {"x-delivery-count", "x-acquired-count"} & headers.keys()


@pytest.mark.parametrize("dropping", ["purge", "delete", "ack"])
def test_not_dead_lettered(dead: Channel, kind: str, dropping: str) -> None:
    """What is acked, purged, or deleted with its queue is no dead letter"""
    dead.of_kind(kind, "q", **{DLX: "dlx"})
    dead.publish_confirmed("q", b"1")
    dead.wait_ready("q", 1)
    if dropping == "ack":
        dead.get("q", no_ack=True)
    else:
        getattr(dead, dropping)("q")
    # One that is comes after it.
    dead.of_kind(kind, "r", x_message_ttl=1, **{DLX: "dlx"})
    dead.publish("r", b"2")
    assert dead.wait_get("dead").body == b"2"
    assert dead.get("dead") is None


def test_routing_key(channel: Channel, kind: str) -> None:
    """`x-dead-letter-routing-key` replaces the key; `x-death` has the old one"""
    channel.classic("dead")
    channel.of_kind(kind, "q", **{DLX: "", KEY: "dead"})
    channel.publish_confirmed("q", b"1")
    channel.reject(channel.wait_get("q", no_ack=False).tag, requeue=False)
    message = channel.wait_get("dead")
    assert message.key == "dead"
    assert message.headers["x-death"][0]["routing-keys"] == ["q"]


def test_missing_exchange(channel: Channel, kind: str) -> None:
    """Without its dead-letter exchange a dead letter is dropped"""
    channel.of_kind(kind, "q", **{DLX: "nowhere"})
    channel.publish_confirmed("q", b"1")
    channel.reject(channel.wait_get("q", no_ack=False).tag, requeue=False)
    channel.publish_confirmed("q", b"2")
    assert channel.wait_get("q").body == b"2"
    channel.wait_ready("q", 0)


def test_exchange_made_later(channel: Channel, kind: str) -> None:
    """The dead-letter exchange is looked up when a message dies"""
    channel.of_kind(kind, "q", **{DLX: "dlx"})
    channel.publish_confirmed("q", b"1")
    channel.exchange("dlx", "fanout")
    channel.classic("dead")
    channel.bind("dead", "dlx")
    channel.reject(channel.wait_get("q", no_ack=False).tag, requeue=False)
    assert channel.wait_get("dead").body == b"1"


def test_no_exchange(channel: Channel, kind: str) -> None:
    """Without a dead-letter exchange what is rejected is dropped"""
    channel.of_kind(kind, "q")
    channel.publish_confirmed("q", b"1")
    channel.reject(channel.wait_get("q", no_ack=False).tag, requeue=False)
    channel.wait_ready("q", 0)


def test_dies_twice(peer: Peer, channel: Channel, kind: str) -> None:
    """Two queues: the newest death comes first; the same queue and reason are counted"""
    channel.of_kind(kind, "a", **{DLX: "", KEY: "b"})
    channel.of_kind(kind, "b", **{DLX: "", KEY: "a"})
    channel.publish_confirmed("a", b"1")
    seen = []
    for queue in ("a", "b", "a", "b"):
        message = channel.wait_get(queue, no_ack=False)
        seen.append([(d["queue"], d["count"]) for d in message.headers.get("x-death", [])])
        channel.reject(message.tag, requeue=False)
    last = channel.wait_get("a")
    seen.append([(d["queue"], d["count"]) for d in last.headers["x-death"]])
    assert seen == [
        [],
        [("a", 1)],
        [("b", 1), ("a", 1)],
        [("a", 2), ("b", 1)],
        [("b", 2), ("a", 2)],
    ]
    firsts = [last.headers[f"x-first-death-{what}"] for what in ("queue", "reason", "exchange")]
    assert firsts == ["a", "rejected", ""]
    if peer.version == "4.3":
        assert last.headers["x-last-death-queue"] == "b"


def test_other_reason(peer: Peer, channel: Channel, kind: str) -> None:
    """The same queue with another reason is an entry of its own"""
    channel.of_kind(kind, "a", **{DLX: "", KEY: "b"})
    channel.of_kind(kind, "b", **{DLX: "", KEY: "a"})
    channel.publish_confirmed("a", b"1", expiration="1")
    channel.reject(channel.wait_get("b", no_ack=False).tag, requeue=False)
    channel.reject(channel.wait_get("a", no_ack=False).tag, requeue=False)
    deaths = channel.wait_get("b").headers["x-death"]
    first = ("a", "rejected", 1)
    others = [("b", "rejected", 1), ("a", "expired", 1)]
    assert [(d["queue"], d["reason"], d["count"]) for d in deaths] == [
        first,
        *peer.by_version(others[::-1], others),
    ]


def test_cycle(channel: Channel, kind: str) -> None:
    """A message that expires in a circle of queues, without a rejection, is dropped"""
    channel.of_kind(kind, "a", x_message_ttl=50, **{DLX: "", KEY: "b"})
    channel.of_kind(kind, "b", x_message_ttl=50, **{DLX: "", KEY: "a"})
    channel.of_kind(kind, "c", x_message_ttl=500, **{DLX: "", KEY: "done"})
    channel.classic("done")
    channel.publish_confirmed("a", b"1")
    channel.publish_confirmed("c", b"2")
    channel.wait_get("done")  # ten of their times later
    assert channel.counts("a")[0] == channel.counts("b")[0] == 0


def test_cycle_with_a_rejection(channel: Channel, kind: str) -> None:
    """A message that a consumer rejected may go in circles"""
    channel.of_kind(kind, "a", **{DLX: "", KEY: "b"})
    channel.of_kind(kind, "b", x_message_ttl=50, **{DLX: "", KEY: "a"})
    channel.publish_confirmed("a", b"1")
    for _ in range(3):
        channel.reject(channel.wait_get("a", no_ack=False).tag, requeue=False)
    deaths = channel.wait_get("a").headers["x-death"]
    assert [(d["queue"], d["reason"], d["count"]) for d in deaths] == [
        ("b", "expired", 3),
        ("a", "rejected", 3),
    ]


def test_dead_letter_to_itself(channel: Channel, kind: str) -> None:
    """A queue may be its own dead-letter target: what is rejected comes again"""
    channel.of_kind(kind, "q", **{DLX: "", KEY: "q"})
    channel.publish_confirmed("q", b"1")
    channel.reject(channel.wait_get("q", no_ack=False).tag, requeue=False)
    message = channel.wait_get("q")
    assert message.headers["x-death"][0]["count"] == 1


def test_x_death_of_a_client(peer: Peer, dead: Channel, kind: str) -> None:
    """An `x-death` that a client sends is continued on 3.10, and not on 4.3"""
    forged = [
        {
            "count": 7,
            "exchange": "amq.direct",
            "queue": "q",
            "reason": "rejected",
            "routing-keys": ["key"],
        }
    ]
    message = rejected(dead, kind, headers={"x-death": forged})
    assert [d["count"] for d in message.headers["x-death"]] == [peer.by_version(8, 1)]


def test_republished_in_a_cycle(peer: Peer, channel: Channel, kind: str) -> None:
    """A copy of a dead letter that would expire there again: dropped on 3.10, not on 4.3"""
    channel.classic("dead")
    channel.of_kind(kind, "q", x_message_ttl=1, **{DLX: "", KEY: "dead"})
    channel.publish("q", b"1")
    headers = channel.wait_get("dead").headers
    # To be a circle the target must be in its history.
    headers["x-death"] = [{**headers["x-death"][0], "queue": "dead"}]
    channel.publish_confirmed("q", b"2", headers=headers)
    channel.publish_confirmed("q", b"3")
    found = [channel.wait_get("dead").body]
    if found == [b"2"]:
        found.append(channel.wait_get("dead").body)
    assert found == peer.by_version([b"3"], [b"2", b"3"])


def test_carbon_copies(peer: Peer, dead: Channel, kind: str) -> None:
    """`x-death` has the keys of CC too; a new key takes the header away on 3.10, not on 4.3"""
    dead.of_kind(kind, "q", **{DLX: "dlx", KEY: "other"})
    dead.publish_confirmed("q", b"1", headers={"CC": ["nowhere"]})
    dead.reject(dead.wait_get("q", no_ack=False).tag, requeue=False)
    message = dead.wait_get("dead")
    assert message.headers.get("CC") == peer.by_version(None, ["nowhere"])
    assert message.headers["x-death"][0]["routing-keys"] == ["q", "nowhere"]


def test_at_least_once(channel: Channel) -> None:
    """Quorum: `at-least-once` delivers dead letters too, here of a rejection and an expiry"""
    channel.classic("dead")
    channel.quorum(
        "q",
        x_dead_letter_strategy="at-least-once",
        x_overflow="reject-publish",
        **{DLX: "", KEY: "dead"},
    )
    channel.publish_confirmed("q", b"1")
    channel.reject(channel.wait_get("q", no_ack=False).tag, requeue=False)
    message = channel.wait_get("dead")
    assert message.body == b"1"
    assert message.headers["x-death"][0]["reason"] == "rejected"
    channel.publish("q", b"2", expiration="1")
    assert channel.wait_get("dead").headers["x-death"][0]["reason"] == "expired"


def test_at_least_once_waits_for_a_route(channel: Channel) -> None:
    """Quorum: with `at-least-once` what has no route stays with the queue, and is not lost"""
    channel.quorum(
        "q",
        x_dead_letter_strategy="at-least-once",
        x_overflow="reject-publish",
        **{DLX: "", KEY: "dead"},
    )
    channel.publish_confirmed("q", b"1")
    channel.reject(channel.wait_get("q", no_ack=False).tag, requeue=False)
    channel.wait_ready("q", 0)
    assert channel.get("q") is None
