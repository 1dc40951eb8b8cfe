"""The headers of a task message of Celery's protocol 2, as a value.

Any program that may publish can have written them: what decides whether a task runs is checked.
Changes when Celery's protocol does
(https://docs.celeryq.dev/en/stable/internals/protocol.html).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from amqpjobs.errors import DecodeError
from amqpjobs.jobs.message.carried import LONGEST_RUN
from amqpjobs.jobs.message.properties import FieldValue, Headers, is_whole

LONGEST_NAME: Final = 255
"""Bytes of a task's name and id: AMQP's own limit for the properties of a job."""

MOST_RETRIES: Final = 999_999


@dataclass(frozen=True, slots=True)
class TaskHeaders:
    """What the headers of a task message say.

    Attributes:
        task: its name.
        id: its id.
        root_id: of the first task of the workflow; its own without one.
        group: the id of the group that it is in; None for none.
        eta: not to be started before this time, in seconds since the epoch.
        expires: not to be started after this time.
        retries: how often Celery has retried it.
        time_limit: seconds that one run may take: the soft limit, else the hard one.
        ignore_result: whether nobody wants its result.
        compression: of the body, as kombu names it; None for none.
    """

    task: str
    id: str
    root_id: str
    group: str | None = None
    eta: float | None = None
    expires: float | None = None
    retries: int = 0
    time_limit: float | None = None
    ignore_result: bool = False
    compression: str | None = None


def is_task(headers: Headers) -> bool:
    """Whether a message is a task of Celery's protocol 2."""
    return "task" in headers


def read_headers(headers: Headers) -> TaskHeaders:
    """Read the headers of a task message.

    Raises:
        DecodeError: one makes no sense; the error names the header.
    """
    task, task_id = _name(headers, "task"), _name(headers, "id")
    root, group, compression = headers.get("root_id"), headers.get("group"), None
    if headers.get("compression") is not None:
        compression = _name(headers, "compression")
    return TaskHeaders(
        task,
        task_id,
        root if isinstance(root, str) and root else task_id,
        group if isinstance(group, str) and group else None,
        moment(headers.get("eta"), "eta"),
        moment(headers.get("expires"), "expires"),
        _retries(headers.get("retries")),
        _time_limit(headers.get("timelimit")),
        headers.get("ignore_result") is True,
        compression,
    )


def _name(headers: Headers, name: str) -> str:
    value = headers.get(name)
    if not isinstance(value, str) or not 1 <= len(value.encode(errors="replace")) <= LONGEST_NAME:
        raise DecodeError(f"Celery's header {name!r} is not a text of 1 to {LONGEST_NAME} bytes")
    return value


def moment(value: Any, name: str) -> float | None:
    """The time that a text of ISO 8601 says, in seconds since the epoch; one without an offset is
    UTC, as Celery's own are by default.

    Raises:
        DecodeError: it says none.
    """
    if value is None or value == "":
        return None
    try:
        when = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        return max(0.0, when.timestamp())
    except (TypeError, ValueError, OverflowError):
        raise DecodeError(f"Celery's header {name!r} is not a time in ISO 8601") from None


def _retries(value: FieldValue) -> int:
    if value is None:
        return 0
    if not is_whole(value) or not 0 <= value <= MOST_RETRIES:
        raise DecodeError("Celery's header 'retries' is not a whole number from 0")
    return value


def _time_limit(value: FieldValue) -> float | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise DecodeError("Celery's header 'timelimit' is not a list of two numbers")
    hard, soft = (_seconds(each) for each in value)
    return hard if soft is None else soft


def _seconds(value: FieldValue) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DecodeError("Celery's header 'timelimit' is not a list of two numbers")
    if not math.isfinite(value) or value <= 0:
        raise DecodeError("Celery's header 'timelimit' has a number that is no time limit")
    return min(value, LONGEST_RUN)


def text_of(mapping: Mapping[str, object], name: str) -> str | None:
    """A text in a table; None if it has none."""
    value = mapping.get(name)
    return value if isinstance(value, str) and value else None
