"""What happens to a job, as values: the states, how far it is, and which of two events is newer.

An event travels as a JSON object; many of them are one message. Changes when a state is added, or
what an event says.
"""

import math
from collections.abc import Mapping
from time import time_ns
from typing import Any, NamedTuple, TypeAlias, TypedDict

QUEUED = "queued"
STARTED = "started"
RETRYING = "retrying"
SNOOZED = "snoozed"
RELEASED = "released"
DONE = "done"
FAILED = "failed"
PARKED = "parked"
EXPIRED = "expired"
CANCELLED = "cancelled"
WAITING = "waiting"
SKIPPED = "skipped"
SUSPENDED = "suspended"

STATES = (
    QUEUED, STARTED, RETRYING, SNOOZED, RELEASED, DONE, FAILED, PARKED, EXPIRED,
    CANCELLED, WAITING, SKIPPED, SUSPENDED,
)  # fmt: skip
"""Every state a job can be in, and the name of the event that brings it there."""

ENDED = frozenset({DONE, FAILED, EXPIRED, CANCELLED, SKIPPED})
"""Nothing more comes of a job in these, unless it is replayed. What is parked is not over: it goes
on when a worker that knows it starts."""

EVENTS_TYPE = "amqpjobs.events"
"""The AMQP ``type`` of a message of events."""

LONGEST_TEXT = 500
"""Characters of an error, and of what a job says about its progress."""

Details: TypeAlias = Mapping[str, Any]


class Progress(NamedTuple):
    """How far a job is: a fraction from 0 to 1, and a few words for people."""

    fraction: float
    message: str = ""


Announcement: TypeAlias = tuple[str, str, str, str, int, int, int, float, Details | None]
"""One event as the process makes it in which it happens, a plain tuple, since that is made in every
run of every job: id, job, queue, state, epoch, attempt, sequence, when this run of the handler
began (seconds of the monotonic clock; 0 if it did not), and what only some events have, with the
keys of an `Event`."""


class _Always(TypedDict):
    id: str
    job: str
    queue: str
    state: str
    epoch: int
    attempt: int
    sequence: int


class Event(_Always, total=False):
    """One event as it travels. Times are seconds since the epoch.

    Attributes:
        attempt: which run, from 1; 0 for a job that no worker has seen.
        sequence: microseconds since the epoch: when it happened.
        started: when this run began.
        due: when the next run may begin.
        progress: a fraction from 0 to 1, the last that the job told.
        detail: the words that came with it.
        error: the name of the exception, and its message; or why a result was not stored.
        reason: of a job that failed: ``failed``, ``rejected``, ``invalid``, ... as its dead letter
            has it.
        answered: of a job that failed: its caller received the error, and there is no dead letter.
        worker: host and process id.
        result: what the handler returned, as JSON.
        keep: seconds for which the result is to be kept.
        tags: that the caller gave the job.
    """

    started: float
    due: float
    progress: float
    detail: str
    error: str
    reason: str
    answered: bool
    worker: str
    result: Any
    keep: float
    tags: list[str]


_last = 0


def clock() -> int:
    """Microseconds since the epoch, strictly rising: no two events of a process are at the same
    time, and none is before an earlier one, even where the machine's clock is set back."""
    global _last
    now = time_ns() // 1000
    if now <= _last:
        now = _last + 1
    _last = now
    return now


Order: TypeAlias = tuple[int, int, bool, int]


def order_of(event: Mapping[str, Any]) -> Order:
    """What says which of two events of a job is newer, whatever the order in which they arrive.

    The clocks of two machines differ, so time alone does not tell. A replay is after all that was
    before it, a run after all earlier runs, and the end of a run after whatever else is said of it:
    only then the time decides. A job that was queued is at attempt 0, before every run.
    """
    return event["epoch"], event["attempt"], event["state"] in ENDED, event["sequence"]


def is_fraction(value: object) -> bool:
    """Whether it is a number from 0 to 1."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and 0 <= value <= 1
    )


def progress_from(table: object) -> Progress | None:
    """The progress in a header; None if it is none, or makes no sense."""
    if not isinstance(table, Mapping):
        return None
    fraction, message = table.get("fraction"), table.get("message", "")
    if not is_fraction(fraction) or not isinstance(message, str):
        return None
    return Progress(float(fraction), readable(message))  # type: ignore[arg-type]


def readable(text: str, longest: int = LONGEST_TEXT) -> str:
    """The text cut, and without what UTF-8 or PostgreSQL cannot hold: halves of surrogate pairs,
    and NUL."""
    return text[:longest].encode(errors="replace").decode().replace("\0", "\ufffd")
