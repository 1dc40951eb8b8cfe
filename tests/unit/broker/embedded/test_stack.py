"""The real stack, unchanged, on the embedded broker as both versions: what a job can meet."""

import asyncio
import itertools
import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from amqpjobs import Context, Queue, Reject, Retry, Snooze
from amqpjobs.broker.embedded import Broker
from amqpjobs.errors import JobFailed
from amqpjobs.jobs.queue.topology import DELAY_UNROUTABLE
from tests.support.amqp import publish, stranger, take
from tests.support.programs import command, environment
from tests.support.waiting import until
from tests.support.workers import app_at, working
from tests.unit.broker.embedded.stack import running


def ready(broker: Broker, queue: str) -> int:
    return broker.virtual_host.queues[queue].ready


async def test_jobs_are_done(embedded: Broker) -> None:
    """Published, confirmed, delivered, acknowledged; the queues are empty."""
    async with running(embedded) as (stack, _):
        jobs = await stack.app.later_many([stack.job.message(n) for n in range(500)])
        assert len(jobs) == 500
        stack.confirmed.update(range(500))
        await until(lambda: sorted(stack.done) == list(range(500)), "all are done, once")
        await stack.nothing_lost()


async def test_a_job_is_tried_again_with_growing_delays(embedded: Broker) -> None:
    """Over the ladder of exchanges and of queues with a lifetime; late, but never early."""
    app = app_at(embedded.url)
    runs: list[tuple[int, float]] = []

    @app.job(queue="work", retry=Retry(attempts=4, first=0.5, factor=2.0, jitter=False))
    async def job(ctx: Context, n: int) -> None:
        runs.append((ctx.attempt, time.monotonic()))
        if ctx.attempt < 4:
            raise ConnectionError("not yet")

    async with app.lifespan(), working(app):
        await job.later(7)
        await until(lambda: len(runs) == 4, "it ran four times")
    assert [attempt for attempt, _ in runs] == [1, 2, 3, 4]
    times = [when for _, when in runs]
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert all(pause >= least for pause, least in zip(pauses, (0.5, 1.0, 2.0), strict=True)), pauses
    assert ready(embedded, "work.dead") == ready(embedded, DELAY_UNROUTABLE) == 0


async def test_jobs_that_fail_for_good_are_dead_letters(embedded: Broker) -> None:
    """With what was wrong, and the body as it was."""
    app = app_at(embedded.url)

    @app.job(queue="work")
    async def job(n: int) -> None:
        raise Reject("not today")

    async with app.lifespan(), working(app):
        await job.later(7)
        letter = await take(embedded.url, "work.dead")
        assert json.loads(letter.body) == 7
        assert "not today" in str(letter.headers["amqpjobs-error"])
        async with stranger(embedded.url) as channel:
            await publish(channel, "work", b"no JSON", type="job")
        letter = await take(embedded.url, "work.dead")
        assert letter.body == b"no JSON"


async def test_lanes_and_native_priorities(embedded: Broker) -> None:
    """Lanes by weight; a classic queue's own priorities, the highest first."""
    app = app_at(embedded.url)
    done: list[str] = []
    go = asyncio.Event()

    @app.job(queue=Queue("prints", priorities={"high": 2, "low": 1}))
    async def print_it(priority: str) -> None:
        await go.wait()
        done.append(priority)

    @app.job(queue=Queue("posters", type="classic", max_priority=10))
    async def poster(n: int) -> None:
        done.append(str(n))

    calls = [print_it.with_options(priority=p).message(p) for p in ("low", "high", "high") * 4]
    async with app.lifespan():
        async with working(app, "prints", concurrency=1, prefetch=40) as worker:
            await app.later_many(calls)
            await until(lambda: worker.snapshot().waiting == len(calls) - 1, "all others wait")
            go.set()
            await until(lambda: len(done) == len(calls), "all are done")
        assert done[1:4].count("high") == 2
        done.clear()
        async with working(app, "posters"):
            pass  # declared
        await app.later_many([poster.with_options(priority=p).message(p) for p in (1, 9, 5)])
        async with working(app, "posters", concurrency=1, prefetch=1):
            await until(lambda: len(done) == 3, "all are done")
    assert done == ["9", "5", "1"]


