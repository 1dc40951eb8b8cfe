"""Durable jobs and their steps, as values. Changes when a row has another column."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from amqpjobs.client.prepared import Prepared
from amqpjobs.jobs.message.failure import Failure

RUNNING, SUSPENDED = "running", "suspended"
DONE, FAILED, CANCELLED = "done", "failed", "cancelled"
UNDOING, UNDONE, UNDO_FAILED = "undoing", "undone", "undo_failed"

ENDED: Final = (DONE, FAILED, CANCELLED, UNDONE, UNDO_FAILED)
"""The states of a durable job that has ended."""

WAITING: Final = "waiting"
"""The state of a step that is not done; it is ``done`` or ``failed`` in the end."""

FEEDING: Final = "feeding"
"""The state of the step of a map with more items to send."""

ABANDONED: Final = "abandoned"
"""The state of a step whose job has ended before it."""

STEP, CALL, MAP, EACH, SLEEP, SIGNAL = "step", "call", "map", "each", "sleep", "signal"
"""Kinds of steps."""

DUE, SENT = "due", "sent"
"""States of undoing a step, before it is ``done`` or ``failed``."""


@dataclass(frozen=True, slots=True)
class Undo:
    """The job that undoes a step.

    Attributes:
        message: of the undo job; with `given` its body is the result of the step.
        given: whether its argument is the result.
    """

    message: Prepared
    given: bool


@dataclass(slots=True)
class Step:
    """A step as it is stored.

    Attributes:
        name: of the step.
        kind: what it is: a step, call, map, each, sleep or signal.
        n: its number, in the order in which they were begun.
        state: waiting, done, failed or abandoned; feeding, of a map.
        fingerprint: of its arguments.
        result: as JSON.
        error: why it failed.
        cursor: how far it has come, as JSON.
        child_id: the id of the job that it waits for.
        child: the name of that job.
        due_at: when its waiting is over, in seconds since the epoch.
        attempts: how often it was tried.
        awaited: whether its job waits for it.
    """

    name: str
    kind: str
    n: int
    state: str = DONE
    fingerprint: str | None = None
    result: bytes | None = None
    error: "Failed | None" = None
    cursor: str | None = None
    child_id: str | None = None
    child: str | None = None
    due_at: float | None = None
    attempts: int = 1
    awaited: bool = False
    undo: Undo | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a step, or a durable job, has failed.

    Attributes:
        error: the name of the exception, or one word such as ``rejected`` or ``expired``.
        message: for people.
        job: the job that failed; None for no other job.
        job_id: its id.
        attempt: which run it was.
        reason: as the dead letter says it.
        frames: where, the innermost first.
    """

    error: str
    message: str
    job: str | None = None
    job_id: str | None = None
    attempt: int | None = None
    reason: str = "failed"
    frames: tuple[str, ...] = ()

    def text(self) -> str:
        """As a column has it."""
        return json.dumps({k: v for k, v in asdict(self).items() if v not in (None, ())})

    @classmethod
    def of_text(cls, text: str | None) -> "Failed | None":
        """The other way round."""
        if text is None:
            return None
        table: dict[str, Any] = json.loads(text)
        table["frames"] = tuple(table.get("frames", ()))
        # A newer release may have written more.
        return cls(**{key: value for key, value in table.items() if key in cls.__slots__})

    @classmethod
    def of_failure(cls, failure: Failure, job: str, job_id: str) -> "Failed":
        """What an outcome says."""
        return cls(
            failure.exception or failure.reason, failure.message, job, job_id, failure.attempt,
            failure.reason, failure.frames,
        )  # fmt: skip

    def failure(self, queue: str) -> Failure:
        """As an outcome says it."""
        name = None if self.error == self.reason else self.error
        return Failure(
            self.reason, self.message, name, self.frames, self.job, queue, attempt=self.attempt
        )


@dataclass(frozen=True, slots=True)
class Ended:
    """What has become of a job.

    Attributes:
        result: as JSON, if it is done.
        error: why it has failed; None if it is done.
        cancelled: whether it was cancelled.
    """

    result: bytes | None = None
    error: Failed | None = None
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """What a transaction has changed for others.

    Attributes:
        woken: how many messages it has put into the outbox.
        orphans: the ids of called jobs whose durable job has ended. They must be cancelled.
        state: of the job, if it was a durable one that has ended.
        undo: whether the orphans are undone as well, where they are durable jobs.
    """

    woken: int = 0
    orphans: tuple[str, ...] = ()
    state: str | None = None
    undo: bool = False
