"""`app.watch`: what is known, and then what happens, without a gap."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from amqpjobs import Context
from amqpjobs.state.status.reader import statuses_of
from tests.integration.state.test_recorder import ended, recording
from tests.support.amqp import close_connections
from tests.support.brokers.broker_server import VirtualHost
from tests.support.waiting import PATIENCE, until
from tests.support.workers import app_at, working


async def states(app: Any, job_id: str) -> list[tuple[str, float | None]]:
    async with asyncio.timeout(PATIENCE):
        return [(s.state, s.progress) async for s in app.watch(job_id)]


async def test_a_job_is_watched_to_its_end_without_a_store(broker: VirtualHost) -> None:
    """Each status is newer than the one before."""
    app = app_at(broker.url, store_url="sqlite:////nowhere/at/all.db")
    go = asyncio.Event()

    @app.job(queue="q")
    async def work(ctx: Context) -> None:
        await ctx.progress(0.25, "begun")
        await go.wait()

    seen: list[Any] = []
    async with working(app):
        handle = await work.later()

        async def watch() -> None:
            async for status in app.watch(handle.id):
                seen.append(status)
                if status.progress is not None:
                    go.set()

        # The first words may be told before the queue is bound: a poke makes more of them.
        async with asyncio.timeout(PATIENCE):
            watching = asyncio.create_task(watch())
            publisher = await app.client.publisher()
            await until(lambda: seen or publisher.announcements.sent, "somebody spoke")
            go.set()
            await watching
    assert seen[-1].state == "done"
    assert [s.sequence for s in seen] == sorted({s.sequence for s in seen})


async def test_who_comes_late_gets_the_end_from_the_store(
    broker: VirtualHost, tmp_path: Path
) -> None:
    """No event comes any more, and none is needed."""
    app = app_at(broker.url, store_url=f"sqlite:///{tmp_path}/s.db")

    @app.job(queue="q")
    async def work() -> None: ...

    async with recording(app), working(app):
        handle = await work.later()
        await ended(app, handle.id)
        assert await states(app, handle.id) == [("done", 1.0)]


async def test_an_event_that_was_missed_is_read_from_the_store(
    broker_43: VirtualHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was told before anybody listened, and is recorded only after the first look."""
    from amqpjobs.state.status import watcher as watching

    monkeypatch.setattr(watching, "decode_events", lambda body: ([], 0))  # deaf
    app = app_at(broker_43.url, store_url=f"sqlite:///{tmp_path}/s.db")

    @app.job(queue="q")
    async def work() -> None: ...

    async with working(app):
        handle = await work.later()
        watch = asyncio.create_task(states(app, handle.id))
        async with recording(app):
            again = await work.later()
            await ended(app, again.id)
            assert (await states(app, again.id))[-1] == ("done", 1.0)
        watch.cancel()
        await asyncio.wait([watch])


async def test_a_lost_connection_is_made_up_for_by_the_store(
    broker: VirtualHost, tmp_path: Path
) -> None:
    """While nobody heard, the job went on."""
    app = app_at(broker.url, store_url=f"sqlite:///{tmp_path}/s.db")
    go = asyncio.Event()

    @app.job(queue="q")
    async def work() -> None:
        await go.wait()

    other = app_at(broker.url, store_url=f"sqlite:///{tmp_path}/s.db")
    async with recording(app), working(app), other.lifespan():
        handle = await work.later()
        await ended(app, handle.id, "started")
        first = asyncio.Event()

        async def watch() -> list[str]:
            seen = []
            async for status in other.watch(handle.id):
                seen.append(status.state)
                first.set()
            return seen

        watching = asyncio.create_task(watch())
        await first.wait()
        await until(lambda: close_connections(broker, "publish") >= 2, "all were cut")
        go.set()
        async with asyncio.timeout(PATIENCE):
            assert (await watching)[-1] == "done"


async def test_many_watch_with_one_queue_and_leave_none(broker_43: VirtualHost) -> None:
    """It comes with the first and goes with the last."""
    app = app_at(broker_43.url, store_url="sqlite:////nowhere/at/all.db")
    go = asyncio.Event()

    @app.job(queue="q")
    async def work() -> None:
        await go.wait()

    async with working(app):
        handles = [await work.later() for _ in range(20)]
        watches = [asyncio.create_task(states(app, h.id)) for h in handles]
        publisher = await app.client.publisher()
        statuses = statuses_of(app.client)
        watching = await until(lambda: statuses._watchings.get(publisher), "somebody watches")
        assert watching._listening is not None
        queue = await watching._listening._listener.ready()
        assert queue
        go.set()
        for found in await asyncio.gather(*watches):
            assert found[-1][0] == "done"
        assert repr(watching) == "<Watching: 0 jobs, not listening>"


async def test_who_stops_watching_is_forgotten(broker_43: VirtualHost) -> None:
    """By leaving the loop, or by being cancelled; and the end of the app ends the others."""
    app = app_at(broker_43.url, store_url="sqlite:////nowhere/at/all.db")
    async with app.lifespan():
        watch = asyncio.create_task(states(app, "1"))
        publisher = await app.client.publisher()
        statuses = statuses_of(app.client)
        watching = await until(lambda: statuses._watchings.get(publisher), "it watches")
        await until(lambda: "1 jobs, listening" in repr(watching), "it watches")
        watch.cancel()
        await asyncio.wait([watch])
        assert repr(watching) == "<Watching: 0 jobs, not listening>"
        left = asyncio.create_task(states(app, "2"))
        await until(lambda: "1 jobs, listening" in repr(watching), "it watches")
    assert await left == []
