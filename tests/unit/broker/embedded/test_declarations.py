"""Declaring, binding and deleting, and what RabbitMQ says when it refuses."""

from collections.abc import Callable
from typing import Any

import pytest

from amqpjobs.broker.embedded.errors import Refusal
from amqpjobs.broker.embedded.model.channel import Channel
from tests.unit.broker.embedded.model import QUORUM, Model, consume, declare, publish


def refused(call: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    with pytest.raises(Refusal) as refusal:
        call(*arguments, **options)
    return refusal.value.text


def test_declaring_says_how_much_waits_and_who_consumes(model: Model) -> None:
    """Also passively, and again."""
    channel, _ = model.channel()
    assert channel.declare_queue("jobs", durable=True) == ("jobs", 0, 0)
    consume(model, channel, "jobs")
    channel.qos(1)
    for _ in range(3):
        publish(channel, "jobs")
    assert channel.declare_queue("jobs", durable=True) == ("jobs", 0, 1)
    channel.close()
    other, _ = model.channel()
    assert other.declare_queue("jobs", passive=True) == ("jobs", 3, 0)


def test_a_queue_without_a_name_is_given_one(model: Model) -> None:
    """Afterwards an empty name means that queue, on the same channel."""
    channel, _ = model.channel()
    assert refused(channel.get, "") == "NOT_FOUND - no previously declared queue"
    name, *_ = channel.declare_queue("", exclusive=True)
    assert name.startswith("amq.gen-")
    channel.bind_queue("", "amq.topic", "")
    publish(channel, name, exchange="amq.topic")
    assert channel.purge_queue("") == 1
    assert "Cannot declare a server-named queue for type rabbit_quorum_queue" in refused(
        channel.declare_queue, "", durable=True, arguments=QUORUM
    )


def test_another_declaration_of_a_queue_has_to_be_the_same(model: Model) -> None:
    """406, and the words name the argument."""
    channel, _ = model.channel()
    declare(channel, "jobs", max_length=5, message_ttl=1000)
    assert refused(declare, channel, "jobs", max_length=6, message_ttl=1000) == (
        "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'jobs' in vhost '/': "
        "received '6' but current is '5'"
    )
    assert refused(declare, channel, "jobs", max_length=5) == (
        "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'jobs' in vhost '/': "
        "received none but current is the value '1000' of type 'signedint'"
    )
    assert refused(channel.declare_queue, "jobs", exclusive=True).startswith("RESOURCE_LOCKED")
    assert refused(channel.declare_queue, "jobs", durable=True, auto_delete=True) == (
        "PRECONDITION_FAILED - inequivalent arg 'auto_delete' for queue 'jobs' in vhost '/': "
        "received 'true' but current is 'false'"
    )
    declare(channel, "jobs", max_length=5, message_ttl=1000, queue_type="classic")
    declare(channel, "jobs", max_length=5, message_ttl=1000, unheard_of="ignored")


def test_queues_that_are_neither_durable_nor_exclusive(model: Model) -> None:
    """4.3.6 takes them, though 4.3.0 was to refuse them."""
    channel, _ = model.channel()
    assert channel.declare_queue("jobs") == ("jobs", 0, 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"durable": False, "exclusive": True}, "invalid property 'exclusive-owner' for queue"),
        ({"auto_delete": True}, "invalid property 'auto-delete' for queue 'jobs' in vhost '/'"),
    ],
)
def test_what_a_quorum_queue_cannot_be(model: Model, options: dict[str, bool], words: str) -> None:
    """It is durable, and belongs to nobody."""
    channel, _ = model.channel()
    assert words in refused(
        channel.declare_queue, "jobs", **{"durable": True, **options}, arguments=QUORUM
    )
    assert "jobs" not in model.host.queues


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"x-expires": 0}, "{value_zero,0}"),
        ({"x-message-ttl": -1}, "{value_negative,-1}"),
        ({"x-message-ttl": "1"}, '"expected integer, got longstr"'),
        ({"x-message-ttl": True}, '"expected integer, got bool"'),
        ({"x-max-priority": 256}, "{max_value_exceeded,256}"),
        ({"x-dead-letter-routing-key": "k"}, "routing_key_but_no_dlx_defined"),
        ({"x-overflow": "drop-tail"}, "invalid_overflow"),
        ({"x-overflow": 1}, "{unacceptable_type,signedint}"),
        ({"x-single-active-consumer": "yes"}, "{unacceptable_type,longstr}"),
        ({"x-queue-type": "stack"}, "\"unsupported queue type 'stack'\""),
        ({"x-queue-type": 1}, "{unacceptable_type,signedint}"),
        (
            {
                "x-queue-type": "quorum",
                "x-dead-letter-exchange": "",
                "x-dead-letter-strategy": "maybe",
            },
            "invalid_dlx_strategy",
        ),
    ],
)
def test_arguments_are_checked(model: Model, arguments: dict[str, Any], words: str) -> None:
    """406 in the words of RabbitMQ, which are Erlang's."""
    channel, _ = model.channel()
    key = next(reversed(arguments))
    assert refused(channel.declare_queue, "jobs", durable=True, arguments=arguments) == (
        f"PRECONDITION_FAILED - invalid arg '{key}' for queue 'jobs' in vhost '/': {words}"
    )


