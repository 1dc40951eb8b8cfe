"""`doctor` names a worker that holds deliveries behind a long job."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from amqpjobs import App
from amqpjobs.broker.rabbitmq.inspection.management_api import Held, held_by_workers
from amqpjobs.cli.doctor.management import waiting_in_workers
from amqpjobs.settings import Settings
from tests.support.brokers.broker_server import VirtualHost
from tests.support.programs import command, environment
from tests.support.waiting import until
from tests.support.workers import app_at, working

app = App("prefetching")


@app.job(queue="work")
async def job() -> None: ...


async def known(settings: Settings) -> list[Held]:
    return await asyncio.to_thread(held_by_workers, settings)


async def test_what_waits_behind_a_long_job_is_told(broker: VirtualHost, tmp_path: Path) -> None:
    """With the concurrency that the worker was started with, whatever the settings here say."""
    long, go = app_at(broker.url, management_url=broker.server.management_url), asyncio.Event()

    @long.job(queue="work", name="job")
    async def waits() -> None:
        await go.wait()

    env = environment(
        broker.url,
        tmp_path,
        AMQPJOBS_APP=f"{__name__}:app",
        AMQPJOBS_MANAGEMENT_URL=broker.server.management_url,
    )

    async def examined() -> list[dict[str, Any]]:
        done = await asyncio.to_thread(command, "doctor", "--json", env=env)
        assert done.returncode == 0, str(done)
        return [row for row in json.loads(done.stdout) if row["check"] == "prefetch of 'work'"]

    async with long.lifespan():
        async with working(long, concurrency=1, prefetch=5):
            await long.later_many([waits.message() for _ in range(5)])

            async def is_known() -> bool:
                return [
                    each.waiting for each in await known(long.settings) if each.queue == "work"
                ] == [4]

            await until(is_known, "the statistics have them")
            [found] = await examined()
            go.set()
        assert found["state"] == "warning"
        assert "4 of 5 deliveries wait in a worker with concurrency 1 and prefetch 5" in str(found)
        assert found["fix"] == "--prefetch 1, as many as run at once"


async def test_a_worker_holds_one_with_a_concurrency_of_one(broker: VirtualHost) -> None:
    """The second job stays in the queue, where an idle worker takes it."""
    first, second, go = app_at(broker.url), app_at(broker.url), asyncio.Event()
    ran: list[str] = []

    @first.job(queue="work", name="job")
    async def long(n: int) -> None:
        ran.append("first")
        await go.wait()

    @second.job(queue="work", name="job")
    async def short(n: int) -> None:
        ran.append("second")

    async with first.lifespan(), working(first, concurrency=1):
        await first.later_many([long.message(1), long.message(2)])
        await until(lambda: ran == ["first"], "the long job runs")
        async with working(second, concurrency=1):
            await until(lambda: ran == ["first", "second"], "the idle worker has the other")
        go.set()


@pytest.mark.parametrize(
    ("held", "is_told"),
    [
        (Held("work", 1, 5, 5, 0.0), True),
        (Held("work", 1, 5, 5, 0.1), True),
        (Held("work", 1, 5, 5, 50.0), False),  # short jobs: it is what a prefetch is for
        (Held("work", 5, 5, 5, 0.0), False),  # all of them run
        (Held("of another app", 1, 5, 5, 0.0), False),
    ],
)
def test_only_what_waits_for_long_is_told(held: Held, is_told: bool) -> None:
    """By how fast the worker ends its jobs."""
    assert bool(list(waiting_in_workers(app, [held]))) is is_told
