"""What workers answer to operators, as values. Changes when a worker describes itself otherwise."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from amqpjobs.errors import DecodeError


@dataclass(frozen=True, slots=True)
class RunningJob:
    """One job that runs in a worker.

    Attributes:
        id: the job's id.
        job: its name.
        queue: the app's queue.
        attempt: which run it is, from 1.
        seconds: for which it has been running.
    """

    id: str
    job: str
    queue: str
    attempt: int
    seconds: float


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """One worker process, as it described itself.

    Attributes:
        worker: ``host:pid``.
        host: name of its machine.
        pid: of its process.
        version: of amqpjobs.
        python: version.
        state: its health, such as ``ok``; see ``amqpjobs health``.
        queues: its AMQP queues, each with ``consuming``, ``paused`` or ``not consuming``.
        concurrency: jobs that it runs at once.
        prefetch: deliveries that it holds of each AMQP queue.
        running: how many jobs run.
        waiting: deliveries that it holds and has not started.
        jobs: the jobs that run, the longest first, at most 100.
        lag: how late its event loop is, in seconds.
        memory: resident memory, in bytes; 0 where that cannot be known.
        since: when it started, in seconds since the epoch.
    """

    worker: str
    host: str
    pid: int
    version: str
    python: str
    state: str
    queues: Mapping[str, str]
    concurrency: int
    prefetch: int
    running: int
    waiting: int
    jobs: tuple[RunningJob, ...]
    lag: float
    memory: int
    since: float


def worker_info_of(body: bytes) -> WorkerInfo:
    """An answer as a value.

    Raises:
        DecodeError: it is not one that a worker of this version writes.
    """
    try:
        told: dict[str, Any] = json.loads(body)
        return WorkerInfo(
            worker=str(told["worker"]),
            host=str(told["host"]),
            pid=int(told["pid"]),
            version=str(told["version"]),
            python=str(told["python"]),
            state=str(told["state"]),
            queues={str(each["queue"]): str(each["state"]) for each in told["queues"]},
            concurrency=int(told["concurrency"]),
            prefetch=int(told["prefetch"]),
            running=int(told["running"]),
            waiting=int(told["waiting"]),
            jobs=tuple(RunningJob(**job) for job in told["jobs"]),
            lag=float(told["lag_s"]),
            memory=int(told["memory_bytes"]),
            since=float(told["since"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DecodeError(f"the answer of a worker cannot be read: {error!r}") from None


@dataclass(frozen=True, slots=True)
class Ping:
    """What answered.

    Attributes:
        broker: product and version.
        seconds: for a round trip to it.
        workers: that answered.
        silent: by AMQP queue, how many of its consumers are no worker that answered: a worker that
            hangs, one of an older version, or another program.
    """

    broker: str
    seconds: float
    workers: tuple[WorkerInfo, ...]
    silent: Mapping[str, int]

    @property
    def ok(self) -> bool:
        """Whether there are workers, and all have answered."""
        return bool(self.workers) and not self.silent
