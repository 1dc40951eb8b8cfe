"""Alternate exchanges: where a message goes that an exchange cannot route."""

from typing import Any

import pytest
from pamqp.commands import Exchange, Queue

from tests.conformance.client import Channel
from tests.conformance.events import Returned
from tests.conformance.peers import Peer
from tests.conformance.routing import refusal_of, routed


def with_alternate(channel: Channel, name: str, alternate: str, kind: str = "direct") -> None:
    channel.exchange(name, kind, arguments={"alternate-exchange": alternate})


def test_alternate_exchange(channel: Channel) -> None:
    """What an exchange cannot route goes to its alternate exchange, and is not returned"""
    channel.exchange("spare", "fanout")
    channel.exchange("x", "direct", arguments={"alternate-exchange": "spare"})
    channel.declare("taken", exclusive=True)
    channel.declare("q", exclusive=True)
    channel.bind("taken", "x", "known")
    channel.bind("q", "spare")
    channel.confirms()
    channel.publish("other", b"", exchange="x", mandatory=True)
    assert not isinstance(channel.next(), Returned)
    assert channel.get_all("q") == [b""]
    assert routed(channel, "x", "known", "taken", "q") == ["taken"]


def test_alternate_exchange_that_is_missing(channel: Channel) -> None:
    """An alternate exchange that is not there is no error: what is mandatory is returned"""
    channel.exchange("x", "direct", arguments={"alternate-exchange": "nowhere"})
    channel.publish("key", b"", exchange="x", mandatory=True)
    assert channel.next().code == 312


def test_alternate_chain(channel: Channel) -> None:
    """Alternate exchanges have alternates; each is asked until one has a route"""
    for name, alternate in ("xy", "yz"):
        with_alternate(channel, name, alternate)
    channel.exchange("z", "fanout")
    for queue, exchange in ("ay", "bz"):
        channel.declare(queue, exclusive=True)
        channel.bind(queue, exchange, "known")
    assert routed(channel, "x", "known", "a", "b") == ["a"]
    assert routed(channel, "x", "other", "a", "b") == ["b"]


def test_alternate_circle(channel: Channel) -> None:
    """Alternates in a circle are asked once each, and what has no route is returned"""
    for name, alternate in ("xy", "yz", "zx", "ss"):
        with_alternate(channel, name, alternate)
    channel.declare("q", exclusive=True)
    for exchange in ("x", "s"):
        channel.publish("key", b"", exchange, mandatory=True)
        returned = channel.next()
        assert (returned.code, returned.exchange, returned.key) == (312, exchange, "key")
    channel.bind("q", "z", "key")
    assert routed(channel, "x", "key", "q") == ["q"]


def test_alternate_of_each_exchange(channel: Channel) -> None:
    """Every exchange on the way has its own alternate; a bound exchange counts as a route"""
    channel.exchange("spare", "fanout")
    channel.exchange("other", "fanout")
    with_alternate(channel, "x", "other", "fanout")
    with_alternate(channel, "y", "spare")
    for queue, exchange in (("a", "x"), ("b", "spare"), ("c", "other")):
        channel.declare(queue, exclusive=True)
        channel.bind(queue, exchange)
    channel.call(Exchange.Bind(0, "y", "x"))
    assert routed(channel, "x", "", "a", "b", "c") == ["a", "b"]
    channel.call(Queue.Unbind(0, "a", "x", ""))
    assert routed(channel, "x", "", "a", "b", "c") == ["b"]


def test_alternate_for_no_key_at_all(channel: Channel) -> None:
    """The alternate is for messages of which no key has a route: a CC that has one is enough"""
    channel.exchange("spare", "fanout")
    with_alternate(channel, "x", "spare")
    for queue, exchange in (("a", "x"), ("b", "spare")):
        channel.declare(queue, exclusive=True)
        channel.bind(queue, exchange, "copied")
    assert routed(channel, "x", "key", "a", "b", headers={"CC": ["copied"]}) == ["a"]
    assert routed(channel, "x", "key", "a", "b", headers={"CC": ["other"]}) == ["b"]