async def test_requests_are_answered(embedded: Broker) -> None:
    """A result, or the error; many at once."""
    app = app_at(embedded.url)

    @app.job(queue="sums")
    async def double(n: int) -> int:
        if n < 0:
            raise ValueError("negative")
        return n * 2

    async with app.lifespan(), working(app):
        assert await asyncio.gather(*(double.request(n) for n in range(100))) == [
            n * 2 for n in range(100)
        ]
        with pytest.raises(JobFailed, match="negative"):
            await double.request(-1)


async def test_events_are_told(embedded: Broker) -> None:
    """To whoever listens."""
    heard: list[dict[str, Any]] = []

    async def hear(message: Any) -> None:
        heard.extend(json.loads(message.body))

    async with running(embedded) as (stack, _), stranger(embedded.url) as channel:
        exchange = await channel.declare_exchange("amqpjobs.events", "topic", durable=True)
        queue = await channel.declare_queue("", exclusive=True)
        await queue.bind(exchange, "#")
        await queue.consume(hear, no_ack=True)
        handle = await stack.job.later(1)
        await until(
            lambda: {"queued", "done"} <= {e["state"] for e in heard if e["id"] == handle.id},
            "its states are told",
        )


async def test_a_worker_that_stops_gives_back_what_it_has_not_done(embedded: Broker) -> None:
    """No attempt is used; another worker does it."""
    attempts: list[int] = []
    app = app_at(embedded.url, shutdown_timeout=1)
    go = asyncio.Event()

    @app.job(queue="work")
    async def job(ctx: Context, n: int) -> None:
        attempts.append(ctx.attempt)
        await go.wait()

    async with app.lifespan():
        async with working(app, concurrency=2, prefetch=10):
            await app.later_many([job.message(n) for n in range(6)])
            await until(lambda: len(attempts) == 2, "two run")
        assert ready(embedded, "work") == 6
        go.set()
        async with working(app):
            await until(lambda: len(attempts) == 8, "all six run")
            await until(lambda: embedded.virtual_host.queues["work"].unacked == 0, "all are done")
    assert set(attempts) == {1}


async def test_a_snoozed_job_uses_no_attempt(embedded: Broker) -> None:
    """It comes back by the ladder."""
    app = app_at(embedded.url)
    runs: list[int] = []

    @app.job(queue="work")
    async def job(ctx: Context) -> None:
        runs.append(ctx.attempt)
        if len(runs) == 1:
            raise Snooze(1)

    async with app.lifespan(), working(app):
        await job.later()
        await until(lambda: len(runs) == 2, "it ran again")
    assert runs == [1, 1]


async def test_the_stack_finds_its_way_back_to_a_broker_that_was_restarted(
    embedded: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a deploy of RabbitMQ: what was queued is still there, and consumed."""
    with caplog.at_level(logging.INFO, "amqpjobs"):
        async with running(embedded, heartbeat=2) as (stack, worker):
            await stack.send(1)
            await embedded.stop()
            await until(lambda: "connection lost" in caplog.text, "it is noticed")
            await embedded.start()
            await stack.send(2)
            await stack.nothing_lost()
            assert worker.ready


async def test_a_process_of_its_own_can_use_it(embedded: Broker, tmp_path: Path) -> None:
    """The command line, while the broker serves it from here."""
    env = environment(embedded.url, tmp_path)
    done = await asyncio.to_thread(command, "topology", "apply", env=env)
    assert done.returncode == 0, done.stderr
    assert {"work", "work.dead", "lanes.high"} <= set(embedded.virtual_host.queues)
