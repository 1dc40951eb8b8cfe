"""Headers exchanges, and messages that are routed by their headers, in the model."""

from typing import Any

import pytest

from amqpjobs.broker.amqp.frames import encode_properties
from amqpjobs.broker.embedded.errors import Refusal
from amqpjobs.broker.embedded.model.terms import Table
from amqpjobs.jobs.message.properties import Properties
from tests.unit.broker.embedded.model import Model, declare, get, publish

MALFORMED = b"\x20\0\0\0\0\3\1aZ"
"""Flags of a content header, and a headers table with a value of an unknown type."""


def test_headers_that_match_lead_to_their_queue(model: Model) -> None:
    """Whatever the routing key; once, though two bindings match."""
    channel, heard = model.channel()
    declare(channel, "jobs")
    channel.bind_queue("jobs", "amq.match", "", {"kind": "mail", "urgent": True})
    channel.bind_queue("jobs", "amq.match", "", {"x-match": "any", "kind": "mail"})
    publish(channel, "any", "1", exchange="amq.match", headers={"kind": "mail", "urgent": True})
    publish(channel, "", "2", exchange="amq.match", headers={"kind": "mail", "urgent": 1})
    publish(channel, "", "3", exchange="amq.match", headers={"kind": "call"}, mandatory=True)
    assert model.ready("jobs") == ["1", "2"]
    assert [what for what, *_ in heard.heard] == ["returned"]


def test_one_is_one_point_nought_on_3_10_alone(model: Model) -> None:
    """Up to 3.13 Erlang's `==` compares, since then a match."""
    channel, _ = model.channel()
    declare(channel, "jobs")
    channel.bind_queue("jobs", "amq.headers", "", {"n": 1})
    publish(channel, "", exchange="amq.headers", headers={"n": 1.0})
    assert len(model.ready("jobs")) == (1 if model.version == "3.10" else 0)


def test_bindings_of_two_clients_are_two(model: Model) -> None:
    """One wrote a number as a byte: the other cannot unbind it, and its binding stays."""
    channel, _ = model.channel()
    declare(channel, "jobs")
    as_byte = Table({"n": 1}, b"\1nb\1")
    channel.bind_queue("jobs", "amq.headers", "", as_byte)
    channel.bind_queue("jobs", "amq.headers", "", {"n": 1})
    for arguments, waiting in (({"n": 1}, 1), ({"n": 1}, 2), (as_byte, 2)):
        channel.unbind_queue("jobs", "amq.headers", "", arguments)
        publish(channel, "", exchange="amq.headers", headers={"n": 1})
        assert len(model.ready("jobs")) == waiting


def test_malformed_headers_cost_the_connection_where_they_are_read(model: Model) -> None:
    """541, on a headers exchange; others do not look at them."""
    channel, _ = model.channel()
    declare(channel, "jobs")
    channel.bind_queue("jobs", "amq.headers", "")
    channel.bind_queue("jobs", "amq.fanout", "")
    channel.publish("amq.fanout", "", MALFORMED, b"taken")
    with pytest.raises(Refusal, match="INTERNAL_ERROR - malformed headers") as refusal:
        channel.publish("amq.headers", "", MALFORMED, b"refused")
    assert refusal.value.closes == "connection"
    assert model.ready("jobs") == ["taken"]


def test_a_dead_letter_with_malformed_headers_has_no_route_by_headers(model: Model) -> None:
    """It is dropped, and nothing else fails."""
    channel, _ = model.channel()
    declare(channel, "jobs", dead_letter_exchange="amq.headers")
    declare(channel, "dead")
    channel.bind_queue("dead", "amq.headers", "")
    channel.publish("", "jobs", MALFORMED, b"1")
    publish(channel, "jobs", "2")
    for _ in range(2):
        delivery = channel.get("jobs")
        assert delivery is not None
        channel.reject(delivery.delivery_tag, requeue=False)
    assert model.ready("dead") == ["2"]


@pytest.mark.parametrize(
    ("said", "words"),
    [({"CC": "b"}, '"CC",longstr'), ({"BCC": None}, '"BCC",void'), ({"CC": 1}, '"CC",signedint')],
    ids=str,
)
def test_copies_have_to_be_in_an_array(model: Model, said: dict[str, Any], words: str) -> None:
    """406 with the header and its type."""
    channel, _ = model.channel()
    with pytest.raises(Refusal) as refusal:
        publish(channel, "jobs", headers=said)
    reason = f"{{unacceptable_type_in_header,{words}}}"
    assert refusal.value.text == f"PRECONDITION_FAILED - invalid message: {reason}"


def test_a_new_key_ends_the_copies(model: Model) -> None:
    """A dead letter with a key of its queue goes by that, though 4.3 leaves CC in its headers."""
    channel, _ = model.channel()
    declare(channel, "jobs", dead_letter_exchange="", dead_letter_routing_key="dead")
    declare(channel, "dead")
    declare(channel, "copy")
    header = encode_properties(Properties(headers={"CC": ["copy"]}))
    channel.publish("", "jobs", header, b"1")
    assert get(channel, "copy").body == b"1"
    delivery = channel.get("jobs")
    assert delivery is not None
    channel.reject(delivery.delivery_tag, requeue=False)
    assert ("CC" in get(channel, "dead").headers) is (model.version == "4.3")
    assert model.ready("copy") == []


def test_errors_are_cut_as_rabbitmq_cuts_them() -> None:
    """To 255 octets, of which the last three are dots; no character is cut in two."""
    assert Refusal(404, "ü" * 121).text == f"NOT_FOUND - {'ü' * 121}"
    assert Refusal(404, "ü" * 122).text == f"NOT_FOUND - {'ü' * 120}..."