def test_an_argument_of_another_type_of_queue_is_refused(model: Model) -> None:
    """One that no type knows is ignored."""
    channel, _ = model.channel()
    assert refused(declare, channel, "jobs", queue_type="quorum", max_priority=5) == (
        "PRECONDITION_FAILED - invalid arg 'x-max-priority' for queue 'jobs' in vhost '/' of queue "
        "type rabbit_quorum_queue"
    )
    assert "of queue type rabbit_classic_queue" in refused(
        declare, channel, "jobs", dead_letter_strategy="at-least-once", dead_letter_exchange=""
    )
    assert "invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'jobs'" in refused(
        declare, channel, "jobs", dead_letter_exchange=1
    )


def test_what_this_broker_does_not_do_is_refused(model: Model) -> None:
    """540, never taken and ignored."""
    channel, _ = model.channel()
    assert refused(declare, channel, "log", queue_type="stream").startswith("NOT_IMPLEMENTED")
    delayed = {**QUORUM, "x-delayed-retry-type": "all"}
    if model.version == "4.3":
        assert refused(channel.declare_queue, "jobs", durable=True, arguments=delayed).startswith(
            "NOT_IMPLEMENTED"
        )
    else:  # where RabbitMQ has never heard of it
        channel.declare_queue("jobs", durable=True, arguments=delayed)


def test_exclusive_queues_belong_to_their_connection(model: Model) -> None:
    """Others are locked out, and they go with it."""
    mine, other = object(), object()
    channel, _ = model.channel(mine)
    stranger, _ = model.channel(other)
    channel.declare_queue("jobs", exclusive=True)
    second, _ = model.channel(mine)
    assert second.declare_queue("jobs", exclusive=True) == ("jobs", 0, 0)
    calls: list[Callable[[Channel], Any]] = [
        lambda c: c.declare_queue("jobs", passive=True),
        lambda c: c.declare_queue("jobs", exclusive=True),
        lambda c: c.consume("jobs"),
        lambda c: c.get("jobs"),
        lambda c: c.purge_queue("jobs"),
        lambda c: c.delete_queue("jobs"),
        lambda c: c.bind_queue("jobs", "amq.topic", "#"),
    ]
    for call in calls:
        assert refused(call, stranger).startswith(
            "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'jobs' in vhost '/'."
        )
    publish(stranger, "jobs")
    assert model.ready("jobs") == ["job"]
    channel.close()
    model.host.close_owner(mine)
    assert "jobs" not in model.host.queues


