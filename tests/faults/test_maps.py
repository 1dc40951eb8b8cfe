"""F29: a map whose workers are killed."""

import asyncio
import json
import signal
import time
from random import Random
from typing import Any

import pytest
from sqlalchemy import text

from amqpjobs.state.store.engine import open_engine
from amqpjobs.state.store.migrate import migrate
from tests.faults import map_jobs
from tests.faults.fleet import Fleet
from tests.faults.ledger import Ledger
from tests.faults.map_jobs import STORE
from tests.faults.publishing import settings_for
from tests.support.brokers.broker_server import VirtualHost
from tests.support.brokers.postgres import Postgres
from tests.support.shop import async_engine

APP = "tests.faults.map_jobs:app"
ITEMS, MANY = 20_000, 1_000_000


@pytest.mark.row("F29")
@pytest.mark.timeout(300)
async def test_each_item_counts_once_whoever_dies(
    broker_43: VirtualHost, workers: Fleet, ledger: Ledger, random: Random, postgres: Postgres
) -> None:
    """20,000 items, at most 4,000 of them at a time, and a worker killed every second or so."""
    await check(broker_43, workers, ledger, random, postgres, items=ITEMS, chunk=25, kills=6)


@pytest.mark.row("F29")
@pytest.mark.faults_full
@pytest.mark.timeout(900)
async def test_each_of_a_million_items_counts_once(
    broker_43: VirtualHost, workers: Fleet, ledger: Ledger, random: Random, postgres: Postgres
) -> None:
    """The full form: a worker killed every three seconds, until all are done."""
    await check(
        broker_43, workers, ledger, random, postgres, items=MANY, chunk=500, kills=1_000, pause=3.0
    )


async def check(
    broker: VirtualHost,
    workers: Fleet,
    ledger: Ledger,
    random: Random,
    postgres: Postgres,
    *,
    items: int,
    chunk: int,
    kills: int,
    pause: float = 1.0,
) -> None:
    url, store_url = broker.url, postgres.new_database()
    settings = settings_for(url, store_url=store_url)
    app, squares = map_jobs.build(settings, many=items == MANY)
    store = open_engine(app.settings)
    await migrate(store)
    await store.dispose()
    variables: dict[str, Any] = {
        STORE: store_url, "AMQPJOBS_STORE_URL": store_url, "AMQPJOBS_PUBLISH_TIMEOUT": "4",
        "app": APP, "concurrency": 4, "prefetch": 8,
    }  # fmt: skip
    engine = async_engine(store_url)

    async def found(query: str) -> Any:
        async with engine.connect() as connection:
            return (await connection.execute(text(query))).all()

    for _ in range(2):
        await workers.start(url, **variables)
    async with app.lifespan():
        await squares.later(items)
    begun, killed = time.monotonic(), 0
    end = begun + 150 + items / 2_000
    while [row.state for row in await found("SELECT state FROM amqpjobs_durable")] != ["done"]:
        steps = await found("SELECT state, cursor, error FROM amqpjobs_step")
        assert time.monotonic() < end, f"stuck: {steps}"
        await asyncio.sleep(random.uniform(0.8, 1.2) * pause)
        if killed < kills:
            live = [worker for worker in workers.all if worker.running]
            random.choice(live).send(signal.SIGKILL)
            killed += 1
            ledger.fault("worker killed")
            await workers.start(url, **variables)
    ledger.measured(f"{items} items in {time.monotonic() - begun:.0f} s, {killed} workers killed")
    (row,) = await found("SELECT result FROM amqpjobs_durable")
    expected = [items, sum(n * n for n in range(items)), sum(n**3 for n in range(items))]
    assert json.loads(bytes(row.result)) == expected
    (rows,) = await found("SELECT count(*) AS n, sum(done) AS done FROM amqpjobs_chunk")
    assert (rows.n, rows.done) == (items // chunk, items)
    assert killed >= 2
    await workers.stop()
    assert not workers.trouble()
    await engine.dispose()
