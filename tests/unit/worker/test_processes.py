"""Jobs with ``cpu=True``, in real processes."""

import asyncio
import os
import signal
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from amqpjobs import App, Reject, RetryAfter, Snooze
from amqpjobs.errors import (
    ConfigurationError,
    DecodeError,
    InvalidResult,
    JobProcessDied,
    RemoteError,
)
from amqpjobs.jobs.context import Context
from amqpjobs.jobs.job import Job
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.jobs.verdicts import RateLimited
from amqpjobs.worker.execution.pool import ProcessPool
from amqpjobs.worker.failures import exception_name, innermost_frames
from tests.unit.worker import cpu_jobs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[ProcessPool]:
    pool = ProcessPool(2)
    yield pool
    await pool.close()


def context(stopping: asyncio.Event | None = None, **properties: Any) -> Context:
    known = Properties(**properties)
    return Context(
        "a-job", "an-id", "cpu", 2, 4e9, stopping or asyncio.Event(), lambda: known
    )  # fmt: skip


async def run(pool: ProcessPool, job: Job[..., Any, Any], *args: Any, **kwargs: Any) -> Any:
    """What the pipeline does with the message of this call."""
    return await pool.run(job.definition, context(), job.message(*args, **kwargs).body)


async def eventually(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.005)


def is_running(pid: int) -> bool:
    """Whether there is such a process; a zombie is none, but one that is ours is a leak."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    state, parent = stat.rpartition(")")[2].split()[:2]
    return state != "Z" or int(parent) == os.getpid()


async def pid_in(directory: Path, name: str = "pid") -> int:
    await eventually((directory / name).exists)
    return int((directory / name).read_text())


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_arguments_and_result_are_values_of_the_annotations(pool: ProcessPool) -> None:
    """What a handler gets and gives is what a thread's would be."""
    result = await run(pool, cpu_jobs.swap, cpu_jobs.Point(x=1, y=2))
    assert result == cpu_jobs.Point(x=2, y=1)


async def test_methods_run_on_objects_rebuilt_from_their_fields(pool: ProcessPool) -> None:
    """Of pydantic models, dataclasses and attrs classes."""
    assert await run(pool, cpu_jobs.Album(title="abba").shout, 2) == "ABBA!!"
    assert await run(pool, cpu_jobs.Square(3).area) == 9
    assert await run(pool, cpu_jobs.Circle(3).twice) == cpu_jobs.Circle(6)


async def test_a_handler_has_its_context(
    pool: ProcessPool, capfd: pytest.CaptureFixture[str]
) -> None:
    """Prints and log lines go where the worker's own go."""
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    headers = {"traceparent": trace, "tenant": 7, "odd": b"\xff"}
    job = cpu_jobs.told
    found = await pool.run(job.definition, context(headers=headers), job.message(word="hi").body)
    assert found == {
        "job": "a-job", "job_id": "an-id", "queue": "cpu", "attempt": 2, "deadline": 4e9,
        "trace_id": "a" * 32, "tenant": 7, "stopping": False,
    }  # fmt: skip
    out, _ = capfd.readouterr()
    assert "the job prints hi\n" in out
    assert "the job says hi" in out
    assert "an-id" in out


async def test_progress_is_told_before_the_answer(pool: ProcessPool) -> None:
    """Seldom, the last word in any case; and what the last run told is known."""
    heard: list[Any] = []
    headers = {"amqpjobs-progress": {"fraction": 0.25, "message": "a quarter"}, "blob": b"x"}
    told = context(headers=headers)
    told.tell = lambda ctx: heard.append(ctx.told)
    job = cpu_jobs.tell
    for _ in range(2):  # the process is used again
        assert await pool.run(job.definition, told, job.message(1000).body) == [0.25]
        assert heard[0] == (0.0, "step 0")
        assert heard[-1] == (0.999, "step 999")
        assert len(heard) < 20
        heard.clear()


async def test_a_process_has_the_surroundings_of_the_worker(pool: ProcessPool) -> None:
    """The same import path and directory, a session of its own, and no descriptor too many."""
    found = await run(pool, cpu_jobs.surroundings)
    assert found["path"] == sys.path
    assert found["cwd"] == str(Path.cwd())
    assert found["session"] == found["pid"]
    # Three, the socket, the pipe that tells of this process's end, and that of the listing.
    assert len(found["descriptors"]) == 6


