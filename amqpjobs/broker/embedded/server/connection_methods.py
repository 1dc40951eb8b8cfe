"""The frames of no open channel: the connection's own methods, and the opening of channels.

The order of the checks is that of rabbit_reader.erl. Changes when a method of the connection
comes into use.
"""

from struct import Struct
from typing import Any, Protocol

from amqpjobs.broker.amqp.frames import FRAME_BODY, FRAME_HEADER, FRAME_HEARTBEAT, FRAME_METHOD
from amqpjobs.broker.embedded.errors import NOT_ALLOWED, Refusal
from amqpjobs.broker.embedded.refusals import (
    CHANNEL_ERROR,
    COMMAND_INVALID,
    FRAME_ERROR,
    UNEXPECTED_FRAME,
    idle_frame,
    unexpected_frame,
)
from amqpjobs.broker.embedded.server.channel import Carrier, ServedChannel
from amqpjobs.broker.embedded.server.handshake import Handshake
from amqpjobs.broker.embedded.server.heartbeats import Heartbeats
from amqpjobs.broker.embedded.server.methods import NUMBERS, SIGNATURES, decode, encode
from amqpjobs.errors import DecodeError

_NUMBER = Struct(">I")
_KINDS = frozenset({FRAME_METHOD, FRAME_HEADER, FRAME_BODY, FRAME_HEARTBEAT})
_CHANNEL_OPEN = NUMBERS["channel.open"]
_CLOSE, _CLOSE_OK = NUMBERS["connection.close"], NUMBERS["connection.close-ok"]


class Controlled(Carrier, Protocol):
    """The connection, as its methods act on it; `Connection` says what each of these is."""

    channels: dict[int, ServedChannel]
    handshake: Handshake
    heartbeats: Heartbeats
    paused: bool

    @property
    def state(self) -> str:
        """What it waits for."""
        ...

    def named(self, name: str) -> None:
        """The client has said its name."""
        ...

    def opened(self) -> None:
        """The handshake is over."""
        ...

    def give_up_channels(self) -> None:
        """Give back what its channels hold."""
        ...

    def hang_up(self) -> None:
        """Send what was said, and say no more."""
        ...


class Control:
    """Takes what no channel of one connection does."""

    def __init__(self, connection: Controlled) -> None:
        self._connection = connection

    def take(self, kind: int, number: int, data: bytes, at: int, stop: int) -> None:
        """One frame: `data[at:stop]` is its payload.

        Raises:
            Refusal: the connection is to be closed for it.
        """
        if self._connection.state == "closing":
            self._take_last(kind, number, data, at)
        elif kind not in _KINDS or (kind == FRAME_HEARTBEAT and (number or at != stop)):
            raise idle_frame(kind, data[at:stop])
        elif kind == FRAME_HEARTBEAT:
            return  # that it came has been noted
        elif number == 0 and kind == FRAME_METHOD:
            self._take_method(data, at, stop)
        elif number == 0 or self._connection.state != "running":
            raise unexpected_frame(kind, data[at:stop])
        elif kind != FRAME_METHOD:
            raise Refusal(UNEXPECTED_FRAME, "expected method frame, got non method frame instead")
        else:
            self._open_channel(number, _NUMBER.unpack_from(data, at)[0])

    def _take_last(self, kind: int, number: int, data: bytes, at: int) -> None:
        """After the broker has said `connection.close` it waits for the answer, and for no more."""
        if kind == FRAME_METHOD and number == 0:
            (method,) = _NUMBER.unpack_from(data, at)
            if method == _CLOSE:
                self._connection.out.write(encode(0, "connection.close-ok"))
            elif method == _CLOSE_OK:
                self._connection.hang_up()

    def _take_method(self, data: bytes, at: int, stop: int) -> None:
        connection = self._connection
        signature = SIGNATURES.get(_NUMBER.unpack_from(data, at)[0])
        if signature is None:
            raise Refusal(COMMAND_INVALID, "unimplemented method")
        try:
            fields = decode(signature, data, at + 4, stop)
        except DecodeError as problem:
            # Without the bytes, which RabbitMQ repeats: there may be a password among them.
            raise Refusal(FRAME_ERROR, str(problem)) from problem
        running = connection.state == "running"
        if signature.number == _CLOSE and running:
            connection.give_up_channels()
            connection.out.write(encode(0, "connection.close-ok"))
            connection.hang_up()
        elif signature.name == "connection.update-secret" and running:
            connection.out.write(encode(0, "connection.update-secret-ok"))
        elif running:
            raise Refusal(CHANNEL_ERROR, "unexpected method in connection state running")
        else:
            self._shake_hands(signature.name, fields)

    def _shake_hands(self, method: str, fields: dict[str, Any]) -> None:
        connection, handshake = self._connection, self._connection.handshake
        answer = handshake.answer(method, fields)
        if answer:
            connection.out.write(answer)
        if method == "connection.start-ok":
            connection.named(str(handshake.client_properties.get("connection_name", "")))
        elif method == "connection.tune-ok":
            connection.out.frame_max = handshake.frame_max
            connection.heartbeats.start(handshake.heartbeat)
        else:
            connection.opened()

    def _open_channel(self, number: int, method: int) -> None:
        connection = self._connection
        count, most = len(connection.channels), connection.handshake.channel_max
        if count >= most:
            raise Refusal(
                NOT_ALLOWED,
                f"number of channels opened ({count}) has reached the negotiated "
                f"channel_max ({most})",
            )
        if method != _CHANNEL_OPEN:
            raise Refusal(CHANNEL_ERROR, "expected 'channel.open'")
        channel = connection.channels[number] = ServedChannel(connection, number)
        if connection.paused:
            channel.model.pause()
        connection.out.write(encode(number, "channel.open-ok"))
