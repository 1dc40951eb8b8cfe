"""How one delivery ends: a closed union that the settlement turns into AMQP, and nobody else does.

A new ending is one class here, one clause in `amqpjobs.worker.settlement`, and one line in the log.
"""

from dataclasses import dataclass
from typing import TypeAlias

from amqpjobs.message import Failure


class Reject(Exception):
    """Raised or returned by a handler: put this job into the dead letters now.

    Args:
        reason: what the person who looks at the dead letters should read.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


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
class Parked:
    """No job of this name is known here. A copy goes to ``<queue>.parked``, until a worker that
    knows the job starts; then the delivery is acked."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Expired:
    """Its deadline passed before it was started. The delivery is acked and counted."""

    deadline: float


@dataclass(frozen=True, slots=True)
class Released:
    """Interrupted, which is not a failure: given back to the queue, no attempt used."""

    reason: str


Outcome: TypeAlias = Done | Rejected | Parked | Expired | Released

DONE_NOTHING = Done()
"""The commonest outcome: a handler that returned None."""
