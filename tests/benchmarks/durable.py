"""Durable jobs on PostgreSQL: what a step and a call cost, beside DBOS (https://pypi.org/project/dbos).

- ``steps_ms``: milliseconds of a workflow of ten steps that do nothing, one workflow at a time.
- ``steps_per_s``: such workflows a second, twenty at a time, in one process.
- ``step_ms``: what one of the ten steps adds.
- ``call_ms``: what a call of a job that does nothing adds, over a request of that job by itself.

amqpjobs goes through RabbitMQ, and its caller waits for the reply; DBOS runs the workflow where it
is called. Both write each step's result to PostgreSQL. Each contender is a process of its own; they
take turns, and the best round of each counts.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

STEPS = 10
AT_ONCE = 20


async def nothing(n: int) -> int:
    """A step."""
    return n


async def timed(work: Callable[[], Awaitable[Any]], count: int) -> float:
    """The median milliseconds of one after the other."""
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        await work()
        times.append((time.perf_counter() - begin) * 1000)
    return statistics.median(times)


async def rate(work: Callable[[], Awaitable[Any]], count: int) -> float:
    """How many a second, some at a time."""
    left = iter(range(count))

    async def worker() -> None:
        for _ in left:
            await work()

    begin = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return count / (time.perf_counter() - begin)


async def amqpjobs(options: argparse.Namespace) -> dict[str, float]:
    """Jobs of a worker in this process."""
    from amqpjobs import App, Context
    from amqpjobs.settings import Settings
    from amqpjobs.state.store.engine import open_engine
    from amqpjobs.state.store.migrate import migrate
    from amqpjobs.worker import Worker

    settings = Settings(
        url=options.url, store_url=options.database, log_level="warning", concurrency=2 * AT_ONCE,
        request_timeout=60,
    )  # fmt: skip
    app = App("bench-durable", settings=settings)

    @app.job(queue="bench.durable", durable=True, track=False)
    async def steps(ctx: Context, count: int) -> int:
        found = 0
        for n in range(count):
            found += await ctx.step(f"step {n}", nothing, n)
        return found

    @app.job(queue="bench.child", track=False)
    async def child(n: int) -> int:
        return n

    @app.job(queue="bench.durable", durable=True, track=False)
    async def calls(ctx: Context, count: int) -> int:
        found = 0
        for n in range(count):
            found += await ctx.call(f"call {n}", child, n)
        return found

    engine = open_engine(settings)
    await migrate(engine)
    await engine.dispose()
    worker = Worker(app, ["bench.durable", "bench.child"])
    running = asyncio.create_task(worker.run())
    await worker.started()
    async with app.lifespan():
        await timed(lambda: steps.request(STEPS), 20)
        ten = await timed(lambda: steps.request(STEPS), options.count)
        none = await timed(lambda: steps.request(0), options.count)
        per_second = await rate(lambda: steps.request(STEPS), options.count)
        called = await timed(lambda: calls.request(STEPS), max(10, options.count // 5))
        alone = await timed(lambda: child.request(1), options.count)
    worker.stop()
    await running
    return {
        "steps_ms": ten, "steps_per_s": per_second, "step_ms": (ten - none) / STEPS,
        "call_ms": (called - none) / STEPS - alone,
    }  # fmt: skip


async def dbos(options: argparse.Namespace) -> dict[str, float]:
    """Workflows of DBOS."""
    from dbos import DBOS, DBOSConfig

    config: Any = DBOSConfig(
        name="bench-durable", system_database_url=options.database, log_level="ERROR"
    )
    DBOS(config=config)
    step = DBOS.step()(nothing)

    @DBOS.workflow()
    async def steps(count: int) -> int:
        found = 0
        for n in range(count):
            found += await step(n)
        return found

    DBOS.launch()
    await timed(lambda: steps(STEPS), 20)
    ten = await timed(lambda: steps(STEPS), options.count)
    none = await timed(lambda: steps(0), options.count)
    per_second = await rate(lambda: steps(STEPS), options.count)
    DBOS.destroy()
    return {"steps_ms": ten, "steps_per_s": per_second, "step_ms": (ten - none) / STEPS}


CONTENDERS = {"amqpjobs": amqpjobs, "dbos": dbos}


def round_of(name: str, options: argparse.Namespace) -> dict[str, float]:
    """One contender, in a process of its own."""
    command = [
        sys.executable, __file__, "--url", options.url, "--database", options.database,
        "--count", str(options.count), "--only", name,
    ]  # fmt: skip
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="amqp://guest:guest@localhost/")
    parser.add_argument("--database", required=True, help="postgresql://..., whose tables are ours")
    parser.add_argument("--count", type=int, default=300, help="workflows of each measurement")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--contenders", default="amqpjobs,dbos")
    parser.add_argument("--only", choices=CONTENDERS, help="this one, in this process")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(asyncio.run(CONTENDERS[options.only](options))))
        return
    best: dict[str, dict[str, float]] = {}
    for _ in range(options.rounds):
        for name in options.contenders.split(","):
            for figure, value in round_of(name, options).items():
                known = best.setdefault(name, {}).setdefault(figure, value)
                better = max if figure.endswith("per_s") else min
                best[name][figure] = better(known, value)
    for name, figures in best.items():
        print(name, {figure: round(value, 3) for figure, value in figures.items()})
    print(json.dumps(best))


if __name__ == "__main__":
    main()
