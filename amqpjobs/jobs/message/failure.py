"""Why a message was put aside, as a value. Changes when there is more to say about a failure."""

from collections.abc import Mapping
from dataclasses import dataclass

from amqpjobs.jobs.message.properties import FieldValue, is_whole


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a message was put aside: the ``amqpjobs-error`` header of a dead or parked message.

    Attributes:
        reason: one word for the kind, such as ``failed``, ``invalid`` or ``unknown-job``.
        message: what a person should read. It never holds the job's arguments.
        exception: the exception's qualified name, if there was one.
        frames: the innermost stack frames, innermost first: ``module:line function``.
        job: the job's name, if known.
        queue: the queue that the message was consumed from.
        worker: host and process id of the worker.
        time: seconds since the epoch.
        attempt: which run it was, from 1.
    """

    reason: str
    message: str
    exception: str | None = None
    frames: tuple[str, ...] = ()
    job: str | None = None
    queue: str | None = None
    worker: str | None = None
    time: float | None = None
    attempt: int | None = None


def table_of(failure: Failure) -> dict[str, FieldValue]:
    """The AMQP table that says this."""
    table: dict[str, FieldValue] = {
        "reason": failure.reason,
        "message": _encodable(failure.message),
        "exception": failure.exception,
        "frames": [_encodable(frame) for frame in failure.frames] or None,
        "job": failure.job,
        "queue": failure.queue,
        "worker": failure.worker,
        "time": round(failure.time * 1000) if failure.time is not None else None,
        "attempt": failure.attempt,
    }
    return {k: v for k, v in table.items() if v is not None}


def failure_from(table: Mapping[str, FieldValue]) -> Failure:
    """What such a table says, as far as its types are right: any program may have written it."""
    frames, time, attempt = table.get("frames"), table.get("time"), table.get("attempt")
    return Failure(
        reason=text_or_none(table.get("reason")) or "unknown",
        message=text_or_none(table.get("message")) or "",
        exception=text_or_none(table.get("exception")),
        frames=tuple(f for f in frames if isinstance(f, str)) if isinstance(frames, list) else (),
        job=text_or_none(table.get("job")),
        queue=text_or_none(table.get("queue")),
        worker=text_or_none(table.get("worker")),
        time=time / 1000 if is_whole(time) else None,
        attempt=attempt if is_whole(attempt) else None,
    )


def _encodable(text: str) -> str:
    """Text that UTF-8 can hold: names of files that are not UTF-8 come as lone surrogates."""
    return text.encode(errors="backslashreplace").decode()


def text_or_none(value: FieldValue) -> str | None:
    """The value, if it is text."""
    return value if isinstance(value, str) else None
