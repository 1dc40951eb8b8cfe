"""Queues: how they are declared, what they are refused for, and how they go."""

from typing import Any

import pytest
from pamqp.commands import Basic, Queue

from tests.conformance.client import Channel
from tests.conformance.peers import Peer


def test_declared(channel: Channel, kind: str) -> None:
    """`queue.declare-ok` has the name and counts what is ready and who consumes"""
    answer = channel.of_kind(kind, "q")
    assert (answer.queue, answer.message_count, answer.consumer_count) == ("q", 0, 0)
    channel.publish_confirmed("q", b"1", b"2", b"3")
    channel.wait_ready("q", 3)
    channel.qos(1)
    channel.consume("q")
    channel.next()
    channel.wait_ready("q", 2)
    assert channel.counts("q") == (2, 1)
    answer = channel.of_kind(kind, "q")
    assert (answer.message_count, answer.consumer_count) == (2, 1)


def test_server_named(channel: Channel) -> None:
    """A queue without a name is given one that begins with `amq.gen-`"""
    first = channel.declare("", exclusive=True).queue
    second = channel.declare("", exclusive=True).queue
    assert first.startswith("amq.gen-")
    assert first != second


def test_server_named_quorum(channel: Channel) -> None:
    """A quorum queue must have a name: 406"""
    text = "PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_quorum_queue"
    with channel.refuses(406, text):
        channel.quorum("")


def test_last_declared(peer: Peer, channel: Channel) -> None:
    """An empty name is the queue that this channel declared last; without one, 404"""
    name = channel.declare("", exclusive=True).queue
    channel.bind("", "amq.direct", "key")
    channel.publish_confirmed("key", b"1", exchange="amq.direct")
    message = channel.get("")
    assert message is not None
    assert channel.call(Queue.Bind(0, "", "amq.direct", "")) is not None
    channel.publish(name, b"2", exchange="amq.direct")
    found = channel.wait_get("")
    assert found.body == b"2"
    other = peer.channel()
    with other.refuses(404, "NOT_FOUND - no previously declared queue"):
        other.call(Queue.Bind(0, "", "amq.direct", "key"))


def test_exclusive(peer: Peer, channel: Channel) -> None:
    """An exclusive queue is locked for other connections: 405"""
    channel.declare("q", exclusive=True)
    channel.connection.channel().counts("q")
    text = (
        f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' {peer.place}."
        " It could be originally declared on another connection or the exclusive property value"
        " does not match that of the original declaration."
    )
    for method in (
        Queue.Declare(queue="q", passive=True),
        Queue.Declare(queue="q", exclusive=True),
        Queue.Declare(queue="q"),
        Queue.Delete(queue="q"),
        Queue.Purge(queue="q"),
        Queue.Bind(0, "q", "amq.direct", "x"),
        Basic.Consume(queue="q"),
        Basic.Get(queue="q"),
    ):
        other = peer.channel()
        with other.refuses(405, text):
            other.call(method)


def test_exclusive_is_published_to(peer: Peer, channel: Channel) -> None:
    """Anybody can publish to an exclusive queue"""
    channel.declare("q", exclusive=True)
    peer.channel().publish_confirmed("q", b"1")
    assert channel.get_all("q") == [b"1"]


def test_exclusive_goes_with_its_connection(peer: Peer, channel: Channel) -> None:
    """An exclusive queue goes with its connection, closed or lost"""
    for end in ("close", "drop"):
        client = peer.connect()
        client.channel().declare("q", exclusive=True)
        getattr(client, end)()
        channel.wait_gone("q")


def test_auto_delete(channel: Channel) -> None:
    """An auto-delete queue goes with its last consumer, not before its first"""
    channel.declare("q", durable=True, auto_delete=True)
    channel.consume("q", "one")
    channel.consume("q", "two")
    channel.cancel("one")
    channel.counts("q")
    channel.cancel("two")
    channel.wait_gone("q")


def test_auto_delete_with_its_channel(peer: Peer, channel: Channel) -> None:
    """An auto-delete queue goes when the channel of its last consumer is closed"""
    other = peer.channel()
    other.declare("q", durable=True, auto_delete=True)
    other.consume("q")
    other.close()
    channel.wait_gone("q")


