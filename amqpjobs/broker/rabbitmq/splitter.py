"""The reading half of a connection: hot frames to us, every other frame to aiormq, in order.

aiormq reads a frame with several awaits and starts two tasks for every delivery. Here all frames
that one read brought are parsed in one loop, without an await. What is rare and hard
(handshake, channels, declarations, cancel, close) stays aiormq's: it sees those bytes untouched.

aiormq is always handed whole frames. It can do nothing with less, and so a channel can be diverted
at any time: what aiormq has seen ends at a frame boundary, and a heartbeat fits in behind it.

Changes when another frame has to be taken from aiormq, or given back to it.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from struct import Struct
from typing import Any

from aiormq.connection import TransportFactory
from aiormq.exceptions import AMQPConnectionError
from yarl import URL

from amqpjobs.broker.amqp.contents import ChannelContents, Sink
from amqpjobs.broker.amqp.fields import MALFORMED
from amqpjobs.broker.amqp.frames import (
    FRAME_BODY,
    FRAME_END,
    FRAME_HEADER,
    FRAME_HEARTBEAT,
    FRAME_METHOD,
    HEARTBEAT_FRAME,
    OVERHEAD,
)
from amqpjobs.broker.rabbitmq.addresses import Place, connect
from amqpjobs.broker.rabbitmq.writer import FrameWriter
from amqpjobs.errors import ProtocolError

_logger = logging.getLogger("amqpjobs.rabbitmq.splitter")

DEFAULT_FRAME_MAX = 131072
"""RabbitMQ's default, in bytes. No frame of a handshake is larger."""

DEFAULT_MAX_BODY_SIZE = 512 * 1024 * 1024
"""The highest ``max_message_size`` that RabbitMQ can be given, in bytes: a smaller cap would close
the connection over a message that the broker delivers again and again."""

HEADERS_GROW = 32
"""Times ``frame_max`` that a header frame may be large. RabbitMQ splits bodies into frames, never
headers: to what a publisher could just fit into one it adds ``x-delivery-count``, and an entry of
``x-death``, which repeats the ``CC`` header, for each queue that the message died in; the delays
have 28 such queues. Other clients (pika, amqp091-go, aiormq) do not look at the size."""

_BEGINNING = 14
"""Bytes of a content header up to its fields."""

_FRAME = Struct(">BHI")
_CLOSE_ARGUMENTS = Struct(">HB")
_KINDS = frozenset({FRAME_METHOD, FRAME_HEADER, FRAME_BODY, FRAME_HEARTBEAT})
_CLOSE = bytes((0, 10, 0, 50))
_BLOCKED = bytes((0, 10, 0, 60))
_UNBLOCKED = bytes((0, 10, 0, 61))
_HEARTBEAT_EVERY = 1.0


class _ConnectionFrames:
    """Channel 0: all of it is aiormq's, and what it says about alarms is ours as well."""

    __slots__ = ("_protocol",)

    def __init__(self, protocol: "SplitterProtocol") -> None:
        self._protocol = protocol

    def take(self, kind: int, data: bytes, start: int, stop: int) -> bool:
        if kind == FRAME_METHOD:
            method = data[start : start + 4]
            if method == _BLOCKED:
                self._protocol.blocked(data[start + 5 : stop].decode(errors="replace"))
            elif method == _UNBLOCKED:
                self._protocol.unblocked()
            elif method == _CLOSE:
                code, length = _CLOSE_ARGUMENTS.unpack_from(data, start + 4)
                text = data[start + 7 : start + 7 + length]
                self._protocol.refusal = (code, text.decode(errors="replace"))
        elif kind != FRAME_HEARTBEAT:
            raise ProtocolError(f"a frame of type {kind} on channel 0")
        return False


