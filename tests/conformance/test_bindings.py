"""Bindings: when two are the same, who may make them, and what goes when they go."""

import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pamqp.commands import Basic, Exchange, Queue, Tx

from tests.conformance.client import Channel
from tests.conformance.events import ClosedError
from tests.conformance.peers import Peer
from tests.conformance.routing import refusal_of, routed
from tests.conformance.wire import PATIENCE


def is_there(peer: Peer, name: str) -> bool:
    """Whether there is an exchange of that name."""
    try:
        peer.channel().call(Exchange.Declare(exchange=name, passive=True))
    except ClosedError as error:
        assert error.code == 404, error
        return False
    return True


def wait_gone(peer: Peer, name: str) -> None:
    """Wait until there is no exchange of that name any more."""
    deadline = time.monotonic() + PATIENCE
    while is_there(peer, name):
        assert time.monotonic() < deadline, f"{name} is still there"


def test_many_ways(channel: Channel) -> None:
    """A message that reaches a queue in several ways is there once, as it was published"""
    channel.exchange("x", "topic")
    channel.exchange("y", "fanout")
    channel.declare("q", exclusive=True)
    for key in ("a.*", "#", "*.b", "a.b"):
        channel.bind("q", "x", key)
    channel.bind("q", "y")
    for key in ("#", "a.b"):
        channel.call(Exchange.Bind(0, "y", "x", key))
    channel.publish("a.b", b"", "x", headers={"CC": ["a.c"]})
    found = channel.wait_get("q")
    assert (found.exchange, found.key, found.left) == ("x", "a.b", 0)


def test_filters_in_a_row(channel: Channel) -> None:
    """The key is matched at each exchange on the way"""
    channel.exchange("x", "topic")
    channel.exchange("y", "direct")
    channel.declare("q", exclusive=True)
    channel.bind("q", "y", "a.b")
    channel.call(Exchange.Bind(0, "y", "x", "a.*"))
    assert routed(channel, "x", "a.b", "q") == ["q"]
    assert routed(channel, "x", "a.c", "q") == []


def test_bound_to_itself(peer: Peer, channel: Channel) -> None:
    """An exchange that is bound to itself routes once, is no route, and is in use"""
    channel.exchange("x", "fanout")
    channel.call(Exchange.Bind(0, "x", "x"))
    channel.publish("", b"", "x", mandatory=True)
    assert channel.next().code == 312
    channel.declare("q", exclusive=True)
    channel.bind("q", "x")
    assert routed(channel, "x", "", "q") == ["q"]
    text = f"channel 406: PRECONDITION_FAILED - exchange 'x' {peer.place} in use"
    assert refusal_of(channel, Exchange.Delete(exchange="x", if_unused=True)) == text


def test_same_binding(peer: Peer, channel: Channel) -> None:
    """A binding made twice is one; another key, or other arguments, make another"""
    channel.exchange("x", "direct", auto_delete=True)
    channel.declare("q", exclusive=True)
    for arguments in ({}, {}, {"a": 1, "b": 2}, {"b": 2, "a": 1}):
        channel.call(Queue.Bind(0, "q", "x", "key", arguments=arguments))
    assert routed(channel, "x", "key", "q") == ["q"]
    channel.call(Queue.Unbind(0, "q", "x", "key"))
    channel.call(Queue.Unbind(0, "q", "x", "key", {"a": 1}))
    channel.call(Queue.Unbind(0, "q", "x", "other", {"a": 1, "b": 2}))
    assert routed(channel, "x", "key", "q") == ["q"]
    channel.call(Queue.Unbind(0, "q", "x", "key", {"b": 2, "a": 1}))
    assert not is_there(peer, "x")


