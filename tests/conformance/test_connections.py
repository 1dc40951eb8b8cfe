"""How a connection begins, what it agrees on, and how it ends."""

from contextlib import suppress

import pytest
from pamqp import encode
from pamqp.commands import Connection
from pamqp.header import ContentHeader, ProtocolHeader
from pamqp.heartbeat import Heartbeat

from tests.conformance.client import CAPABILITIES
from tests.conformance.events import ClosedError
from tests.conformance.peers import RELEASES, Peer
from tests.conformance.wire import HungUpError, Wire

GREETING = b"AMQP\x00\x00\x09\x01"


def started(peer: Peer) -> Wire:
    """A connection up to `connection.start`."""
    wire = Wire(peer.address.host, peer.address.port)
    wire.write(GREETING)
    assert isinstance(wire.receive()[1], Connection.Start)
    return wire


def log_in(wire: Wire, login: str, *, capable: bool = True) -> None:
    properties = {"capabilities": CAPABILITIES} if capable else {}
    wire.send(0, Connection.StartOk(properties, "PLAIN", login, "en_US"))


def test_greeting(peer: Peer) -> None:
    """`connection.start` has version 0-9, PLAIN and AMQPLAIN, and the locale en_US"""
    start = peer.connect().started
    assert (start.version_major, start.version_minor) == (0, 9)
    assert {"PLAIN", "AMQPLAIN"} <= set(start.mechanisms.split())
    assert start.locales == "en_US"


def test_server_properties(peer: Peer) -> None:
    """The server's properties name its version and capabilities"""
    properties = peer.connect().started.server_properties
    assert properties["version"] == RELEASES[peer.version]
    assert properties["capabilities"] == {
        "publisher_confirms": True,
        "exchange_exchange_bindings": True,
        "basic.nack": True,
        "consumer_cancel_notify": True,
        "connection.blocked": True,
        "consumer_priorities": True,
        "authentication_failure_close": True,
        "per_consumer_qos": True,
        "direct_reply_to": True,
    }


def test_tune(peer: Peer) -> None:
    """`connection.tune` offers 2047 channels, frames of 128 KiB and a heartbeat of 60 s"""
    offered = peer.connect().offered
    assert (offered.channel_max, offered.frame_max, offered.heartbeat) == (2047, 131072, 60)


def test_other_protocol(peer: Peer) -> None:
    """Another protocol's greeting is answered with AMQP's, and the socket is closed"""
    wire = Wire(peer.address.host, peer.address.port)
    wire.write(b"HTTP/1.1")
    assert isinstance(wire.receive()[1], ProtocolHeader)
    with pytest.raises(HungUpError):
        wire.receive()
    wire.shut()


def test_wrong_password(peer: Peer) -> None:
    """A wrong password is refused with 403, and with these words"""
    wire = started(peer)
    log_in(wire, "\0guest\0wrong")
    close = wire.receive()[1]
    assert isinstance(close, Connection.Close)
    assert close.reply_code == 403
    assert close.reply_text == (
        "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN."
        " For details see the broker logfile."
    )
    wire.shut()


def amqplain(**fields: str) -> str:
    """A login by AMQPLAIN: a field table without its length."""
    return encode.field_table(fields)[4:].decode()


def log_in_by_table(wire: Wire, **fields: str) -> object:
    """Log in by AMQPLAIN; what the broker answers."""
    properties = {"capabilities": CAPABILITIES}
    wire.send(0, Connection.StartOk(properties, "AMQPLAIN", amqplain(**fields), "en_US"))
    return wire.receive()[1]


def test_amqplain(peer: Peer) -> None:
    """A login by AMQPLAIN is as good as one by PLAIN"""
    wire = started(peer)
    found = log_in_by_table(wire, LOGIN=peer.address.user, PASSWORD=peer.address.password)
    assert isinstance(found, Connection.Tune)
    wire.shut()


def test_amqplain_with_a_wrong_password(peer: Peer) -> None:
    """A wrong password in AMQPLAIN is refused with 403, and with the name of the mechanism"""
    wire = started(peer)
    close = log_in_by_table(wire, LOGIN="guest", PASSWORD="wrong")
    assert isinstance(close, Connection.Close)
    assert close.reply_code == 403
    assert close.reply_text == (
        "ACCESS_REFUSED - Login was refused using authentication mechanism AMQPLAIN."
        " For details see the broker logfile."
    )
    wire.shut()


