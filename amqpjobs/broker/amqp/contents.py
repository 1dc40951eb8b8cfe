"""The messages on their way on one channel: put together from their frames, and handed over.

A message comes as a method frame, a header frame and as many body frames as it needs. Frames of
other channels may stand in between, frames of its own channel may not. Where it goes is decided
by its method frame, once: a message never reaches one reader by half.

Changes when messages travel in other frames.
"""

from collections.abc import Callable
from enum import Enum, auto
from struct import Struct
from typing import Any, Protocol

from amqpjobs.broker.amqp.frames import FRAME_BODY, FRAME_HEADER, FRAME_METHOD
from amqpjobs.errors import ProtocolError

_DELIVERY = Struct(">QBB")  # delivery tag, redelivered, length of the exchange's name
_CONFIRM = Struct(">QB")
_CODE = Struct(">H")
_HEADER = Struct(">IQ")
_CLASS_AND_WEIGHT = 60 << 16


class Sink(Protocol):
    """Takes the hot frames of one channel.

    Called while bytes are being read, so it must be quick. If it raises, the connection is closed.
    """

    def delivered(
        self,
        consumer_tag: bytes,
        delivery_tag: int,
        redelivered: bool,
        exchange: bytes,
        routing_key: bytes,
        header: bytes,
        body: bytes,
    ) -> None:
        """A message for a consumer; `header` is for `amqpjobs.broker.amqp.frames.split_header`."""

    def returned(
        self,
        code: int,
        text: str,
        exchange: bytes,
        routing_key: bytes,
        header: bytes,
        body: bytes,
    ) -> None:
        """A mandatory message that could not be routed. Its confirm comes after this."""

    def confirmed(self, delivery_tag: int, multiple: bool, acked: bool) -> None:
        """The broker took a message (`acked`) or refused it; all up to it when `multiple`."""


class IdleSink:
    """A sink that drops everything. A channel's sink overrides what the channel is used for."""

    def delivered(
        self,
        consumer_tag: bytes,
        delivery_tag: int,
        redelivered: bool,
        exchange: bytes,
        routing_key: bytes,
        header: bytes,
        body: bytes,
    ) -> None:
        """Nothing is consumed on this channel."""

    def returned(
        self, code: int, text: str, exchange: bytes, routing_key: bytes, header: bytes, body: bytes
    ) -> None:
        """Nothing is published on this channel with the mandatory flag."""

    def confirmed(self, delivery_tag: int, multiple: bool, acked: bool) -> None:
        """This channel has no publisher confirms."""


class Owner(Protocol):
    """The connection that a channel's messages come from."""

    max_body_size: int

    def callback_failed(self, problem: Exception) -> None:
        """A sink raised."""

    def flush(self) -> None:
        """Write what waits to be written."""


class _Expected(Enum):
    METHOD = auto()
    HEADER = auto()
    BODY = auto()


_METHOD, _HEADER_NEXT, _BODY_NEXT = _Expected  # globals are quicker to reach than enum members


def _drop(*_: object) -> None:
    """Where a message goes whose sink left while it was on its way."""


