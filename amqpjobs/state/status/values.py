"""How events make the status of a job. Pure: no store, no broker.

What is kept of a job is a function of all its events and not of their order: they may arrive late,
twice, or not at all. Changes when a status says something else.
"""

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from amqpjobs.jobs.message.event_codec import decode_result, encode_result
from amqpjobs.jobs.message.events import DONE, ENDED, QUEUED, Event, Order
from amqpjobs.jobs.message.status import JobStatus

Row: TypeAlias = dict[str, Any]
"""What is kept of a job, by the names of the store's columns. Times are seconds since the epoch."""


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
        "progress": 1.0 if state == DONE else event.get("progress"),
        "detail": event.get("detail", ""),
        "error": event.get("error"),
        "reason": event.get("reason"),
        "answered": event.get("answered", False),
        "worker": event.get("worker"),
        "result": encode_result(event["result"]) if has_result else None,
        "result_expires_at": time + keep if has_result and keep is not None else None,
        "due_at": event.get("due"),
        "queued_at": time if state == QUEUED else None,
        "started_at": event.get("started"),
        "tags": json.dumps(event["tags"]) if event.get("tags") else None,
    }


def order_of_row(row: Mapping[str, Any]) -> Order:
    """See `amqpjobs.jobs.message.events.order_of`."""
    return row["epoch"], row["attempt"], row["ended"], row["sequence"]


def order_of_status(status: JobStatus) -> Order:
    """The same of a status."""
    return status.epoch, status.attempt, status.ended, status.sequence


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
        reason=row["reason"],
        answered=row["answered"],
        worker=row["worker"],
        result=decode_result(row["result"]) if kept else None,
        has_result=kept,
        queued_at=row["queued_at"],
        started_at=row["started_at"],
        ended_at=updated if row["ended"] else None,
        updated_at=updated,
        due_at=row["due_at"],
        tags=tuple(json.loads(row["tags"])) if row["tags"] else (),
    )
