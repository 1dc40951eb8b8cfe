"""Asks RabbitMQ and the workers about a job and its queue. Changes when they are asked for more."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from amqpjobs.broker.rabbitmq.inspection.overview import rows_of
from amqpjobs.broker.rabbitmq.inspection.queues import connected
from amqpjobs.client.deadletters import DeadLetters
from amqpjobs.client.deadletters.letter import Kind, is_group
from amqpjobs.client.deadletters.selection import Selection
from amqpjobs.client.fleet import Fleet
from amqpjobs.errors import TopologyMismatch
from amqpjobs.jobs.queue.queue import Queue, lanes_of

if TYPE_CHECKING:
    from amqpjobs.client.client import Client
    from amqpjobs.client.deadletters.letter import Letter
    from amqpjobs.client.fleet_answers import RunningJob

ANSWER = 0.5
"""Seconds for workers to report the jobs that they run."""

BY_QUEUE: tuple[Kind, ...] = ("dead", "parked")


@dataclass(frozen=True, slots=True)
class QueueSeen:
    """A queue of the app, all of its priorities together.

    Attributes:
        name: of the queue.
        exists: whether it is on the broker.
        ready: the jobs that wait there.
        consumers: the number of its consumers.
        paused: whether an operator or a kill switch has paused it.
        paused_by: the operator.
        paused_until: when the pause ends, in seconds since the epoch.
        rate: the rate that an operator has set.
    """

    name: str
    exists: bool
    ready: int
    consumers: int
    paused: bool
    paused_by: str | None
    paused_until: float | None
    rate: str | None


async def look_at_queue(client: "Client", name: str) -> QueueSeen | None:
    """The current state of a queue; None if the queue is not the app's.

    Raises:
        BrokerUnavailable, NotPermitted: the queue cannot be inspected.
    """
    runtime = client.runtime
    queue = runtime.registry.queues.get(name)
    if queue is None:
        return None
    lanes = {lane.queue for lane in lanes_of(queue)}
    async with connected(runtime.settings, "inspect") as wire:
        found = await rows_of({name: queue}, wire, runtime.settings)
    rows = [row for row in found if row["queue"] in lanes]
    one = rows[0]
    return QueueSeen(
        name,
        any(row["exists"] for row in rows),
        sum(row["ready"] or 0 for row in rows),
        max(row["consumers"] or 0 for row in rows),
        one["state"] == "paused",
        one["paused_by"],
        one["paused_until"],
        one["rate"],
    )


async def running(client: "Client", job_id: str) -> "tuple[str, RunningJob] | None":
    """The worker that runs a job, and the run; None if no worker reports the job.

    Raises:
        AmqpJobsError: the workers could not be asked.
    """
    for worker in await Fleet(client).workers(within=ANSWER):
        for job in worker.jobs:
            if job.id == job_id:
                return worker.worker, job
    return None


async def put_aside(client: "Client", job_id: str) -> "tuple[Kind, Letter] | None":
    """The message of a job that is a dead letter, parked, or was delayed for a missing queue.

    Raises:
        AmqpJobsError: the queues of such messages could not be read.
    """
    if is_group(job_id):
        return None
    queues = list(client.runtime.registry.queues.values())
    places: list[tuple[Kind, list[Queue]]] = [
        *((kind, [queue]) for kind in BY_QUEUE for queue in queues),
        ("unroutable", queues),
    ]
    for kind, some in places:
        try:
            look = await DeadLetters(client, some, kind).look(Selection((job_id,)), bodies=False)
        except TopologyMismatch:
            continue  # the queue does not exist, so it never had such a message
        for letter in look.letters:
            if letter.id == job_id:
                return kind, letter
    return None
