"""How long a durable job takes that calls many jobs at once and waits for them all.

One durable job, `asyncio.gather` of its calls, worker processes that run all of it, RabbitMQ and
PostgreSQL. From the commit that enqueues the job to the commit of its result; beside it how the
time is shared: until all calls are stored, until all jobs have ended, until the result.

    python -m tests.benchmarks.joining --url amqp://... --database postgresql://... --children 10000
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, case, func, select

from amqpjobs import App, Context, Queue
from amqpjobs.state.durable.values import DONE, ENDED
from amqpjobs.state.memory import memory_of
from amqpjobs.state.store.engine import open_engine
from amqpjobs.state.store.migrate import migrate
from amqpjobs.state.store.tables import durable, steps

app = App("bench-joining")
parts = Queue("bench.joining.parts")


@app.job(queue=parts, name="part", track=False)
async def part(n: int) -> int:
    """One of many."""
    return n


@app.job(queue="bench.joining.wholes", name="whole", durable=True, track=False)
async def whole(ctx: Context, count: int) -> int:
    """All of them."""
    calls = (ctx.call(str(n), part, n) for n in range(count))
    return sum(await asyncio.gather(*calls))


@contextmanager
def workers(url: str, database: str, count: int) -> Iterator[None]:
    """Worker processes, until the block ends."""
    environment = os.environ | {
        "AMQPJOBS_URL": url, "AMQPJOBS_STORE_URL": database, "AMQPJOBS_LOG_LEVEL": "warning",
        "AMQPJOBS_APP": "tests.benchmarks.joining:app",
    }  # fmt: skip
    command = [sys.executable, "-m", "amqpjobs", "consume"]
    running = [subprocess.Popen(command, env=environment) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(60)


def looked(connection: Connection, job_id: str) -> tuple[Any, int, int]:
    """The row of the job, how many calls it has stored, and how many of them have ended."""
    row = connection.execute(select(durable).where(durable.c.job_id == job_id)).first()
    done = func.count(case((steps.c.state == DONE, 1)))
    counted = select(func.count(), done).where(steps.c.job_id == job_id)
    stored, ended = connection.execute(counted).one()
    return row, stored, ended


async def join(children: int) -> dict[str, float]:
    """Run one, with workers that consume; seconds of its parts and of all of it.

    Raises:
        RuntimeError: it has failed.
    """
    store = await memory_of(app.client).store()
    begin = time.perf_counter()
    handle = await whole.later(children)
    times: dict[str, float] = {}
    while True:
        row, stored, ended = await store.run(looked, handle.id)
        now = time.perf_counter() - begin
        if stored == children:
            times.setdefault("stored_s", now)
        if stored and ended == children:
            times.setdefault("ended_s", now)
        if row is not None and row.state in ENDED:
            times["joined_s"] = now
            break
        await asyncio.sleep(0.1)
    if row.state != DONE or json.loads(row.result) != sum(range(children)):
        raise RuntimeError(f"{row.state}: {row.error or row.result}")
    return {name: round(seconds, 2) for name, seconds in times.items()}


async def measure(options: argparse.Namespace) -> None:
    """Rounds of it, each a line of JSON."""
    os.environ |= {"AMQPJOBS_URL": options.url, "AMQPJOBS_STORE_URL": options.database}
    engine = open_engine(app.settings)
    await migrate(engine)
    await engine.dispose()
    async with app.lifespan():
        with workers(options.url, options.database, options.workers):
            await join(10)  # they have started
            for _ in range(options.rounds):
                print(json.dumps({"children": options.children, **await join(options.children)}))


def main() -> None:
    """Read the options, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--database", required=True, help="of PostgreSQL")
    parser.add_argument("--children", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
