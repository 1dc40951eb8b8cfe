"""Who gets which frame, whatever the network does to the bytes, and what ends a connection."""

import asyncio
import logging
import socket
import ssl
import subprocess
from contextlib import asynccontextmanager, suppress
from itertools import pairwise

import aiormq
import pamqp.frame
import pytest
import uvloop
from aiormq.connection import SSLContextProvider
from aiormq.exceptions import AMQPConnectionError
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import body, commands, header, heartbeat
from yarl import URL

from amqpjobs.broker.amqp.frames import HEARTBEAT_FRAME, decode_header
from amqpjobs.broker.rabbitmq import splitter as splitter_module
from amqpjobs.broker.rabbitmq.addresses import Place
from amqpjobs.broker.rabbitmq.splitter import (
    SplitterProtocol,
    SplitterTransportFactory,
)
from amqpjobs.broker_url import Node
from amqpjobs.errors import AmqpJobsError, CallbackError, DecodeError, ProtocolError

DIVERTED, OTHER, GETTER = 3, 4, 5
HEARTBEAT = heartbeat.Heartbeat()
PATIENT = settings(deadline=None)  # machines that run tests are busy


class Notes:
    """A sink that writes down what it is told."""

    def __init__(self):
        self.told = []

    def delivered(self, *message):
        self.told.append(("delivered", *message))

    def returned(self, *message):
        self.told.append(("returned", *message))

    def confirmed(self, *confirm):
        self.told.append(("confirmed", *confirm))


class Reader(asyncio.StreamReader):
    """aiormq's side: remembers each piece that it was handed."""

    def __init__(self, loop):
        super().__init__(loop=loop)
        self.pieces = []

    def feed_data(self, data):
        self.pieces.append(bytes(data))
        super().feed_data(data)

    @property
    def seen(self):
        return b"".join(self.pieces)


class Wire:
    """A transport that remembers what was written to it."""

    def __init__(self):
        self.written = []
        self.aborted = False
        self.closing = False

    def write(self, data):
        self.written.append(data)

    def abort(self):
        self.aborted = True

    def is_closing(self):
        return self.closing or self.aborted

    def get_extra_info(self, _name, default=None):
        return default

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass


class Rig:
    """A splitter without a network, with a clock that stands still."""

    def __init__(self, loop):
        self.now = 0.0
        self.loop = loop
        loop.time = lambda: self.now
        self.reader = Reader(loop)
        self.splitter = SplitterProtocol(self.reader, loop)
        self.wire = Wire()
        self.splitter.connection_made(self.wire)
        self.notes = Notes()

    def diverted(self):
        self.splitter.divert(DIVERTED, self.notes)
        return self

    def feed(self, *pieces):
        for piece in pieces:
            self.splitter.data_received(piece)
        return self

    def turn(self):
        """One turn of the event loop."""
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()


@pytest.fixture(scope="module")
def still_loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def rig(still_loop):
    return Rig(still_loop)


def frame(value, channel=DIVERTED):
    return pamqp.frame.marshal(value, channel)


def message(method, content=b"", channel=DIVERTED, pieces=(), **properties):
    """A message's frames: one body frame, or more when cut at `pieces`."""
    head = header.ContentHeader(0, len(content), commands.Basic.Properties(**properties))
    cuts = [0, *sorted(pieces), len(content)]
    parts = [content[a:b] for a, b in pairwise(cuts) if a < b]
    return [
        frame(method, channel),
        frame(head, channel),
        *(frame(body.ContentBody(part), channel) for part in parts),
    ]


def delivery(content=b"", tag=1, channel=DIVERTED, pieces=(), **properties):
    method = commands.Basic.Deliver("consumer", tag, False, "", "queue")
    return b"".join(message(method, content, channel, pieces, **properties))


def reference(data, diverted):
    """What pamqp makes of the stream: what the sink is to be told, and what aiormq is to see."""
    told, passed, open_messages = [], [], {}
    while data:
        size, channel, value = pamqp.frame.unmarshal(data)
        size = 8 if value is HEARTBEAT or isinstance(value, heartbeat.Heartbeat) else size
        raw, data = data[:size], data[size:]
        ours = channel in diverted
        if isinstance(value, commands.Basic.Deliver | commands.Basic.Return | commands.Basic.GetOk):
            ours = ours and not isinstance(value, commands.Basic.GetOk)
            open_messages[channel] = [ours, value, b"", b"", 0]
        elif isinstance(value, header.ContentHeader | body.ContentBody):
            ours = open_messages[channel][0]
        else:
            ours = ours and isinstance(value, commands.Basic.Ack | commands.Basic.Nack)
        if not ours:
            passed.append(raw)
            continue
        state = open_messages.get(channel)
        match value:
            case commands.Basic.Ack():
                told.append(("confirmed", value.delivery_tag, value.multiple, True))
                continue
            case commands.Basic.Nack():
                told.append(("confirmed", value.delivery_tag, value.multiple, False))
                continue
            case header.ContentHeader():
                state[2], state[4] = raw[7:-1], value.body_size
            case body.ContentBody():
                state[3] += value.value
            case _:
                continue
        if len(state[3]) == state[4]:
            told.append(as_told(*state[1:4]))
    return told, b"".join(passed)


