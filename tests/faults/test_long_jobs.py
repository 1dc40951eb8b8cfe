"""F14: jobs that take longer than RabbitMQ waits for them. They are named, and all is consumed."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.faults import long
from tests.faults.fleet import Fleet, WorkerProcess, until
from tests.faults.ledger import Ledger
from tests.faults.publishing import Publishing, finish, leftovers, quiet
from tests.support.brokers.broker_server import VirtualHost
from tests.support.brokers.brokers import Broker
from tests.support.transport import reach

pytestmark = pytest.mark.row("F14")

APP = "tests.faults.long:app"
C, P = 4, 8

LIMIT, LONG_LIMIT = 3, 15
"""Seconds that RabbitMQ waits in the short forms, and in the full one: a job that is taken back
more often than its queue's delivery limit, 20 times, is a dead letter even when it has ended."""

WARNING = "job may exceed the consumer timeout"
TAKEN = "consumer timeout passed, jobs run again"


@pytest.fixture
def impatient(own_broker: Broker) -> Iterator[Broker]:
    """A broker that waits for `LIMIT`: RabbitMQ up to 4.2 by its own configuration, looked at every
    second instead of every minute; from 4.3 the worker tells it, by `AMQPJOBS_CONSUMER_TIMEOUT`."""
    if own_broker.version == "4.3":
        yield own_broker
        return
    configure(own_broker, LIMIT * 1000, 1000)
    try:
        yield own_broker
    finally:
        configure(own_broker, 1_800_000, 60_000)


def configure(broker: Broker, timeout: int, tick: int) -> None:
    broker.ctl(
        "eval",
        f"application:set_env(rabbit, consumer_timeout, {timeout}), "
        f"application:set_env(rabbit, channel_tick_interval, {tick}).",
    )


@asynccontextmanager
async def publishing(url: str, ledger: Ledger) -> AsyncIterator[Publishing]:
    long.app.configure(**reach(url))
    async with long.app.lifespan():
        yield Publishing(long, ledger)  # type: ignore[arg-type]


async def start(url: str, workers: Fleet, **environment: object) -> WorkerProcess:
    return await workers.start(url, "work", concurrency=C, prefetch=P, app=APP, **environment)


def losses(workers: Fleet) -> int:
    return sum(len(worker.events("consumer lost")) for worker in workers.all)


async def check_long_jobs(
    broker: Broker,
    workers: Fleet,
    ledger: Ledger,
    count: int,
    seconds: float,
    jobs: int,
    limit: int = LIMIT,
) -> list[str]:
    """So many workers, one long job for each, and short ones beside them: the long jobs' ids."""
    async with publishing(broker.url, ledger) as publisher:
        for _ in range(count):
            await start(broker.url, workers, AMQPJOBS_CONSUMER_TIMEOUT=limit)
        for worker in workers.all:
            (warned,) = worker.events(WARNING)
            assert warned["job"] == "long"
            assert "AMQPJOBS_CONSUMER_TIMEOUT" in warned["fix"]
        messages = [long.long.message(number, seconds) for number in range(count)]
        assert await publisher.send_many(messages) == []
        for number in range(jobs):
            assert await publisher.send(long.short.message(number)) is None
            await asyncio.sleep(seconds / jobs)
        await until(lambda: losses(workers), seconds + 10, "RabbitMQ takes a job back")
        # Whatever was lost, what is enqueued now is done at once: nobody has stopped consuming.
        last = [long.short.message(number) for number in range(20)]
        assert await publisher.send_many(last) == []
        await until(lambda: {m.id for m in last} <= ledger.done(), 5, "it is consumed again")
        await publisher.all_done(seconds + 20)
        # A run that was not the first may still go on, and one that is interrupted begins again.
        await quiet(ledger, seconds + 1)
        await finish(broker.url, workers, ledger, app=APP)
    told = [line for worker in workers.all for line in worker.events(TAKEN)]
    assert told
    assert all("long " in line["running"][0] for line in told)
    assert not leftovers(broker.url)
    assert not workers.trouble()
    return [message.id for message in messages]


