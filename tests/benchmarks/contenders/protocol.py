"""What every Python contender shares: its arguments, the payload, the count and the report.

A contender is a script: `contender.py URL QUEUE WORK COUNT PREFETCH [--uvloop]`. It prints one JSON
line, `{"seconds", "count", "checksum", "cpu"}`, as its last line on stdout, and exits with 0.

    fill        publish COUNT orders in the contender's own message format (not timed)
    consume     run COUNT orders through a handler: from the start of the first handler until the
                last ack has been handed to the socket
    publish     publish COUNT orders, up to 500 of them unconfirmed: first publish to last confirm
    sequential  publish COUNT orders, each after the confirm of the one before

`checksum` is the sum of the handled order numbers, so a lost and a doubled order do not cancel out.
`cpu` is the processor time (user and system, seconds) that this process used in `seconds`.
"""

import argparse
import asyncio
import json
import resource
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

IN_FLIGHT = 500
# Seconds between the last ack, when the clock has stopped, and closing the channel. A broker that
# has read an ack can give the message back all the same when the channel closes at once (seen on
# RabbitMQ 4.3.6 with quorum queues, for up to a whole prefetch window; README.md has the counts).
LINGER = 0.5
PAYLOAD_BYTES = 90


class Order(BaseModel):
    """The payload: 90 bytes of JSON, checked by pydantic before the handler sees it."""

    order_id: int
    customer: str
    amount: float
    items: list[str]


def order(number: int, amount: float = 12.5) -> Order:
    """The order of this number; its customer's name pads the JSON to 90 bytes."""
    made = Order(order_id=number, customer="", amount=amount, items=["a", "b", "c"])
    made.customer = "c" * (PAYLOAD_BYTES - len(made.model_dump_json()))
    return made


@dataclass(frozen=True, slots=True)
class Arguments:
    """The command line of a contender."""

    url: str
    queue: str
    work: str
    count: int
    prefetch: int
    uvloop: bool


def arguments() -> Arguments:
    """Read the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("queue")
    parser.add_argument("work")
    parser.add_argument("count", type=int)
    parser.add_argument("prefetch", type=int)
    parser.add_argument("--uvloop", action="store_true")
    return Arguments(**vars(parser.parse_args()))


class Stopwatch:
    """Wall-clock and processor time between `start` and `stop`."""

    def start(self) -> None:
        self._cpu = time.process_time()
        self._wall = time.perf_counter()

    def stop(self) -> None:
        self.seconds = time.perf_counter() - self._wall
        self.cpu = time.process_time() - self._cpu


class Tally:
    """Counts what was handled and acked; the watch runs from the first handler to the last ack.

    Jobs beyond `total` (a longer backlog) are counted as settled, but not in the checksum.
    """

    def __init__(self, total: int, done: asyncio.Event | threading.Event | None = None) -> None:
        self.total = total
        self.done = done if done is not None else asyncio.Event()
        self.watch = Stopwatch()
        self.handled = 0
        self.settled = 0
        self.checksum = 0

    def handle(self, handled: Order) -> None:
        """The handler's whole work."""
        if not self.handled:
            self.watch.start()
        self.handled += 1
        if self.handled <= self.total:
            self.checksum += handled.order_id

    def settle(self) -> None:
        """To be called after each ack."""
        self.settled += 1
        if self.settled == self.total:
            self.watch.stop()
            self.done.set()

    def report(self) -> None:
        """Print the result line."""
        report(self.watch, self.handled, checksum=self.checksum)


def report(watch: Stopwatch, count: int, **more: object) -> None:
    """Print the result line: what the watch says, the count, and `more`."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux, bytes on macOS
    peak_kib = peak // 1024 if sys.platform == "darwin" else peak
    line = {"seconds": watch.seconds, "cpu": watch.cpu, "count": count, "peak_kib": peak_kib}
    print(json.dumps(line | more), flush=True)


async def pipelined(publish: Callable[[Order], Awaitable[Any]], count: int) -> Stopwatch:
    """Publish orders 0 to count - 1 with `publish`, 500 unconfirmed at any time."""
    orders = iter([order(number) for number in range(count)])
    watch = Stopwatch()

    async def lane() -> None:
        for one in orders:
            await publish(one)

    watch.start()
    await asyncio.gather(*(lane() for _ in range(IN_FLIGHT)))
    watch.stop()
    return watch


async def one_at_a_time(publish: Callable[[Order], Awaitable[Any]], count: int) -> Stopwatch:
    """Publish orders 0 to count - 1 with `publish`, each after the confirm of the one before."""
    orders = [order(number) for number in range(count)]
    watch = Stopwatch()
    watch.start()
    for one in orders:
        await publish(one)
    watch.stop()
    return watch


async def publish_as_asked(args: Arguments, publish: Callable[[Order], Awaitable[Any]]) -> None:
    """Do `fill`, `publish` or `sequential` with this contender's `publish`, and report."""
    way = one_at_a_time if args.work == "sequential" else pipelined
    report(await way(publish, args.count), args.count)


def threaded(publish: Callable[[Order], Any], count: int, threads: int) -> Stopwatch:
    """Publish with a blocking `publish` from so many threads, each waiting for its own confirm."""
    orders = iter([order(number) for number in range(count)])
    lock = threading.Lock()
    watch = Stopwatch()
    failures: list[BaseException] = []

    def lane() -> None:
        try:
            while True:
                with lock:
                    one = next(orders, None)
                if one is None:
                    return
                publish(one)
        except BaseException as failure:
            failures.append(failure)

    workers = [threading.Thread(target=lane) for _ in range(threads)]
    watch.start()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    watch.stop()
    if failures:
        raise failures[0]
    return watch


def count_aio_pika_acks(tally: Tally) -> None:
    """Call `tally.settle` after every ack that a framework over aio-pika makes.

    One wrapped coroutine per message; the frameworks offer no hook that runs after the ack.
    """
    from aio_pika import IncomingMessage

    ack = IncomingMessage.ack

    async def counted(self: IncomingMessage, multiple: bool = False) -> None:
        await ack(self, multiple)
        tally.settle()

    IncomingMessage.ack = counted


def run(main: Callable[[Arguments], Coroutine[Any, Any, None]]) -> None:
    """Run the contender's coroutine under the event loop that the command line asks for."""
    args = arguments()
    if args.uvloop:
        import uvloop

        uvloop.run(main(args))
    else:
        asyncio.run(main(args))
