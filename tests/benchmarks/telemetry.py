"""What does OpenTelemetry cost a worker of no-op jobs: off, not sampled, with traces, with metrics?

All take turns in one run. With `--before FOLDER`, a checkout of amqpjobs as it was before there was
any of it, that is measured first: "off" then says what it costs where nobody has set an SDK up.
Spans go through the SDK's own batches to an exporter that drops them; metrics are collected every
second. Messages are published with the same telemetry: those of traced jobs carry their trace.
"""

import argparse
import asyncio
import os
import statistics
import sys
from pathlib import Path

from contenders.observed import MODES, VARIABLE
from harness import AMQPJOBS, Bench, BenchmarkError, Broker, environment, parser, table, write

QUEUE = "bench.telemetry"
BEFORE = "before"
ROOT = Path(__file__).parents[2]


async def turn(
    bench: Bench, broker: Broker, mode: str, options: argparse.Namespace
) -> tuple[float, float]:
    """Jobs a second, and microseconds of the worker's processor a job."""
    os.environ[VARIABLE] = MODES[0] if mode == BEFORE else mode
    os.environ["PYTHONPATH"] = str(options.before if mode == BEFORE else ROOT)
    await broker.delete(QUEUE)
    await bench.fill(AMQPJOBS, QUEUE, options.count, options.prefetch)
    await broker.expect(QUEUE, options.count)
    await asyncio.sleep(options.settle)
    result = await bench.run(
        AMQPJOBS, QUEUE, "consume", options.count, options.prefetch, options.uvloop
    )
    await broker.delete(QUEUE)
    return options.count / result["seconds"], result["cpu"] / options.count * 1e6


async def main(options: argparse.Namespace) -> int:
    bench = Bench(options.url, options.python)
    modes = [mode for mode in MODES if options.modes is None or mode in options.modes.split(",")]
    if options.before:
        modes.insert(0, BEFORE)
    turns: dict[str, list[tuple[float, float]]] = {mode: [] for mode in modes}
    async with Broker.connected(options.url) as broker:
        for number in range(options.rounds):
            # Each other round the other way about: what a machine does over time meets all alike.
            for mode in modes[:: 1 if number % 2 == 0 else -1]:
                rate, cpu = await turn(bench, broker, mode, options)
                turns[mode].append((rate, cpu))
                print(f"  {mode}: {rate:,.0f}/s, {cpu:.1f} us", file=sys.stderr)
        described = environment(broker.version, options)
    medians = {
        mode: tuple(statistics.median(value) for value in zip(*turns[mode], strict=True))
        for mode in modes
    }
    first_rate, first_cpu = next(iter(medians.values()))
    rows = [
        [mode, f"{rate:,.0f}", f"{rate / first_rate - 1:+.1%}", f"{cpu:.1f}",
         f"{cpu / first_cpu - 1:+.1%}"]
        for mode, (rate, cpu) in medians.items()
    ]  # fmt: skip
    print(table(["telemetry", "jobs a second", "", "own CPU, us a job", ""], rows))
    results = [{"mode": m, "rate": rate, "cpu_us": cpu} for m, (rate, cpu) in medians.items()]
    write(options.json, described | {"benchmark": "telemetry", "results": results})
    return 0


if __name__ == "__main__":
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--count", type=int, default=30_000)
    options.add_argument("--prefetch", type=int, default=200)
    options.add_argument("--modes", help=f"some of: {','.join(MODES)}")
    options.add_argument("--before", metavar="FOLDER", type=Path,
                         help="a checkout of an older amqpjobs")  # fmt: skip
    options.add_argument("--uvloop", action="store_true", help="run under uvloop instead")
    options.add_argument("--settle", type=float, default=1.0, help="seconds from fill to consume")
    try:
        sys.exit(asyncio.run(main(options.parse_args())))
    except BenchmarkError as failure:
        sys.exit(f"FAILED: {failure}")