def test_amqplain_without_a_password(peer: Peer) -> None:
    """A login by AMQPLAIN without a password loses its socket without a word"""
    wire = started(peer)
    with pytest.raises(HungUpError):
        log_in_by_table(wire, LOGIN="guest")
    wire.shut()


def test_wrong_password_of_an_old_client(peer: Peer) -> None:
    """A client without `authentication_failure_close` just loses its socket"""
    wire = started(peer)
    log_in(wire, "\0guest\0wrong", capable=False)
    with pytest.raises(HungUpError):
        wire.receive()
    wire.shut()


def test_unknown_mechanism(peer: Peer) -> None:
    """A client with an unknown mechanism loses its socket without a word"""
    wire = started(peer)
    wire.send(0, Connection.StartOk({"capabilities": CAPABILITIES}, "MAGIC", "x", "en_US"))
    with pytest.raises(HungUpError):
        wire.receive()
    wire.shut()


def test_unknown_vhost(peer: Peer) -> None:
    """An unknown virtual host is refused with 530"""
    wire = started(peer)
    log_in(wire, f"\0{peer.address.user}\0{peer.address.password}")
    assert isinstance(wire.receive()[1], Connection.Tune)
    wire.send(0, Connection.TuneOk(2047, 131072, 0))
    wire.send(0, Connection.Open("nowhere"))
    close = wire.receive()[1]
    assert isinstance(close, Connection.Close)
    assert (close.reply_code, close.reply_text) == (530, "NOT_ALLOWED - vhost nowhere not found")
    wire.shut()


def test_tuned_beyond_the_offer(peer: Peer) -> None:
    """A client that tunes beyond what was offered loses its socket without a word"""
    wires = []
    smallest = peer.by_version(4096, 8192)
    for channels, frames in (
        (2047, smallest - 1),
        (2047, 131073),
        (2047, 0),  # "any size"
        (2048, 131072),
        (0, 131072),
    ):
        wire = started(peer)
        wires.append(wire)
        log_in(wire, f"\0{peer.address.user}\0{peer.address.password}")
        assert isinstance(wire.receive()[1], Connection.Tune)
        wire.send(0, Connection.TuneOk(channels, frames, 0))
    for wire in wires:
        with pytest.raises(HungUpError):
            wire.receive()
        wire.shut()


def test_smallest_frames(peer: Peer) -> None:
    """The smallest frames that can be agreed on are 4096 bytes on 3.10, and 8192 on 4.3"""
    peer.connect(frame_max=peer.by_version(4096, 8192)).channel()


def test_large_messages_come_in_frames_of_the_agreed_size(peer: Peer) -> None:
    """A large body comes in frames as large as was agreed"""
    client = peer.connect(frame_max=8192)
    channel = client.channel()
    channel.declare("q", exclusive=True)
    channel.publish("q", bytes(20_000))
    channel.consume("q", no_ack=True)
    sizes = []
    while sum(sizes) < 20_000:
        _, frame = client.wire.receive()
        value = getattr(frame, "value", None)
        if isinstance(value, bytes):
            sizes.append(len(value))
    assert sizes == [8184, 8184, 20_000 - 2 * 8184]


def test_frame_larger_than_agreed(peer: Peer) -> None:
    """A frame larger than was agreed is a connection error 501"""
    client = peer.connect(frame_max=8192)
    channel = client.channel()
    client.frame_max = 131072
    channel.publish("nowhere", bytes(9000))
    assert str(channel.wait_closed()) == (
        "connection: 501 FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,9000,8184}"
    )


def test_frame_without_its_end(peer: Peer) -> None:
    """A frame that does not end with 206 is a connection error 501"""
    channel = peer.channel()
    text = "FRAME_ERROR - type 1, all octets = <<0,60,0,99>>: {invalid_frame_end_marker,205}"
    with channel.refuses(501, text, "connection"):
        channel.connection.wire.write(b"\1\0\1\0\0\0\4\0\x3c\0\x63\xcd")


def test_heartbeats(peer: Peer) -> None:
    """Heartbeats come when agreed; a client that is silent for longer is cut off"""
    client = peer.connect(heartbeat=1)
    assert isinstance(client.wire.receive()[1], Heartbeat)
    with pytest.raises(HungUpError):
        while isinstance(client.wire.receive()[1], Heartbeat):
            continue


