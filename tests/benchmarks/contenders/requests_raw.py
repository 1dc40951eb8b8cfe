"""No client at all: blocking sockets, for requests.py. What is left is the broker's own time.

A reply is a fixed one with the number of its request; nothing is decoded or validated but that
number, nothing confirmed, and answer and ack leave in one write. No client can be faster.
"""

import json
import re
import sys
import threading
import time
from itertools import islice
from typing import Any

from pamqp import body, commands, frame, header
from protocol import Arguments, arguments, order
from raw_socket import BUFFER, Connection

NUMBER = re.compile(rb"number (\d{20})")


def message(queue: str, number: bytes, text: bytes, reply_to: str | None = None) -> bytes:
    """A transient publish, as bytes."""
    properties = commands.Basic.Properties(
        delivery_mode=1, correlation_id=f"number {number.decode()}", reply_to=reply_to
    )
    return b"".join(
        (
            frame.marshal(commands.Basic.Publish(routing_key=queue), 1),
            frame.marshal(header.ContentHeader(body_size=len(text), properties=properties), 1),
            frame.marshal(body.ContentBody(text), 1),
        )
    )


class Numbers:
    """The numbers in what a socket receives, however it is cut."""

    def __init__(self, connection: Connection) -> None:
        self._receive = connection.socket.recv
        self._rest = b""

    def read(self) -> tuple[list[bytes], bytes]:
        """Wait for bytes; the numbers of the messages that are complete, and the bytes."""
        self._rest += self._receive(BUFFER)
        found = self._rest
        end = found.rfind(b"done\xce") + 5
        self._rest = found[end:] if end >= 5 else found
        return NUMBER.findall(found[: max(0, end)]), found


def answer(args: Arguments) -> None:
    """Answer until stdin ends."""
    connection = Connection(args.url)
    connection.ask(commands.Queue.Declare(queue=args.queue, durable=True))
    connection.ask(commands.Basic.Qos(0, args.prefetch, False))
    connection.ask(commands.Basic.Consume(queue=args.queue))
    threading.Thread(target=lambda: _answer(connection), daemon=True).start()
    sys.stdin.read()


def _answer(connection: Connection) -> None:
    numbers, tag, asker, pattern = Numbers(connection), 0, "", b""
    while True:
        found, data = numbers.read()
        if not found:
            continue
        named = re.search(rb"amq\.gen-[\w-]+", data)
        if named and named[0].decode() != asker:
            # All but the number is the same for all of one asker: encoded once.
            asker = named[0].decode()
            pattern = message(asker, b"%020d" % 0, b"1 done")
        tag += len(found)
        replies = [pattern.replace(b"%020d" % 0, number) for number in found]
        replies.append(frame.marshal(commands.Basic.Ack(tag, True), 1))
        connection.socket.sendall(b"".join(replies))


def ask(args: Arguments) -> None:
    """COUNT requests, PREFETCH in flight."""
    connection = Connection(args.url)
    connection.ask(commands.Queue.Declare(exclusive=True, auto_delete=True))
    queue = connection.last.queue
    connection.ask(commands.Basic.Consume(queue=queue, no_ack=True))
    text = order(1).model_dump_json().encode() + b" done"
    pattern = message(args.queue, b"%020d" % 0, text, queue)
    waiting = iter([b"%020d" % number for number in range(1, args.count + 1)])
    numbers, sent, latencies, answered = Numbers(connection), {}, [], 0

    def send(count: int) -> None:
        batch = list(islice(waiting, count))
        sent.update(dict.fromkeys(batch, time.perf_counter()))
        connection.socket.sendall(b"".join(pattern.replace(b"%020d" % 0, n) for n in batch))

    begin, cpu = time.perf_counter(), time.process_time()
    send(args.prefetch)
    while answered < args.count:
        found, _ = numbers.read()
        now = time.perf_counter()
        latencies += [now - sent.pop(number) for number in found]  # KeyError: nobody asked that
        answered += len(found)
        if found:
            send(len(found))
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    line: dict[str, Any] = {"seconds": seconds, "cpu": cpu, "count": answered, "peak_kib": 0}
    if args.prefetch == 1:
        line["latencies"] = latencies
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    given = arguments()
    {"answer": answer, "ask": ask}[given.work](given)
