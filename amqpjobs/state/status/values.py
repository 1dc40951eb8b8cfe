"""The status of one job, and how events make it. Pure: no store, no broker.

What is kept of a job is a function of all its events and not of their order: they may arrive late,
twice, or not at all. Changes when a status says something else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from amqpjobs.jobs.message.event_codec import decode_result, encode_result
from amqpjobs.jobs.message.events import ENDED, QUEUED, Event, Order

Row: TypeAlias = dict[str, Any]
"""What is kept of a job, by the names of the store's columns. Times are seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """What is known of a job. Times are seconds since the epoch.

    Attributes:
        id: the job's id.
        job: its name.
        queue: the queue that it waits in, or was consumed from.
        state: ``queued``, ``started``, ``retrying``, ``snoozed``, ``released``, ``succeeded``,
            ``failed``, ``dead``, ``parked``, ``expired`` or ``cancelled``.
        attempt: which run it is at, from 1; 0 while no worker has started it.
        epoch: how often it was replayed from the dead letters.
        sequence: microseconds since the epoch: of two statuses of one run, the higher is newer.
        progress: a fraction from 0 to 1, if the job told one.
        detail: the words that came with it.
        error: what went wrong in the last run; of a job that succeeded, why its result is not kept.
        worker: host and process id of the worker that had it last.
        result: what the handler returned, as JSON has it, if it is kept.
        has_result: whether it is: a result may be None.
        queued_at: when it was enqueued, if its publisher told.
        started_at: when its last run began.
        ended_at: when it ended, if it has.
        updated_at: when the last that is known of it happened.
        due_at: when it is to run again, or for the first time.
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
    worker: str | None = None
    result: Any = None
    has_result: bool = False
    queued_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    updated_at: float | None = None
    due_at: float | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more comes of it, unless it is replayed."""
        return self.state in ENDED


def row_of(event: Event) -> Row:
    """What one event says of its job."""
    state, sequence = event["state"], event["sequence"]
    time = sequence / 1_000_000
    has_result = "result" in event
    keep = event.get("keep")
    return {
        "id": event["id"],
        "job": event["job"],
        "queue": event["queue"],
        "state": state,
        "epoch": event["epoch"],
        "attempt": event["attempt"],
        "ended": state in ENDED,
        "sequence": sequence,
        "progress": event.get("progress"),
        "detail": event.get("detail", ""),
        "error": event.get("error"),
        "worker": event.get("worker"),
        "result": encode_result(event["result"]) if has_result else None,
        "result_expires_at": time + keep if has_result and keep is not None else None,
        "due_at": event.get("due"),
        "queued_at": time if state == QUEUED else None,
        "started_at": event.get("started"),
    }


def order_of_row(row: Mapping[str, Any]) -> Order:
    """See `amqpjobs.jobs.message.events.order_of`."""
    return row["epoch"], row["attempt"], row["ended"], row["sequence"]


def merged(one: Row, other: Row) -> Row:
    """What both say together: the newer of them, and of the times what the older knew."""
    newer = other if order_of_row(other) > order_of_row(one) else one
    return {
        **newer,
        "queued_at": _either(min, one["queued_at"], other["queued_at"]),
        "started_at": _either(max, one["started_at"], other["started_at"]),
    }


def _either(choose: Any, one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    chosen: float = choose(one, other)
    return chosen


def status_of(row: Mapping[str, Any], now: float) -> JobStatus:
    """The status that is kept in a row. A result that has expired (``now``: seconds since the
    epoch) is gone, whether or not it was pruned yet."""
    updated = row["sequence"] / 1_000_000
    expires = row["result_expires_at"]
    kept = row["result"] is not None and (expires is None or expires > now)
    return JobStatus(
        id=row["id"],
        job=row["job"],
        queue=row["queue"],
        state=row["state"],
        attempt=row["attempt"],
        epoch=row["epoch"],
        sequence=row["sequence"],
        progress=row["progress"],
        detail=row["detail"],
        error=row["error"],
        worker=row["worker"],
        result=decode_result(row["result"]) if kept else None,
        has_result=kept,
        queued_at=row["queued_at"],
        started_at=row["started_at"],
        ended_at=updated if row["ended"] else None,
        updated_at=updated,
        due_at=row["due_at"],
    )
