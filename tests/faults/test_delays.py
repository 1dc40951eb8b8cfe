"""F19 and F20: delays while the broker is killed, and delays towards a queue that is gone."""

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from statistics import quantiles

import pytest

from amqpjobs.jobs.queue.delays import wait_route
from tests.faults.fleet import Fleet, WorkerProcess, until
from tests.faults.ledger import Ledger
from tests.faults.publishing import Publishing, finish, leftovers, publishing
from tests.faults.stranger import Stranger, message_id
from tests.support.brokers.broker_server import VirtualHost
from tests.support.brokers.brokers import Broker

C, P = 20, 40

UNROUTABLE = "amqpjobs.delay.unroutable"


@dataclass
class Plan:
    """When each job is due, and when the broker was away.

    Attributes:
        due: by id: seconds since the epoch.
        sent: by id, the same.
        outages: from when to when nothing could be delivered.
    """

    due: dict[str, float] = field(default_factory=dict)
    sent: dict[str, float] = field(default_factory=dict)
    outages: list[tuple[float, float]] = field(default_factory=list)

    async def send(self, publisher: Publishing, job: object, delays: list[float]) -> None:
        """Publish a job for each delay, in seconds from now."""
        messages = []
        for number, delay in enumerate(delays):
            # To the millisecond, as it travels.
            now = time.time()
            due = round(now + delay, 3)
            at = datetime.fromtimestamp(due, UTC)
            message = job.with_options(at=at).message(number)  # type: ignore[attr-defined]
            self.due[message.id], self.sent[message.id] = due, now
            messages.append(message)
        assert await publisher.send_many(messages) == []

    def lateness(self, ledger: Ledger) -> list[float]:
        """Of each job: seconds from when it was due to when it started, without those since it was
        sent in which the broker was away, or still had to be found again. What goes down the
        ladder stands still meanwhile, and its next level is as long as ever."""
        started: dict[str, float] = {}
        for effect in ledger.effects():
            started[effect.id] = min(effect.start, started.get(effect.id, effect.start))
        return [self._late(i, start) for i, start in started.items() if i in self.due]

    def _late(self, job: str, start: float) -> float:
        late = start - self.due[job]
        away = sum(max(0.0, min(start, to) - max(self.sent[job], at)) for at, to in self.outages)
        return late if late < 0 else max(0.0, late - away)


def p99(values: list[float]) -> float:
    return quantiles(values, n=100)[98]


def starts(worker: WorkerProcess) -> int:
    return len(worker.events("consuming"))


async def kill(broker: Broker, worker: WorkerProcess, plan: Plan, ledger: Ledger) -> None:
    """kill -9, start, and wait until the worker is back."""
    known, since = starts(worker), time.time()
    ledger.fault("kill -9 the broker")
    await asyncio.to_thread(broker.kill)
    await asyncio.to_thread(broker.start)
    await until(lambda: starts(worker) > known, 15, "the consumer is back")
    plan.outages.append((since, time.time()))
    ledger.tell(f"away for {time.time() - since:.1f} s")


async def check_delays(
    broker: Broker, workers: Fleet, ledger: Ledger, random: Random, *,
    kills: int, each: int, longest: float, pause: tuple[float, float],
) -> None:  # fmt: skip
    plan = Plan()
    settings = {"publish_timeout": 100, "reconnect_limit": 1}
    async with publishing(broker.url, ledger, **settings) as publisher:
        worker = await workers.start(
            broker.url, "work", concurrency=C, prefetch=P,
            AMQPJOBS_HEARTBEAT=2, AMQPJOBS_RECONNECT_LIMIT=1, AMQPJOBS_PUBLISH_TIMEOUT=100,
        )  # fmt: skip
        work = publisher.jobs.work
        # Every level that will be used is there, and in the broker's tables, before it is killed.
        await plan.send(publisher, work, [1.0, longest])
        for _ in range(kills):
            delays = [random.uniform(1.0, longest) for _ in range(each)]
            await plan.send(publisher, work, delays)
            await asyncio.sleep(random.uniform(*pause))
            await kill(broker, worker, plan, ledger)
        await publisher.all_done(longest + 30)
        await finish(broker.url, workers, ledger)
    late = plan.lateness(ledger)
    ledger.measured(
        f"earliest {min(late) * 1000:+.0f} ms, p99 {p99(late):.2f} s, last {max(late):.2f} s late, "
        f"beyond {sum(to - since for since, to in plan.outages):.0f} s away"
    )
    # A killed broker may deliver again what it had acks for, and what was published into it.
    ledger.check(duplicates=kills * (C + P))
    assert min(late) >= 0, "a job was early"
    assert p99(late) < 2.0
    assert not leftovers(broker.url)
    assert not workers.trouble()


@pytest.mark.row("F19")
@pytest.mark.timeout(300)
async def test_delays_outlast_a_killed_broker(
    own_broker: Broker, workers: Fleet, ledger: Ledger, random: Random
) -> None:
    """Killed three times while jobs wait: none is early, none is lost, nearly none is late by more
    than the broker was away."""
    await check_delays(
        own_broker, workers, ledger, random, kills=3, each=150, longest=10.0, pause=(0.5, 3.0)
    )