def as_told(method, head, content):
    places = (method.exchange.encode(), method.routing_key.encode(), head, content)
    if isinstance(method, commands.Basic.Deliver):
        tag = method.consumer_tag.encode()
        return ("delivered", tag, method.delivery_tag, method.redelivered, *places)
    return ("returned", method.reply_code, method.reply_text, *places)


NAMES = st.text(max_size=20)
PLACES = st.text("aB.-_:0", max_size=20)  # pamqp refuses to write other names of exchanges
TAGS = st.integers(0, 2**63 - 1)
WITH_CONTENT = st.one_of(
    st.builds(commands.Basic.Deliver, NAMES, TAGS, st.booleans(), PLACES, NAMES),
    st.builds(commands.Basic.Return, st.integers(0, 65535), NAMES, PLACES, NAMES),
    st.builds(commands.Basic.GetOk, TAGS, st.booleans(), PLACES, NAMES, st.integers(0, 99)),
)
ALONE = st.one_of(
    st.builds(commands.Basic.Ack, TAGS, st.booleans()),
    st.builds(commands.Basic.Nack, TAGS, st.booleans()),
    st.builds(commands.Basic.Cancel, NAMES),
    st.builds(commands.Basic.ConsumeOk, NAMES),
    st.builds(commands.Basic.QosOk),
    st.builds(commands.Channel.Close, st.integers(200, 599), NAMES, st.just(0), st.just(0)),
)
ON_ZERO = st.one_of(
    st.just(HEARTBEAT),
    st.builds(commands.Connection.Blocked, NAMES),
    st.builds(commands.Connection.Unblocked),
)
CHANNELS = (DIVERTED, OTHER, GETTER)


@st.composite
def on_channel(draw, channel):
    """The frames of one channel, in order."""
    found = []
    for _ in range(draw(st.integers(0, 4))):
        if draw(st.booleans()):
            content = draw(st.binary(max_size=40))
            cuts = draw(st.lists(st.integers(0, len(content)), max_size=3))
            kind = draw(st.none() | NAMES)
            method = draw(WITH_CONTENT)
            found += message(method, content, channel, cuts, message_type=kind)
        else:
            found.append(frame(draw(ALONE), channel))
    return found


@st.composite
def streams(draw):
    """What a broker may send: the channels' frames in any order that keeps each one's own."""
    queues = [draw(on_channel(channel)) for channel in CHANNELS]
    queues.append([frame(value, 0) for value in draw(st.lists(ON_ZERO, max_size=3))])
    stream = []
    while queues := [queue for queue in queues if queue]:
        stream.append(draw(st.sampled_from(queues)).pop(0))
    return b"".join(stream)


@st.composite
def cut(draw, data):
    """The bytes as a network might bring them."""
    if draw(st.booleans()):
        size = draw(st.integers(1, 9))
        return [data[i : i + size] for i in range(0, len(data), size)]
    cuts = [0, *sorted(draw(st.sets(st.integers(0, len(data)), max_size=12))), len(data)]
    return [data[a:b] for a, b in pairwise(cuts) if a < b]


@settings(PATIENT)
@given(streams(), st.data())
def test_any_cut_of_any_stream_gives_what_pamqp_reads(still_loop, stream, data):
    """Frames cut at any byte, channels interleaved: nothing is lost, added or out of order."""
    rig = Rig(still_loop).diverted()
    rig.splitter.divert(OTHER, rig.notes)

    rig.feed(*data.draw(cut(stream)))

    assert rig.splitter.error is None
    told, passed = reference(stream, {DIVERTED, OTHER})
    assert rig.notes.told == told
    assert rig.reader.seen == passed


@settings(PATIENT)
@given(streams(), st.data())
def test_nothing_diverted_passes_every_byte_on(still_loop, stream, data):
    rig = Rig(still_loop).feed(*data.draw(cut(stream)))

    assert rig.splitter.error is None
    assert rig.reader.seen == stream