def test_close(peer: Peer) -> None:
    """`connection.close` is answered"""
    client = peer.connect()
    client.wire.send(0, Connection.Close(200, "", 0, 0))
    client.expect(Connection.CloseOk)


def test_channel_numbers_are_used_again(peer: Peer) -> None:
    """A closed channel's number can be opened again, whoever closed it"""
    client = peer.connect()
    client.channel(7).close()
    with client.channel(7).refuses(404, f"NOT_FOUND - no queue 'q' {peer.place}"):
        client.channels[7].counts("q")
    client.channel(7).round_trip()


def test_channel_opened_twice(peer: Peer) -> None:
    """A channel opened twice is a connection error 504"""
    client = peer.connect()
    channel = client.channel()
    with channel.refuses(504, "CHANNEL_ERROR - second 'channel.open' seen", "connection"):
        client.channel(channel.number)


def test_channel_not_opened(peer: Peer) -> None:
    """A method on a channel that is not open is a connection error 504"""
    client = peer.connect()
    channel = client.channel()
    channel.number, client.channels[9] = 9, channel
    with channel.refuses(504, "CHANNEL_ERROR - expected 'channel.open'", "connection"):
        channel.round_trip()


def test_channels_beyond_the_limit(peer: Peer) -> None:
    """A channel more than was agreed is a connection error 530"""
    client = peer.connect(channel_max=2)
    client.channel(1)
    channel = client.channel(2)
    text = "number of channels opened (2) has reached the negotiated channel_max (2)"
    with channel.refuses(530, f"NOT_ALLOWED - {text}", "connection"):
        client.channel(3)


def test_header_without_a_publish(peer: Peer) -> None:
    """A content header that no method announced is a connection error 505"""
    channel = peer.channel()
    text = "UNEXPECTED_FRAME - expected method frame, got non method frame instead"
    with channel.refuses(505, text, "connection"):
        channel.send(ContentHeader(body_size=0))


def test_channel_error_leaves_the_others(peer: Peer) -> None:
    """A channel error closes that channel alone"""
    client = peer.connect()
    other = client.channel()
    with client.channel().refuses(404, f"NOT_FOUND - no queue 'q' {peer.place}"):
        client.channels[2].counts("q")
    other.round_trip()


def test_blamed_method(peer: Peer) -> None:
    """`channel.close` names the method that failed"""
    channel = peer.channel()
    with pytest.raises(ClosedError) as refused:
        channel.counts("q")
    assert refused.value.method == (50, 10)


def test_what_comes_before_close_is_done(peer: Peer) -> None:
    """Everything sent ahead of `connection.close` is carried out, then the close is answered"""
    channel = peer.channel()
    channel.classic("q")
    client = peer.connect()
    publisher = client.channel()
    for _ in range(200):
        publisher.publish("q", b"x" * 1000)
    client.wire.send(0, Connection.Close(200, "", 0, 0))
    while not isinstance(client.wire.receive()[1], Connection.CloseOk):
        pass
    channel.wait_ready("q", 200)


def test_close_is_answered_behind_deliveries(peer: Peer) -> None:
    """A client that has not read its deliveries finds the answer to its close behind them"""
    channel = peer.channel()
    channel.classic("q")
    body = b"x" * 10_000
    channel.publish_confirmed("q", *[body] * 50)
    client = peer.connect()
    consumer = client.channel()
    consumer.consume("q", no_ack=True)
    consumer.round_trip()
    client.wire.send(0, Connection.Close(200, "", 0, 0))
    while not isinstance(client.wire.receive()[1], Connection.CloseOk):
        pass


def test_close_is_answered_to_a_client_that_goes_on(peer: Peer) -> None:
    """What comes behind `connection.close` is dropped, and does not cost the client its answer"""
    channel = peer.channel()
    channel.classic("q")
    client = peer.connect()
    publisher = client.channel()
    client.wire.send(0, Connection.Close(200, "", 0, 0))
    for _ in range(200):
        with suppress(OSError):  # RabbitMQ closes its side at once
            publisher.publish("q", b"x" * 1000)
    assert isinstance(client.wire.receive()[1], Connection.CloseOk)
    assert channel.counts("q") == (0, 0)
