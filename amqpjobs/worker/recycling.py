"""Ends a worker after so many jobs, at an age, or with too much memory, so that another process
takes its place: leaks of libraries then cost nothing.

Changes when there is another reason to end one.
"""

import asyncio
import logging
import math
import os
import random
import resource
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.batch import LONGEST_EACH
from amqpjobs.settings import Settings

if TYPE_CHECKING:
    from amqpjobs.worker.run import Run

log = logging.getLogger("amqpjobs.worker")

JITTER = 0.1
"""The part of the limits that chance takes off, so that workers that were started together do not
end together."""

LOOK = 2.0
"""Seconds between two looks at the memory: half of it to one and a half, at random."""

WITHOUT_TIMEOUT = 600.0
"""Seconds that a running job without a timeout of its own is waited for when its worker is
recycled. Then it is requeued."""

SETTLING = 15.0
"""Seconds for what comes after a job's timeout: its copy is confirmed, its reply is sent."""

PAGE = os.sysconf("SC_PAGESIZE")


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a worker process works; None for no limit.

    Attributes:
        jobs: that it starts.
        memory: bytes that are resident.
        age: seconds.
    """

    jobs: int | None = None
    memory: int | None = None
    age: float | None = None

    @classmethod
    def of(
        cls, settings: Settings, jobs: int | None, memory: int | None, age: float | None
    ) -> "Limits":
        """What is given, else what the settings say.

        Raises:
            ConfigurationError: a limit that no worker can keep.
        """
        jobs = settings.max_jobs if jobs is None else jobs
        memory = settings.max_memory if memory is None else memory
        if jobs is not None and jobs < 1:
            raise ConfigurationError(f"max_jobs is a number above 0, not {jobs!r}")
        if memory is not None and memory <= (used := resident_memory()):
            raise ConfigurationError(
                f"max_memory is {_size(memory)}, and this process has {_size(used)} before its "
                "first job: it would end at once, again and again; raise --max-memory "
                "(AMQPJOBS_MAX_MEMORY)"
            )
        return cls(jobs, memory, settings.max_age if age is None else age)


class Recycling:
    """Watches the limits of one worker process.

    Args:
        limits: of it. Jobs and age are made shorter by chance, see `JITTER`.
        end: ends the worker, and is told why.
        rng: returns a number from 0 to 1.
        memory: returns the bytes that are resident.
    """

    def __init__(
        self,
        limits: Limits,
        end: Callable[[str], object],
        rng: Callable[[], float] = random.random,
        memory: "Callable[[], int] | None" = None,
    ) -> None:
        self._limits = limits
        self._end = end
        self._rng = rng
        self._memory = memory or resident_memory
        self._jobs = None if limits.jobs is None else math.ceil(limits.jobs * self._less())
        self._started = 0

    @property
    def started(self) -> "Callable[[], object] | None":
        """What to call with each job that is started; None where nothing counts them."""
        return None if self._jobs is None else self._count

    @property
    def watches(self) -> bool:
        """Whether there is something for `run` to do."""
        return self._limits.memory is not None or self._limits.age is not None

    def _less(self) -> float:
        return 1 - JITTER * self._rng()

    def _count(self) -> None:
        self._started += 1
        if self._started == self._jobs:
            self._end(f"max jobs: {self._started} were started")

    async def run(self) -> None:
        """Watch memory and age until the worker is ended for one of them."""
        age, memory = self._limits.age, self._limits.memory
        if memory is None:
            if age is not None:
                await self._until_old(age)
            return
        async with asyncio.TaskGroup() as group:
            old = None if age is None else group.create_task(self._until_old(age))
            while (used := self._memory()) <= memory:
                await asyncio.sleep(LOOK * (0.5 + self._rng()))
                if old is not None and old.done():
                    return
            self._end(f"max memory: {_size(used)} are resident, the limit is {_size(memory)}")
            if old is not None:
                old.cancel()

    async def _until_old(self, age: float) -> None:
        seconds = age * self._less()
        await asyncio.sleep(seconds)
        self._end(f"max age: it is {seconds:.0f} s old")


def resident_memory() -> int:
    """Bytes of this process in RAM (proc(5), statm), without those of its children. Elsewhere than
    on Linux the most that there were at once."""
    with suppress(FileNotFoundError):
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * PAGE
    unit = {"darwin": 1}.get(sys.platform, 1024)  # getrusage(2) of each system
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _size(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"


def longest_left(running: "Iterable[Run]") -> float:
    """Seconds until the last of these jobs has ended or is over its timeout."""
    return max(map(_left, running), default=0.0)


def _left(run: "Run") -> float:
    definition, context = run.definition, run.context
    if definition is None or context is None:
        return WITHOUT_TIMEOUT
    timeout = context.timeout_of(definition.timeout)
    if timeout is None:
        return WITHOUT_TIMEOUT
    each = definition.batch is not None and definition.batch.on_failure == "each"
    more = (definition.grace or 0.0) + (LONGEST_EACH if each else 0.0)
    return max(0.0, timeout + more - (time.monotonic() - run.started)) + SETTLING
