"""Rows into PostgreSQL: a job for each row against batches of 100, on the same worker.

One process publishes, consumes and inserts, with 20 slots and a pool of 20 connections; each row is
a job of 90 bytes on a quorum queue. Measured: jobs per second from the first handler to the last
ack, and the ratio. After each turn the table has every row once.
"""

import argparse
import asyncio
import json
import time
from typing import Any

import asyncpg
from pydantic import BaseModel

from amqpjobs import App, Batch
from amqpjobs.settings import Settings
from amqpjobs.worker import Worker

SIZE = 100
SLOTS = 20


class Row(BaseModel):
    n: int
    page: str
    visitor: str


def app_of(url: str, pool: Any) -> App:
    """Two jobs that do the same."""
    app = App("bench-batches", settings=Settings(url=url, log_level="warning"))

    @app.job(queue="bench.single", track=False)
    async def single(row: Row) -> None:
        await pool.execute("INSERT INTO clicks VALUES ($1, $2, $3)", row.n, row.page, row.visitor)

    @app.job(queue="bench.batch", track=False, batch=Batch(SIZE, within=0.1))
    async def batch(rows: list[Row]) -> None:
        await pool.copy_records_to_table(
            "clicks", records=[(row.n, row.page, row.visitor) for row in rows]
        )

    return app


async def turn(app: App, job: str, pool: Any, count: int) -> float:
    """Jobs per second."""
    from amqpjobs.jobs.job import Job

    await pool.execute("TRUNCATE clicks")
    made = Job[..., Any, Any](app.jobs[job])
    await app.later_many(
        made.message(Row(n=n, page=f"/product/{n % 97}", visitor=f"visitor-{n % 1009}"))
        for n in range(count)
    )
    worker = Worker(app, [made.queue.name], concurrency=SLOTS, until_empty=True)
    running = asyncio.create_task(worker.run())
    await worker.started()
    begin = time.perf_counter()
    while await pool.fetchval("SELECT count(*) FROM clicks") < count:
        await asyncio.sleep(0.02)
    seconds = time.perf_counter() - begin
    await running
    found = await pool.fetchval("SELECT count(DISTINCT n) FROM clicks")
    assert found == count, f"{found} rows of {count}"
    return count / seconds


async def measure(options: argparse.Namespace) -> dict[str, float]:
    """The best of some rounds in turns."""
    pool = await asyncpg.create_pool(options.database, min_size=SLOTS, max_size=SLOTS)
    await pool.execute("CREATE TABLE IF NOT EXISTS clicks (n int, page text, visitor text)")
    app = app_of(options.url, pool)
    best = {"single": 0.0, "batch": 0.0}
    async with pool, app.lifespan():
        for _ in range(options.rounds):
            for job in best:
                best[job] = max(best[job], await turn(app, job, pool, options.count))
    return best


def main() -> None:
    """Print both rates, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="amqp://guest:guest@localhost:5672/")
    parser.add_argument("--database", default="postgresql://postgres@localhost/postgres")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", help="a file for the numbers")
    options = parser.parse_args()
    best = asyncio.run(measure(options))
    ratio = best["batch"] / best["single"]
    print(f"one by one  {best['single']:8.0f} jobs/s")
    print(f"batches     {best['batch']:8.0f} jobs/s   ({ratio:.1f} times, batches of {SIZE})")
    if options.json:
        with open(options.json, "w") as file:  # noqa: PTH123 - a benchmark
            json.dump({**best, "ratio": ratio, "size": SIZE}, file)


if __name__ == "__main__":
    main()
