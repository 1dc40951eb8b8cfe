"""The status of a durable job and its steps, as the store has it.

Changes when a status has another field.
"""

from dataclasses import dataclass

from amqpjobs.jobs.durations import duration_words


@dataclass(frozen=True, slots=True)
class MapProgress:
    """The progress of a map.

    Attributes:
        done: items that are done.
        failed: items that failed for good.
        sent: items that were sent so far.
        total: all items; None until the iterable has ended.
        seconds: since the map began; its duration once it has ended.
        slowest: seconds that the slowest message has taken, of those that have run.
    """

    done: int
    failed: int
    sent: int
    total: int | None
    seconds: float
    slowest: float | None = None

    @property
    def rate(self) -> float:
        """Items a second that ended, done or failed."""
        return (self.done + self.failed) / self.seconds if self.seconds > 0 else 0.0

    @property
    def left(self) -> float | None:
        """Seconds until all items have ended, at this rate; None if it cannot be estimated yet."""
        if self.total is None or self.rate == 0:
            return None
        return max(0, self.total - self.done - self.failed) / self.rate

    def __str__(self) -> str:
        of = "" if self.total is None else f" of {self.total}"
        failed = f", {self.failed} failed" if self.failed else ""
        rate = f", {self.rate:.3g}/s" if self.rate else ""
        left = "" if not self.left else f", {duration_words(self.left)} left"
        return f"{self.done}{of} done{failed}{rate}{left}"


@dataclass(frozen=True, slots=True)
class StepStatus:
    """A step of a durable job, as it is stored.

    Attributes:
        name: of the step.
        kind: ``step``, ``call``, ``map``, ``each``, ``sleep`` or ``signal``.
        state: ``waiting``, ``done``, ``failed``, or ``abandoned`` if its job ended before it. A map
            that has more items to send is ``feeding``.
        attempts: how often it was tried.
        started_at: seconds since the epoch.
        ended_at: seconds since the epoch; None while it waits.
        due_at: when the wait ends or the timeout passes, in seconds since the epoch; None without
            such a time.
        awaited: whether its job waits for it now.
        result: the first 200 characters of the JSON.
        error: why it failed.
        cursor: the stored cursor of a loop, as JSON.
        child: the name of the job that it has called.
        child_id: the id of that job.
        undo: the name of the job that undoes it.
        undo_state: ``due``, ``sent``, ``done`` or ``failed``; None while it is not undone.
        undo_id: the id of the undo job.
        undo_error: why the undo job failed.
        progress: of a map.
    """

    name: str
    kind: str
    state: str
    attempts: int = 1
    started_at: float | None = None
    ended_at: float | None = None
    due_at: float | None = None
    awaited: bool = False
    result: str | None = None
    error: str | None = None
    cursor: str | None = None
    child: str | None = None
    child_id: str | None = None
    undo: str | None = None
    undo_state: str | None = None
    undo_id: str | None = None
    undo_error: str | None = None
    progress: MapProgress | None = None

    @property
    def waits_for(self) -> str:
        """What the step waits for, in words; empty if it does not wait."""
        if self.state != "waiting":
            return ""
        match self.kind:
            case "call":
                return f"the job {self.child} {self.child_id} ({self.name})"
            case "signal":
                return f"the signal {self.name!r}"
            case "sleep":
                return f"its time ({self.name})"
            case "map":
                return f"the jobs of the map {self.name!r}"
            case _:
                return f"the {self.kind} {self.name!r}"


@dataclass(frozen=True, slots=True)
class DurableStatus:
    """A durable job, as it is stored.

    Attributes:
        id: the job's id.
        job: its name.
        state: ``running``, ``suspended``, ``done``, ``failed``, ``cancelled``, ``undoing``,
            ``undone`` or ``undo_failed``. A job that has begun and waits on its queue is
            ``running``, too.
        epoch: how often it was replayed.
        queue: the AMQP queue that it came from.
        created_at: when it began, in seconds since the epoch.
        changed_at: when its state changed, in seconds since the epoch.
        deadline: when its deadline passes, in seconds since the epoch.
        cancelled: the reason of a cancellation, until the job has ended.
        result: the first 200 characters of the JSON.
        error: why it failed.
        parent_id: the id of the durable job that waits for it.
        parent_step: the step of that job.
        steps: in the order in which they began.
    """

    id: str
    job: str
    state: str
    epoch: int
    queue: str
    created_at: float
    changed_at: float
    deadline: float | None = None
    cancelled: str | None = None
    result: str | None = None
    error: str | None = None
    parent_id: str | None = None
    parent_step: str | None = None
    steps: tuple[StepStatus, ...] = ()

    @property
    def waiting(self) -> tuple[StepStatus, ...]:
        """The steps that the job waits for."""
        return tuple(step for step in self.steps if step.awaited and step.state == "waiting")
