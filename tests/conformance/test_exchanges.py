"""Where messages go: exchanges and bindings."""

import pytest
from pamqp.commands import Exchange, Queue

from tests.conformance.client import Channel
from tests.conformance.peers import Peer
from tests.conformance.routing import refusal_of, routed

PREDECLARED = {
    "direct": "direct",
    "fanout": "fanout",
    "topic": "topic",
    "headers": "headers",
    "match": "headers",
}
"""By name behind `amq.`: their types."""


def test_predeclared(channel: Channel) -> None:
    """`amq.direct`, `amq.fanout`, `amq.topic`, `amq.headers` and `amq.match` are there"""
    for name in PREDECLARED:
        channel.call(Exchange.Declare(exchange=f"amq.{name}", passive=True))


def test_predeclared_again(peer: Peer, channel: Channel) -> None:
    """What is predeclared can be declared again as it is; `amq.rabbitmq.trace` is internal"""
    for name, kind in PREDECLARED.items():
        declare = Exchange.Declare(exchange=f"amq.{name}", exchange_type=kind, durable=True)
        channel.call(declare)
    trace = {"exchange": "amq.rabbitmq.trace", "exchange_type": "topic", "durable": True}
    channel.call(Exchange.Declare(**trace, internal=True))
    text = (
        f"channel 406: PRECONDITION_FAILED - inequivalent arg 'durable' for exchange 'amq.headers'"
        f" {peer.place}: received 'false' but current is 'true'"
    )
    other = Exchange.Declare(exchange="amq.headers", exchange_type="headers")
    assert refusal_of(channel, other) == text
    place = f"exchange 'amq.rabbitmq.trace' {peer.place}"
    publishing = peer.channel()
    with publishing.refuses(403, f"ACCESS_REFUSED - cannot publish to internal {place}"):
        publishing.publish("", exchange="amq.rabbitmq.trace")


def test_direct(channel: Channel) -> None:
    """A direct exchange routes to the queues bound with the same key, once to each"""
    channel.exchange("x", "direct")
    channel.declare("a", exclusive=True)
    channel.declare("b", exclusive=True)
    channel.bind("a", "x", "one")
    channel.bind("a", "x", "two")
    channel.bind("b", "x", "two")
    assert routed(channel, "x", "one", "a", "b") == ["a"]
    assert routed(channel, "x", "two", "a", "b") == ["a", "b"]
    assert routed(channel, "x", "three", "a", "b") == []


def test_fanout(channel: Channel) -> None:
    """A fanout exchange routes to every bound queue, once, whatever the key"""
    channel.exchange("x", "fanout")
    channel.declare("a", exclusive=True)
    channel.declare("b", exclusive=True)
    channel.bind("a", "x", "one")
    channel.bind("a", "x", "two")
    channel.bind("b", "x")
    assert routed(channel, "x", "other", "a", "b") == ["a", "b"]


def test_default_exchange(channel: Channel) -> None:
    """The default exchange routes to the queue of that name"""
    channel.declare("q", exclusive=True)
    assert routed(channel, "", "q", "q") == ["q"]


def test_default_exchange_is_fixed(peer: Peer) -> None:
    """The default exchange can be neither bound, declared nor deleted: 403"""
    text = "ACCESS_REFUSED - operation not permitted on the default exchange"
    peer.channel().declare("q", durable=True)
    for method in (
        Queue.Bind(0, "q", "", "key"),
        Queue.Unbind(0, "q", "", "q"),
        Exchange.Bind(0, "amq.direct", "", "key"),
        Exchange.Bind(0, "", "amq.direct", "key"),
        Exchange.Unbind(0, "amq.direct", "", "key"),
        Exchange.Unbind(0, "", "amq.direct", "key"),
        Exchange.Declare(exchange="", exchange_type="direct", durable=True),
        Exchange.Declare(exchange="", passive=True),
        Exchange.Delete(exchange=""),
    ):
        channel = peer.channel()
        with channel.refuses(403, text):
            channel.call(method)


def test_exchange_to_exchange(channel: Channel) -> None:
    """Exchanges are bound to exchanges; two ways to a queue are one copy; unbinding ends it"""
    for name in ("source", "left", "right"):
        channel.exchange(name, "fanout")
    channel.declare("q", exclusive=True)
    channel.bind("q", "left")
    channel.bind("q", "right")
    channel.call(Exchange.Bind(0, "left", "source"))
    channel.call(Exchange.Bind(0, "right", "source"))
    assert routed(channel, "source", "", "q") == ["q"]
    channel.call(Exchange.Unbind(0, "left", "source"))
    channel.call(Exchange.Unbind(0, "right", "source"))
    assert routed(channel, "source", "", "q") == []


def test_exchange_circle(channel: Channel) -> None:
    """Exchanges bound in a circle route once"""
    channel.exchange("x", "fanout")
    channel.exchange("y", "fanout")
    channel.declare("q", exclusive=True)
    channel.call(Exchange.Bind(0, "x", "y"))
    channel.call(Exchange.Bind(0, "y", "x"))
    channel.bind("q", "y")
    assert routed(channel, "x", "", "q") == ["q"]


def test_internal(peer: Peer, channel: Channel) -> None:
    """Publishing to an internal exchange is refused with 403"""
    channel.exchange("x", "fanout", internal=True)
    text = f"ACCESS_REFUSED - cannot publish to internal exchange 'x' {peer.place}"
    with channel.refuses(403, text):
        channel.publish("", exchange="x")


