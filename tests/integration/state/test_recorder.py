"""Recording: from jobs that run to what `app.status` says, whatever fails in between."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from amqpjobs import Context
from amqpjobs.app import App
from amqpjobs.broker.rabbitmq.connection import Link
from amqpjobs.client.client import registry_of
from amqpjobs.client.deadletters import Selection
from amqpjobs.settings import Settings
from amqpjobs.state.status.reader import statuses_of
from amqpjobs.state.status.recorder import Recorder
from amqpjobs.state.store.engine import open_engine
from amqpjobs.state.store.migrate import migrate
from tests.support.amqp import close_connections, stranger
from tests.support.brokers.broker_server import VirtualHost
from tests.support.brokers.brokers import Broker
from tests.support.brokers.postgres import Postgres
from tests.support.waiting import PATIENCE, until
from tests.support.workers import app_at, working


@asynccontextmanager
async def recording(app: App) -> AsyncIterator[Recorder]:
    """A recorder that consumes inside of the block."""
    recorder = Recorder(app.settings)
    task = asyncio.create_task(recorder.run())
    started = asyncio.create_task(recorder.started())
    try:
        await asyncio.wait((task, started), timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        assert started.done()
        yield recorder
    finally:
        started.cancel()
        task.cancel()
        await asyncio.wait([task])


async def migrated(app: App) -> None:
    engine = open_engine(app.settings)
    await migrate(engine)
    await engine.dispose()


async def ended(app: App, job_id: str, state: str = "done") -> Any:
    """Wait until it is recorded. `App.status` may know more than the store: what this app saw."""

    async def look() -> Any:
        kept = await statuses_of(app.client).recent(states=[state], limit=500)
        return next((found for found in kept if found.id == job_id), None)

    return await until(look, f"{job_id} {state}")


def app_with(broker: VirtualHost | Broker, store_url: str, **settings: Any) -> App:
    app = app_at(broker.url, store_url=store_url, **settings)

    @app.job(queue="q", name="double", keep_result=True)
    async def double(ctx: Context, n: int) -> int:
        await ctx.progress(0.5, "half")
        return 2 * n

    return app


def double(app: App, n: int) -> Any:
    from amqpjobs.jobs.job import Job

    job: Job[Any, int, Any] = Job(registry_of(app).find("double"))
    return job.message(n)


async def test_the_life_of_a_job_is_known(broker: VirtualHost, store_url: str) -> None:
    """From its start to its result, while it runs and after it."""
    app = app_with(broker, store_url)
    await migrated(app)
    async with recording(app) as recorder, app.lifespan():
        handle = await app.enqueue(double(app, 21))
        queued = await ended(app, handle.id, "queued")
        assert (queued.attempt, queued.started_at) == (0, None)
        async with working(app):
            found = await ended(app, handle.id)
        assert await app.status("nobody") is None
    assert (found.result, found.has_result) == (42, True)
    assert (found.progress, found.detail) == (1.0, "half")
    assert found.queued_at <= found.started_at <= found.ended_at
    assert recorder.recorded >= 3
    assert recorder.dropped == 0
    await app.close()


async def test_a_replayed_job_is_queued_again(broker: VirtualHost, store_url: str) -> None:
    """And dead no more, although no worker has seen it yet."""
    app = app_at(broker.url, store_url=store_url)

    @app.job(queue="q")
    async def fails() -> None:
        raise ValueError("no")

    await migrated(app)
    async with recording(app), app.lifespan():
        handle = await fails.later()
        async with working(app):
            dead = await ended(app, handle.id, "failed")
        assert (await app.dead_letters().replay(Selection(which=(handle.id,)))).done == 1
        again = await ended(app, handle.id, "queued")
    assert (dead.epoch, again.epoch) == (0, 1)
    assert not again.ended
    assert again.error is None
    await app.close()


async def test_nonsense_is_dropped_and_counted(broker: VirtualHost, tmp_path: Path) -> None:
    """Anybody may publish to the exchange; what is good in a message is kept."""
    app = app_with(broker, f"sqlite:///{tmp_path}/s.db")
    good = {
        "id": "7", "job": "j", "queue": "q", "state": "started", "epoch": 0, "attempt": 1,
        "sequence": 5,
    }  # fmt: skip
    wrong = [
        {**good, "state": "dancing"}, {**good, "sequence": 2**63}, {**good, "attempt": -1},
        {**good, "id": "a\0b"}, {**good, "started": 1e400}, {**good, "id": "x" * 256}, 7, [],
    ]  # fmt: skip
    async with recording(app) as recorder, stranger(broker.url) as channel:
        import aio_pika

        exchange = await channel.get_exchange("amqpjobs.events")
        for body in (b"\xff", b"{}", b"", json.dumps([*wrong, good]).encode()):
            await exchange.publish(aio_pika.Message(body), "x", mandatory=False)
        await ended(app, "7", "started")
        assert recorder.dropped == 3 + len(wrong)
        assert recorder.recorded == 1
    await app.close()


async def test_a_database_that_restarts_loses_nothing(
    broker: VirtualHost, postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    """Events wait unacked meanwhile; the log says so once, and once that it is over."""
    caplog.set_level(logging.INFO)
    app = app_with(broker, postgres.new_database())
    await migrated(app)
    async with recording(app) as recorder, working(app):
        await ended(app, (await app.enqueue(double(app, 1))).id)
        caplog.clear()
        postgres.stop()
        try:
            jobs = [(await app.enqueue(double(app, n))).id for n in range(5)]
            await until(
                lambda: any("not recorded, trying" in m for m in caplog.messages), "it was noticed"
            )
        finally:
            postgres.start()
        for job_id in jobs:
            await ended(app, job_id)
        assert recorder.dropped == 0
    assert sum("not recorded, trying" in m for m in caplog.messages) == 1
    assert sum("recorded again" in m for m in caplog.messages) == 1
    await app.close()


async def test_a_broker_that_restarts_is_recorded_again(own_broker: Broker, tmp_path: Path) -> None:
    """The queue is durable; what was only under way may be lost, what comes then is not."""
    app = app_with(own_broker, f"sqlite:///{tmp_path}/s.db", heartbeat=2)
    async with recording(app), working(app):
        await ended(app, (await app.enqueue(double(app, 1))).id)
        own_broker.kill()
        own_broker.start()
        handle = await app.enqueue(double(app, 2))
        await ended(app, handle.id)
    await app.close()


async def test_two_recorders_share_the_work(broker: VirtualHost, store_url: str) -> None:
    """Every job is known in the end, whoever wrote which of its events."""
    app = app_with(broker, store_url)
    await migrated(app)
    async with recording(app) as one, recording(app) as other, working(app):
        jobs: list[str] = []
        for _ in range(10):
            handles = await app.later_many([double(app, n) for n in range(50)])
            jobs += [handle.id for handle in handles]
        for job_id in jobs:
            await ended(app, job_id)
        await until(lambda: one.recorded + other.recorded >= 2 * len(jobs), "all are counted")
        assert one.recorded > 0
        assert other.recorded > 0
    await app.close()


async def test_a_recorder_that_loses_its_connection_in_a_batch_loses_nothing(
    broker_43: VirtualHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had taken and not written comes again to the next."""
    app = app_with(broker_43, f"sqlite:///{tmp_path}/s.db")
    async with working(app):
        async with recording(app) as first:
            stuck = asyncio.Event()

            async def never(store: object, events: object) -> int:
                stuck.set()
                await asyncio.Event().wait()
                return 0

            monkeypatch.setattr(first, "_persistently", never)
            handle = await app.enqueue(double(app, 3))
            await stuck.wait()
        assert first.recorded == 0
        async with recording(app):
            await ended(app, handle.id)
    await app.close()


