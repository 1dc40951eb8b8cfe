"""The lives of the processes of jobs with ``cpu=True``: started, shared, killed, ended."""

import asyncio
import os
import signal
import sys
import textwrap
import time
from pathlib import Path

import pytest

from amqpjobs.errors import (
    JobProcessDied,
)
from amqpjobs.jobs.job import definition_of
from amqpjobs.worker.execution.pool import ProcessPool
from tests.commands.processes import cpu_jobs
from tests.commands.processes.processes import context, eventually, is_running, pool, run

__all__ = ["pool"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")


async def pid_in(directory: Path, name: str = "pid") -> int:
    await eventually((directory / name).exists)
    return int((directory / name).read_text())


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_processes_are_reused(pool: ProcessPool) -> None:
    """And only started when they are needed."""
    assert repr(pool) == "<ProcessPool: 0 of 2 processes, 0 idle>"
    assert await run(pool, cpu_jobs.pid) == await run(pool, cpu_jobs.pid)
    assert repr(pool) == "<ProcessPool: 1 of 2 processes, 1 idle>"


async def test_as_many_jobs_run_at_once_as_there_may_be_processes(
    pool: ProcessPool, tmp_path: Path
) -> None:
    """Each waits for all others; the rest waits for a process."""
    waiting = [asyncio.create_task(run(pool, cpu_jobs.meet, tmp_path, n, 2)) for n in range(6)]
    assert len(set(await asyncio.gather(*waiting))) == 2
    assert repr(pool) == "<ProcessPool: 2 of 2 processes, 2 idle>"


async def test_a_timeout_kills_the_process_and_what_it_has_started(
    pool: ProcessPool, tmp_path: Path
) -> None:
    """For real: they are gone when the timeout is raised, and the next job has a new process."""
    before = await run(pool, cpu_jobs.pid)
    limit = asyncio.timeout(None)

    async def work() -> None:
        async with limit:
            await run(pool, cpu_jobs.hang, tmp_path)

    running = asyncio.create_task(work())
    assert await pid_in(tmp_path) == before
    limit.reschedule(asyncio.get_running_loop().time())
    with pytest.raises(TimeoutError):
        await running
    assert not is_running(before)
    child = int((tmp_path / "child").read_text())
    await eventually(lambda: not is_running(child))
    assert await run(pool, cpu_jobs.pid) != before


async def test_cancelling_kills_the_process(pool: ProcessPool, tmp_path: Path) -> None:
    """As the worker does at the end of its budget."""
    running = asyncio.create_task(run(pool, cpu_jobs.sleep, tmp_path))
    pid = await pid_in(tmp_path)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not is_running(pid)
    assert repr(pool) == "<ProcessPool: 0 of 2 processes, 0 idle>"


async def test_cancelling_while_a_process_starts_leaves_none_behind() -> None:
    """At whatever point of its start."""
    pool = ProcessPool(1)
    before, others = descriptors(), set(children())
    for turns in range(12):
        starting = asyncio.create_task(run(pool, cpu_jobs.pid))
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    assert await run(pool, cpu_jobs.pid)
    await pool.close()
    await eventually(lambda: descriptors() <= before)
    assert set(children()) <= others  # the brokers of other tests are ours, too


def children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ("segfault", "SIGSEGV"),
        ("exit", "exit status 7"),
        ("terminate", "SIGKILL"),
        ("fork", "exit status 9"),
    ],
)
async def test_a_process_that_dies_is_told_and_replaced(
    pool: ProcessPool, how: str, cause: str
) -> None:
    """The next job does not notice."""
    before = await run(pool, cpu_jobs.pid)
    with pytest.raises(JobProcessDied, match=cause):
        await run(pool, cpu_jobs.crash, how)
    assert await run(pool, cpu_jobs.pid) != before


async def test_an_idle_process_that_dies_costs_no_job(pool: ProcessPool) -> None:
    """The kernel may take one when memory runs out."""
    before = await run(pool, cpu_jobs.pid)
    os.kill(before, signal.SIGKILL)
    await eventually(lambda: not is_running(before))
    assert await run(pool, cpu_jobs.pid) != before