def test_default_alternate(channel: Channel) -> None:
    """The default exchange is nobody's alternate: with an empty name nothing is routed"""
    with_alternate(channel, "x", "")
    channel.declare("q", exclusive=True)
    assert routed(channel, "x", "q", "q") == []


def test_internal_alternate(channel: Channel) -> None:
    """An internal exchange can be an alternate, be bound to, and take dead letters"""
    channel.exchange("i", "fanout", internal=True)
    channel.exchange("y", "fanout")
    with_alternate(channel, "x", "i")
    channel.declare("q", exclusive=True)
    channel.bind("q", "i")
    channel.call(Exchange.Bind(0, "i", "y"))
    assert routed(channel, "x", "", "q") == ["q"]
    assert routed(channel, "y", "", "q") == ["q"]
    channel.declare("dying", exclusive=True, arguments={"x-dead-letter-exchange": "i"})
    channel.publish("dying", b"dead")
    channel.reject(channel.wait_get("dying", no_ack=False).tag, requeue=False)
    assert channel.wait_get("q").body == b"dead"


def test_deleted_alternate(channel: Channel) -> None:
    """An alternate can be deleted `if-unused`, and is used again when it is declared again"""
    channel.exchange("spare", "fanout")
    with_alternate(channel, "x", "spare")
    channel.declare("q", exclusive=True)
    channel.call(Exchange.Delete(exchange="spare", if_unused=True))
    channel.publish("key", b"", "x", mandatory=True)
    assert isinstance(channel.next(), Returned)
    channel.exchange("spare", "topic")
    channel.bind("q", "spare", "#")
    assert routed(channel, "x", "key", "q") == ["q"]


def test_dead_letter_by_an_alternate(channel: Channel) -> None:
    """A dead letter that came by an alternate names its dead-letter exchange, and its own key"""
    channel.exchange("spare", "fanout")
    with_alternate(channel, "x", "spare")
    channel.declare("q", exclusive=True)
    channel.bind("q", "spare")
    channel.declare("dying", exclusive=True, arguments={"x-dead-letter-exchange": "x"})
    channel.publish("dying", b"")
    channel.reject(channel.wait_get("dying", no_ack=False).tag, requeue=False)
    found = channel.wait_get("q")
    death = found.headers["x-death"][0]
    assert (found.exchange, found.key) == ("x", "dying")
    assert (death["exchange"], death["routing-keys"]) == ("", ["dying"])


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1, "byte"),
        (300, "short"),
        (True, "bool"),
        (None, "void"),
        (1.5, "float"),
        (bytearray(b"y"), "binary"),
        (["y"], "array"),
        ({"y": "y"}, "table"),
    ],
    ids=str,
)
def test_wrong_alternate(peer: Peer, value: Any, kind: str) -> None:
    """An alternate exchange that is not text is refused with 406"""
    declare = Exchange.Declare(exchange="x", arguments={"alternate-exchange": value})
    assert refusal_of(peer.channel(), declare) == (
        f"channel 406: PRECONDITION_FAILED - invalid type '{kind}' for arg 'alternate-exchange' "
        f"in exchange 'x' {peer.place}"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"alternate-exchange": "z"}, "received 'z' but current is 'y'"),
        ({"alternate-exchange": None}, "received none but current is 'y'"),
        ({}, "received none but current is the value 'y' of type 'longstr'"),
    ],
    ids=str,
)
def test_declared_with_another_alternate(peer: Peer, arguments: dict[str, Any], words: str) -> None:
    """An exchange declared again has to have the same alternate; other arguments do not count"""
    channel = peer.channel()
    with_alternate(channel, "x", "y")
    same = {"alternate-exchange": "y", "own": 1}
    channel.call(Exchange.Declare(exchange="x", arguments=same))
    declare = Exchange.Declare(exchange="x", arguments=arguments)
    assert refusal_of(channel, declare) == (
        "channel 406: PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for "
        f"exchange 'x' {peer.place}: {words}"
    )