@settings(PATIENT)
@given(streams(), st.data())
def test_a_channel_can_be_diverted_and_given_back_at_any_byte(still_loop, stream, data):
    """A message goes to one reader as a whole, or nowhere: never its end without its beginning."""
    rig = Rig(still_loop)
    for piece in data.draw(cut(stream)):
        match data.draw(st.sampled_from(["divert", "undivert", None, None])):
            case "divert":
                rig.splitter.divert(DIVERTED, rig.notes)
            case "undivert":
                rig.splitter.undivert(DIVERTED)
        rig.feed(piece)

    assert rig.splitter.error is None
    told, _ = reference(stream, {DIVERTED})
    remaining = iter(told)
    assert all(item in remaining for item in rig.notes.told)  # in order, none made up
    reference(rig.reader.seen, set())  # whole messages: a header without its method would fail


@settings(PATIENT, max_examples=300)
@given(streams(), st.data())
def test_mutated_streams_end_in_a_protocol_error_or_go_on(still_loop, stream, data):
    """Whatever a byte is changed to, nothing else comes out of the splitter."""
    rig = Rig(still_loop).diverted()
    changed = bytearray(stream or b"\1")
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))

    rig.feed(*data.draw(cut(bytes(changed))))

    assert rig.splitter.error is None or type(rig.splitter.error) is ProtocolError
    assert rig.wire.aborted == (rig.splitter.error is not None)
    assert rig.reader.exception() is rig.splitter.error


@settings(PATIENT, max_examples=300)
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6))
def test_random_bytes_end_in_a_protocol_error_or_wait_for_more(still_loop, pieces):
    rig = Rig(still_loop).diverted().feed(*pieces)

    assert rig.splitter.error is None or type(rig.splitter.error) is ProtocolError


def test_a_large_body_over_many_frames_is_put_together(rig):
    content = bytes(range(256)) * 20_000
    pieces = range(100_000, len(content), 100_000)
    stream = delivery(content, pieces=pieces)

    for size in (1448, 65_536, len(stream)):
        rig.notes.told.clear()
        rig.diverted().feed(*(stream[i : i + size] for i in range(0, len(stream), size)))
        assert [told[-1] == content for told in rig.notes.told] == [True]


def test_a_message_carries_its_header_for_later_decoding(rig):
    rig.diverted().feed(delivery(b"{}", message_type="job", headers={"a": 1}))

    properties = decode_header(rig.notes.told[0][-2])
    assert (properties.type, properties.headers) == ("job", {"a": 1})


def test_basic_get_on_a_diverted_channel_stays_aiormqs(rig):
    got = b"".join(message(commands.Basic.GetOk(1, False, "", "q", 0), b"got"))

    rig.diverted().feed(got, delivery(b"ours"))

    assert rig.reader.seen == got
    assert [told[-1] for told in rig.notes.told] == [b"ours"]


def test_a_message_that_is_here_by_half_is_not_given_to_a_later_sink(rig):
    """The later sink is another consumer: an ack of this delivery tag would be wrong there."""
    stream = delivery(b"first")
    later = Notes()

    rig.diverted().feed(stream[:45])
    rig.splitter.undivert(DIVERTED)
    rig.splitter.divert(DIVERTED, later)
    rig.feed(stream[45:], delivery(b"second"))

    assert rig.notes.told == []
    assert [told[-1] for told in later.told] == [b"second"]


def test_the_owner_of_a_channel_learns_of_its_close_before_aiormq_does(rig):
    """What waits is written ahead of aiormq's `close-ok`: the broker ignores it until then."""
    closed = []
    rig.splitter.divert(DIVERTED, rig.notes, lambda: closed.append(rig.reader.seen))
    rig.splitter.write(b"acks")
    goodbye = frame(commands.Channel.Close(406, "unknown delivery tag", 60, 80))
    rig.feed(goodbye)
    assert closed == [b""]
    assert rig.wire.written == [b"acks"]
    assert rig.reader.seen == goodbye


def test_the_owner_before_is_not_told_of_a_later_close(rig):
    """Channel numbers are used again."""
    closed = []
    rig.splitter.divert(DIVERTED, rig.notes, lambda: closed.append("first"))
    rig.splitter.undivert(DIVERTED)
    rig.splitter.divert(DIVERTED, rig.notes)
    rig.feed(frame(commands.Channel.Close(406, "no", 60, 80)))
    assert closed == []


def test_undivert_of_an_unknown_channel_does_nothing(rig):
    rig.splitter.undivert(77)