@pytest.mark.parametrize(
    ("options", "argument", "received", "current"),
    [
        ({"auto_delete": True}, "auto_delete", "'true'", "'false'"),
        (
            {"arguments": {"x-max-length": 100_000}},
            "x-max-length",
            "the value '100000' of type 'signedint'",
            "none",
        ),
        (
            {"arguments": {"x-message-ttl": 1000}},
            "x-message-ttl",
            "'1000'",
            "'500'",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_redeclared_otherwise(
    peer: Peer, options: dict[str, Any], argument: str, received: str, current: str
) -> None:
    """A queue declared again with anything else is refused with 406, and with these words"""
    channel = peer.channel()
    first: dict[str, Any] = {"x-message-ttl": 500} if argument == "x-message-ttl" else {}
    channel.declare("q", durable=True, arguments=first)
    channel.declare("q", durable=True, arguments=first)
    text = (
        f"PRECONDITION_FAILED - inequivalent arg '{argument}' for queue 'q' {peer.place}:"
        f" received {received} but current is {current}"
    )
    with channel.refuses(406, text):
        channel.declare("q", **{"durable": True, **options})


def test_redeclared_transient(peer: Peer, channel: Channel) -> None:
    """A durable queue declared again as transient is refused"""
    channel.declare("q", durable=True)
    text = (
        f"PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' {peer.place}:"
        " received 'false' but current is 'true'"
    )
    with channel.refuses(406, text):
        channel.declare("q")


def test_other_type(peer: Peer, channel: Channel) -> None:
    """A queue declared again with another type is refused with 406"""
    channel.declare("q", durable=True)
    received, current = peer.by_version(
        ("the value 'quorum' of type 'longstr'", "none"), ("'quorum'", "'classic'")
    )
    text = (
        f"PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' {peer.place}:"
        f" received {received} but current is {current}"
    )
    with channel.refuses(406, text):
        channel.quorum("q")


def test_integers_of_any_width_are_equivalent(channel: Channel) -> None:
    """Arguments that are numbers of another width are the same; no type is classic"""
    channel.declare("q", durable=True, arguments={"x-max-length": 5})
    channel.declare("q", durable=True, arguments={"x-max-length": 5, "x-queue-type": "classic"})


def test_passive(peer: Peer, channel: Channel) -> None:
    """A passive declaration asks for the name alone; without that queue it is refused with 404"""
    channel.declare("q", durable=True)
    channel.counts("q")
    with channel.refuses(404, f"NOT_FOUND - no queue 'nowhere' {peer.place}"):
        channel.counts("nowhere")


def test_transient(channel: Channel) -> None:
    """A queue that is neither durable nor exclusive is taken, on 4.3.6 too"""
    channel.declare("q")
    channel.publish("q", b"1")
    assert channel.wait_get("q").body == b"1"


def test_reserved_name(channel: Channel) -> None:
    """Queue names that begin with `amq.` are reserved: 403"""
    text = "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'"
    with channel.refuses(403, text):
        channel.declare("amq.mine", durable=True)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"durable": False}, "invalid property 'non-durable' for queue 'q' {}"),
        ({"exclusive": True}, "invalid property 'exclusive-owner' for queue 'q' {}"),
        ({"auto_delete": True}, "invalid property 'auto-delete' for queue 'q' {}"),
    ],
    ids=["transient", "exclusive", "auto-delete"],
)
def test_quorum_is_durable(peer: Peer, options: dict[str, bool], text: str) -> None:
    """A quorum queue is durable, and neither exclusive nor auto-delete: 406"""
    channel = peer.channel()
    asked = {"durable": True, "arguments": {"x-queue-type": "quorum"}, **options}
    with channel.refuses(406, f"PRECONDITION_FAILED - {text.format(peer.place)}"):
        channel.declare("q", **asked)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"x-queue-type": "odd"}, ": \"unsupported queue type 'odd'\""),
        ({"x-max-priority": 5, "x-queue-type": "quorum"}, " of queue type rabbit_quorum_queue"),
        ({"x-delivery-limit": 5}, " of queue type rabbit_classic_queue"),
        ({"x-message-ttl": "soon"}, ': "expected integer, got longstr"'),
        ({"x-message-ttl": -1}, ": {value_negative,-1}"),
        ({"x-expires": 0}, ": {value_zero,0}"),
        ({"x-max-length": -1}, ": {value_negative,-1}"),
        ({"x-max-length": "many"}, ': "expected integer, got longstr"'),
        ({"x-max-priority": 256}, ": {max_value_exceeded,256}"),
        ({"x-overflow": "burst"}, ": invalid_overflow"),
        ({"x-dead-letter-routing-key": "k"}, ": routing_key_but_no_dlx_defined"),
        ({"x-single-active-consumer": 100_000}, ": {unacceptable_type,signedint}"),
        ({"x-dead-letter-strategy": "never", "x-queue-type": "quorum"}, ": invalid_dlx_strategy"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value),
)
def test_invalid_arguments(peer: Peer, arguments: dict[str, Any], text: str) -> None:
    """Arguments of a wrong type or value, or of the other queue type, are refused with 406"""
    channel = peer.channel()
    begin = f"PRECONDITION_FAILED - invalid arg '{next(iter(arguments))}' for queue 'q'"
    with channel.refuses(406, f"{begin} {peer.place}{text}"):
        channel.declare("q", durable=True, arguments=arguments)


