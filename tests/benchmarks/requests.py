"""Requests and their replies: amqpjobs, aio-pika's `patterns.RPC`, FastStream's `request`, Node.js
amqplib (as its tutorial has it, and with confirms, returns and timeouts, which amqpjobs always
has), and blocking sockets with no client at all (what the broker and the machine take).

Asker and answerer are processes of their own, on one durable classic queue (amqpjobs on a quorum
queue, its default, as well), and take turns (A B C A B C ...). Measured: requests per second with
100 in flight, and p50 and p99 with one at a time. Every answer must be the one to its own request.

With `--together` one process asks and answers, on one event loop: a core for that, and another for
the broker, on a machine that has two.
"""

import argparse
import asyncio
import contextlib
import statistics
import sys
from collections import defaultdict
from typing import Any

from aio_pika.exceptions import ChannelNotFoundEntity
from harness import (
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

RPC = Contender("aio-pika patterns.RPC", "requests_aio_pika.py", declares=True)
AMQPJOBS = Contender("amqpjobs", "requests_amqpjobs.py", declares=True)
FASTSTREAM = Contender("FastStream", "requests_faststream.py", declares=True)
NODE = Contender("Node.js amqplib", "requests_node.js", uvloop=False, declares=True)
NODE_CONFIRMED = Contender(
    "Node.js amqplib, confirmed", "requests_node_confirmed.js", uvloop=False, declares=True
)
RAW = Contender("raw sockets (the broker's share)", "requests_raw.py", uvloop=False, declares=True)
ALL = (RPC, AMQPJOBS, FASTSTREAM, NODE, NODE_CONFIRMED, RAW)
IN_FLIGHT = 100


async def turn(
    bench: Bench, broker: Broker, contender: Contender, queue: str, options: argparse.Namespace
) -> tuple[float, list[float]]:
    """One turn: requests per second, and the seconds of each when one is made at a time."""
    await broker.delete(queue)
    uvloop = options.uvloop and contender.uvloop
    count = options.count // 5 if contender in (RPC, FASTSTREAM) else options.count
    work = "both" if options.together else "ask"
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(broker.delete, queue)
        if not options.together:
            line = bench.line(contender, queue, "answer", 0, 200, uvloop)
            await answering(
                broker, queue, await stack.enter_async_context(started(line, stdin=True))
            )
        many = await bench.run(contender, queue, work, count, IN_FLIGHT, uvloop)
        if options.together:
            await broker.delete(queue)
        one = await bench.run(contender, queue, work, options.one_count, 1, uvloop)
    if (many["count"], one["count"]) != (count, options.one_count):
        raise BenchmarkError("not every request was answered")
    return count / many["seconds"], one["latencies"]


async def answering(broker: Broker, queue: str, answerer: asyncio.subprocess.Process) -> None:
    """Wait until it consumes."""

    async def consuming() -> bool:
        if answerer.returncode is not None:
            await result_of(answerer, 1)
        try:
            return (await broker.count(queue))[1] > 0
        except ChannelNotFoundEntity:
            return False  # the contender has not declared its queue yet

    await until(consuming, "did not begin to consume", timeout=20)


def summary(name: str, rates: list[float], seconds: list[float], base: float) -> dict[str, Any]:
    """The best turn: what disturbs a turn only makes it slower."""
    return {
        "contender": name,
        "highest": max(rates),
        "median": statistics.median(rates),
        "ratio": max(rates) / base if base else None,
        "p50_ms": percentile(seconds, 50) * 1e3,
        "p99_ms": percentile(seconds, 99) * 1e3,
        "rounds": len(rates),
    }


async def main(options: argparse.Namespace) -> int:
    able = tuple(c for c in ALL if c is not RAW) if options.together else ALL
    entries = [(c.name, c, "bench.requests") for c in choose(options.contenders, able)]
    if any(contender is AMQPJOBS for _, contender, _ in entries):
        entries.append(("amqpjobs, quorum queue", AMQPJOBS, "bench.requests.quorum"))
    bench = Bench(options.url, options.python)
    rates: dict[str, list[float]] = defaultdict(list)
    latencies: dict[str, list[list[float]]] = defaultdict(list)
    async with Broker.connected(options.url) as broker:
        for _ in range(options.rounds):
            for name, contender, queue in entries:
                rate, seconds = await turn(bench, broker, contender, queue, options)
                rates[name].append(rate)
                latencies[name].append(seconds)
                print(f"  {name}: {rate:,.0f}/s", file=sys.stderr, flush=True)
        described = environment(broker.version, options)
    base = max(rates.get(RPC.name, [0.0]))
    # As with the rates, the turn that was disturbed least.
    best = {name: min(turns, key=lambda t: percentile(t, 50)) for name, turns in latencies.items()}
    results = [summary(name, rates[name], best[name], base) for name, _, _ in entries]
    rows = [
        [
            row["contender"],
            f"{row['highest']:,.0f}",
            f"{row['ratio']:.1f}" if row["ratio"] else "",
            f"{row['p50_ms']:.2f}",
            f"{row['p99_ms']:.2f}",
        ]
        for row in results
    ]
    print(table(["requests", "per second, 100 in flight", "x RPC", "p50 ms", "p99 ms"], rows))
    write(options.json, described | {"benchmark": "requests", "results": results})
    return 0


if __name__ == "__main__":
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--count", type=int, default=20_000, help="requests in each turn")
    options.add_argument("--one-count", type=int, default=1_000, help="requests, one at a time")
    options.add_argument("--contenders", help="comma-separated, default all")
    options.add_argument("--uvloop", action="store_true", help="run under uvloop instead")
    options.add_argument(
        "--together", action="store_true", help="one process asks and answers, on one event loop"
    )
    try:
        sys.exit(asyncio.run(main(options.parse_args())))
    except BenchmarkError as failure:
        sys.exit(f"FAILED: {failure}")