def test_the_connections_own_channel_cannot_be_diverted(rig):
    with pytest.raises(ValueError, match="channel 0"):
        rig.splitter.divert(0, rig.notes)


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (delivery(b"x")[:-1] + b"\xcd", "ends with 0xcd"),
        (b"\x07\0\3\0\0\0\1x\xce", "type 7"),
        (b"\x08\0\3\0\0\0\0\xce", "type 8 on a channel"),
        (b"\2\0\0\0\0\0\1x\xce", "channel 0"),
        (b"HTTP/1.1 400", "frame of"),
        (b"\x15\3\1\0\0\2\2\x46", "type 21"),
        (frame(body.ContentBody(b"x")), "belongs to no message"),
        (frame(header.ContentHeader()), "belongs to no message"),
        (frame(commands.Basic.Deliver("c", 1, False, "", "q")) * 2, "in the middle"),
        (delivery(b"xy")[:-10] + frame(body.ContentBody(b"xyz")), "another length"),
        (delivery(b"xy")[:-10] + b"\3\0\3\0\0\0\0\xce", "another length"),
        (
            frame(commands.Basic.Deliver("c", 1, False, "", "q"))
            + b"\2\0\3\0\0\0\x0e"
            + bytes(14)
            + b"\xce",
            "basic",
        ),
        (
            frame(commands.Basic.Deliver("c", 1, False, "", "q")) + b"\2\0\3\0\0\0\1\0\xce",
            "malformed",
        ),
        (b"\1\0\3\0\0\0\x11" + b"\0\x3c\0\x3c" + bytes(13) + b"\xce", "do not fill"),
        (b"\1\0\3\0\0\0\6" + b"\0\x3c\0\x3c\xff\xff" + b"\xce", "malformed"),
        (b"\1\0\3\0\0\0\x0c" + b"\0\x3c\0\x50" + bytes(8) + b"\xce", "do not fill"),
        (b"\1\0\3\0\0\0\x0a" + b"\0\x3c\0\x32" + bytes(6) + b"\xce", "do not fill"),
    ],
)
def test_what_amqp_does_not_allow_ends_the_connection(rig, stream, words):
    """The error is kept, the transport is aborted, and aiormq's next read raises it."""
    rig.diverted().feed(stream)

    assert isinstance(rig.splitter.error, ProtocolError)
    assert words in str(rig.splitter.error)
    assert rig.wire.aborted
    assert rig.reader.exception() is rig.splitter.error

    rig.feed(delivery(b"after"))
    assert rig.notes.told == []


def test_frames_have_a_largest_size(rig):
    """It is known from a frame's first bytes: a frame that is too large is not waited for."""
    largest = frame(body.ContentBody(bytes(4088)))
    rig.splitter.frame_max = 4096
    rig.diverted().feed(delivery(bytes(4088)), largest[:7])
    assert len(rig.notes.told) == 1

    other = Rig(rig.loop).diverted()
    other.splitter.frame_max = 4096
    other.feed(b"\3\0\3\0\0\x0f\xf9", b"x")
    assert "4089 bytes" in str(other.splitter.error)


def delivery_with_header(size, content=b"{}", number=DIVERTED):
    """A delivery whose header frame has so many bytes."""
    method = pamqp.frame.marshal(commands.Basic.Deliver("c", 1, False, "", "q"), number)
    fields = b"\x20\x00" + (size - 18).to_bytes(4)
    entries = b"\x01aS" + (size - 18 - 7).to_bytes(4) + bytes(size - 18 - 7)
    payload = b"\0\x3c\0\0" + len(content).to_bytes(8) + fields + entries
    assert len(payload) == size
    head = b"\2" + number.to_bytes(2) + size.to_bytes(4) + payload + b"\xce"
    return method + head + frame(body.ContentBody(content), number)


@pytest.mark.parametrize("size", [4089, 4088 + 13, 4096 * 28])
def test_a_header_frame_may_be_larger_than_agreed(rig, size):
    """RabbitMQ does not split headers, and adds `x-death` and `x-delivery-count` to them."""
    rig.splitter.frame_max = 4096
    rig.diverted().feed(delivery_with_header(size), delivery(b"next"))
    [first, _] = rig.notes.told
    assert len(decode_header(first[6]).headers["a"]) == size - 25
    assert first[7] == b"{}"
    assert rig.splitter.error is None