async def test_an_error_keeps_its_name_frames_and_traceback(pool: ProcessPool) -> None:
    """Whoever reads the dead letters sees the handler's error, not ours."""
    with pytest.raises(RemoteError) as caught:
        await run(pool, cpu_jobs.fail, "no luck")
    error = caught.value
    assert str(error) == "no luck"
    assert exception_name(error) == "tests.unit.worker.cpu_jobs.UnusualError"
    assert innermost_frames(error)[0].endswith(" fail")
    assert "cpu_jobs.py" in innermost_frames(error)[0]
    assert "raise UnusualError(message)" in error.__notes__[0]
    assert error.kinds[:2] == ("tests.unit.worker.cpu_jobs.UnusualError", "Exception")


async def test_an_error_with_an_odd_message_is_told_all_the_same(pool: ProcessPool) -> None:
    """Text that UTF-8 cannot hold, a ``__str__`` that fails, or far too much of it."""
    for how, message in (("surrogate", "?"), ("broken", "(its message cannot be shown)")):
        with pytest.raises(RemoteError) as caught:
            await run(pool, cpu_jobs.fail_oddly, how)
        assert str(caught.value) == message
    with pytest.raises(RemoteError) as caught:
        await run(pool, cpu_jobs.fail_oddly, "long")
    assert len(str(caught.value)) == 10_000


async def test_sys_exit_in_a_handler_is_an_error_of_the_job(pool: ProcessPool) -> None:
    """The process lives on."""
    before = await run(pool, cpu_jobs.pid)
    with pytest.raises(RemoteError, match="3") as caught:
        await run(pool, cpu_jobs.leave)
    assert caught.value.exception == "SystemExit"
    assert await run(pool, cpu_jobs.pid) == before


@pytest.mark.parametrize(("how", "reason"), [("raise", "raised"), ("return", "returned")])
async def test_reject_comes_out_as_reject(pool: ProcessPool, how: str, reason: str) -> None:
    """Raised or returned."""
    with pytest.raises(Reject, match=reason):
        await run(pool, cpu_jobs.reject, how)


@pytest.mark.parametrize("way", ["raise", "return"])
async def test_what_puts_a_job_off_comes_out_as_it_is(pool: ProcessPool, way: str) -> None:
    """With its seconds."""
    with pytest.raises(RetryAfter) as retry:
        await run(pool, cpu_jobs.later, f"{way} retry")
    assert retry.value.seconds == 3.0
    with pytest.raises(Snooze) as snooze:
        await run(pool, cpu_jobs.later, f"{way} snooze")
    assert snooze.value.seconds == 1.5


async def test_a_rate_limit_comes_out_as_one(pool: ProcessPool) -> None:
    """So that the worker, which starts the queue's jobs, hears of it."""
    with pytest.raises(RateLimited) as limited:
        await run(pool, cpu_jobs.limited)
    assert limited.value.seconds == 9.0


async def test_a_body_is_validated_in_the_process_too(pool: ProcessPool) -> None:
    """It is parsed there anyway."""
    with pytest.raises(DecodeError, match="x"):
        await pool.run(cpu_jobs.swap.definition, context(), b'{"y": 1}')


async def test_a_result_that_does_not_fit_names_the_job(pool: ProcessPool) -> None:
    """Not the annotation, not JSON, or too large; and the process lives on."""
    before = await run(pool, cpu_jobs.pid)
    with pytest.raises(InvalidResult, match="'lie' returned what its annotation does not allow"):
        await run(pool, cpu_jobs.lie)
    with pytest.raises(InvalidResult, match="'unjsonable' returned what cannot become JSON"):
        await run(pool, cpu_jobs.unjsonable)
    with pytest.raises(InvalidResult, match="'large' returned 16777217 bytes"):
        await run(pool, cpu_jobs.large, 2**24 - 1)
    assert len(await run(pool, cpu_jobs.large, 2**24 - 2)) == 2**24 - 2
    assert await run(pool, cpu_jobs.pid) == before


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
    with pytest.raises(JobProcessDied, match="no answer"):
        await run(pool, cpu_jobs.babble)
    assert not is_running(before)


