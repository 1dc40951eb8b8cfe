"""Letters as lines of JSON: what comes back is what went."""

import json
import math
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqpjobs.broker.amqp.fields import decode_table, encode_table
from amqpjobs.client.deadletters.export import read_lines
from amqpjobs.client.deadletters.letter import Place, letter_of
from amqpjobs.client.deadletters.line_format import from_json, imported, line_of, read_line, to_json
from amqpjobs.errors import ConfigurationError, DecodeError
from amqpjobs.jobs.message.copies import copied
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.message.header_names import HEADER_COPY
from amqpjobs.jobs.message.headers import failure_of
from amqpjobs.jobs.message.properties import BROKER_HEADERS, Properties

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.one_of(texts, st.sampled_from(["$bytes", "$table", "$float", "$", "$x"]))
decimals = st.builds(
    lambda mantissa, places: Decimal(f"{mantissa}E-{places}"),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(0, 255),
)
values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), texts,
        st.binary(max_size=20), decimals, st.floats(allow_nan=False),
        st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)).map(
            lambda time: time.replace(microsecond=0, tzinfo=UTC)
        ),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(names, inner, max_size=3)
    ),
    max_leaves=12,
)  # fmt: skip


def same(one, other):
    """Equal, and of the same types all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@given(st.dictionaries(names, values, max_size=5))
def test_headers_survive_json_and_amqp(headers):
    """What RabbitMQ hands out is the same after a file as it would be without."""
    received = decode_table(encode_table(headers)[4:])
    text = json.dumps({name: to_json(value) for name, value in received.items()}, allow_nan=False)
    back = {name: from_json(value) for name, value in json.loads(text).items()}
    assert same(back, received)
    assert decode_table(encode_table(back)[4:]) == received


@given(st.binary(max_size=200), texts, st.integers(0, 2**63 - 1), names)
def test_a_letter_is_one_line_and_comes_back(body, text, number, name):
    """Any body, any property; no character in it ends a line, whoever splits it."""
    properties = Properties(
        content_type=text, headers={name: body}, timestamp=number, priority=3, message_id=text
    )
    letter = letter_of(Place("dead", "work.dead", "work"), frozenset(), properties, body, "key")
    line = line_of(letter)
    assert len(line.decode().splitlines()) == 1
    back = read_line(line)
    assert (back.properties, back.body, back.place, back.routing_key) == (
        properties, body, "work.dead", "key",
    )  # fmt: skip


def test_a_float_that_json_has_no_number_for():
    """NaN and the infinities."""
    assert math.isnan(from_json(to_json(math.nan)))
    assert from_json(json.loads(json.dumps(to_json(-math.inf)))) == -math.inf


def test_an_imported_letter_keeps_its_failure_and_nothing_that_acts():
    """What RabbitMQ wrote itself becomes ours: it would be obeyed, or taken for a cycle."""
    death = {"reason": "delivery_limit", "queue": "work"}
    headers = {"x-death": [death], "CC": ["elsewhere"], "x-delivery-count": 21, "mine": 1}
    line = read_line(
        line_of(
            letter_of(
                Place("dead", "work.dead", "work"), frozenset(),
                Properties(headers=headers, expiration="10", user_id="guest"), b"", "k",
            )
        )
    )  # fmt: skip
    properties = imported(line)
    assert not BROKER_HEADERS & properties.headers.keys()
    assert (properties.expiration, properties.user_id) == (None, None)
    assert failure_of(properties.headers) == failure_of(headers)
    aside = copied(Properties(), Failure("failed", "no", exception="E", time=5.0))
    again = imported(
        read_line(line_of(letter_of(Place("dead", "d", "q"), frozenset(), aside, b"", "")))
    )
    renamed = {**aside.headers, HEADER_COPY: again.headers[HEADER_COPY]}
    assert again == aside._replace(headers=renamed)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"{\n", "not JSON"),
        (b'{"from": "q", "bo', "cut off; if an export was interrupted"),
        (b"[" * 100_000, "nested"),
        (b'{"from": "q", "body": "", "headers": ' + b'{"a":' * 40 + b"1" + b"}" * 41, "nested"),
        (b"[]", "not a JSON object"),
        (b'{"body": ""}', "'from'"),
        (b'{"from": "q"}', "'body'"),
        (b'{"from": "q", "body": "", "body_base64": ""}', "one of"),
        (b'{"from": "q", "body_base64": "?"}', "base64"),
        (b'{"from": "q", "body": "", "bdy": ""}', "'bdy'"),
        (b'{"from": "q", "body": "", "headers": []}', "'headers'"),
        (b'{"from": "q", "body": "", "headers": {"x": {"$bytes": "?"}}}', "$bytes"),
        (b'{"from": "q", "body": "", "headers": {"x": {"$new": "?"}}}', "$new"),
        (b'{"from": "q", "body": "", "headers": {"x": {"$timestamp": "2026-01-01"}}}', "zone"),
        (b'{"from": "q", "body": "", "headers": {"x": 1e400}}', "infinite"),
        (b'{"from": "q", "body": "", "headers": {"x": NaN}}', "NaN"),
        (b'{"from": "q", "body": "", "headers": {"x": 18446744073709551616}}', "64 bits"),
        (b'{"from": "q", "body": "", "headers": {"x": "' + b"y" * 140_000 + b'"}}', "properties"),
        (b'{"from": "q", "body": "", "properties": {"headers": {}}}', "'headers'"),
        (b'{"from": "q", "body": "", "properties": {"priority": "3"}}', "'priority'"),
        (b'{"from": "q", "body": "", "properties": {"priority": 300}}', "priority"),
        (b'{"from": "q", "body": "", "properties": {"type": "' + b"y" * 300 + b'"}}', "type"),
        (b'{"from": "' + b"q" * 300 + b'", "body": ""}', "name"),
        (b'{"from": "q", "body": "\\ud800"}', "surrogate"),
        (b"\xff", "utf-8"),
    ],
)
def test_a_line_that_is_none_is_told_by_its_number(line, says):
    """Before anything is sent, in words that name what is wrong."""
    good = b'{"from": "q", "body": ""}'
    with pytest.raises(ConfigurationError, match="line 3: .*nothing was sent") as told:
        list(read_lines([good, b"\n", line]))
    assert says in str(told.value)


def test_nonsense_is_a_decode_error():
    """Never anything else."""
    with pytest.raises(DecodeError):
        read_line(b'{"from": 1, "body": ""}')


@pytest.mark.parametrize(
    "value",
    ['{"$float": "nan"}', '{"$float": "-inf"}', "1e999", "[[-1e999]]", '{"a": {"$float": "inf"}}',
     '{"$decimal": "NaN"}', '{"$decimal": "Infinity"}', "NaN", "Infinity"],
)  # fmt: skip
def test_a_number_that_rabbitmq_does_not_have_is_refused_with_its_line(value):
    """RabbitMQ closes the connection over it, with all that is on its way."""
    good = b'{"from": "q.dead", "body": ""}\n'
    bad = f'{{"from": "q.dead", "headers": {{"x": {value}}}, "body": ""}}'.encode()
    with pytest.raises(ConfigurationError, match="^line 3: .*nothing was sent"):
        list(read_lines([good, good, bad]))


def test_a_line_may_name_only_queues_of_the_app():
    """A file comes from elsewhere: it is no way to write into any queue of the broker."""
    good, bad = b'{"from": "q.dead", "body": ""}', b'{"from": "payments", "body": ""}'
    with pytest.raises(ConfigurationError, match="^line 2: 'payments' is no queue of dead letters"):
        list(read_lines([good, bad], {"q.dead"}))
    assert len(list(read_lines([good, bad], {"q.dead", "payments"}))) == 2
    assert len(list(read_lines([good, bad]))) == 2, "where all go to another one"
