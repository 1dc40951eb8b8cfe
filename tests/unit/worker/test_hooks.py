"""Hooks and resources of a worker process."""

import asyncio
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import pytest

from amqpjobs import INJECTED, App, Depends
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.job import definition_of
from amqpjobs.jobs.run_context import plain_context
from amqpjobs.settings import load_settings
from amqpjobs.testing import broker
from amqpjobs.testing.placement import Place
from amqpjobs.testing.workers import Workers
from amqpjobs.worker.execution.pool import ProcessPool
from amqpjobs.worker.worker import Worker
from tests.support import programs
from tests.support.waiting import until
from tests.unit.worker import hooked_jobs

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


def hooked(failing: asyncio.Event | None = None) -> tuple[App, list[str]]:
    """An app with two of each; its second start raises, or waits for ever."""
    seen: list[str] = []

    @asynccontextmanager
    async def pool(app: App) -> AsyncIterator[None]:
        seen.append("open")
        yield
        seen.append("close")

    made = App("interrupted", lifespan=pool)

    @made.job(queue="interrupted")
    async def nothing() -> None: ...

    @made.on_start
    async def start_first() -> None:
        seen.append("start first")

    @made.on_stop
    async def stop_first() -> None:
        seen.append("stop first")

    @made.on_start
    async def start_second() -> None:
        if failing is None:
            raise LookupError("no database")
        failing.set()
        await asyncio.Event().wait()

    @made.on_stop
    def stop_second() -> None:
        seen.append("stop second")

    return made, seen


INTERRUPTED = ["open", "start first", "stop second", "stop first", "close"]


async def test_a_start_that_raises_is_ended_as_any_other() -> None:
    """What an earlier hook has opened is closed, and the error is that of the start."""
    made, seen = hooked()
    async with broker() as rabbit:
        workers = Workers(rabbit.url)
        with pytest.raises(LookupError, match="no database"):
            await workers(made)
        await workers.stop()
    assert seen == INTERRUPTED
    with pytest.raises(LookupError, match="no database"):
        async with made.testing():
            raise AssertionError
    assert seen == INTERRUPTED * 2


async def test_a_worker_that_is_stopped_while_it_starts_ends_what_has_begun() -> None:
    """SIGTERM may come at any time."""
    waits = asyncio.Event()
    made, seen = hooked(waits)
    async with broker() as rabbit:
        place = Place(made, rabbit.url)
        place.enter()
        worker = Worker(made)
        running = asyncio.create_task(worker.run())
        await waits.wait()
        worker.stop()
        async with asyncio.timeout(10):
            await running
        place.leave()
    assert seen == INTERRUPTED


async def test_an_end_that_hangs_is_cut_off_by_the_shutdown_budget(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Resources are as if they were never there: the next worker of this process opens its own."""
    made = App("hanging", settings=load_settings(shutdown_timeout=1))

    @made.job(queue="hanging")
    async def nothing() -> None: ...

    @made.on_stop
    async def hang() -> None:
        await asyncio.Event().wait()

    async with broker() as rabbit:
        place = Place(made, rabbit.url)
        place.enter()
        worker = Worker(made)
        running = asyncio.create_task(worker.run())
        await worker.started()
        began = time.monotonic()
        worker.stop()
        await running
        assert 0.5 < time.monotonic() - began < 5
        place.leave()
    assert "worker hooks exceeded the shutdown budget" in caplog.text


async def test_resources_are_closed_where_they_were_opened(tmp_path: Path) -> None:
    """In the process of a job, too: a task group and a context variable are left by their task."""
    ledger = tmp_path / "ledger"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(hooked_jobs.LEDGER, str(ledger))
        pool = ProcessPool(1)
        job = hooked_jobs.use_in_process
        definition = definition_of(job)
        for _ in range(2):
            context = plain_context(definition.name, "an-id")
            body = job.message().body
            assert await pool.run(definition, context, body) == "pool pool"
        await pool.close()
    lines = ["open", "start with pool", "run", "run", "stop", "close"]
    await until(lambda: ledger.read_text().split("\n")[:-1] == lines, "it is closed")


def run_program(job: str, tmp_path: Path, **variables: str) -> tuple[programs.Ran, list[str]]:
    ledger = tmp_path / "ledger"
    env = programs.environment("amqp://127.0.0.1:1", tmp_path, **variables)
    env |= {
        "AMQPJOBS_APP": "tests.unit.worker.hooked_jobs:app",
        hooked_jobs.LEDGER: str(ledger),
    }
    return programs.command("run", job, env=env), ledger.read_text().split("\n")[:-1]


def test_a_job_by_itself_has_hooks_and_resources(tmp_path: Path) -> None:
    """`amqpjobs run` enters and leaves them."""
    done, lines = run_program("use", tmp_path)
    assert (done.returncode, done.stdout) == (0, '"pool pool"\n')
    assert lines == ["open", "start with pool", "run", "stop", "close"]


def test_an_end_that_hangs_does_not_hang_a_job_by_itself(tmp_path: Path) -> None:
    """The budget is that of a worker, and the result is there."""
    variables = {hooked_jobs.HANGS: "1", "AMQPJOBS_SHUTDOWN_TIMEOUT": "1"}
    began = time.monotonic()
    done, lines = run_program("use", tmp_path, **variables)
    assert time.monotonic() - began < 20
    assert (done.returncode, done.stdout) == (0, '"pool pool"\n')
    assert "worker hooks exceeded the shutdown budget" in done.stderr
    assert lines[-1] == "stop"


@pytest.mark.parametrize("hangs", ["", "1"])
def test_a_job_by_itself_that_is_told_to_stop_leaves_them(tmp_path: Path, hangs: str) -> None:
    """Within the budget, counted from the signal."""
    ledger = tmp_path / "ledger"
    variables = {hooked_jobs.HANGS: hangs, "AMQPJOBS_SHUTDOWN_TIMEOUT": "2"}
    env = programs.environment("amqp://127.0.0.1:1", tmp_path, **variables)
    env |= {"AMQPJOBS_APP": "tests.unit.worker.hooked_jobs:app", hooked_jobs.LEDGER: str(ledger)}
    program = subprocess.Popen([*programs.PROGRAM, "run", "hold"], env=env, cwd=programs.ROOT)
    try:
        deadline = time.monotonic() + 20
        while not ledger.exists() or "run" not in ledger.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        began = time.monotonic()
        program.send_signal(signal.SIGTERM)
        assert program.wait(20) == 130
        assert time.monotonic() - began < 6
    finally:
        program.kill()
        program.wait()
    lines = ledger.read_text().split("\n")[:-1]
    assert lines == ["open", "start with pool", "run", "stop", *([] if hangs else ["close"])]
