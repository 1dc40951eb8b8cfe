"""F3: workers are restarted one after the other while jobs flow. Nothing runs twice."""

import asyncio
import signal
import time

import pytest

from amqpjobs.worker.worker import Worker
from tests.faults.fleet import Fleet, until
from tests.faults.jobs import LEDGER, build
from tests.faults.ledger import Ledger
from tests.faults.publishing import Publishing, leftovers, publishing, settings_for
from tests.faults.stranger import Stranger
from tests.support.brokers.broker_server import VirtualHost

BUDGET = 8.0


async def rolling_restart(
    url: str, workers: Fleet, ledger: Ledger, publisher: Publishing, *, rounds: int, width: int
) -> list[float]:
    """Replace each worker in turn, `rounds` times; how long each took to end."""
    serving = [await workers.start(url, "work") for _ in range(width)]
    took = []
    flowing = asyncio.create_task(publisher.flow(1_000_000, 0.005, 0.02))
    try:
        for _ in range(rounds):
            for place, old in enumerate(serving):
                serving[place] = await workers.start(url, "work")
                began = time.monotonic()
                ledger.fault(f"SIGTERM to {old.name}")
                old.send(signal.SIGTERM)
                assert await old.ended(BUDGET + 4) == 0, old.tail()
                took.append(time.monotonic() - began)
    finally:
        flowing.cancel()
        await asyncio.wait([flowing])
    return took


async def check_rolling_restart(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, rounds: int, width: int
) -> None:
    async with publishing(broker.url, ledger) as publisher:
        took = await rolling_restart(
            broker.url, workers, ledger, publisher, rounds=rounds, width=width
        )
        await publisher.all_done(30)
    await workers.stop()
    assert max(took) < BUDGET
    # Cut off in the middle, the flow may have left one job that nobody knows to be confirmed.
    ledger.check(duplicates=0)
    assert {effect.attempt for effect in ledger.effects()} == {1}
    assert not leftovers(broker.url)
    assert not workers.trouble()


@pytest.mark.row("F3")
async def test_a_rolling_restart_runs_nothing_twice(
    broker: VirtualHost, workers: Fleet, ledger: Ledger
) -> None:
    """Two workers, replaced one after the other; attempts stay at 1, exits at 0."""
    await check_rolling_restart(broker, workers, ledger, rounds=1, width=2)


@pytest.mark.row("F3")
@pytest.mark.faults_full
@pytest.mark.timeout(1800)
async def test_rolling_restarts_for_long(
    broker: VirtualHost, workers: Fleet, ledger: Ledger
) -> None:
    """The full form: four workers, ten times."""
    await check_rolling_restart(broker, workers, ledger, rounds=10, width=4)


async def test_a_job_given_back_often_is_not_dead_lettered_for_it(
    broker: VirtualHost,
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A job that waits behind a long one is given back at every restart: 25 deploys in its life
    are not its fault. Up to 4.2 RabbitMQ counts each towards the queue's limit of 20, so that the
    worker gives back a copy when half of it is used."""
    monkeypatch.setenv(LEDGER, str(ledger.effects_file))
    settings = settings_for(broker.url, shutdown_timeout=0.6)
    async with publishing(broker.url, ledger) as publisher:
        await publisher.send_many(publisher.jobs.work.message(n, 30.0) for n in range(4))
        for _ in range(25):
            worker = Worker(build(settings).app, ["work"], concurrency=1, prefetch=4)
            running = asyncio.create_task(worker.run())
            await until(lambda w=worker: " 0 running" not in repr(w), 10, "a job runs")
            worker.stop()
            await running
    with Stranger(broker.url) as stranger:
        assert (stranger.ready("work"), stranger.ready("work.dead")) == (4, 0)
