"""The options of a call of a task. Changes when a call can say something else."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TypedDict

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.durations import Seconds, number_of
from amqpjobs.jobs.message.own_headers import HeaderValue


class TaskOptions(TypedDict, total=False):
    """How a task is called: the options of Celery's ``apply_async``.

    Attributes:
        queue: the queue of its workers; by default that of `CeleryTasks`.
        countdown: seconds, or a timedelta, before which it is not started. Celery's worker takes it
            at once, and holds it until then.
        eta: the same as a time.
        expires: seconds, a timedelta, or a time, after which it is not started.
        priority: of a queue with ``x-max-priority``.
        time_limit: seconds after which the worker kills it.
        soft_time_limit: seconds after which the worker raises `SoftTimeLimitExceeded` in it.
        task_id: its id, which no other task has; a new one by default.
        headers: that it has beside Celery's.
    """

    queue: str
    countdown: Seconds
    eta: datetime
    expires: Seconds | datetime
    priority: int
    time_limit: Seconds
    soft_time_limit: Seconds
    task_id: str
    headers: Mapping[str, HeaderValue]


def due(now: float, options: TaskOptions) -> float | None:
    """When a task is due, in seconds since the epoch; None for at once.

    Raises:
        ConfigurationError: it is no such time.
    """
    countdown, eta = options.get("countdown"), options.get("eta")
    if countdown is not None and eta is not None:
        raise ConfigurationError("a task has a countdown or an eta, not both")
    return (
        moment_of("eta", now, eta) if countdown is None else moment_of("countdown", now, countdown)
    )


def moment_of(what: str, now: float, given: float | timedelta | datetime | None) -> float | None:
    """A time, or a number of seconds from now, in seconds since the epoch.

    Raises:
        ConfigurationError: it is neither.
    """
    if given is None:
        return None
    if isinstance(given, datetime):
        if given.tzinfo is None:
            raise ConfigurationError(f"{what} needs a time zone: datetime(..., tzinfo=UTC)")
        return given.timestamp()
    return now + _seconds(what, given)


def limit_of(what: str, given: Seconds | None) -> float | None:
    """A number of seconds above 0.

    Raises:
        ConfigurationError: it is none.
    """
    return None if given is None else _seconds(what, given)


def _seconds(what: str, given: Seconds) -> float:
    seconds = number_of(given)
    if seconds is None or not seconds > 0:
        raise ConfigurationError(f"{what} is a number of seconds above 0, or a timedelta")
    return seconds