@pytest.mark.parametrize("piece", [1, 10_000, 2**30])
def test_of_an_enormous_header_frame_only_the_message_is_left(rig, piece):
    """It is dealt with alone: the connection, and what else came on it, stay."""
    size = splitter_module.DEFAULT_FRAME_MAX * splitter_module.HEADERS_GROW + 1
    stream = delivery(b"before") + delivery_with_header(size) + delivery(b"after")
    rig.diverted()
    small, rest = (stream[:300], stream[300:]) if piece == 1 else (b"", stream)
    for at in range(len(small)):
        rig.feed(small[at : at + 1])
    for at in range(0, len(rest), max(piece, 10_000)):
        rig.feed(rest[at : at + max(piece, 10_000)])
    assert rig.splitter.error is None
    assert [told[7] for told in rig.notes.told] == [b"before", b"{}", b"after"]
    header = rig.notes.told[1][6]
    assert len(header) < 100
    with pytest.raises(DecodeError):
        decode_header(header)


def test_an_enormous_header_frame_for_aiormq_ends_the_connection(rig):
    """aiormq takes whole frames only; and where no header is due the stream is out of step."""
    size = splitter_module.DEFAULT_FRAME_MAX * splitter_module.HEADERS_GROW + 1
    rig.feed(delivery_with_header(size, number=OTHER)[:200])
    assert "for aiormq" in str(rig.splitter.error)
    other = Rig(rig.loop).diverted()
    other.feed(b"\2\0\3\0\x02\0\1", b"x")
    assert "131073 bytes" in str(other.splitter.error)


def test_without_a_frame_limit_the_body_limit_counts(rig):
    rig.splitter.frame_max = 0
    rig.splitter.max_body_size = 300_000
    rig.diverted().feed(delivery(bytes(300_000)))
    assert len(rig.notes.told) == 1

    rig.feed(b"\3\0\3\0\x0f\xff\xff", b"x")
    assert isinstance(rig.splitter.error, ProtocolError)


def test_bodies_have_a_largest_size(rig):
    """It is known from the header: nothing is gathered that will not be taken."""
    rig.splitter.max_body_size = 10
    rig.diverted().feed(delivery(bytes(10)))
    assert len(rig.notes.told) == 1

    rig.feed(delivery(bytes(11))[:-19])
    assert "11 bytes" in str(rig.splitter.error)


def test_another_protocols_greeting_reaches_aiormq(rig):
    """A server that does not speak 0-9-1 answers with its own protocol header."""
    rig.feed(b"AM", b"QP\0\0\x09\1")

    assert rig.splitter.error is None
    assert rig.reader.seen == b"AMQP\0\0\x09\1"


def test_a_frame_that_breaks_off_is_shown_to_aiormq_at_the_end(rig):
    """So that it reports a connection that broke within a frame, and not one that was closed."""
    broken = frame(commands.Basic.QosOk())[:9]
    rig.feed(broken)
    assert rig.reader.seen == b""

    rig.splitter.eof_received()
    assert rig.reader.seen == broken


def test_aiormq_is_shown_that_the_peer_lives(rig):
    """At most one heartbeat a second, and none where a frame of its own says so already."""
    rig.now = 100.0
    rig.feed(delivery(b"not diverted"))
    rig.reader.pieces.clear()
    rig.diverted().feed(delivery(b"x"), delivery(b"y"))
    assert rig.reader.seen == b""

    rig.now = 101.0
    rig.feed(delivery(b"x"), delivery(b"y"))
    assert rig.reader.seen == HEARTBEAT_FRAME

    rig.now = 102.5
    rig.feed(delivery(b"x") + frame(commands.Basic.QosOk()), delivery(b"y"))
    assert rig.reader.seen == HEARTBEAT_FRAME + frame(commands.Basic.QosOk())

    rig.now = 104.0
    rig.feed(frame(commands.Basic.QosOk())[:5])
    assert rig.reader.seen.endswith(HEARTBEAT_FRAME)
    rig.feed(frame(commands.Basic.QosOk())[5:])
    assert rig.reader.seen.endswith(HEARTBEAT_FRAME + frame(commands.Basic.QosOk()))


def test_a_slow_large_frame_is_a_sign_of_life(rig):
    """Its pieces complete no frame for longer than the heartbeat allows."""
    stream = delivery(bytes(100_000))
    rig.diverted().feed(stream[:50_000])
    rig.reader.pieces.clear()

    rig.now += 30
    rig.feed(stream[50_000:60_000])
    assert rig.reader.seen == HEARTBEAT_FRAME


def test_a_handshake_is_never_disturbed_by_heartbeats(rig):
    rig.now = 1000.0
    start = frame(commands.Connection.OpenOk(), 0)

    rig.feed(*(start[i : i + 1] for i in range(len(start))))
    assert rig.reader.seen == start


