"""Copies of messages: what may go along into the dead letters and back, and why one was made.

Changes when a copy may carry something else.
"""

from collections.abc import Mapping
from dataclasses import replace

from amqpjobs.message import (
    HEADER_ERROR,
    PERSISTENT,
    Failure,
    FieldValue,
    Headers,
    Properties,
)

BROKER_HEADERS = frozenset({
    "x-death", "x-first-death-exchange", "x-first-death-queue", "x-first-death-reason",
    "x-last-death-exchange", "x-last-death-queue", "x-last-death-reason",
    "x-delivery-count", "x-acquired-count", "CC", "BCC",
})  # fmt: skip
"""Written by the broker, or obeyed by it. On a copy they would be taken for its own history (up to
3.13: a cycle, and dropped; https://github.com/celery/celery/issues/9867), or copy it elsewhere."""


def copied(original: Properties, failure: Failure | None = None) -> Properties:
    """The properties of a copy, with why it was put aside, or without for one that goes back.

    What would act on the copy stays behind: its expiration; the broker's own headers; and
    ``user_id``, which RabbitMQ compares with the user who publishes, closing the channel over a
    difference (https://www.rabbitmq.com/docs/validated-user-id).
    """
    headers: dict[str, FieldValue] = {
        k: v for k, v in original.headers.items() if k not in BROKER_HEADERS and k != HEADER_ERROR
    }
    if failure is not None:
        headers[HEADER_ERROR] = _table(failure)
    return replace(
        original, headers=headers, delivery_mode=PERSISTENT, expiration=None, user_id=None
    )


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
    }
    return {k: v for k, v in table.items() if v is not None}


def _failure(table: Mapping[str, FieldValue]) -> Failure:
    frames, time = table.get("frames"), table.get("time")
    return Failure(
        reason=_text(table.get("reason")) or "unknown",
        message=_text(table.get("message")) or "",
        exception=_text(table.get("exception")),
        frames=tuple(f for f in frames if isinstance(f, str)) if isinstance(frames, list) else (),
        job=_text(table.get("job")),
        queue=_text(table.get("queue")),
        worker=_text(table.get("worker")),
        time=time / 1000 if isinstance(time, int) else None,
    )


def _encodable(text: str) -> str:
    """Text that UTF-8 can hold: names of files that are not UTF-8 come as lone surrogates."""
    return text.encode(errors="backslashreplace").decode()


def _text(value: FieldValue) -> str | None:
    return value if isinstance(value, str) else None
