"""F2 and F4: workers that stop for a while, and workers that are killed while they stop."""

import asyncio
import signal
from random import Random

import pytest

from tests.faults.fleet import Fleet, WorkerProcess, until
from tests.faults.ledger import Ledger
from tests.faults.publishing import finish, leftovers, publishing
from tests.faults.stranger import Stranger
from tests.support.brokers.broker_server import VirtualHost

C, P = 4, 8


def starts(worker: WorkerProcess) -> int:
    return len(worker.events("consuming"))


async def check_freezes(
    broker: VirtualHost,
    workers: Fleet,
    ledger: Ledger,
    *,
    stops: int,
    heartbeat: int,
    frozen: float,
) -> None:
    """Freeze a worker that has its hands full, until another one has done its jobs."""
    async with publishing(broker.url, ledger) as publisher:
        victim = await workers.start(
            broker.url, "work", concurrency=C, prefetch=P, AMQPJOBS_HEARTBEAT=heartbeat
        )
        work = publisher.jobs.work
        for number in range(1, stops + 1):
            # Full slots, more that wait for one, and some that it does not have yet.
            assert await publisher.send_many(work.message(n, 0.5) for n in range(3 * P)) == []
            mine = len(ledger.done())
            await until(lambda n=mine: len(ledger.done()) >= n + C, 20, "it works")
            ledger.fault(f"SIGSTOP to {victim.name}")
            victim.send(signal.SIGSTOP)
            other = await workers.start(broker.url, "work", concurrency=C, prefetch=P)
            took = await publisher.all_done(frozen)
            ledger.tell(f"its jobs are done elsewhere, after {took:.1f} s")
            await asyncio.sleep(max(0.0, frozen - took) if heartbeat > 2 else 0)
            ledger.tell(f"SIGCONT to {victim.name}")
            victim.send(signal.SIGCONT)
            await until(lambda n=number: starts(victim) == n + 1, 30, "it consumes again")
            other.send(signal.SIGTERM)
            assert await other.ended(20) == 0, other.tail()
            ledger.tell(f"{ledger.verdict()}")
        await finish(broker.url, workers, ledger)
    verdict = ledger.check(duplicates=stops * C)
    # What ran when it was frozen came to its end, and its acks were for a connection that was gone.
    assert verdict.repeated > 0
    assert len(victim.events("the process was away")) == stops
    assert {effect.attempt for effect in ledger.effects()} == {1}
    assert not leftovers(broker.url)
    assert not workers.trouble()


@pytest.mark.row("F2")
async def test_the_jobs_of_a_frozen_worker_are_done_elsewhere(
    broker: VirtualHost, workers: Fleet, ledger: Ledger
) -> None:
    """Frozen for longer than the broker waits. Back again it ends what ran, and starts nothing of
    what it was given before."""
    await check_freezes(broker, workers, ledger, stops=2, heartbeat=2, frozen=20)


@pytest.mark.row("F2")
@pytest.mark.faults_full
@pytest.mark.timeout(1800)
async def test_the_jobs_of_a_worker_frozen_for_long_are_done_elsewhere(
    broker: VirtualHost, workers: Fleet, ledger: Ledger
) -> None:
    """The full form: 90 s, with the heartbeat that users have."""
    await check_freezes(broker, workers, ledger, stops=3, heartbeat=15, frozen=90)


async def check_kills_while_stopping(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, random: Random, rounds: int
) -> None:
    async with publishing(broker.url, ledger) as publisher:
        work = publisher.jobs.work
        given_back: set[str] = set()
        for _ in range(rounds):
            worker = await workers.start(broker.url, "work", concurrency=C, prefetch=P)
            # Some end while it stops, some run for longer than it is left.
            lengths = [6.0, *(random.choice((0.5, 1.5, 6.0)) for _ in range(P - 1))]
            messages = [work.message(n, seconds) for n, seconds in enumerate(lengths)]
            assert await publisher.send_many(messages) == []
            with Stranger(broker.url) as stranger:
                await until(lambda s=stranger: s.ready("work") == 0, 10, "it has them all")
            ledger.tell(f"SIGTERM to {worker.name}")
            worker.send(signal.SIGTERM)
            await until(lambda w=worker: w.events("job released"), 10, "it gives back")
            await asyncio.sleep(random.uniform(0.0, 2.0))
            assert worker.running
            ledger.fault(f"kill -9 {worker.name}")
            worker.end()
            given_back |= {line["job_id"] for line in worker.events("job released")}
            await workers.start(broker.url, "work", concurrency=P, prefetch=P)
            await publisher.all_done(30)
            await finish(broker.url, workers, ledger)
    ledger.check(duplicates=rounds * C)
    # Neither giving back nor the death of its worker used an attempt of any job.
    assert given_back
    assert {effect.attempt for effect in ledger.effects()} == {1}
    assert not leftovers(broker.url)
    assert not workers.trouble()


@pytest.mark.row("F4")
async def test_a_worker_killed_while_it_stops_loses_nothing(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, random: Random
) -> None:
    """SIGTERM, and up to 2 s later kill -9: what was given back and what ran are done elsewhere."""
    await check_kills_while_stopping(broker, workers, ledger, random, rounds=1)


@pytest.mark.row("F4")
@pytest.mark.faults_full
@pytest.mark.timeout(1800)
async def test_many_workers_killed_while_they_stop_lose_nothing(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, random: Random
) -> None:
    """The full form."""
    await check_kills_while_stopping(broker, workers, ledger, random, rounds=20)
