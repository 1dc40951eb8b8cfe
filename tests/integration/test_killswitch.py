"""A dependency that is down, on real brokers: the queue pauses, tries, and resumes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from amqpjobs import App, Context, KillSwitch, Queue, Retry
from amqpjobs.broker.rabbitmq.declarer import Declarer
from amqpjobs.broker.rabbitmq.inspection.overview import rows_of
from amqpjobs.broker.rabbitmq.inspection.queues import connected
from amqpjobs.client.client import registry_of
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.outcome import Retried
from amqpjobs.worker.worker import Worker
from tests.support.amqp import close_connections, count, stranger
from tests.support.brokers.broker_server import VirtualHost
from tests.support.waiting import until
from tests.support.workers import app_at, working

JOBS = 50
SWITCH = KillSwitch(at_least=5, window=30, pause=0.5, longest=2)
SOON = Retry(attempts=30, first=0.1, limit=0.3)


FAILED = Retried(
    Failure("failed", "", None, (), "job", "work", "here", 0.0, 1), 1.0, ConnectionError()
)
"""What a run that failed ends with."""


class Outage:
    """An app whose one job needs something that is down, until `fix` is called."""

    def __init__(self, url: str, switch: KillSwitch = SWITCH, **options: Any) -> None:
        self.app: App = app_at(url)
        self.down = True
        self.runs: dict[int, int] = {}
        self.done: list[int] = []
        self.running = self.most = 0
        self.hold = asyncio.Event()
        self.hold.set()

        @self.app.job(queue=Queue("work", kill_switch=switch, **options), retry=SOON)
        async def job(n: int) -> None:
            self.runs[n] = self.runs.get(n, 0) + 1
            self.running += 1
            self.most = max(self.most, self.running)
            try:
                await self.hold.wait()
                if self.down:
                    raise ConnectionRefusedError
                self.done.append(n)
            finally:
                self.running -= 1

        @self.app.job(queue="other")
        async def other(n: int) -> None:
            self.done.append(n)

        self.job, self.other = job, other

    async def publish(self, count: int = JOBS) -> None:
        await self.app.later_many(self.job.message(n) for n in range(count))

    @asynccontextmanager
    async def worker(self, **options: Any) -> AsyncIterator[Worker]:
        async with working(self.app, **{"concurrency": 4, "prefetch": 10, **options}) as worker:
            yield worker

    @property
    def ran(self) -> int:
        return sum(self.runs.values())


def paused(worker: Worker) -> bool:
    return all(
        s.paused and not s.consuming for s in worker._consuming.subscriptions if s.queue != "other"
    )


async def states(app: App) -> dict[str, Any]:
    async with connected(app.settings, "inspect") as wire:
        rows = await rows_of(app.queues, wire, app.settings)
    return {row["queue"]: row.get("state") for row in rows}


async def waiting(url: str, *queues: str) -> int:
    async with stranger(url) as channel:
        return sum([await count(channel, queue) for queue in queues])


async def test_an_outage_uses_up_few_attempts(broker: VirtualHost) -> None:
    """Most jobs are not started while it is down; all of them succeed afterwards, none is dead."""
    outage = Outage(broker.url)
    async with outage.worker() as worker:
        await outage.publish()
        await until(lambda: paused(worker), "it is paused")
        ran = outage.ran
        assert SWITCH.at_least <= ran <= SWITCH.at_least + 4
        assert worker.ready
        # Nothing is held here meanwhile: other workers may have it.
        await until(lambda: worker.snapshot().waiting == 0, "what was not started is given back")
        # Two trials go by, and each costs one attempt.
        await until(lambda: outage.ran >= ran + 2, "it was tried twice")
        outage.down = False
        await until(lambda: len(outage.done) == JOBS, "all are done")
        await until(lambda: worker._consuming.subscriptions[0].consuming, "it is consumed")
    assert sorted(outage.done) == list(range(JOBS))
    assert outage.ran <= JOBS + ran + 10
    assert await waiting(broker.url, "work", "work.dead") == 0


async def test_the_other_queues_go_on(broker: VirtualHost) -> None:
    """It is the queue that is paused, not the worker."""
    outage = Outage(broker.url, KillSwitch(at_least=3, pause=60))
    async with outage.worker() as worker:
        await outage.publish(10)
        await until(lambda: paused(worker), "it is paused")
        await outage.other.later(99)
        await until(lambda: 99 in outage.done, "the other job is done")


async def test_what_runs_when_it_pauses_is_settled(broker: VirtualHost) -> None:
    """Its channel stays: nothing runs twice."""
    outage = Outage(broker.url, KillSwitch(at_least=1, ratio=0, pause=60))
    outage.down = False
    outage.hold.clear()
    async with outage.worker(concurrency=3) as worker:
        await outage.publish(3)
        await until(lambda: outage.running == 3, "three run")
        outage.down = True
        tasks = list(worker._consuming.running.values())
        worker._consuming.pausing.ended(next(iter(worker._consuming.running)).delivery, FAILED)
        await until(lambda: paused(worker), "it is paused")
        outage.down = False
        outage.hold.set()
        await asyncio.wait(tasks)
        assert len(outage.done) == 3
    assert await waiting(broker.url, "work", "work.dead") == 0


async def test_queues_says_what_is_paused(broker: VirtualHost) -> None:
    """By a mark that the first of two workers holds; it is gone when that worker is."""
    outage = Outage(broker.url, KillSwitch(at_least=3, pause=60))
    assert await states(outage.app) == {"work": None, "other": None}
    async with outage.worker() as first, outage.worker() as second:
        assert await states(outage.app) == {"work": "consuming", "other": "consuming"}
        await outage.publish(30)
        await until(lambda: paused(first) and paused(second), "both are paused")

        async def said() -> bool:
            return await states(outage.app) == {"work": "paused", "other": "consuming"}

        await until(said, "it says so")
    assert (await states(outage.app))["work"] is None


async def test_the_mark_is_gone_when_it_resumes(broker: VirtualHost) -> None:
    """And the whole prefetch is back."""
    outage = Outage(broker.url, priorities={"high": 2, "low": 1})
    async with outage.worker() as worker:
        await outage.publish(10)
        await until(lambda: paused(worker), "it is paused")
        outage.down = False
        await until(lambda: len(outage.done) == 10, "all are done")

        async def said() -> bool:
            found = await states(outage.app)
            return found["work"] == found["work.high"] == "consuming"

        await until(said, "it is consumed, and nobody says otherwise")
        lanes = [s for s in worker._consuming.subscriptions if s.queue != "other"]
        assert [s._has for s in lanes] == [10, 10]


async def test_a_paused_queue_is_tried_one_job_at_a_time(broker: VirtualHost) -> None:
    """A dependency that just came up is not run over, whatever waits."""
    outage = Outage(broker.url, KillSwitch(at_least=3, pause=0.3, longest=0.3))
    async with outage.worker() as worker:
        await outage.publish(20)
        await until(lambda: paused(worker), "it is paused")
        await until(lambda: not outage.running, "nothing runs")
        outage.most, ran = 0, outage.ran
        await until(lambda: outage.ran >= ran + 3, "it was tried three times")
        assert outage.most == 1
        outage.hold.clear()
        await until(lambda: outage.running == 1, "a trial runs")
        async with stranger(broker.url) as channel:
            found = await channel.declare_queue("work", passive=True)
            assert found.declaration_result.consumer_count == 1
        assert worker.snapshot().waiting == 0
        outage.down = False
        outage.hold.set()
        await until(lambda: len(outage.done) == 20, "all are done")


async def test_a_long_outage_sends_nobody_to_the_dead_letters(broker: VirtualHost) -> None:
    """What is at the head of its queue is delivered and given back with every trial. Up to 4.2
    RabbitMQ counts that, and puts away what was given back too often."""
    switch = KillSwitch(at_least=3, pause=0.05, longest=0.05)
    outage = Outage(broker.url, switch, delivery_limit=4, priorities={"high": 2, "low": 1})
    async with outage.worker() as worker:
        await outage.app.later_many(
            outage.job.with_options(priority=priority).message(n)
            for n, priority in enumerate(["high", "low"] * 10)
        )
        await until(lambda: paused(worker), "it is paused")
        ran = outage.ran
        await until(lambda: outage.ran >= ran + 25, "it was tried many times")
        outage.down = False
        await until(lambda: len(outage.done) == 20, "all are done")
    assert sorted(outage.done) == list(range(20))
    assert await waiting(broker.url, "work", "work.high", "work.dead") == 0


async def test_a_classic_queue_pauses_and_resumes_too(broker: VirtualHost) -> None:
    """There, what was given back cannot be told from what a worker died of: it is run in
    quarantine, behind the same gate."""
    outage = Outage(broker.url, KillSwitch(at_least=3, pause=0.3), type="classic")
    async with outage.worker() as worker:
        await outage.publish(15)
        await until(lambda: paused(worker), "it is paused")
        await until(lambda: not outage.running, "nothing runs")
        outage.most, ran = 0, outage.ran
        await until(lambda: outage.ran >= ran + 2, "it was tried twice")
        assert outage.most == 1
        outage.down = False
        await until(lambda: len(outage.done) == 15, "all are done")
    assert sorted(outage.done) == list(range(15))
    assert await waiting(broker.url, "work", "work.dead") == 0


async def test_a_lost_connection_does_not_resume(broker: VirtualHost) -> None:
    """It connects again, stays paused, says so again, and resumes when it is time."""
    outage = Outage(broker.url, KillSwitch(at_least=3, pause=6))
    async with outage.worker() as worker:
        await outage.publish(10)
        await until(lambda: paused(worker), "it is paused")
        assert worker._consuming.subscriptions[0].starts == 1
        await until(lambda: close_connections(broker, "consume"), "the connection is closed")
        await until(lambda: worker._link.reconnects == 1 and worker.ready, "it is back")
        assert paused(worker)

        async def said() -> bool:
            return (await states(outage.app))["work"] == "paused"

        await until(said, "it says so again")
        assert worker._consuming.subscriptions[0].starts == 1
        outage.down = False
        await until(lambda: len(outage.done) == 10, "all are done")


async def test_a_paused_worker_stops_at_once(broker: VirtualHost) -> None:
    """With everything given back, and no attempt used."""
    outage = Outage(broker.url, KillSwitch(at_least=3, pause=60))
    outage.app.configure(shutdown_timeout=15)
    async with outage.worker() as worker:
        await outage.publish(10)
        await until(lambda: paused(worker), "it is paused")
        await until(lambda: not outage.running, "nothing runs")
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 10, "it used its budget up"
    outage.down = False
    async with outage.worker():
        await until(lambda: len(outage.done) == 10, "another worker does them")


async def test_without_permission_there_is_only_the_log(
    broker: VirtualHost, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that may not configure queues pauses all the same."""
    server, name = broker.server, f"user-{broker.name}"
    outage = Outage(broker.url)
    async with connected(outage.app.settings, "declare") as wire, Declarer(wire) as declarer:
        await declarer.apply(registry_of(outage.app).topology)
    caplog.set_level("INFO", "amqpjobs")
    server.add_user(name, "secret")
    server.set_permissions(name, broker.name, configure="^amqpjobs.delay.*$")
    mute = Outage(broker.url.replace("guest:guest", f"{name}:secret"))
    try:
        async with mute.worker() as worker:
            await mute.publish(10)
            await until(lambda: paused(worker), "it is paused")
            assert (await states(outage.app))["work"] != "paused"
            mute.down = False
            await until(lambda: len(mute.done) == 10, "all are done")
    finally:
        server.delete_user(name)
    assert "queue paused" in caplog.text
    assert "pause mark not set" in caplog.text


