"""What a limit costs: the same job without one, with `Limit(20)`, with one for each customer, and
with both; then with two workers that want the 20 slots, so that half of the jobs wait as rows.

Measured: jobs per second from the start of the worker to its last handler, with 20 slots in each
process, on quorum queues and the store in PostgreSQL.
"""

import argparse
import asyncio
import json
import time
from typing import Annotated, Any

from amqpjobs import App, Limit
from amqpjobs.jobs.job import Job
from amqpjobs.settings import load_settings
from amqpjobs.state.store.engine import open_engine
from amqpjobs.state.store.migrate import migrate
from amqpjobs.worker import Worker

SLOTS = 20
CUSTOMERS = 1009


class Bench:
    """The app, and how many jobs have run."""

    def __init__(self, options: argparse.Namespace) -> None:
        settings = load_settings(
            url=options.url, store_url=options.database, log_level="warning", events=False
        )
        self.app = App("bench-limits", settings=settings)
        self.done = 0
        self.now = self.most = 0
        declare = self.app.job

        @declare(queue="bench.plain", track=False)
        async def plain(customer: int) -> None:
            await self.run()

        @declare(queue="bench.whole", track=False, limit=Limit(SLOTS))
        async def whole(customer: int) -> None:
            await self.run()

        @declare(queue="bench.each", track=False)
        async def each(customer: Annotated[int, Limit(1)]) -> None:
            await self.run()

        @declare(queue="bench.both", track=False, limit=Limit(SLOTS))
        async def both(customer: Annotated[int, Limit(1)]) -> None:
            await self.run()

    async def run(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        self.done += 1
        await asyncio.sleep(0)
        self.now -= 1

    async def turn(self, name: str, count: int, workers: int = 1) -> float:
        """Jobs per second."""
        job = Job[..., Any, Any](self.app.jobs[name])
        await self.app.later_many(job.message(n % CUSTOMERS) for n in range(count))
        self.done = self.most = 0
        begin = time.perf_counter()
        made = [Worker(self.app, [job.queue.name], concurrency=SLOTS) for _ in range(workers)]
        running = [asyncio.create_task(worker.run()) for worker in made]
        while self.done < count:
            await asyncio.sleep(0.02)
        seconds = time.perf_counter() - begin
        for worker in made:
            worker.stop()
        await asyncio.gather(*running)
        assert name == "plain" or self.most <= SLOTS, f"{self.most} at once"
        return count / seconds


async def measure(options: argparse.Namespace) -> dict[str, float]:
    """The best of some rounds in turns."""
    bench = Bench(options)
    engine = open_engine(bench.app.settings)
    await migrate(engine)
    await engine.dispose()
    best: dict[str, float] = {}
    async with bench.app.lifespan():
        for _ in range(options.rounds):
            for name in ("plain", "whole", "each", "both", "busy"):
                workers, job = (2, "whole") if name == "busy" else (1, name)
                rate = await bench.turn(job, options.count, workers)
                best[name] = max(best.get(name, 0.0), rate)
    return best


def main() -> None:
    """Print the rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="amqp://guest:guest@localhost:5672/")
    parser.add_argument("--database", default="postgresql://postgres@localhost/postgres")
    parser.add_argument("--count", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", help="a file for the numbers")
    options = parser.parse_args()
    best = asyncio.run(measure(options))
    for name, rate in best.items():
        print(f"{name:6} {rate:8.0f} jobs/s")
    if options.json:
        with open(options.json, "w") as file:  # noqa: PTH123 - a benchmark
            json.dump(best, file)


if __name__ == "__main__":
    main()
