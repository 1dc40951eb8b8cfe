"""Consumers: who is given what, how much, and when."""

import pytest

from amqpjobs.broker.embedded.errors import Refusal
from tests.unit.broker.embedded.model import QUORUM, Model, consume, declare, publish


@pytest.fixture(params=["classic", "quorum"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_deliveries_begin_with_dispatch(model: Model, kind: str) -> None:
    """So that the answer to `basic.consume` is ahead of them."""
    channel, heard = model.channel()
    declare(channel, "jobs", queue_type=kind)
    publish(channel, "jobs", "a")
    tag = channel.consume("jobs")
    assert tag.startswith("amq.ctag-")
    assert heard.deliveries == []
    model.host.dispatch()
    publish(channel, "jobs", "b")
    assert [(t, n, r, m.body) for t, n, r, m in heard.deliveries] == [
        (tag, 1, False, b"a"),
        (tag, 2, False, b"b"),
    ]


def test_a_consumer_holds_as_many_as_its_prefetch(model: Model, kind: str) -> None:
    """What is acknowledged makes room; the limit is the one set before it began."""
    channel, heard = model.channel()
    declare(channel, "jobs", queue_type=kind)
    channel.qos(2)
    consume(model, channel, "jobs")
    channel.qos(9)
    for body in "abcde":
        publish(channel, "jobs", body)
    assert heard.bodies() == ["a", "b"]
    channel.ack(1)
    assert heard.bodies() == ["c"]
    channel.ack(3, multiple=True)
    assert heard.bodies() == ["d", "e"]
    assert model.host.queues["jobs"].unacked == 2


def test_without_acknowledgement_nothing_is_held(model: Model, kind: str) -> None:
    """Whatever the prefetch."""
    channel, heard = model.channel()
    declare(channel, "jobs", queue_type=kind)
    channel.qos(1)
    consume(model, channel, "jobs", no_ack=True)
    for body in "abc":
        publish(channel, "jobs", body)
    assert heard.bodies() == ["a", "b", "c"]
    assert model.host.queues["jobs"].unacked == 0
    with pytest.raises(Refusal, match="PRECONDITION_FAILED - unknown delivery tag 1"):
        channel.ack(1)


def test_consumers_take_turns(model: Model, kind: str) -> None:
    """Round robin, over channels too."""
    first, one = model.channel()
    second, two = model.channel()
    declare(first, "jobs", queue_type=kind)
    consume(model, first, "jobs")
    consume(model, second, "jobs")
    for body in "abcd":
        publish(first, "jobs", body)
    assert (one.bodies(), two.bodies()) == (["a", "c"], ["b", "d"])


def test_a_higher_priority_is_served_first(model: Model, kind: str) -> None:
    """While it can take."""
    first, one = model.channel()
    second, two = model.channel()
    declare(first, "jobs", queue_type=kind)
    consume(model, first, "jobs")
    second.qos(2)
    consume(model, second, "jobs", arguments={"priority": 5})
    for body in "abcd":
        publish(first, "jobs", body)
    assert (one.bodies(), two.bodies()) == (["c", "d"], ["a", "b"])
    second.ack(1)
    publish(first, "jobs", "e")
    assert two.bodies() == ["e"]


def test_who_is_next_when_room_is_made(model: Model) -> None:
    """On a quorum queue who has room again goes to the end; a classic queue does not notice."""
    for name, expected in {"classic": "first", "quorum": "second"}.items():
        channel, heard = model.channel()
        declare(channel, name, queue_type=name)
        channel.qos(1)
        consume(model, channel, name, "first")
        consume(model, channel, name, "second")
        publish(channel, name, "a")
        publish(channel, name, "b")
        channel.ack(2)
        channel.ack(1)
        publish(channel, name, "c")
        assert heard.last()[0] == expected


def test_an_exclusive_consumer_is_the_only_one(model: Model) -> None:
    """On a classic queue; a quorum queue takes no notice of it."""
    channel, _ = model.channel()
    declare(channel, "jobs")
    consume(model, channel, "jobs", "a", exclusive=True)
    for exclusive in (True, False):
        with pytest.raises(Refusal) as refusal:
            channel.consume("jobs", "b", exclusive=exclusive)
        assert refusal.value.text == "ACCESS_REFUSED - queue 'jobs' in vhost '/' in exclusive use"
    channel.cancel("a")
    consume(model, channel, "jobs", "b")
    with pytest.raises(Refusal, match="in exclusive use"):
        channel.consume("jobs", "c", exclusive=True)
    declare(channel, "votes", queue_type="quorum")
    consume(model, channel, "votes", "x", exclusive=True)
    consume(model, channel, "votes", "y")


def test_a_tag_is_used_once_and_an_unknown_one_is_no_error(model: Model) -> None:
    """A second use costs the connection."""
    channel, _ = model.channel()
    declare(channel, "jobs")
    consume(model, channel, "jobs", "a")
    with pytest.raises(Refusal) as refusal:
        channel.consume("jobs", "a")
    assert refusal.value.text == "NOT_ALLOWED - attempt to reuse consumer tag 'a'"
    assert refusal.value.closes == "connection"
    channel.cancel("unknown")


def test_a_cancelled_consumer_is_given_nothing_and_keeps_what_it_has(
    model: Model, kind: str
) -> None:
    """It can acknowledge that."""
    channel, heard = model.channel()
    declare(channel, "jobs", queue_type=kind)
    consume(model, channel, "jobs")
    publish(channel, "jobs", "a")
    channel.cancel("c")
    publish(channel, "jobs", "b")
    assert heard.bodies() == ["a"]
    assert model.host.queues["jobs"].unacked == 1
    channel.ack(1)
    assert model.host.queues["jobs"].unacked == 0


def test_a_tag_that_is_used_again_has_what_the_first_one_holds(model: Model) -> None:
    """On a quorum queue; on a classic queue it is another consumer."""
    for name, delivered in {"classic": ["c", "d"], "quorum": []}.items():
        channel, heard = model.channel()
        declare(channel, name, queue_type=name)
        channel.qos(2)
        consume(model, channel, name)
        for body in "abcd":
            publish(channel, name, body)
        channel.cancel("c")
        assert heard.bodies() == ["a", "b"]
        consume(model, channel, name)
        assert heard.bodies() == delivered
        channel.ack(1)
        channel.ack(2)
        assert heard.bodies() == ([] if delivered else ["c", "d"])


def test_a_paused_channel_is_given_nothing(model: Model, kind: str) -> None:
    """Others are; when it goes on, it is given what has waited."""
    channel, heard = model.channel()
    declare(channel, "jobs", queue_type=kind)
    consume(model, channel, "jobs")
    channel.pause()
    publish(channel, "jobs", "a")
    publish(channel, "jobs", "b")
    assert heard.bodies() == []
    channel.resume()
    assert heard.bodies() == ["a", "b"]


def test_a_sink_may_pause_its_channel_in_the_middle(model: Model, kind: str) -> None:
    """Nothing more is delivered from then on."""
    channel, heard = model.channel()
    declare(channel, "jobs", queue_type=kind)
    for body in "abc":
        publish(channel, "jobs", body)
    deliver = heard.deliver

    def deliver_and_pause(*delivery: object) -> None:
        deliver(*delivery)  # type: ignore[arg-type]
        channel.pause()

    heard.deliver = deliver_and_pause  # type: ignore[method-assign]
    consume(model, channel, "jobs")
    assert heard.bodies() == ["a"]
    channel.resume()
    assert heard.bodies() == ["b"]


class TestGlobalPrefetch:
    """`basic.qos` with ``global``."""

    def test_it_is_shared_by_the_channel_on_3_10(self, old: Model) -> None:
        """Over all consumers and queues of the channel; what is got is not counted."""
        channel, heard = old.channel()
        declare(channel, "a")
        declare(channel, "b")
        consume(old, channel, "a", "a")
        consume(old, channel, "b", "b")
        channel.qos(2, global_=True)
        for body in "123":
            publish(channel, "a", body)
        publish(channel, "b", "4")
        assert heard.bodies() == ["1", "2"]
        channel.ack(1)
        assert len(heard.bodies()) == 1
        channel.qos(0, global_=True)
        assert len(heard.bodies()) == 1

    def test_a_quorum_queue_refuses_it_on_3_10(self, old: Model) -> None:
        """540."""
        channel, _ = old.channel()
        channel.declare_queue("jobs", durable=True, arguments=QUORUM)
        channel.qos(2, global_=True)
        with pytest.raises(Refusal) as refusal:
            channel.consume("jobs")
        assert refusal.value.text == (
            "NOT_IMPLEMENTED - queue 'jobs' in vhost '/' does not support global qos"
        )

    def test_on_4_3_it_is_per_consumer_all_the_same(self, new: Model) -> None:
        """Without a word."""
        channel, heard = new.channel()
        declare(channel, "jobs", queue_type="quorum")
        channel.qos(1, global_=True)
        consume(new, channel, "jobs", "a")
        consume(new, channel, "jobs", "b")
        for body in "123":
            publish(channel, "jobs", body)
        assert heard.bodies() == ["1", "2"]


class TestSingleActive:
    """``x-single-active-consumer``."""

    def test_one_is_active_and_the_next_takes_its_place(self, model: Model, kind: str) -> None:
        """At once, when it is cancelled; what it holds stays with it."""
        channel, heard = model.channel()
        declare(channel, "jobs", queue_type=kind, single_active_consumer=True)
        for tag in "abc":
            consume(model, channel, "jobs", tag)
        publish(channel, "jobs", "1")
        publish(channel, "jobs", "2")
        assert [tag for tag, *_ in heard.deliveries] == ["a", "a"]
        channel.cancel("a")
        publish(channel, "jobs", "3")
        assert heard.last()[0] == "b"
        assert model.host.queues["jobs"].unacked == 3

    def test_its_messages_go_to_the_next_when_its_channel_has_gone(
        self, model: Model, kind: str
    ) -> None:
        """In their order."""
        first, one = model.channel()
        second, two = model.channel()
        declare(first, "jobs", queue_type=kind, single_active_consumer=True)
        consume(model, first, "jobs", "a")
        consume(model, second, "jobs", "b")
        for body in "123":
            publish(first, "jobs", body)
        assert (one.bodies(), two.bodies()) == (["1", "2", "3"], [])
        first.close()
        assert two.bodies() == ["1", "2", "3"]

    def test_a_quorum_queue_takes_the_highest_priority_from_4_0_on(self, model: Model) -> None:
        """3.10 takes who came first."""
        channel, heard = model.channel()
        declare(channel, "jobs", queue_type="quorum", single_active_consumer=True)
        consume(model, channel, "jobs", "a")
        consume(model, channel, "jobs", "low")
        consume(model, channel, "jobs", "high", arguments={"priority": 9})
        channel.cancel("a")
        publish(channel, "jobs")
        assert heard.last()[0] == ("low" if model.version == "3.10" else "high")

    def test_a_higher_priority_takes_over_when_the_active_one_holds_nothing(
        self, new: Model
    ) -> None:
        """Until then nobody is given anything."""
        channel, heard = new.channel()
        declare(channel, "jobs", queue_type="quorum", single_active_consumer=True)
        consume(new, channel, "jobs", "a")
        publish(channel, "jobs", "1")
        consume(new, channel, "jobs", "b", arguments={"priority": 1})
        publish(channel, "jobs", "2")
        assert [tag for tag, *_ in heard.deliveries] == ["a"]
        channel.ack(1)
        assert [tag for tag, *_ in heard.deliveries] == ["a", "b"]

    def test_what_does_not_go_with_it(self, model: Model) -> None:
        """An exclusive consumer of a classic queue; `basic.get` from a quorum queue."""
        channel, _ = model.channel()
        declare(channel, "jobs", single_active_consumer=True)
        with pytest.raises(Refusal, match="in exclusive use"):
            channel.consume("jobs", exclusive=True)
        declare(channel, "votes", queue_type="quorum", single_active_consumer=True)
        with pytest.raises(Refusal) as refusal:
            channel.get("votes")
        kind = "quorum" if model.version == "3.10" else '<<"quorum">>'
        assert refusal.value.text == (
            "RESOURCE_LOCKED - cannot obtain access to locked queue 'votes' in vhost '/'. basic.get"
            f" operations are not supported by {kind} queues with single active consumer"
        )


class TestTimeouts:
    """Acknowledgements that come too late."""

    def test_on_3_10_the_channel_is_closed(self, old: Model) -> None:
        """And the message is given to somebody else."""
        slow, heard = old.channel()
        declare(slow, "jobs")
        consume(old, slow, "jobs")
        publish(slow, "jobs")
        old.clock.advance(1799)
        assert heard.heard == []
        old.clock.advance(2)
        ((what, text),) = heard.heard
        assert what == "failed"
        assert text.startswith(
            "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value "
            "used: 1800000 ms."
        )
        assert old.ready("jobs") == ["job"]

    def test_on_4_3_the_consumer_is_cancelled(self, new: Model) -> None:
        """Its late message goes to somebody else, and is not counted as failed."""
        slow, heard = new.channel()
        other, elsewhere = new.channel()
        declare(slow, "jobs", queue_type="quorum", consumer_timeout=5000)
        consume(new, slow, "jobs")
        publish(slow, "jobs")
        consume(new, other, "jobs")
        new.clock.advance(5.1)
        assert heard.heard == [("cancelled", "c")]
        _, _, redelivered, message = elsewhere.last()
        assert redelivered
        assert message.headers == {"x-acquired-count": 1}
        publish(other, "jobs", "next")
        assert heard.bodies() == ["job"]
        assert elsewhere.bodies() == ["job", "next"]
        slow.ack(1)
        publish(other, "jobs", "later")
        publish(other, "jobs", "later")
        assert heard.bodies() == ["later"]

    def test_a_consumer_may_say_its_own_time(self, new: Model) -> None:
        """The shortest is looked at first."""
        channel, heard = new.channel()
        declare(channel, "jobs", queue_type="quorum")
        consume(new, channel, "jobs", "long")
        consume(new, channel, "jobs", "short", arguments={"consumer_timeout": 1000})
        publish(channel, "jobs", "a")
        publish(channel, "jobs", "b")
        new.clock.advance(2)
        assert heard.heard == [("cancelled", "short")]

    def test_what_is_got_and_not_acknowledged_costs_the_channel(self, new: Model) -> None:
        """There is no consumer to cancel. The time is the queue's."""
        channel, heard = new.channel()
        declare(channel, "jobs", queue_type="quorum", consumer_timeout=1000)
        publish(channel, "jobs")
        channel.get("jobs")
        new.clock.advance(1)
        ((what, text),) = heard.heard
        assert what == "failed"
        assert text.startswith(
            "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value "
            "used: -1 ms."
        )
        assert new.ready("jobs") == ["job"]

    def test_a_classic_queue_has_none_from_4_3_on(self, new: Model) -> None:
        """Its consumers may take as long as they like; and cannot say otherwise."""
        channel, heard = new.channel()
        declare(channel, "jobs")
        consume(new, channel, "jobs")
        publish(channel, "jobs")
        new.clock.advance(100_000)
        assert heard.heard == []
        with pytest.raises(Refusal, match="'x-consumer-timeout' for queue 'jobs' in vhost '/' of"):
            channel.consume("jobs", arguments={"x-consumer-timeout": 5})

    def test_what_is_acknowledged_in_time_is_not_missed(self, model: Model) -> None:
        """The clock goes on without it."""
        channel, heard = model.channel()
        declare(channel, "jobs", queue_type="quorum")
        consume(model, channel, "jobs")
        publish(channel, "jobs")
        channel.ack(1)
        model.clock.advance(10_000)
        assert heard.heard == []