def test_an_auto_delete_queue_goes_with_its_last_consumer(model: Model) -> None:
    """One that never had a consumer stays."""
    channel, _ = model.channel()
    channel.declare_queue("jobs", durable=True, auto_delete=True)
    first, second = consume(model, channel, "jobs", "1"), consume(model, channel, "jobs", "2")
    channel.cancel(first)
    assert "jobs" in model.host.queues
    channel.cancel(second)
    assert "jobs" not in model.host.queues
    channel.declare_queue("jobs", durable=True, auto_delete=True)
    consume(model, channel, "jobs")
    channel.close()
    assert "jobs" not in model.host.queues


def test_deleting_a_queue_cancels_its_consumers(model: Model) -> None:
    """They are told; what they hold can still be acknowledged, to no effect."""
    channel, heard = model.channel()
    other, _ = model.channel()
    declare(channel, "jobs")
    consume(model, channel, "jobs")
    publish(channel, "jobs", "held")
    channel.qos(0)
    other.delete_queue("jobs")
    model.host.dispatch()  # behind the answer
    assert heard.heard == [("cancelled", "c")]
    channel.nack(1)
    assert "jobs" not in model.host.queues
    assert channel.delete_queue("jobs") == 0


def test_deleting_on_conditions(model: Model) -> None:
    """A quorum queue knows none."""
    channel, _ = model.channel()
    declare(channel, "jobs")
    publish(channel, "jobs")
    assert refused(channel.delete_queue, "jobs", if_empty=True) == (
        "PRECONDITION_FAILED - queue 'jobs' in vhost '/' not empty"
    )
    consume(model, channel, "jobs", no_ack=True)
    assert refused(channel.delete_queue, "jobs", if_unused=True) == (
        "PRECONDITION_FAILED - queue 'jobs' in vhost '/' in use"
    )
    declare(channel, "votes", queue_type="quorum")
    assert refused(channel.delete_queue, "votes", if_empty=True) == (
        "NOT_IMPLEMENTED - cannot delete queue 'votes' in vhost '/'. queue.delete operations with "
        "if-empty flag set are not supported by quorum queues"
    )


def test_bindings_go_with_what_they_lead_to_or_from(model: Model) -> None:
    """And auto-delete exchanges with their last binding, one after the other."""
    channel, _ = model.channel()
    channel.declare_exchange("outer", "topic", auto_delete=True)
    channel.declare_exchange("inner", "topic", auto_delete=True)
    channel.bind_exchange("inner", "outer", "#")
    declare(channel, "jobs")
    channel.bind_queue("jobs", "inner", "#")
    assert refused(channel.delete_exchange, "outer", if_unused=True) == (
        "PRECONDITION_FAILED - exchange 'outer' in vhost '/' in use"
    )
    channel.delete_queue("jobs")
    assert not {"outer", "inner"} & set(model.host.exchanges)


def test_unbinding_stops_messages(model: Model) -> None:
    """Unbinding what is not bound, or not there, is no error."""
    channel, heard = model.channel()
    declare(channel, "jobs")
    channel.bind_queue("jobs", "amq.direct", "k", {"a": 1})
    channel.unbind_queue("jobs", "amq.direct", "k", {"a": 2})
    publish(channel, "k", "1", exchange="amq.direct")
    channel.unbind_queue("jobs", "amq.direct", "k", {"a": 1})
    publish(channel, "k", "2", exchange="amq.direct", mandatory=True)
    assert model.ready("jobs") == ["1"]
    assert [what for what, *_ in heard.heard] == ["returned"]
    channel.unbind_queue("jobs", "missing", "k")
    channel.unbind_queue("missing", "amq.direct", "k")
    channel.unbind_exchange("amq.topic", "amq.direct", "k")


