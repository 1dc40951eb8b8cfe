"""Headers exchanges: which headers of a message match a binding."""

import random
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import pytest
from pamqp.commands import Exchange, Queue

from tests.conformance.client import Channel
from tests.conformance.peers import Peer
from tests.conformance.routing import refusal_of

Table = dict[str, Any]

SECOND: Final = datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
BINDINGS, MESSAGES = 45, 80


def exchange_on(peer: Peer) -> Channel:
    """A channel, and a headers exchange x."""
    channel = peer.channel()
    channel.exchange("x", "headers")
    return channel


def matched(channel: Channel, arguments: Table, *messages: Table | None) -> list[bool]:
    """For each message, by its headers: whether a binding with these arguments takes it."""
    queue = channel.declare("", exclusive=True).queue
    channel.call(Queue.Bind(0, queue, "x", "any", arguments=arguments))
    for number, said in enumerate(messages):
        properties = {} if said is None else {"headers": said}
        channel.publish("other", b"%d" % number, "x", **properties)
    found = {int(body) for body in channel.get_all(queue)}
    return [number in found for number in range(len(messages))]


@pytest.mark.parametrize(
    ("match", "headers", "taken"),
    [
        ("all", {"a": 1, "b": "x"}, True),
        ("all", {"a": 1, "b": "x", "c": 0}, True),
        ("all", {"a": 1}, False),
        ("any", {"a": 1}, True),
        ("any", {"b": "y"}, False),
        ("any", {}, False),
    ],
)
def test_headers(peer: Peer, match: str, headers: Table, taken: bool) -> None:
    """A headers exchange: `x-match` all and any"""
    assert matched(exchange_on(peer), {"x-match": match, "a": 1, "b": "x"}, headers) == [taken]


def test_all_is_the_default(peer: Peer) -> None:
    """Without `x-match` all headers must match, and names differ in case"""
    channel = exchange_on(peer)
    said = [{"a": 1, "b": 2}, {"a": 1}, {"A": 1, "b": 2}, None]
    assert matched(channel, {"a": 1, "b": 2}, *said) == [True, False, False, False]


def test_no_arguments(peer: Peer) -> None:
    """A binding without headers: `all` takes every message, `any` none"""
    channel = exchange_on(peer)
    for match in ("all", "all-with-x"):
        assert matched(channel, {"x-match": match}, None, {}, {"a": 1}) == [True] * 3
    for match in ("any", "any-with-x"):
        assert matched(channel, {"x-match": match}, None, {}, {"a": 1}) == [False] * 3
    assert matched(channel, {}, None, {"a": 1}) == [True, True]


def test_presence(peer: Peer) -> None:
    """A header without a value in a binding asks for its presence alone"""
    channel = exchange_on(peer)
    said = [{"a": 1}, {"a": None}, {"a": {"b": []}}, {"b": 1}, None]
    for match in ("all", "any", "all-with-x", "any-with-x"):
        found = matched(channel, {"x-match": match, "a": None}, *said)
        assert found == [True, True, True, False, False]
    assert matched(channel, {"a": 1}, {"a": None}) == [False]


def test_headers_that_begin_with_x(peer: Peer) -> None:
    """Names that begin with `x-` count for `all-with-x` and `any-with-x` alone"""
    channel = exchange_on(peer)
    wanted = {"x-a": 1, "b": 1}
    said = [{"x-a": 1, "b": 1}, {"x-a": 2, "b": 1}, {"x-a": 1}, {"b": 1}, {"x-match": "all"}]
    expected = {
        "all": [True, True, False, True, False],
        "any": [True, True, False, True, False],
        "all-with-x": [True, False, False, False, False],
        "any-with-x": [True, True, True, True, False],
    }
    for match, taken in expected.items():
        assert matched(channel, {"x-match": match, **wanted}, *said) == taken, match
    assert matched(channel, {"x-match": "all", "x-a": 1}, {"x-a": 2}, None) == [True, True]
    assert matched(channel, {"x-match": "any", "x-a": 1}, {"x-a": 1}) == [False]