async def test_a_process_that_talks_nonsense_is_killed(pool: ProcessPool) -> None:
    """A handler can reach the descriptor."""
    before = await run(pool, cpu_jobs.pid)
    with pytest.raises(JobProcessDied, match="not an answer"):
        await run(pool, cpu_jobs.babble)
    assert not is_running(before)


async def test_a_job_sees_that_the_worker_stops(pool: ProcessPool, tmp_path: Path) -> None:
    """It may end early, and the process can go on."""
    stopping = asyncio.Event()
    job = cpu_jobs.until_stopped
    body = job.message(tmp_path).body
    running = asyncio.create_task(pool.run(definition_of(job), context(stopping), body))
    pid = await pid_in(tmp_path)
    stopping.set()
    assert await running == "stopped early"
    assert await run(pool, cpu_jobs.pid) == pid
    told = cpu_jobs.told
    assert not (await run(pool, told, word="x"))["stopping"]


async def test_a_job_can_wait_for_the_worker_to_stop(pool: ProcessPool) -> None:
    """On an event loop of its own."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, stopping.set)
    job = cpu_jobs.wait_until_stopped
    result = await pool.run(definition_of(job), context(stopping), job.message().body)
    assert result == "waited"


async def test_a_job_started_while_the_worker_stops_sees_it(
    pool: ProcessPool, tmp_path: Path
) -> None:
    """Whatever came first."""
    stopping = asyncio.Event()
    stopping.set()
    job = cpu_jobs.until_stopped
    body = job.message(tmp_path).body
    assert await pool.run(definition_of(job), context(stopping), body) == "stopped early"


async def test_closing_ends_idle_and_busy_processes(pool: ProcessPool, tmp_path: Path) -> None:
    """At once, and with nothing left."""
    others = set(children())
    idle = await run(pool, cpu_jobs.pid)
    running = [asyncio.create_task(run(pool, cpu_jobs.meet, tmp_path, n, 99)) for n in range(2)]
    await eventually(lambda: len(list(tmp_path.iterdir())) == 2)
    started = time.monotonic()
    await pool.close()
    assert time.monotonic() - started < 5, "they would take 99 s"
    assert not is_running(idle)
    for task in running:
        with pytest.raises(JobProcessDied, match="the worker killed it"):
            await task
    with pytest.raises(JobProcessDied, match="closed"):
        await run(pool, cpu_jobs.pid)
    assert set(children()) <= others


async def test_jobs_leave_no_descriptors_behind() -> None:
    """Not over many jobs, and none when all is closed."""
    pool = ProcessPool(2)
    before = descriptors()
    await asyncio.gather(*(run(pool, cpu_jobs.pid) for _ in range(10)))
    warm = descriptors()
    await asyncio.gather(*(run(pool, cpu_jobs.pid) for _ in range(200)))
    assert descriptors() == warm
    await pool.close()
    await eventually(lambda: descriptors() <= before)


async def test_a_process_and_all_that_it_started_die_with_a_worker_that_is_killed(
    tmp_path: Path,
) -> None:
    """Nobody is left to stop them: a program, one in a process group of its own, a shell's, a
    process of `multiprocessing`, and its program."""
    program = textwrap.dedent("""
        import asyncio, sys
        from pathlib import Path
        sys.path[:] = sys.argv[2:]
        from amqpjobs.jobs.run_context import plain_context
        from amqpjobs.jobs.job import definition_of
        from amqpjobs.worker.execution.pool import ProcessPool
        from tests.commands.processes.cpu_jobs import family

        async def main():
            body = family.message(Path(sys.argv[1])).body
            await ProcessPool(1).run(definition_of(family), plain_context("family", "1"), body)

        asyncio.run(main())
    """)
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(tmp_path), *sys.path
    )
    try:
        pid = await pid_in(tmp_path)
    finally:
        worker.kill()
        await worker.wait()
    members = [pid, *(int(member) for member in (tmp_path / "family").read_text().split())]
    assert len(members) == 6
    await eventually(lambda: not any(is_running(each) for each in members))
