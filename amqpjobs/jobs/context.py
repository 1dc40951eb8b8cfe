"""The context of a running job. Changes when jobs may know or report something else."""

import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from datetime import timedelta
from typing import Any, Protocol

from amqpjobs.errors import DecodeError
from amqpjobs.jobs.durable.steps import Steps
from amqpjobs.jobs.message.events import Progress
from amqpjobs.jobs.message.headers import origin_of, progress_of, tick_of
from amqpjobs.jobs.message.origin import Event, event_of
from amqpjobs.jobs.message.own_headers import own_headers
from amqpjobs.jobs.message.properties import FieldValue, Properties, is_whole
from amqpjobs.jobs.message.tick import Tick
from amqpjobs.jobs.verdicts import RateLimited, Snooze

log = logging.getLogger("amqpjobs.job")


class Stopping(Protocol):
    """An event that is set when the worker begins to stop."""

    def is_set(self) -> bool:
        """Whether the worker was told to stop; safe from any thread."""
        ...

    async def wait(self) -> object:
        """Return when the worker begins to stop. Only from the event loop."""
        ...


class Context(Steps):
    """The running job: what it is, how long it has, and whether it should stop.

    A handler gets it by taking it as its first parameter (after ``self``): in a worker, and in a
    plain call too.

    Attributes:
        job: the job's name.
        job_id: the same over all runs of the job.
        queue: the queue it came from; empty in a plain call.
        attempt: which run this is, from 1. A run that was interrupted does not count.
        deadline: seconds since the epoch until which the caller waits, or None.
        epoch: how often the job was replayed from the dead letters.
        redelivered: whether RabbitMQ delivered this message before: a worker that had it stopped,
            died or lost its connection, so that the job may have run already.
        stopping: set when the worker begins to stop. A long job looks at it, or waits for it, and
            returns early; what does not return in time is cancelled and given back to the queue.

    Example:
        >>> @app.job(queue="imports")
        ... async def import_rows(ctx: Context, rows: int) -> int:
        ...     for row in range(rows):
        ...         await ctx.progress(row / rows, f"row {row}")
        ...         if ctx.stopping.is_set():
        ...             raise Snooze(60)  # goes on in a minute, in another worker
        ...     ctx.log.info("imported", extra={"rows": rows})
        ...     return rows
    """

    __slots__ = (
        "_properties", "attempt", "deadline", "epoch", "job", "job_id", "queue", "redelivered",
        "stopping",
    )  # fmt: skip

    job: str
    job_id: str
    queue: str
    attempt: int
    deadline: float | None
    epoch: int
    redelivered: bool
    stopping: Stopping
    _properties: Callable[[], Properties]

    @property
    def message(self) -> Properties:
        """The AMQP properties of the message. Anyone who may publish wrote them: trust nothing.

        Raises:
            DecodeError: the headers are malformed.
        """
        return self._properties()

    @property
    def delivery_count(self) -> int | None:
        """How often RabbitMQ has counted that this message was delivered in vain. None where it
        does not say: in a first delivery, and on classic queues.

        Quorum queues count workers that died and lost connections; those of RabbitMQ up to 4.2 also
        what a worker has given back (https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling).
        """
        if not self.redelivered:
            return None  # a header that says so is the publisher's
        try:
            count = self._properties().headers.get("x-delivery-count")
        except DecodeError:
            return None
        return count if is_whole(count) and count >= 0 else None

    @property
    def headers(self) -> Mapping[str, FieldValue]:
        """The headers that the caller set, by ``with_options(headers=...)`` or in another program.
        The same in every run. Anyone who may publish wrote them: trust nothing.

        Raises:
            DecodeError: they are malformed.

        Example:
            >>> tenant = ctx.headers.get("tenant")
        """
        return own_headers(self._properties().headers)

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that the caller set by ``with_options(tags=...)``; the same in every run.

        Example:
            >>> imported = "import" in ctx.tags
        """
        raise NotImplementedError

    @property
    def trace_id(self) -> str | None:
        """The W3C trace id of this run's span, else the one that came with the message, or None."""
        raise NotImplementedError

    @property
    def arguments(self) -> MutableMapping[str, Any]:
        """The validated arguments by the name of the parameter, for processing middleware. The
        handler gets what middleware has put here; ``self`` is the object of a method.

        Raises:
            ConfigurationError: read outside of middleware.
            DecodeError: the message does not fit the job. Only in quarantine, where nothing has
                validated it before.
        """
        raise NotImplementedError

    @property
    def timeout(self) -> float | None:
        """Seconds that the handler may run: the call's ``run_timeout``, else the job's ``timeout``;
        None for no limit, and in a plain call."""
        raise NotImplementedError

    @property
    def will_retry(self) -> bool:
        """Whether the job runs again if this run fails, as far as that is known before the error:
        attempts are left, and the deadline has not passed. False in a plain call."""
        raise NotImplementedError

    def would_retry(self, error: BaseException) -> bool:
        """Whether the job runs again if this run ends with this error. A deadline that the pause
        before the next run passes is not foreseen: then there is no retry either.

        Args:
            error: any exception; `RetryAfter`, `Snooze` and `Reject` count as what they say.

        Example:
            >>> retried = ctx.would_retry(OSError("the mail server is down"))
        """
        raise NotImplementedError

    @property
    def log(self) -> "logging.LoggerAdapter[logging.Logger]":
        """A logger whose lines carry the job, its id, queue, attempt and trace.

        Example:
            >>> ctx.log.info("row imported", extra={"row": 7})
        """
        raise NotImplementedError

    @property
    def last_progress(self) -> Progress | None:
        """How far the job was in its last run: what a handler needs to go on from there. None in a
        first run, and where the last one reported none or its process died.

        Example:
            >>> first = int(ctx.last_progress.message) if ctx.last_progress else 0
        """
        try:
            return progress_of(self._properties().headers)
        except DecodeError:
            return None

    @property
    def tick(self) -> Tick | None:
        """The tick of the schedule that this job was sent for: when it was due, and why it was
        sent. The same in every run, and after a replay. None for a job that something else sent,
        and in a plain call.

        Example:
            >>> day = ctx.tick.due_time.date() if ctx.tick else None
        """
        try:
            return tick_of(self._properties().headers)
        except DecodeError:
            return None

    @property
    def event(self) -> Event | None:
        """The event that this job handles: its id, and where it was published. The same in every
        run, and after a replay. None for a job that was sent to its queue, and in a plain call.

        Example:
            >>> key = ctx.event.routing_key if ctx.event else None
        """
        try:
            properties = self._properties()
        except DecodeError:
            return None
        origin = origin_of(properties.headers)
        return None if origin is None else event_of(properties, origin)

    def fence(self, name: str | None = None) -> int:
        """The fencing token of a slot that this run holds (`Limit`): it rises each time that the
        slot is taken. A worker that was frozen may go on beside its successor; what it writes is
        refused where the newest token is kept: ``UPDATE .. SET .., token = :t WHERE token <= :t``.

        Args:
            name: the parameter or the group of the limit, or the job for a limit of the whole job.
                None if there is but one.

        Returns:
            The token; 0 in a plain call, which holds nothing.

        Raises:
            ConfigurationError: the run holds no such slot.

        Example:
            >>> ctx.fence("customer")
            0
        """
        raise NotImplementedError

    @property
    def cancelled(self) -> bool:
        """Whether the job was cancelled (`App.cancel`) while it runs. For a plain ``def`` with
        ``cancellable=True``, which runs in a thread and cannot be ended: it looks now and then,
        cleans up and returns. What it returns then is dropped, and the job is ``cancelled``. An
        ``async def`` gets `asyncio.CancelledError`, a process is killed.

        Example:
            >>> ctx.cancelled
            False
        """
        return False

    def progress(self, fraction: float, message: str = "") -> Awaitable[None]:
        """Tell how far the job is: in its status, and in the log. At most five times a second; the
        last word is never lost, and is there for the next run as `last_progress`.

        It has told when it returns, so that a plain ``def`` in a thread or a process calls it
        without ``await``: ``ctx.progress(0.4)``.

        Args:
            fraction: from 0 to 1.
            message: a few words for people, up to 500 characters.

        Raises:
            ConfigurationError: a fraction outside of 0 to 1.

        Example:
            >>> await ctx.progress(0.4, "uploading")
        """
        raise NotImplementedError

    def rate_limited(self, seconds: float | timedelta) -> Snooze:
        """What to raise when a service refuses requests for a while, as by HTTP 429.

        ``raise ctx.rate_limited(30)`` runs this job again in 30 seconds, no attempt used, and until
        then this worker process starts no other job of its queue. Those that run go on. In a plain
        call it is an exception like any other.

        Args:
            seconds: from 0 to 8.5 years, such as the header ``Retry-After`` says; or a timedelta.

        Raises:
            ConfigurationError: not a number of seconds within these bounds.

        Example:
            >>> refused = ctx.rate_limited(30)  # to be raised
        """
        return RateLimited(seconds)

    def __repr__(self) -> str:
        return f"<Context {self.job} {self.job_id} attempt {self.attempt}>"
