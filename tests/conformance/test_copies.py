"""Messages with more than one routing key: the headers CC and BCC."""

from typing import Any

import pytest

from tests.conformance.client import Channel
from tests.conformance.events import Delivered
from tests.conformance.peers import Peer
from tests.conformance.routing import routed

COPIES = {"CC": ["b"], "BCC": ["c"]}


def test_carbon_copies(channel: Channel) -> None:
    """The headers CC and BCC name more routing keys; BCC is taken out"""
    for name in "abc":
        channel.declare(name, exclusive=True)
    channel.publish_confirmed("a", b"", headers={"CC": ["b"], "BCC": ["c"]})
    for name in "abc":
        found = channel.get(name, no_ack=True)
        assert found is not None
        assert found.headers == {"CC": ["b"]}
        assert found.key == "a"


@pytest.mark.parametrize("exchange", ["direct", "fanout", "topic", "headers"])
def test_copies_by_exchange(channel: Channel, exchange: str) -> None:
    """Every type of exchange routes by all keys; a fanout and a headers exchange by none"""
    channel.exchange("x", exchange)
    for name in "abcd":
        channel.declare(name, exclusive=True)
        channel.bind(name, "x", name)
    expected = ["a", "b", "c"] if exchange in ("direct", "topic") else ["a", "b", "c", "d"]
    assert routed(channel, "x", "a", *"abcd", headers=COPIES) == expected


def test_same_copies(channel: Channel) -> None:
    """A queue that several keys lead to has the message once"""
    channel.declare("a", exclusive=True)
    assert routed(channel, "", "a", "a", headers={"CC": ["a", "a"], "BCC": ["a"]}) == ["a"]
    channel.bind("a", "amq.topic", "#")
    channel.bind("a", "amq.topic", "b")
    assert routed(channel, "amq.topic", "a", "a", headers=COPIES) == ["a"]


def test_key_of_a_copy(channel: Channel) -> None:
    """A copy says the key that the message was published with, not the one that led to it"""
    channel.declare("q", exclusive=True)
    channel.bind("q", "amq.topic", "b.*")
    channel.publish("a.x", b"", "amq.topic", headers={"CC": ["b.y"]})
    found = channel.wait_get("q")
    assert (found.exchange, found.key) == ("amq.topic", "a.x")
    assert found.headers == {"CC": ["b.y"]}


def test_returned_copies(channel: Channel) -> None:
    """A message is returned when none of its keys has a route, and without its BCC"""
    channel.declare("c", exclusive=True)
    channel.publish("a", b"", headers=COPIES, mandatory=True)
    assert channel.get_all("c") == [b""]
    assert channel.arrived() == []
    channel.delete("c")
    channel.publish("a", b"", headers=COPIES, mandatory=True)
    returned = channel.next()
    assert (returned.code, returned.key, returned.headers) == (312, "a", {"CC": ["b"]})


def test_copies_match_no_headers(channel: Channel) -> None:
    """A headers exchange sees CC, and not BCC"""
    channel.exchange("x", "headers")
    for name in ("CC", "BCC"):
        channel.declare(name, exclusive=True)
        channel.bind(name, "x", **{name: None})
    assert routed(channel, "x", "a", "CC", "BCC", headers=COPIES) == ["CC"]


@pytest.mark.parametrize("name", ["CC", "BCC"])
@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("b", "longstr"),
        (1, "byte"),
        (300, "short"),
        (None, "void"),
        (True, "bool"),
        ({"b": 1}, "table"),
        (bytearray(b"b"), "binary"),
    ],
    ids=str,
)
def test_wrong_copies(peer: Peer, name: str, value: Any, kind: str) -> None:
    """A CC or BCC that is no array closes the channel with 406, which says its type"""
    channel = peer.channel()
    channel.declare("b", exclusive=True)
    text = f'PRECONDITION_FAILED - invalid message: {{unacceptable_type_in_header,"{name}",{kind}}}'
    with channel.refuses(406, text):
        channel.publish("b", b"", headers={name: value})


def test_odd_copies(channel: Channel) -> None:
    """Of a CC what is not text is ignored; an empty one is none; the name counts in its case"""
    channel.declare("b", exclusive=True)
    for odd in ([], [1], [["b"]], [None], [bytearray(b"b")]):
        assert routed(channel, "", "a", "b", headers={"CC": odd}) == []
    assert routed(channel, "", "a", "b", headers={"cc": ["b"]}) == []
    assert routed(channel, "", "a", "b", headers={"CC": [1, "b", True]}) == ["b"]


def dead_letter(channel: Channel, **arguments: Any) -> list[Delivered | None]:
    """Publish with CC and BCC to a queue, reject it there, and get what a, b and c have of it."""
    channel.exchange("x", "direct")
    for name in "abc":
        channel.declare(name, exclusive=True)
        channel.bind(name, "x", name)
    named = {f"x-dead-letter-{name}": value for name, value in arguments.items()}
    channel.declare("dying", exclusive=True, arguments={"x-dead-letter-exchange": "x", **named})
    channel.bind("dying", "amq.topic", "a")
    channel.publish("a", b"", "amq.topic", headers=COPIES)
    channel.reject(channel.wait_get("dying", no_ack=False).tag, requeue=False)
    channel.wait_ready("a", 1)
    return [channel.get(name, no_ack=True) for name in "abc"]


def test_copies_of_dead_letters(channel: Channel) -> None:
    """A dead letter with its own key goes by CC and BCC too; `x-death` has CC, and not BCC"""
    for found in dead_letter(channel):
        assert found is not None
        assert found.headers["CC"] == ["b"]
        assert "BCC" not in found.headers
        death = found.headers["x-death"][0]
        assert (death["exchange"], death["routing-keys"]) == ("amq.topic", ["a", "b"])


def test_dead_letters_with_another_key(peer: Peer) -> None:
    """A dead letter with a new key goes by that alone; 3.10 takes CC out of it, 4.3 leaves it"""
    found, *others = dead_letter(peer.channel(), **{"routing-key": "a"})
    assert found is not None
    assert others == [None, None]
    assert found.headers.get("CC") == peer.by_version(None, ["b"])
    assert found.headers["x-death"][0]["routing-keys"] == ["a", "b"]


def test_second_death_with_another_key(channel: Channel) -> None:
    """Once it had a new key, a dead letter that dies again does not go by CC any more"""
    again = {"x-dead-letter-exchange": "amq.direct"}
    channel.declare("again", exclusive=True, arguments=again)
    channel.bind("again", "amq.topic", "new")
    renamed = {"x-dead-letter-exchange": "amq.topic", "x-dead-letter-routing-key": "new"}
    channel.declare("dying", exclusive=True, arguments=renamed)
    for name in ("new", "copied"):
        channel.declare(name, exclusive=True)
        channel.bind(name, "amq.direct", name)
    channel.bind("dying", "amq.fanout")
    channel.publish("old", b"", "amq.fanout", headers={"CC": ["copied"]})
    for name in ("dying", "again"):
        channel.reject(channel.wait_get(name, no_ack=False).tag, requeue=False)
    deaths = channel.wait_get("new").headers["x-death"]
    assert [death["routing-keys"] for death in deaths] == [["new"], ["old", "copied"]]
    assert channel.get_all("copied") == []
