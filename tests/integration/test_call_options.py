"""What a call says of itself beside its arguments, on real brokers: each copy still says it."""

import asyncio
import os
from typing import Any

import pytest

from amqpjobs import Context, Queue, Retry, Selection, Snooze
from amqpjobs.errors import JobFailed
from tests.support import carried_jobs
from tests.support.amqp import count, publish, stranger
from tests.support.brokers.broker_server import VirtualHost
from tests.support.waiting import until
from tests.support.workers import app_at, working

ACME = {"tenant": "acme", "n": 2**40, "rate": 0.25, "big": True}


async def test_headers_are_on_every_copy(broker: VirtualHost) -> None:
    """Of a delay, a snooze, a retry, what is given back, a dead letter, its replay and its edit."""
    app = app_at(broker.url)
    seen: list[tuple[int, int, dict[str, Any]]] = []
    held = asyncio.Event()

    @app.job(queue="work", retry=Retry(attempts=2, first=0.2, jitter=False))
    async def job(ctx: Context, n: int) -> None:
        seen.append((n, ctx.epoch, dict(ctx.headers)))
        if len(seen) == 1:
            raise Snooze(0.2)
        if len(seen) == 2:
            held.set()
            await asyncio.Event().wait()
        if n:
            raise OSError

    async with working(app):
        await job.with_options(headers=ACME, delay=0.2).later(1)
        await held.wait()
    dead = app.dead_letters("work")
    async with working(app), stranger(broker.url) as channel:

        async def died() -> bool:
            return await count(channel, "work.dead") == 1

        await until(died, "it is dead")
        await dead.replay(Selection())
        await until(lambda: len(seen) == 6, "it ran twice more")
        await until(died, "it is dead again")
        [letter] = (await dead.look()).letters
        assert await dead.replace(letter, b"0")
        await until(lambda: len(seen) == 7, "it is done")
    assert [(n, epoch) for n, epoch, _ in seen] == [(1, 0)] * 4 + [(1, 1)] * 2 + [(0, 2)]
    assert [headers for *_, headers in seen] == [ACME] * 7
    assert ACME.items() <= letter.properties.headers.items()


async def test_headers_of_other_programs_are_seen(broker: VirtualHost) -> None:
    """Of any type; RabbitMQ's own and the trace's are not."""
    app = app_at(broker.url)
    seen: list[dict[str, Any]] = []

    @app.job(queue="work")
    async def job(ctx: Context, n: int) -> None:
        seen.append(dict(ctx.headers))

    headers: dict[str, Any] = {
        "x-tenant": "acme", "table": {"a": [1, None]}, "CC": ["nowhere"], "traceparent": "x",
        "amqpjobs-epoch": 3,
    }  # fmt: skip
    async with working(app), stranger(broker.url) as channel:
        await publish(channel, "work", b"1", type="job", headers=headers)
        await until(lambda: len(seen) == 1, "it ran")
    assert seen == [{"x-tenant": "acme", "table": {"a": [1, None]}}]


async def test_a_job_in_quarantine_has_its_headers(broker: VirtualHost) -> None:
    """It runs in a process of its own."""
    app = carried_jobs.app
    with app.placed(settings=app_at(broker.url).settings):
        async with app.lifespan():
            asking = asyncio.create_task(
                carried_jobs.carried.with_options(headers=ACME, tags=["import"]).request()
            )
            async with stranger(broker.url) as channel:

                async def waits() -> bool:
                    return await count(channel, "carried") == 1

                await until(waits, "it waits")
                # A consumer that dies with it: RabbitMQ marks it as redelivered.
                await (await channel.get_queue("carried", ensure=False)).get()
            async with working(app):
                said = await asking
    assert said["pid"] != os.getpid()
    assert said["headers"] == ACME
    assert said["tags"] == ["import"]