def test_auto_delete(peer: Peer, channel: Channel) -> None:
    """An auto-delete exchange goes with its last binding, not before its first"""
    channel.exchange("x", "fanout", auto_delete=True)
    channel.call(Exchange.Declare(exchange="x", passive=True))
    channel.declare("q", exclusive=True)
    channel.bind("q", "x")
    channel.call(Queue.Unbind(0, "q", "x", ""))
    with channel.refuses(404, f"NOT_FOUND - no exchange 'x' {peer.place}"):
        channel.call(Exchange.Declare(exchange="x", passive=True))


def test_auto_delete_with_its_queue(peer: Peer, channel: Channel) -> None:
    """An auto-delete exchange goes with the last queue that was bound to it"""
    channel.exchange("x", "fanout", auto_delete=True)
    channel.declare("q", exclusive=True)
    channel.bind("q", "x")
    channel.delete("q")
    with channel.refuses(404, f"NOT_FOUND - no exchange 'x' {peer.place}"):
        channel.call(Exchange.Declare(exchange="x", passive=True))


@pytest.mark.parametrize(
    ("options", "argument", "received", "current"),
    [
        ({"exchange_type": "fanout"}, "type", "'fanout'", "'direct'"),
        ({"durable": True}, "durable", "'true'", "'false'"),
        ({"auto_delete": True}, "auto_delete", "'true'", "'false'"),
        ({"internal": True}, "internal", "'true'", "'false'"),
        (
            {"arguments": {"alternate-exchange": "y"}},
            "alternate-exchange",
            "the value 'y' of type 'longstr'",
            "none",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_redeclared_otherwise(
    peer: Peer, options: dict[str, object], argument: str, received: str, current: str
) -> None:
    """An exchange declared again with anything else is refused with 406"""
    channel = peer.channel()
    channel.exchange("x", "direct")
    channel.exchange("x", "direct")
    text = (
        f"PRECONDITION_FAILED - inequivalent arg '{argument}' for exchange 'x' {peer.place}:"
        f" received {received} but current is {current}"
    )
    with channel.refuses(406, text):
        channel.call(Exchange.Declare(exchange="x", **options))  # type: ignore[arg-type]


def test_passive(peer: Peer, channel: Channel) -> None:
    """A passive declaration asks for the name alone; without that exchange it is a 404"""
    channel.exchange("x", "fanout")
    channel.call(Exchange.Declare(exchange="x", exchange_type="direct", passive=True, durable=True))
    with channel.refuses(404, f"NOT_FOUND - no exchange 'y' {peer.place}"):
        channel.call(Exchange.Declare(exchange="y", passive=True))


def test_unknown_type(peer: Peer) -> None:
    """An unknown exchange type is a connection error 503 on 3.10, and a channel's 406 on 4.3"""
    name = peer.by_version("connection 503: COMMAND_INVALID", "channel 406: PRECONDITION_FAILED")
    for kind, wrong in (("odd", "unknown"), ("x-delayed-message", "unknown"), ("", "invalid")):
        declare = Exchange.Declare(exchange="x", exchange_type=kind)
        assert refusal_of(peer.channel(), declare) == f"{name} - {wrong} exchange type '{kind}'"


def test_reserved_name(peer: Peer) -> None:
    """Names that begin with `amq.` are reserved: 403"""
    channel = peer.channel()
    text = "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'"
    with channel.refuses(403, text):
        channel.exchange("amq.mine")
    channel = peer.channel()
    text = f"ACCESS_REFUSED - deletion of system exchange 'amq.direct' {peer.place} not allowed"
    with channel.refuses(403, text):
        channel.call(Exchange.Delete(exchange="amq.direct"))


def test_delete(peer: Peer, channel: Channel) -> None:
    """Deleting `if-unused` is refused with 406 while there are bindings; a missing one is fine"""
    channel.exchange("x", "fanout")
    channel.declare("q", exclusive=True)
    channel.bind("q", "x")
    other = peer.channel()
    with other.refuses(406, f"PRECONDITION_FAILED - exchange 'x' {peer.place} in use"):
        other.call(Exchange.Delete(exchange="x", if_unused=True))
    channel.call(Exchange.Delete(exchange="x"))
    channel.call(Exchange.Delete(exchange="x"))
    with channel.refuses(404, f"NOT_FOUND - no exchange 'x' {peer.place}"):
        channel.call(Exchange.Declare(exchange="x", passive=True))


def test_bind_what_is_missing(peer: Peer) -> None:
    """Binding a missing queue or exchange is refused with 404"""
    peer.channel().declare("q", durable=True)
    cases = [
        (Queue.Bind(0, "q", "nowhere", ""), "exchange 'nowhere'"),
        (Queue.Bind(0, "nobody", "amq.direct", ""), "queue 'nobody'"),
        (Exchange.Bind(0, "nowhere", "amq.direct", ""), "exchange 'nowhere'"),
        (Exchange.Bind(0, "amq.direct", "nowhere", ""), "exchange 'nowhere'"),
    ]
    for method, missing in cases:
        channel = peer.channel()
        with channel.refuses(404, f"NOT_FOUND - no {missing} {peer.place}"):
            channel.call(method)


def test_unbind(channel: Channel) -> None:
    """Unbinding ends the routing; a binding that is not there is fine"""
    channel.declare("q", exclusive=True)
    channel.bind("q", "amq.direct", "key")
    channel.call(Queue.Unbind(0, "q", "amq.direct", "key"))
    channel.call(Queue.Unbind(0, "q", "amq.direct", "key"))
    assert routed(channel, "amq.direct", "key", "q") == []


def test_publish_to_a_missing_exchange(peer: Peer, channel: Channel) -> None:
    """Publishing to a missing exchange closes the channel with 404"""
    with channel.refuses(404, f"NOT_FOUND - no exchange 'nowhere' {peer.place}"):
        channel.publish("key", exchange="nowhere")
