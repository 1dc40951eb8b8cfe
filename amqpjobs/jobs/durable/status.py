"""What is known of a durable job and its steps, for people and programs that look.

Changes when there is more to be seen of one.
"""

from dataclasses import dataclass

from amqpjobs.jobs.durations import duration_words


@dataclass(frozen=True, slots=True)
class MapProgress:
    """How far a map is.

    Attributes:
        done: items.
        failed: items that have, for good.
        sent: items that were sent by now.
        total: items there are; None while that is not known.
        seconds: since it began, or that it took.
        slowest: seconds that the slowest message took, of those that have run.
    """

    done: int
    failed: int
    sent: int
    total: int | None
    seconds: float
    slowest: float | None = None

    @property
    def rate(self) -> float:
        """Items that have ended in a second."""
        return (self.done + self.failed) / self.seconds if self.seconds > 0 else 0.0

    @property
    def left(self) -> float | None:
        """Seconds until all have ended, at this rate; None while nobody can say."""
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
        state: ``waiting``, ``done``, ``failed``, or ``abandoned`` if its job ended before it; of a
            map that has more items to send, ``feeding``.
        attempts: how often it was tried.
        started_at: seconds since the epoch.
        ended_at: the same; None while it waits.
        due_at: when its waiting is over, if there is such a time.
        awaited: whether its job waits for it now.
        result: JSON, of which 200 characters are shown.
        error: why it failed.
        cursor: how far a loop has come, as JSON.
        child: the name of the job that it has called.
        child_id: the id of that job.
        undo: the name of the job that takes it back.
        undo_state: ``due``, ``sent``, ``done`` or ``failed``; None while nothing is taken back.
        undo_id: the id of that job.
        undo_error: why it failed.
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
        """What it waits for, in words; empty for one that does not wait."""
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
            ``undone`` or ``undo_failed``. ``running`` is also one that waits on its queue.
        epoch: how often it was replayed.
        queue: the AMQP queue that it came from.
        created_at: seconds since the epoch: when it began.
        changed_at: the same: when its state changed.
        deadline: by which it is to be done.
        cancelled: why it was cancelled, if it was and has not ended.
        result: JSON, of which 200 characters are shown.
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
