"""F25: five schedulers (three on one SQLite) with clocks that differ, two of them frozen over ticks
and one of these killed, and an hour of downtime: one job for each time of a schedule."""

import asyncio
import signal
import sqlite3
import time
from collections import Counter
from contextlib import AsyncExitStack, closing, suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from amqpjobs.jobs.schedule.missed import ON_TIME
from amqpjobs.settings import load_settings
from amqpjobs.state.schedules.messages import job_id_of
from amqpjobs.state.store.engine import open_engine
from amqpjobs.state.store.migrate import migrate
from amqpjobs.state.store.tables import schedules, ticks
from tests.faults.fleet import Fleet, WorkerProcess, until
from tests.faults.ledger import Ledger
from tests.support.brokers.broker_server import VirtualHost
from tests.support.brokers.postgres import Postgres
from tests.support.shop import async_engine

APP = "tests.faults.scheduled:app"
SKEW = 3.0
"""Seconds by which clocks differ; the clock of SQLite is that of its process."""

SKEWS = ("+0", "+3s", "-3s", "+0", "+0")
"""Of the clocks of the schedulers."""

AN_HOUR = 3600.0


@pytest.fixture(params=["postgres", "sqlite"])
def store_url(request: pytest.FixtureRequest, tmp_path: Any) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


