"""What tests of job processes share: a pool of two, and calls as the pipeline makes them."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest_asyncio

from amqpjobs.jobs.job import Job, definition_of
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.jobs.run_context import RunContext
from amqpjobs.worker.execution.pool import ProcessPool


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[ProcessPool]:
    pool = ProcessPool(2)
    yield pool
    await pool.close()


def context(stopping: asyncio.Event | None = None, **properties: Any) -> RunContext:
    known = Properties(**properties)
    return RunContext(
        "a-job", "an-id", "cpu", 2, 4e9, stopping or asyncio.Event(), lambda: known
    )  # fmt: skip


async def run(pool: ProcessPool, job: Job[..., Any, Any], *args: Any, **kwargs: Any) -> Any:
    """What the pipeline does with the message of this call."""
    return await pool.run(definition_of(job), context(), job.message(*args, **kwargs).body)


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
