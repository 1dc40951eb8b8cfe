"""Hooks and resources of a worker process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import pytest

from amqpjobs import INJECTED, App, Depends
from amqpjobs.errors import ConfigurationError
from amqpjobs.testing import broker
from amqpjobs.testing.workers import Workers

calls: list[str] = []


@asynccontextmanager
async def resources(app: App) -> AsyncIterator[str]:
    calls.append("open")
    yield f"pool of {app.name}"
    calls.append("close")


app = App("hooked", lifespan=resources)


@app.on_start
async def first() -> None:
    calls.append(f"first {app.resources()}")


@app.on_stop
def last() -> None:
    calls.append("last")


@app.on_stop
async def broken() -> None:
    calls.append("broken")
    raise RuntimeError("broken")


@app.job(queue="hooked")
async def use(pool: Annotated[str, Depends(app.resources)] = INJECTED) -> str:
    return pool


@app.job(queue="hooked")
def use_in_thread(pool: Annotated[str, Depends(app.resources)] = INJECTED) -> str:
    return pool


@app.job(queue="hooked", cpu=True)
def use_in_process(pool: Annotated[str, Depends(app.resources)] = INJECTED) -> str:
    return pool


ORDER = ["open", "first pool of hooked", "broken", "last", "close"]


async def test_a_test_opens_resources_and_closes_them(caplog: pytest.LogCaptureFixture) -> None:
    """Once, around all jobs of the test, wherever they run; what on_stop raises is logged."""
    calls.clear()
    async with app.testing() as t:
        assert await use() == "pool of hooked"
        for job in (use, use_in_thread, use_in_process):
            await job.later()
        await t.run_until_idle()
        assert [run.result for run in t.runs()] == ["pool of hooked"] * 3
    assert calls == ORDER
    assert "on_stop failed" in caplog.text


async def test_a_worker_opens_resources_and_closes_them() -> None:
    """Before it consumes, and after its last job."""
    calls.clear()
    async with broker() as rabbit:
        workers = Workers(rabbit.url)
        await workers(app)
        assert calls == ORDER[:2]
        await workers.stop()
    assert calls == ORDER


async def test_a_start_that_raises_ends_the_worker() -> None:
    """With its own error."""
    failing = App("failing")

    @failing.job(queue="failing")
    async def nothing() -> None: ...

    @failing.on_start
    async def start() -> None:
        await asyncio.sleep(0)
        raise LookupError("no database")

    async with broker() as rabbit:
        workers = Workers(rabbit.url)
        with pytest.raises(LookupError, match="no database"):
            await workers(failing)
        await workers.stop()


async def test_outside_of_a_worker_there_are_none() -> None:
    """It says where they are."""
    with pytest.raises(ConfigurationError, match="lifespan"):
        app.resources()
