"""Callbacks as jobs, on real brokers."""

import asyncio
from pathlib import Path

from amqpjobs import App, Retry
from tests.support import callback_jobs
from tests.support.amqp import ready, stranger
from tests.support.brokers.broker_server import VirtualHost
from tests.support.programs import Ledger, consuming, environment
from tests.support.waiting import until
from tests.support.workers import app_at, working


async def test_success_and_failure_enqueue_their_jobs(broker: VirtualHost) -> None:
    """After the retries, over the delays, and with the dead letter."""
    app = app_at(broker.url)
    log: list[str] = []

    @app.job(queue="jobs", retry=Retry(attempts=2, first=0.1))
    async def job(fails: bool) -> None:
        if fails:
            raise OSError("no")

    @app.job(queue="notes")
    async def note(words: str) -> None:
        log.append(words)

    callbacks = job.with_options(on_success=note.message("good"), on_failure=note.message("bad"))
    async with working(app), stranger(broker.url) as channel:
        await callbacks.later(False)
        await until(lambda: log == ["good"], "the callback of a success")
        await callbacks.later(True)
        await until(lambda: log == ["good", "bad"], "the callback of a failure")
        await ready(channel, "jobs.dead", 1)


async def test_a_callback_whose_queue_is_gone_is_a_dead_letter(broker: VirtualHost) -> None:
    """The job is settled, and nothing is lost."""
    app, other = app_at(broker.url), App("other")
    ran = asyncio.Event()

    @app.job(queue="jobs")
    async def job() -> None:
        ran.set()

    @other.job(queue="elsewhere")
    async def far() -> None: ...

    async with working(app) as worker, stranger(broker.url) as channel:
        await job.with_options(on_success=far.message()).later()
        await ran.wait()
        await ready(channel, "jobs.dead", 1)
        await until(lambda: not worker.snapshot().running, "the job is settled")
    async with stranger(broker.url) as channel:
        await ready(channel, "jobs", 0)


async def test_no_callback_is_lost_with_its_worker(broker: VirtualHost, tmp_path: Path) -> None:
    """A worker is killed in the middle, twice. Each job that has ended has its callback: at least
    once, and with one id."""
    env = environment(broker.url, tmp_path, AMQPJOBS_APP="tests.support.callback_jobs:app")
    ledger, numbers = Ledger(env), range(90)
    app = callback_jobs.app
    with app.placed(settings=app_at(broker.url).settings):
        async with app.lifespan():
            await app.later_many(
                callback_jobs.work.with_options(
                    on_success=callback_jobs.told.message("good", n),
                    on_failure=callback_jobs.told.message("bad", n),
                ).message(n)
                for n in numbers
            )
    for enough in (10, 30):
        with consuming("--concurrency", "4", env=env) as worker:
            await until(
                lambda enough=enough: len(ledger.of("good")) >= enough, "some callbacks have run"
            )
            worker.kill()
    with consuming("--concurrency", "4", env=env):
        await asyncio.to_thread(ledger.wait_for, "good", [n for n in numbers if n % 3])
        await asyncio.to_thread(ledger.wait_for, "bad", [n for n in numbers if not n % 3])
    lines = [line for line in ledger.lines if line["event"] in ("good", "bad")]
    for n in numbers:
        assert {line["event"] for line in lines if line["n"] == n} == {"good" if n % 3 else "bad"}
        assert len({line["id"] for line in lines if line["n"] == n}) == 1
