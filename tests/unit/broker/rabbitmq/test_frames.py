"""Our frames against pamqp's: the same bytes mean the same on both sides, and hostile ones fail."""

import math
import struct
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, localcontext

import pamqp.frame
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pamqp import body, commands, decode, header, heartbeat

from amqpjobs.broker.amqp import frames
from amqpjobs.broker.amqp.fields import MAX_DEPTH, decode_table, encode_table
from amqpjobs.errors import DecodeError
from amqpjobs.jobs.message.properties import Properties

PATIENT = settings(deadline=None)  # machines that run tests are busy
INT64 = st.integers(-(2**63), 2**63 - 1)
SECONDS = st.integers(0, 0xFFFFFFFF)
NAMES = st.text(max_size=30)
SHORT = st.text(max_size=63)
DECIMALS = st.builds(
    lambda digits, places: Decimal(f"{digits}E-{places}"),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(0, 255),
)
TIMES = st.builds(lambda seconds: datetime.fromtimestamp(seconds, UTC), SECONDS)
PLAIN = st.none() | st.booleans() | INT64 | st.text() | DECIMALS | TIMES


def nested(leaves):
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
        max_leaves=12,
    )


OURS = st.dictionaries(NAMES, nested(PLAIN | st.floats() | st.binary()), max_size=5)
# pamqp writes floats with 32 bits, and bytes only from a bytearray.
PAMQPS = st.dictionaries(
    NAMES, nested(PLAIN | st.floats(width=32) | st.binary().map(bytearray)), max_size=5
)

PROPERTIES = st.builds(
    Properties,
    content_type=st.none() | SHORT,
    content_encoding=st.none() | SHORT,
    headers=OURS,
    delivery_mode=st.none() | st.integers(1, 2),
    priority=st.none() | st.integers(0, 255),
    correlation_id=st.none() | SHORT,
    reply_to=st.none() | SHORT,
    expiration=st.none() | SHORT,
    message_id=st.none() | SHORT,
    timestamp=st.none() | SECONDS,
    type=st.none() | SHORT,
    user_id=st.none() | SHORT,
    app_id=st.none() | SHORT,
)


def plain(value):
    """The value with the differences removed that are none: NaN, bytearray, the zero's sign."""
    match value:
        case bytearray():
            return bytes(value)
        case float() if math.isnan(value):
            return "NaN"
        case dict():
            return {name: plain(item) for name, item in value.items()}
        case list():
            return [plain(item) for item in value]
        case bool():
            return ("bool", value)
    return value


def from_pamqp(there):
    """pamqp's properties as ours."""
    return Properties(
        **{
            name: getattr(there, name)
            for name in commands.Basic.Properties.attributes()
            if name not in {"headers", "message_type", "timestamp", "cluster_id"}
        },
        headers=plain(there.headers or {}),
        timestamp=int(there.timestamp.timestamp()) if there.timestamp else None,
        type=there.message_type,
    )


def as_plain(properties):
    return properties._replace(headers=plain(properties.headers))


def payload(properties, size=0):
    return struct.pack(">HHQ", 60, 0, size) + frames.encode_properties(properties)


def read_with_pamqp(data):
    """All frames in `data`, as (channel, frame, size) of pamqp."""
    found = []
    while data:
        size, channel, frame = pamqp.frame.unmarshal(data)
        if isinstance(frame, heartbeat.Heartbeat):
            size = 8
        found.append((channel, frame, size))
        data = data[size:]
    return found


def read_publish(data):
    method, head, *bodies = [frame for _, frame, _ in read_with_pamqp(data)]
    return method, head, b"".join(part.value for part in bodies)


@settings(PATIENT)
@given(PROPERTIES)
def test_pamqp_reads_the_properties_that_we_write(properties):
    """Every property and every type of header means the same to a client that uses pamqp."""
    there = header.ContentHeader()
    there.unmarshal(payload(properties))

    # An empty property is written as such; pamqp's default for none is None as well as ours.
    assert from_pamqp(there.properties) == as_plain(properties)


@settings(PATIENT)
@given(PROPERTIES, PAMQPS, st.integers(0, 2**63))
def test_we_read_the_properties_that_pamqp_writes(properties, headers, size):
    """Every property and every type of header that pamqp writes is understood."""
    there = commands.Basic.Properties(
        **{
            name: getattr(properties, name) or None
            for name in commands.Basic.Properties.attributes()
            if name not in {"headers", "message_type", "timestamp", "cluster_id", "priority"}
        },
        headers=headers or None,
        priority=properties.priority,
        message_type=properties.type or None,
        timestamp=None
        if properties.timestamp is None
        else datetime.fromtimestamp(properties.timestamp, UTC),
    )
    data = header.ContentHeader(0, size, there).marshal()

    assert as_plain(frames.decode_header(data)) == from_pamqp(there)
    assert frames.body_size(data) == size


