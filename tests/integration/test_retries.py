"""Retries on real brokers: a job runs again until it succeeds, or is dead with its history."""

import asyncio
import itertools
import time

import aio_pika

from amqpjobs import Context, Queue, Retry, RetryAfter, Snooze
from amqpjobs.broker.rabbitmq.inspection.queues import connected, peek
from amqpjobs.jobs.message.header_names import HEADER_ATTEMPT, HEADER_EPOCH
from amqpjobs.jobs.message.headers import failure_of, history_of
from amqpjobs.jobs.queue.topology import DELAY_UNROUTABLE
from tests.support.amqp import close_connections, count, delete_queue, stranger
from tests.support.brokers.broker_server import VirtualHost
from tests.support.waiting import until
from tests.support.workers import app_at, working


async def test_a_job_runs_again_until_it_succeeds(broker: VirtualHost) -> None:
    """The same job: its id, its arguments; the attempt counts."""
    app = app_at(broker.url)
    runs: list[tuple[str, int, int]] = []

    @app.job(queue="work", retry=Retry(attempts=5, first=0.2, jitter=False))
    async def job(ctx: Context, n: int) -> None:
        runs.append((ctx.job_id, ctx.attempt, n))
        if ctx.attempt < 4:
            raise ConnectionError("not yet")

    async with working(app):
        handle = await job.later(7)
        await until(lambda: len(runs) == 4, "it ran four times")
    assert runs == [(handle.id, attempt, 7) for attempt in (1, 2, 3, 4)]
    async with stranger(broker.url) as channel:
        for queue in ("work", "work.dead", DELAY_UNROUTABLE):
            assert await count(channel, queue) == 0


async def test_a_job_that_never_succeeds_is_dead_with_its_history(broker: VirtualHost) -> None:
    """Who ran it, when, and what each run met."""
    app = app_at(broker.url)

    @app.job(queue="work", retry=Retry(attempts=3, first=1.0, factor=1.0, jitter=False))
    async def job(ctx: Context, n: int) -> None:
        raise ValueError(f"run {ctx.attempt}")

    async with working(app), stranger(broker.url) as channel:
        await job.later(1)

        async def dead() -> bool:
            return await count(channel, "work.dead") == 1

        await until(dead, "it is dead")
    async with connected(app.settings, "test") as wire:
        [letter] = await peek(wire, "work.dead", 1)
    headers = letter.properties.headers
    last = failure_of(headers)
    assert last is not None
    assert (last.message, last.attempt, last.exception) == ("run 3", 3, "ValueError")
    history = history_of(headers)
    assert [(f.message, f.attempt) for f in history] == [("run 1", 1), ("run 2", 2)]
    assert all(f.worker and f.time and f.frames for f in history)
    assert history[0].time + 1 <= history[1].time
    assert headers[HEADER_ATTEMPT] == 3
    assert HEADER_EPOCH not in headers
    assert not any(name.startswith("x-") for name in headers)


async def test_many_passes_through_one_level_lose_nothing(broker: VirtualHost) -> None:
    """Up to 3.13 RabbitMQ takes a copy with its `x-death` for a message in a circle, and drops it:
    https://github.com/celery/celery/issues/9867."""
    app = app_at(broker.url)
    runs: dict[int, int] = {}

    @app.job(queue="work", retry=Retry(attempts=4, first=1.0, factor=1.0, jitter=False))
    async def job(ctx: Context, n: int) -> None:
        runs[n] = ctx.attempt
        if ctx.attempt < 4:
            raise ConnectionError("not yet")

    async with working(app):
        await app.later_many([job.message(n) for n in range(50)])
        await until(lambda: len(runs) == 50 and set(runs.values()) == {4}, "all have succeeded")


async def test_snoozing_uses_no_attempt_and_retry_after_does(broker: VirtualHost) -> None:
    """One is not a failure."""
    app = app_at(broker.url)
    runs: list[tuple[int, float]] = []

    @app.job(queue="work", retry=Retry(attempts=2))
    async def job(ctx: Context, n: int) -> None:
        runs.append((ctx.attempt, time.time()))
        if len(runs) < 4:
            raise Snooze(0.2)
        if len(runs) == 4:
            raise RetryAfter(1.2)

    async with working(app):
        await job.later(1)
        await until(lambda: len(runs) == 5, "it ran five times")
    assert [attempt for attempt, _ in runs] == [1, 1, 1, 1, 2]
    pauses = [b - a for (_, a), (_, b) in itertools.pairwise(runs)]
    assert all(pause >= 0.199 for pause in pauses[:3])
    assert pauses[3] >= 1.199


async def test_an_interrupted_run_uses_no_attempt(broker: VirtualHost) -> None:
    """Deploys are no failures, however many there are, and whatever a library makes of them."""
    app = app_at(broker.url, shutdown_timeout=1)
    attempts: list[int] = []

    @app.job(queue="work", retry=Retry(attempts=2, first=0))
    async def job(ctx: Context, n: int) -> None:
        attempts.append(ctx.attempt)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise TimeoutError("a library's words for being cancelled") from None

    async with app.lifespan():
        await job.later(0)
    for runs in range(1, 5):
        async with working(app):
            await until(lambda runs=runs: len(attempts) == runs, "it runs")
    assert attempts == [1, 1, 1, 1]


async def test_a_lost_connection_loses_no_retry(broker: VirtualHost) -> None:
    """Neither the copy nor the original, whichever was on its way."""
    app = app_at(broker.url)
    done: list[int] = []

    @app.job(queue="work", retry=Retry(attempts=None, first=0.3, factor=1.0))
    async def job(ctx: Context, n: int) -> None:
        if ctx.attempt < 4:
            raise ConnectionError("not yet")
        done.append(n)

    async with working(app):
        await app.later_many([job.message(n) for n in range(100)])
        for purpose in ("publish", "consume", "publish"):
            mark = len(done)
            await until(lambda p=purpose: close_connections(broker, p), "it was closed")
            await until(lambda mark=mark: len(done) > mark or len(set(done)) == 100, "going on")
        await until(lambda: len(set(done)) == 100, "all have succeeded")


async def test_a_queue_that_is_deleted_comes_back_for_its_retries(broker: VirtualHost) -> None:
    """What cannot be routed declares it again: the job is held until then."""
    app = app_at(broker.url)
    runs: list[int] = []
    gone = False

    @app.job(queue=Queue("work"), retry=Retry(attempts=2, first=0))
    async def job(ctx: Context, n: int) -> None:
        nonlocal gone
        runs.append(ctx.attempt)
        if ctx.attempt == 1 and not gone:
            gone = True
            delete_queue(broker, "work.dead")
            raise ConnectionError("not yet")
        raise ValueError("never")

    async with working(app):
        await job.later(1)
        await until(lambda: runs == [1, 2], "it ran twice")

        async def dead() -> bool:
            async with stranger(broker.url) as channel:
                try:
                    return await count(channel, "work.dead") == 1
                except aio_pika.exceptions.ChannelNotFoundEntity:
                    return False

        await until(dead, "the dead letter is there")


async def test_a_plain_function_is_retried_too(broker: VirtualHost) -> None:
    """By the classes of what it raised in its thread."""
    app = app_at(broker.url)
    runs: list[int] = []

    @app.job(queue="work", retry=Retry(attempts=2, first=0, on=OSError))
    def job(ctx: Context, n: int) -> None:
        runs.append(ctx.attempt)
        raise ConnectionError("no")

    async with working(app):
        await job.later(1)
        await until(lambda: runs == [1, 2], "it ran twice")
