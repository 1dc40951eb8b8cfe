"""One channel of a connection: its frames put together into calls of the model.

Publishes and acknowledgements are most of the traffic and are read by hand; `dispatch` does the
rest. The order of the checks, and the words, are those of rabbit_command_assembler.erl and
rabbit_channel.erl.

Changes when the way a message travels in frames does.
"""

from functools import lru_cache
from struct import Struct
from typing import Any, Final, Protocol

from amqpjobs.broker.amqp.frames import FRAME_BODY, FRAME_HEADER, FRAME_METHOD
from amqpjobs.broker.embedded.errors import NOT_IMPLEMENTED, PRECONDITION_FAILED, Refusal
from amqpjobs.broker.embedded.model.vhost import VirtualHost
from amqpjobs.broker.embedded.refusals import (
    COMMAND_INVALID,
    FRAME_ERROR,
    UNEXPECTED_FRAME,
    undecodable,
)
from amqpjobs.broker.embedded.server import dispatch
from amqpjobs.broker.embedded.server.handshake import Handshake
from amqpjobs.broker.embedded.server.host import Host
from amqpjobs.broker.embedded.server.methods import NUMBERS, SIGNATURES, decode, encode
from amqpjobs.broker.embedded.server.outgoing import ChannelSink, Outgoing
from amqpjobs.errors import DecodeError

LARGEST_BODY: Final = 512 * 1024 * 1024
"""Bytes. RabbitMQ takes no larger one whatever it is told (rabbit.hrl)."""

_PUBLISH = NUMBERS["basic.publish"]
_ACK, _NACK = NUMBERS["basic.ack"], NUMBERS["basic.nack"]
_CLOSE, _CLOSE_OK = NUMBERS["channel.close"], NUMBERS["channel.close-ok"]
_AWAIT_DISPATCH = frozenset(
    map(NUMBERS.__getitem__, ("basic.consume", "basic.recover", "queue.delete"))
)
_WITH_CONTENT = frozenset(map(NUMBERS.__getitem__, ("basic.deliver", "basic.return")))

_NUMBER = Struct(">I")
_ACKNOWLEDGEMENT = Struct(">QB")
_HEADER = Struct(">HHQ")
_NOT_A_BODY = "expected content body, got non content body frame instead"
_NO_PROPERTIES = bytes(2)


class Carrier(Protocol):
    """The connection, as its channels know it."""

    @property
    def broker(self) -> Host:
        """Whose connection it is."""
        ...

    @property
    def virtual_host(self) -> VirtualHost:
        """The one that its client has opened."""
        ...

    @property
    def handshake(self) -> Handshake:
        """How it began: who has logged in."""
        ...

    @property
    def out(self) -> Outgoing:
        """Its writing half."""
        ...

    def forget(self, channel: "ServedChannel") -> None:
        """That channel is closed on both sides; its number is free."""
        ...