ALIKE: Final = [
    [1, 1],
    ["1", bytearray(b"1")],
    [[], {}],
    [True],
    [False],
    [0],
    [""],
    [1.5],
    [Decimal("1.5")],
    [Decimal("1.50")],
    [Decimal(1)],
    [200],
    [70000],
    [-(2**40)],
    [[1]],
    [["1"]],
    [[True]],
    [[200]],
    [[{"b": 1}]],
    [{"b": 1}],
    [{"b": True}],
    [{"b": 200}],
]
"""Values in groups: those of a group match each other, and no others."""


def test_values(peer: Peer) -> None:
    """Values match by value: text as a binary too; no number is true, and no array half alike"""
    channel = exchange_on(peer)
    said = [{"a": value} for group in ALIKE for value in group]
    for group in ALIKE:
        for value in group:
            expected = [each is group for each in ALIKE for _ in each]
            assert matched(channel, {"a": value}, *said) == expected, value


@pytest.mark.parametrize("match", ["all", "any"])
def test_numbers_and_times(peer: Peer, match: str) -> None:
    """On 3.10 1 is 1.0, and a time its seconds; on 4.3 neither, and a message has milliseconds"""
    channel = exchange_on(peer)
    said = [{"a": 1}, {"a": 1.0}, {"a": SECOND}, {"a": 1000}]
    expected: dict[Any, list[bool]] = {
        1: peer.by_version([True, True, True, False], [True, False, False, False]),
        1.5: [False] * 4,
        1000: peer.by_version([False, False, False, True], [False, False, True, True]),
        SECOND: peer.by_version([True, True, True, False], [True, False, False, False]),
    }
    for value, taken in expected.items():
        assert matched(channel, {"x-match": match, "a": value}, *said) == taken, value
    taken = peer.by_version([True, True, True, False], [False, True, False, False])
    assert matched(channel, {"x-match": match, "a": 1.0}, *said) == taken


WRONG: Final = [
    ("ALL", 'value <<"ALL">>; expected all, any, all-with-x, or any-with-x'),
    ("", "value <<>>; expected all, any, all-with-x, or any-with-x"),
    ('a"\\', 'value <<"a\\"\\\\">>; expected all, any, all-with-x, or any-with-x'),
    (1, "type byte (value 1); expected longstr"),
    (300, "type short (value 300); expected longstr"),
    (70000, "type signedint (value 70000); expected longstr"),
    (2**40, "type long (value 1099511627776); expected longstr"),
    (True, "type bool (value true); expected longstr"),
    (None, "type void (value undefined); expected longstr"),
    (1.5, "type float (value 1.5); expected longstr"),
    (Decimal("1.5"), "type decimal (value {1,15}); expected longstr"),
    (SECOND, "type timestamp (value 1); expected longstr"),
    (bytearray(b"all"), 'type binary (value <<"all">>); expected longstr'),
    (bytearray(b"\1\2"), "type binary (value <<1,2>>); expected longstr"),
    (["all", 1], 'type array (value [{longstr,<<"all">>},{byte,1}]); expected longstr'),
    ({"a": "all"}, 'type table (value [{<<"a">>,longstr,<<"all">>}]); expected longstr'),
]


@pytest.mark.parametrize(("value", "words"), WRONG, ids=lambda value: str(value)[:9])
def test_wrong_match(peer: Peer, value: Any, words: str) -> None:
    """Another `x-match` is refused with 406, which says its value, or its type"""
    peer.channel().declare("q", durable=True)
    arguments = {"x-match": value}
    text = f"channel 406: PRECONDITION_FAILED - Invalid x-match field {words}"
    bind = Queue.Bind(0, "q", "amq.headers", arguments=arguments)
    assert refusal_of(peer.channel(), bind) == text
    lead = Exchange.Bind(0, "amq.fanout", "amq.match", arguments=arguments)
    assert refusal_of(peer.channel(), lead) == text


def test_wrong_match_elsewhere(peer: Peer) -> None:
    """Other exchanges take any `x-match`, and unbinding does; without its queue it is a 404"""
    channel = peer.channel()
    channel.declare("q", exclusive=True)
    wrong = {"x-match": "odd"}
    for exchange in ("amq.direct", "amq.fanout", "amq.topic"):
        channel.call(Queue.Bind(0, "q", exchange, arguments=wrong))
    channel.call(Queue.Unbind(0, "q", "amq.headers", "", wrong))
    missing = Queue.Bind(0, "nobody", "amq.headers", arguments=wrong)
    text = f"channel 404: NOT_FOUND - no queue 'nobody' {peer.place}"
    assert refusal_of(channel, missing) == text


