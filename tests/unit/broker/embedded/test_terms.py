"""Values of field tables with the types that they were sent as."""

from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import encode

from amqpjobs.broker.amqp.fields import decode_table, encode_table
from amqpjobs.broker.embedded.model.terms import (
    Table,
    erlang,
    field_named,
    fields_of,
    read_fields,
)
from amqpjobs.errors import DecodeError

SECOND = datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
EVERY_TYPE: list[tuple[bytes, str, Any]] = [
    (b"t\2", "bool", "true"),
    (b"t\0", "bool", "false"),
    (b"b\xff", "byte", -1),
    (b"B\xff", "unsignedbyte", 255),
    (b"s\xff\xff", "short", -1),
    (b"u\xff\xff", "unsignedshort", 65535),
    (b"I\xff\xff\xff\xff", "signedint", -1),
    (b"i\xff\xff\xff\xff", "unsignedint", 2**32 - 1),
    (b"l" + b"\xff" * 8, "long", -1),
    (b"L" + b"\0" * 7 + b"\5", "long", 5),
    (b"T" + b"\0" * 7 + b"\5", "timestamp", 5),
    (b"f\x3f\xc0\0\0", "float", 1.5),
    (b"d\x3f\xf8" + b"\0" * 6, "double", 1.5),
    (b"D\1\0\0\0\x0f", "decimal", (1, 15)),
    (b"S\0\0\0\1a", "longstr", b"a"),
    (b"x\0\0\0\1a", "binary", b"a"),
    (b"V", "void", "undefined"),
    (b"\0", "void", "undefined"),
    (b"A\0\0\0\0", "array", ()),
    (b"F\0\0\0\0", "table", ()),
]


@pytest.mark.parametrize(("content", "kind", "value"), EVERY_TYPE, ids=lambda each: repr(each)[:9])
def test_every_type_is_told_apart(content: bytes, kind: str, value: Any) -> None:
    """Also within arrays and tables."""
    (found,) = read_fields(b"\1n" + content)
    assert found == ("n", kind, value)
    inner = len(content).to_bytes(4, "big") + content
    (array,) = read_fields(b"\1nA" + inner)
    assert array.value == (("", kind, value),)


def test_entries_are_sorted_by_name() -> None:
    """Two tables with the same entries are the same."""
    assert fields_of({"b": 1, "a": "x"}) == fields_of({"a": "x", "b": 1})
    assert [field.name for field in fields_of({"b": 1, "a": "x"})] == ["a", "b"]


def test_what_came_in_counts_not_what_was_made_of_it() -> None:
    """One client writes 1 as a byte, another as a long."""
    content = b"\1nb\1"
    table = Table(decode_table(content), content)
    assert table == {"n": 1}
    assert fields_of(table) != fields_of({"n": 1})
    assert field_named("n", table) == ("n", "byte", 1)
    assert field_named("n", {"n": 1}) == ("n", "signedint", 1)
    assert field_named("other", table) is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (True, "true"),
        (None, "undefined"),
        (7, "7"),
        (1.5, "1.5"),
        (Decimal("1.5"), "{1,15}"),
        (SECOND, "1"),
        ("", "<<>>"),
        ('a"\\', '<<"a\\"\\\\">>'),
        (b"\0\1", "<<0,1>>"),
        ("ü", "<<195,188>>"),
        (["a", 1, True], '[{longstr,<<"a">>},{signedint,1},{bool,true}]'),
        ({"a": [None]}, '[{<<"a">>,array,[{void,undefined}]}]'),
    ],
    ids=str,
)
def test_values_are_printed_as_erlang_does(value: Any, words: str) -> None:
    """Errors hold them."""
    (field,) = fields_of({"n": value})
    assert erlang(field) == words


@pytest.mark.parametrize(
    "content",
    [
        b"\1n",
        b"\1nZ",
        b"\1nI\0",
        b"\1nS\0\0\0\5a",
        b"\1nA\0\0\0\3bI",
        b"\5n",
        b"\2\xff\xffV",
        b"\1nt",
    ],
    ids=str,
)
def test_malformed_tables_are_refused(content: bytes) -> None:
    """Whatever is wrong, it is the same error."""
    with pytest.raises(DecodeError, match="malformed headers"):
        read_fields(content)


def test_a_table_nested_too_deep_is_malformed() -> None:
    """It does not end the process, or another connection."""
    content = b"V"
    for _ in range(5000):
        content = b"A" + len(content).to_bytes(4, "big") + content
    with pytest.raises(DecodeError, match="malformed headers"):
        read_fields(b"\1n" + content)


@given(st.binary(max_size=40))
def test_noise_is_read_or_refused(content: bytes) -> None:
    """No other error comes of it."""
    with suppress(DecodeError):
        read_fields(content)


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.text(max_size=3),
        st.binary(max_size=3).map(bytearray),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from("abc"), VALUES))
def test_both_clients_tables_are_read(table: dict[str, Any]) -> None:
    """Ours and pamqp's, which differ in the width of numbers alone."""
    for content in (encode_table(table)[4:], encode.field_table(table)[4:]):
        found = read_fields(content)
        assert [field.name for field in found] == sorted(table)
        for field in found:
            value = table[field.name]
            if isinstance(value, int) and not isinstance(value, bool):
                assert field.value == value
            if isinstance(value, str):
                assert field.value == value.encode()