class ServedChannel:
    """The server's half of one open channel.

    Attributes:
        number: the channel's.
        model: what AMQP says of it.
        sink: what the model says to it.
        closing: whether the broker has closed it, and the client has not yet said that it knows.
            What comes meanwhile is ignored.
        method: number of the method that was received last, for the error that it may bring.
    """

    def __init__(self, connection: Carrier, number: int) -> None:
        self.number = number
        self.closing = False
        self.method = 0
        self._connection = connection
        self._faults = connection.broker.faults
        self._confirms = False
        self._publish: tuple[str, str, bool, bool] | None = None  # its content is to come
        self._header = b""
        self._missing = 0  # bytes of the body
        self._body: list[bytes] | None = None  # None: the header is to come
        self._size = 0
        self.sink = ChannelSink(number, connection.out, self._faults, self._failed)
        self.model = connection.virtual_host.open_channel(
            connection, self.sink, number=number, user=connection.handshake.user
        )

    def __repr__(self) -> str:
        return f"<ServedChannel {self.number}{' closing' if self.closing else ''}>"

    def take(self, kind: int, data: bytes, at: int, stop: int) -> None:
        """One frame: `data[at:stop]` is its payload.

        Raises:
            Refusal: the channel or the connection is to be closed for it.
        """
        if self._publish is not None:
            self._take_content(kind, data, at, stop)
        elif kind != FRAME_METHOD:
            self._unexpected("expected method frame, got non method frame instead")
        else:
            (number,) = _NUMBER.unpack_from(data, at)
            self.method = number
            if number == _PUBLISH:
                self._publish = _read_publish(data[at + 4 : stop])
            elif number == _ACK:
                tag, bits = _ACKNOWLEDGEMENT.unpack_from(data, at + 4)
                if not self.closing:
                    self.model.ack(tag, bits & 1 == 1)
            elif number == _NACK:
                tag, bits = _ACKNOWLEDGEMENT.unpack_from(data, at + 4)
                if not self.closing:
                    self.model.nack(tag, bits & 1 == 1, bits & 2 == 2)
            else:
                self._take_method(number, data, at, stop)

    def fail(self, refusal: Refusal) -> None:
        """Close the channel for that; the connection lives on."""
        if not self.closing:
            self.model.close()
            self._failed(refusal)

    def _failed(self, refusal: Refusal) -> None:
        self.closing = True
        out = self._connection.out
        out.write(self.sink.take_confirms())
        out.write(
            encode(
                self.number,
                "channel.close",
                code=refusal.code,
                text=refusal.text,
                class_id=self.method >> 16,
                method_id=self.method & 0xFFFF,
            )
        )

    def _take_content(self, kind: int, data: bytes, at: int, stop: int) -> None:
        if self._body is None:
            self._take_header(kind, data, at, stop)
        elif kind == FRAME_BODY:
            length = stop - at
            if length > self._missing:
                if self._connection.broker.profile.version == "3.10":
                    self._unexpected(_NOT_A_BODY)
                self._drop_content()
                raise Refusal(FRAME_ERROR, "content body frame exceeds remaining content size")
            self._missing -= length
            if self._size <= self._connection.broker.profile.max_message_size:
                self._body.append(data[at:stop])  # a larger one is refused, when it is over
        else:
            self._unexpected(_NOT_A_BODY)
        if not self._missing:
            self._take_message()

    def _take_header(self, kind: int, data: bytes, at: int, stop: int) -> None:
        if kind != FRAME_HEADER:
            self._unexpected(
                "expected content header for class 60, got non content header frame instead"
            )
        class_id, weight, size = _HEADER.unpack_from(data, at)
        if class_id != 60 or weight:
            self._unexpected(
                f"expected content header for class 60, got one for class {class_id} instead"
            )
        if size > LARGEST_BODY:
            self._drop_content()
            text = f"content body size {size} exceeds maximum allowed size {LARGEST_BODY}"
            raise Refusal(FRAME_ERROR, text)
        self._header = data[at + 12 : stop]
        self._missing = self._size = size
        self._body = []

    def _take_message(self) -> None:
        publish, body, size = self._publish, self._body, self._size
        self._drop_content()
        if self.closing or publish is None or body is None:
            return
        largest = self._connection.broker.profile.max_message_size
        if size > largest:
            text = f"message size {size} is larger than configured max size {largest}"
            raise Refusal(PRECONDITION_FAILED, text)
        exchange, routing_key, mandatory, immediate = publish
        if immediate:
            raise Refusal(NOT_IMPLEMENTED, "immediate=true")
        content = body[0] if len(body) == 1 else b"".join(body)
        if self._faults.effects and self._confirms and self._faults.refuses_publish():
            # An empty message to no queue at all: the model counts the publish, and keeps nothing.
            self.sink.refuse_confirms(True)
            self.model.publish("", "", _NO_PROPERTIES, b"")
            self.sink.refuse_confirms(False)
            return
        self.model.publish(exchange, routing_key, self._header, content, mandatory=mandatory)

    def _drop_content(self) -> None:
        self._publish = self._body = None
        self._missing = 0

    def _unexpected(self, explanation: str) -> None:
        self._drop_content()
        raise Refusal(UNEXPECTED_FRAME, explanation)

    def _take_method(self, number: int, data: bytes, at: int, stop: int) -> None:
        signature = SIGNATURES.get(number)
        if signature is None or number in _WITH_CONTENT:
            raise Refusal(COMMAND_INVALID, "unimplemented method")
        try:
            fields = decode(signature, data, at + 4, stop)
        except DecodeError as problem:
            raise undecodable(data[at + 4 : stop]) from problem
        connection = self._connection
        if number == _CLOSE:
            self._close()
        elif self.closing:
            if number == _CLOSE_OK:
                connection.forget(self)
        else:
            self._carry_out(signature.name, number, fields)

    def _carry_out(self, name: str, number: int, fields: dict[str, Any]) -> None:
        # RabbitMQ confirms what no queue takes before it looks at the next method, and both may
        # have come in one read.
        confirms = self.sink.take_confirms()
        if confirms:
            self._connection.out.write(confirms)
        if name == "basic.get":
            delivery = self.model.get(**fields)
            if delivery is None:
                self._connection.out.write(encode(self.number, "basic.get-empty"))
            else:
                self.sink.got(delivery)
            return
        answer = dispatch.call(self.model, name, fields)
        if name == "confirm.select":
            self._confirms = True
        if answer is not None:
            self._connection.out.write(encode(self.number, answer[0], **answer[1]))
        if number in _AWAIT_DISPATCH:
            self.model.vhost.dispatch()

    def _close(self) -> None:
        """The client closes it. When the broker has done so as well it still waits for its answer:
        a client that gives up a channel may answer both ways."""
        if not self.closing:
            self.model.close()
            self._connection.forget(self)
            self._connection.out.write(self.sink.take_confirms())
        self._connection.out.write(encode(self.number, "channel.close-ok"))


# The few exchanges and keys of a publisher come again and again. Bounded, because a publisher of
# replies makes its keys up.
@lru_cache(maxsize=4096)
def _read_publish(arguments: bytes) -> tuple[str, str, bool, bool]:
    """Exchange, routing key, mandatory, immediate."""
    try:
        fields = decode(SIGNATURES[_PUBLISH], arguments, 0, len(arguments))
    except DecodeError as problem:
        raise undecodable(arguments) from problem
    return fields["exchange"], fields["routing_key"], fields["mandatory"], fields["immediate"]
