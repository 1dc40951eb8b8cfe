"""What do events cost a worker of no-op jobs: off, on with nobody listening, on with a listener?

The three take turns. The rate says what it costs a machine that also runs the broker and the
listener; "own CPU" what it costs the worker, which is what counts where they have machines of their
own. With `--record`, a recorder with SQLite stands for the listener, which needs processors, too.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import aio_pika
from harness import (
    AMQPJOBS,
    Bench,
    BenchmarkError,
    Broker,
    environment,
    parser,
    table,
    until,
    write,
)

QUEUE = "bench.events"
RECORDER = (
    "import asyncio; from amqpjobs import App\n"
    "from amqpjobs.state.status.recorder import Recorder\n"
    "asyncio.run(Recorder(App('bench').settings).run())"
)
MODES = ("off", "nobody listens", "listened to")


@contextlib.asynccontextmanager
async def listener(url: str) -> AsyncIterator[None]:
    """A queue that is bound to all events, and emptied as fast as they come."""
    connection = await aio_pika.connect(url)
    async with connection, connection.channel() as channel:
        exchange = await channel.declare_exchange("amqpjobs.events", "topic", durable=True)
        queue = await channel.declare_queue("", exclusive=True)
        await queue.bind(exchange, "#")
        await queue.consume(lambda _: asyncio.sleep(0), no_ack=True)
        yield


@contextlib.asynccontextmanager
async def recorder(url: str, python: str) -> AsyncIterator[None]:
    """The real one, in a process of its own; its queue goes with it."""
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "AMQPJOBS_URL": url, "AMQPJOBS_STORE_URL": f"sqlite:///{folder}/s.db"}
        process = await asyncio.create_subprocess_exec(python, "-c", RECORDER, env=env)
        connection = await aio_pika.connect(url)
        async with connection, connection.channel() as channel:

            async def consumes() -> bool:
                queue = await channel.declare_queue("amqpjobs.recorder", passive=True)
                return bool(queue.declaration_result.consumer_count)

            try:
                await until(consumes, "no recorder came up")
                yield
            finally:
                process.kill()
                await process.wait()
                await channel.queue_delete("amqpjobs.recorder")


async def turn(
    bench: Bench, broker: Broker, mode: str, options: argparse.Namespace
) -> tuple[float, float]:
    """Jobs a second, and microseconds of the worker's processor a job."""
    os.environ["AMQPJOBS_EVENTS"] = "0"
    await broker.delete(QUEUE)
    await bench.fill(AMQPJOBS, QUEUE, options.count, options.prefetch)
    await broker.expect(QUEUE, options.count)
    await asyncio.sleep(options.settle)
    os.environ["AMQPJOBS_EVENTS"] = "0" if mode == "off" else "1"
    heard = recorder(options.url, options.listener) if options.listener else listener(options.url)
    async with heard if mode == "listened to" else contextlib.nullcontext():
        result = await bench.run(
            AMQPJOBS, QUEUE, "consume", options.count, options.prefetch, options.uvloop
        )
    await broker.delete(QUEUE)
    return options.count / result["seconds"], result["cpu"] / options.count * 1e6


async def main(options: argparse.Namespace) -> int:
    bench = Bench(options.url, options.python)
    turns: dict[str, list[tuple[float, float]]] = {mode: [] for mode in MODES}
    async with Broker.connected(options.url) as broker:
        for _ in range(options.rounds):
            for mode in MODES:
                rate, cpu = await turn(bench, broker, mode, options)
                turns[mode].append((rate, cpu))
                print(f"  {mode}: {rate:,.0f}/s, {cpu:.1f} us", file=sys.stderr)
        described = environment(broker.version, options)
    medians = {
        mode: tuple(statistics.median(value) for value in zip(*turns[mode], strict=True))
        for mode in MODES
    }
    rate_off, cpu_off = medians["off"]
    rows = [
        [
            mode,
            f"{rate:,.0f}",
            f"{rate / rate_off - 1:+.1%}",
            f"{cpu:.1f}",
            f"{cpu / cpu_off - 1:+.1%}",
        ]
        for mode, (rate, cpu) in medians.items()
    ]
    print(table(["events", "jobs a second", "", "own CPU, us a job", ""], rows))
    results = [{"mode": m, "rate": rate, "cpu_us": cpu} for m, (rate, cpu) in medians.items()]
    write(options.json, described | {"benchmark": "events", "results": results})
    return 0


if __name__ == "__main__":
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--count", type=int, default=30_000)
    options.add_argument("--prefetch", type=int, default=200)
    options.add_argument("--record", dest="listener", metavar="PYTHON", type=Path,
                         help="a Python with amqpjobs[sql]: a recorder listens")  # fmt: skip
    options.add_argument("--uvloop", action="store_true", help="run under uvloop instead")
    options.add_argument("--settle", type=float, default=1.0, help="seconds from fill to consume")
    try:
        sys.exit(asyncio.run(main(options.parse_args())))
    except BenchmarkError as failure:
        sys.exit(f"FAILED: {failure}")