def test_what_is_missing_is_named(model: Model) -> None:
    """404 says the exchange or the queue."""
    channel, _ = model.channel()
    declare(channel, "jobs")
    for call, words in (
        (lambda: channel.bind_queue("no", "amq.direct", ""), "no queue 'no' in vhost '/'"),
        (lambda: channel.bind_queue("jobs", "no", ""), "no exchange 'no' in vhost '/'"),
        (lambda: channel.bind_exchange("no", "amq.direct", ""), "no exchange 'no' in vhost '/'"),
        (lambda: channel.declare_queue("no", passive=True), "no queue 'no' in vhost '/'"),
        (lambda: channel.declare_exchange("no", passive=True), "no exchange 'no' in vhost '/'"),
        (lambda: channel.get("no"), "no queue 'no' in vhost '/'"),
        (lambda: channel.consume("no"), "no queue 'no' in vhost '/'"),
    ):
        assert refused(call) == f"NOT_FOUND - {words}"
    channel.delete_exchange("no")


def test_what_is_reserved(model: Model) -> None:
    """Names that begin with ``amq.``, and the default exchange."""
    channel, _ = model.channel()
    assert refused(channel.declare_exchange, "amq.mine", "direct") == (
        "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'"
    )
    assert refused(declare, channel, "amq.mine").startswith("ACCESS_REFUSED - queue name")
    assert refused(channel.delete_exchange, "amq.direct") == (
        "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed"
    )
    declare(channel, "jobs")
    for call in (
        lambda: channel.bind_queue("jobs", "", "k"),
        lambda: channel.delete_exchange(""),
        lambda: channel.declare_exchange("", "direct"),
    ):
        assert refused(call) == ("ACCESS_REFUSED - operation not permitted on the default exchange")
    channel.declare_exchange("amq.direct", "direct", durable=True)


def test_another_declaration_of_an_exchange_has_to_be_the_same(model: Model) -> None:
    """Of its arguments only the alternate exchange counts."""
    channel, _ = model.channel()
    channel.declare_exchange("x", "topic", arguments={"alternate-exchange": "a", "own": 1})
    channel.declare_exchange("x", "topic", arguments={"alternate-exchange": "a"})
    assert refused(channel.declare_exchange, "x", "direct") == (
        "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'x' in vhost '/': "
        "received 'direct' but current is 'topic'"
    )
    assert "received none but current is the value 'a' of type 'longstr'" in refused(
        channel.declare_exchange, "x", "topic"
    )
    unknown = refused(channel.declare_exchange, "y", "x-mine")
    code = "COMMAND_INVALID" if model.version == "3.10" else "PRECONDITION_FAILED"
    assert unknown == f"{code} - unknown exchange type 'x-mine'"


class TestExpires:
    """Queues that go when nobody uses them."""

    @pytest.mark.parametrize("kind", ["classic", "quorum"])
    def test_a_queue_goes_when_it_was_unused_for_so_long(self, model: Model, kind: str) -> None:
        """A consumer keeps it, and so does taking from it."""
        channel, _ = model.channel()
        declare(channel, "jobs", expires=1000, queue_type=kind)
        model.clock.advance(0.9)
        channel.get("jobs")
        model.clock.advance(0.9)
        consume(model, channel, "jobs")
        model.clock.advance(5)
        assert "jobs" in model.host.queues
        channel.cancel("c")
        model.clock.advance(0.9)
        assert "jobs" in model.host.queues
        model.clock.advance(0.2)
        assert "jobs" not in model.host.queues

    def test_declaring_again_keeps_a_classic_queue_only(self, model: Model) -> None:
        """A quorum queue does not notice."""
        channel, _ = model.channel()
        for name, kind in {"old": "classic", "votes": "quorum"}.items():
            declare(channel, name, expires=1000, queue_type=kind)
        model.clock.advance(0.6)
        for name in ("old", "votes"):
            channel.declare_queue(name, passive=True)
        model.clock.advance(0.6)
        assert set(model.host.queues) == {"old"}