@settings(PATIENT)
@given(PROPERTIES)
def test_properties_survive_the_round_trip(properties):
    assert as_plain(frames.decode_header(payload(properties))) == as_plain(properties)


RAW_VALUES = st.one_of(
    st.tuples(st.just(b"t"), st.binary(min_size=1, max_size=1)),
    st.tuples(st.sampled_from([b"b", b"B"]), st.binary(min_size=1, max_size=1)),
    st.tuples(st.sampled_from([b"s", b"u"]), st.binary(min_size=2, max_size=2)),
    st.tuples(st.sampled_from([b"I", b"i", b"f"]), st.binary(min_size=4, max_size=4)),
    st.tuples(st.sampled_from([b"l", b"L", b"d"]), st.binary(min_size=8, max_size=8)),
    st.tuples(st.just(b"D"), st.binary(min_size=5, max_size=5)),
    st.tuples(st.just(b"T"), st.integers(0, 253402300799000).map(struct.Struct(">Q").pack)),
    st.tuples(
        st.sampled_from([b"S", b"x"]),
        st.binary().map(lambda content: struct.pack(">I", len(content)) + content),
    ),
    st.tuples(st.sampled_from([b"V", b"\0"]), st.just(b"")),
).map(b"".join)


@settings(PATIENT)
@given(st.lists(st.tuples(st.text(max_size=20), RAW_VALUES), max_size=6))
def test_every_tag_of_the_dialect_is_read_as_pamqp_reads_it(entries):
    """Including the tags that neither of the two writes, and text that is not UTF-8."""
    content = b"".join(
        bytes([len(name.encode())]) + name.encode() + value for name, value in entries
    )
    _, there = decode.field_table(struct.pack(">I", len(content)) + content)

    assert plain(decode_table(content)) == plain(there)


def test_text_that_is_not_utf8_comes_back_as_bytes():
    assert decode_table(b"\1aS\0\0\0\2\xff\xfe") == {"a": b"\xff\xfe"}


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        (True, b"t"),
        (0, b"I"),
        (2**31 - 1, b"I"),
        (-(2**31), b"I"),
        (2**31, b"l"),
        (-(2**63), b"l"),
        (1.5, b"d"),
        ("text", b"S"),
        (b"bytes", b"x"),
        (None, b"V"),
        (Decimal("1.5"), b"D"),
        (datetime(2026, 1, 1, tzinfo=UTC), b"T"),
        ([1], b"A"),
        ((1, 2), b"A"),
        ({"a": 1}, b"F"),
    ],
)
def test_each_type_has_one_tag(value, tag):
    encoded = encode_table({"a": value})

    assert encoded[6:7] == tag
    expected = list(value) if isinstance(value, tuple) else value
    assert decode_table(encoded[4:]) == {"a": expected}


def test_times_are_points_in_time_whatever_their_zone():
    there = datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=2)))

    assert decode_table(encode_table({"at": there})[4:]) == {
        "at": datetime(2026, 7, 1, 10, tzinfo=UTC)
    }


def test_decimals_do_not_depend_on_the_callers_precision():
    with localcontext() as context:
        context.prec = 2
        encoded = encode_table({"a": Decimal("12345.678")})
        assert decode_table(encoded[4:]) == {"a": Decimal("12345.678")}
    assert decode_table(encode_table({"a": Decimal("-12e3")})[4:]) == {"a": Decimal(-12000)}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (object(), "object"),
        ({1, 2}, "set"),
        (2**63, "64 bits"),
        (datetime(2026, 1, 1), "time zone"),
        (datetime(1969, 1, 1, tzinfo=UTC), "1970"),
        (Decimal("NaN"), "decimal"),
        (Decimal("1e999999999"), "decimal"),
        (Decimal("1e-256"), "decimal"),
        (Decimal(2**31), "32 bits"),
        ("\ud800", "surrogates"),
        ([{"deep": object()}], "deep"),
        ({1: 2}, "not text"),
    ],
)
def test_a_header_that_amqp_cannot_hold_is_refused_by_name(value, words):
    """The message names the header, since a caller has many of them."""
    with pytest.raises(ValueError, match=words) as caught:
        frames.encode_properties(Properties(headers={"mine": value}))
    assert "'mine'" in str(caught.value)


