"""F39 and F24: a job whose effect is a transaction, with its worker dead at each point of it, and
with its database away."""

import asyncio
import time
from collections import Counter
from random import Random
from typing import Any

import pytest
from sqlalchemy import select, text

from tests.faults import transacting
from tests.faults.crashing import CRASH, CRASHED
from tests.faults.fleet import Fleet, until
from tests.faults.ledger import Effect, Ledger, record
from tests.faults.publishing import settings_for
from tests.faults.transacting import KIND, POINTS, STORE, Base, Charge, Receipt
from tests.support.brokers.broker_server import VirtualHost
from tests.support.brokers.postgres import Postgres
from tests.support.shop import async_engine

APP = "tests.faults.transacting:app"
OPTIONS: dict[str, Any] = {"concurrency": 2, "prefetch": 4, "app": APP, "AMQPJOBS_LOOP": "asyncio"}


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest, tmp_path: Any) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/shop.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


class Books:
    """What the database says."""

    def __init__(self, url: str, ledger: Ledger) -> None:
        self.engine = async_engine(url)
        self._ledger = ledger

    async def make(self) -> None:
        """The tables; those of the outbox and the inbox are in the metadata by now."""
        transacting.build("sqlite:///unused.db")
        async with self.engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)

    async def effects(self) -> tuple[list[str], list[str], list[str]]:
        """Ids of the charges, of the receipts that they have sent, and of those that came."""
        async with self.engine.connect() as connection:
            charges = (await connection.execute(select(Charge.job_id, Charge.receipt_id))).all()
            receipts = (await connection.execute(select(Receipt.job_id))).all()
        return [c[0] for c in charges], [c[1] for c in charges], [r[0] for r in receipts]

    async def done(self) -> set[str]:
        """What has had its effect."""
        charges, _, receipts = await self.effects()
        return {*charges, *receipts}

    async def check(self) -> None:
        """Each charge once, each receipt of one once, and no other."""
        charges, sent, receipts = await self.effects()
        self._ledger.attempt(*sent)
        self._ledger.confirm(*sent)
        for job_id in (*charges, *receipts):
            record(self._ledger.effects_file, Effect(job_id, 1, 0, 0.0, 0.0))
        self._ledger.check(duplicates=0)
        assert Counter(sent) == Counter(receipts), "no receipt is lost, doubled, or a ghost"
        assert await self.unsent() == 0

    async def unsent(self) -> int:
        """How many messages are in the outbox."""
        async with self.engine.connect() as connection:
            found = await connection.scalar(text("SELECT count(*) FROM amqpjobs_outbox"))
            return int(found or 0)

    async def settled(self, ledger: Ledger, timeout: float) -> None:
        """Wait until all that was confirmed, and what that has sent, has had its effect, and what a
        dead relay had taken was sent again."""
        end = time.monotonic() + timeout
        while True:
            charges, sent, receipts = await self.effects()
            missing = ledger.confirmed - set(charges) or set(sent) - set(receipts)
            left = await self.unsent()
            if not missing and not left:
                return
            assert time.monotonic() < end, f"{len(missing)} have no effect, {left} are not sent"
            await asyncio.sleep(0.1)


@pytest.mark.row("F39")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_no_crash_in_a_transaction_loses_or_doubles_its_effect(
    broker_43: VirtualHost,
    workers: Fleet,
    ledger: Ledger,
    random: Random,
    store_url: str,
    kind: str,
) -> None:
    """Ten points from before its begin to behind the ack: one effect, one receipt, no ghost."""
    url = broker_43.url
    books = Books(store_url, ledger)
    await books.make()
    app, charge = transacting.build(store_url, kind, settings_for(url))
    # The rows of a relay that died are another one's after 1.5 times this.
    variables = {STORE: store_url, KIND: kind, "AMQPJOBS_PUBLISH_TIMEOUT": "4"}
    async with app.lifespan():
        for point in random.sample(POINTS, len(POINTS)):
            message = charge.message()
            ledger.attempt(message.id)
            await app.enqueue(message)
            ledger.confirm(message.id)
            worker = workers.launch(url, **OPTIONS, **variables, **{CRASH: point})
            assert await worker.ended(40) == CRASHED, f"{point}: {worker.tail()}"
            ledger.fault(f"crashed: {point}")
    await workers.start(url, **OPTIONS, **variables)
    await books.settled(ledger, 90)
    await workers.stop()
    await books.check()
    assert not workers.trouble()
    await books.engine.dispose()


@pytest.mark.row("F24")
@pytest.mark.timeout(300)
async def test_a_database_that_is_away_costs_nothing_but_time(
    broker_43: VirtualHost, workers: Fleet, ledger: Ledger, postgres: Postgres
) -> None:
    """Under load for eight seconds: nothing is acked without its row, no attempt is used, and no
    worker asks in a tight loop."""
    await check_away(broker_43, workers, ledger, postgres, seconds=8, jobs=600)


@pytest.mark.row("F24")
@pytest.mark.faults_full
@pytest.mark.timeout(600)
async def test_a_database_that_is_away_for_long_costs_nothing_but_time(
    broker_43: VirtualHost, workers: Fleet, ledger: Ledger, postgres: Postgres
) -> None:
    """The full form: half a minute, three times as many jobs."""
    await check_away(broker_43, workers, ledger, postgres, seconds=30, jobs=2_000)


async def check_away(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, postgres: Postgres, seconds: int, jobs: int
) -> None:
    url, store_url = broker.url, postgres.new_database()
    books = Books(store_url, ledger)
    await books.make()
    app, charge = transacting.build(store_url, "async", settings_for(url))
    options = {**OPTIONS, "concurrency": 8, "prefetch": 16, STORE: store_url}
    for _ in range(2):
        await workers.start(url, **options)
    async with app.lifespan():

        async def flow() -> None:
            for _ in range(jobs):
                message = charge.message()
                ledger.attempt(message.id)
                await app.enqueue(message)
                ledger.confirm(message.id)
                await asyncio.sleep(seconds / jobs)

        flowing = asyncio.create_task(flow())
        await until(lambda: len(ledger.confirmed) > jobs // 10, 30, "jobs flow")
        await asyncio.to_thread(postgres.stop)
        ledger.fault("database stopped")
        await asyncio.sleep(seconds)  # how long it is away is what is tested
        await asyncio.to_thread(postgres.start)
        await flowing
    await books.settled(ledger, 120)
    waits = sum(len(worker.events("database away, jobs wait")) for worker in workers.all)
    ledger.measured(f"{waits} looks at a database that was away")
    await workers.stop()
    await books.check()
    # Both workers have two queues, and ask for each job that was under way: no more than these,
    # once for each of the pauses of 1, 2, 4, 8 and 15 seconds.
    assert waits <= 2 * 8 * 5
    assert not workers.trouble()
    assert not [line for worker in workers.all for line in worker.events("job retried")]
    await books.engine.dispose()