async def test_what_a_call_says_holds_for_every_run(broker: VirtualHost) -> None:
    """Its retries, its limit, its queue and its tags; the id is the caller's in each."""
    app = app_at(broker.url)
    lanes = Queue("lanes", priorities={"high": 2, "low": 1})
    seen: list[tuple[str, str, int, tuple[str, ...]]] = []

    @app.job(queue="work")
    async def job(ctx: Context, n: int) -> None:
        seen.append((ctx.job_id, ctx.queue, ctx.attempt, ctx.tags))
        await asyncio.Event().wait()

    @app.job(queue=lanes)
    async def other(ctx: Context, n: int) -> None: ...

    call = job.with_options(
        queue="lanes", priority="high", id="order-7", tags=("import", "tenant-7"),
        retry=Retry(attempts=2, first=0.2, jitter=False), run_timeout=0.2,
    )  # fmt: skip
    async with working(app), stranger(broker.url) as channel:
        handle = await call.later(1)

        async def died() -> bool:
            return await count(channel, "lanes.dead") == 1

        await until(died, "it is dead")
    assert (handle.id, handle.queue) == ("order-7", "lanes.high")
    assert seen == [("order-7", "lanes", n, ("import", "tenant-7")) for n in (1, 2)]
    [letter] = (await app.dead_letters("lanes").look()).letters
    assert letter.failure is not None
    assert letter.failure.exception == "amqpjobs.errors.JobTimeout"
    assert "0.2 s" in letter.failure.message


async def test_two_calls_of_one_id_are_two_runs(broker: VirtualHost) -> None:
    """Neither is taken for a redelivery of the other."""
    app = app_at(broker.url)
    runs: list[str] = []

    @app.job(queue="work")
    async def job(ctx: Context, n: int) -> None:
        runs.append(ctx.job_id)

    async with working(app):
        await app.later_many([job.with_options(id="same").message(1) for _ in range(3)])
        await until(lambda: len(runs) == 3, "each ran")
    assert runs == ["same"] * 3


async def test_what_makes_no_sense_is_a_dead_letter(broker: VirtualHost) -> None:
    """If it decides something; tags are only shown."""
    app = app_at(broker.url)
    ran: list[tuple[str, ...]] = []

    @app.job(queue="work")
    async def job(ctx: Context, n: int) -> None:
        ran.append(ctx.tags)

    wrong: list[dict[str, Any]] = [
        {"amqpjobs-retry": {"attempts": 0}}, {"amqpjobs-retry": "often"},
        {"amqpjobs-run-timeout": 0}, {"amqpjobs-run-timeout": "1"},
    ]  # fmt: skip
    async with working(app), stranger(broker.url) as channel:
        for headers in wrong:
            await publish(channel, "work", b"1", type="job", headers=headers)
        await publish(channel, "work", b"1", type="job", headers={"amqpjobs-tags": ["a", 7]})

        async def died() -> bool:
            return await count(channel, "work.dead") == len(wrong)

        await until(died, "all are dead")
        await until(lambda: ran, "the other ran")
    assert ran == [("a",)]
    for letter in (await app.dead_letters("work").look()).letters:
        assert letter.failure is not None
        assert letter.failure.reason == "undecodable"
        assert "amqpjobs-r" in letter.failure.message


async def test_a_limit_ends_a_process_and_a_job_in_quarantine(broker: VirtualHost) -> None:
    """As one of the job itself would."""
    app = carried_jobs.app
    with app.placed(settings=app_at(broker.url).settings):
        async with app.lifespan():
            limited = carried_jobs.endless.with_options(run_timeout=0.5)
            asking = asyncio.create_task(limited.request())
            async with stranger(broker.url) as channel:

                async def waits() -> bool:
                    return await count(channel, "carried") == 1

                await until(waits, "it waits")
                await (await channel.get_queue("carried", ensure=False)).get()
            async with working(app):
                with pytest.raises(JobFailed, match=r"0\.5 s"):
                    await asking
                limited_process = carried_jobs.endless_process.with_options(run_timeout=0.5)
                with pytest.raises(JobFailed, match=r"0\.5 s"):
                    await limited_process.request()
