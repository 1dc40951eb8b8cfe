"""Transactions on PostgreSQL: what ``once=`` costs a job, and how fast an outbox is sent.

- ``plain``: a job that inserts a row in a transaction of its own, by the same sessions.
- ``once``: the same with ``once=``: the row of the inbox in the same transaction.
- ``relay``: rows of an outbox that are claimed, published, confirmed and deleted, by one process.
- ``claim``: milliseconds that claiming 500 rows takes, with few rows and with many in the table.

One process publishes, consumes and inserts; quorum queues. Best of some rounds in turns.
"""

import argparse
import asyncio
import json
import time
from typing import Any

from sqlalchemy import Table, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from amqpjobs import App
from amqpjobs.cli.consume import loop_factory
from amqpjobs.settings import Settings
from amqpjobs.state.memory import memory_of
from amqpjobs.state.outbox import rows
from amqpjobs.state.outbox.places import Bound
from amqpjobs.worker import Worker

SLOTS = 20


class Base(DeclarativeBase):
    """The models of the benchmark."""


class Charge(Base):
    """What a job writes."""

    __tablename__ = "bench_charge"
    id: Mapped[int] = mapped_column(primary_key=True)
    order: Mapped[int]


class Bench:
    """The app and its database."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        url = options.database.replace("postgresql://", "postgresql+asyncpg://")
        self.engine = create_async_engine(url, pool_size=SLOTS, max_overflow=0)
        sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        settings = Settings(url=options.url, log_level="warning", concurrency=SLOTS)
        self.app = app = App("bench-transactions", settings=settings)
        self.outbox: Table = app.outbox(Base.metadata, bind=self.engine).table

        @app.job(queue="bench.plain", track=False)
        async def plain(order: int) -> None:
            async with sessions.begin() as session:
                session.add(Charge(order=order))

        @app.job(queue="bench.once", track=False, once=sessions)
        async def once(session: AsyncSession, order: int) -> None:
            session.add(Charge(order=order))

        self.jobs: dict[str, Any] = {"plain": plain, "once": once}

    async def jobs_a_second(self, name: str) -> float:
        """From the first row to the last."""
        job, count = self.jobs[name], self.options.count
        async with self.engine.begin() as connection:
            await connection.execute(text("TRUNCATE bench_charge"))
        await self.app.later_many(job.message(n) for n in range(count))
        worker = Worker(self.app, [job.queue.name], until_empty=True)
        running = asyncio.create_task(worker.run())
        await worker.started()
        begin = time.perf_counter()
        await running
        seconds = time.perf_counter() - begin
        async with self.engine.connect() as connection:
            found = await connection.scalar(select(func.count(func.distinct(Charge.order))))
        assert found == count, f"{found} rows of {count}"
        return count / seconds

    async def fill(self, count: int) -> None:
        """Rows in the outbox, as `within` writes them."""
        sample = self.jobs["plain"].message(1)
        _, prepared = await self.app.client.preparing.prepare(sample)
        values = rows.values_of("bench-transactions", prepared, func.now())
        columns = [name for name in values if name != "created_at"]
        names, places = ", ".join(columns), ", ".join(f":{name}" for name in columns)
        statement = text(
            f"INSERT INTO amqpjobs_outbox ({names}, created_at) "
            f"SELECT {places}, 0 FROM generate_series(1, {count})"
        )
        given = {name: values[name] for name in columns}
        async with self.engine.begin() as connection:
            await connection.execute(statement, given)

    async def relayed_a_second(self) -> float:
        """Rows that one relay sends."""
        count = self.options.relay
        await self.fill(count)
        memory = memory_of(self.app.client)
        begin = time.perf_counter()
        while await memory.send():
            pass
        seconds = time.perf_counter() - begin
        async with self.engine.connect() as connection:
            assert await connection.scalar(select(func.count()).select_from(self.outbox)) == 0
        return count / seconds

    async def claim_milliseconds(self, count: int) -> float:
        """The median of eleven claims."""
        await self.fill(count)
        place, times = Bound(self.engine), []
        for turn in range(11):
            begin = time.perf_counter()
            app = "bench-transactions"
            found = await place.run(
                rows.claim, self.outbox, app, place.now, f"lease {turn}", 60.0, 500
            )
            times.append((time.perf_counter() - begin) * 1000)
            assert len(found) == 500
        async with self.engine.begin() as connection:
            await connection.execute(text("TRUNCATE amqpjobs_outbox"))
        return sorted(times)[5]


async def measure(options: argparse.Namespace) -> dict[str, float]:
    """All of it."""
    bench = Bench(options)
    async with bench.engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(Base.metadata.create_all)
    best = {"plain": 0.0, "once": 0.0, "relay": 0.0}
    async with bench.app.lifespan():
        for _ in range(options.rounds):
            for name in ("plain", "once"):
                best[name] = max(best[name], await bench.jobs_a_second(name))
            best["relay"] = max(best["relay"], await bench.relayed_a_second())
        few = await bench.claim_milliseconds(10_000)
        many = await bench.claim_milliseconds(options.many)
    await bench.engine.dispose()
    ratio = best["once"] / best["plain"]
    return {**best, "once of plain": ratio, "claim, 10,000 rows": few, "claim, many rows": many}


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="amqp://guest:guest@127.0.0.1:5672/")
    parser.add_argument("--database", required=True, help="postgresql://...; its tables are ours")
    parser.add_argument("--count", type=int, default=5_000)
    parser.add_argument("--relay", type=int, default=20_000)
    parser.add_argument("--many", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    # The event loop of `amqpjobs consume`: uvloop where it is installed.
    with asyncio.Runner(loop_factory=loop_factory(Settings(url=options.url))) as runner:
        found = runner.run(measure(options))
    print(json.dumps({name: round(value, 3) for name, value in found.items()}, indent=2))


if __name__ == "__main__":
    main()
