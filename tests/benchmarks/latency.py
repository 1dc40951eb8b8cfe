"""How long an idle worker takes from the call that enqueues to the start of the handler.

Measured for amqpjobs, aio-pika, and blocking sockets with no client at all (what the broker and the
machine take), in turns: one process publishes an order, waits for its confirm,
pauses 5 ms and publishes the next; another one, idle in between, consumes them. The order carries
the moment just before its publish, on the monotonic clock that processes of one machine share. The
first tenth of each turn is warm-up and left out. p50, p99 and the highest are over all rounds.
"""

import argparse
import asyncio
import sys
from typing import Any

from aio_pika.exceptions import ChannelNotFoundEntity
from harness import (
    AIO_PIKA,
    AMQPJOBS,
    RAW,
    Bench,
    BenchmarkError,
    Broker,
    Contender,
    choose,
    environment,
    parser,
    percentile,
    result_of,
    started,
    table,
    until,
    write,
)


async def latencies(
    bench: Bench, broker: Broker, contender: Contender, options: argparse.Namespace
) -> list[float]:
    """One turn: seconds from publish to handler, of every order after the warm-up."""
    queue = f"bench.latency.{contender.script.split('.')[0].strip('_')}"
    await broker.delete(queue)
    if not contender.declares:
        await broker.declare(queue)

    async def consuming() -> bool:
        if consumer.returncode is not None:
            await result_of(consumer, 1)
            raise BenchmarkError("the consumer ended before anything was published")
        try:
            return (await broker.count(queue))[1] > 0
        except ChannelNotFoundEntity:
            return False  # the contender has not declared its queue yet

    uvloop = options.uvloop and contender.uvloop
    line = bench.line(contender, queue, "latency_consume", options.count, 10, uvloop)
    try:
        async with started(line) as consumer:
            await until(consuming, "did not begin to consume", timeout=20)
            await bench.run(contender, queue, "latency_publish", options.count, 10, uvloop)
            result = await result_of(consumer, bench.timeout)
        if result["count"] != options.count:
            raise BenchmarkError(f"{result['count']} orders instead of {options.count}")
        await broker.expect(queue, 0)
    finally:
        await broker.delete(queue)
    return result["latencies"][options.count // 10 :]


def summary(name: str, seconds: list[float]) -> dict[str, Any]:
    """Percentiles in milliseconds."""
    return {
        "contender": name,
        "p50_ms": percentile(seconds, 50) * 1e3,
        "p99_ms": percentile(seconds, 99) * 1e3,
        "highest_ms": max(seconds) * 1e3,
        "count": len(seconds),
    }


async def main(options: argparse.Namespace) -> int:
    contenders = choose(options.contenders, (AIO_PIKA, AMQPJOBS, RAW))
    bench = Bench(options.url, options.python)
    measured: dict[str, list[float]] = {each.name: [] for each in contenders}
    async with Broker.connected(options.url) as broker:
        for _ in range(options.rounds):
            for contender in contenders:
                measured[contender.name] += await latencies(bench, broker, contender, options)
        described = environment(broker.version, options)
    results = [summary(name, seconds) for name, seconds in measured.items()]
    rows = [
        [row["contender"], *(f"{row[part]:.2f}" for part in ("p50_ms", "p99_ms", "highest_ms"))]
        for row in results
    ]
    print(table(["enqueue to handler", "p50 ms", "p99 ms", "highest ms"], rows))
    write(options.json, described | {"benchmark": "latency", "results": results})
    return 0


if __name__ == "__main__":
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--count", type=int, default=1_000, help="orders in each turn")
    options.add_argument("--contenders", help="comma-separated, default all three")
    options.add_argument("--uvloop", action="store_true", help="run under uvloop instead")
    try:
        sys.exit(asyncio.run(main(options.parse_args())))
    except BenchmarkError as failure:
        sys.exit(f"FAILED: {failure}")
