"""How long a worker of many queues takes to start, and to be back after a lost connection.

Measured, for each number of queues:

    create  seconds from `Worker.run` to consuming all queues, on a broker without them
    start   the same with the queues there
    again   seconds from a lost connection to consuming all queues again

The worker runs in this process, and its log is off. `create` is RabbitMQ's own time nearly
altogether: it makes three queues and two bindings for each queue.
"""

import argparse
import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from amqpjobs import App
from amqpjobs.broker.rabbitmq.inspection.queues import connected, delete_queues
from amqpjobs.client.client import registry_of
from amqpjobs.settings import load_settings
from amqpjobs.worker.worker import Worker

PATIENCE = 600.0  # seconds


def app_of(url: str, queues: int) -> App:
    """An app with so many queues, of a job each."""
    app = App("many-queues", settings=load_settings(url=url))
    for n in range(queues):
        app.job(queue=f"bench.many.{n}", name=f"job{n}")(lambda: None)
    return app


@asynccontextmanager
async def running(app: App) -> AsyncIterator[tuple[Worker, float]]:
    """A worker that consumes, and how long that took."""
    worker, begin = Worker(app, concurrency=10), time.perf_counter()
    task, started = asyncio.create_task(worker.run()), asyncio.create_task(worker.started())
    try:
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait((task, started), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        yield worker, time.perf_counter() - begin
    finally:
        started.cancel()
        worker.stop()
        await task


async def again(worker: Worker) -> float:
    """Seconds from a lost connection to consuming everything."""
    wire = worker._link.wire
    assert wire is not None
    begin = time.perf_counter()
    wire.protocol.abort()
    async with asyncio.timeout(PATIENCE):
        for wanted in (False, True):
            while worker.ready is not wanted:
                await asyncio.sleep(0.01)
    return time.perf_counter() - begin


async def measure(url: str, queues: int) -> None:
    """Print a line for so many queues, and delete them."""
    app = app_of(url, queues)
    try:
        async with running(app) as (_, create):
            pass
        async with running(app) as (worker, start):
            back = await again(worker)
    finally:
        async with connected(app.settings, "delete") as wire:
            names = [declared.name for declared in registry_of(app).topology.queues]
            await delete_queues(wire, (name for name in names if name.startswith("bench.")))
    print(f"{queues:6} queues: create {create:6.2f} s, start {start:6.2f} s, again {back:6.2f} s")


async def main() -> None:
    """Measure each number of queues."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("queues", type=int, nargs="*", default=[10, 200, 1000])
    options.add_argument("--url", required=True, help="AMQP URL of the broker")
    given = options.parse_args()
    logging.disable(logging.CRITICAL)
    for queues in given.queues:
        await measure(given.url, queues)


if __name__ == "__main__":
    asyncio.run(main())