@pytest.mark.row("F19")
@pytest.mark.faults_full
@pytest.mark.timeout(1800)
async def test_ten_thousand_delays_outlast_a_killed_broker(
    own_broker: Broker, workers: Fleet, ledger: Ledger, random: Random
) -> None:
    """The full form: up to a minute."""
    await check_delays(
        own_broker, workers, ledger, random, kills=3, each=3333, longest=60.0, pause=(5.0, 15.0)
    )


async def check_dead_destination(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, *, count: int, delay: float
) -> None:
    before, after = Plan(), Plan()
    patience = 20 + count / 200  # seconds after they were due, all in one second
    async with publishing(broker.url, ledger) as publisher:
        await workers.start(broker.url, "work", concurrency=C, prefetch=P)
        jobs = publisher.jobs
        spread = [delay + n / count for n in range(count)]
        await before.send(publisher, jobs.work, spread)
        await publisher.all_done(delay + patience)
        lost = [jobs.other.with_options(delay=delay + n / count).message(n) for n in range(100)]
        await after.send(publisher, jobs.work, spread)
        assert await publisher.send_many(lost) == []
        with Stranger(broker.url) as stranger:
            stranger.delete("other")
            ledger.fault("deleted a queue that 100 jobs wait for")
            await until(
                lambda s=stranger: s.ready(UNROUTABLE) == 100, delay + patience, "they are caught"
            )
            found = {message_id(properties) for properties, _ in stranger.drain(UNROUTABLE)}
        assert found == {message.id for message in lost}
        await until(lambda: after.due.keys() <= ledger.done(), patience, "the others are done")
        await finish(broker.url, workers, ledger)
    usual, then = p99(before.lateness(ledger)), p99(after.lateness(ledger))
    ledger.measured(f"p99 lateness of other queues: {usual:.2f} s before, {then:.2f} s with it")
    ledger.check(duplicates=0, dead=found)
    assert min(after.lateness(ledger)) >= 0
    # Whoever is stalled waits for as long as the queue is away. How fast so many get through in a
    # second differs with what else the machine does.
    assert then < 2 * usual + 0.5
    assert not leftovers(broker.url)
    assert not workers.trouble()


@pytest.mark.row("F20")
async def test_delays_to_a_queue_that_is_gone_stall_nobody(
    broker: VirtualHost, workers: Fleet, ledger: Ledger
) -> None:
    """Its queue is deleted while 100 jobs wait for it: they are all in the catch-all, and the jobs
    of another queue that wait beside them come as if nothing had happened."""
    await check_dead_destination(broker, workers, ledger, count=100, delay=3.0)


@pytest.mark.row("F20")
@pytest.mark.faults_full
@pytest.mark.timeout(600)
async def test_delays_to_a_queue_that_is_gone_stall_nobody_among_many(
    broker: VirtualHost, workers: Fleet, ledger: Ledger
) -> None:
    """The full form: ten thousand beside them."""
    await check_dead_destination(broker, workers, ledger, count=10_000, delay=31.0)


async def test_the_broker_s_own_headers_must_not_go_round_with_a_message(
    broker: VirtualHost, ledger: Ledger
) -> None:
    """What a level wrote into `x-death`, sent through that level again, is a cycle for RabbitMQ up
    to 3.13, which drops it without a word: the reason why no copy of ours has these headers."""
    exchange, key = wait_route(3, "echo")
    async with publishing(broker.url, ledger) as publisher:
        echo = publisher.jobs.echo.with_options(delay=3.9)
        assert await publisher.send(echo.message("first")) is None
        with Stranger(broker.url) as stranger:
            await until(lambda: stranger.ready("echo") == 1, 10, "it has come down the ladder")
            [(header, body)] = stranger.drain("echo")
            assert b"x-death" in header
            # By hand, as it is; and then one of ours, which takes the same way behind it.
            stranger.publish(key, body, header[12:], exchange)
            ledger.fault("published with x-death")
            assert await publisher.send(echo.message("behind it")) is None
            behind = b'"behind it"'
            arrived: list[bytes] = []

            def came() -> bool:
                arrived.extend(found for _, found in stranger.drain("echo"))
                return behind in arrived

            await until(came, 15, "the one behind it has come")
            levels = ["amqpjobs.delay.00", "amqpjobs.delay.01", UNROUTABLE]
            held = sum(stranger.ready(queue) for queue in levels)
    if broker.version == "3.10":
        assert (arrived, held) == ([behind], 0)
    else:
        assert sorted(arrived) == sorted([body, behind])


async def test_a_job_goes_down_the_same_levels_again_and_again(
    broker: VirtualHost, workers: Fleet, ledger: Ledger
) -> None:
    """Delayed, retried and retried again: each time through both of the lowest levels."""
    async with publishing(broker.url, ledger) as publisher:
        await workers.start(broker.url, "work")
        again = publisher.jobs.again.with_options(delay=3.9)
        assert await publisher.send(again.message(3.9, 2)) is None
        took = await publisher.all_done(25)
        assert took > 3 * 3
    await workers.stop()
    assert [effect.attempt for effect in ledger.effects()] == [3]
    ledger.check(duplicates=0)
    assert not leftovers(broker.url)
    assert not workers.trouble()
