"""Headers that the broker adds, beside others that stay as they were."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import encode

from amqpjobs.broker.amqp.fields import decode_table
from amqpjobs.broker.amqp.frames import encode_properties
from amqpjobs.broker.embedded.model import tables
from amqpjobs.broker.embedded.model.messages import Message
from amqpjobs.errors import DecodeError
from amqpjobs.jobs.message.properties import Properties
from tests.unit.broker.embedded.model import Model, declare, get, publish

NAMES = st.sampled_from(["a", "b", "ab", "x-death", "ü"])
VALUES = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
    st.none(),
    st.text(max_size=5),
    st.floats(-1e9, 1e9, width=32),  # pamqp writes no others
    st.decimals(-99, 99, places=2),
    st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)).map(
        lambda moment: moment.replace(microsecond=0)
    ),
    st.lists(st.integers(0, 9), max_size=2),
    st.dictionaries(st.sampled_from("xy"), st.integers(0, 9), max_size=2),
)


@given(st.dictionaries(NAMES, VALUES), st.dictionaries(NAMES, VALUES), st.sets(NAMES))
def test_what_is_added_is_there_and_what_was_there_stays(
    old: dict[str, Any], added: dict[str, Any], removed: set[str]
) -> None:
    """But for what is replaced, and what is taken out."""
    header = encode_properties(
        Properties(content_type="text", headers=old, correlation_id="1", app_id="me")
    )
    message = Message("", "q", header, b"").with_headers(added, removed)
    kept = {name: value for name, value in old.items() if name not in removed}
    assert message.headers == {**kept, **added}
    view = message.properties
    assert (view.content_type, view.correlation_id, view.app_id) == ("text", "1", "me")


@given(st.dictionaries(NAMES, VALUES, min_size=1))
def test_what_stays_stays_byte_by_byte(old: dict[str, Any]) -> None:
    """Whatever client encoded it: with its own types of numbers."""
    entries = encode.field_table(old)[4:]
    assert tables.without(entries, ["other"]) == entries
    found = tables.without(entries + tables.encode_entries({"other": 1}), ["other"])
    assert found == entries


def test_numbers_that_are_added_are_longs() -> None:
    """Clients that tell them from ints find what RabbitMQ sends."""
    assert tables.encode_entries({"n": 1, "deep": [{"n": 2}]}) == (
        b"\1nl\0\0\0\0\0\0\0\1" + b"\4deepA\0\0\0\x10F\0\0\0\x0b\1nl\0\0\0\0\0\0\0\2"
    )
    values = {"t": True, "v": None, "f": 1.5, "d": Decimal("1.5"), "b": b"\xff", "s": "ü"}
    assert decode_table(tables.encode_entries(values)) == values


@pytest.mark.parametrize("entries", [b"\1a?", b"\1aS\0\0\0\1", b"\1a", b"\1\xffV a", b"\1aI\0"])
def test_malformed_headers_are_passed_on_as_they_are(entries: bytes) -> None:
    """Nothing can be said in them."""
    with pytest.raises(DecodeError, match="malformed"):
        tables.without(entries, ["a"])
    header = tables.with_entries(b"\0\0", entries)
    assert Message("", "", header, b"").with_headers({"a": 1}).header == header
    with pytest.raises(DecodeError, match="malformed"):
        tables.entries_of(b"\x20\0\0")


def test_a_dead_letter_keeps_the_types_of_its_headers(model: Model) -> None:
    """Also when it has lost its expiration, and died again."""
    channel, _ = model.channel()
    declare(channel, "jobs", dead_letter_exchange="", dead_letter_routing_key="dead")
    declare(channel, "dead", dead_letter_exchange="", dead_letter_routing_key="done")
    declare(channel, "done")
    short = b"\5shorts\0\7"  # a number of 16 bits, which no encoder here writes
    header = encode_properties(Properties(expiration="0", message_id="m"))
    channel.publish("", "jobs", tables.with_entries(header, short), b"")
    channel.get("dead")
    channel.reject(1, requeue=False)
    letter = get(channel, "done")
    assert short in letter.header
    assert letter.headers["short"] == 7
    assert letter.properties.expiration is None
    assert letter.properties.message_id == "m"
    assert b"\5countl" in letter.header


def test_a_request_keeps_its_headers_when_its_reply_address_is_filled_in(model: Model) -> None:
    """Byte by byte."""
    channel, _ = model.channel()
    declare(channel, "jobs")
    channel.consume("amq.rabbitmq.reply-to", "r", no_ack=True)
    publish(channel, "jobs", reply_to="amq.rabbitmq.reply-to", headers={"n": 2**40})
    request = get(channel, "jobs")
    assert request.headers == {"n": 2**40}
    assert (request.properties.reply_to or "").startswith("amq.rabbitmq.reply-to.")
