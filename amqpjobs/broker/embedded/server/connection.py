"""One connection to the embedded broker: bytes to frames, frames to channels, and how it ends.

All frames that one read brought are taken in one loop, without an await. The order of the checks,
and the words, are those of rabbit_reader.erl.

Changes when the rules of frames, or of connections as a whole, do.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from struct import Struct, pack
from typing import Final, Literal, Protocol, cast

from amqpjobs.broker.amqp.fields import MALFORMED
from amqpjobs.broker.amqp.frames import (
    FRAME_BODY,
    FRAME_END,
    FRAME_HEADER,
    FRAME_METHOD,
    HEARTBEAT_FRAME,
    OVERHEAD,
)
from amqpjobs.broker.embedded.errors import INTERNAL_ERROR, Refusal
from amqpjobs.broker.embedded.refusals import told, wrong_frame
from amqpjobs.broker.embedded.server.channel import ServedChannel
from amqpjobs.broker.embedded.server.connection_methods import Control
from amqpjobs.broker.embedded.server.flow import Alarm, Reading
from amqpjobs.broker.embedded.server.handshake import Handshake
from amqpjobs.broker.embedded.server.heartbeats import Heartbeats
from amqpjobs.broker.embedded.server.host import Host
from amqpjobs.broker.embedded.server.methods import encode
from amqpjobs.broker.embedded.server.outgoing import Outgoing

_logger = logging.getLogger("amqpjobs.embedded")

WRITE_HIGH: Final = 256 * 1024
"""Bytes that a client has not taken, from which its consumers get no more."""

UNREAD_MOST: Final = 4 * 1024 * 1024
"""Bytes that a client has not taken, from which what it sends is not read either: it asks, and
does not listen to the answers."""

HANDSHAKE_TIMEOUT: Final = 10.0  # seconds, as RabbitMQ's
CLOSE_TIMEOUT: Final = 30.0
LOST_SYNC_DELAY: Final = 3.0
"""Seconds for a client to hear what was wrong, before a connection ends whose bytes make no sense
any more."""

LINGER: Final = 3.0
"""Seconds for a client to close its side of a connection that is over."""

_PROTOCOL: Final = b"AMQP\0\0\x09\x01"
_PROTOCOL_0_9: Final = b"AMQP\x01\x01\0\x09"  # RabbitMQ takes it for the same
_FRAME = Struct(">BHI")
_OF_CHANNELS = frozenset({FRAME_METHOD, FRAME_HEADER, FRAME_BODY})

_CONNECTION_FORCED = 320
_TAKES_NO_FRAMES = frozenset({"header", "deaf"})

State = Literal["header", "handshake", "running", "closing", "deaf"]


class ConnectionHost(Host, Protocol):
    """The broker, as it learns of its connections."""

    def came(self, connection: "Connection") -> None:
        """A connection was accepted."""
        ...

    def named(self, connection: "Connection") -> None:
        """Its client has said its name."""
        ...

    def lost(self, connection: "Connection") -> None:
        """It has ended."""
        ...


class Connection(asyncio.Protocol):
    """The server's half of one connection.

    Attributes:
        name: both ends, such as ``127.0.0.1:40000 -> 127.0.0.1:5672``.
        client_name: the name that the client gave it; "" for none.
        channels: those that are open, by number.
        state: what it waits for; ``deaf`` when nothing that comes matters any more.
        out: its writing half.
        reading: who holds up its reading half.
        alarm: whether it may publish.
        heartbeats: its heartbeats.
        intake: takes what was read; `parse`, or what a fault has put in front of it.
        received_frame: called behind each frame, by a fault that counts them.
        effects: the faults that it has met; only they know what they are.
        virtual_host: the one that its client has opened; the broker's own before.
        paused: whether its client does not take what it is sent, and its consumers get no more.
    """

    def __init__(self, broker: ConnectionHost) -> None:
        self.broker = broker
        self.name = ""
        self.client_name = ""
        self.channels: dict[int, ServedChannel] = {}
        self.state: State = "header"
        self.intake: Callable[[bytes], None] = self.parse
        self.received_frame: Callable[[], None] | None = None
        self.effects: list[object] = []
        self.control = Control(self)
        self.virtual_host = broker.virtual_host
        self.handshake = Handshake(broker.profile.release, broker.access, self._find_vhost)
        self._loop = loop = asyncio.get_running_loop()
        self.heartbeats = Heartbeats(loop.call_later, self._spoke, self._beat, self._silent)
        self._held = bytearray()
        self._needed = 0  # bytes from which a look at what is held is worth it
        self.paused = False
        self._timer = self._loop.call_later(HANDSHAKE_TIMEOUT, self.abort)

    def __repr__(self) -> str:
        return f"<Connection {self.name} {self.state}, {len(self.channels)} channels>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        # A cast, because uvloop's transports do not inherit from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH)
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        self.name = f"{peer[0]}:{peer[1]} -> {own[0]}:{own[1]}" if peer and own else "gone"
        self.out = Outgoing(self._transport, self._loop)
        self.reading = Reading(self._transport, self.heartbeats)
        self.alarm = Alarm(self.reading, self._say_of_alarm, lambda: self.parse(b""))
        self.broker.came(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop, once."""
        self.state = "deaf"
        self._timer.cancel()
        self.heartbeats.stop()
        self.give_up_channels()
        self.broker.lost(self)

    def pause_writing(self) -> None:
        """Called by the transport: the client does not take what it is sent."""
        self.paused = True
        for channel in self.channels.values():
            if not channel.closing:
                channel.model.pause()

    def resume_writing(self) -> None:
        """Called by the transport: it has taken most of it."""
        self.paused = False
        self.reading.release("unread")
        for channel in tuple(self.channels.values()):
            if not (self.paused or channel.closing):  # a resumed one may fill the transport again
                channel.model.resume()

    def data_received(self, data: bytes) -> None:
        """Called by the event loop with whatever has arrived."""
        self.heartbeats.heard = True
        self.intake(data)
        if self.out.waiting > UNREAD_MOST:
            self.reading.hold("unread")

    def eof_received(self) -> bool | None:
        """Called by the event loop when the client has sent its last byte: it is gone."""
        return False

    def parse(self, data: bytes) -> None:
        """Take bytes as the client's. What is no whole frame yet is held."""
        if self._held or self.alarm.stalled:
            self._held += data
            if len(self._held) < self._needed or self.alarm.stalled:
                return
            data, self._held = bytes(self._held), bytearray()
        at = self._begin(data) if self.state == "header" else 0
        at = self._take_frames(data, at)
        if at < len(data) and self.state != "deaf":
            self._held += memoryview(data)[at:]

    def close(self, code: int, text: str, method: int = 0) -> None:
        """Say `connection.close`, and hang up when the client has answered."""
        if self.state in ("closing", "deaf"):
            return
        self.state = "closing"
        self.give_up_channels()
        self._drain()
        self._say_close(code, text, method)
        limit = self.handshake.heartbeat or CLOSE_TIMEOUT
        self._end_in(min(limit, CLOSE_TIMEOUT))

    def shut_down(self) -> None:
        """The broker stops: say so to a client that is ready to hear it."""
        if self.state == "running":
            text = "broker forced connection closure with reason 'shutdown'"
            refusal = Refusal(_CONNECTION_FORCED, text)
            self.close(refusal.code, refusal.text)
        else:
            self.abort()

    def close_channels(self, code: int, text: str) -> None:
        """Say `channel.close` on every channel."""
        for channel in self.channels.values():
            channel.fail(told(code, text))

    def hang_up(self) -> None:
        """Send what was said, and end this direction; what the client still sends is dropped until
        it closes, or for `LINGER` seconds. A socket that is closed with bytes in it that nobody
        has read resets the connection, and takes what was said from the client again."""
        self.state = "deaf"
        self.heartbeats.stop()
        self._drain()
        self.out.flush()
        if self._transport.is_closing():
            return
        self._transport.write_eof()
        self._end_in(LINGER)

    def abort(self) -> None:
        """Close the socket, whatever was not sent yet."""
        self.state = "deaf"
        self._transport.abort()

    def reset(self) -> None:
        """End it with a reset instead of a closing handshake, as a port without a listener does."""
        found = self._transport.get_extra_info("socket")
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))
        self.abort()

    def wait_for_ever(self) -> None:
        """Do not give it up, however long the client says nothing, or the handshake takes."""
        self._timer.cancel()

    def forget(self, channel: ServedChannel) -> None:
        """That channel is closed on both sides; its number is free."""
        del self.channels[channel.number]

    def give_up_channels(self) -> None:
        """Give back what its channels hold, and delete what was only for it."""
        channels = tuple(self.channels.values())
        self.channels.clear()
        for channel in channels:
            if not channel.closing:
                channel.model.close()
        self.virtual_host.close_owner(self)

    def named(self, name: str) -> None:
        """The client has said its name: faults that are for it begin."""
        self.client_name = name
        self.broker.named(self)

    def opened(self) -> None:
        """The handshake is over."""
        self.state = "running"
        self._timer.cancel()

    def _find_vhost(self, name: str) -> bool:
        found = self.broker.vhost_named(name)
        if found is not None:
            self.virtual_host = found
        return found is not None

    def _begin(self, data: bytes) -> int:
        """The protocol header; return where the first frame starts."""
        if len(data) < len(_PROTOCOL):
            return 0
        if data[:8] not in (_PROTOCOL, _PROTOCOL_0_9):
            # From 4.0 on RabbitMQ would rather have 1.0. This broker has nothing but 0-9-1.
            self.out.write(_PROTOCOL)
            self.hang_up()
            return len(data)
        self.state = "handshake"
        self.out.write(self.handshake.start())
        return 8

    def _take_frames(self, data: bytes, at: int) -> int:
        """Take every whole frame; return where the first one starts that is not taken."""
        unpack, end = _FRAME.unpack_from, len(data)
        self._needed = _FRAME.size
        while end - at >= _FRAME.size and self.state not in _TAKES_NO_FRAMES:
            kind, number, size = unpack(data, at)
            stop = at + 7 + size
            # Eight bytes more than was agreed on: many clients get the limit wrong.
            if size > (most := self.handshake.frame_max):
                self._lose_sync(kind, b"", f"{{frame_too_large,{size},{most - OVERHEAD}}}")
                break
            if stop >= end:
                self._needed = size + OVERHEAD
                break
            if data[stop] != FRAME_END:
                payload = data[at + 7 : stop]
                self._lose_sync(kind, payload, f"{{invalid_frame_end_marker,{data[stop]}}}")
                break
            self._take_frame(kind, number, data, at + 7, stop)
            at = stop + 1
            if self.received_frame is not None:
                self.received_frame()
            if kind == FRAME_HEADER and self.alarm.reason is not None and self.state == "running":
                self.alarm.published()
                break
        return at

    def _take_frame(self, kind: int, number: int, data: bytes, at: int, stop: int) -> None:
        channel = self.channels.get(number)
        try:
            if channel is not None and kind in _OF_CHANNELS:
                channel.take(kind, data, at, stop)
            else:
                self.control.take(kind, number, data, at, stop)
        except Refusal as refusal:
            self._refused(channel, refusal)
        except MALFORMED as problem:  # too short for what it says it is
            self._refused(channel, wrong_frame(kind, data[at:stop], str(problem)))
        except Exception:
            _logger.exception("%s: a frame of type %s failed", self.name, kind)
            self.close(INTERNAL_ERROR, "INTERNAL_ERROR")

    def _refused(self, channel: ServedChannel | None, refusal: Refusal) -> None:
        _logger.info("%s: %s", self.name, refusal.text)
        if channel is not None and refusal.closes == "channel":
            channel.fail(refusal)
        elif self.state == "handshake" and not self.handshake.tells(refusal):
            self.hang_up()
        else:
            self.close(refusal.code, refusal.text, channel.method if channel else 0)

    def _lose_sync(self, kind: int, payload: bytes, problem: str) -> None:
        """What comes from now on cannot be told into frames: say so, and listen no more."""
        self._refused(None, wrong_frame(kind, payload, problem))
        if self.state != "deaf":
            self.state = "deaf"
            self._end_in(LOST_SYNC_DELAY)

    def _say_close(self, code: int, text: str, method: int) -> None:
        self.out.write(
            encode(
                0,
                "connection.close",
                code=code,
                text=text,
                class_id=method >> 16,
                method_id=method & 0xFFFF,
            )
        )

    def _say_of_alarm(self, frame: bytes) -> None:
        if self.handshake.capable("connection.blocked"):
            self.out.write(frame)

    def _spoke(self) -> bool:
        spoke, self.out.spoke = self.out.spoke, False
        return spoke

    def _beat(self) -> None:
        self.out.write(HEARTBEAT_FRAME)

    def _silent(self) -> None:
        _logger.info("%s: missed heartbeats from client", self.name)
        self.abort()

    def _drain(self) -> None:
        """Nothing holds up reading any more: an answer to `connection.close` would not be seen, and
        the client's system would take a socket with unread bytes for a reset."""
        held_up = self.alarm.forget()
        self.reading.drain()
        if held_up:
            self.parse(b"")

    def _end_in(self, seconds: float) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self.abort)