def test_invalid_dead_letter_exchange(peer: Peer, channel: Channel) -> None:
    """A dead-letter exchange that is not text is refused with 406"""
    text = "invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'q'"
    with channel.refuses(406, f"PRECONDITION_FAILED - {text} {peer.place}"):
        channel.declare("q", durable=True, arguments={"x-dead-letter-exchange": 100_000})


def test_unknown_arguments(channel: Channel, kind: str) -> None:
    """Arguments that nobody knows are taken"""
    channel.of_kind(kind, "q", x_of_mine="yes", mine=True)


def test_purge(peer: Peer, channel: Channel, kind: str) -> None:
    """Purging takes what is ready, leaves what is unacked, and says how many it took"""
    channel.of_kind(kind, "q")
    channel.publish_confirmed("q", b"1", b"2", b"3")
    held = channel.wait_get("q", no_ack=False)
    assert channel.purge("q") == 2
    channel.nack(held.tag)
    assert channel.wait_get("q").body == b"1"
    with channel.refuses(404, f"NOT_FOUND - no queue 'nowhere' {peer.place}"):
        channel.purge("nowhere")


def test_delete(peer: Peer, channel: Channel, kind: str) -> None:
    """Deleting says how many were ready; a missing queue is 0"""
    channel.of_kind(kind, "q")
    channel.publish_confirmed("q", b"1", b"2")
    channel.wait_ready("q", 2)
    assert channel.delete("q") == 2
    assert channel.delete("q") == 0
    with channel.refuses(404, f"NOT_FOUND - no queue 'q' {peer.place}"):
        channel.counts("q")


def test_delete_with_conditions(peer: Peer, channel: Channel) -> None:
    """A classic queue is not deleted `if-empty` with messages or `if-unused` with consumers: 406"""
    channel.classic("q")
    channel.publish_confirmed("q", b"1")
    other = peer.channel()
    with other.refuses(406, f"PRECONDITION_FAILED - queue 'q' {peer.place} not empty"):
        other.delete("q", if_empty=True)
    channel.consume("q", "c", no_ack=True)
    channel.next()
    other = peer.channel()
    with other.refuses(406, f"PRECONDITION_FAILED - queue 'q' {peer.place} in use"):
        other.delete("q", if_unused=True)
    channel.cancel("c")
    assert channel.delete("q", if_unused=True, if_empty=True) == 0


@pytest.mark.parametrize("condition", ["if_unused", "if_empty"])
def test_delete_quorum_with_conditions(peer: Peer, channel: Channel, condition: str) -> None:
    """A quorum queue cannot be deleted with conditions: 540"""
    channel.quorum("q")
    text = (
        f"NOT_IMPLEMENTED - cannot delete queue 'q' {peer.place}. queue.delete operations with"
        f" {condition.replace('_', '-')} flag set are not supported by quorum queues"
    )
    with channel.refuses(540, text, "connection"):
        channel.delete("q", **{condition: True})


def test_nowait(channel: Channel) -> None:
    """With `nowait` there is no answer"""
    channel.connection.declared.append(("queue", "q"))
    channel.send(Queue.Declare(queue="q", durable=True, nowait=True))
    channel.send(Queue.Bind(0, "q", "amq.direct", "key", nowait=True))
    channel.send(Basic.Consume(0, "q", "c", nowait=True))
    assert channel.arrived() == []
    channel.publish("key", b"1", exchange="amq.direct")
    assert channel.next().body == b"1"
    channel.send(Basic.Cancel("c", nowait=True))
    channel.send(Queue.Purge(queue="q", nowait=True))
    channel.send(Queue.Delete(queue="q", nowait=True))
    assert channel.arrived() == []
    channel.wait_gone("q")
