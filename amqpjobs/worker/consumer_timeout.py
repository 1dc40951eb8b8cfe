"""Warns of jobs that exceed RabbitMQ's consumer timeout: at start, and when it happens.

Changes when a worker says or does more about them.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from amqpjobs.broker.rabbitmq.connection import Wire
from amqpjobs.broker.rabbitmq.profile import Profile
from amqpjobs.jobs.queue.queue import Queue, lanes_of
from amqpjobs.worker.hold_limits import FIX, Holding, holding_of

if TYPE_CHECKING:
    from amqpjobs.jobs.runtime import Runtime
    from amqpjobs.worker.run import Run

log = logging.getLogger("amqpjobs.worker")

NAMED = 10
"""Jobs that a log line names at most."""


class Overtime:
    """Knows how long the deliveries of a worker may be held.

    Args:
        runtime: whose jobs and settings.
        queues: that are consumed.
        concurrency: jobs that run at once.
        prefetch: deliveries held of each AMQP queue.
        running: what runs in this worker now.
    """

    def __init__(
        self,
        runtime: "Runtime",
        queues: list[Queue],
        concurrency: int,
        prefetch: int,
        running: "Iterable[Run]",
    ) -> None:
        self._runtime = runtime
        self._queues = queues
        self._by_lane = {lane.queue: queue for queue in queues for lane in lanes_of(queue)}
        self._concurrency = concurrency
        self._held = sum(1 if q.singleton else prefetch for q in self._by_lane.values())
        self._running = running
        self._limits: dict[str, float | None] = {}

    def arguments(self, wire: Wire, queue: str) -> Mapping[str, int] | None:
        """What to say when consuming this AMQP queue: each connection may be to another version."""
        holding = self._holding(self._by_lane[queue], wire.profile)
        self._limits[queue] = holding.limit
        return None if holding.argument is None else {"x-consumer-timeout": holding.argument}

    def warn(self, profile: Profile) -> None:
        """Name the jobs that RabbitMQ may take away while they run. No error: AMQP does not tell
        what the broker was configured to, and the other jobs of the queue are well."""
        for queue in self._queues:
            for problem in self._holding(queue, profile).problems():
                log.warning(
                    "job may exceed the consumer timeout",
                    extra={
                        "job": problem.job,
                        "queue": queue.name,
                        "reason": problem.finding,
                        "fix": problem.fix,
                    },
                )

    def lost(self, queue: str, reason: str) -> None:
        """A consumer was lost: if it was for this, say which jobs ran, and what to do."""
        limit = self._limits.get(queue)
        if "acknowledgement" in reason and "timed out" in reason:
            self._tell(queue, limit, self._runs_of(queue))
        elif limit is not None and reason.startswith("cancelled"):
            # RabbitMQ from 4.3 takes back what is over its time and leaves the rest on the channel.
            # Another worker may have got it; here it is known to be in vain by its age alone.
            overdue = [run for run in self._runs_of(queue) if _age(run) >= limit]
            for run in overdue:
                run.delivery.lose()
            if overdue:
                self._tell(queue, limit, overdue)

    def _holding(self, queue: Queue, profile: Profile) -> Holding:
        return holding_of(
            self._runtime, queue, profile, concurrency=self._concurrency, held=self._held
        )

    def _runs_of(self, queue: str) -> "list[Run]":
        runs = [
            run
            for run in self._running
            if run.delivery.queue == queue and not run.delivery.accepted
        ]
        return sorted(runs, key=_age, reverse=True)

    def _tell(self, queue: str, limit: float | None, runs: "list[Run]") -> None:
        log.error(
            "consumer timeout passed, jobs run again",
            extra={
                "queue": queue,
                "limit_s": limit,
                "running": [f"{_name(run)}, for {_age(run):.0f} s" for run in runs[:NAMED]],
                "fix": FIX,
            },
        )


def _age(run: "Run") -> float:
    return time.monotonic() - run.started


def _name(run: "Run") -> str:
    return f"{run.context.job} {run.context.job_id}" if run.context else "a job"
