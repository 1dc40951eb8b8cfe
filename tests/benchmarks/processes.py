"""How much more do two worker processes do than one?

`--count` messages wait for each process, and all processes consume the one queue at the same time.
The rate is the sum of what each did while its own share lasted. On a machine that also runs the
broker this is a report, not a target: the broker needs processors, too.
"""

import argparse
import asyncio
import statistics
import sys
from typing import Any

from harness import (
    AIO_PIKA,
    AMQPJOBS,
    Bench,
    BenchmarkError,
    Broker,
    Contender,
    choose,
    environment,
    parser,
    table,
    write,
)


async def turn(
    bench: Bench, broker: Broker, contender: Contender, processes: int, options: argparse.Namespace
) -> float:
    """Messages per second of so many processes together."""
    queue = f"bench.processes.{contender.script.split('.')[0].strip('_')}"
    await broker.delete(queue)
    if not contender.declares:
        await broker.declare(queue)
    # Some more than they need: whoever is last must not run dry and wait for good.
    waiting = options.count * processes + options.prefetch * processes * 4
    try:
        await bench.fill(contender, queue, waiting, options.prefetch)
        await broker.expect(queue, waiting)
        await asyncio.sleep(options.settle)
        results = await asyncio.gather(
            *(
                bench.run(
                    contender, queue, "consume", options.count, options.prefetch, options.uvloop
                )
                for _ in range(processes)
            )
        )
    finally:
        await broker.delete(queue)
    return sum(options.count / result["seconds"] for result in results)


async def main(options: argparse.Namespace) -> int:
    contenders = choose(options.contenders, (AIO_PIKA, AMQPJOBS))
    bench = Bench(options.url, options.python)
    counts = range(1, options.processes + 1)
    turns: dict[tuple[str, int], list[float]] = {}
    async with Broker.connected(options.url) as broker:
        for _ in range(options.rounds):
            for contender in contenders:
                for processes in counts:
                    rate = await turn(bench, broker, contender, processes, options)
                    turns.setdefault((contender.name, processes), []).append(rate)
                    print(f"  {processes} x {contender.name} {rate:,.0f}/s", file=sys.stderr)
        described = environment(broker.version, options)
    results: list[dict[str, Any]] = [
        {
            "contender": each.name,
            "rates": [statistics.median(turns[each.name, processes]) for processes in counts],
        }
        for each in contenders
    ]
    rows = [[row["contender"], *(f"{rate:,.0f}" for rate in row["rates"])] for row in results]
    print(table(["messages per second", *(f"{n} processes" for n in counts)], rows))
    write(options.json, described | {"benchmark": "processes", "results": results})
    return 0


if __name__ == "__main__":
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--processes", type=int, default=2)
    options.add_argument("--count", type=int, default=20_000, help="for each process")
    options.add_argument("--prefetch", type=int, default=200)
    options.add_argument("--contenders", help="comma-separated, default both")
    options.add_argument("--uvloop", action="store_true", help="run under uvloop instead")
    options.add_argument("--settle", type=float, default=1.0, help="seconds from fill to consume")
    try:
        sys.exit(asyncio.run(main(options.parse_args())))
    except BenchmarkError as failure:
        sys.exit(f"FAILED: {failure}")