def test_alarms_reach_aiormq_and_the_owner(rig):
    told = []
    rig.splitter.on_blocked.append(told.append)
    rig.splitter.on_unblocked.append(lambda: told.append("over"))
    stream = frame(commands.Connection.Blocked("low on memory"), 0) + frame(
        commands.Connection.Unblocked(), 0
    )

    rig.feed(stream)

    assert told == ["low on memory", "over"]
    assert rig.reader.seen == stream


class Faulty(Notes):
    def delivered(self, *message):
        super().delivered(*message)
        raise ZeroDivisionError("a bug")

    confirmed = returned = delivered


@pytest.mark.parametrize(
    "stream",
    [
        delivery(b"x"),
        frame(commands.Basic.Ack(1)),
        b"".join(message(commands.Basic.Return(312, "NO_ROUTE", "", "q"), b"x")),
    ],
)
def test_a_sink_that_raises_ends_the_connection_after_the_others_had_theirs(rig, caplog, stream):
    """Our bug shows at once, and does not cost others what has already arrived."""
    faulty = Faulty()
    rig.splitter.divert(OTHER, rig.notes)
    rig.splitter.divert(DIVERTED, faulty)
    others = frame(commands.Basic.Ack(7), OTHER) + frame(commands.Basic.QosOk(), OTHER)

    rig.feed(stream * 3 + others)
    rig.turn()

    assert len(faulty.told) == 1
    assert rig.notes.told == [("confirmed", 7, False, True)]
    assert rig.reader.seen == frame(commands.Basic.QosOk(), OTHER)
    assert isinstance(rig.splitter.error, CallbackError)
    assert isinstance(rig.splitter.error.__cause__, ZeroDivisionError)
    assert rig.wire.aborted
    assert rig.reader.exception() is rig.splitter.error
    assert [(r.name, r.levelno) for r in caplog.records if r.name.startswith("amqpjobs")] == [
        ("amqpjobs.broker.rabbitmq.splitter", logging.ERROR)
    ]


def test_a_callback_that_raises_ends_the_connection_and_the_next_one_is_called(rig):
    told = []

    def fail(_reason):
        raise ZeroDivisionError

    rig.splitter.on_blocked += [fail, told.append]
    rig.feed(frame(commands.Connection.Blocked("alarm"), 0))
    rig.turn()

    assert told == ["alarm"]
    assert isinstance(rig.splitter.error, AmqpJobsError)


def test_writes_of_one_turn_go_out_as_one(rig):
    """One system call for many frames, in the order in which they were written."""
    for part in (b"a", b"b", b"c"):
        rig.splitter.write(part)
    assert rig.wire.written == []
    rig.turn()
    assert rig.wire.written == [b"abc"]

    rig.splitter.write(b"d")
    rig.turn()
    assert rig.wire.written == [b"abc", b"d"]


def test_flush_writes_now_and_leaves_nothing_for_later(rig):
    rig.splitter.write(b"a")
    rig.splitter.flush()
    rig.splitter.flush()
    rig.turn()

    assert rig.wire.written == [b"a"]


def test_a_large_burst_does_not_wait_for_the_turns_end(rig):
    """Or back-pressure would not be felt before all of it is in memory twice."""
    rig.splitter.write(b"a")
    rig.splitter.write(bytes(70_000))
    assert [len(data) for data in rig.wire.written] == [70_001]

    rig.splitter.write(b"b")
    assert len(rig.wire.written) == 1


def test_many_requests_of_a_turn_leave_in_pieces(rig):
    """So that the broker is at the first while the last is being encoded: a dozen or so each."""
    for _ in range(100):
        rig.splitter.write(bytes(350))
    assert 5 <= len(rig.wire.written) <= 20
    rig.turn()
    assert sum(map(len, rig.wire.written)) == 35_000


def test_writes_after_the_end_are_dropped(rig):
    """The owner learns of the end by on_lost; its acks and publishes have nowhere to go."""
    told = []
    rig.splitter.on_lost.append(told.append)
    rig.splitter.write(b"a")
    rig.wire.closing = True
    rig.turn()
    assert not rig.splitter.writable

    lost = ConnectionResetError()
    rig.splitter.connection_lost(lost)
    rig.splitter.write(b"b")
    rig.turn()

    assert rig.wire.written == []
    assert told == [lost]
    assert not rig.splitter.writable


def test_back_pressure_is_seen_and_its_end_is_told(rig):
    told = []
    rig.splitter.on_writable.append(lambda: told.append(rig.splitter.writable))
    assert rig.splitter.writable

    rig.splitter.pause_writing()
    assert not rig.splitter.writable
    rig.splitter.write(b"still taken")
    rig.turn()
    rig.splitter.resume_writing()

    assert told == [True]
    assert rig.wire.written == [b"still taken"]


