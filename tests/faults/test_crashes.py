"""F1, F5 to F7: workers are killed, brokers are killed, frozen, and restarted in order."""

import asyncio
from random import Random

import pytest

from amqpjobs.errors import NotConfirmed
from tests.faults.fleet import Fleet, WorkerProcess, until
from tests.faults.ledger import Ledger
from tests.faults.publishing import finish, leftovers, publishing
from tests.support.brokers.broker_server import VirtualHost
from tests.support.brokers.brokers import Broker

C, P, W = 4, 8, 3


async def check_kills(
    broker: VirtualHost,
    workers: Fleet,
    ledger: Ledger,
    random: Random,
    kills: int,
    pause: tuple[float, float],
) -> None:
    async with publishing(broker.url, ledger) as publisher:
        serving = [
            await workers.start(broker.url, "work", concurrency=C, prefetch=P) for _ in range(W)
        ]
        flowing = asyncio.create_task(publisher.flow(1_000_000, 0.002, 0.05))
        for _ in range(kills):
            before = len(ledger.done())
            await until(lambda n=before: len(ledger.done()) >= n + 40, 20, "jobs flow")
            await asyncio.sleep(random.uniform(*pause))
            place = random.randrange(W)
            ledger.fault(f"kill -9 {serving[place].name}")
            serving[place].end()
            serving[place] = await workers.start(broker.url, "work", concurrency=C, prefetch=P)
        flowing.cancel()
        await asyncio.wait([flowing])
        await publisher.all_done(30)
        await finish(broker.url, workers, ledger)
    ledger.check(duplicates=kills * C)
    assert not leftovers(broker.url)
    assert not workers.trouble()


@pytest.mark.row("F1")
async def test_killed_workers_lose_nothing(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, random: Random
) -> None:
    """F1: what ran in a killed worker runs again, and nothing else does."""
    await check_kills(broker, workers, ledger, random, kills=3, pause=(0.0, 0.2))


@pytest.mark.row("F1")
@pytest.mark.faults_full
@pytest.mark.timeout(1800)
async def test_many_killed_workers_lose_nothing(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, random: Random
) -> None:
    """The full form."""
    await check_kills(broker, workers, ledger, random, kills=50, pause=(2.0, 5.0))


def starts(worker: WorkerProcess) -> int:
    return len(worker.events("consuming"))


async def check_broker_kills(
    broker: Broker, workers: Fleet, ledger: Ledger, random: Random, kills: int
) -> None:
    back = 2 * 2 + 5.0
    in_flight = 20
    async with publishing(broker.url, ledger, publish_timeout=100, reconnect_limit=1) as publisher:
        serving = [
            await workers.start(
                broker.url, "work", concurrency=C, prefetch=P,
                AMQPJOBS_HEARTBEAT=2, AMQPJOBS_RECONNECT_LIMIT=1, AMQPJOBS_PUBLISH_TIMEOUT=100,
            )
            for _ in range(2)
        ]  # fmt: skip
        flows = [
            asyncio.create_task(publisher.flow(1_000_000, 0.05, 0.02)) for _ in range(in_flight)
        ]
        for _ in range(kills):
            before = len(ledger.done())
            await until(lambda n=before: len(ledger.done()) >= n + 60, 30, "jobs flow")
            known = {worker: starts(worker) for worker in serving}
            ledger.fault("kill -9 the broker")
            await asyncio.to_thread(broker.kill)
            await asyncio.to_thread(broker.start)
            ledger.tell("the broker is up")
            took = await until(
                lambda k=known: all(starts(worker) > k[worker] for worker in serving),
                back,
                "consumers are back",
            )
            ledger.tell(f"consumers back after {took:.1f} s")
        for flow in flows:
            flow.cancel()
        await asyncio.wait(flows)
        assert not any(flow.result() for flow in flows if not flow.cancelled())
        await publisher.all_done(60)
        await finish(broker.url, workers, ledger)
    ledger.check(duplicates=kills * (C * 2 + in_flight))
    assert not leftovers(broker.url)
    assert not workers.trouble()


@pytest.mark.row("F5")
@pytest.mark.timeout(240)
async def test_a_killed_broker_loses_nothing(
    own_broker: Broker, workers: Fleet, ledger: Ledger, random: Random
) -> None:
    """F5: publishers wait for it within their timeout, consumers come back by themselves."""
    await check_broker_kills(own_broker, workers, ledger, random, kills=1)


@pytest.mark.row("F5")
@pytest.mark.faults_full
@pytest.mark.timeout(3600)
async def test_an_often_killed_broker_loses_nothing(
    own_broker: Broker, workers: Fleet, ledger: Ledger, random: Random
) -> None:
    """The full form."""
    await check_broker_kills(own_broker, workers, ledger, random, kills=10)


