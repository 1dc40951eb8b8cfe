"""Why a job does not run, as a value. Changes when the value has another field."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact about a job.

    Attributes:
        source: where it was found: ``status``, ``outbox``, ``limit``, ``durable``, ``child``,
            ``worker``, ``queue``, ``dead letter`` or ``id``.
        text: the fact.
    """

    source: str
    text: str


@dataclass(frozen=True, slots=True)
class Why:
    """Why a job does not run.

    Attributes:
        id: the job's id.
        reason: one word for programs: ``outbox``, ``refused``, ``limit``, ``debounced``,
            ``suspended``, ``running``, ``started``, ``delayed``, ``paused``, ``unconsumed``,
            ``queued``, ``received``, ``missing``, ``done``, ``failed``, ``parked``, ``expired``,
            ``cancelled``, ``skipped``, ``undoing``, ``undone``, ``undo_failed`` or ``unknown``.
        sentence: the reason as a sentence.
        facts: the facts behind the sentence.
        unseen: the sources that could not be read.
    """

    id: str
    reason: str
    sentence: str
    facts: tuple[Fact, ...] = ()
    unseen: tuple[str, ...] = ()