def libfaketime() -> Path:
    """Debian's; `deploy/ci/brokers.sh` installs it."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    assert found, "libfaketime is not installed: run `deploy/ci/brokers.sh` as root"
    return found[0]


class Books:
    """What the store says."""

    def __init__(self, url: str) -> None:
        self.engine: AsyncEngine = async_engine(url)

    async def ticks(self, outcome: str = "sent") -> list[Any]:
        """Those with this outcome."""
        query = select(ticks).where(ticks.c.outcome == outcome).order_by(ticks.c.due_at)
        async with self.engine.connect() as connection:
            return list((await connection.execute(query)).all())

    async def sent(self, schedule: str) -> list[float]:
        """The times of a schedule that were sent."""
        return [tick.due_at for tick in await self.ticks() if tick.schedule == schedule]

    async def move(self, name: str, seconds: float) -> None:
        """Have a schedule due so much earlier, as if nothing had looked at it since."""
        earlier = update(schedules).where(schedules.c.name == name)
        async with self.engine.begin() as connection:
            await connection.execute(earlier.values(next_at=schedules.c.next_at - seconds))


class Schedulers:
    """Five workers, which are five schedulers."""

    def __init__(self, workers: Fleet, url: str, store: str) -> None:
        self._workers, self._url, self._store = workers, url, store

    def launch(self, skew: str) -> WorkerProcess:
        """Start one whose clock is off by so much."""
        faked = {} if skew == "+0" else {
            "LD_PRELOAD": str(libfaketime()), "FAKETIME": skew, "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }  # fmt: skip
        return self._workers.launch(
            self._url, "pulse", app=APP, AMQPJOBS_STORE_URL=self._store, AMQPJOBS_STORE_SHARED="1",
            AMQPJOBS_HEARTBEAT="4", AMQPJOBS_LOOP="asyncio", **faked,
        )  # fmt: skip

    async def start(self, count: int) -> list[WorkerProcess]:
        """Start some, and wait for them."""
        started = [self.launch(skew) for skew in SKEWS[:count]]
        await asyncio.gather(*(worker.ready() for worker in started))
        return started


@pytest.mark.row("F25")
@pytest.mark.timeout(150)
async def test_one_job_for_each_time(
    broker_43: VirtualHost, store_url: str, workers: Fleet, ledger: Ledger, random: Random
) -> None:
    """Whoever ticks, and whatever its clock says."""
    engine = open_engine(load_settings(store_url=store_url))
    await migrate(engine)
    await engine.dispose()
    schedulers = Schedulers(workers, broker_43.url, store_url)
    async with AsyncExitStack() as stack:
        books = Books(store_url)
        stack.push_async_callback(books.engine.dispose)
        await check_ticks(store_url, books, schedulers, workers, ledger, random)


async def check_ticks(
    store_url: str,
    books: "Books",
    schedulers: "Schedulers",
    workers: Fleet,
    ledger: Ledger,
    random: Random,
) -> None:
    started = await schedulers.start(3 if store_url.startswith("sqlite") else 5)
    await grown(books, 2)
    # Two are frozen over ticks: others go on, and one of the two never comes back.
    frozen = random.sample(started, 2)
    for worker in frozen:
        await freeze(worker, store_url)
    ledger.fault("two frozen, one killed", 2)
    await grown(books, 2)
    frozen[0].send(signal.SIGKILL)
    frozen[1].send(signal.SIGCONT)
    await grown(books, 2)
    # What was looked at is looked at again, as by a clock that was set back.
    await books.move("pulse", 4)
    ledger.fault("set back")
    await grown(books, 2)
    await asyncio.gather(*(over(worker) for worker in started if worker.running))
    # An hour of downtime: time is moved in the rows.
    billed = len(await books.sent("bill"))
    calm = await books.sent("calm")
    for name in ("pulse", "calm", "bill"):
        await books.move(name, AN_HOUR)
    ledger.fault("an hour of downtime")
    down = time.time()
    restarted = await schedulers.start(2)
    await grown(books, 2)
    missed = [tick for tick in await books.ticks() if tick.missed]
    by_schedule = Counter(tick.schedule for tick in missed)
    assert by_schedule["bill"] == len(await books.sent("bill")) - billed
    assert 5 <= by_schedule["bill"] <= 6, missed
    assert by_schedule["calm"] == 0
    made_up_for = set(await books.sent("calm")) - set(calm)
    assert not [due for due in made_up_for if due < down - ON_TIME - SKEW]
    confirmed = await all_done(books, ledger)
    await asyncio.gather(*(over(worker) for worker in restarted))
    found = await books.ticks()
    ids = [tick.job_id for tick in found]
    assert len(set(ids)) == len(ids) == len({(tick.schedule, tick.due_at) for tick in found})
    assert ids == [job_id_of("scheduled", t.schedule, t.due_at, "cron") for t in found]
    ledger.attempt(*ids)
    ledger.confirm(*confirmed)
    # A worker that was killed, or that RabbitMQ gave up while it was frozen, has had some.
    ledger.check(duplicates=2 * 4)
    again = Counter(effect.id for effect in ledger.effects() if not effect.note.endswith("True"))
    twice = [job_id for job_id, count in again.items() if count > 1]
    assert len(twice) <= 1, twice  # of a relay that was killed between the confirm and its row
    assert not workers.trouble()


async def freeze(worker: WorkerProcess, store_url: str) -> None:
    """Freeze a process; in SQLite not inside of a transaction, which nobody but it can end."""
    for _ in range(100):
        worker.send(signal.SIGSTOP)
        if not store_url.startswith("sqlite"):
            return
        path = store_url.removeprefix("sqlite:///")
        look = closing(sqlite3.connect(path, timeout=1, isolation_level=None))
        with suppress(sqlite3.OperationalError), look as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
            return
        worker.send(signal.SIGCONT)
        await asyncio.sleep(0.05)
    raise AssertionError("it is always in a transaction")


async def grown(books: Books, by: int) -> None:
    """Wait for so many more times of `pulse`."""
    wanted = len(await books.sent("pulse")) + by
    for _ in range(300):
        if len(await books.sent("pulse")) >= wanted:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"not {by} more ticks: {await books.ticks()}")


async def all_done(books: Books, ledger: Ledger) -> set[str]:
    """Wait for the effects of all that was sent so far."""
    sent = {tick.job_id for tick in await books.ticks()}
    await until(lambda: sent <= ledger.done(), 30.0, "the effects", lambda: sent - ledger.done())
    return sent


async def over(worker: WorkerProcess) -> None:
    """End a worker in order; its status is 0."""
    worker.send(signal.SIGTERM)
    assert await worker.ended(20.0) == 0, worker.tail()
