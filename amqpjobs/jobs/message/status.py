"""The status of one job, as a value. Changes when a status says something else."""

from dataclasses import dataclass
from typing import Any

from amqpjobs.jobs.message.events import ENDED


@dataclass(frozen=True, slots=True)
class JobStatus:
    """What is known of a job. Times are seconds since the epoch.

    Attributes:
        id: the job's id.
        job: its name.
        queue: the queue that it waits in, or was consumed from.
        state: ``queued``, ``started``, ``retrying``, ``snoozed``, ``released``, ``done``,
            ``failed``, ``parked``, ``expired`` or ``cancelled``.
        attempt: which run it is at, from 1; 0 while no worker has started it.
        epoch: how often it was replayed from the dead letters.
        sequence: microseconds since the epoch: of two statuses of one run, the higher is newer.
        progress: a fraction from 0 to 1, if the job told one; 1 of a job that is done.
        detail: the words that came with it.
        error: of the last run; of a job that is done, why its result was not stored.
        reason: of a job that failed: ``failed``, ``rejected``, ``invalid``, ... as its log line and
            its dead letter have it.
        answered: whether the caller received the failure, so that there is no dead letter.
        worker: host and process id of the worker that had it last.
        result: what the handler returned, as JSON has it, if it is kept.
        has_result: whether it is: a result may be None.
        queued_at: when it was enqueued, if its publisher told.
        started_at: when its last run began.
        ended_at: when it ended, if it has.
        updated_at: when the last that is known of it happened.
        due_at: when it is to run again, or for the first time.
        tags: that its caller gave it.
    """

    id: str
    job: str
    queue: str
    state: str
    attempt: int
    epoch: int = 0
    sequence: int = 0
    progress: float | None = None
    detail: str = ""
    error: str | None = None
    reason: str | None = None
    answered: bool = False
    worker: str | None = None
    result: Any = None
    has_result: bool = False
    queued_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    updated_at: float | None = None
    due_at: float | None = None
    tags: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether nothing more comes of it, unless it is replayed."""
        return self.state in ENDED