# From here on with sockets.


class Broker:
    """As much of a broker as the handshake needs; what it sends then is the test's."""

    def __init__(self):
        self.heard = []
        self.writer = None
        self.reading = asyncio.Event()
        self.reading.set()
        self.news = asyncio.Condition()

    async def serve(self, reader, writer):
        self.writer = writer
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readexactly(8)
            capabilities = {"publisher_confirms": True, "basic.nack": True}
            self.send(
                commands.Connection.Start(
                    server_properties={"capabilities": capabilities}, mechanisms="PLAIN"
                )
            )
            while True:
                await self.reading.wait()
                self.answer(*await self.read(reader))
                async with self.news:
                    self.news.notify_all()
        writer.close()

    async def read(self, reader):
        start = await reader.readexactly(7)
        rest = await reader.readexactly(int.from_bytes(start[3:]) + 1)
        _, channel, value = pamqp.frame.unmarshal(start + rest)
        return channel, value

    def answer(self, channel, value):
        self.heard.append((channel, value))
        match value:
            case commands.Connection.StartOk():
                self.send(commands.Connection.Tune(2047, 131072, 60))
            case commands.Connection.Open():
                self.send(commands.Connection.OpenOk())
            case commands.Connection.Close():
                self.send(commands.Connection.CloseOk())
            case commands.Channel.Open():
                self.send(commands.Channel.OpenOk(), channel)
            case commands.Channel.Close():
                self.send(commands.Channel.CloseOk(), channel)
            case commands.Confirm.Select():
                self.send(commands.Confirm.SelectOk(), channel)
            case commands.Basic.Consume():
                self.send(commands.Basic.ConsumeOk(value.consumer_tag), channel)

    def send(self, value, channel=0):
        self.writer.write(frame(value, channel))

    async def until(self, condition):
        async with self.news:
            await self.news.wait_for(condition)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", key, "-out", cert),
        ],
        check=True,
        capture_output=True,
    )
    return key, cert


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    """Runs a scenario to its end, in ten seconds at most."""
    make = asyncio.new_event_loop if request.param == "asyncio" else uvloop.new_event_loop

    def run(scenario):
        async def limited():
            async with asyncio.timeout(10):
                return await scenario

        with asyncio.Runner(loop_factory=make) as runner:
            return runner.run(limited())

    return run