@pytest.mark.parametrize(
    "properties",
    [
        Properties(type="x" * 256),
        Properties(message_id="é" * 128),
        Properties(app_id="\udc80"),
        Properties(priority=256),
        Properties(delivery_mode=-1),
        Properties(timestamp=-1),
        Properties(timestamp=2**64),
        Properties(priority="high"),
        Properties(timestamp=1.5),
        Properties(reply_to=b"bytes"),
        Properties(headers={"x" * 256: 1}),
    ],
)
def test_a_property_that_amqp_cannot_hold_is_refused(properties):
    with pytest.raises(ValueError, match=r"AMQP|not text|header"):
        frames.encode_properties(properties)


def tables(depth):
    value = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


def arrays(depth):
    value = []
    for _ in range(depth - 2):
        value = [value]
    return {"a": value}


@pytest.mark.parametrize("make", [tables, arrays])
def test_nesting_has_a_limit_both_ways(make):
    """What may be received may be sent on, and nothing deeper is looked at."""
    assert decode_table(encode_table(make(MAX_DEPTH))[4:]) == make(MAX_DEPTH)
    with pytest.raises(ValueError, match="nested"):
        encode_table(make(MAX_DEPTH + 1))

    tag = b"F" if make is tables else b"A"
    content = b""
    for _ in range(100_000):
        name = b"\1a" if make is tables else b""
        content = name + tag + struct.pack(">I", len(content)) + content
        if len(content) > 60_000:
            break
    with pytest.raises(DecodeError, match="nested"):
        decode_table(content if make is tables else b"\1a" + content)


@pytest.mark.parametrize(
    "content",
    [
        b"\1aA\0\0\0\3I\0\0" + b"\0\0\1bV",  # a number
        b"\1aA\0\0\0\6S\0\0\0\2x" + b"x\1bV",  # a string
        b"\1aA\0\0\0\3D\0\0" + b"\0\0\0\1bV",  # a decimal
        b"\1aF\0\0\0\3\1aI" + b"\0\0\0\0\1bV",  # a number in a table
        b"\1aF\0\0\0\3\2xx" + b"V\1bV",  # a name in a table
        b"\1aF\0\0\0\2\5x" + b"xxxxV\1bV",
    ],
)
def test_a_value_does_not_go_past_the_end_of_what_holds_it(content):
    """Or the bytes of one header would be read as part of another."""
    with pytest.raises(DecodeError, match="longer"):
        decode_table(content)


def test_a_table_that_holds_itself_is_refused():
    value = {}
    value["a"] = value

    with pytest.raises(ValueError, match="nested"):
        encode_table(value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\x3c\0\0",
        b"\0\x3c\0\0" + bytes(8),
        b"\0\x3c\0\0" + bytes(8) + b"\0",
        b"\0\x3c\0\0" + bytes(8) + b"\0\1\0\0",  # more flags follow
        b"\0\x3c\0\0" + bytes(8) + b"\0\2",  # a flag without a property
        b"\0\x3c\0\0" + bytes(8) + b"\0\0x",  # something behind the last property
        b"\0\x3c\0\0" + bytes(8) + b"\x80\0\5abc",  # cut short
        b"\0\x3c\0\0" + bytes(8) + b"\x80\0\2\xff\xfe",  # not UTF-8
        b"\0\x3c\0\0" + bytes(8) + b"\x20\0\0\0\0\4abc",
        b"\0\x3c\0\0" + bytes(8) + b"\0\x40" + bytes(7),
        b"\0\x0a\0\0" + bytes(8) + b"\0\0",  # class connection
        b"\0\x3c\0\1" + bytes(8) + b"\0\0",  # a weight
    ],
)
def test_a_malformed_content_header_is_a_decode_error(data):
    with pytest.raises(DecodeError, match="malformed"):
        frames.decode_header(data)


def test_malformed_headers_leave_the_other_properties_readable():
    view = frames.split_header(
        payload(Properties(type="job"))[:12] + b"\x20\x20" + b"\0\0\0\3\1aS" + b"\3job"
    )

    assert view.type == "job"
    with pytest.raises(DecodeError):
        _ = view.headers
    with pytest.raises(DecodeError):
        view.properties()


@settings(PATIENT)
@given(st.binary(max_size=200))
@example(b"\1aD\xff\x80\0\0\0")
def test_random_bytes_are_a_table_or_a_decode_error(content):
    """And what was read can be written, so that a message can always be sent on."""
    try:
        table = decode_table(content)
    except DecodeError:
        return
    assert plain(decode_table(encode_table(table)[4:])) == plain(table)


@settings(PATIENT)
@given(PROPERTIES, st.data())
def test_mutated_headers_are_properties_or_a_decode_error(properties, data):
    changed = bytearray(payload(properties))
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    del changed[data.draw(st.integers(0, len(changed))) :]
    try:
        found = frames.decode_header(bytes(changed))
    except DecodeError:
        return
    again = frames.decode_header(payload(found))
    assert as_plain(again) == as_plain(found)


