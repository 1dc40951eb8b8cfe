"""How one delivery ends: a closed union. `amqpjobs.worker.settlement` alone turns it into AMQP.

An outcome says everything about itself but how it is settled, so that one ending has one word
everywhere. A new ending is one class here, one clause in the settlement, and one row in the guide's
table of outcomes; a test holds the three together.

Each class has:

- ``word``: in the log line, metrics, spans, `Testing.runs` and the status. That of a failure is its
  reason, which is the dead letter's, too.
- ``state``: the state that it brings the job to, in events and statuses; None where nothing new is
  known of the job.
- ``level``: of its log line.
- ``judges``: whether it says anything about a dependency of the job: see `KillSwitch`.
- ``failure`` and ``error``: why it failed, and the exception; None where it did not.
- ``detail(now)``: what else its log line says.
- ``event(now)``: what else its event says. Times are seconds since the epoch.
"""

import logging
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from amqpjobs.jobs.message import events
from amqpjobs.jobs.message.failure import Failure

GAVE_UP = "the caller gave up"
"""Why a request is cancelled whose caller does not wait any more."""
INTERRUPTED = "interrupted"
"""The reason of a job that its worker has cancelled, and that may run once only."""

NAMED = 5
"""Steps of a durable job that its log line names."""

JUDGING = frozenset({"failed", "rejected"})
"""Reasons of failures that come from a handler. Others never got so far."""


class _Ending:
    """What most endings have in common."""

    __slots__ = ()

    word: ClassVar[str]
    state: ClassVar[str | None] = None
    level: ClassVar[int] = logging.INFO
    judges: ClassVar[bool] = False
    failure: ClassVar[Failure | None] = None
    error: ClassVar[BaseException | None] = None

    def detail(self, now: float) -> dict[str, object]:
        """What else its log line says."""
        return {}

    def event(self, now: float) -> dict[str, Any]:
        """What else its event says."""
        return {}


class _Failed:
    """What endings with a failure have in common."""

    __slots__ = ()

    failure: Failure

    def detail(self, now: float) -> dict[str, object]:
        """Why, for the log line."""
        why: dict[str, object] = {"reason": self.failure.message}
        return why | {"exception": self.failure.exception} if self.failure.exception else why

    def event(self, now: float) -> dict[str, Any]:
        """Why, for the event."""
        name, message = self.failure.exception, self.failure.message
        return {"error": events.readable(f"{name}: {message}" if name else message)}

    def _where(self) -> dict[str, object]:
        # The traceback comes with the last failure: one for each run would be noise.
        return {"at": self.failure.frames[0]} if self.failure.frames else {}


@dataclass(frozen=True, slots=True)
class Done(_Ending):
    """The handler returned. The delivery is acked."""

    word: ClassVar = "done"
    state: ClassVar = events.DONE
    judges: ClassVar = True
    result: object = None


@dataclass(frozen=True, slots=True)
class Rejected(_Failed):
    """It will never succeed as it is. A copy goes to ``<queue>.dead``, then it is acked."""

    state: ClassVar = events.FAILED
    level: ClassVar = logging.ERROR
    failure: Failure
    error: BaseException | None = None

    @property
    def word(self) -> str:
        """The reason of its failure, such as ``failed``, ``rejected`` or ``invalid``."""
        return self.failure.reason

    @property
    def judges(self) -> bool:
        """If the handler ran."""
        return self.failure.reason in JUDGING

    def event(self, now: float) -> dict[str, Any]:
        """Why, and the reason that its dead letter has."""
        return super(Rejected, self).event(now) | {"reason": self.word}


@dataclass(frozen=True, slots=True)
class Answered(_Failed):
    """It failed for good, and its caller got the error: the broker has confirmed the reply. The
    delivery is acked: a failure that the caller received is no dead letter."""

    state: ClassVar = events.FAILED
    level: ClassVar = logging.WARNING
    failure: Failure
    error: BaseException | None = None

    @property
    def word(self) -> str:
        """The reason of its failure, as of a `Rejected`."""
        return self.failure.reason

    @property
    def judges(self) -> bool:
        """If the handler ran."""
        return self.failure.reason in JUDGING

    def detail(self, now: float) -> dict[str, object]:
        """Why, and that the caller knows."""
        return super(Answered, self).detail(now) | {"answered": True} | self._where()

    def event(self, now: float) -> dict[str, Any]:
        """Why, and that the caller knows."""
        return super(Answered, self).event(now) | {"reason": self.word, "answered": True}


@dataclass(frozen=True, slots=True)
class Retried(_Failed):
    """This run failed, and the job runs again: a copy with the next attempt waits for ``pause``
    seconds, then the delivery is acked."""

    word: ClassVar = "retried"
    state: ClassVar = events.RETRYING
    level: ClassVar = logging.WARNING
    judges: ClassVar = True
    failure: Failure
    pause: float
    error: BaseException | None = None

    def detail(self, now: float) -> dict[str, object]:
        """Why, and how long it waits."""
        pause = {"pause_s": round(self.pause, 3)}
        return super(Retried, self).detail(now) | pause | self._where()

    def event(self, now: float) -> dict[str, Any]:
        """Why, and when it runs again."""
        return super(Retried, self).event(now) | {"due": now + self.pause}


@dataclass(frozen=True, slots=True)
class Parked(_Failed):
    """No job of this name is known here. A copy goes to ``<queue>.parked``, until a worker that
    knows the job starts; then the delivery is acked."""

    word: ClassVar = "parked"
    state: ClassVar = events.PARKED
    level: ClassVar = logging.WARNING
    judges: ClassVar = False
    error: ClassVar = None
    failure: Failure


