"""`handle.result()`: from a job that runs somewhere, through a recorder and a store."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from amqpjobs import App, Retry
from amqpjobs.errors import JobFailed, NoResult, ResultTimeout
from amqpjobs.jobs.message.ids import new_job_id
from amqpjobs.settings import load_settings
from amqpjobs.state.status.reader import statuses_of
from tests.integration.state.test_recorder import ended, migrated, recording
from tests.support.brokers.broker_server import VirtualHost
from tests.support.waiting import PATIENCE
from tests.support.workers import app_at, working


class Report(BaseModel):
    month: int
    orders: int


def reports(url: str, store_url: str, **settings: Any) -> tuple[App, Any]:
    app = app_at(url, store_url=store_url, **settings)

    @app.job(queue="q", name="report", keep_result=True, retry=Retry(attempts=1))
    async def report(month: int) -> Report:
        if month > 12:
            raise LookupError(f"no month {month}")
        return Report(month=month, orders=31)

    return app, report


async def test_a_result_is_waited_for(broker: VirtualHost, store_url: str) -> None:
    """It comes with the event of the end, or from the store afterwards; as the job's own type."""
    app, report = reports(broker.url, store_url)
    await migrated(app)
    async with recording(app), app.lifespan():
        handle = await report.later(12)
        with pytest.raises(ResultTimeout) as late:
            await handle.result(timeout=0.5)
        assert late.value.state in (None, "queued")
        waiting = asyncio.create_task(handle.result(timeout=PATIENCE))
        async with working(app):
            assert await waiting == Report(month=12, orders=31)
            wrong = await report.later(13)
            with pytest.raises(JobFailed, match="no month 13") as failed:
                await wrong.result(timeout=PATIENCE)
        assert failed.value.error == "LookupError"
        await ended(app, handle.id)
        assert await handle.result() == Report(month=12, orders=31)
    await app.close()


async def test_what_has_ended_is_told_without_rabbitmq(broker: VirtualHost, tmp_path: Path) -> None:
    """By another process, which knows the id; and to the handle of a blocking client."""
    store_url = f"sqlite:///{tmp_path}/s.db"
    app, report = reports(broker.url, store_url)
    async with recording(app), working(app):
        handle = await report.later(12)
        await handle.result(timeout=PATIENCE)
        await ended(app, handle.id)

        def blocking() -> Any:
            with app.blocking() as client:
                found = client.later(report.message(11)).result(timeout=PATIENCE)
                return found, [status.state for status in client.watch(handle.id)]

        assert await asyncio.to_thread(blocking) == (Report(month=11, orders=31), ["done"])
    elsewhere, _ = reports("amqp://127.0.0.1:1", store_url)
    assert await elsewhere.result(handle.id) == Report(month=12, orders=31)
    assert statuses_of(elsewhere.client).client.opened is None
    await elsewhere.close()
    await app.close()


async def test_without_a_store_it_says_how_to_have_one(
    broker_43: VirtualHost, tmp_path: Path
) -> None:
    """At once: the end of the job may have been told before somebody waited."""
    app, report = reports(broker_43.url, f"sqlite:///{tmp_path}/none.db")
    async with app.lifespan():
        handle = await report.later(12)
        with pytest.raises(NoResult, match="amqpjobs record.*AMQPJOBS_STORE_URL"):
            await handle.result()


async def test_what_was_pruned_is_not_waited_for(tmp_path: Path) -> None:
    """The id says when its job was made."""
    store_url = f"sqlite:///{tmp_path}/s.db"
    app = App("pruned", settings=load_settings(url="amqp://127.0.0.1:1", store_url=store_url))
    await migrated(app)
    old = "01800000-0000-" + new_job_id()[14:]
    with pytest.raises(NoResult, match="AMQPJOBS_STATUS_TTL"):
        await app.result(old)
    await app.close()


async def test_a_result_that_was_too_large_says_so(broker_43: VirtualHost, tmp_path: Path) -> None:
    """In the worker's words."""
    app = app_at(broker_43.url, store_url=f"sqlite:///{tmp_path}/s.db", max_result_size=10)

    @app.job(queue="q", keep_result=timedelta(hours=1))
    async def large() -> str:
        return 11 * "x"

    async with recording(app), working(app):
        handle = await large.later()
        with pytest.raises(NoResult, match="13 bytes of JSON, the limit is 10"):
            await handle.result(timeout=PATIENCE)
    await app.close()


async def test_when_the_app_is_closed_nobody_is_left_waiting(
    broker_43: VirtualHost, tmp_path: Path
) -> None:
    """The job goes on without them."""
    app, report = reports(broker_43.url, f"sqlite:///{tmp_path}/s.db")
    await migrated(app)
    async with recording(app):
        async with app.lifespan():
            handle = await report.later(12)
            waiting = asyncio.create_task(handle.result())
            await ended(app, handle.id, "queued")
            await asyncio.sleep(0.2)
        with pytest.raises(NoResult, match="closed"):
            await waiting
    await app.close()
