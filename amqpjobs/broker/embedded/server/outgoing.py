"""What leaves for one client: whole frames, written together once per turn of the event loop.

Deliveries, returns and confirms are most of it and are packed here by hand. The rest comes from
`methods.encode`.

Changes when the way bytes leave the broker does.
"""

import asyncio
from collections.abc import Callable, Iterator
from functools import lru_cache
from struct import Struct

from amqpjobs.broker.amqp.fields import short_string
from amqpjobs.broker.amqp.frames import (
    FRAME_BODY,
    FRAME_END,
    FRAME_HEADER,
    FRAME_METHOD,
    OVERHEAD,
    encode_ack,
    encode_nack,
)
from amqpjobs.broker.embedded.errors import Refusal
from amqpjobs.broker.embedded.model.confirming import AnsweredPublishes
from amqpjobs.broker.embedded.model.messages import Message
from amqpjobs.broker.embedded.model.sink import Delivery
from amqpjobs.broker.embedded.server.host import MessageFaults
from amqpjobs.broker.embedded.server.methods import encode

FLUSH_AT = 65536
"""Bytes after which a write does not wait for the turn's end: a burst of deliveries would be out
of the transport's sight until then, and a slow reader found too late."""

DEFAULT_FRAME_MAX = 4096

_BASIC = 60
_DELIVER = bytes((0, _BASIC, 0, 60))
_END = bytes((FRAME_END,))
_FRAME = Struct(">BHI")
_TAG = Struct(">QB")
_HEADER = Struct(">BHIHHQ")
_BODY = Struct(">BBHI")  # the end of the frame before, and the start of a body's


