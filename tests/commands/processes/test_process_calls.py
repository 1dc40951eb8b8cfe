"""What a job with ``cpu=True`` gets and gives, in a real process."""

import sys
from pathlib import Path
from typing import Any

import pytest

from amqpjobs import App, Reject, RetryAfter, Snooze
from amqpjobs.errors import (
    ConfigurationError,
    DecodeError,
    InvalidResult,
    JobProcessDied,
    RemoteError,
)
from amqpjobs.jobs.job import definition_of
from amqpjobs.jobs.verdicts import RateLimited
from amqpjobs.worker.execution.pool import ProcessPool
from amqpjobs.worker.failures import exception_name, innermost_frames
from tests.commands.processes import cpu_jobs
from tests.commands.processes.processes import context, is_running, pool, run

__all__ = ["pool"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")


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
    found = await pool.run(
        definition_of(job), context(headers=headers), job.message(word="hi").body
    )
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
        assert await pool.run(definition_of(job), told, job.message(1000).body) == [0.25]
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
    assert exception_name(error) == "tests.commands.processes.cpu_jobs.UnusualError"
    assert innermost_frames(error)[0].endswith(" fail")
    assert "cpu_jobs.py" in innermost_frames(error)[0]
    assert "raise UnusualError(message)" in error.__notes__[0]
    assert error.kinds[:2] == ("tests.commands.processes.cpu_jobs.UnusualError", "Exception")


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
        await pool.run(definition_of(cpu_jobs.swap), context(), b'{"y": 1}')


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


async def test_a_job_that_no_other_process_can_import_is_refused(
    pool: ProcessPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the fix, and without starting a process."""
    app = App("local")

    @app.job(queue="cpu", cpu=True)
    def local() -> None: ...

    with pytest.raises(ConfigurationError, match="put the job in an importable module"):
        await run(pool, local)
    monkeypatch.setattr(definition_of(cpu_jobs.pid).function, "__module__", "__main__")
    with pytest.raises(ConfigurationError, match="the program's main module"):
        await run(pool, cpu_jobs.pid)
    assert repr(pool) == "<ProcessPool: 0 of 2 processes, 0 idle>"


async def test_a_job_that_is_not_found_says_where_it_should_be(
    pool: ProcessPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing module, or a name that is no job."""
    monkeypatch.setattr(definition_of(cpu_jobs.pid).function, "__qualname__", "announce")
    with pytest.raises(
        ConfigurationError, match=r"finds no job at tests\.commands\.processes\.cpu_jobs:announce"
    ):
        await run(pool, cpu_jobs.pid)
    monkeypatch.setattr(definition_of(cpu_jobs.pid).function, "__module__", "no_such_module")
    with pytest.raises(ConfigurationError, match="cannot import no_such_module"):
        await run(pool, cpu_jobs.pid)


async def test_a_handler_waits_for_its_own_children_only(pool: ProcessPool) -> None:
    """`os.wait` until there are no more is an old way to do so."""
    assert await run(pool, cpu_jobs.wait_for_all) == 3


async def test_programs_that_a_job_starts_can_be_terminated(pool: ProcessPool) -> None:
    """Though the process itself leaves SIGTERM to the worker."""
    assert await run(pool, cpu_jobs.terminate_a_program)