@dataclass(frozen=True, slots=True)
class Snoozed(_Ending):
    """Not now, and no attempt used: a copy waits until ``due`` (seconds since the epoch), then the
    delivery is acked.

    Attributes:
        rate_limited: seconds for which its queue's jobs are not to start here; None if the handler
            did not say so.
    """

    word: ClassVar = "snoozed"
    state: ClassVar = events.SNOOZED
    due: float
    rate_limited: float | None = None

    def detail(self, now: float) -> dict[str, object]:
        """How long it waits."""
        return {"pause_s": round(max(0.0, self.due - now), 3)}

    def event(self, now: float) -> dict[str, Any]:
        """When it runs."""
        return {"due": self.due}


@dataclass(frozen=True, slots=True)
class Superseded(_Ending):
    """RabbitMQ delivered it again although it was settled: the ack did not arrive. What came of it
    is on its way, or done; the delivery is acked and counted."""

    word: ClassVar = "superseded"
    level: ClassVar = logging.WARNING

    def detail(self, now: float) -> dict[str, object]:
        """Why."""
        return {"reason": "settled before; its ack was lost"}


@dataclass(frozen=True, slots=True)
class Expired(_Ending):
    """Its deadline passed before it was started. The delivery is acked and counted."""

    word: ClassVar = "expired"
    state: ClassVar = events.EXPIRED
    level: ClassVar = logging.WARNING
    deadline: float

    def detail(self, now: float) -> dict[str, object]:
        """When it would have had to be started."""
        return {"deadline": self.deadline}


@dataclass(frozen=True, slots=True)
class Cancelled(_Ending):
    """It was cancelled: its caller gave up, or somebody cancelled the job. The delivery is acked. A
    caller that still waits gets an error.

    Attributes:
        reason: why.
    """

    word: ClassVar = "cancelled"
    state: ClassVar = events.CANCELLED
    reason: str = GAVE_UP

    @property
    def answers(self) -> bool:
        """Whether a caller may still wait for a reply."""
        return self.reason != GAVE_UP

    def detail(self, now: float) -> dict[str, object]:
        """Why."""
        return {"reason": self.reason}

    def event(self, now: float) -> dict[str, Any]:
        """Why."""
        return {"reason": events.readable(self.reason, 255)}


@dataclass(frozen=True, slots=True)
class Waits(_Ending):
    """Another job has its slot: see `Limit`. It waits as a row of the store, which is committed;
    then the delivery is acked. It is sent again when the slot is free.

    Attributes:
        key: of the limit.
    """

    word: ClassVar = "waiting"
    state: ClassVar = events.WAITING
    key: str

    def detail(self, now: float) -> dict[str, object]:
        """What for."""
        return {"limit": self.key}


@dataclass(frozen=True, slots=True)
class Skipped(_Ending):
    """Another job has its slot, and it is not to wait: see `Limit`. The delivery is acked. A caller
    that waits gets an error.

    Attributes:
        reason: why.
    """

    word: ClassVar = "skipped"
    state: ClassVar = events.SKIPPED
    reason: str

    def detail(self, now: float) -> dict[str, object]:
        """Why."""
        return {"reason": self.reason}

    def event(self, now: float) -> dict[str, Any]:
        """Why."""
        return {"reason": events.readable(self.reason, 255)}


@dataclass(frozen=True, slots=True)
class Suspended(_Ending):
    """A durable job waits for its steps as a row of the store. The row is committed before the
    delivery is acked. The job is sent again when the steps have ended.

    Attributes:
        waits: the names of those steps; empty if the job is sent again at once.
    """

    word: ClassVar = "suspended"
    state: ClassVar = events.SUSPENDED
    waits: tuple[str, ...] = ()

    def detail(self, now: float) -> dict[str, object]:
        """What for."""
        shown = list(self.waits[:NAMED])
        if len(self.waits) > NAMED:
            shown.append(f"and {len(self.waits) - NAMED} more")
        return {"waits": shown} if shown else {}


@dataclass(frozen=True, slots=True)
class Undoing(_Failed):
    """A durable job has raised `Undo`. The jobs that undo its steps are committed to the store
    before the delivery is acked. The job is not dead-lettered."""

    state: ClassVar = events.FAILED
    level: ClassVar = logging.WARNING
    judges: ClassVar = True
    failure: Failure
    error: BaseException | None = None

    @property
    def word(self) -> str:
        """The reason of its failure: ``undone``."""
        return self.failure.reason

    def event(self, now: float) -> dict[str, Any]:
        """The event of a failure, with the reason ``undone``."""
        return super(Undoing, self).event(now) | {"reason": self.word}


@dataclass(frozen=True, slots=True)
class Released(_Ending):
    """Interrupted, which is not a failure: given back to the queue, no attempt used."""

    word: ClassVar = "released"
    state: ClassVar = events.RELEASED
    level: ClassVar = logging.WARNING
    reason: str

    def detail(self, now: float) -> dict[str, object]:
        """Why."""
        return {"reason": self.reason}


Outcome: TypeAlias = (
    Done
    | Rejected
    | Retried
    | Snoozed
    | Parked
    | Expired
    | Superseded
    | Answered
    | Cancelled
    | Released
    | Waits
    | Skipped
    | Suspended
    | Undoing
)

DONE_NOTHING = Done()
"""The commonest outcome: a handler that returned None. One object, since most jobs end so."""
