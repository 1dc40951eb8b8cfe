"""Does a long backlog slow a worker down, and does it grow?

Measured for amqpjobs and aio-pika, in turns, on one quorum queue each:

    rate    messages per second while `--count` messages are consumed from a queue with `--long`
            (a million) waiting, against a queue with `--short` (ten thousand) waiting
    memory  the worker's resident memory, sampled every 50 ms while `--memory-count` messages are
            consumed from the long queue: halfway, at the end, and the highest

The queues are filled once and topped up before every turn.
"""

import argparse
import asyncio
import statistics
import sys
from typing import Any

from harness import (
    AIO_PIKA,
    AMQPJOBS,
    KIB_PER_MIB,
    Bench,
    BenchmarkError,
    Broker,
    Contender,
    choose,
    environment,
    parser,
    result_of,
    sample,
    started,
    table,
    write,
)


class Backlog:
    """One contender's queue, kept at a length."""

    def __init__(
        self, bench: Bench, broker: Broker, contender: Contender, prefetch: int, length: int
    ) -> None:
        self._length = length
        self._bench = bench
        self._broker = broker
        self._contender = contender
        self._prefetch = prefetch
        self.queue = f"bench.backlog.{contender.script.split('.')[0].strip('_')}.{length}"

    async def create(self) -> None:
        await self._broker.delete(self.queue)
        if not self._contender.declares:
            await self._broker.declare(self.queue)
        else:
            await self._bench.fill(self._contender, self.queue, 1, self._prefetch)

    async def fill_up(self) -> None:
        missing = self._length - await self._broker.waiting(self.queue)
        if missing > 0:
            await self._bench.fill(self._contender, self.queue, missing, self._prefetch)
        await self._broker.expect(self.queue, self._length)

    async def consume(self, count: int, uvloop: bool) -> tuple[dict[str, Any], list[int]]:
        """Consume so many of what waits; the result line and the memory samples in KiB."""
        before = await self._broker.waiting(self.queue)
        line = self._bench.line(
            self._contender, self.queue, "consume", count, self._prefetch, uvloop
        )
        samples: list[int] = []
        async with started(line) as process:
            sampler = asyncio.create_task(sample(process.pid, samples))
            try:
                result = await result_of(process, self._bench.timeout)
            finally:
                sampler.cancel()
        left = await self._broker.waiting(self.queue)
        if not before - result["count"] <= left <= before - count:
            raise BenchmarkError(f"{left} left of {before} after {result['count']} were handled")
        return result, samples


async def rates(
    bench: Bench, broker: Broker, contenders: list[Contender], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Consume rates and memory per contender; every round has a turn of each at both lengths."""
    lengths = (options.long, options.short)
    backlogs = {
        (each.name, length): Backlog(bench, broker, each, options.prefetch, length)
        for each in contenders
        for length in lengths
    }
    turns: dict[tuple[str, int], list[float]] = {key: [] for key in backlogs}
    memory: dict[str, dict[str, float]] = {}
    try:
        for backlog in backlogs.values():
            await backlog.create()
        for _ in range(options.rounds):
            for (name, length), backlog in backlogs.items():
                await backlog.fill_up()
                await asyncio.sleep(options.settle)
                result, _ = await backlog.consume(options.count, options.uvloop)
                rate = options.count / result["seconds"]
                turns[name, length].append(rate)
                print(f"  {length:,} waiting: {name} {rate:,.0f}/s", file=sys.stderr)
        for each in contenders:
            long = backlogs[each.name, options.long]
            await long.fill_up()
            memory[each.name] = await memory_of(long, options)
    finally:
        for backlog in backlogs.values():
            await broker.delete(backlog.queue)
    return [
        {
            "contender": each.name,
            "long": statistics.median(turns[each.name, options.long]),
            "short": statistics.median(turns[each.name, options.short]),
            "memory_mib": memory[each.name],
        }
        for each in contenders
    ]


async def memory_of(backlog: Backlog, options: argparse.Namespace) -> dict[str, float]:
    """The worker's memory while it drains much of the long queue, in MiB."""
    result, samples = await backlog.consume(options.memory_count, options.uvloop)
    half = samples[len(samples) // 2 :] or [result["peak_kib"]]
    return {
        "halfway": half[0] / KIB_PER_MIB,
        "end": half[-1] / KIB_PER_MIB,
        "peak": max(result["peak_kib"], *samples) / KIB_PER_MIB,
    }


async def main(options: argparse.Namespace) -> int:
    if options.count > options.short or options.memory_count > options.long:
        raise SystemExit("cannot consume more than is waiting")
    contenders = choose(options.contenders, (AIO_PIKA, AMQPJOBS))
    bench = Bench(options.url, options.python, options.timeout)
    async with Broker.connected(options.url) as broker:
        results = await rates(bench, broker, contenders, options)
        described = environment(broker.version, options)
    rows = [
        [
            row["contender"],
            f"{row['long']:,.0f}",
            f"{row['short']:,.0f}",
            f"{row['long'] / row['short']:.2f}",
            *(f"{row['memory_mib'][part]:.0f}" for part in ("halfway", "end", "peak")),
        ]
        for row in results
    ]
    head = ["", f"/s, {options.long:,} waiting", f"/s, {options.short:,} waiting", "ratio"]
    print(table([*head, "MiB halfway", "end", "peak"], rows))
    write(options.json, described | {"benchmark": "backlog", "results": results})
    return 0


if __name__ == "__main__":
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--long", type=int, default=1_000_000)
    options.add_argument("--short", type=int, default=10_000)
    options.add_argument("--count", type=int, default=10_000, help="consumed for the rate")
    options.add_argument("--memory-count", type=int, default=200_000)
    options.add_argument("--prefetch", type=int, default=400)
    options.add_argument("--contenders", help="comma-separated, default both")
    options.add_argument("--uvloop", action="store_true", help="run under uvloop instead")
    options.add_argument("--settle", type=float, default=1.0, help="seconds from fill to consume")
    options.add_argument("--timeout", type=float, default=1200.0, help="seconds for one process")
    try:
        sys.exit(asyncio.run(main(options.parse_args())))
    except BenchmarkError as failure:
        sys.exit(f"FAILED: {failure}")