async def check_pauses(
    broker: Broker, workers: Fleet, ledger: Ledger, heartbeat: int, brief: float, long: float
) -> None:
    environment = {"AMQPJOBS_HEARTBEAT": heartbeat, "AMQPJOBS_RECONNECT_LIMIT": 1}
    async with publishing(
        broker.url, ledger, publish_timeout=brief + 4, heartbeat=heartbeat, reconnect_limit=1
    ) as publisher:
        worker = await workers.start(broker.url, "work", concurrency=C, prefetch=P, **environment)
        work = publisher.jobs.work
        assert await publisher.send_many(work.message(n, 0.02) for n in range(100)) == []
        ledger.fault(f"SIGSTOP to the broker for {brief} s")
        broker.pause()
        sending = asyncio.create_task(publisher.send_many(work.message(n) for n in range(50)))
        await asyncio.sleep(brief)
        broker.resume()
        assert await sending == []
        await publisher.all_done(20)
        assert not worker.events("connection lost, reconnecting")
        ledger.fault(f"SIGSTOP to the broker for {long} s")
        broker.pause()
        errors = await publisher.send_many(work.message(n) for n in range(50))
        assert len(errors) == 50
        assert all(isinstance(e, NotConfirmed) for e in errors)
        await until(
            lambda: worker.events("connection lost, reconnecting"), long, "the worker notices"
        )
        broker.resume()
        assert await publisher.send_many(work.message(n) for n in range(50)) == []
        await publisher.all_done(30)
        await finish(broker.url, workers, ledger)
    # What was sent into the pause may have arrived, once or, after the reconnect, twice.
    ledger.check(duplicates=50 + C)
    assert not leftovers(broker.url)
    assert not workers.trouble()


@pytest.mark.row("F6")
@pytest.mark.timeout(240)
async def test_a_paused_broker_is_noticed_when_it_stays_away(
    own_broker: Broker, workers: Fleet, ledger: Ledger
) -> None:
    """F6: 2 s are nobody's business; longer than the heartbeats allow is a lost connection."""
    await check_pauses(own_broker, workers, ledger, heartbeat=2, brief=2.0, long=15.0)


@pytest.mark.row("F6")
@pytest.mark.faults_full
@pytest.mark.timeout(600)
async def test_a_broker_paused_for_a_minute(
    own_broker: Broker, workers: Fleet, ledger: Ledger
) -> None:
    """The full form: 5 s, and 60 s with the heartbeat that users have."""
    await check_pauses(own_broker, workers, ledger, heartbeat=15, brief=5.0, long=60.0)


async def check_restarts(broker: Broker, workers: Fleet, ledger: Ledger, restarts: int) -> None:
    width = 2
    async with publishing(broker.url, ledger, publish_timeout=60, reconnect_limit=1) as publisher:
        serving = [
            await workers.start(
                broker.url, "work", concurrency=C, prefetch=P, AMQPJOBS_RECONNECT_LIMIT=1
            )
            for _ in range(width)
        ]
        work = publisher.jobs.work
        for _ in range(restarts):
            assert await publisher.send_many(work.message(n, 0.1) for n in range(200)) == []
            before = len(ledger.done())
            await until(lambda n=before: len(ledger.done()) >= n + 20, 20, "jobs flow")
            known = {worker: starts(worker) for worker in serving}
            ledger.fault("rabbitmqctl stop_app, start_app")
            await asyncio.to_thread(broker.stop_app)
            # Published while it is away, a job waits for it in the publisher.
            sending = asyncio.create_task(publisher.send(work.message(-1)))
            await asyncio.to_thread(broker.start_app)
            took = await until(
                lambda k=known: all(starts(worker) > k[worker] for worker in serving),
                15,
                "consumers are back",
            )
            ledger.tell(f"consumers back after {took:.1f} s")
            assert await sending is None
            await publisher.all_done(60)
        await finish(broker.url, workers, ledger)
    # Queues end before connections are told: what a worker acks in between, and starts in place of
    # it, comes again. More than it was given that can never be.
    ledger.check(duplicates=restarts * P * width)
    assert {effect.attempt for effect in ledger.effects()} == {1}
    assert not leftovers(broker.url)
    assert not workers.trouble()


@pytest.mark.row("F7")
@pytest.mark.timeout(240)
async def test_a_restart_of_the_broker_loses_nothing(
    own_broker: Broker, workers: Fleet, ledger: Ledger
) -> None:
    """F7: in order, with a farewell to each connection: only what a worker held may run again."""
    await check_restarts(own_broker, workers, ledger, restarts=1)


@pytest.mark.row("F7")
@pytest.mark.faults_full
@pytest.mark.timeout(3600)
async def test_many_restarts_of_the_broker_lose_nothing(
    own_broker: Broker, workers: Fleet, ledger: Ledger
) -> None:
    """The full form."""
    await check_restarts(own_broker, workers, ledger, restarts=10)