@pytest.mark.timeout(180)
async def test_a_long_job_runs_once_in_one_worker(
    impatient: Broker, workers: Fleet, ledger: Ledger
) -> None:
    """It is given out again and again while it runs. That is held until the run has ended, and then
    known to be done. Of the short ones beside it, those whose acks were on their way run again."""
    (job,) = await check_long_jobs(impatient, workers, ledger, count=1, seconds=7, jobs=60)
    assert job not in ledger.check(duplicates=losses(workers) * C).duplicates
    (worker,) = workers.all
    assert worker.events("job superseded")


@pytest.mark.timeout(180)
async def test_a_long_job_runs_at_most_once_more_for_each_time_it_lose(
    impatient: Broker, workers: Fleet, ledger: Ledger
) -> None:
    """Another worker may get it, and cannot know: what ran beside it may run once more too."""
    await check_long_jobs(impatient, workers, ledger, count=2, seconds=7, jobs=60)
    ledger.check(duplicates=losses(workers) * C)


@pytest.mark.timeout(180)
async def test_a_durable_job_may_take_any_time(
    impatient: Broker, workers: Fleet, ledger: Ledger, tmp_path: Path
) -> None:
    """Five times as long as RabbitMQ waits: by slices, each row once, and nothing is taken back."""
    await check_sliced(impatient, workers, ledger, tmp_path, rows=30, seconds=0.5)


@pytest.mark.faults_full
@pytest.mark.timeout(900)
async def test_a_durable_job_may_take_ten_minutes(
    impatient: Broker, workers: Fleet, ledger: Ledger, tmp_path: Path
) -> None:
    """The full form: at a consumer timeout of a minute."""
    if impatient.version != "4.3":
        configure(impatient, 60_000, 1000)
    await check_sliced(impatient, workers, ledger, tmp_path, rows=600, seconds=1, limit=60)


async def check_sliced(
    broker: Broker,
    workers: Fleet,
    ledger: Ledger,
    folder: Path,
    rows: int,
    seconds: float,
    limit: int = LIMIT,
) -> None:
    store = f"sqlite:///{folder}/store.db"
    async with publishing(broker.url, ledger) as publisher:
        for _ in range(2):
            variables = {"AMQPJOBS_CONSUMER_TIMEOUT": limit, "AMQPJOBS_STORE_URL": store}
            await start(broker.url, workers, **variables)
        assert await publisher.send(long.sliced.message(rows, seconds)) is None
        whole = {str(row) for row in range(rows)}
        done = lambda: {effect.note for effect in ledger.effects()} == whole  # noqa: E731
        await until(done, rows * seconds * 3 + 20, "all rows are done")
        await finish(broker.url, workers, ledger, app=APP, AMQPJOBS_STORE_URL=store)
    notes = [effect.note for effect in ledger.effects()]
    assert notes == [str(row) for row in range(rows)]
    assert not losses(workers)
    assert not leftovers(broker.url)
    assert not workers.trouble()


@pytest.mark.faults_full
@pytest.mark.timeout(900)
async def test_long_jobs_over_minutes(impatient: Broker, workers: Fleet, ledger: Ledger) -> None:
    """The full form."""
    if impatient.version != "4.3":
        configure(impatient, LONG_LIMIT * 1000, 1000)
    await check_long_jobs(
        impatient, workers, ledger, count=3, seconds=55, jobs=500, limit=LONG_LIMIT
    )
    ledger.check(duplicates=losses(workers) * C)


@pytest.mark.timeout(120)
async def test_rabbitmq_43_is_told_how_long_the_jobs_may_take(
    broker_43: VirtualHost, workers: Fleet, ledger: Ledger
) -> None:
    """The worker's word goes before a shorter policy: nothing is taken back, and nobody warned."""
    policy = {
        "pattern": "^work$",
        "definition": {"consumer-timeout": LIMIT * 1000},
        "apply-to": "queues",
    }
    broker_43.server.api("PUT", f"/policies/{broker_43.name}/short", policy)
    async with publishing(broker_43.url, ledger) as publisher:
        worker = await start(broker_43.url, workers)
        assert await publisher.send(long.long.message(0, LIMIT * 2.5)) is None
        await publisher.all_done(20)
        await finish(broker_43.url, workers, ledger, app=APP)
    assert not worker.events(WARNING)
    assert not losses(workers)
    ledger.check(duplicates=0)
