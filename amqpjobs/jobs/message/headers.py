"""The headers that amqpjobs itself writes and reads, the ``amqpjobs-`` ones.

Changes when the wire contract gets another header.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from amqpjobs.jobs.message.events import Progress, is_fraction, readable
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.message.properties import (
    FieldValue,
    Headers,
)

HEADER_ATTEMPT = "amqpjobs-attempt"
"""Which run of the job this is, counted from 1; missing means 1."""

HEADER_COPY = "amqpjobs-copy"
"""Which publish of a job this is: text that no other publish has, such as a random number. Every
copy has it, and every first publish whose id was not made for it alone. A redelivery is recognised
by it."""

HEADER_DEADLINE = "amqpjobs-deadline"
"""Not to be started after this time: milliseconds since the epoch."""

HEADER_DROPPED = "amqpjobs-dropped"
"""The names of headers that a copy had no room for, or that AMQP cannot hold: a list of text."""

HEADER_DUE = "amqpjobs-due"
"""Not to be started before this time: milliseconds since the epoch."""

HEADER_EPOCH = "amqpjobs-epoch"
"""How often the job was replayed from the dead letters; missing means never."""

HEADER_ERROR = "amqpjobs-error"
"""Why a message is in ``<queue>.dead`` or ``<queue>.parked``: a table, see `Failure`."""

HEADER_HISTORY = "amqpjobs-history"
"""The errors of earlier runs, oldest first: a list of such tables, the last few of them."""

HEADER_PROGRESS = "amqpjobs-progress"
"""How far the job was when it ran last: a table of ``fraction`` (0 to 1) and ``message``."""

HEADER_FIRST_TRY = "amqpjobs-first-try"
"""The ``traceparent`` of the span of the job's first run, on the copies that run again; missing if
that run was not traced."""

MAX_HISTORY = 10
"""Errors that a message carries with it: what it grows by must stay far below a frame."""

MAX_EPOCH = 2**31 - 1

MAX_HISTORY_TEXT = 300
"""Characters of each error's message in the history."""


def epoch_of(headers: Headers) -> int:
    """How often the job was replayed. A stranger's nonsense counts as never."""
    epoch = headers.get(HEADER_EPOCH)
    return epoch if isinstance(epoch, int) and 0 <= epoch <= MAX_EPOCH else 0


def history_of(headers: Headers, last: Failure | None = None) -> list[Failure]:
    """The errors of earlier runs as far as the message carries them, oldest first.

    Args:
        last: one more.
    """
    tables = headers.get(HEADER_HISTORY)
    tables = tables if isinstance(tables, list | tuple) else ()
    history = [_failure(table) for table in tables if isinstance(table, Mapping)]
    if last is not None:
        history.append(replace(last, message=last.message[:MAX_HISTORY_TEXT]))
    return history[-MAX_HISTORY:]


def milliseconds(time: float) -> int:
    """A time in seconds since the epoch as headers have it. Rounded up: never early."""
    return math.ceil(time * 1000)


def failure_of(headers: Headers) -> Failure | None:
    """Why a message was put aside: by amqpjobs, or by the broker itself (``x-death``); None if the
    headers do not say."""
    table = headers.get(HEADER_ERROR)
    if isinstance(table, Mapping):
        return _failure(table)
    deaths = headers.get("x-death")
    if isinstance(deaths, list | tuple) and deaths and isinstance(deaths[0], Mapping):
        reason, queue = _text(deaths[0].get("reason")), _text(deaths[0].get("queue"))
        return Failure(f"broker-{reason or 'unknown'}", "put here by RabbitMQ itself", queue=queue)
    return None


def _table(failure: Failure) -> dict[str, FieldValue]:
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


def _failure(table: Mapping[str, FieldValue]) -> Failure:
    frames, time, attempt = table.get("frames"), table.get("time"), table.get("attempt")
    return Failure(
        reason=_text(table.get("reason")) or "unknown",
        message=_text(table.get("message")) or "",
        exception=_text(table.get("exception")),
        frames=tuple(f for f in frames if isinstance(f, str)) if isinstance(frames, list) else (),
        job=_text(table.get("job")),
        queue=_text(table.get("queue")),
        worker=_text(table.get("worker")),
        time=time / 1000 if isinstance(time, int) else None,
        attempt=attempt if isinstance(attempt, int) else None,
    )


def _encodable(text: str) -> str:
    """Text that UTF-8 can hold: names of files that are not UTF-8 come as lone surrogates."""
    return text.encode(errors="backslashreplace").decode()


def _text(value: FieldValue) -> str | None:
    return value if isinstance(value, str) else None


def progress_header(progress: Progress) -> dict[str, float | str]:
    """The ``amqpjobs-progress`` of a copy."""
    return {"fraction": progress.fraction, "message": progress.message}


def progress_of(headers: Headers) -> Progress | None:
    """How far the job was when it ran last, if the message says so. A stranger's nonsense is as if
    it were not there."""
    table = headers.get(HEADER_PROGRESS)
    if not isinstance(table, Mapping):
        return None
    fraction, message = table.get("fraction"), table.get("message", "")
    if not is_fraction(fraction) or not isinstance(message, str):
        return None
    return Progress(float(fraction), readable(message))  # type: ignore[arg-type]
