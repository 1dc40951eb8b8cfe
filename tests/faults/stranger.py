"""A stranger: a client that is not ours, which writes whatever bytes it likes into a message.

Synchronous and slow, over one socket. It shares nothing with amqpjobs but pamqp's method frames.
"""

import socket
import struct
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import unquote, urlsplit

from pamqp import commands, frame, header
from pamqp.base import Frame

TIMEOUT: Final = 20.0
FRAME_MAX: Final = 131072
CLIENT: Final = {"capabilities": {"consumer_cancel_notify": True}}


class Refused(Exception):
    """The broker closed the channel or the connection."""


class Stranger:
    """One connection with one channel, in confirm mode."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname, parts.port), TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self._published = 0
        login = f"\0{unquote(parts.username or '')}\0{unquote(parts.password or '')}"
        vhost = unquote(parts.path[1:]) or "/"
        self._socket.sendall(header.ProtocolHeader().marshal())
        self._expect(commands.Connection.Start)
        self._send(commands.Connection.StartOk(CLIENT, "PLAIN", login, "en_US"), 0)
        self._expect(commands.Connection.Tune)
        self._send(commands.Connection.TuneOk(16, FRAME_MAX, 0), 0)
        self.call(commands.Connection.Open(vhost), commands.Connection.OpenOk, 0)
        self.call(commands.Channel.Open(), commands.Channel.OpenOk)
        self.call(commands.Confirm.Select(), commands.Confirm.SelectOk)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave without a word."""
        self._socket.close()

    def _send(self, method: Frame, channel: int = 1) -> None:
        self._socket.sendall(frame.marshal(method, channel))

    def _read(self) -> tuple[int, bytes]:
        """One frame: its kind, and its payload."""
        while True:
            if len(self._buffer) >= 7:
                kind, _, size = struct.unpack_from(">BHI", self._buffer)
                if len(self._buffer) >= size + 8:
                    payload, self._buffer = self._buffer[7 : size + 7], self._buffer[size + 8 :]
                    return kind, payload
            data = self._socket.recv(1 << 20)
            if not data:
                raise Refused("the broker closed the connection")
            self._buffer += data

    def _expect(self, *kinds: type[Any]) -> Any:
        while True:
            kind, payload = self._read()
            if kind != 1:
                continue
            whole = struct.pack(">BHI", 1, 1, len(payload)) + payload + b"\xce"
            method: Any = frame.unmarshal(whole)[2]
            if isinstance(method, kinds):
                return method
            if isinstance(method, commands.Channel.Close | commands.Connection.Close):
                raise Refused(f"{method.reply_code} {method.reply_text}")

    def call(self, method: Frame, answer: type[Any], channel: int = 1) -> Any:
        """One method and its answer."""
        self._send(method, channel)
        return self._expect(answer)

    def publish(self, queue: str, body: bytes, properties: bytes, exchange: str = "") -> None:
        """Publish, and wait for the confirm.

        Args:
            properties: what stands in the content header behind the body's size: flags, fields.

        Raises:
            Refused: the broker did not want it.
        """
        parts = [
            frame.marshal(commands.Basic.Publish(0, exchange, queue), 1),
            _frame(2, struct.pack(">HHQ", 60, 0, len(body)) + properties),
        ]
        step = FRAME_MAX - 8
        parts += [_frame(3, body[at : at + step]) for at in range(0, len(body), step)]
        self._socket.sendall(b"".join(parts))
        answer = self._expect(commands.Basic.Ack, commands.Basic.Nack)
        if isinstance(answer, commands.Basic.Nack):
            raise Refused("nacked")

    def ready(self, queue: str) -> int:
        """How many messages wait."""
        answer = self.call(
            commands.Queue.Declare(queue=queue, passive=True), commands.Queue.DeclareOk
        )
        return int(answer.message_count)

    def consumers(self, queue: str) -> int:
        """How many consume it."""
        answer = self.call(
            commands.Queue.Declare(queue=queue, passive=True), commands.Queue.DeclareOk
        )
        return int(answer.consumer_count)

    def delete(self, queue: str) -> None:
        """Delete a queue with all that is in it."""
        self.call(commands.Queue.Delete(queue=queue), commands.Queue.DeleteOk)

    def drain(self, queue: str) -> list[tuple[bytes, bytes]]:
        """Take everything out of a queue: content headers (flags on) and bodies."""
        found = []
        while True:
            self._send(commands.Basic.Get(queue=queue, no_ack=True))
            answer = self._expect(commands.Basic.GetOk, commands.Basic.GetEmpty)
            if isinstance(answer, commands.Basic.GetEmpty):
                return found
            _, payload = self._read()
            size = struct.unpack_from(">Q", payload, 4)[0]
            body = b""
            while len(body) < size:
                body += self._read()[1]
            found.append((payload, body))


def message_id(properties: bytes) -> str:
    """The id of a message that was drained."""
    content = header.ContentHeader()
    content.unmarshal(properties)
    return str(content.properties.message_id)


def _frame(kind: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, 1, len(payload)) + payload + b"\xce"