class Outgoing:
    """The writing half of a connection.

    Attributes:
        frame_max: the largest frame that the client takes, in bytes.
        spoke: whether anything was sent since somebody last set this to False.
        trim: what a fault makes of the bytes that leave; None for nothing.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.frame_max = DEFAULT_FRAME_MAX
        self.spoke = False
        self.trim: Callable[[bytes], bytes] | None = None
        self._transport = transport
        self._call_soon = loop.call_soon
        self._parts: list[bytes] = []
        self._size = 0
        self._confirming: list[ChannelSink] = []
        self._scheduled = False

    @property
    def waiting(self) -> int:
        """Bytes that the client has not taken yet."""
        return self._size + self._transport.get_write_buffer_size()

    def write(self, frames: bytes) -> None:
        """Send whole frames behind what was written before."""
        self._parts.append(frames)
        self._size += len(frames)
        if self._size >= FLUSH_AT:
            self.flush()
        elif not self._scheduled:
            self._scheduled = True
            self._call_soon(self.flush)

    def confirming(self, sink: "ChannelSink") -> None:
        """That channel has publishes to confirm: it is asked for them when the turn is over."""
        self._confirming.append(sink)
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self.flush)

    def flush(self) -> None:
        """Hand everything to the transport now."""
        self._scheduled = False
        if self._confirming:
            for sink in self._confirming:
                self._parts.append(sink.take_confirms())
            self._confirming.clear()
        if not self._parts:
            return
        frames = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        if self.trim is not None:
            frames = self.trim(frames)
        if frames and not self._transport.is_closing():
            self.spoke = True
            self._transport.write(frames)

    def content(self, channel: int, message: Message) -> bytes:
        """The header and body frames of a message."""
        header, body = message.header, message.body
        size = len(body)
        start = _HEADER.pack(FRAME_HEADER, channel, len(header) + 12, _BASIC, 0, size)
        if not size:
            return b"".join((start, header, _END))
        if size <= self.frame_max - OVERHEAD:
            frame = _BODY.pack(FRAME_END, FRAME_BODY, channel, size)
            return b"".join((start, header, frame, body, _END))
        return b"".join((start, header, *self._body_frames(channel, body), _END))

    def _body_frames(self, channel: int, body: bytes) -> Iterator[bytes | memoryview]:
        view = memoryview(body)
        most = self.frame_max - OVERHEAD
        for start in range(0, len(body), most):
            chunk = view[start : start + most]
            yield _BODY.pack(FRAME_END, FRAME_BODY, channel, len(chunk))
            yield chunk


class ChannelSink:
    """What the model says to one channel, as frames: a `Sink`.

    Args:
        number: the channel's.
        out: the connection's writing half.
        faults: what is done to confirms on request.
        failed: called with the refusal when the model has closed the channel by itself.
    """

    def __init__(
        self, number: int, out: Outgoing, faults: MessageFaults, failed: Callable[[Refusal], None]
    ) -> None:
        self.failed = failed
        self._number = number
        self._out = out
        self._faults = faults
        self._answered = AnsweredPublishes()
        self._confirmed: list[int] = []
        self._refusing = False

    def deliver(
        self, consumer_tag: str, delivery_tag: int, redelivered: bool, message: Message
    ) -> None:
        """`basic.deliver`, with the message's content."""
        front = _consumer(consumer_tag)
        back = _address(message.exchange, message.routing_key)
        number, size, header = self._number, len(message.body), message.header
        method = _FRAME.pack(FRAME_METHOD, number, len(front) + len(back) + 8)  # back has the end
        tag = _TAG.pack(delivery_tag, redelivered)
        if 0 < size <= self._out.frame_max - OVERHEAD:
            content = (
                _HEADER.pack(FRAME_HEADER, number, len(header) + 12, _BASIC, 0, size),
                header,
                _BODY.pack(FRAME_END, FRAME_BODY, number, size),
                message.body,
                _END,
            )
            self._out.write(b"".join((method, front, tag, back, *content)))
        else:
            content_frames = self._out.content(number, message)
            self._out.write(b"".join((method, front, tag, back, content_frames)))

    def returned(self, code: int, text: str, message: Message) -> None:
        """`basic.return`, with the message's content."""
        method = encode(
            self._number,
            "basic.return",
            code=code,
            text=text,
            exchange=message.exchange,
            routing_key=message.routing_key,
        )
        self._out.write(method + self._out.content(self._number, message))

    def got(self, delivery: Delivery) -> None:
        """`basic.get-ok`, with the message's content."""
        method = encode(
            self._number,
            "basic.get-ok",
            delivery_tag=delivery.delivery_tag,
            redelivered=delivery.redelivered,
            exchange=delivery.message.exchange,
            routing_key=delivery.message.routing_key,
            message_count=delivery.message_count,
        )
        self._out.write(method + self._out.content(self._number, delivery.message))

    def confirm(self, delivery_tag: int) -> None:
        """`basic.ack` of one publish, when this turn of the event loop is over."""
        if self._refusing:
            self.refuse(delivery_tag)
        elif not (
            self._faults.effects and self._faults.keeps_confirm(self.tell_confirmed, delivery_tag)
        ):
            self.tell_confirmed(delivery_tag)

    def tell_confirmed(self, delivery_tag: int) -> None:
        """As `confirm`, past all faults."""
        if not self._confirmed:
            self._out.confirming(self)
        self._confirmed.append(delivery_tag)

    def refuse(self, delivery_tag: int) -> None:
        """`basic.nack` of one publish."""
        self._out.write(self.take_confirms())
        self._answered.one(delivery_tag)
        self._out.write(encode_nack(self._number, delivery_tag, multiple=False, requeue=False))

    def refuse_confirms(self, refusing: bool) -> None:
        """Say `basic.nack` for `basic.ack` from now on, or no longer."""
        self._refusing = refusing

    def cancelled(self, consumer_tag: str) -> None:
        """`basic.cancel` by the broker."""
        self._out.write(
            encode(self._number, "basic.cancel", consumer_tag=consumer_tag, nowait=True)
        )

    def take_confirms(self) -> bytes:
        """The confirms that wait, as few frames as they can be."""
        if not self._confirmed:
            return b""
        runs = self._answered.runs(self._confirmed)
        self._confirmed = []
        return b"".join([encode_ack(self._number, tag, multiple) for tag, multiple in runs])


# Bounded, because clients make these names up.
@lru_cache(maxsize=1024)
def _consumer(tag: str) -> bytes:
    return _DELIVER + short_string(tag, "the consumer's tag")


@lru_cache(maxsize=4096)
def _address(exchange: str, routing_key: str) -> bytes:
    names = short_string(exchange, "the exchange"), short_string(routing_key, "the routing key")
    return b"".join((*names, _END))
