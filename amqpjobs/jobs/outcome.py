"""How one delivery ends: a closed union that the settlement turns into AMQP, and nobody else does.

A new ending is one class here, one clause in `amqpjobs.worker.settlement`, and one line in the log.
"""

from dataclasses import dataclass
from typing import TypeAlias

from amqpjobs.jobs.message.message import Failure


@dataclass(frozen=True, slots=True)
class Done:
    """The handler returned. The delivery is acked."""

    result: object = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """It will never succeed as it is. A copy goes to ``<queue>.dead``, then it is acked."""

    failure: Failure
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Retried:
    """This run failed, and the job runs again: a copy with the next attempt waits for ``pause``
    seconds, then the delivery is acked."""

    failure: Failure
    pause: float
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Snoozed:
    """Not now, and no attempt used: a copy waits until ``due`` (seconds since the epoch), then the
    delivery is acked.

    Attributes:
        rate_limited: seconds for which its queue's jobs are not to start here; None for no such
            word.
    """

    due: float
    rate_limited: float | None = None


@dataclass(frozen=True, slots=True)
class Superseded:
    """RabbitMQ gave it out again although it was settled: the ack did not arrive. What came of it
    is on its way, or done; the delivery is acked and counted."""


@dataclass(frozen=True, slots=True)
class Parked:
    """No job of this name is known here. A copy goes to ``<queue>.parked``, until a worker that
    knows the job starts; then the delivery is acked."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Expired:
    """Its deadline passed before it was started. The delivery is acked and counted."""

    deadline: float


@dataclass(frozen=True, slots=True)
class Answered:
    """It failed for good, and who asked was told so, and the broker has confirmed that they could
    be. The delivery is acked: what somebody knows of is no dead letter."""

    failure: Failure
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Who asked does not want the answer any more. The delivery is acked, nothing is answered."""


@dataclass(frozen=True, slots=True)
class Released:
    """Interrupted, which is not a failure: given back to the queue, no attempt used."""

    reason: str


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
)

DONE_NOTHING = Done()
"""The commonest outcome: a handler that returned None."""


def outcome_name(outcome: Outcome) -> str:
    """The word for how it ended: ``done``, ``retried``, ``failed``, ``released``."""
    match outcome:
        case Rejected(failure) | Answered(failure):
            return failure.reason
        case _:
            return _NAMES[type(outcome)]


_NAMES: dict[type[Outcome], str] = {
    kind: kind.__name__.lower()
    for kind in (Done, Retried, Snoozed, Parked, Expired, Superseded, Cancelled, Released)
}
