"""How fast the embedded broker is. It needs no other broker, and no set-up.

Measured:

    start    milliseconds from `import amqpjobs.broker.embedded` to a broker that listens, in a new
             process each time; without the import of asyncio, which a program that uses it has
             paid for
    publish  messages per second from another process, persistent, to a durable quorum queue, with
             500 unconfirmed at most
    consume  messages per second to another process, prefetch 200, each acked by a frame of its own
    brokers  seconds for so many brokers, one after the other in one process, each of them started,
             used once (connect, declare, publish, get) and stopped

The client is bare sockets, so that what is measured is the broker; for amqpjobs as the client
there is `peers.py --url`, with a broker that `amqpjobs broker` runs.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from harness import table, write
from pamqp import body, commands, frame, header

QUEUE = "bench.embedded"
IN_FLIGHT = 500
BATCH = 50
PREFETCH = 200
BUFFER = 262144

START = """
import asyncio, time

async def main():
    begin = time.perf_counter()
    from amqpjobs.broker.embedded import Broker
    async with Broker():
        print(1e3 * (time.perf_counter() - begin))

asyncio.run(main())
"""


def started(cache: str) -> float:
    """Milliseconds until a broker listens, in a new process that finds byte code in `cache`."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", START],
        capture_output=True,
        check=True,
        env=env | {"PYTHONPYCACHEPREFIX": cache},
    )
    return float(done.stdout)


def starts(rounds: int) -> list[float]:
    """Milliseconds of so many starts; one before them, which compiles, is not counted."""
    with tempfile.TemporaryDirectory() as cache:
        return [started(cache) for _ in range(rounds + 1)][1:]


def serve(profile: str, told: Connection) -> None:
    """A broker in this process, until somebody ends it."""
    from amqpjobs.broker.embedded import Broker

    async def run() -> None:
        async with Broker(profile) as broker:
            told.send(broker.port)
            await asyncio.Event().wait()

    with suppress(KeyboardInterrupt):
        asyncio.run(run())


