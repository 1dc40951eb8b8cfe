"""What a worker says of itself when an operator asks: ``amqpjobs workers`` and ``ping``.

Made on request alone. Changes when operators want to see something else.
"""

import asyncio
import json
import os
import platform
import socket
import time
from collections.abc import Collection
from typing import Any, Protocol

from amqpjobs.worker.recycling import resident_memory
from amqpjobs.worker.run import Run
from amqpjobs.worker.snapshot import Snapshot

MOST_RUNS = 100
"""Running jobs that are described, the longest first."""

LAG_INTERVAL = 0.02
"""Seconds of the timer whose lateness is the lag of the event loop."""


class Described(Protocol):
    """What is described of a worker."""

    concurrency: int
    prefetch: int

    @property
    def running(self) -> Collection[Run]:
        """The runs under way."""
        ...

    @property
    def condition(self) -> str:
        """Its health."""
        ...

    @property
    def snapshot(self) -> Snapshot:
        """What it holds."""
        ...


def name_of_worker() -> str:
    """This process, as ``host:pid``."""
    return f"{socket.gethostname()}:{os.getpid()}"


async def measured_lag() -> float:
    """How late a timer of the event loop is now, in seconds."""
    clock = asyncio.get_running_loop().time
    due = clock() + LAG_INTERVAL
    await asyncio.sleep(LAG_INTERVAL)
    return max(0.0, clock() - due)


def describe(parts: Described, since: float, lag: float) -> bytes:
    """A worker as JSON; the guide's page on operating lists the fields.

    Args:
        since: when it started, in seconds since the epoch.
        lag: of its event loop, in seconds.
    """
    from importlib.metadata import version

    held = parts.snapshot
    return json.dumps({
        "worker": name_of_worker(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "version": version("amqpjobs"),
        "python": platform.python_version(),
        "state": parts.condition,
        "queues": [
            {"queue": each.queue, "state": _state(each.paused, each.consuming)}
            for each in held.queues
        ],
        "concurrency": parts.concurrency,
        "prefetch": parts.prefetch,
        "running": held.running,
        "waiting": held.waiting + held.held,
        "jobs": _jobs(parts),
        "lag_s": round(lag, 4),
        "memory_bytes": resident_memory(),
        "since": since,
    }).encode()  # fmt: skip


def _state(paused: bool, consuming: bool) -> str:
    return "paused" if paused else "consuming" if consuming else "not consuming"


def _jobs(parts: Described) -> list[dict[str, Any]]:
    """What runs, the longest first. A delivery whose properties were not read yet is left out."""
    now = time.monotonic()
    runs = sorted(parts.running, key=lambda run: run.started)
    return [
        {
            "id": run.context.job_id,
            "job": run.context.job,
            "queue": run.context.queue,
            "attempt": run.context.attempt,
            "seconds": round(now - run.started, 3),
        }
        for run in runs
        if run.context is not None
    ][:MOST_RUNS]