async def test_memory_over_the_limit_is_an_error_of_the_job(pool: ProcessPool) -> None:
    """The process is replaced, and the limit holds for no other job."""
    assert await run(pool, cpu_jobs.fill, 16) == 16
    before = await run(pool, cpu_jobs.pid)
    with pytest.raises(RemoteError, match="memory_limit is 536870912 bytes") as caught:
        await run(pool, cpu_jobs.fill, 600)
    assert caught.value.exception == "MemoryError"
    after = await run(pool, cpu_jobs.hoard, 600)
    assert after != before


async def test_memory_filled_with_small_objects_ends_the_job_too(pool: ProcessPool) -> None:
    """Where there is not a byte left for the error."""
    with pytest.raises((RemoteError, JobProcessDied)):
        await run(pool, cpu_jobs.fill_with_crumbs)
    assert await run(pool, cpu_jobs.fill, 16) == 16


async def test_what_other_jobs_left_in_memory_does_not_count(pool: ProcessPool) -> None:
    """A job with a limit runs elsewhere then."""
    full = await run(pool, cpu_jobs.hoard, 600)
    assert await run(pool, cpu_jobs.fill, 16) == 16
    assert not is_running(full)


async def test_a_job_sees_that_the_worker_stops(pool: ProcessPool, tmp_path: Path) -> None:
    """It may end early, and the process can go on."""
    stopping = asyncio.Event()
    job = cpu_jobs.until_stopped
    body = job.message(tmp_path).body
    running = asyncio.create_task(pool.run(job.definition, context(stopping), body))
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
    result = await pool.run(job.definition, context(stopping), job.message().body)
    assert result == "waited"


async def test_a_job_started_while_the_worker_stops_sees_it(
    pool: ProcessPool, tmp_path: Path
) -> None:
    """Whatever came first."""
    stopping = asyncio.Event()
    stopping.set()
    job = cpu_jobs.until_stopped
    body = job.message(tmp_path).body
    assert await pool.run(job.definition, context(stopping), body) == "stopped early"


async def test_programs_that_a_job_starts_can_be_terminated(pool: ProcessPool) -> None:
    """Though the process itself leaves SIGTERM to the worker."""
    assert await run(pool, cpu_jobs.terminate_a_program)


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
        from amqpjobs.jobs.context import plain_context
        from amqpjobs.worker.execution.pool import ProcessPool
        from tests.unit.worker.cpu_jobs import family

        async def main():
            body = family.message(Path(sys.argv[1])).body
            await ProcessPool(1).run(family.definition, plain_context("family", "1"), body)

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


async def test_a_handler_waits_for_its_own_children_only(pool: ProcessPool) -> None:
    """`os.wait` until there are no more is an old way to do so."""
    assert await run(pool, cpu_jobs.wait_for_all) == 3


async def test_a_job_that_no_other_process_can_import_is_refused(
    pool: ProcessPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the mend, and without starting a process."""
    app = App("local")

    @app.job(queue="cpu", cpu=True)
    def local() -> None: ...

    with pytest.raises(ConfigurationError, match="put the job in an importable module"):
        await run(pool, local)
    monkeypatch.setattr(cpu_jobs.pid.definition.function, "__module__", "__main__")
    with pytest.raises(ConfigurationError, match="the program's main module"):
        await run(pool, cpu_jobs.pid)
    assert repr(pool) == "<ProcessPool: 0 of 2 processes, 0 idle>"


async def test_a_job_that_is_not_found_says_where_it_should_be(
    pool: ProcessPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing module, or a name that is no job."""
    monkeypatch.setattr(cpu_jobs.pid.definition.function, "__qualname__", "announce")
    with pytest.raises(
        ConfigurationError, match=r"finds no job at tests\.unit\.worker\.cpu_jobs:announce"
    ):
        await run(pool, cpu_jobs.pid)
    monkeypatch.setattr(cpu_jobs.pid.definition.function, "__module__", "no_such_module")
    with pytest.raises(ConfigurationError, match="cannot import no_such_module"):
        await run(pool, cpu_jobs.pid)
