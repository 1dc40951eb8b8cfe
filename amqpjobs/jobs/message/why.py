"""Why a job does not run, as a value. Changes when there is more to say of that."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that was seen of a job.

    Attributes:
        source: where: ``status``, ``outbox``, ``limit``, ``durable``, ``child``, ``worker``,
            ``queue``, ``dead letter`` or ``id``.
        text: what.
    """

    source: str
    text: str


@dataclass(frozen=True, slots=True)
class Why:
    """Why a job is where it is.

    Attributes:
        id: the job's id.
        reason: one word for programs: ``outbox``, ``refused``, ``limit``, ``debounced``,
            ``suspended``, ``running``, ``started``, ``delayed``, ``paused``, ``unconsumed``,
            ``queued``, ``received``, ``missing``, ``done``, ``failed``, ``parked``, ``expired``,
            ``cancelled``, ``skipped``, ``undoing``, ``undone``, ``undo_failed`` or ``unknown``.
        sentence: for people.
        facts: what that was concluded from.
        unseen: what could not be looked at, and might say more.
    """

    id: str
    reason: str
    sentence: str
    facts: tuple[Fact, ...] = ()
    unseen: tuple[str, ...] = ()
