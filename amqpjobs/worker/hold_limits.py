"""RabbitMQ's limit for holding a delivery, and whether the jobs of a queue fit into it.

RabbitMQ takes a delivery back that was not settled in time: up to 4.2 it closes the channel, from
4.3 it cancels the consumer (https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout).
Changes when it does so differently.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from amqpjobs.broker.rabbitmq.profile import Profile
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.queue.queue import Queue

if TYPE_CHECKING:
    from amqpjobs.jobs.runtime import Runtime

DEFAULT = 1800.0
"""Seconds: what a RabbitMQ has that nobody has configured."""

MARGIN = 300.0
"""Seconds, beyond what the jobs may take, for what is around them: copies, reconnecting."""

WITHOUT_TIMEOUT = 86_400.0
"""Seconds for jobs without a timeout. One that hangs for ever must come to light one day."""

LONGEST = 4_294_967.0
"""Seconds (49 days): a timer of Erlang's has 32 bits of milliseconds."""

FIX = (
    "split the job, or raise consumer_timeout on the broker and say so in AMQPJOBS_CONSUMER_TIMEOUT"
)


@dataclass(frozen=True, slots=True)
class Problem:
    """A job that RabbitMQ may take away while it waits or runs.

    Attributes:
        finding: what may happen.
        fix: what to do about it.
    """

    job: str
    finding: str
    fix: str


@dataclass(frozen=True, slots=True)
class Holding:
    """How long the deliveries of one queue are held, and may be.

    Attributes:
        jobs: of the queue.
        rounds: how many jobs run one after the other in a slot until a delivery is done that has
            just arrived, itself included: 2 where twice as many are held as run.
        limit: seconds until RabbitMQ takes a delivery back; None where it never does.
        argument: what to say to RabbitMQ about it when consuming, in milliseconds, or None.
    """

    jobs: tuple[Definition, ...]
    rounds: int
    limit: float | None
    argument: int | None

    def problems(self) -> Iterator[Problem]:
        """The jobs that do not fit."""
        limit = self.limit
        if limit is None:
            return
        for job in self.jobs:
            if job.timeout is None:
                continue
            if job.timeout >= limit:
                yield Problem(
                    job.name,
                    f"may run {job.timeout:g} s, and RabbitMQ takes a delivery back after "
                    f"{limit:g} s: the job then runs again",
                    FIX,
                )
            elif job.timeout * self.rounds >= limit:
                yield Problem(
                    job.name,
                    f"may be held {job.timeout * self.rounds:g} s, since more is held than runs, "
                    f"and RabbitMQ takes a delivery back after {limit:g} s",
                    "hold less (--prefetch, AMQPJOBS_PREFETCH), or as for a job that runs so long: "
                    + FIX,
                )


def holding_of(
    runtime: "Runtime", queue: Queue, profile: Profile, *, concurrency: int, held: int
) -> Holding:
    """What holds for a queue.

    Args:
        runtime: whose jobs and settings.
        profile: of the connected broker. From 4.3 it is told how long, when a quorum queue is
            consumed, and never takes back from a classic queue; before, AMQP cannot tell what it
            was configured to, so the setting says it.
        concurrency: jobs that run at once.
        held: deliveries that a worker holds of all queues together.
    """
    jobs = tuple(
        job
        for job in runtime.registry.jobs.values()
        if job.queue.name == queue.name and not job.at_most_once
    )
    rounds = max(1, math.ceil(held / concurrency))
    given = runtime.settings.consumer_timeout
    if profile.late_ack_closes_channel:
        return Holding(jobs, rounds, given or DEFAULT, None)
    if queue.type != "quorum":
        return Holding(jobs, rounds, None, None)
    limit = min(given or _enough(jobs, rounds), LONGEST)
    return Holding(jobs, rounds, limit, round(limit * 1000))


def _enough(jobs: tuple[Definition, ...], rounds: int) -> float:
    longest = max((job.timeout or 0.0 for job in jobs), default=0.0)
    endless = WITHOUT_TIMEOUT if any(job.timeout is None for job in jobs) else 0.0
    return max(DEFAULT, endless, longest * rounds + MARGIN)
