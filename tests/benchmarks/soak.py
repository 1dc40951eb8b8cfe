"""Does a worker grow while it works?

One process for `--minutes` runs `--prefetch` chains of jobs, each job enqueueing the next before it
is acked: it publishes, awaits confirms, consumes and acks all the time. Its resident memory is
sampled; printed are the medians of its tenths, so that growth shows as a slope. In the end every
chain must end, and the queue must be empty.
"""

import argparse
import asyncio
import statistics
import sys
from typing import Any

from harness import (
    AMQPJOBS,
    KIB_PER_MIB,
    Bench,
    BenchmarkError,
    Broker,
    environment,
    parser,
    result_of,
    sample,
    started,
    table,
    write,
)

QUEUE = "bench.soak"
PARTS = 10


def tenths(samples: list[int]) -> list[float]:
    """The median resident memory of each tenth of the run, in MiB."""
    size = len(samples) // PARTS
    if not size:
        raise BenchmarkError("the run was too short to sample its memory")
    return [
        statistics.median(samples[part * size : (part + 1) * size]) / KIB_PER_MIB
        for part in range(PARTS)
    ]


async def soak(bench: Bench, options: argparse.Namespace) -> tuple[dict[str, Any], list[int]]:
    """Run the chains; the contender's result line and the memory samples in KiB."""
    seconds = round(options.minutes * 60)
    line = bench.line(AMQPJOBS, QUEUE, "soak", seconds, options.prefetch, options.uvloop)
    samples: list[int] = []
    async with started(line) as process:
        sampler = asyncio.create_task(sample(process.pid, samples))
        try:
            result = await result_of(process, seconds + 60)
        finally:
            sampler.cancel()
    return result, samples


async def main(options: argparse.Namespace) -> int:
    bench = Bench(options.url, options.python)
    async with Broker.connected(options.url) as broker:
        await broker.delete(QUEUE)
        try:
            result, samples = await soak(bench, options)
            await broker.expect(QUEUE, 0)
        finally:
            await broker.delete(QUEUE)
        described = environment(broker.version, options)
    parts = tenths(samples)
    rate = result["count"] / result["seconds"]
    print(
        f"{result['count']:,} jobs, {rate:,.0f} a second, each published, confirmed, run and acked"
    )
    head = ["MiB, median of each tenth", *(str(part + 1) for part in range(PARTS))]
    print(table(head, [["amqpjobs", *(f"{part:.1f}" for part in parts)]]))
    results = {"jobs": result["count"], "rate": rate, "memory_mib": parts}
    write(options.json, described | {"benchmark": "soak", "results": results})
    return 0


if __name__ == "__main__":
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--minutes", type=float, default=10.0)
    options.add_argument("--prefetch", type=int, default=100)
    options.add_argument("--uvloop", action="store_true", help="run under uvloop")
    try:
        sys.exit(asyncio.run(main(options.parse_args())))
    except BenchmarkError as failure:
        sys.exit(f"FAILED: {failure}")