class Client:
    """A blocking socket with channel 1 open."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._data = b""
        self.socket.sendall(b"AMQP\0\0\x09\x01")
        self.read()
        self.ask(commands.Connection.StartOk({}, "PLAIN", "\0guest\0guest", "en_US"), 0)
        self.say(commands.Connection.TuneOk(2047, 131072, 0), 0)
        self.ask(commands.Connection.Open("/"), 0)
        self.ask(commands.Channel.Open())

    def say(self, method: Any, channel: int = 1) -> None:
        self.socket.sendall(frame.marshal(method, channel))

    def ask(self, method: Any, channel: int = 1) -> Any:
        """Send a method, and return its answer."""
        self.say(method, channel)
        return self.read()

    def read(self) -> Any:
        """The next frame, decoded."""
        while True:
            data = self._data
            if len(data) >= 7 and len(data) >= (size := int.from_bytes(data[3:7], "big") + 8):
                self._data = data[size:]
                return frame.unmarshal(data[:size])[2]
            self._data += self.receive()

    def receive(self) -> bytes:
        data = self.socket.recv(BUFFER)
        if not data:
            raise ConnectionError("the broker has hung up")
        return data

    def walk(self, of_frame: Callable[[bytes, int], bool]) -> None:
        """Call with the data and the place of each frame that comes, until it says True."""
        data = self._data
        while True:
            at = 0
            while len(data) - at >= 7:
                stop = at + int.from_bytes(data[at + 3 : at + 7], "big") + 8
                if stop > len(data):
                    break
                if of_frame(data, at):
                    self._data = data[stop:]
                    return
                at = stop
            data = data[at:] + self.receive()


def message(text: bytes) -> bytes:
    """The frames of one persistent publish."""
    properties = commands.Basic.Properties(content_type="application/json", delivery_mode=2)
    return b"".join(
        (
            frame.marshal(commands.Basic.Publish(routing_key=QUEUE, mandatory=True), 1),
            frame.marshal(header.ContentHeader(body_size=len(text), properties=properties), 1),
            frame.marshal(body.ContentBody(text), 1),
        )
    )


def publish(client: Client, count: int, text: bytes) -> float:
    """Messages per second; the last of them is confirmed."""
    client.ask(commands.Confirm.Select())
    batch = message(text) * BATCH
    sent = confirmed = 0

    def on_ack(data: bytes, at: int) -> bool:
        nonlocal confirmed
        tag = int.from_bytes(data[at + 11 : at + 19], "big")
        confirmed = max(confirmed, tag)
        return confirmed >= min(sent - IN_FLIGHT + BATCH, count) or confirmed == count

    begin = time.perf_counter()
    while sent < count:
        client.socket.sendall(batch)
        sent += BATCH
        if sent - confirmed > IN_FLIGHT - BATCH:
            client.walk(on_ack)
    if confirmed < count:
        client.walk(lambda data, at: on_ack(data, at) and confirmed == count)
    return count / (time.perf_counter() - begin)


def consume(client: Client, count: int) -> float:
    """Messages per second; all acks are at the broker when it ends."""
    client.ask(commands.Basic.Qos(0, PREFETCH, False))
    taken = 0
    acks: list[bytes] = []

    def on_frame(data: bytes, at: int) -> bool:
        nonlocal taken
        if data[at] == frame.constants.FRAME_BODY:
            taken += 1
            acks.append(frame.marshal(commands.Basic.Ack(taken), 1))
            if len(acks) >= BATCH or taken == count:
                client.socket.sendall(b"".join(acks))
                acks.clear()
        return taken == count

    begin = time.perf_counter()
    client.say(commands.Basic.Consume(queue=QUEUE, consumer_tag="bench"))
    client.walk(on_frame)
    client.ask(commands.Basic.Qos(0, 0, False))
    return count / (time.perf_counter() - begin)


def rates(profile: str, count: int, size: int) -> dict[str, float]:
    """Messages per second, with the broker in a process of its own."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(profile, theirs))
    process.start()
    try:
        client = Client(ours.recv())
        quorum = {"x-queue-type": "quorum"}
        client.ask(commands.Queue.Declare(queue=QUEUE, durable=True, arguments=quorum))
        text = json.dumps({"text": "x" * (size - 12)}).encode()
        return {"publish": publish(client, count, text), "consume": consume(client, count)}
    finally:
        process.terminate()
        process.join()


async def brokers(count: int) -> float:
    """Seconds for that many brokers, each started, used once, and stopped."""
    from amqpjobs.broker.embedded import Broker

    begin = time.perf_counter()
    for _ in range(count):
        async with Broker() as broker:
            await asyncio.to_thread(use_once, broker.port)
    return time.perf_counter() - begin


def use_once(port: int) -> None:
    """Connect, declare, publish, get, and close."""
    client = Client(port)
    client.ask(commands.Queue.Declare(queue=QUEUE, durable=True))
    client.socket.sendall(message(b"{}"))
    found = client.ask(commands.Basic.Get(queue=QUEUE, no_ack=True))
    if not isinstance(found, commands.Basic.GetOk):
        raise TypeError(f"no message came back: {found}")
    client.ask(commands.Connection.Close(200, "", 0, 0), 0)
    client.socket.close()


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=60_000, help="messages of a round")
    parser.add_argument("--size", type=int, default=90, help="bytes of a body")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--brokers", type=int, default=1000)
    parser.add_argument("--profile", default="4.3")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here, too")
    given = parser.parse_args()
    if given.count % BATCH:
        parser.error(f"--count has to be a multiple of {BATCH}")
    found = [rates(given.profile, given.count, given.size) for _ in range(given.rounds)]
    results: dict[str, Any] = {
        "start_ms": starts(given.rounds),
        "publish": [one["publish"] for one in found],
        "consume": [one["consume"] for one in found],
        "brokers_s": [asyncio.run(brokers(given.brokers))] if given.brokers else [],
    }
    rows = [
        [name, f"{statistics.median(values):,.1f}", ", ".join(f"{v:,.1f}" for v in values)]
        for name, values in results.items()
        if values
    ]
    print(table(["", "median", "all"], rows))
    write(given.json, results | {"count": given.count, "brokers": given.brokers})


if __name__ == "__main__":
    main()
