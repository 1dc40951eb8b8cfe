"""No client at all: blocking sockets, for latency.py. What is left is the broker's own time.

A publish is encoded before its clock starts, and a delivery's clock stops when its bytes are there,
before anything looks at them. Nothing is validated. No client can be faster.
"""

import json
import re
import socket
import time
from typing import Any
from urllib.parse import unquote, urlsplit

from pamqp import body, commands, frame, header
from protocol import Arguments, arguments

PAUSE = 0.005  # seconds between two publishes: the consumer is idle again
BUFFER = 65536


class Connection:
    """A connection with one channel."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port or 5672))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""
        self.last: Any = None
        self.socket.sendall(b"AMQP\x00\x00\x09\x01")
        self._read()
        login = f"\0{unquote(parts.username or 'guest')}\0{unquote(parts.password or 'guest')}"
        self._say(commands.Connection.StartOk({}, "PLAIN", login, "en_US"))
        tune = self._read()
        self._say(commands.Connection.TuneOk(tune.channel_max, tune.frame_max, 0))
        for channel, command in (
            (0, commands.Connection.Open(unquote(parts.path[1:]) or "/")),
            (1, commands.Channel.Open()),
        ):
            self._say(command, channel)
            self._read()

    def ask(self, command: Any) -> None:
        """Send a method on the channel, and wait for its answer, which is `last` then."""
        self._say(command, 1)
        self.last = self._read()

    def _say(self, command: Any, channel: int = 0) -> None:
        self.socket.sendall(frame.marshal(command, channel))

    def _read(self) -> Any:
        while True:
            used, _, found = frame.unmarshal(self._received) if self._received else (0, 0, None)
            if found is not None:
                self._received = self._received[used:]
                return found
            self._received += self.socket.recv(BUFFER)


def message(queue: str, text: bytes) -> bytes:
    """A persistent, mandatory publish, as bytes."""
    properties = commands.Basic.Properties(delivery_mode=2)
    return b"".join(
        (
            frame.marshal(commands.Basic.Publish(routing_key=queue, mandatory=True), 1),
            frame.marshal(header.ContentHeader(body_size=len(text), properties=properties), 1),
            frame.marshal(body.ContentBody(text), 1),
        )
    )


def publish(args: Arguments) -> None:
    """One at a time, each after the confirm of the one before and a pause."""
    connection = Connection(args.url)
    connection.ask(commands.Confirm.Select())
    begin = time.perf_counter()
    for _ in range(args.count):
        # Both clocks are those of one machine; nanoseconds have a fixed width for a while.
        frames = message(args.queue, b"order %020d end" % time.perf_counter_ns())
        connection.socket.sendall(frames)
        connection.socket.recv(BUFFER)
        time.sleep(PAUSE)
    report(begin, args.count)


def consume(args: Arguments) -> None:
    """Take the moment when bytes come, and then look at them."""
    connection = Connection(args.url)
    connection.ask(commands.Basic.Qos(0, args.prefetch, False))
    connection.ask(commands.Basic.Consume(queue=args.queue))
    latencies: list[float] = []
    begin = time.perf_counter()
    data = b""
    while len(latencies) < args.count:
        data += connection.socket.recv(BUFFER)
        now = time.perf_counter_ns()
        if sent := re.search(rb"order (\d{20}) end\xce", data):
            latencies.append((now - int(sent[1])) / 1e9)
            data = data[sent.end() :]
            connection.socket.sendall(frame.marshal(commands.Basic.Ack(len(latencies)), 1))
    time.sleep(PAUSE)
    report(begin, args.count, latencies=latencies)


def report(begin: float, count: int, **more: object) -> None:
    """The result line; see protocol.py."""
    line = {"seconds": time.perf_counter() - begin, "cpu": 0.0, "count": count, "peak_kib": 0}
    print(json.dumps(line | more), flush=True)


if __name__ == "__main__":
    given = arguments()
    {"latency_publish": publish, "latency_consume": consume}[given.work](given)