async def test_a_connection_that_is_cut_is_consumed_again(
    broker_43: VirtualHost, tmp_path: Path
) -> None:
    """By the same recorder."""
    app = app_with(broker_43, f"sqlite:///{tmp_path}/s.db")
    async with recording(app) as recorder, working(app):
        await ended(app, (await app.enqueue(double(app, 1))).id)
        await until(lambda: close_connections(broker_43, "record"), "its connection was closed")
        await until(lambda: recorder._subscription.starts == 2, "it consumes again")
        await ended(app, (await app.enqueue(double(app, 2))).id)
    await app.close()


async def test_a_full_queue_forgets_the_oldest(broker: VirtualHost) -> None:
    """Nobody records, so it must not grow for ever; RabbitMQ takes the declaration as it is."""
    from amqpjobs.broker.rabbitmq.declarer import Declarer
    from amqpjobs.jobs.queue.topology import RECORDER_QUEUE, RECORDER_TOPOLOGY

    app = app_at(broker.url)
    settings: Settings = app.settings
    link = Link(settings, "test")
    async with Declarer(await link.connect()) as declarer:
        await declarer.apply(RECORDER_TOPOLOGY)
        await declarer.apply(RECORDER_TOPOLOGY)
        assert (await declarer.look(RECORDER_QUEUE)).message_count == 0
    await link.close()
    (queue,) = [
        q for q in broker.server.api("GET", "/queues") if q["name"] == RECORDER_QUEUE
        and q["vhost"] == broker.name
    ]  # fmt: skip
    assert queue["arguments"]["x-overflow"] == "drop-head"
    assert queue["arguments"]["x-max-length"] == 100_000
