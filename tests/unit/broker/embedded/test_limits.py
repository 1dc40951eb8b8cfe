"""Lengths and lifetimes: what a queue drops, refuses, and lets expire."""

import pytest

from tests.unit.broker.embedded.model import Model, consume, declare, get, publish


@pytest.fixture(params=["classic", "quorum"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_oldest_makes_room(model: Model, kind: str) -> None:
    """By length, and by bytes: of the bodies; from 4.0 on, of a quorum queue's headers, too."""
    channel, heard = model.channel(confirms=True)
    flags = 2 if (model.version, kind) == ("4.3", "quorum") else 0
    declare(channel, "few", queue_type=kind, max_length=2)
    declare(channel, "short", queue_type=kind, max_length_bytes=5 + 2 * flags)
    for body in ("aa", "bbb", "cc"):
        publish(channel, "few", body)
        publish(channel, "short", body)
    assert model.ready("few") == ["bbb", "cc"]
    assert model.ready("short") == ["bbb", "cc"]
    assert [what for what, _ in heard.heard] == ["confirm"] * 6


def test_what_is_given_out_does_not_count(model: Model, kind: str) -> None:
    """What comes back does, and the oldest goes."""
    channel, _ = model.channel()
    declare(channel, "jobs", queue_type=kind, max_length=1, **_limit(model, kind))
    consume(model, channel, "jobs")
    for body in "abc":
        publish(channel, "jobs", body)
    channel.cancel("c")
    publish(channel, "jobs", "d")
    assert model.ready("jobs") == ["d"]
    channel.nack(3)
    assert model.ready("jobs") == ["d"]


def test_a_classic_queue_refuses_what_does_not_fit(model: Model) -> None:
    """The publisher is told; who asked for no confirms is not."""
    channel, heard = model.channel(confirms=True)
    declare(channel, "dead")
    letters = {"dead_letter_exchange": "", "dead_letter_routing_key": "dead"}
    declare(channel, "jobs", max_length=1, overflow="reject-publish", **letters)
    declare(channel, "kept", max_length=1, overflow="reject-publish-dlx", **letters)
    for queue in ("jobs", "jobs", "kept", "kept"):
        publish(channel, queue, queue)
    assert [what for what, _ in heard.heard] == ["confirm", "refuse", "confirm", "refuse"]
    assert model.ready("dead") == ["kept"]
    assert get(channel, "dead").headers["x-first-death-reason"] == "maxlen"


def test_a_message_is_refused_when_one_of_its_queues_refuses_it(model: Model) -> None:
    """The others have it all the same."""
    channel, heard = model.channel(confirms=True)
    declare(channel, "full", max_length=0, overflow="reject-publish")
    declare(channel, "jobs")
    for queue in ("full", "jobs"):
        channel.bind_queue(queue, "amq.fanout", "")
    publish(channel, "", exchange="amq.fanout")
    assert heard.heard == [("refuse", 1)]
    assert model.ready("jobs") == ["job"]


def test_a_quorum_queue_refuses_after_the_limit_is_passed(model: Model) -> None:
    """One message passes it; publishers are let in again below four fifths of it."""
    channel, heard = model.channel(confirms=True)
    declare(channel, "jobs", queue_type="quorum", max_length=5, overflow="reject-publish")
    for _ in range(7):
        publish(channel, "jobs")
    assert [what for what, _ in heard.heard] == ["confirm"] * 6 + ["refuse"]
    heard.heard.clear()
    channel.get("jobs", no_ack=True)
    publish(channel, "jobs")
    assert heard.heard == [("refuse", 8)]
    channel.get("jobs", no_ack=True)
    publish(channel, "jobs")
    assert heard.heard[-1] == ("confirm", 9)
    other, elsewhere = model.channel(confirms=True)
    publish(other, "jobs")
    publish(other, "jobs")
    assert [what for what, _ in elsewhere.heard] == ["confirm", "refuse"]


def test_messages_expire(model: Model, kind: str) -> None:
    """By the queue's time or their own, whichever ends first."""
    channel, _ = model.channel()
    declare(channel, "jobs", queue_type=kind, message_ttl=1000)
    declare(channel, "own", queue_type=kind)
    publish(channel, "jobs", "500", expiration="500")
    publish(channel, "jobs", "2000", expiration="2000")
    publish(channel, "own", "500", expiration="500")
    model.clock.advance(0.4)
    assert model.ready("jobs") == ["500", "2000"]
    model.clock.advance(0.2)
    assert model.ready("jobs") == ["2000"]
    assert model.ready("own") == []
    model.clock.advance(0.5)
    assert model.ready("jobs") == []


def test_a_message_expires_at_the_front_only(model: Model, kind: str) -> None:
    """Behind one that lives longer it waits, and is gone when that has been taken."""
    channel, heard = model.channel()
    declare(channel, "jobs", queue_type=kind)
    publish(channel, "jobs", "long", expiration="60000")
    publish(channel, "jobs", "short", expiration="1000")
    publish(channel, "jobs", "last")
    model.clock.advance(30)
    assert model.ready("jobs") == ["long", "short", "last"]
    consume(model, channel, "jobs")
    assert heard.bodies() == ["long", "last"]


def test_a_message_that_lives_for_no_time_is_delivered_if_it_can_be(
    model: Model, kind: str
) -> None:
    """And gone otherwise; a quorum queue keeps it for a millisecond."""
    channel, heard = model.channel()
    declare(channel, "jobs", queue_type=kind)
    publish(channel, "jobs", "gone", expiration="0")
    model.clock.advance(0.001)
    assert model.ready("jobs") == []
    consume(model, channel, "jobs")
    publish(channel, "jobs", "taken", expiration="0")
    assert heard.bodies() == ["taken"]


def test_what_is_given_out_does_not_expire_until_it_comes_back(model: Model, kind: str) -> None:
    """Its time goes on meanwhile."""
    channel, _ = model.channel()
    declare(channel, "jobs", queue_type=kind, message_ttl=1000, **_limit(model, kind))
    publish(channel, "jobs")
    channel.get("jobs")
    model.clock.advance(5)
    assert model.host.queues["jobs"].unacked == 1
    channel.nack(1)
    assert model.ready("jobs") == []


def test_low_priorities_expire_behind_high_ones(model: Model) -> None:
    """On 4.3's quorum queue, where each has a front of its own; nowhere else."""
    channel, _ = model.channel()
    declare(channel, "ranked", max_priority=5)
    declare(channel, "votes", queue_type="quorum")
    for queue in ("ranked", "votes"):
        publish(channel, queue, "high", priority=5)
        publish(channel, queue, "low", priority=1, expiration="1000")
    model.clock.advance(2)
    assert model.ready("ranked") == ["high", "low"]
    assert model.ready("votes") == (["high", "low"] if model.version == "3.10" else ["high"])
    channel.get("ranked")
    assert model.ready("ranked") == []


def _limit(model: Model, kind: str) -> dict[str, int]:
    """So that a quorum queue of 3.10, too, takes messages back to the front."""
    return {"delivery_limit": 9} if kind == "quorum" else {}
