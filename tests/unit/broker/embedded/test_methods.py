"""The table of methods, held against pamqp's, which was made from the specification."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands, frame
from pamqp.base import Frame

from amqpjobs.broker.embedded.server.methods import NUMBERS, SIGNATURES, decode, encode
from amqpjobs.errors import DecodeError

KINDS = {
    "octet": "octet",
    "short": "short",
    "long": "long",
    "long_long": "longlong",
    "string": "shortstr",
    "long_string": "longstr",
    "long_bytes": "longstr",
    "bit": "bit",
    "table": "table",
}
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "octet": st.integers(0, 0xFF),
    "short": st.integers(0, 0xFFFF),
    "long": st.integers(0, 0xFFFFFFFF),
    "long_long": st.integers(0, 0x7FFFFFFFFFFFFFFF),
    "string": st.text("abcdefghij-._", max_size=30),
    "long_string": st.text(max_size=60),
    "long_bytes": st.binary(max_size=60),
    "bit": st.booleans(),
    "table": st.dictionaries(
        st.text("abcxyz-", min_size=1, max_size=8),
        st.one_of(st.booleans(), st.integers(-(2**31), 2**31 - 1), st.text(max_size=20)),
        max_size=4,
    ),
}
KNOWN = sorted(number for number in SIGNATURES if number >> 16 != 30)
"""All but AMQP 0-8's access tickets, which pamqp has not."""


def theirs(number: int) -> type[Frame]:
    found: type[Frame] = commands.INDEX_MAPPING[number]
    return found


@pytest.mark.parametrize("number", KNOWN, ids=lambda n: SIGNATURES[n].name)
def test_every_method_has_the_fields_that_pamqp_knows(number: int) -> None:
    """Number, name, and the kinds of its fields in their order."""
    signature, method = SIGNATURES[number], theirs(number)
    name = method.name.replace("Basic.RecoverAsync", "Basic.Recover-Async")
    ours = signature.name.replace("-", "")
    assert name.replace("-", "").lower() == ours
    kinds = [method.amqp_type(attribute) for attribute in method.attributes()]
    assert [KINDS[kind] for _, kind in signature.fields] == kinds


@st.composite
def methods(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    signature = SIGNATURES[draw(st.sampled_from(KNOWN))]
    fields = {f: draw(VALUES[kind]) for f, kind in signature.fields if f != "_"}
    return signature.name, fields


@given(methods(), st.integers(0, 0xFFFF))
def test_what_is_encoded_is_decoded_again(method: tuple[str, dict[str, Any]], channel: int) -> None:
    """And fills its frame."""
    name, fields = method
    data = encode(channel, name, **fields)
    assert decode(SIGNATURES[NUMBERS[name]], data, 11, len(data) - 1) == fields


@pytest.mark.filterwarnings("ignore:This command is deprecated")  # basic.recover-async
@given(methods())
def test_pamqp_reads_the_same(method: tuple[str, dict[str, Any]]) -> None:
    """Field by field; what is left of AMQP 0-8 apart."""
    name, fields = method
    data = encode(3, name, **fields)
    used, channel, found = frame.unmarshal(data)
    assert (used, channel) == (len(data), 3)
    signature = SIGNATURES[NUMBERS[name]]
    for (field, kind), attribute in zip(signature.fields, found.attributes(), strict=True):
        if field != "_":
            value = fields[field]
            read = getattr(found, attribute)
            if kind in ("long_bytes", "long_string"):
                value, read = _as_bytes(value), _as_bytes(read)
            assert read == value


def _as_bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


@given(methods(), st.data())
def test_a_frame_cut_short_is_refused(
    method: tuple[str, dict[str, Any]], data: st.DataObject
) -> None:
    """Wherever it is cut, also when the bytes of another frame follow."""
    name, fields = method
    whole = encode(1, name, **fields)
    if len(whole) == 12:
        return  # no fields
    stop = data.draw(st.integers(11, len(whole) - 2))
    with pytest.raises(DecodeError, match=f"malformed {name}"):
        decode(SIGNATURES[NUMBERS[name]], whole, 11, stop)
    with pytest.raises(DecodeError, match=f"malformed {name}"):
        decode(SIGNATURES[NUMBERS[name]], whole[:stop], 11, stop)


def test_a_name_that_amqp_cannot_hold_is_refused() -> None:
    """A short string ends at 255 bytes; the message says which one it is."""
    with pytest.raises(ValueError, match="consumer_tag is 256 bytes long"):
        encode(1, "basic.consume-ok", consumer_tag="x" * 256)


def test_names_may_be_any_text() -> None:
    """RabbitMQ takes them; it is why pamqp does not write these frames."""
    data = encode(1, "queue.declare-ok", queue="Bücher, neue", message_count=1)
    fields = decode(SIGNATURES[NUMBERS["queue.declare-ok"]], data, 11, len(data) - 1)
    assert fields == {"queue": "Bücher, neue", "message_count": 1, "consumer_count": 0}
