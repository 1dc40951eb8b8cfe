"""How far a map is, in the status of the job that waits for it."""

import asyncio
from pathlib import Path

import pytest

from amqpjobs import Context
from amqpjobs.state.durable import telling
from tests.integration.state.test_recorder import ended, recording
from tests.support.brokers.broker_server import VirtualHost
from tests.support.waiting import until
from tests.support.workers import app_at, working


async def test_the_status_of_a_job_says_how_far_its_map_is(
    broker_43: VirtualHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it waits as a row: who ends a part of the map tells it."""
    monkeypatch.setattr(telling, "EVERY", 0.0)
    app = app_at(broker_43.url, store_url=f"sqlite:///{tmp_path}/s.db")
    released = asyncio.Event()

    @app.job(queue="items")
    async def measure(n: int) -> int:
        if n == 3:
            await asyncio.wait_for(released.wait(), 30)
        return n

    @app.job(queue="maps", durable=True)
    async def measure_all(ctx: Context) -> int:
        return sum(await ctx.map("sizes", measure, [0, 1, 2, 3], chunk=1))

    async with recording(app), working(app):
        handle = await measure_all.later()

        async def told() -> bool:
            status = await app.status(handle.id)
            return status is not None and status.progress == 0.75

        await until(told, "three of four are told")
        status = await app.status(handle.id)
        assert status is not None
        assert status.state == "suspended"
        assert status.detail is not None
        assert status.detail.startswith("sizes: 3 of 4 done")
        released.set()
        await ended(app, handle.id)
    await app.close()