def test_one_copy(peer: Peer) -> None:
    """Several bindings of a queue that match are one copy; each is unbound by its own arguments"""
    channel = exchange_on(peer)
    channel.declare("q", exclusive=True)
    bindings: list[tuple[str, Table]] = [("", {"a": 1}), ("key", {"a": 1}), ("", {"a": None})]
    for key, arguments in bindings:
        channel.call(Queue.Bind(0, "q", "x", key, arguments=arguments))
    counts = []
    for key, arguments in bindings:
        channel.publish("", b"", "x", headers={"a": 1})
        counts.append(len(channel.get_all("q")))
        channel.call(Queue.Unbind(0, "q", "x", key, arguments))
    channel.publish("", b"", "x", headers={"a": 1})
    assert (counts, channel.get_all("q")) == ([1, 1, 1], [])


def test_exchange_behind_headers(peer: Peer) -> None:
    """An exchange is bound to a headers exchange with arguments as a queue is"""
    channel = exchange_on(peer)
    channel.exchange("y", "fanout")
    channel.declare("q", exclusive=True)
    channel.bind("q", "y")
    wanted = {"x-match": "any", "a": 1, "b": 2}
    channel.call(Exchange.Bind(0, "y", "x", arguments=wanted))
    for number, said in enumerate([{"a": 1}, {"b": 2}, {"b": 3}]):
        channel.publish("", b"%d" % number, "x", headers=said)
    assert channel.get_all("q") == [b"0", b"1"]


def test_dead_letters_by_headers(peer: Peer) -> None:
    """A headers exchange with `any-with-x` sorts dead letters by `x-first-death-reason`"""
    channel = exchange_on(peer)
    for name, match in (("sorted", "any-with-x"), ("ignored", "any")):
        channel.declare(name, exclusive=True)
        wanted = {"x-match": match, "x-first-death-reason": "rejected"}
        channel.call(Queue.Bind(0, name, "x", arguments=wanted))
    channel.declare("q", exclusive=True, arguments={"x-dead-letter-exchange": "x"})
    channel.publish("q", b"dead")
    found = channel.wait_get("q", no_ack=False)
    channel.reject(found.tag, requeue=False)
    assert channel.wait_get("sorted").body == b"dead"
    assert channel.get_all("ignored") == []


def test_generated_headers(peer: Peer) -> None:
    """3,600 pairs of generated arguments and generated headers match as a simple matcher says"""
    channel = exchange_on(peer)
    made = random.Random(43)
    bindings = [_arguments(made) for _ in range(BINDINGS)]
    messages = [_headers(made) for _ in range(MESSAGES)]
    queues = [channel.declare("", exclusive=True).queue for _ in bindings]
    for queue, arguments in zip(queues, bindings, strict=True):
        channel.call(Queue.Bind(0, queue, "x", arguments=arguments))
    for number, said in enumerate(messages):
        channel.publish("", b"%d" % number, "x", headers=said)
    found = [[int(body) for body in channel.get_all(queue)] for queue in queues]
    expected = [
        [number for number, said in enumerate(messages) if matches(arguments, said)]
        for arguments in bindings
    ]
    assert found == expected
    assert sum(map(len, found)) > BINDINGS


NAMES: Final = ("a", "b", "x-a")
VALUES: Final = (1, 2, True, "1", 1.5, [1], {"a": 1})


def _arguments(made: random.Random) -> Table:
    match = made.choice(["", "all", "any", "all-with-x", "any-with-x"])
    wanted = {name: made.choice([*VALUES, None]) for name in NAMES if made.random() < 0.5}
    return {"x-match": match, **wanted} if match else wanted


def _headers(made: random.Random) -> Table:
    return {name: made.choice(VALUES) for name in NAMES if made.random() < 0.7}


def matches(arguments: Table, headers: Table) -> bool:
    match = arguments.get("x-match", "all")
    results = [
        name in headers and (value is None or repr(value) == repr(headers[name]))
        for name, value in arguments.items()
        if name != "x-match" and (match.endswith("-with-x") or not name.startswith("x-"))
    ]
    return any(results) if match.startswith("any") else all(results)