async def test_the_queue_is_left_alone_for_as_long_as_a_job_says(broker: VirtualHost) -> None:
    """A 429: the job comes again, no attempt used, and no other one starts before."""
    app = app_at(broker.url)
    loop = asyncio.get_running_loop()
    starts: list[tuple[float, int]] = []

    @app.job(queue="api")
    async def call(ctx: Context, n: int) -> None:
        starts.append((loop.time(), ctx.attempt))
        if len(starts) == 1:
            raise ctx.rate_limited(1.5)

    async with working(app, concurrency=1, prefetch=10):
        await app.later_many(call.message(n) for n in range(5))
        await until(lambda: len(starts) == 6, "all ran")
    assert starts[1][0] - starts[0][0] >= 1.4
    assert {attempt for _, attempt in starts} == {1}
    assert await waiting(broker.url, "api", "api.dead") == 0


async def test_for_a_long_while_nothing_is_held(broker: VirtualHost) -> None:
    """What waits goes back to the queue, which is marked as paused."""
    app = app_at(broker.url)

    @app.job(queue="api")
    async def call(ctx: Context, n: int) -> None:
        raise ctx.rate_limited(3600)

    async with working(app, concurrency=1, prefetch=10) as worker:
        await app.later_many(call.message(n) for n in range(5))
        await until(lambda: paused(worker), "it is paused")
        await until(lambda: worker.snapshot().waiting == 0, "nothing is held")

        async def back() -> bool:
            return await waiting(broker.url, "api") == 4

        await until(back, "four are on the broker")
        assert (await states(app))["api"] == "paused"


async def test_a_rate_holds(broker: VirtualHost) -> None:
    """No more starts than it says, and no fewer than it allows."""
    app = app_at(broker.url)
    loop = asyncio.get_running_loop()
    starts: list[float] = []

    @app.job(queue=Queue("slow", rate="20/s", priorities={"high": 2, "low": 1}))
    async def job(n: int) -> None:
        starts.append(loop.time())

    @app.job(queue="fast")
    async def fast(n: int) -> None: ...

    async with working(app) as worker:
        await app.later_many(job.message(n) for n in range(60))
        await until(lambda: len(starts) == 60, "all ran")
        assert worker.ready
    took = starts[-1] - starts[0]
    # 20 at once, and 40 at 20 a second.
    assert 1.9 <= took < 10, took
