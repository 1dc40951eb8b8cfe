"""F29: a durable job with its worker dead at each of its transactions."""

import asyncio
import time
from collections import Counter
from random import Random
from typing import Any

import pytest
from sqlalchemy import select, text

from amqpjobs.state.store.engine import open_engine
from amqpjobs.state.store.migrate import migrate
from tests.faults import durable_jobs
from tests.faults.crashing import CRASH, CRASHED
from tests.faults.durable_jobs import DONE, POINTS, STORE, Base, Effect
from tests.faults.fleet import Fleet
from tests.faults.ledger import Ledger
from tests.faults.publishing import settings_for
from tests.support.brokers.broker_server import VirtualHost
from tests.support.brokers.postgres import Postgres
from tests.support.shop import async_engine

APP = "tests.faults.durable_jobs:app"
OPTIONS: dict[str, Any] = {"concurrency": 4, "prefetch": 8, "app": APP, "AMQPJOBS_LOOP": "asyncio"}


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest, tmp_path: Any) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/faults.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


class Books:
    """What the database says."""

    def __init__(self, url: str) -> None:
        self.engine = async_engine(url)

    async def make(self) -> None:
        """The table of the effects; those of the store are made by `amqpjobs migrate`."""
        async with self.engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)

    async def states(self) -> dict[str, str]:
        """Of the durable jobs, by id."""
        async with self.engine.connect() as connection:
            found = await connection.execute(text("SELECT job_id, state FROM amqpjobs_durable"))
            return {row.job_id: row.state for row in found}

    async def errors(self) -> list[str]:
        """Why steps and jobs have failed."""
        query = "SELECT error FROM amqpjobs_durable UNION SELECT error FROM amqpjobs_step"
        async with self.engine.connect() as connection:
            return [str(row.error) for row in await connection.execute(text(query)) if row.error]

    async def effects(self) -> dict[str, Counter[str]]:
        """By order."""
        async with self.engine.connect() as connection:
            found: dict[str, Counter[str]] = {}
            for row in await connection.execute(select(Effect.order, Effect.name)):
                found.setdefault(row.order, Counter())[row.name] += 1
            return found

    async def settled(self, ids: dict[str, str], timeout: float) -> None:
        """Wait until all these jobs are in their end state."""
        end = time.monotonic() + timeout
        while (found := await self.states()) != ids:
            wrong = {each: found.get(each) for each in ids if found.get(each) != ids[each]}
            assert time.monotonic() < end, f"stuck: {wrong}: {await self.errors()}"
            await asyncio.sleep(0.1)


@pytest.mark.row("F29")
@pytest.mark.timeout(400)
async def test_no_crash_loses_or_doubles_a_step(
    broker_43: VirtualHost, workers: Fleet, ledger: Ledger, random: Random, store_url: str
) -> None:
    """At each transaction of a five-step job with a gather, and around the ack: done, or undone as
    a whole, and each effect once."""
    url, books = broker_43.url, Books(store_url)
    app, fulfil = durable_jobs.build(store_url, settings_for(url, store_url=store_url))
    variables = {STORE: store_url, "AMQPJOBS_STORE_URL": store_url, "AMQPJOBS_PUBLISH_TIMEOUT": "4"}
    store = open_engine(app.settings)
    await migrate(store)
    await store.dispose()
    await books.make()
    # On PostgreSQL all of them; SQLite shares all but the locks.
    points = random.sample(POINTS, len(POINTS) if store_url.startswith("postgres") else 10)
    ended: dict[str, str] = {}
    orders: dict[str, bool] = {}
    async with app.lifespan():
        for number, point in enumerate(points):
            order, fails = f"order-{number}", number % 2 == 1
            handle = await fulfil.later(order, fails)
            ended[handle.id], orders[order] = ("undone" if fails else "done"), fails
            worker = workers.launch(url, **OPTIONS, **variables, **{CRASH: point})
            assert await worker.ended(40) == CRASHED, f"{point}: {worker.tail()}"
            ledger.fault(f"crashed: {point}")
    await workers.start(url, **OPTIONS, **variables)
    await books.settled(ended, 120)
    await workers.stop()
    effects = await books.effects()
    undone = Counter(["reserve", "charge", "ship", "bill", "un-charge", "un-ship"])
    for order, fails in orders.items():
        assert effects[order] == (undone if fails else Counter(DONE)), order
    assert not workers.trouble()
    await books.engine.dispose()