def test_cluster_id_of_old_clients_is_dropped():
    data = payload(Properties(app_id="a"))[:12] + b"\0\x0c" + b"\1a" + b"\7cluster"

    assert frames.decode_header(data) == Properties(app_id="a")


def test_the_timestamp_property_is_kept_as_sent():
    """Some clients send milliseconds: a copy of the message must not change them."""
    assert frames.decode_header(payload(Properties(timestamp=1767225600123))).timestamp == (
        1767225600123
    )


def test_a_view_decodes_its_headers_when_they_are_asked_for():
    ours = frames.split_header(payload(Properties(headers={"amqpjobs-attempt": 2}, type="a")))
    other = frames.split_header(payload(Properties(headers={"traceparent": "00"})))
    none = frames.split_header(payload(Properties()))

    assert ours.has_amqpjobs_headers
    assert ours.headers == {"amqpjobs-attempt": 2}
    assert ours.headers is ours.headers
    assert not other.has_amqpjobs_headers
    assert other.raw_headers == b"\x0btraceparentS\0\0\0\x0200"
    assert (none.raw_headers, none.headers) == (b"", {})
    assert repr(ours) == "<HeaderView type='a' message_id=None>"


@settings(PATIENT)
@given(
    st.integers(1, 65535),
    SHORT,
    SHORT,
    PROPERTIES,
    st.sampled_from([0, 1, 4087, 4088, 4089, 8176, 8177, 300_000]),
    st.sampled_from([0, 4096, 131072]),
    st.booleans(),
)
def test_a_publish_is_the_frames_that_pamqp_would_send(
    channel, exchange, key, properties, size, frame_max, mandatory
):
    """No frame is over the limit, and the frames put together are the message."""
    content = bytes(i * 7 % 251 for i in range(512)) * (size // 512 + 1)
    content = content[:size]
    try:
        data = frames.encode_publish(
            channel, exchange, key, properties, content, frame_max, mandatory=mandatory
        )
    except ValueError:
        assert len(frames.encode_properties(properties)) + 20 > frame_max > 0
        return

    method, head, found = read_publish(data)
    assert (method.exchange, method.routing_key) == (exchange, key)
    assert (method.mandatory, method.immediate) == (mandatory, False)
    assert from_pamqp(head.properties) == as_plain(properties)
    assert (head.body_size, found) == (size, content)
    sizes = [length for number, _, length in read_with_pamqp(data) if number == channel]
    assert sum(sizes) == len(data)
    if frame_max:
        assert max(sizes) <= frame_max
        assert len(sizes) == 2 + math.ceil(size / (frame_max - 8))


@pytest.mark.parametrize("over", [0, 1])
def test_properties_have_to_fit_into_one_frame(over):
    """AMQP has no way to split them: better an error here than a closed connection."""
    room = 4096 - frames.OVERHEAD - 12 - 2 - 4 - 2 - 5
    properties = Properties(headers={"a": b"x" * (room + over)})
    if over:
        with pytest.raises(ValueError, match="4096"):
            frames.encode_publish(1, "", "q", properties, b"", 4096)
    else:
        data = frames.encode_publish(1, "", "q", properties, b"", 4096)
        assert read_with_pamqp(data)[1][2] == 4096


@pytest.mark.parametrize(
    ("exchange", "key", "words"),
    [
        ("x" * 256, "", "exchange's name is 256 bytes"),
        ("", "é" * 128, "routing key is 256 bytes"),
        ("", "\ud800", "routing key is not text"),
    ],
)
def test_names_that_amqp_cannot_hold_are_refused(exchange, key, words):
    with pytest.raises(ValueError, match=words):
        frames.encode_publish(1, exchange, key, Properties(), b"", 0)


@settings(PATIENT)
@given(st.integers(1, 65535), st.integers(0, 2**63 - 1), st.booleans(), st.booleans())
def test_acknowledgements_are_the_ones_of_pamqp(channel, tag, multiple, requeue):
    ack = commands.Basic.Ack(tag, multiple)
    nack = commands.Basic.Nack(tag, multiple, requeue)

    assert frames.encode_ack(channel, tag, multiple) == pamqp.frame.marshal(ack, channel)
    assert frames.encode_nack(channel, tag, multiple, requeue) == pamqp.frame.marshal(nack, channel)


def test_the_constants_are_the_ones_of_pamqp():
    assert heartbeat.Heartbeat.marshal() == frames.HEARTBEAT_FRAME
    frame = pamqp.frame.marshal(body.ContentBody(b"x"), 1)
    assert len(frame) == 1 + frames.OVERHEAD
    assert frame[0] == frames.FRAME_BODY
    assert frame[-1] == frames.FRAME_END
