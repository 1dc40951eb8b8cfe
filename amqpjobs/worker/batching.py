"""The batches of a worker, where its app has jobs that run in some: else nothing is imported.

Changes when a worker makes them otherwise.
"""

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING

from amqpjobs.jobs.clock import Clock
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.queue.queue import Queue
from amqpjobs.worker.execution.handlers import Execution
from amqpjobs.worker.intake import Intake

if TYPE_CHECKING:
    from amqpjobs.worker.batches import Batches


def _any(jobs: Collection[Definition]) -> bool:
    return any(job.batch is not None for job in jobs)


def batches_of(
    jobs: Collection[Definition],
    execution: Execution,
    intake: Intake,
    clock: Clock,
    stopping: asyncio.Event,
) -> "Batches | None":
    """What collects batches; None for jobs that have none."""
    if not _any(jobs):
        return None
    from amqpjobs.worker.batches import Batches

    return Batches(execution, intake, clock, stopping)


def prefetches_of(jobs: Collection[Definition], queues: list[Queue], wanted: int) -> dict[str, int]:
    """Deliveries to hold of each queue, by its name."""
    if not _any(jobs):
        return dict.fromkeys((queue.name for queue in queues), wanted)
    from amqpjobs.worker.batches import prefetch_for

    return {queue.name: prefetch_for(jobs, queue, wanted) for queue in queues}