class SplitterProtocol(FrameWriter):
    """Sorts the frames of one connection by who wants them.

    Attributes:
        frame_max: the largest frame that is taken, in bytes, but for headers, see `HEADERS_GROW`;
            0 for no limit but `max_body_size`. Set it once the connection is tuned.
        max_body_size: the largest body that is taken on a diverted channel, in bytes.
        on_blocked: called with the reason when the broker stops reading from publishers.
        on_unblocked: called when it reads again.
        refusal: code and words of the broker's `connection.close`; None while there was none.
            aiormq drops the words when they come during the handshake.

    These callbacks are lists, as those of `FrameWriter`: append to them.
    """

    def __init__(self, reader: asyncio.StreamReader, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(reader, loop)
        self.frame_max = DEFAULT_FRAME_MAX
        self.max_body_size = DEFAULT_MAX_BODY_SIZE
        self.on_blocked: list[Callable[[str], None]] = []
        self.on_unblocked: list[Callable[[], None]] = []
        self.refusal: tuple[int, str] | None = None
        self._channels: dict[int, ChannelContents | _ConnectionFrames] = {
            0: _ConnectionFrames(self)
        }
        self._contents: dict[int, ChannelContents] = {}
        self._diverting = False
        self._fed_at = 0.0
        self._started = False
        self._refused = False
        self._held = bytearray()
        self._needed = 0
        self._skipped = 0

    def divert(self, number: int, sink: Sink, on_close: Callable[[], None] | None = None) -> None:
        """Send a channel's deliveries, returns and confirms to `sink` from its next frame on.

        Messages of which aiormq has already seen the beginning stay aiormq's.

        Args:
            number: the channel's.
            sink: who takes them.
            on_close: called when the broker closes the channel. From then on nothing may be
                written on it: the broker would close the whole connection.
        """
        if number == 0:
            raise ValueError("channel 0 is the connection's own")
        channel = self._channel(number)
        channel.sink, channel.on_close = sink, on_close
        self._diverting = True

    def undivert(self, number: int) -> None:
        """Give a channel back to aiormq; without effect when it is not diverted.

        A message that has arrived by half is dropped: the broker redelivers it when the channel
        is closed.
        """
        if number in self._contents:
            self._contents[number].leave()

    def blocked(self, reason: str) -> None:
        """The broker raised an alarm and stops reading from connections that publish."""
        self._call_all(self.on_blocked, reason)

    def unblocked(self) -> None:
        """The alarm is over."""
        self._call_all(self.on_unblocked)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop with whatever has arrived."""
        if self.error is not None:
            return
        if not self._started:
            self._started = True
            # A server that does not speak 0-9-1 answers with eight bytes that are no frame:
            # the protocol header that it would have liked. Nothing else comes after it.
            self._refused = data[:1] == b"A"
        if self._refused:
            super().data_received(data)
            return
        if self._held:
            if len(self._held) + len(data) < self._needed:
                # Appended until the frame is whole. To look at it again on every read would copy
                # a large frame as many times as it has pieces.
                self._held += data
                self._keep_alive()
                return
            data = b"".join((self._held, data))
            self._held = bytearray()
        try:
            at = self._split(data)
        except ProtocolError as problem:
            self.fail(problem)
            return
        except MALFORMED as problem:
            error = ProtocolError(f"a malformed frame: {problem}")
            error.__cause__ = problem
            self.fail(error)
            return
        if at < len(data):
            self._held += memoryview(data)[at:]

    def eof_received(self) -> bool | None:
        """Called by the event loop when the peer has sent its last byte."""
        if self._held and self.error is None:
            # So that aiormq says that the connection broke within a frame, as it would by itself.
            super().data_received(bytes(self._held))
        return super().eof_received()

    def _split(self, data: bytes) -> int:
        """Hand every whole frame to whom it belongs; return where the first broken off begins."""
        channels, unpack = self._channels, _FRAME.unpack_from
        largest = self.frame_max - OVERHEAD if self.frame_max else self.max_body_size
        passed: list[bytes] = []
        at, end = self._skip(0, len(data)) if self._skipped else 0, len(data)
        self._needed = OVERHEAD
        while end - at >= OVERHEAD:
            kind, number, size = unpack(data, at)
            stop = at + 7 + size
            if size > largest and not self._may_be_larger(kind, number, size, largest):
                if end - at < 7 + _BEGINNING:
                    self._needed = 7 + _BEGINNING
                    break
                at = self._cut(data, at, number, size)
                continue
            if stop >= end:
                if kind not in _KINDS:  # whole frames are looked at by their channel
                    raise ProtocolError(f"a frame of type {kind}")
                self._needed = size + OVERHEAD
                break
            if data[stop] != FRAME_END:
                raise ProtocolError(f"a frame that ends with {data[stop]:#04x}")
            channel = channels.get(number) or self._channel(number)
            if not channel.take(kind, data, at + 7, stop):
                passed.append(data[at : stop + 1])
            at = stop + 1
        if passed:
            self._pass_on(b"".join(passed))
        else:
            self._keep_alive()
        return at

    def _may_be_larger(self, kind: int, number: int, size: int, largest: int) -> bool:
        """Whether to take a frame that is larger than was agreed on; if not, it is to be cut.

        Raises:
            ProtocolError: it is neither taken nor cut.
        """
        channel = self._contents.get(number)
        if kind != FRAME_HEADER or channel is None or not channel.expects_header:
            raise ProtocolError(f"a frame of {size} bytes; at most {largest} are taken")
        if size <= max(largest, DEFAULT_FRAME_MAX) * HEADERS_GROW:
            return True
        if not channel.is_diverted:
            raise ProtocolError(f"a header frame of {size} bytes, for aiormq")
        return False

    def _cut(self, data: bytes, at: int, number: int, size: int) -> int:
        """Take the beginning of a header frame, and skip the rest: whoever gets the message sees
        that its properties cannot be read, and deals with it alone. Closing the connection over it
        would give back all others, too, and it would come again."""
        _logger.warning("header frame cut", extra={"channel": number, "bytes": size})
        start = at + 7
        self._contents[number].take(FRAME_HEADER, data, start, start + _BEGINNING)
        self._skipped = size + 1 - _BEGINNING
        return self._skip(start + _BEGINNING, len(data))

    def _skip(self, at: int, end: int) -> int:
        skipped = min(self._skipped, end - at)
        self._skipped -= skipped
        return at + skipped

    def _pass_on(self, frames: bytes) -> None:
        self._fed_at = self._event_loop.time()
        super().data_received(frames)

    def _keep_alive(self) -> None:
        """Show aiormq that the peer lives: it sees none of the frames that say so."""
        if self._diverting and self._event_loop.time() - self._fed_at >= _HEARTBEAT_EVERY:
            self._pass_on(HEARTBEAT_FRAME)

    def _channel(self, number: int) -> ChannelContents:
        channel = self._contents.get(number)
        if channel is None:
            channel = self._channels[number] = self._contents[number] = ChannelContents(self)
        return channel


class SplitterTransportFactory(TransportFactory):
    """Opens aiormq's transports with a splitter in them: ``aiormq.connect(transport_factory=...)``.

    Args:
        place: the address to connect to.

    Attributes:
        protocol: the splitter of the connection that was opened last.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self.protocol: SplitterProtocol | None = None

    async def create(
        self, url: URL, **kwargs: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection; with TLS when the URL's scheme is ``amqps``.

        Args:
            url: its scheme is used.
            kwargs: aiormq's `ssl_context_provider`; `limit`, as for `asyncio.open_connection`;
                the rest goes to the event loop's `create_connection`.

        Raises:
            AMQPConnectionError: as aiormq's own factories, for every OSError.
        """
        provider = kwargs.pop("ssl_context_provider", None)
        context: ssl.SSLContext | None = None
        if url.scheme == "amqps":
            context = await provider.get_context()
        loop = asyncio.get_running_loop()
        limit = kwargs.pop("limit", 2**16)

        reader = asyncio.StreamReader(limit=limit, loop=loop)

        def make() -> SplitterProtocol:
            nonlocal reader  # held here: the protocol itself has only a weak reference to it
            reader = asyncio.StreamReader(limit=limit, loop=loop)
            return SplitterProtocol(reader, loop)

        try:
            transport, protocol = await connect(make, self._place, context, **kwargs)
        except OSError as problem:
            raise AMQPConnectionError(*problem.args) from problem
        self.protocol = protocol
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