@pytest.fixture(params=["amqp", "amqps"])
def serving(request, certificate):
    """A context manager: a broker on loopback, and its URL."""
    key, cert = certificate

    @asynccontextmanager
    async def serving():
        context = None
        if request.param == "amqps":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(cert, key)
        broker = Broker()
        server = await asyncio.start_server(broker.serve, "localhost", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        try:
            yield broker, f"{request.param}://guest:guest@localhost:{port}/?cafile={cert}"
        finally:
            if broker.writer is not None:
                broker.writer.transport.abort()
            server.close()
            await server.wait_closed()

    return serving


def place_of(url):
    host, port = URL(url).host, URL(url).port
    return Place(Node(host, port), "127.0.0.1" if host == "localhost" else host)


async def connect(url):
    factory = SplitterTransportFactory(place_of(url))
    connection = await aiormq.connect(url, transport_factory=factory)
    return connection, factory.protocol


def test_aiormq_connects_opens_channels_and_closes_through_the_splitter(run, serving):
    async def scenario():
        async with serving() as (broker, url):
            connection, splitter = await connect(url)
            await connection.channel()
            assert splitter.writable
            wire = connection._writer_task  # alive until the close below
            assert not wire.done()
            await connection.close()
            assert splitter.error is None
            assert any(isinstance(value, commands.Connection.Close) for _, value in broker.heard)

    run(scenario())


def test_a_diverted_channels_messages_are_ours_and_the_others_are_aiormqs(run, serving):
    async def scenario():
        async with serving() as (broker, url):
            connection, splitter = await connect(url)
            ours, theirs = await connection.channel(), await connection.channel()
            notes, got = Notes(), asyncio.Queue()
            splitter.divert(ours.number, notes)
            await ours.basic_consume("q", got.put, consumer_tag="ours")
            await theirs.basic_consume("q", got.put, consumer_tag="theirs")
            for channel, tag in ((ours, "ours"), (theirs, "theirs")):
                method = commands.Basic.Deliver(tag, 1, False, "", "q")
                for part in message(method, b"x" * 5000, channel.number, [700]):
                    broker.writer.write(part)

            found = await got.get()
            assert (found.delivery.consumer_tag, found.body) == ("theirs", b"x" * 5000)
            assert [told[1] for told in notes.told] == [b"ours"]
            assert notes.told[0][-1] == b"x" * 5000
            await connection.close()

    run(scenario())


def test_a_broken_frame_closes_aiormqs_connection_with_the_error(run, serving):
    async def scenario():
        async with serving() as (broker, url):
            connection, splitter = await connect(url)
            channel = await connection.channel()
            splitter.divert(channel.number, Notes())
            lost = asyncio.get_running_loop().create_future()
            splitter.on_lost.append(lost.set_result)
            broker.writer.write(delivery(b"x", channel=channel.number)[:-1] + b"\xcd")

            assert await lost is splitter.error
            with pytest.raises(ProtocolError, match="0xcd"):
                await connection.closing
            assert channel.is_closed

    run(scenario())


def test_a_peer_that_is_no_broker_is_refused_at_once(run):
    """Not after a time-out: the first bytes of a web server say enough."""

    async def scenario():
        async def web(reader, writer):
            await reader.read(8)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(web, "localhost", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(ProtocolError, match="frame"):
                await connect(f"amqp://localhost:{port}")

    run(scenario())


def test_writes_arrive_whole_and_in_order(run, serving):
    async def scenario():
        async with serving() as (broker, url):
            connection, splitter = await connect(url)
            channel = await connection.channel()
            for tag in range(1, 1001):
                splitter.write(frame(commands.Basic.Ack(tag), channel.number))
            await broker.until(lambda: getattr(broker.heard[-1][1], "delivery_tag", 0) == 1000)

            acks = [value for _, value in broker.heard if isinstance(value, commands.Basic.Ack)]
            assert [ack.delivery_tag for ack in acks] == list(range(1, 1001))
            await connection.close()

    run(scenario())


def test_a_peer_that_does_not_read_makes_the_connection_unwritable_until_it_does(run, serving):
    async def scenario():
        async with serving() as (broker, url):
            connection, splitter = await connect(url)
            channel = await connection.channel()
            again = asyncio.Event()
            splitter.on_writable.append(again.set)
            broker.reading.clear()
            sent = 0
            while splitter.writable:
                splitter.write(frame(body.ContentBody(bytes(65_000)), channel.number))
                await asyncio.sleep(0)
                sent += 1
                assert sent < 10_000, "there is no back-pressure"
            assert not again.is_set()

            broker.reading.set()
            await again.wait()
            assert splitter.writable
            await broker.until(
                lambda: sum(isinstance(v, body.ContentBody) for _, v in broker.heard) == sent
            )
            await connection.close()

    run(scenario())


def test_the_owner_learns_that_the_connection_is_gone(run, serving):
    async def scenario():
        async with serving() as (broker, url):
            connection, splitter = await connect(url)
            lost = asyncio.get_running_loop().create_future()
            splitter.on_lost.append(lost.set_result)
            broker.writer.transport.abort()
            await lost
            splitter.write(b"nowhere")
            splitter.flush()
            assert not splitter.writable
            with suppress(AMQPConnectionError, asyncio.CancelledError):
                await connection.closing

    run(scenario())


def test_small_frames_are_not_held_back_by_the_kernel(run, serving):
    """Nagle's algorithm would hold acks back for the peer's delayed acknowledgement."""

    async def scenario():
        async with serving() as (_, url):
            factory = SplitterTransportFactory(place_of(url))
            certs = aiormq.abc.SSLCerts(
                cert=None,
                key=None,
                capath=None,
                cafile=URL(url).query["cafile"],
                cadata=None,
                verify=True,
            )
            provider = SSLContextProvider(
                ssl_context=None, ssl_certs=certs, loop=asyncio.get_running_loop()
            )
            _, writer = await factory.create(
                URL(url), ssl_context_provider=provider, limit=1000, server_hostname=None
            )
            sock = writer.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    run(scenario())


def test_a_certificate_of_strangers_is_refused_as_aiormq_does(run, certificate):
    """Every OSError of connecting is an AMQPConnectionError, as with aiormq's own factories."""

    async def scenario():
        key, cert = certificate
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        server = await asyncio.start_server(lambda r, w: w.close(), "localhost", 0, ssl=context)
        async with server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(AMQPConnectionError, match=r"(?i)certificate"):
                await connect(f"amqps://localhost:{port}")
        with pytest.raises(AMQPConnectionError):
            await connect(f"amqp://localhost:{port}")

    run(scenario())
