"""AMQP 0-9-1 frames on a blocking socket: nothing stands between a test and its broker."""

import socket
import time
from typing import Final, TypeAlias

from pamqp import body, frame, header, heartbeat
from pamqp.base import Frame as Method

PATIENCE: Final = 10.0
"""Seconds after which an answer will not come any more; the machine may be busy."""

Frame: TypeAlias = (
    Method | header.ContentHeader | body.ContentBody | heartbeat.Heartbeat | header.ProtocolHeader
)


class HungUpError(Exception):
    """The broker closed the socket."""


class Wire:
    """One TCP connection."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), timeout=PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = bytearray()

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def send(self, channel: int, *frames: Frame) -> None:
        """Send frames on one channel, in one piece."""
        self.write(b"".join(frame.marshal(each, channel) for each in frames))

    def receive(self, patience: float = PATIENCE) -> tuple[int, Frame]:
        """Wait for the next frame.

        Raises:
            HungUpError: the broker has closed the socket.
            TimeoutError: no frame in time.
        """
        deadline = time.monotonic() + patience
        while True:
            if complete := self._take():
                return complete
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                data = self._socket.recv(65536)
            except ConnectionError:
                data = b""
            if not data:
                raise HungUpError
            self._read += data

    def _take(self) -> tuple[int, Frame] | None:
        read = self._read
        if read[:4] == b"AMQP":
            size = 8  # the broker's answer to a greeting that it does not speak
        elif len(read) < 7:
            return None
        else:
            size = int.from_bytes(read[3:7], "big") + 8
        if len(read) < size:
            return None
        _, channel, found = frame.unmarshal(bytes(read[:size]))
        del read[:size]
        return channel, found

    def shut(self) -> None:
        """End the connection without a word, as a machine that is switched off."""
        self._socket.close()