class ChannelContents:
    """The state of one channel between two frames.

    Attributes:
        sink: takes this channel's messages and confirms; None while they are aiormq's.
        on_close: called when the broker closes the channel, ahead of aiormq's answer.
    """

    __slots__ = (
        "_arguments",
        "_body",
        "_expected",
        "_hand_over",
        "_header",
        "_left",
        "_owner",
        "on_close",
        "sink",
    )

    def __init__(self, owner: Owner) -> None:
        self.sink: Sink | None = None
        self.on_close: Callable[[], None] | None = None
        self._owner = owner
        self._expected = _METHOD
        # Who gets the message that is on its way; None when that is aiormq.
        self._hand_over: Callable[..., None] | None = None
        self._arguments: tuple[Any, ...] = ()
        self._header = b""
        self._left = 0
        self._body = bytearray()

    def __repr__(self) -> str:
        return f"<ChannelContents expects {self._expected.name}, sink={self.sink!r}>"

    @property
    def expects_header(self) -> bool:
        """Whether the next frame is to be the header of a message."""
        return self._expected is _HEADER_NEXT

    @property
    def is_diverted(self) -> bool:
        """Whether the message that is on its way is not aiormq's."""
        return self._hand_over is not None

    def leave(self) -> None:
        """Give the channel back to aiormq. A message that is half here is dropped, not passed on:
        aiormq has not seen its beginning."""
        self.sink = None
        self.on_close = None
        if self._hand_over is not None:
            self._hand_over = _drop

    def take(self, kind: int, data: bytes, start: int, stop: int) -> bool:
        """Take the frame whose payload is ``data[start:stop]``; false when it is aiormq's.

        Raises:
            ProtocolError: AMQP does not allow this frame here.
        """
        if kind == FRAME_METHOD:
            if self._expected is not _METHOD:
                raise ProtocolError("a method frame in the middle of a message")
            handler = _HANDLERS.get(data[start : start + 4])
            return handler is not None and handler(self, data, start + 4, stop)
        if kind == FRAME_HEADER:
            return self._take_header(data[start:stop])
        if kind == FRAME_BODY:
            return self._take_body(data[start:stop])
        raise ProtocolError(f"a frame of type {kind} on a channel")

    def _take_header(self, payload: bytes) -> bool:
        if self._expected is not _HEADER_NEXT:
            raise ProtocolError("a header frame that belongs to no message")
        kind, size = _HEADER.unpack_from(payload)
        if kind != _CLASS_AND_WEIGHT:
            raise ProtocolError("a header frame that is not of AMQP's class basic")
        self._left = size
        self._expected = _BODY_NEXT if size else _METHOD
        if self._hand_over is None:
            return False
        if size > self._owner.max_body_size:
            raise ProtocolError(
                f"a message of {size} bytes; at most {self._owner.max_body_size} are taken"
            )
        self._header = payload
        if not size:
            self._finish(b"")
        return True

    def _take_body(self, payload: bytes) -> bool:
        if self._expected is not _BODY_NEXT:
            raise ProtocolError("a body frame that belongs to no message")
        self._left -= len(payload)
        if self._left < 0 or not payload:
            raise ProtocolError("a body of another length than its header announced")
        if not self._left:
            self._expected = _METHOD
        if self._hand_over is None:
            return False
        if self._left:
            self._body += payload
        elif self._body:
            self._body += payload
            payload = bytes(self._body)
            self._body = bytearray()
            self._finish(payload)
        else:
            self._finish(payload)
        return True

    def _finish(self, body: bytes) -> None:
        hand_over = self._hand_over or _drop
        try:
            hand_over(*self._arguments, self._header, body)
        except Exception as problem:  # noqa: BLE001 - the owner logs it and closes the connection
            self._sink_failed(problem)

    def _sink_failed(self, problem: Exception) -> None:
        # It is not called again: one failure is enough to know, and to fill the log with.
        self.sink = _Deaf()
        self._owner.callback_failed(problem)

    def _deliver(self, data: bytes, at: int, stop: int) -> bool:
        self._expected = _HEADER_NEXT
        if self.sink is None:
            self._hand_over = None
            return False
        self._hand_over = self.sink.delivered
        tag_at = at + 1 + data[at]
        tag, redelivered, length = _DELIVERY.unpack_from(data, tag_at)
        exchange_at = tag_at + 10
        key_at = exchange_at + length + 1
        exchange = data[exchange_at : key_at - 1]
        self._arguments = (
            data[at + 1 : tag_at],
            tag,
            redelivered & 1 == 1,
            exchange,
            data[key_at:stop],
        )
        _check_end(key_at + data[key_at - 1], stop)
        return True

    def _return(self, data: bytes, at: int, stop: int) -> bool:
        self._expected = _HEADER_NEXT
        if self.sink is None:
            self._hand_over = None
            return False
        self._hand_over = self.sink.returned
        (code,) = _CODE.unpack_from(data, at)
        text, at = _short(data, at + 2)
        exchange, at = _short(data, at)
        key, at = _short(data, at)
        _check_end(at, stop)
        self._arguments = (code, text.decode(errors="replace"), exchange, key)
        return True

    def _get_ok(self, _data: bytes, _at: int, _stop: int) -> bool:
        self._expected = _HEADER_NEXT
        self._hand_over = None
        return False

    def _close(self, _data: bytes, _at: int, _stop: int) -> bool:
        """The broker gives the channel up. It ignores what it still gets on it until aiormq has
        said `channel.close-ok`; the first frame after that costs the whole connection (504)."""
        on_close, self.on_close = self.on_close, None
        if on_close is not None:
            try:
                on_close()
            except Exception as problem:  # noqa: BLE001 - the owner logs it and closes the connection
                self._sink_failed(problem)
            self._owner.flush()
        return False

    def _ack(self, data: bytes, at: int, stop: int) -> bool:
        return self._confirm(data, at, stop, True)

    def _nack(self, data: bytes, at: int, stop: int) -> bool:
        return self._confirm(data, at, stop, False)

    def _confirm(self, data: bytes, at: int, stop: int, acked: bool) -> bool:
        if self.sink is None:
            return False
        tag, bits = _CONFIRM.unpack_from(data, at)
        _check_end(at + 9, stop)
        try:
            self.sink.confirmed(tag, bits & 1 == 1, acked)
        except Exception as problem:  # noqa: BLE001 - the owner logs it and closes the connection
            self._sink_failed(problem)
        return True


_HANDLERS: dict[bytes, Callable[[ChannelContents, bytes, int, int], bool]] = {
    bytes((0, 20, 0, 40)): ChannelContents._close,
    bytes((0, 60, 0, 50)): ChannelContents._return,
    bytes((0, 60, 0, 60)): ChannelContents._deliver,
    bytes((0, 60, 0, 71)): ChannelContents._get_ok,
    bytes((0, 60, 0, 80)): ChannelContents._ack,
    bytes((0, 60, 0, 120)): ChannelContents._nack,
}
"""By class and method, as they stand on the wire."""


class _Deaf:
    """Stands in for a sink that failed, until its connection is closed."""

    delivered = returned = confirmed = staticmethod(_drop)


def _short(data: bytes, at: int) -> tuple[bytes, int]:
    start = at + 1
    stop = start + data[at]
    return data[start:stop], stop


def _check_end(at: int, stop: int) -> None:
    if at != stop:
        raise ProtocolError("a method frame whose arguments do not fill it")