@pytest.mark.parametrize(
    ("bound", "other"),
    [
        (1, True),
        (0, False),
        (1, 1.0),
        (1, 300),
        (1, Decimal(1)),
        (1, datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        (Decimal(1), Decimal("1.0")),
        ("1", bytearray(b"1")),
        (None, ""),
        ([], {}),
        ([1], [True]),
        ({"a": 1}, {"a": True}),
    ],
    ids=str,
)
def test_types_of_arguments(channel: Channel, bound: Any, other: Any) -> None:
    """Unbinding with a value of another type unbinds nothing, whatever the type of exchange"""
    channel.exchange("x", "fanout")
    channel.declare("q", exclusive=True)
    channel.call(Queue.Bind(0, "q", "x", arguments={"v": bound}))
    channel.call(Queue.Unbind(0, "q", "x", "", {"v": other}))
    assert routed(channel, "x", "", "q") == ["q"]
    channel.call(Queue.Unbind(0, "q", "x", "", {"v": bound}))
    assert routed(channel, "x", "", "q") == []


def test_locked_queue(peer: Peer, channel: Channel) -> None:
    """Only its connection binds or unbinds an exclusive queue: 405 for others"""
    channel.declare("q", exclusive=True)
    channel.bind("q", "amq.direct", "key")
    text = "channel 405: RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' "
    for kind in (Queue.Bind, Queue.Unbind):
        refusal = refusal_of(peer.channel(), kind(0, "q", "amq.direct", "key"))
        assert refusal.startswith(text + peer.place)
    missing = f"channel 404: NOT_FOUND - no exchange 'nowhere' {peer.place}"
    assert refusal_of(peer.channel(), Queue.Bind(0, "q", "nowhere", "key")) == missing
    assert refusal_of(peer.channel(), Queue.Unbind(0, "q", "nowhere", "key")) == "not refused"


def test_unbinding_what_is_missing(peer: Peer) -> None:
    """Unbinding without its queue, or without one of its exchanges, is fine"""
    peer.channel().declare("q", durable=True)
    methods = [
        Queue.Unbind(0, "nobody", "amq.direct", ""),
        Queue.Unbind(0, "q", "nowhere", ""),
        Exchange.Unbind(0, "nowhere", "amq.fanout", ""),
        Exchange.Unbind(0, "amq.fanout", "nowhere", ""),
        Exchange.Unbind(0, "amq.fanout", "amq.fanout", ""),
    ]
    assert refusal_of(peer.channel(), *methods) == "not refused"
    for method in (Queue.Bind(0, "", "amq.direct", ""), Queue.Unbind(0, "", "amq.direct", "")):
        text = "channel 404: NOT_FOUND - no previously declared queue"
        assert refusal_of(peer.channel(), method) == text


def test_missing_exchange_comes_first(peer: Peer) -> None:
    """Binding without queue and exchange names the exchange; of two exchanges, the source"""
    source = f"channel 404: NOT_FOUND - no exchange 'source' {peer.place}"
    assert refusal_of(peer.channel(), Queue.Bind(0, "nobody", "source", "")) == source
    assert refusal_of(peer.channel(), Exchange.Bind(0, "nowhere", "source", "")) == source


def test_reply_addresses_are_not_bound(peer: Peer) -> None:
    """A direct reply-to address cannot be bound: 404 on 3.10, 403 on 4.3"""
    place, name = peer.place, "amq.rabbitmq.reply-to"
    missing = f"channel 404: NOT_FOUND - no queue '{name}{{}}' {place}"
    refused = (
        "channel 403: ACCESS_REFUSED - cannot bind or unbind to a volatile (direct reply-to) queue"
    )
    bind = Queue.Bind(0, name, "amq.direct", "")
    assert refusal_of(peer.channel(), bind) == missing.format("")
    bind = Queue.Bind(0, f"{name}.a", "amq.direct", "")
    unbind = Queue.Unbind(0, f"{name}.a", "amq.direct", "")
    assert refusal_of(peer.channel(), bind) == peer.by_version(missing.format(".a"), refused)
    assert refusal_of(peer.channel(), unbind) == peer.by_version("not refused", refused)


def test_nowait(channel: Channel) -> None:
    """Exchanges and bindings with `nowait` have no answer, and are there for the next method"""
    channel.connection.declared += [("exchange", "x"), ("exchange", "y")]
    channel.declare("q", exclusive=True)
    for name in "xy":
        channel.send(Exchange.Declare(exchange=name, exchange_type="fanout", nowait=True))
    channel.send(Exchange.Bind(0, "y", "x", "", nowait=True))
    channel.send(Queue.Bind(0, "q", "y", "", nowait=True))
    channel.publish("", b"bound", "x")
    assert channel.get_all("q") == [b"bound"]
    channel.send(Exchange.Unbind(0, "y", "x", "", nowait=True))
    channel.publish("", b"unbound", "x")
    channel.send(Exchange.Delete(exchange="y", nowait=True))
    assert channel.get_all("q") == []
    channel.exchange("y", "direct")


def test_deleted_queue_leaves_no_binding(channel: Channel) -> None:
    """A deleted queue takes its bindings with it: one of the same name has none"""
    channel.exchange("x", "fanout")
    for _ in range(2):
        channel.declare("q", exclusive=True)
        channel.delete("q")
    channel.declare("q", exclusive=True)
    channel.bind("q", "x")
    channel.delete("q")
    channel.declare("q", exclusive=True)
    assert routed(channel, "x", "", "q") == []
    channel.call(Exchange.Delete(exchange="x", if_unused=True))


def test_deleted_exchange_leaves_no_binding(channel: Channel) -> None:
    """A deleted exchange takes its bindings with it, those from and those to other exchanges"""
    channel.declare("q", exclusive=True)
    for name in "xyz":
        channel.exchange(name, "fanout")
    channel.call(Exchange.Bind(0, "y", "x"))
    channel.call(Exchange.Bind(0, "z", "y"))
    channel.bind("q", "y")
    channel.bind("q", "z")
    channel.call(Exchange.Delete(exchange="y"))
    channel.exchange("y", "fanout")
    assert routed(channel, "y", "", "q") == []
    assert routed(channel, "x", "", "q") == []
    channel.call(Exchange.Delete(exchange="x", if_unused=True))


def test_in_use(channel: Channel) -> None:
    """An exchange that others are bound to is in use; one that is only bound to them is not"""
    channel.exchange("x", "fanout")
    channel.exchange("y", "fanout")
    channel.call(Exchange.Bind(0, "y", "x"))
    channel.call(Exchange.Delete(exchange="y", if_unused=True))
    channel.call(Exchange.Delete(exchange="x", if_unused=True))


def test_auto_delete_in_a_row(peer: Peer, channel: Channel) -> None:
    """When a queue goes, auto-delete exchanges go one after the other, up to the first"""
    for name in "xyz":
        channel.exchange(name, "fanout", auto_delete=True)
    channel.call(Exchange.Bind(0, "y", "x"))
    channel.call(Exchange.Bind(0, "z", "y"))
    channel.declare("q", exclusive=True)
    channel.bind("q", "z")
    channel.delete("q")
    assert [name for name in "xyz" if is_there(peer, name)] == []


def test_auto_delete_by_exchanges(peer: Peer, channel: Channel) -> None:
    """An auto-delete exchange goes with the last one that it leads to, not with its source"""
    for name in "xyz":
        channel.exchange(name, "fanout", auto_delete=name == "y")
    channel.call(Exchange.Bind(0, "y", "x"))
    channel.call(Exchange.Bind(0, "z", "y"))
    channel.call(Exchange.Delete(exchange="x"))
    assert is_there(peer, "y")
    channel.call(Exchange.Delete(exchange="z"))
    assert not is_there(peer, "y")


def test_auto_delete_circle(peer: Peer, channel: Channel) -> None:
    """Auto-delete exchanges in a circle stay when their queue goes, until one is unbound"""
    for name in "xy":
        channel.exchange(name, "fanout", auto_delete=True)
    channel.call(Exchange.Bind(0, "x", "y"))
    channel.call(Exchange.Bind(0, "y", "x"))
    channel.declare("q", exclusive=True)
    channel.bind("q", "x")
    channel.delete("q")
    assert [name for name in "xy" if is_there(peer, name)] == ["x", "y"]
    channel.call(Exchange.Unbind(0, "x", "y"))
    assert [name for name in "xy" if is_there(peer, name)] == []


@pytest.mark.parametrize("how", ["closed", "lost", "cancelled", "channel closed", "expired"])
def test_auto_delete_with_its_exclusive_queue(peer: Peer, how: str) -> None:
    """An auto-delete exchange goes too when its last queue goes by itself, whatever the reason"""
    peer.channel().exchange("x", "topic", auto_delete=True)
    channel = peer.channel()
    arguments = {"x-expires": 100} if how == "expired" else {}
    queue = channel.declare("", exclusive=True, auto_delete=True, arguments=arguments).queue
    channel.bind(queue, "x", "#")
    if how == "closed":
        channel.connection.close()
    elif how == "lost":
        channel.connection.drop()
    elif how != "expired":
        consuming = channel.connection.channel()
        tag = consuming.consume(queue)
        if how == "cancelled":
            consuming.cancel(tag)
        else:
            consuming.close()
    wait_gone(peer, "x")


def test_broadcast(peer: Peer, channel: Channel) -> None:
    """A fanout to exclusive queues reaches each connection, as long as it lives"""
    channel.exchange("x", "fanout")
    listeners = [peer.channel() for _ in range(3)]
    queues = [each.declare("", exclusive=True, auto_delete=True).queue for each in listeners]
    for listener, queue in zip(listeners, queues, strict=True):
        listener.bind(queue, "x")
        listener.consume(queue, "tag", no_ack=True)
    channel.publish_confirmed("", b"one", exchange="x")
    assert [each.next().body for each in listeners] == [b"one"] * 3
    listeners[0].connection.close()
    listeners[1].cancel("tag")
    for queue in queues[:2]:
        channel.wait_gone(queue)
    channel.publish_confirmed("", b"two", exchange="x")
    assert listeners[2].next().body == b"two"


def test_published_before_a_missing_exchange(peer: Peer, channel: Channel) -> None:
    """What a channel published before its 404 arrives, or is returned; what follows does not"""
    peer.channel().declare("q", durable=True)
    channel.publish("q", b"one")
    channel.publish("nobody", b"two", mandatory=True)
    channel.publish("q", b"three", "nowhere", mandatory=True)
    channel.publish("q", b"four")
    closed = channel.wait_closed()
    assert (closed.code, closed.method) == (404, (60, 40))
    assert closed.text == f"NOT_FOUND - no exchange 'nowhere' {peer.place}"
    assert channel.next().body == b"two"
    assert peer.channel().get_all("q") == [b"one"]


def test_missing_exchange_in_a_transaction(peer: Peer, channel: Channel) -> None:
    """A missing exchange closes the channel before the commit, and the transaction is dropped"""
    peer.channel().declare("q", durable=True)
    channel.call(Tx.Select())
    channel.publish("q", b"")
    with channel.refuses(404, f"NOT_FOUND - no exchange 'nowhere' {peer.place}"):
        channel.publish("q", b"", "nowhere")
    assert peer.channel().get_all("q") == []


def test_long_words(peer: Peer) -> None:
    """An error of more than 255 bytes is cut, and ends with three dots"""
    for length in (255, 256):
        name = "n" * (length - len(f"NOT_FOUND - no queue '' {peer.place}"))
        text = f"NOT_FOUND - no queue '{name}' {peer.place}"
        shown = text if length == 255 else f"{text[:252]}..."
        declare = Queue.Declare(queue=name, passive=True)
        assert refusal_of(peer.channel(), declare) == f"channel 404: {shown}"


def test_get_says_where_from(channel: Channel) -> None:
    """`basic.get` says the exchange and the key of the publish, behind other exchanges too"""
    channel.exchange("x", "topic")
    channel.exchange("y", "fanout")
    channel.call(Exchange.Bind(0, "y", "x", "#"))
    channel.declare("q", exclusive=True)
    channel.bind("q", "y", "other")
    channel.publish("a.b", b"", "x")
    found = channel.call(Basic.Get(queue="q"))
    assert (found.exchange, found.key) == ("x", "a.b")
